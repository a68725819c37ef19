package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * Requests that must be refused, through the client's own API: the exception and its code are those that Apache RocketMQ 5.3.3
 * gives. The client's limits are raised so that the broker has to refuse. A good send follows each group: the connection lives on.
 */
final class BadInput implements Scenario {
    /** maxMessageSize of a broker by default, bytes. */
    private static final int MAX_BODY = 4 * 1024 * 1024;

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", 2);
        MessageQueue q = env.queues(topic).get(0);
        DefaultMQAdminExt admin = env.admin();
        String master = env.masterOf(admin, q);
        DefaultMQProducer p = env.producer();
        p.setMaxMessageSize(64 * 1024 * 1024);
        byte[] one = {1};
        Answers a = new Answers();

        a.of("send: illegal topic", "MQClientException -1", () -> p.send(new Message("bad topic!", one)));
        a.of("send: topic of 128 characters", "MQClientException -1", () -> p.send(new Message("t".repeat(128), one)));
        a.of("send: empty body", "MQClientException 13", () -> p.send(new Message(topic, new byte[0])));
        byte[] big = new byte[MAX_BODY + 1];
        new Random(2).nextBytes(big);
        a.of("send: body over maxMessageSize", "MQBrokerException 13", () -> p.send(new Message(topic, big)));
        a.of("send: queue id out of range", "MQBrokerException 29", () -> p.send(new Message(topic, one), new MessageQueue(topic, q.getBrokerName(), 99)));
        a.of("send: negative queue id", "none", () -> p.send(new Message(topic, one), new MessageQueue(topic, q.getBrokerName(), -1)));
        a.of("send: no such broker", "MQClientException -1", () -> p.send(new Message(topic, one), new MessageQueue(topic, "no-such-broker", 0)));
        Message properties = new Message(topic, one);
        properties.putUserProperty("long", "x".repeat(40_000));
        a.of("send: properties too long", "MQBrokerException 13", () -> p.send(properties));
        Message far = new Message(topic, one);
        MessageAccessor.putProperty(far, "TIMER_DELAY_SEC", "320000000");
        a.of("send: timer too far ahead", "MQBrokerException 13", () -> p.send(far));
        Message never = new Message(topic, one);
        MessageAccessor.putProperty(never, "TIMER_DELIVER_MS", "tomorrow");
        a.of("send: timer without a time", "MQBrokerException 13", () -> p.send(never));
        a.of("send: system topic", "MQClientException -1", () -> p.send(new Message("SCHEDULE_TOPIC_XXXX", one)));
        List<Message> batch = new ArrayList<>();
        for (int i = 0; i < 5; i++) {
            batch.add(new Message(topic, new byte[MAX_BODY / 4]));
        }
        a.of("send: batch over maxMessageSize", "MQClientException 1|MQBrokerException 13", () -> p.send(batch));
        Check.same(p.send(new Message(topic, one)).getSendStatus(), SendStatus.SEND_OK, "a good send after the bad ones");

        DefaultMQPullConsumer c = env.pull(env.name("g"));
        a.of("pull: queue id out of range", "MQBrokerException 29", () -> c.pull(new MessageQueue(topic, q.getBrokerName(), 99), "*", 0, 1));
        a.of("pull: unknown topic", "MQClientException -1", () -> c.fetchSubscribeMessageQueues(env.name("unknown")));
        a.of("pull: topic without a route", "MQBrokerException 17", () -> c.pull(new MessageQueue(env.name("unknown"), q.getBrokerName(), 0), "*", 0, 1));
        a.of("max offset: unknown topic", "none", () -> c.maxOffset(new MessageQueue(env.name("unknown"), q.getBrokerName(), 0)));
        a.of("view: offset id of no message", "MQClientException 208", () -> c.viewMessage(topic,
            p.send(new Message(topic, one)).getOffsetMsgId().substring(0, 16) + "00000FFFFFFFFFFF"));

        a.of("createTopic: illegal", "MQClientException -1", () -> {
            Line.createTopic(p, Env.CREATE_KEY, "bad topic!", 1);
            return null;
        });
        a.of("updateTopic: illegal", "MQClientException 29", () -> update(admin, master, "bad*topic"));
        a.of("updateTopic: 128 characters", "MQClientException 29", () -> update(admin, master, "t".repeat(128)));
        a.of("updateTopic: system topic", "MQClientException 29", () -> update(admin, master, "SCHEDULE_TOPIC_XXXX"));
        a.of("subscribe: an SQL92 expression that is none", "MQClientException 23", () -> {
            DefaultMQPushConsumer sql = env.push(env.name("sql"));
            sql.subscribe(topic, MessageSelector.bySql("a >"));
            sql.registerMessageListener(new Seen().listener());
            sql.start();
            return null;
        });
        Check.same(p.send(new Message(topic, "last".getBytes(StandardCharsets.UTF_8))).getSendStatus(), SendStatus.SEND_OK, "a good send after all");
        return a.done();
    }

    private static Object update(DefaultMQAdminExt admin, String broker, String topic) throws Exception {
        TopicConfig t = new TopicConfig(topic);
        admin.createAndUpdateTopicConfig(broker, t);
        return "created";
    }
}
