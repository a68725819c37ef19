package interop;

import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * A group that consumes and whose offsets are set back, late in the run, to a time before the leader was killed: what was sent after
 * that time and consumed already comes once more.
 */
final class LoadReset extends Load {
    /** When in the run the offsets are set back, as a share of it, and to which time. */
    private static final double RESET_AT = 0.75;
    private static final double RESET_TO = 0.1;
    /** Between a client's clock and what a broker stores, ms. */
    private static final long MARGIN_MS = 1_000;

    private final long toMs;
    private final long atMs;
    private final Map<String, Long> sentAt = new ConcurrentHashMap<>();
    private final Map<String, AtomicLong> deliveries = new ConcurrentHashMap<>();
    /** What must come again, with how often it had come when the offsets were set back. */
    private final Map<String, Long> again = new ConcurrentHashMap<>();
    private boolean reset;
    private DefaultMQProducer producer;
    private DefaultMQAdminExt admin;

    LoadReset(FailoverFeatures run) {
        super(run, "reset", 0.4);
        long now = System.currentTimeMillis();
        toMs = now + (long) (RESET_TO * 1_000 * run.seconds());
        atMs = now + (long) (RESET_AT * 1_000 * run.seconds());
    }

    @Override
    void start(Env env) throws Exception {
        producer = started(env, new DefaultMQProducer(topic + "-producer"));
        admin = env.admin();
        consume(env, (msgs, context) -> {
            for (MessageExt m : msgs) {
                deliveries.computeIfAbsent(Seen.body(m), k -> new AtomicLong()).incrementAndGet();
            }
            takeAll(msgs);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
    }

    @Override
    boolean attempt(long number) throws Exception {
        if (!reset && System.currentTimeMillis() > atMs) {
            Set<String> before = new HashSet<>(came);
            Map<String, Long> times = new ConcurrentHashMap<>();
            before.forEach(b -> times.put(b, deliveries.get(b).get()));
            Map<MessageQueue, Long> offsets = admin.resetOffsetByTimestamp(topic, group, toMs, true);
            if (offsets.size() != QUEUES) {
                throw new IllegalStateException("offsets of " + offsets.size() + " queues were set back");
            }
            before.stream().filter(b -> sentAt.getOrDefault(b, 0L) > toMs + MARGIN_MS).forEach(b -> again.put(b, times.get(b)));
            reset = true;
        }
        String body = "reset " + number;
        long now = System.currentTimeMillis();
        boolean done = acknowledged(producer.send(message(number, body)), body);
        if (done) {
            sentAt.put(body, now);
        }
        return done;
    }

    @Override
    List<String> lost() {
        List<String> twice = again.keySet().stream().filter(b -> deliveries.get(b).get() <= again.get(b)).map(b -> "after the reset: " + b).toList();
        return twice.isEmpty() ? super.lost() : twice;
    }

    @Override
    void verify(Env env, String line) {
        Check.that(again.size() > 20, "only %d messages to come again after the reset: %s", again.size(), line);
    }

    @Override
    String figures() {
        return super.figures() + " again_after_reset=" + again.size();
    }
}
