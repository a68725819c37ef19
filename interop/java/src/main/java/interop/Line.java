package interop;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.util.Collections;
import java.util.Map;
import java.util.concurrent.Callable;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** The few places where the sources of the 4.9 and the 5.x client differ. */
final class Line {
    private static final int INVOKE_BROKER_TO_RESET_OFFSET = 222;

    private Line() {}

    /** For example "5.3.3". */
    static String version() {
        return MQVersion.getVersionDesc(MQVersion.CURRENT_VERSION).replace("V", "").replace('_', '.');
    }

    static boolean is5() {
        return version().startsWith("5");
    }

    /** The class MessageModel moved to another package in 5.x. */
    static void broadcasting(DefaultMQPushConsumer consumer) {
        consumer.setMessageModel(Enum.valueOf(consumer.getMessageModel().getDeclaringClass(), "BROADCASTING"));
    }

    /** What a timer message can be taken back with; 5.3.1 and later. */
    static String recallHandle(SendResult sent) throws Exception {
        return (String) unwrapped(() -> SendResult.class.getMethod("getRecallHandle").invoke(sent));
    }

    /** The id of the message that was taken back. */
    static String recall(DefaultMQProducer producer, String topic, String handle) throws Exception {
        Method recall = DefaultMQProducer.class.getMethod("recallMessage", String.class, String.class);
        return (String) unwrapped(() -> recall.invoke(producer, topic, handle));
    }

    private static Object unwrapped(Callable<Object> call) throws Exception {
        try {
            return call.call();
        } catch (InvocationTargetException e) {
            throw e.getCause() instanceof Exception cause ? cause : e;
        }
    }

    /** MQAdmin.createTopic takes a map of attributes in 5.x. */
    static void createTopic(DefaultMQProducer producer, String key, String topic, int queues) throws Exception {
        try {
            for (Method m : DefaultMQProducer.class.getMethods()) {
                if (m.getName().equals("createTopic") && m.getParameterCount() == (is5() ? 4 : 3)) {
                    Object[] args = {key, topic, queues, Collections.emptyMap()};
                    m.invoke(producer, is5() ? args : java.util.Arrays.copyOf(args, 3));
                    return;
                }
            }
        } catch (InvocationTargetException e) {
            if (e.getCause() instanceof Exception) {
                throw (Exception) e.getCause();
            }
            throw e;
        }
        throw new IllegalStateException("this client has no createTopic");
    }

    /** The class SubscriptionGroupConfig moved to another package in 5.x. */
    static void createGroup(DefaultMQAdminExt admin, String broker, String group) throws Exception {
        for (Method m : DefaultMQAdminExt.class.getMethods()) {
            if (m.getName().equals("createAndUpdateSubscriptionGroupConfig")) {
                Class<?> type = m.getParameterTypes()[1];
                Object config = type.getDeclaredConstructor().newInstance();
                type.getMethod("setGroupName", String.class).invoke(config, group);
                m.invoke(admin, broker, config);
                return;
            }
        }
        throw new IllegalStateException("this client cannot create groups");
    }

    /** Sets a group's offset of one queue; the 4.9 client has no call for it, so its request is made by hand. */
    static void resetOffset(DefaultMQAdminExt admin, DefaultMQProducer producer, String broker, String group, String topic, int queue, long offset) throws Exception {
        if (is5()) {
            Method reset = DefaultMQAdminExt.class.getMethod("resetOffsetByQueueId", String.class, String.class, String.class, int.class, long.class);
            unwrapped(() -> reset.invoke(admin, broker, group, topic, queue, offset));
            return;
        }
        RemotingCommand request = RemotingCommand.createRequestCommand(INVOKE_BROKER_TO_RESET_OFFSET, null);
        Map.of("topic", topic, "group", group, "timestamp", "-1", "isForce", "true", "queueId", "" + queue, "offset", "" + offset).forEach(request::addExtField);
        var client = producer.getDefaultMQProducerImpl().getmQClientFactory().getMQClientAPIImpl().getRemotingClient();
        RemotingCommand answer = client.invokeSync(broker, request, 10_000);
        Check.same(answer.getCode(), 0, "reset of an offset: " + answer.getRemark());
    }
}
