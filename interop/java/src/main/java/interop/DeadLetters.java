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
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * What is done with dead letters: another group consumes them, and what it gives back comes again to it; they are sent back to the
 * group they failed in, which gets them under their own topic; and one of its consumers is made to consume one.
 */
final class DeadLetters implements Scenario {
    private static final int MAX_RECONSUME = 1;
    /** Delay level of the next attempt: 1 s by default. */
    private static final int LEVEL = 1;
    private static final List<String> BODIES = List.of("bad 0", "bad 1", "bad 2");

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", 2);
        String group = env.name("g");
        String dlq = "%DLQ%" + group;
        known(env, topic, group);
        DefaultMQPushConsumer failing = consumer(env, group, topic, MAX_RECONSUME, m -> false);
        for (String body : BODIES) {
            env.producer().send(new Message(topic, "tag", "key of " + body, body.getBytes(StandardCharsets.UTF_8)));
        }
        Map<String, MessageExt> dead = deadLetters(env, dlq);
        failing.shutdown();

        // Another group: the first delivery of each fails.
        String readers = env.name("readers");
        Map<String, List<MessageExt>> read = new ConcurrentHashMap<>();
        // By the other topic: a look at this one would leave an offset behind the dead letters.
        known(env, topic, readers);
        consumer(env, readers, dlq, -1, m -> taken(read, m) > 1);
        Check.until(60, () -> BODIES.stream().allMatch(b -> read.getOrDefault(b, List.of()).size() >= 2), "dead letters given back, after %s", read.keySet());
        for (String body : BODIES) {
            for (int n = 0; n < 2; n++) {
                MessageExt m = read.get(body).get(n);
                Check.same(m.getTopic(), n == 0 ? dlq : topic, "topic of delivery " + n + " of a dead letter");
                Check.same(m.getKeys(), "key of " + body, "keys of a dead letter");
                Check.same(m.getReconsumeTimes(), dead.get(body).getReconsumeTimes() + n, "reconsumeTimes of delivery " + n + " of a dead letter");
            }
        }

        // The group they failed in, which can consume them now.
        Map<String, List<MessageExt>> again = new ConcurrentHashMap<>();
        DefaultMQPushConsumer fixed = consumer(env, group, topic, -1, m -> taken(again, m) > 0);
        fixed.sendMessageBack(dead.get("bad 0"), LEVEL);
        fixed.sendMessageBack(dead.get("bad 1"), LEVEL);
        Check.until(60, () -> again.containsKey("bad 0") && again.containsKey("bad 1"), "dead letters sent back, after %s", again.keySet());
        var result = env.admin().consumeMessageDirectly(group, fixed.getDefaultMQPushConsumerImpl().getmQClientFactory().getClientId(), dlq, dead.get("bad 2").getMsgId());
        Check.same(result.getConsumeResult().name(), "CR_SUCCESS", "direct consumption of a dead letter");
        Thread.sleep(2_500);
        for (String body : BODIES) {
            List<MessageExt> came = again.getOrDefault(body, List.of());
            Check.same(came.size(), 1, "deliveries of <" + body + "> to the group it failed in");
            boolean directly = body.equals("bad 2");
            Check.same(came.get(0).getTopic(), directly ? dlq : topic, "topic of <" + body + ">");
            Check.same(came.get(0).getKeys(), "key of " + body, "keys of <" + body + ">");
            Check.same(came.get(0).getReconsumeTimes(), dead.get(body).getReconsumeTimes() + (directly ? 0 : 1), "reconsumeTimes of <" + body + ">");
            Check.same(read.get(body).size(), 2, "deliveries of <" + body + "> to the other group");
        }
        return "dead_letters=" + BODIES.size() + " sent_back=2 consumed_directly=1";
    }

    private static int taken(Map<String, List<MessageExt>> into, MessageExt m) {
        List<MessageExt> l = into.computeIfAbsent(Seen.body(m), k -> new CopyOnWriteArrayList<>());
        l.add(m);
        return l.size();
    }

    private interface Consume {
        boolean done(MessageExt m);
    }

    private static DefaultMQPushConsumer consumer(Env env, String group, String topic, int maxReconsume, Consume consume) throws Exception {
        DefaultMQPushConsumer c = env.push(group);
        c.setMaxReconsumeTimes(maxReconsume);
        c.subscribe(topic, "*");
        c.registerMessageListener((MessageListenerConcurrently) (msgs, context) -> {
            context.setDelayLevelWhenNextConsume(LEVEL);
            return consume.done(msgs.get(0)) ? ConsumeConcurrentlyStatus.CONSUME_SUCCESS : ConsumeConcurrentlyStatus.RECONSUME_LATER;
        });
        Env.start(c);
        return c;
    }

    /** Makes the group's retry topic first, as Retry does; it consumes nothing. */
    private static void known(Env env, String topic, String group) throws Exception {
        DefaultMQPushConsumer first = env.push(group, topic, "no such tag", new Seen().listener());
        Check.until(30, () -> !env.queues("%RETRY%" + group).isEmpty(), "route of %%RETRY%%%s", group);
        first.shutdown();
    }

    private static Map<String, MessageExt> deadLetters(Env env, String dlq) throws Exception {
        DefaultMQPullConsumer pull = env.pull(env.name("dlq"));
        Map<String, MessageExt> dead = new ConcurrentHashMap<>();
        Check.until(60, () -> {
            for (MessageQueue q : env.queues(dlq)) {
                PullResult r = pull.pull(q, "*", 0, 32);
                if (r.getPullStatus() == PullStatus.FOUND) {
                    r.getMsgFoundList().forEach(m -> dead.putIfAbsent(Seen.body(m), m));
                }
            }
            return dead.keySet().containsAll(BODIES);
        }, "all dead letters, not %s", dead.keySet());
        return dead;
    }
}
