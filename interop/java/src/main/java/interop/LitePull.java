package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** DefaultLitePullConsumer: subscribed (with rebalance and commits) and with queues assigned by hand (seek, committed). */
final class LitePull implements Scenario {
    private static final int MESSAGES = 80;

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", 4);
        List<String> bodies = new ArrayList<>();
        for (int i = 0; i < MESSAGES; i++) {
            bodies.add("lite " + i);
            env.producer().send(new Message(topic, i % 4 == 0 ? "quarter" : "rest", bodies.get(i).getBytes(StandardCharsets.UTF_8)));
        }
        subscribed(env, topic, bodies);
        assigned(env, topic, bodies);
        return "messages=" + MESSAGES;
    }

    private static void subscribed(Env env, String topic, List<String> bodies) throws Exception {
        Seen seen = new Seen();
        DefaultLitePullConsumer c = subscribe(env, topic, "*");
        Check.until(40, () -> {
            c.poll(500).forEach(seen::add);
            return seen.hasAll(bodies);
        }, "all %d by poll", MESSAGES);
        c.commitSync();
        // poll commits on its own with autoCommit; shutdown persists
        c.shutdown();
        DefaultLitePullConsumer again = subscribe(env, topic, "*");
        String last = "after the commit";
        env.producer().send(new Message(topic, last.getBytes(StandardCharsets.UTF_8)));
        Check.until(40, () -> {
            again.poll(500).forEach(seen::add);
            return !seen.of(last).isEmpty();
        }, "the message after the restart");
        again.poll(500).forEach(seen::add);
        Check.same(seen.deliveries(), MESSAGES + 1, "deliveries over a restart");
    }

    private static DefaultLitePullConsumer subscribe(Env env, String topic, String tags) throws Exception {
        DefaultLitePullConsumer c = env.lite(env.name("g"));
        c.subscribe(topic, tags);
        c.start();
        return c;
    }

    private static void assigned(Env env, String topic, List<String> bodies) throws Exception {
        DefaultLitePullConsumer c = env.lite(env.name("assigned"));
        c.setAutoCommit(false);
        c.start();
        List<MessageQueue> queues = new ArrayList<>(c.fetchMessageQueues(topic));
        Check.same(Set.copyOf(queues), Set.copyOf(env.queues(topic)), "fetched queues");
        c.assign(queues);
        Seen seen = new Seen();
        Check.until(40, () -> {
            c.poll(500).forEach(seen::add);
            return seen.hasAll(bodies);
        }, "all %d from the beginning", MESSAGES);

        MessageQueue one = queues.get(0);
        long from = 3;
        c.assign(List.of(one));
        c.seek(one, from);
        List<MessageExt> got = new ArrayList<>();
        c.poll(500);
        Check.until(40, () -> {
            // a seek interrupts the client's running pull, which may drop the next pull's messages: then only another seek helps
            c.seek(one, from);
            got.addAll(c.poll(3_000));
            return !got.isEmpty();
        }, "messages after a seek");
        Check.same(got.get(0).getQueueOffset(), from, "first offset after a seek to " + from);
        Check.same(Seen.queue(got.get(0)), one, "queue after a seek");
        c.commitSync();
        Check.until(15, () -> c.committed(one) > from, "the committed offset");
        Check.same(c.offsetForTimestamp(one, 0L), 0L, "offset for time 0");
    }
}
