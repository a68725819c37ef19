package interop;

import java.nio.charset.StandardCharsets;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** The classic pull consumer: positions, all pull results, long polling, offsets of the application's choice. */
final class Pull implements Scenario {
    private static final int MESSAGES = 100;
    private static final int PAUSE_AT = 50;

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", 2);
        DefaultMQPullConsumer c = env.pull(env.name("g"));
        Set<MessageQueue> queues = c.fetchSubscribeMessageQueues(topic);
        Check.same(queues, new HashSet<>(env.queues(topic)), "queues of the topic");
        MessageQueue q = env.queues(topic).get(0);
        MessageQueue other = env.queues(topic).get(1);

        Check.same(c.minOffset(q), 0L, "min offset of an empty queue");
        Check.same(c.maxOffset(q), 0L, "max offset of an empty queue");
        Check.same(c.searchOffset(q, System.currentTimeMillis()), 0L, "searched offset of an empty queue");
        Check.same(c.fetchConsumeOffset(q, true), -1L, "offset of a group that has none in an empty queue");

        long middle = 0;
        for (int i = 0; i < MESSAGES; i++) {
            if (i == PAUSE_AT) {
                Thread.sleep(600);
                middle = System.currentTimeMillis();
                Thread.sleep(600);
            }
            env.producer().send(new Message(topic, i % 2 == 0 ? "even" : "odd", ("" + i).getBytes(StandardCharsets.UTF_8)), q);
        }
        Check.until(10, () -> c.maxOffset(q) == MESSAGES, "max offset %d", MESSAGES);
        Check.same(c.minOffset(q), 0L, "min offset");
        Check.same(c.maxOffset(other), 0L, "max offset of the other queue");
        Check.same(c.searchOffset(q, 0), 0L, "searched offset of time 0");
        Check.same(c.searchOffset(q, middle), (long) PAUSE_AT, "searched offset of the pause");
        long future = c.searchOffset(q, System.currentTimeMillis() + 3_600_000);
        Check.that(future == MESSAGES || future == MESSAGES - 1, "searched offset of the future: %d", future);

        all(c, q);
        filtered(c, q);
        PullResult beyond = c.pull(q, "*", MESSAGES + 1000, 32);
        Check.same(beyond.getPullStatus(), PullStatus.OFFSET_ILLEGAL, "pull beyond the end");
        Check.same(beyond.getNextBeginOffset(), (long) MESSAGES, "next offset after a pull beyond the end");
        PullResult atEnd = c.pull(q, "*", MESSAGES, 32);
        Check.same(atEnd.getPullStatus(), PullStatus.NO_NEW_MSG, "pull at the end");
        PullResult empty = c.pull(other, "*", 0, 32);
        Check.that(empty.getPullStatus() == PullStatus.NO_NEW_MSG, "pull of an empty queue: %s", empty.getPullStatus());
        long waited = longPoll(env, c, other, topic);

        c.updateConsumeOffset(q, 42);
        c.getOffsetStore().persist(q);
        Check.until(10, () -> c.fetchConsumeOffset(q, true) == 42, "the stored offset 42");
        DefaultMQPullConsumer again = env.pull(env.name("g"));
        Check.same(again.fetchConsumeOffset(q, true), 42L, "the stored offset read by another consumer of the group");
        return "messages=" + MESSAGES + " future=" + future + " long_poll_ms=" + waited;
    }

    private static void all(DefaultMQPullConsumer c, MessageQueue q) throws Exception {
        long next = 0;
        while (next < MESSAGES) {
            PullResult r = c.pull(q, "*", next, 32);
            Check.same(r.getPullStatus(), PullStatus.FOUND, "pull at " + next);
            Check.that(r.getMsgFoundList().size() <= 32, "%d messages for a pull of 32", r.getMsgFoundList().size());
            Check.same(r.getMinOffset(), 0L, "min offset in the pull result");
            Check.same(r.getMaxOffset(), (long) MESSAGES, "max offset in the pull result");
            for (MessageExt m : r.getMsgFoundList()) {
                Check.same(m.getQueueOffset(), next, "queue offset");
                Check.same(Seen.body(m), "" + next, "body at " + next);
                next++;
            }
            Check.same(r.getNextBeginOffset(), next, "next offset");
        }
    }

    private static void filtered(DefaultMQPullConsumer c, MessageQueue q) throws Exception {
        int found = 0;
        for (long next = 0; next < MESSAGES;) {
            PullResult r = c.pull(q, "odd", next, 32);
            Check.that(r.getNextBeginOffset() > next, "a filtered pull must go on: %s", r);
            found += r.getPullStatus() == PullStatus.FOUND ? r.getMsgFoundList().size() : 0;
            next = r.getNextBeginOffset();
        }
        Check.same(found, MESSAGES / 2, "messages with the tag");
        PullResult none = c.pull(q, "nobody", 0, 32);
        Check.same(none.getPullStatus(), PullStatus.NO_MATCHED_MSG, "pull of an unused tag");
        Check.that(none.getNextBeginOffset() > 0, "next offset after a pull that matched nothing: %d", none.getNextBeginOffset());
    }

    /** A pull that waits at the broker is answered as soon as a message comes. */
    private static long longPoll(Env env, DefaultMQPullConsumer c, MessageQueue q, String topic) throws Exception {
        Thread sender = new Thread(() -> {
            try {
                Thread.sleep(1_500);
                env.producer().send(new Message(topic, "late".getBytes(StandardCharsets.UTF_8)), q);
            } catch (Exception e) {
                e.printStackTrace();
            }
        });
        sender.start();
        long t0 = System.nanoTime();
        PullResult r = c.pullBlockIfNotFound(q, "*", 0, 32);
        long ms = (System.nanoTime() - t0) / 1_000_000;
        sender.join();
        Check.same(r.getPullStatus(), PullStatus.FOUND, "a waiting pull");
        Check.same(r.getMsgFoundList().size(), 1, "messages of a waiting pull");
        Check.that(ms >= 1_400 && ms < 8_000, "the waiting pull took %d ms", ms);
        return ms;
    }
}
