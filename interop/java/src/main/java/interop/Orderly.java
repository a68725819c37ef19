package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Orderly consumers, which lock their queues at the broker: the order of every queue holds, also over a failed message
 * (the queue waits and the message comes again) and while a second consumer joins under load.
 */
final class Orderly implements Scenario {
    private static final int QUEUES = 4;
    private static final int PER_QUEUE = 150;
    private static final int FAILS_AT = 20;

    private final Map<MessageQueue, List<Long>> consumed = new ConcurrentHashMap<>();
    private final Map<MessageQueue, AtomicInteger> inside = new ConcurrentHashMap<>();
    private final Map<MessageQueue, Integer> failed = new ConcurrentHashMap<>();
    private final AtomicBoolean overlap = new AtomicBoolean();
    private final AtomicInteger[] perConsumer = {new AtomicInteger(), new AtomicInteger()};

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", QUEUES);
        List<MessageQueue> queues = env.queues(topic);
        int total = queues.size() * PER_QUEUE;
        start(env, topic, 0);
        AtomicInteger acked = new AtomicInteger();
        for (int i = 0; i < PER_QUEUE; i++) {
            if (i == PER_QUEUE / 3) {
                // the queues that move are unlocked by the first and locked by the second consumer
                start(env, topic, 1);
            }
            final int n = i;
            for (int k = 0; k < queues.size(); k++) {
                Message m = new Message(topic, "", "k" + k, ("" + n).getBytes(StandardCharsets.UTF_8));
                env.producer().send(m, (mqs, msg, arg) -> queues.get((Integer) arg), k);
                acked.incrementAndGet();
            }
            Thread.sleep(30);
        }
        // a queue locked by its former owner is asked for again every 20 s
        Check.until(60, () -> consumed.values().stream().mapToInt(l -> {
            synchronized (l) {
                return (int) l.stream().distinct().count();
            }
        }).sum() >= total, "all %d consumed", total);
        int duplicates = 0;
        for (Map.Entry<MessageQueue, List<Long>> e : consumed.entrySet()) {
            long next = 0;
            for (long offset : e.getValue()) {
                Check.that(offset <= next, "%s: offset %d came before %d", e.getKey(), offset, next);
                if (offset == next) {
                    next++;
                } else {
                    duplicates++;
                }
            }
            Check.same(next, (long) PER_QUEUE, "messages of " + e.getKey());
        }
        Check.that(!overlap.get(), "two threads were in one queue at a time");
        Check.same(failed.size(), queues.size(), "queues with a failed message");
        Check.that(perConsumer[1].get() > 0, "the second consumer got nothing");
        return "messages=" + acked + " duplicates=" + duplicates + " second=" + perConsumer[1];
    }

    private void start(Env env, String topic, int number) throws Exception {
        DefaultMQPushConsumer c = env.push(env.name("g"));
        c.setSuspendCurrentQueueTimeMillis(200);
        c.subscribe(topic, "*");
        c.registerMessageListener((MessageListenerOrderly) (msgs, context) -> {
            MessageQueue q = new MessageQueue(topic, context.getMessageQueue().getBrokerName(), context.getMessageQueue().getQueueId());
            AtomicInteger in = inside.computeIfAbsent(q, k -> new AtomicInteger());
            if (in.incrementAndGet() != 1) {
                overlap.set(true);
            }
            try {
                for (MessageExt m : msgs) {
                    if (m.getQueueOffset() == FAILS_AT && failed.merge(q, 1, Integer::sum) == 1) {
                        return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
                    }
                    List<Long> l = consumed.computeIfAbsent(q, k -> new ArrayList<>());
                    synchronized (l) {
                        l.add(m.getQueueOffset());
                    }
                    perConsumer[number].incrementAndGet();
                }
                return ConsumeOrderlyStatus.SUCCESS;
            } finally {
                in.decrementAndGet();
            }
        });
        Env.start(c);
    }
}
