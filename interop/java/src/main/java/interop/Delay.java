package interop;

import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Messages sent with a delay level come at their time, not before, and as themselves. */
final class Delay implements Scenario {
    /**
     * Level to its delay, ms: of the default messageDelayLevel, or of the cluster's own when INTEROP_DELAY_LEVELS has it, in seconds with
     * blanks between them. What is beyond the last of these is as long as the last.
     */
    private static final Map<Integer, Long> LEVELS = levels(System.getenv("INTEROP_DELAY_LEVELS"));
    private static final int EACH = 5;
    /** How much later than asked a message may come, ms. */
    private static final long LATE_MS = 6_000;

    private static Map<Integer, Long> levels(String own) {
        if (own == null) {
            return Map.of(0, 0L, 1, 1_000L, 2, 5_000L);
        }
        Map<Integer, Long> levels = new TreeMap<>(Map.of(0, 0L));
        String[] words = own.trim().split(" +");
        for (int i = 0; i < words.length; i++) {
            levels.put(i + 1, 1_000 * Long.parseLong(words[i]));
        }
        levels.put(words.length + 7, levels.get(words.length));
        return levels;
    }

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", 4);
        Map<String, Long> at = new ConcurrentHashMap<>();
        Map<String, MessageExt> got = new ConcurrentHashMap<>();
        env.push(env.name("g"), topic, "delayed", (msgs, context) -> {
            for (MessageExt m : msgs) {
                at.put(Seen.body(m), System.currentTimeMillis());
                got.put(Seen.body(m), m);
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        Map<String, Long> sent = new ConcurrentHashMap<>();
        Map<String, String> ids = new ConcurrentHashMap<>();
        for (int level : LEVELS.keySet()) {
            for (int i = 0; i < EACH; i++) {
                String body = level + " " + i;
                Message m = new Message(topic, "delayed", "k" + i, body.getBytes(StandardCharsets.UTF_8));
                m.setDelayTimeLevel(level);
                m.putUserProperty("mine", body);
                sent.put(body, System.currentTimeMillis());
                SendResult r = env.producer().send(m);
                Check.same(r.getSendStatus(), SendStatus.SEND_OK, "status of a delayed send");
                ids.put(body, r.getMsgId());
            }
        }
        Check.until(25, () -> got.size() >= sent.size(), "all %d delayed messages, not %s", sent.size(), got.keySet());
        long worst = 0;
        for (String body : sent.keySet()) {
            long delay = LEVELS.get(Integer.parseInt(body.split(" ")[0]));
            long took = at.get(body) - sent.get(body);
            Check.that(took >= delay - 100, "level with %d ms came after %d ms", delay, took);
            Check.that(took < delay + LATE_MS, "level with %d ms came after %d ms", delay, took);
            worst = Math.max(worst, took - delay);
            Check.same(got.get(body).getTopic(), topic, "topic of a delayed message");
            Check.same(got.get(body).getMsgId(), ids.get(body), "msgId of a delayed message");
            Check.same(got.get(body).getProperty("mine"), body, "property of a delayed message");
        }
        return "messages=" + sent.size() + " latest_ms=" + worst;
    }
}
