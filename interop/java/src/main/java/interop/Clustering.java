package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/** Consumers of one group share the queues: two, then a third joins, then the first leaves. */
final class Clustering implements Scenario {
    private static final int QUEUES = 8;
    private static final int PER_QUEUE = 10;
    /** Less than the client's own rebalance period (20 s), so that the broker's notice of a changed group is needed. */
    private static final int REBALANCE_S = 15;

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", QUEUES);
        String group = env.name("g");
        Member a = new Member(env, group, topic);
        Member b = new Member(env, group, topic);
        List<Member> members = new ArrayList<>(List.of(a, b));

        long t0 = System.nanoTime();
        shared(env, topic, members, "two");
        round(env, topic, members, "two");

        Member c = new Member(env, group, topic);
        members.add(c);
        long t1 = System.nanoTime();
        shared(env, topic, members, "a third joined");
        long joined = System.nanoTime() - t1;
        round(env, topic, members, "three");

        a.consumer.shutdown();
        members.remove(a);
        long t2 = System.nanoTime();
        shared(env, topic, members, "one left");
        long left = System.nanoTime() - t2;
        round(env, topic, members, "left");

        return String.format("queues=%d start_ms=%d join_ms=%d leave_ms=%d",
            env.queues(topic).size(), (t1 - t0) / 1_000_000, joined / 1_000_000, left / 1_000_000);
    }

    /** One consumer of the group. */
    private static final class Member {
        final DefaultMQPushConsumer consumer;
        volatile Seen seen = new Seen();

        Member(Env env, String group, String topic) throws Exception {
            consumer = env.push(group, topic, "*", (msgs, context) -> seen.listener().consumeMessage(msgs, context));
        }

        Set<MessageQueue> owned(String topic) {
            Set<MessageQueue> s = new HashSet<>();
            for (MessageQueue q : consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().keySet()) {
                if (q.getTopic().equals(topic)) {
                    s.add(q);
                }
            }
            return s;
        }
    }

    /** Waits until every queue belongs to exactly one member, evenly. */
    private static void shared(Env env, String topic, List<Member> members, String when) throws Exception {
        int total = env.queues(topic).size();
        Check.until(REBALANCE_S, () -> {
            Set<MessageQueue> union = new HashSet<>();
            int sum = 0;
            for (Member m : members) {
                Set<MessageQueue> o = m.owned(topic);
                if (o.size() < total / members.size()) {
                    return false;
                }
                sum += o.size();
                union.addAll(o);
            }
            return sum == total && union.size() == total;
        }, "%s: the %d queues shared evenly", when, total);
    }

    /** Sends to every queue and asserts that each queue's messages came to one member only, and all of them. */
    private static void round(Env env, String topic, List<Member> members, String name) throws Exception {
        // what is still in flight for an earlier round must not count in this one
        members.forEach(m -> m.seen = new Seen());
        Set<String> bodies = new HashSet<>();
        for (MessageQueue q : env.queues(topic)) {
            for (int i = 0; i < PER_QUEUE; i++) {
                String body = name + " " + q.getBrokerName() + " " + q.getQueueId() + " " + i;
                bodies.add(body);
                env.producer().send(new Message(topic, body.getBytes(StandardCharsets.UTF_8)), q);
            }
        }
        // Messages of an earlier round may come again (at least once); only this round's count.
        Check.until(30, () -> {
            Set<String> missing = new HashSet<>(bodies);
            members.forEach(m -> m.seen.all().forEach(x -> missing.remove(Seen.body(x))));
            return missing.isEmpty();
        }, "%s: all %d consumed", name, bodies.size());
        Set<MessageQueue> queues = new HashSet<>();
        for (Member m : members) {
            Check.that(m.seen.deliveries() > 0, "%s: a member got nothing", name);
            for (MessageQueue q : m.seen.perQueue().keySet()) {
                Check.that(queues.add(q), "%s: %s consumed by two members", name, q);
            }
        }
    }
}
