package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageClientExt;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Every way of sending, and every message compared with what a consumer gets: sync, async, oneway, batch; bodies of 1 byte
 * to 1 MiB, compressed and not; keys, tags, properties, flag; and the SendResults against the consumed positions.
 */
final class Sends implements Scenario {
    private static final int MIB = 1 << 20;
    private static final int ASYNC = 40;
    private static final int ONEWAY = 40;
    private static final int BATCH = 10;
    /** A unique id or an offset id, with an IPv4 or an IPv6 address in it. */
    private static final String ID = "[0-9A-F]{32}([0-9A-F]{24})?";
    private static final String UTF8 = "grüße, 世界, 🚀, \"quoted\" {json:1}\n\ttab";

    /** What was sent, by its first key. */
    private final Map<String, Message> sent = new ConcurrentHashMap<>();
    private final Map<String, SendResult> results = new ConcurrentHashMap<>();

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", 4);
        DefaultMQProducer p = env.producer();

        Random random = new Random(1);
        byte[] incompressible = new byte[MIB];
        random.nextBytes(incompressible);
        byte[] compressible = "a line that repeats itself; ".repeat(MIB / 28 + 1).substring(0, MIB).getBytes(StandardCharsets.UTF_8);

        sync(p, message(topic, "one-byte", "TagA", new byte[] {0}));
        sync(p, message(topic, "utf8", "TagB", UTF8.getBytes(StandardCharsets.UTF_8)));
        sync(p, message(topic, "no-tag", null, "no tag".getBytes(StandardCharsets.UTF_8)));
        sync(p, message(topic, "empty-tag", "", "empty tag".getBytes(StandardCharsets.UTF_8)));
        sync(p, message(topic, "just-compressed", "TagA", Arrays.copyOf(compressible, 4097)));
        sync(p, message(topic, "mib-compressed", "TagA", compressible));
        sync(p, message(topic, "mib", "TagA", incompressible));
        Message rich = message(topic, "rich", "TagC", "rich".getBytes(StandardCharsets.UTF_8));
        rich.setKeys(Arrays.asList("rich", "second-key", "third-key"));
        rich.putUserProperty("who", "größe 世界");
        rich.putUserProperty("long", "x".repeat(8000));
        rich.setFlag(7);
        sync(p, rich);
        async(p, topic);
        for (int i = 0; i < ONEWAY; i++) {
            Message m = message(topic, "oneway" + i, "TagO", ("oneway " + i).getBytes(StandardCharsets.UTF_8));
            p.sendOneway(m);
        }
        List<SendResult> perQueue = hand(env, p, topic);
        batches(env, p, topic);

        Map<String, MessageExt> got = new ConcurrentHashMap<>();
        Set<String> twice = ConcurrentHashMap.newKeySet();
        env.push(env.name("g"), topic, "*", (msgs, context) -> {
            for (MessageExt m : msgs) {
                if (got.put(m.getKeys().split(" ")[0], m) != null) {
                    twice.add(m.getKeys());
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        Check.until(40, () -> got.size() >= sent.size(), "%d messages, without %s", sent.size(), missing(got));
        Check.that(twice.isEmpty(), "consumed twice: %s", twice);
        for (Map.Entry<String, Message> e : sent.entrySet()) {
            compare(e.getKey(), e.getValue(), got.get(e.getKey()));
        }
        // deflated by the client: the stored record is far smaller than the body
        Check.that(got.get("mib-compressed").getStoreSize() < MIB / 4, "stored size of a compressed body: %d", got.get("mib-compressed").getStoreSize());
        Check.that(got.get("mib").getStoreSize() > MIB, "stored size of an incompressible body: %d", got.get("mib").getStoreSize());
        return "messages=" + sent.size() + " results=" + results.size() + " queue-offsets=" + perQueue.size();
    }

    private Set<String> missing(Map<String, MessageExt> got) {
        Set<String> s = new HashSet<>(sent.keySet());
        s.removeAll(got.keySet());
        return s;
    }

    private Message message(String topic, String key, String tag, byte[] body) {
        Message m = new Message(topic, tag, key, body);
        m.putUserProperty("p", key);
        sent.put(key, m);
        return m;
    }

    private void sync(DefaultMQProducer p, Message m) throws Exception {
        keep(m, p.send(m));
    }

    private void keep(Message m, SendResult r) {
        String key = m.getKeys().split(" ")[0];
        checkResult(key, m.getTopic(), r);
        results.put(key, r);
    }

    private static void checkResult(String what, String topic, SendResult r) {
        Check.same(r.getSendStatus(), SendStatus.SEND_OK, what + " status");
        Check.that(r.getMsgId() != null && r.getMsgId().matches(ID), "%s msgId %s", what, r.getMsgId());
        Check.that(r.getOffsetMsgId() != null && r.getOffsetMsgId().matches(ID), "%s offsetMsgId %s", what, r.getOffsetMsgId());
        Check.same(r.getMessageQueue().getTopic(), topic, what + " topic");
        Check.that(r.getQueueOffset() >= 0, "%s queue offset %d", what, r.getQueueOffset());
        Check.that(r.getRegionId() != null && !r.getRegionId().isEmpty(), "%s region id %s", what, r.getRegionId());
    }

    private void async(DefaultMQProducer p, String topic) throws Exception {
        CountDownLatch left = new CountDownLatch(ASYNC);
        AtomicReference<Throwable> failed = new AtomicReference<>();
        for (int i = 0; i < ASYNC; i++) {
            Message m = message(topic, "async" + i, "TagAsync", ("async " + i).getBytes(StandardCharsets.UTF_8));
            p.send(m, new SendCallback() {
                @Override
                public void onSuccess(SendResult r) {
                    try {
                        keep(m, r);
                    } catch (Throwable t) {
                        failed.set(t);
                    }
                    left.countDown();
                }

                @Override
                public void onException(Throwable t) {
                    failed.set(t);
                    left.countDown();
                }
            });
        }
        Check.that(left.await(30, TimeUnit.SECONDS), "%d async sends without an answer", left.getCount());
        Check.that(failed.get() == null, "async send: %s", failed.get());
    }

    /** To hand-chosen queues: the offsets of each queue go up by one. */
    private List<SendResult> hand(Env env, DefaultMQProducer p, String topic) throws Exception {
        List<SendResult> l = new ArrayList<>();
        // a oneway send may still be on its way into the queue, so the offsets here are only strictly increasing
        for (MessageQueue q : env.queues(topic)) {
            long last = -1;
            for (int i = 0; i < 5; i++) {
                Message m = message(topic, "q" + q.getBrokerName() + q.getQueueId() + "-" + i, "TagQ", "q".getBytes(StandardCharsets.UTF_8));
                SendResult r = p.send(m, q);
                keep(m, r);
                Check.same(r.getMessageQueue(), q, "queue of a hand-chosen send");
                Check.that(r.getQueueOffset() > last, "queue offset %d after %d in %s", r.getQueueOffset(), last, q);
                last = r.getQueueOffset();
                l.add(r);
            }
        }
        return l;
    }

    private void batches(Env env, DefaultMQProducer p, String topic) throws Exception {
        MessageQueue q = env.queues(topic).get(1);
        long end = -1;
        for (int b = 0; b < 3; b++) {
            List<Message> l = new ArrayList<>();
            for (int i = 0; i < BATCH; i++) {
                Message m = message(topic, "batch" + b + "-" + i, i % 2 == 0 ? "TagEven" : null, ("batch " + b + " " + i + " " + UTF8).getBytes(StandardCharsets.UTF_8));
                m.setFlag(i);
                l.add(m);
            }
            SendResult r = p.send(l, q);
            Check.same(r.getSendStatus(), SendStatus.SEND_OK, "batch status");
            String[] ids = r.getMsgId().split(",");
            String[] offsetIds = r.getOffsetMsgId().split(",");
            Check.same(ids.length, BATCH, "ids of a batch");
            Check.same(offsetIds.length, BATCH, "offset ids of a batch");
            Check.same(new HashSet<>(Arrays.asList(offsetIds)).size(), BATCH, "distinct offset ids of a batch");
            Check.that(r.getQueueOffset() >= end, "batch begins at %d, the one before ended at %d", r.getQueueOffset(), end);
            end = r.getQueueOffset() + BATCH;
            for (int i = 0; i < BATCH; i++) {
                results.put("batch" + b + "-" + i, new SendResult(SendStatus.SEND_OK, ids[i], offsetIds[i], q, r.getQueueOffset() + i));
            }
        }
    }

    private void compare(String key, Message m, MessageExt g) {
        Check.that(Arrays.equals(g.getBody(), m.getBody()), "%s: the body differs (%d bytes, sent %d)", key, g.getBody().length, m.getBody().length);
        Check.same(g.getKeys(), m.getKeys(), key + " keys");
        // the property of an empty tag is kept by the 5.x broker's decoder and by the client as ""
        Check.same(g.getTags() == null ? "" : g.getTags(), m.getTags() == null ? "" : m.getTags(), key + " tags");
        Check.same(g.getFlag(), m.getFlag(), key + " flag");
        Map<String, String> user = new HashMap<>(m.getProperties());
        user.keySet().removeAll(Arrays.asList("TAGS", "KEYS", "WAIT", "UNIQ_KEY", "INSTANCE_ID", "CLUSTER"));
        for (Map.Entry<String, String> e : user.entrySet()) {
            Check.same(g.getProperty(e.getKey()), e.getValue(), key + " property " + e.getKey());
        }
        long age = System.currentTimeMillis() - g.getStoreTimestamp();
        Check.that(Math.abs(age) < 600_000, "%s: store timestamp %d", key, g.getStoreTimestamp());
        Check.that(g.getStoreTimestamp() >= g.getBornTimestamp() - 60_000, "%s: born %d, stored %d", key, g.getBornTimestamp(), g.getStoreTimestamp());
        Check.same(g.getReconsumeTimes(), 0, key + " reconsumeTimes");
        SendResult r = results.get(key);
        if (r != null) {
            if (key.startsWith("batch")) {
                // RocketMQ adds the properties of the batch, and so its one unique id, to every message of it
                Check.that(g.getMsgId() != null && g.getMsgId().matches(ID), "%s msgId %s", key, g.getMsgId());
            } else {
                Check.same(g.getMsgId(), r.getMsgId(), key + " msgId");
            }
            Check.same(Seen.queue(g), r.getMessageQueue(), key + " queue");
            Check.same(g.getQueueOffset(), r.getQueueOffset(), key + " queue offset");
            Check.same(((MessageClientExt) g).getOffsetMsgId(), r.getOffsetMsgId(), key + " offset id");
        }
    }
}
