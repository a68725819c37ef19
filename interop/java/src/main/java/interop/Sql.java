package interop;

import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** SQL92 subscriptions by several groups on one topic: numbers, strings, what is missing, and a selector beside a long poll. */
final class Sql implements Scenario {
    private static final int MESSAGES = 60;

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", 4);
        Map<String, Integer> want = new LinkedHashMap<>();
        want.put("n BETWEEN 0 AND 9", 10);
        want.put("n >= 50 OR color = 'blue'", 10 + 25);
        want.put("color IS NULL", 0);
        want.put("even IS NOT NULL AND NOT (color IN ('blue', 'green'))", 0);
        want.put("even = TRUE AND TAGS = 'red'", 0);
        want.put("color CONTAINS 'ee' AND n > 9", 25);
        want.put("color > 3", 0);
        Map<String, Seen> groups = new LinkedHashMap<>();
        int g = 0;
        for (String expression : want.keySet()) {
            Seen seen = new Seen();
            groups.put(expression, seen);
            DefaultMQPushConsumer consumer = env.push(env.name("g" + g++));
            consumer.subscribe(topic, MessageSelector.bySql(expression));
            consumer.registerMessageListener(seen.listener());
            Env.start(consumer);
        }
        for (int i = 0; i < MESSAGES; i++) {
            Message message = new Message(topic, "tag", ("sql " + i).getBytes(StandardCharsets.UTF_8));
            message.putUserProperty("n", String.valueOf(i));
            message.putUserProperty("color", i % 2 == 0 ? "blue" : "green");
            if (i % 2 == 0) {
                message.putUserProperty("even", "true");
            }
            env.producer().send(message);
        }
        for (Map.Entry<String, Seen> e : groups.entrySet()) {
            int n = want.get(e.getKey());
            Check.until(30, () -> e.getValue().distinct() >= n, "<%s> gets %d messages", e.getKey(), n);
        }
        Thread.sleep(500);
        for (Map.Entry<String, Seen> e : groups.entrySet()) {
            Check.same(e.getValue().deliveries(), want.get(e.getKey()), "deliveries for <" + e.getKey() + ">");
            for (MessageExt m : e.getValue().all()) {
                int n = Integer.parseInt(m.getUserProperty("n"));
                Check.same(Seen.body(m), "sql " + n, "body");
            }
        }
        return "expressions=" + want.size() + " messages=" + MESSAGES;
    }
}
