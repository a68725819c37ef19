package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.selector.SelectMessageQueueByHash;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * What applications order messages for: one queue for all of them, and a queue for all of a key (MessageQueueSelector). A message that fails too often goes
 * to the dead letters, and those behind it follow.
 */
final class Ordered implements Scenario {
    private static final int MESSAGES = 200;
    private static final int KEYS = 16;
    private static final int EACH = 25;

    @Override
    public String run(Env env) throws Exception {
        global(env);
        int queues = keys(env);
        deadLetter(env);
        return "messages=" + (MESSAGES + KEYS * EACH) + " key_queues=" + queues + " dead_letters=1";
    }

    /** A topic of one queue: the order of all messages. */
    private static void global(Env env) throws Exception {
        String topic = env.topic("global", 1);
        MessageQueue one = env.queues(topic).get(0);
        List<String> want = new ArrayList<>();
        for (int i = 0; i < MESSAGES; i++) {
            want.add("global " + i);
            SendResult r = env.producer().send(message(topic, "global " + i), (queues, m, arg) -> one, null);
            Check.same(r.getQueueOffset(), (long) i, "queue offset");
        }
        List<String> got = Collections.synchronizedList(new ArrayList<>());
        consume(env, env.name("global"), topic, -1, m -> got.add(Seen.body(m)));
        Check.until(40, () -> got.size() >= MESSAGES, "all %d in one order", MESSAGES);
        Check.same(new ArrayList<>(got), want, "the order of all messages");
    }

    /** The order of each key; returns how many queues the keys took. */
    private static int keys(Env env) throws Exception {
        String topic = env.topic("keys", 4);
        Map<String, MessageQueue> queueOf = new HashMap<>();
        for (int i = 0; i < EACH; i++) {
            for (int k = 0; k < KEYS; k++) {
                String key = "order-" + k;
                SendResult r = env.producer().send(message(topic, key + " " + i), new SelectMessageQueueByHash(), key);
                MessageQueue before = queueOf.putIfAbsent(key, r.getMessageQueue());
                Check.that(before == null || before.equals(r.getMessageQueue()), "%s went to %s and %s", key, before, r.getMessageQueue());
            }
        }
        Map<String, List<Integer>> got = new ConcurrentHashMap<>();
        consume(env, env.name("keys"), topic, -1, m -> {
            String[] words = Seen.body(m).split(" ");
            got.computeIfAbsent(words[0], k -> Collections.synchronizedList(new ArrayList<>())).add(Integer.parseInt(words[1]));
        });
        Check.until(60, () -> got.values().stream().mapToInt(List::size).sum() >= KEYS * EACH, "all %d of all keys", KEYS * EACH);
        for (Map.Entry<String, List<Integer>> e : got.entrySet()) {
            for (int i = 0; i < EACH; i++) {
                Check.same(e.getValue().get(i), i, "step of " + e.getKey());
            }
            Check.same(e.getValue().size(), EACH, "steps of " + e.getKey());
        }
        return (int) queueOf.values().stream().distinct().count();
    }

    /** The second of three always fails: it is tried once more, and then is a dead letter. */
    private static void deadLetter(Env env) throws Exception {
        String topic = env.topic("dead", 1);
        String group = env.name("dead");
        List<String> got = Collections.synchronizedList(new ArrayList<>());
        consume(env, group, topic, 1, m -> {
            got.add(Seen.body(m));
            Check.that(!Seen.body(m).equals("two"), "this one fails, as this scenario wants");
        });
        for (String body : List.of("one", "two", "three")) {
            env.producer().send(message(topic, body));
        }
        Check.until(40, () -> got.contains("three"), "what is behind a message that fails, after %s", got);
        Check.same(new ArrayList<>(got), List.of("one", "two", "two", "three"), "deliveries");
        DefaultMQPullConsumer pull = env.pull(env.name("dlq"));
        Seen dead = new Seen();
        Check.until(30, () -> {
            for (MessageQueue q : env.queues("%DLQ%" + group)) {
                PullResult r = pull.pull(q, "*", 0, 32);
                if (r.getPullStatus() == PullStatus.FOUND && dead.distinct() == 0) {
                    r.getMsgFoundList().forEach(dead::add);
                }
            }
            return dead.distinct() > 0;
        }, "the dead letter of %s", group);
        Check.same(dead.deliveries(), 1, "dead letters");
        Check.same(dead.of("two").size(), 1, "dead letters of the message that failed");
    }

    private static Message message(String topic, String body) {
        return new Message(topic, body.getBytes(StandardCharsets.UTF_8));
    }

    private interface Step {
        void take(MessageExt m);
    }

    private static void consume(Env env, String group, String topic, int maxReconsume, Step step) throws Exception {
        DefaultMQPushConsumer c = env.push(group);
        c.setSuspendCurrentQueueTimeMillis(200);
        c.setMaxReconsumeTimes(maxReconsume);
        c.subscribe(topic, "*");
        c.registerMessageListener((MessageListenerOrderly) (msgs, context) -> {
            try {
                msgs.forEach(step::take);
                return ConsumeOrderlyStatus.SUCCESS;
            } catch (Check.Failed e) {
                return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
            }
        });
        Env.start(c);
    }
}
