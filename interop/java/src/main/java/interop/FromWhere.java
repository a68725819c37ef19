package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.common.UtilAll;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;

/**
 * Where a new group begins on a topic that has messages. RocketMQ's rule is not what the names say: while the first
 * message of a queue still lies in the broker's memory, the broker answers offset 0 for a group without offsets, and so
 * FIRST, LAST and TIMESTAMP all read a young topic from its beginning.
 */
final class FromWhere implements Scenario {
    private static final int OLD = 20;
    private static final int NEW = 20;

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", 2);
        List<String> bodies = new ArrayList<>();
        send(env, topic, "old", OLD, bodies);
        Thread.sleep(2_000);
        List<Seen> seen = new ArrayList<>();
        for (ConsumeFromWhere w : List.of(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET, ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET,
            ConsumeFromWhere.CONSUME_FROM_TIMESTAMP)) {
            Seen s = new Seen();
            seen.add(s);
            DefaultMQPushConsumer c = env.push(env.name(w.name().substring(13).toLowerCase()));
            c.setConsumeFromWhere(w);
            c.setConsumeTimestamp(UtilAll.timeMillisToHumanString3(System.currentTimeMillis() - 1_000));
            c.subscribe(topic, "*");
            c.registerMessageListener(s.listener());
            Env.start(c);
        }
        send(env, topic, "new", NEW, bodies);
        for (Seen s : seen) {
            Check.until(30, () -> s.hasAll(bodies), "all %d messages for group %d", OLD + NEW, seen.indexOf(s));
        }
        Thread.sleep(500);
        for (Seen s : seen) {
            Check.same(s.deliveries(), OLD + NEW, "deliveries for group " + seen.indexOf(s));
        }
        return "first=" + seen.get(0).distinct() + " last=" + seen.get(1).distinct() + " timestamp=" + seen.get(2).distinct();
    }

    private static void send(Env env, String topic, String what, int n, List<String> bodies) throws Exception {
        for (int i = 0; i < n; i++) {
            bodies.add(what + i);
            env.producer().send(new Message(topic, (what + i).getBytes(StandardCharsets.UTF_8)));
        }
    }
}
