package interop;

import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** Offsets of single queues set to given values while the group consumes: it goes on from there, and from where it was in all others. */
final class Resets implements Scenario {
    private static final int QUEUES = 4;
    private static final int EACH = 25;
    /** Queue to the offset it is set to. */
    private static final Map<Integer, Integer> OFFSETS = Map.of(1, 10, 2, 22);

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", QUEUES);
        String group = env.name("g");
        List<MessageQueue> queues = env.queues(topic);
        for (int i = 0; i < EACH; i++) {
            for (MessageQueue q : queues) {
                send(env, q, i);
            }
        }
        Seen seen = new Seen();
        env.push(group, topic, "*", seen.listener());
        Check.until(60, () -> seen.distinct() == QUEUES * EACH, "all messages");
        DefaultMQAdminExt admin = env.admin();
        Check.until(30, () -> committed(admin, topic, group) == QUEUES * EACH, "all offsets at the end");
        for (Map.Entry<Integer, Integer> e : OFFSETS.entrySet()) {
            Line.resetOffset(admin, env.producer(), env.masterOf(admin, queues.get(e.getKey())), group, topic, e.getKey(), e.getValue());
        }
        int again = OFFSETS.values().stream().mapToInt(offset -> EACH - offset).sum();
        Check.until(90, () -> seen.deliveries() >= QUEUES * EACH + again, "%d messages again, not %d", again, seen.deliveries() - QUEUES * EACH);
        // and what comes later
        for (MessageQueue q : queues) {
            send(env, q, EACH);
        }
        Check.until(60, () -> seen.distinct() == QUEUES * (EACH + 1), "messages after the reset");
        Check.until(30, () -> committed(admin, topic, group) == QUEUES * (EACH + 1), "all offsets at the end again");
        for (MessageQueue q : queues) {
            int from = OFFSETS.getOrDefault(q.getQueueId(), EACH);
            for (int i = 0; i <= EACH; i++) {
                Check.same(seen.of(body(q, i)).size(), i >= from && i < EACH ? 2 : 1, "deliveries of number " + i + " of queue " + q.getQueueId());
            }
        }
        return "messages=" + QUEUES * (EACH + 1) + " again=" + again;
    }

    private static String body(MessageQueue q, int number) {
        return q.getQueueId() + " " + number;
    }

    private static void send(Env env, MessageQueue q, int number) throws Exception {
        env.producer().send(new Message(q.getTopic(), body(q, number).getBytes(StandardCharsets.UTF_8)), q);
    }

    private static long committed(DefaultMQAdminExt admin, String topic, String group) throws Exception {
        return admin.examineConsumeStats(group, topic).getOffsetTable().entrySet().stream().filter(e -> e.getKey().getTopic().equals(topic))
            .mapToLong(e -> e.getValue().getConsumerOffset()).sum();
    }
}
