package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.common.message.Message;

/** Two broadcasting consumers of one group each get every message. */
final class Broadcasting implements Scenario {
    private static final int MESSAGES = 60;

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", 4);
        List<Seen> seen = List.of(new Seen(), new Seen());
        for (Seen s : seen) {
            DefaultMQPushConsumer c = env.push(env.name("g"));
            Line.broadcasting(c);
            c.subscribe(topic, "*");
            c.registerMessageListener(s.listener());
            Env.start(c);
        }
        List<String> bodies = new ArrayList<>();
        for (int i = 0; i < MESSAGES; i++) {
            bodies.add("broadcast " + i);
            env.producer().send(new Message(topic, bodies.get(i).getBytes(StandardCharsets.UTF_8)));
        }
        for (Seen s : seen) {
            Check.until(30, () -> s.hasAll(bodies), "every consumer gets all %d messages", MESSAGES);
        }
        Thread.sleep(500);
        for (Seen s : seen) {
            Check.same(s.deliveries(), MESSAGES, "deliveries to each consumer");
        }
        return "messages=" + MESSAGES + " consumers=" + seen.size();
    }
}
