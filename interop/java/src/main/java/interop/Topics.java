package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/** Topics that nobody made: the first send makes one, with the producer's defaultTopicQueueNums; MQAdmin.createTopic with its own. */
final class Topics implements Scenario {
    /** The producer's default for topics made by a send. */
    private static final int AUTO_QUEUES = 4;
    private static final int CREATED_QUEUES = 6;

    @Override
    public String run(Env env) throws Exception {
        String auto = env.name("auto");
        try {
            env.queues(auto);
            throw new Check.Failed("the route of a topic that does not exist was found");
        } catch (MQClientException e) {
            // the name server's answer 17 becomes a client exception
        }
        List<String> bodies = new ArrayList<>();
        for (int i = 0; i < 10; i++) {
            bodies.add("auto " + i);
            SendResult r = env.producer().send(new Message(auto, bodies.get(i).getBytes(StandardCharsets.UTF_8)));
            Check.same(r.getSendStatus(), SendStatus.SEND_OK, "send to a topic that does not exist");
            Check.that(r.getMessageQueue().getQueueId() < AUTO_QUEUES, "queue %s", r.getMessageQueue());
        }
        // Only the brokers that were sent to have the topic at once
        Check.until(30, () -> onFirstBroker(env, auto) == AUTO_QUEUES, "%d queues of the auto-created topic", AUTO_QUEUES);
        Seen seen = new Seen();
        env.push(env.name("g"), auto, "*", seen.listener());
        Check.until(30, () -> seen.hasAll(bodies), "all messages of the auto-created topic");

        String created = env.topic("created", CREATED_QUEUES);
        Check.same(onFirstBroker(env, created), (long) CREATED_QUEUES, "queues of a created topic");
        Check.same(env.producer().send(new Message(created, new byte[] {1})).getSendStatus(), SendStatus.SEND_OK, "send to a created topic");
        // once more with more queues: the topic is changed
        Line.createTopic(env.producer(), Env.CREATE_KEY, created, CREATED_QUEUES + 2);
        Check.until(30, () -> onFirstBroker(env, created) == CREATED_QUEUES + 2, "more queues");
        return "auto_queues=" + AUTO_QUEUES + " created_queues=" + CREATED_QUEUES;
    }

    private static long onFirstBroker(Env env, String topic) throws Exception {
        List<MessageQueue> l = env.queues(topic);
        return l.stream().filter(q -> q.getBrokerName().equals(l.get(0).getBrokerName())).count();
    }
}
