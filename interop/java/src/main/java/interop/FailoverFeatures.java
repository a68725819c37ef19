package interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;

/**
 * Every feature with a steady load of its own while something outside kills the leader: what was acknowledged and is to be delivered
 * comes, and each {@link Load} says what else must hold. Wants transactionTimeOut and transactionCheckInterval of a few seconds,
 * enablePropertyFilter and recallMessageEnable. Prints RUNNING when all are under way.
 */
final class FailoverFeatures implements Scenario {
    /** How long a message may still be tried after the end of the run, s. */
    private static final int LAST_TRIES_S = 60;
    private static final int DRAIN_S = 120;
    /** The share of its rate that each load must reach while there is a leader. */
    private static final double PLAUSIBLE = 0.2;

    private final int seconds;
    private final double rate;
    private final int pollMs;
    private final String prefix;
    private final AtomicLong failed = new AtomicLong();
    private final AtomicLong abandoned = new AtomicLong();
    private final AtomicLong lastNs = new AtomicLong();
    private final AtomicLong gapNs = new AtomicLong();
    private final Map<String, AtomicLong> errors = new ConcurrentHashMap<>();

    private FailoverFeatures(int seconds, double rate, int pollMs, String prefix) {
        this.seconds = seconds;
        this.rate = rate;
        this.pollMs = pollMs;
        this.prefix = prefix;
    }

    /** SECONDS RATE POLL_MS PREFIX; the rate is that of a load with a share of 1, per second; topics and groups begin with PREFIX. */
    static FailoverFeatures parse(String[] a) {
        if (a.length != 4) {
            System.err.println("usage: failover-features SECONDS RATE POLL_MS PREFIX");
            System.exit(2);
        }
        return new FailoverFeatures(Integer.parseInt(a[0]), Double.parseDouble(a[1]), Integer.parseInt(a[2]), a[3]);
    }

    int seconds() {
        return seconds;
    }

    int pollMs() {
        return pollMs;
    }

    String prefix() {
        return prefix;
    }

    /** The longest time in which nothing of any load was acknowledged, ms. */
    long gapMs() {
        return gapNs.get() / 1_000_000;
    }

    @Override
    public String run(Env env) throws Exception {
        List<Load> loads = List.of(new LoadTransactions(this), LoadTimers.timers(this), LoadTimers.levels(this), new LoadRecalls(this), new LoadOrdered(this),
            LoadRetries.once(this), LoadRetries.deadLetters(this), new LoadRequests(this), new LoadFilters(this), new LoadReset(this));
        for (Load load : loads) {
            Line.createTopic(env.producer(), Env.CREATE_KEY, load.topic, Load.QUEUES);
            Check.until(30, () -> env.producer().fetchPublishMessageQueues(load.topic).size() >= Load.QUEUES, "route of %s", load.topic);
            load.start(env);
        }
        lastNs.set(System.nanoTime());
        long end = lastNs.get() + seconds * 1_000_000_000L;
        List<Thread> workers = new ArrayList<>();
        for (Load load : loads) {
            Thread t = new Thread(() -> produce(load, end), load.kind);
            t.start();
            workers.add(t);
        }
        Check.until(60, () -> loads.stream().allMatch(Load::underWay), "first messages of each kind through");
        System.out.println("RUNNING");
        System.out.flush();
        for (Thread t : workers) {
            t.join();
        }
        try {
            Check.until(DRAIN_S, () -> loads.stream().allMatch(l -> l.lost().isEmpty()), "all came");
        } catch (Check.Failed e) {
            System.err.println("not everything came within " + DRAIN_S + " s");
        }
        return report(env, loads);
    }

    private String report(Env env, List<Load> loads) throws Exception {
        List<String> lost = new ArrayList<>();
        loads.forEach(l -> l.lost().forEach(what -> lost.add(l.kind + ": " + what)));
        lost.stream().limit(20).forEach(k -> System.err.println("lost: " + k));
        new TreeMap<>(errors).forEach((k, v) -> System.err.printf("%8d x %s%n", v.get(), k));
        StringBuilder figures = new StringBuilder("poll_ms=" + pollMs);
        loads.forEach(l -> figures.append(' ').append(l.figures()));
        String line = figures + " lost=" + lost.size() + " failed_sends=" + failed.get() + " abandoned=" + abandoned.get() + " longest_gap_ms=" + gapMs();
        Check.that(lost.isEmpty(), "acknowledged messages are lost: %s", line);
        Check.same(abandoned.get(), 0L, "numbers that were never done with: " + line);
        for (Load load : loads) {
            load.verify(env, line);
            Check.that(load.done.get() >= PLAUSIBLE * rate * load.share * (seconds - gapMs() / 1_000.0), "too few of %s: %d: %s", load.kind, load.done.get(), line);
        }
        return line;
    }

    private void produce(Load load, long end) {
        long due = System.nanoTime();
        for (long number = 0; System.nanoTime() < end; number++) {
            LockSupport.parkNanos(due - System.nanoTime());
            due = Math.max(due, System.nanoTime() - 100_000_000L) + (long) (1e9 / (rate * load.share));
            boolean done = attempt(load, number);
            while (!done && System.nanoTime() < end + LAST_TRIES_S * 1_000_000_000L) {
                LockSupport.parkNanos(ThreadLocalRandom.current().nextLong(10_000_000L, 100_000_000L));
                done = attempt(load, number);
            }
            (done ? load.done : abandoned).incrementAndGet();
            long now = System.nanoTime();
            gapNs.accumulateAndGet(now - lastNs.getAndSet(now), Math::max);
        }
    }

    private boolean attempt(Load load, long number) {
        try {
            return load.attempt(number);
        } catch (Exception e) {
            failed.incrementAndGet();
            Throwable why = e.getCause() == null ? e : e.getCause();
            String what = load.kind + ": " + why.getClass().getSimpleName() + ": " + String.valueOf(why.getMessage()).lines().findFirst().orElse("").replaceAll("[0-9]+", "#");
            errors.computeIfAbsent(what.substring(0, Math.min(160, what.length())), k -> new AtomicLong()).incrementAndGet();
            return false;
        }
    }
}
