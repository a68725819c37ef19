package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.common.message.Message;

/** A consumer group goes on where it stopped: nothing again, nothing lost. */
final class Restart implements Scenario {
    private static final int ROUNDS = 3;
    private static final int MESSAGES = 40;

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", 4);
        Seen seen = new Seen();
        List<String> bodies = new ArrayList<>();
        for (int round = 0; round < ROUNDS; round++) {
            DefaultMQPushConsumer c = env.push(env.name("g"), topic, "*", seen.listener());
            send(env, topic, bodies, "while up " + round);
            Check.until(30, () -> seen.hasAll(bodies), "all of round %d, without %s", round, seen.missing(bodies));
            // What the listener has seen counts as consumed only when it has returned, some threads later.
            Thread.sleep(1_000);
            // stopping commits the offsets
            c.shutdown();
            send(env, topic, bodies, "while down " + round);
        }
        env.push(env.name("g"), topic, "*", seen.listener());
        Check.until(30, () -> seen.hasAll(bodies), "all after the last start");
        Thread.sleep(1_000);
        Check.same(seen.deliveries(), bodies.size(), "deliveries over " + ROUNDS + " restarts");
        return "messages=" + bodies.size() + " restarts=" + ROUNDS;
    }

    private static void send(Env env, String topic, List<String> bodies, String what) throws Exception {
        for (int i = 0; i < MESSAGES; i++) {
            String body = what + " " + i;
            bodies.add(body);
            env.producer().send(new Message(topic, body.getBytes(StandardCharsets.UTF_8)));
        }
    }
}
