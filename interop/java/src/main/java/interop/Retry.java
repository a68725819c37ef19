package interop;

import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Failed messages come again through %RETRY%group: by default after 10 s (delay level 3), with a level of the listener's
 * choice after that; and go to %DLQ%group when the listener says so or the attempts are used up.
 */
final class Retry implements Scenario {
    private static final int MAX_RECONSUME = 3;

    /** One delivery: when, and with which count. */
    private record Delivery(long atMs, MessageExt message) {}

    private final Map<String, List<Delivery>> deliveries = new ConcurrentHashMap<>();

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", 2);
        String group = env.name("g");
        known(env, topic, group);
        DefaultMQPushConsumer c = env.push(group);
        c.setMaxReconsumeTimes(MAX_RECONSUME);
        c.subscribe(topic, "*");
        c.registerMessageListener((MessageListenerConcurrently) (msgs, context) -> {
            MessageExt m = msgs.get(0);
            List<Delivery> l = deliveries.computeIfAbsent(Seen.body(m), k -> new CopyOnWriteArrayList<>());
            l.add(new Delivery(System.currentTimeMillis(), m));
            switch (Seen.body(m)) {
                case "later": // the default: 10 s
                    return l.size() == 1 ? ConsumeConcurrentlyStatus.RECONSUME_LATER : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
                case "thrown":
                    if (l.size() == 1) {
                        throw new IllegalStateException("thrown by the test's listener");
                    }
                    return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
                case "level-1": // twice, 1 s each
                    context.setDelayLevelWhenNextConsume(1);
                    return l.size() <= 2 ? ConsumeConcurrentlyStatus.RECONSUME_LATER : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
                case "always": // until the attempts are used up
                    context.setDelayLevelWhenNextConsume(1);
                    return ConsumeConcurrentlyStatus.RECONSUME_LATER;
                case "dead": // straight to the dead letters
                    context.setDelayLevelWhenNextConsume(-1);
                    return ConsumeConcurrentlyStatus.RECONSUME_LATER;
                default:
                    return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            }
        });
        Env.start(c);

        Map<String, String> ids = new ConcurrentHashMap<>();
        for (String body : List.of("fine", "later", "thrown", "level-1", "always", "dead")) {
            Message m = new Message(topic, "tag", "key-" + body, body.getBytes(StandardCharsets.UTF_8));
            m.putUserProperty("mine", "value of " + body);
            SendResult r = env.producer().send(m);
            ids.put(body, r.getMsgId());
        }
        expect("fine", 1, 10);
        expect("level-1", 3, 20);
        expect("always", 1 + MAX_RECONSUME, 30);
        expect("later", 2, 30);
        expect("thrown", 2, 30);
        for (Map.Entry<String, List<Delivery>> e : deliveries.entrySet()) {
            int n = 0;
            for (Delivery d : e.getValue()) {
                String what = e.getKey() + " delivery " + n;
                Check.same(d.message.getReconsumeTimes(), n++, what + ": reconsumeTimes");
                Check.same(d.message.getTopic(), topic, what + ": topic");
                Check.same(d.message.getMsgId(), ids.get(e.getKey()), what + ": msgId");
                Check.same(d.message.getTags(), "tag", what + ": tags");
                Check.same(d.message.getKeys(), "key-" + e.getKey(), what + ": keys");
                Check.same(d.message.getProperty("mine"), "value of " + e.getKey(), what + ": property");
            }
        }
        long wait = gap("later", 1);
        Check.that(wait >= 9_500 && wait < 20_000, "delay level 3 (10 s) took %d ms", wait);
        for (int i = 1; i <= 2; i++) {
            long w = gap("level-1", i);
            Check.that(w >= 900 && w < 8_000, "delay level 1 (1 s) took %d ms", w);
        }
        deadLetters(env, group, ids);
        Check.same(deliveries.get("dead").size(), 1, "deliveries of a dead letter");
        Check.same(deliveries.get("always").size(), 1 + MAX_RECONSUME, "deliveries with maxReconsumeTimes " + MAX_RECONSUME);
        return "later_ms=" + wait + " level1_ms=" + gap("level-1", 1) + " dead_letters=2";
    }

    /**
     * Makes the group's retry topic, as its first heartbeat does. A client whose own heartbeat makes it learns of it only by its
     * next route poll (30 s) and rebalance (20 s), which would hide the delays to be measured.
     */
    private static void known(Env env, String topic, String group) throws Exception {
        DefaultMQPushConsumer first = env.push(group, topic, "*", new Seen().listener());
        Check.until(30, () -> !env.queues("%RETRY%" + group).isEmpty(), "route of %%RETRY%%%s", group);
        first.shutdown();
    }

    private void expect(String body, int times, int seconds) throws Exception {
        Check.until(seconds, () -> deliveries.getOrDefault(body, List.of()).size() >= times, "<%s> delivered %d times", body, times);
    }

    /** Between delivery n-1 and n, ms. */
    private long gap(String body, int n) {
        List<Delivery> l = deliveries.get(body);
        return l.get(n).atMs - l.get(n - 1).atMs;
    }

    private void deadLetters(Env env, String group, Map<String, String> ids) throws Exception {
        DefaultMQPullConsumer pull = env.pull(env.name("dlq"));
        String dlq = "%DLQ%" + group;
        Seen dead = new Seen();
        Check.until(20, () -> {
            // one queue on each broker; a new one that is not yet in the route is found on the next turn
            for (MessageQueue q : env.queues(dlq)) {
                PullResult r = pull.pull(q, "*", 0, 32);
                if (r.getPullStatus() == PullStatus.FOUND) {
                    r.getMsgFoundList().stream().filter(m -> dead.of(Seen.body(m)).isEmpty()).forEach(dead::add);
                }
            }
            return dead.hasAll(List.of("dead", "always"));
        }, "both dead letters in %s", dlq);
        Check.same(dead.distinct(), 2, "dead letters");
        for (MessageExt m : dead.all()) {
            Check.same(m.getProperty("mine"), "value of " + Seen.body(m), "property of the dead letter");
            Check.same(m.getMsgId(), ids.get(Seen.body(m)), "msgId of the dead letter");
        }
    }
}
