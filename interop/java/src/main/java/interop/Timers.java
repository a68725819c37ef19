package interop;

import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;

/** Messages with a time of their own (TIMER_DELAY_MS, TIMER_DELAY_SEC, TIMER_DELIVER_MS): once, at their time, not before. */
final class Timers implements Scenario {
    private static final int MESSAGES = 40;
    /** How much later than asked a message may be stored to be consumed, ms. When it arrives says more of a young JVM than of the broker. */
    private static final long LATE_MS = 3_000;

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", 4);
        Map<String, Long> at = new ConcurrentHashMap<>();
        Map<String, Long> stored = new ConcurrentHashMap<>();
        Seen seen = new Seen();
        env.push(env.name("g"), topic, "*", (msgs, context) -> {
            msgs.forEach(m -> at.putIfAbsent(Seen.body(m), System.currentTimeMillis()));
            msgs.forEach(m -> stored.putIfAbsent(Seen.body(m), m.getStoreTimestamp()));
            msgs.forEach(seen::add);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        Map<String, Long> due = new ConcurrentHashMap<>();
        for (int i = 0; i < MESSAGES; i++) {
            String body = "timer " + i;
            Message m = new Message(topic, body.getBytes(StandardCharsets.UTF_8));
            long now = System.currentTimeMillis();
            long delay = 250L * i;
            switch (i % 3) {
                case 0: MessageAccessor.putProperty(m, "TIMER_DELAY_MS", String.valueOf(delay)); break;
                case 1: MessageAccessor.putProperty(m, "TIMER_DELIVER_MS", String.valueOf(now + delay)); break;
                default: MessageAccessor.putProperty(m, "TIMER_DELAY_SEC", String.valueOf(delay / 1000)); delay = delay / 1000 * 1000; break;
            }
            due.put(body, now + delay);
            env.producer().send(m);
        }
        Check.until(60, () -> seen.distinct() >= MESSAGES, "all %d timers, not %s", MESSAGES, at.keySet());
        Thread.sleep(1_000);
        Check.same(seen.deliveries(), MESSAGES, "deliveries");
        long worst = 0;
        for (Map.Entry<String, Long> e : due.entrySet()) {
            long early = e.getValue() - at.get(e.getKey());
            Check.that(early <= 0, "<%s> came %d ms early", e.getKey(), early);
            long late = stored.get(e.getKey()) - e.getValue();
            Check.that(late < LATE_MS, "<%s> came %d ms late", e.getKey(), late);
            worst = Math.max(worst, late);
        }
        return "messages=" + MESSAGES + " latest_ms=" + worst;
    }
}
