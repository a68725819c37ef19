package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;

/**
 * A steady load while something outside kills the leader: every message that was acknowledged must be consumed, at the very
 * queue offset of its acknowledgement. Producers send numbered messages and try a failed number again, as an application
 * does, until it is acknowledged; a push consumer reads all along. Prints RUNNING when both are under way.
 */
final class Failover implements Scenario {
    private static final int QUEUES = 8;
    /** How long a number may still be tried after the end of the run, s. Above the 30 s of a default route poll. */
    private static final int LAST_TRIES_S = 60;
    private static final int DRAIN_S = 90;
    /** The share of rate x seconds that must be acknowledged: with 30 s polling half of the run may pass without a leader. */
    private static final double PLAUSIBLE = 0.2;

    private final int seconds;
    private final int threads;
    private final double rate;
    private final int pollMs;
    private final String topic;
    private final String group;

    private final AtomicLong next = new AtomicLong();
    /** Position and id of each acknowledgement, to its number. */
    private final Map<String, Long> acked = new ConcurrentHashMap<>();
    private final Set<String> positions = ConcurrentHashMap.newKeySet();
    private final AtomicLong sameOffset = new AtomicLong();
    private final Map<String, AtomicLong> errors = new ConcurrentHashMap<>();
    private final AtomicLong failed = new AtomicLong();
    private final AtomicLong abandoned = new AtomicLong();
    private final AtomicLong lastAckNs = new AtomicLong();
    private final AtomicLong gapNs = new AtomicLong();
    private final Set<String> consumed = ConcurrentHashMap.newKeySet();
    private final Set<Long> numbers = ConcurrentHashMap.newKeySet();
    private final AtomicLong deliveries = new AtomicLong();
    private final AtomicLong corrupt = new AtomicLong();

    private Failover(int seconds, int threads, double rate, int pollMs, String topic, String group) {
        this.seconds = seconds;
        this.threads = threads;
        this.rate = rate;
        this.pollMs = pollMs;
        this.topic = topic;
        this.group = group;
    }

    /** SECONDS THREADS RATE POLL_MS TOPIC GROUP; the rate is that of all threads together, per second. */
    static Failover parse(String[] a) {
        if (a.length != 6) {
            System.err.println("usage: failover SECONDS THREADS RATE POLL_MS TOPIC GROUP");
            System.exit(2);
        }
        return new Failover(Integer.parseInt(a[0]), Integer.parseInt(a[1]), Double.parseDouble(a[2]), Integer.parseInt(a[3]), a[4], a[5]);
    }

    @Override
    public String run(Env env) throws Exception {
        Line.createTopic(env.producer(), Env.CREATE_KEY, topic, QUEUES);
        Check.until(30, () -> env.producer().fetchPublishMessageQueues(topic).size() >= QUEUES, "route of %s", topic);
        DefaultMQProducer producer = new DefaultMQProducer(group + "-producer");
        producer.setNamesrvAddr(Env.namesrv());
        producer.setInstanceName(Env.instance());
        producer.setPollNameServerInterval(pollMs);
        producer.start();
        env.closing(producer::shutdown);
        consume(env);

        long t0 = System.nanoTime();
        lastAckNs.set(t0);
        long end = t0 + seconds * 1_000_000_000L;
        List<Thread> workers = new ArrayList<>();
        for (int i = 0; i < threads; i++) {
            Thread t = new Thread(() -> produce(producer, end), "produce-" + i);
            t.start();
            workers.add(t);
        }
        Check.until(60, () -> acked.size() >= threads * 5 && !consumed.isEmpty(), "first messages through");
        System.out.println("RUNNING");
        System.out.flush();
        for (Thread t : workers) {
            t.join();
        }
        try {
            Check.until(DRAIN_S, () -> consumed.containsAll(acked.keySet()), "all consumed");
        } catch (Check.Failed e) {
            System.err.println("the last acknowledged messages were not consumed within " + DRAIN_S + " s");
        }
        return report();
    }

    private String report() {
        List<String> lost = acked.keySet().stream().filter(k -> !consumed.contains(k)).sorted().toList();
        lost.stream().limit(20).forEach(k -> System.err.println("lost: number " + acked.get(k) + " at " + k));
        new TreeMap<>(errors).forEach((k, v) -> System.err.printf("%8d x %s%n", v.get(), k));
        String line = String.format("poll_ms=%d acked=%d consumed=%d lost=%d duplicated=%d longest_gap_ms=%d failed_sends=%d abandoned=%d",
            pollMs, acked.size(), numbers.size(), lost.size(), deliveries.get() - numbers.size(), gapNs.get() / 1_000_000, failed.get(), abandoned.get());
        Check.that(lost.isEmpty(), "acknowledged messages are lost: %s", line);
        Check.that(sameOffset.get() == 0, "%d acknowledgements of one and the same queue offset: %s", sameOffset.get(), line);
        Check.that(corrupt.get() == 0, "%d messages whose body is not that of their key: %s", corrupt.get(), line);
        Check.that(acked.size() >= PLAUSIBLE * rate * seconds, "too few acknowledged of %.0f: %s", rate * seconds, line);
        return line;
    }

    private void produce(DefaultMQProducer producer, long end) {
        long due = System.nanoTime();
        while (System.nanoTime() < end) {
            LockSupport.parkNanos(due - System.nanoTime());
            due = Math.max(due, System.nanoTime() - 100_000_000L) + (long) (1e9 * threads / rate);
            long number = next.getAndIncrement();
            while (!attempt(producer, number)) {
                if (System.nanoTime() > end + LAST_TRIES_S * 1_000_000_000L) {
                    abandoned.incrementAndGet();
                    break;
                }
                LockSupport.parkNanos(ThreadLocalRandom.current().nextLong(10_000_000L, 100_000_000L));
            }
        }
    }

    private boolean attempt(DefaultMQProducer producer, long number) {
        try {
            SendResult r = producer.send(new Message(topic, "failover", "n" + number, body(number)));
            if (r.getSendStatus() != SendStatus.SEND_OK) {
                failure("status " + r.getSendStatus());
                return false;
            }
            String position = r.getMessageQueue().getBrokerName() + "/" + r.getMessageQueue().getQueueId() + "/" + r.getQueueOffset();
            if (!positions.add(position)) {
                sameOffset.incrementAndGet();
            }
            acked.put(position + "/" + r.getMsgId(), number);
            long now = System.nanoTime();
            long before = lastAckNs.getAndSet(now);
            gapNs.accumulateAndGet(now - before, Math::max);
            return true;
        } catch (Exception e) {
            failure(e.getClass().getSimpleName() + ": " + String.valueOf(e.getMessage()).lines().findFirst().orElse("").replaceAll("[0-9]+", "#"));
            return false;
        }
    }

    private void failure(String what) {
        failed.incrementAndGet();
        errors.computeIfAbsent(what.substring(0, Math.min(160, what.length())), k -> new AtomicLong()).incrementAndGet();
    }

    private static byte[] body(long number) {
        return ("number " + number + " " + "x".repeat(100)).getBytes(StandardCharsets.UTF_8);
    }

    private void consume(Env env) throws Exception {
        DefaultMQPushConsumer c = env.push(group);
        c.setPollNameServerInterval(pollMs);
        c.subscribe(topic, "*");
        c.registerMessageListener((MessageListenerConcurrently) (msgs, context) -> {
            for (var m : msgs) {
                String[] words = Seen.body(m).split(" ");
                if (!("n" + words[1]).equals(m.getKeys())) {
                    corrupt.incrementAndGet();
                }
                numbers.add(Long.parseLong(words[1]));
                consumed.add(m.getBrokerName() + "/" + m.getQueueId() + "/" + m.getQueueOffset() + "/" + m.getMsgId());
                deliveries.incrementAndGet();
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        Env.start(c);
    }
}
