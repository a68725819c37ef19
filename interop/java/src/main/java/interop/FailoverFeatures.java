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
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Transactions, timers, ordered messages and consumption retries while something outside kills the leader. What was acknowledged and
 * is to be delivered comes; what was rolled back does not; no timer is early; the order of each queue holds; what a consumer gave
 * back comes again. Wants transactionTimeOut and transactionCheckInterval of a few seconds. Prints RUNNING when all are under way.
 */
final class FailoverFeatures implements Scenario {
    private static final int QUEUES = 4;
    /** How long a message may still be tried after the end of the run, s. */
    private static final int LAST_TRIES_S = 60;
    private static final int DRAIN_S = 120;
    /** How much later than asked a timer may be stored to be consumed, ms: no longer than a set may be without a leader. */
    private static final long TIMER_LATE_MS = 15_000;
    private static final String[] KINDS = {"commit", "rollback", "open-commit", "open-rollback"};

    private final int seconds;
    private final double rate;
    private final int pollMs;
    private final String prefix;

    private final Seen transactions = new Seen();
    private final Set<String> halves = ConcurrentHashMap.newKeySet();
    private final Map<String, Long> timersDue = new ConcurrentHashMap<>();
    private final Map<String, Long> timersStored = new ConcurrentHashMap<>();
    private final AtomicLong early = new AtomicLong();
    private final Map<Integer, List<Long>> ordered = new ConcurrentHashMap<>();
    private final Set<String> orderedAcked = ConcurrentHashMap.newKeySet();
    private final Set<String> retryAcked = ConcurrentHashMap.newKeySet();
    private final Set<String> retryAgain = ConcurrentHashMap.newKeySet();
    private final AtomicLong failed = new AtomicLong();
    private final Map<String, AtomicLong> errors = new ConcurrentHashMap<>();

    private FailoverFeatures(int seconds, double rate, int pollMs, String prefix) {
        this.seconds = seconds;
        this.rate = rate;
        this.pollMs = pollMs;
        this.prefix = prefix;
    }

    /** SECONDS RATE POLL_MS PREFIX; the rate is that of each kind of message, per second; topics and groups begin with PREFIX. */
    static FailoverFeatures parse(String[] a) {
        if (a.length != 4) {
            System.err.println("usage: failover-features SECONDS RATE POLL_MS PREFIX");
            System.exit(2);
        }
        return new FailoverFeatures(Integer.parseInt(a[0]), Double.parseDouble(a[1]), Integer.parseInt(a[2]), a[3]);
    }

    /** One attempt to send a message of this number; whether it is done with. */
    private interface Attempt {
        boolean run(long number) throws Exception;
    }

    @Override
    public String run(Env env) throws Exception {
        for (String kind : List.of("tx", "timers", "ordered", "retry")) {
            Line.createTopic(env.producer(), Env.CREATE_KEY, prefix + "-" + kind, QUEUES);
            Check.until(30, () -> env.producer().fetchPublishMessageQueues(prefix + "-" + kind).size() >= QUEUES, "route of %s", kind);
        }
        DefaultMQProducer producer = new DefaultMQProducer(prefix + "-producer");
        TransactionMQProducer asking = new TransactionMQProducer(prefix + "-asking");
        asking.setTransactionListener(listener());
        for (DefaultMQProducer p : List.of(producer, asking)) {
            p.setNamesrvAddr(Env.namesrv());
            p.setInstanceName(Env.instance());
            p.setPollNameServerInterval(pollMs);
            p.start();
            env.closing(p::shutdown);
        }
        consume(env);
        List<MessageQueue> queues = env.queues(prefix + "-ordered");

        List<Attempt> kinds = List.of(
            number -> transaction(asking, number),
            number -> timer(producer, number),
            number -> ordered(producer, queues, number),
            number -> acknowledged(producer.send(message("retry", number, "retry " + number)), retryAcked, "retry " + number));
        long end = System.nanoTime() + seconds * 1_000_000_000L;
        List<Thread> workers = new ArrayList<>();
        for (Attempt kind : kinds) {
            Thread t = new Thread(() -> produce(kind, end));
            t.start();
            workers.add(t);
        }
        Check.until(60, () -> transactions.distinct() > 5 && !timersStored.isEmpty() && ordered.size() == QUEUES && retryAgain.size() > 5, "first messages of each kind through");
        System.out.println("RUNNING");
        System.out.flush();
        for (Thread t : workers) {
            t.join();
        }
        try {
            Check.until(DRAIN_S, () -> lost().isEmpty(), "all came");
        } catch (Check.Failed e) {
            System.err.println("not everything came within " + DRAIN_S + " s");
        }
        return report();
    }

    /** What was acknowledged, is to be delivered, and was not. */
    private List<String> lost() {
        List<String> lost = new ArrayList<>();
        halves.stream().filter(h -> isCommitted(h) && transactions.of(h).isEmpty()).forEach(lost::add);
        timersDue.keySet().stream().filter(t -> !timersStored.containsKey(t)).forEach(lost::add);
        retryAcked.stream().filter(r -> !retryAgain.contains(r)).forEach(lost::add);
        Set<String> came = ConcurrentHashMap.newKeySet();
        ordered.forEach((queue, numbers) -> {
            synchronized (numbers) {
                numbers.forEach(n -> came.add("ordered " + queue + " " + n));
            }
        });
        orderedAcked.stream().filter(o -> !came.contains(o)).forEach(lost::add);
        return lost;
    }

    private String report() {
        List<String> lost = lost();
        lost.stream().limit(20).forEach(k -> System.err.println("lost: " + k));
        new TreeMap<>(errors).forEach((k, v) -> System.err.printf("%8d x %s%n", v.get(), k));
        long undone = transactions.all().stream().map(Seen::body).filter(b -> !isCommitted(b)).distinct().count();
        long late = timersDue.keySet().stream().filter(timersStored::containsKey).mapToLong(t -> timersStored.get(t) - timersDue.get(t)).max().orElse(0);
        String line = String.format("poll_ms=%d half_messages=%d timers=%d timers_late_ms=%d ordered=%d retried=%d lost=%d rolled_back_but_seen=%d early=%d failed_sends=%d",
            pollMs, halves.size(), timersDue.size(), late, orderedAcked.size(), retryAcked.size(), lost.size(), undone, early.get(), failed.get());
        Check.that(lost.isEmpty(), "acknowledged messages are lost: %s", line);
        Check.same(undone, 0L, "messages that were rolled back and delivered: " + line);
        Check.same(early.get(), 0L, "timers that came early: " + line);
        Check.that(late < TIMER_LATE_MS, "a timer is late: %s", line);
        ordered.forEach((queue, numbers) -> {
            long last = -1;
            Set<Long> before = ConcurrentHashMap.newKeySet();
            for (long n : numbers) {
                if (before.add(n)) {
                    Check.that(n > last, "queue %d: %d came first after %d", queue, n, last);
                    last = n;
                }
            }
        });
        double plausible = 0.3 * rate * seconds;
        Check.that(Math.min(Math.min(halves.size(), timersDue.size()), Math.min(orderedAcked.size(), retryAcked.size())) >= plausible, "too few of a kind: %s", line);
        return line;
    }

    private void produce(Attempt kind, long end) {
        long due = System.nanoTime();
        for (long number = 0; System.nanoTime() < end; number++) {
            LockSupport.parkNanos(due - System.nanoTime());
            due = Math.max(due, System.nanoTime() - 100_000_000L) + (long) (1e9 / rate);
            while (!attempt(kind, number) && System.nanoTime() < end + LAST_TRIES_S * 1_000_000_000L) {
                LockSupport.parkNanos(ThreadLocalRandom.current().nextLong(10_000_000L, 100_000_000L));
            }
        }
    }

    private boolean attempt(Attempt kind, long number) {
        try {
            return kind.run(number);
        } catch (Exception e) {
            failed.incrementAndGet();
            String what = e.getClass().getSimpleName() + ": " + String.valueOf(e.getMessage()).lines().findFirst().orElse("").replaceAll("[0-9]+", "#");
            errors.computeIfAbsent(what.substring(0, Math.min(160, what.length())), k -> new AtomicLong()).incrementAndGet();
            return false;
        }
    }

    private Message message(String kind, long number, String body) {
        return new Message(prefix + "-" + kind, "", "k" + number, body.getBytes(StandardCharsets.UTF_8));
    }

    private static boolean acknowledged(SendResult r, Set<String> into, String what) {
        if (r.getSendStatus() != SendStatus.SEND_OK) {
            return false;
        }
        into.add(what);
        return true;
    }

    private static boolean isCommitted(String body) {
        return body.startsWith("commit") || body.startsWith("open-commit");
    }

    private boolean transaction(TransactionMQProducer p, long number) throws Exception {
        String body = KINDS[(int) (number % KINDS.length)] + " " + number;
        return acknowledged(p.sendMessageInTransaction(message("tx", number, body), null), halves, body);
    }

    private static TransactionListener listener() {
        return new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message m, Object what) {
                String body = new String(m.getBody(), StandardCharsets.UTF_8);
                return body.startsWith("open") ? LocalTransactionState.UNKNOW : state(body);
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt m) {
                return state(Seen.body(m));
            }

            private LocalTransactionState state(String body) {
                return isCommitted(body) ? LocalTransactionState.COMMIT_MESSAGE : LocalTransactionState.ROLLBACK_MESSAGE;
            }
        };
    }

    private boolean timer(DefaultMQProducer p, long number) throws Exception {
        String body = "timer " + number;
        Message m = message("timers", number, body);
        long delay = ThreadLocalRandom.current().nextLong(2_000, 20_000);
        long due = System.currentTimeMillis() + delay;
        MessageAccessor.putProperty(m, "TIMER_DELIVER_MS", String.valueOf(due));
        if (p.send(m).getSendStatus() != SendStatus.SEND_OK) {
            return false;
        }
        timersDue.put(body, due);
        return true;
    }

    private boolean ordered(DefaultMQProducer p, List<MessageQueue> queues, long number) throws Exception {
        MessageQueue queue = queues.get((int) (number % queues.size()));
        SendResult r = p.send(message("ordered", number, queue.getQueueId() + " " + number), (all, m, arg) -> queue, null);
        return acknowledged(r, orderedAcked, "ordered " + queue.getQueueId() + " " + number);
    }

    private void consume(Env env) throws Exception {
        concurrently(env, "tx", (msgs, context) -> {
            msgs.forEach(transactions::add);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        concurrently(env, "timers", (msgs, context) -> {
            for (MessageExt m : msgs) {
                Long due = timersDue.get(Seen.body(m));
                if (due != null && System.currentTimeMillis() < due) {
                    early.incrementAndGet();
                }
                timersStored.putIfAbsent(Seen.body(m), m.getStoreTimestamp());
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        concurrently(env, "retry", (msgs, context) -> {
            String body = Seen.body(msgs.get(0));
            if (msgs.get(0).getReconsumeTimes() > 0) {
                retryAgain.add(body);
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            }
            context.setDelayLevelWhenNextConsume(1);
            return ConsumeConcurrentlyStatus.RECONSUME_LATER;
        });
        DefaultMQPushConsumer c = consumer(env, "ordered");
        c.registerMessageListener((MessageListenerOrderly) (msgs, context) -> {
            for (MessageExt m : msgs) {
                String[] words = Seen.body(m).split(" ");
                List<Long> numbers = ordered.computeIfAbsent(Integer.parseInt(words[0]), k -> new ArrayList<>());
                synchronized (numbers) {
                    numbers.add(Long.parseLong(words[1]));
                }
            }
            return ConsumeOrderlyStatus.SUCCESS;
        });
        Env.start(c);
    }

    private void concurrently(Env env, String kind, MessageListenerConcurrently listener) throws Exception {
        DefaultMQPushConsumer c = consumer(env, kind);
        c.registerMessageListener(listener);
        Env.start(c);
    }

    private DefaultMQPushConsumer consumer(Env env, String kind) throws Exception {
        DefaultMQPushConsumer c = env.push(prefix + "-" + kind + "-group");
        c.setPollNameServerInterval(pollMs);
        c.subscribe(prefix + "-" + kind, "*");
        return c;
    }
}
