package interop;

import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Tag subscriptions by several groups on one topic: one tag, two tags, all, and two tags with one hash code ("Aa" and "BB"
 * are equal in Java), which the broker cannot tell apart and the client must.
 */
final class Tags implements Scenario {
    private static final String[] TAGS = {"a", "b", "c", "Aa", "BB", null};
    private static final int EACH = 20;

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", 4);
        Map<String, Seen> groups = new LinkedHashMap<>();
        Map<String, Integer> want = Map.of("*", EACH * TAGS.length, "a || b", 2 * EACH, "c", EACH, "Aa", EACH, "none", 0);
        int g = 0;
        for (String expression : want.keySet()) {
            Seen s = new Seen();
            groups.put(expression, s);
            env.push(env.name("g" + g++), topic, expression, s.listener());
        }
        for (int i = 0; i < EACH; i++) {
            for (String tag : TAGS) {
                env.producer().send(new Message(topic, tag, ("tag " + tag + " " + i).getBytes(StandardCharsets.UTF_8)));
            }
        }
        for (Map.Entry<String, Seen> e : groups.entrySet()) {
            int n = want.get(e.getKey());
            Check.until(30, () -> e.getValue().distinct() >= n, "<%s> gets %d messages", e.getKey(), n);
        }
        Thread.sleep(500);
        for (Map.Entry<String, Seen> e : groups.entrySet()) {
            Check.same(e.getValue().deliveries(), want.get(e.getKey()), "deliveries for <" + e.getKey() + ">");
            for (MessageExt m : e.getValue().all()) {
                Check.that(Seen.body(m).startsWith("tag " + m.getTags() + " "), "tag %s on <%s>", m.getTags(), Seen.body(m));
            }
        }
        return "expressions=" + want.size() + " messages=" + EACH * TAGS.length;
    }
}
