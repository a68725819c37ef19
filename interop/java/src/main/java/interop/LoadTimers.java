package interop;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageExt;

/** Messages for later, by a time of their own or by delay level 2: none is early, none is much too late. */
final class LoadTimers extends Load {
    /** How much later than asked a message may be stored to be consumed, ms, beside the time without a leader. */
    private static final long LATE_MS = 10_000;
    private static final int LEVEL = 2;
    /** The default delay of the level, ms. */
    private static final long LEVEL_MS = 5_000;

    private final FailoverFeatures run;
    private final boolean byLevel;
    /** What was acknowledged. */
    private final Map<String, Long> due = new ConcurrentHashMap<>();
    /** The earliest of all attempts: one whose answer was lost may have been stored, and is due before the one that was acknowledged. */
    private final Map<String, Long> earliest = new ConcurrentHashMap<>();
    private final Map<String, Long> stored = new ConcurrentHashMap<>();
    private final AtomicLong early = new AtomicLong();
    private DefaultMQProducer producer;

    /** Times of their own, 2 to 20 s ahead. */
    static LoadTimers timers(FailoverFeatures run) {
        return new LoadTimers(run, "timers", false);
    }

    static LoadTimers levels(FailoverFeatures run) {
        return new LoadTimers(run, "delays", true);
    }

    private LoadTimers(FailoverFeatures run, String kind, boolean byLevel) {
        super(run, kind, 1);
        this.run = run;
        this.byLevel = byLevel;
    }

    @Override
    void start(Env env) throws Exception {
        producer = started(env, new DefaultMQProducer(topic + "-producer"));
        consume(env, (msgs, context) -> {
            for (MessageExt m : msgs) {
                Long at = earliest.get(Seen.body(m));
                if (at != null && System.currentTimeMillis() < at) {
                    early.incrementAndGet();
                }
                stored.putIfAbsent(Seen.body(m), m.getStoreTimestamp());
            }
            takeAll(msgs);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
    }

    @Override
    boolean attempt(long number) throws Exception {
        String body = kind + " " + number;
        Message m = message(number, body);
        long at = System.currentTimeMillis() + (byLevel ? LEVEL_MS : ThreadLocalRandom.current().nextLong(2_000, 20_000));
        if (byLevel) {
            m.setDelayTimeLevel(LEVEL);
        } else {
            MessageAccessor.putProperty(m, "TIMER_DELIVER_MS", String.valueOf(at));
        }
        earliest.merge(body, at, Math::min);
        boolean done = acknowledged(producer.send(m), body);
        if (done) {
            due.put(body, at);
        }
        return done;
    }

    private long late() {
        return due.keySet().stream().filter(stored::containsKey).mapToLong(t -> stored.get(t) - due.get(t)).max().orElse(0);
    }

    @Override
    void verify(Env env, String line) {
        Check.same(early.get(), 0L, kind + " that came early: " + line);
        Check.that(late() < LATE_MS + run.gapMs(), "one of %s is late: %s", kind, line);
    }

    @Override
    String figures() {
        return super.figures() + " " + kind + "_late_ms=" + late();
    }
}
