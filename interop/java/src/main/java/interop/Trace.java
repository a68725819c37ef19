package interop;

import java.nio.charset.StandardCharsets;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragely;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;

/** Message trace: clients that are told to trace write to RMQ_SYS_TRACE_TOPIC what happened to a message, and it can be read there. */
final class Trace implements Scenario {
    private static final int MESSAGES = 5;
    private static final String TRACE_TOPIC = "RMQ_SYS_TRACE_TOPIC";

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", 2);
        DefaultMQProducer producer = new DefaultMQProducer(env.name("p"), null, true, null);
        producer.setNamesrvAddr(Env.namesrv());
        producer.setInstanceName(Env.instance());
        producer.start();
        env.closing(producer::shutdown);
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(env.name("g"), null, new AllocateMessageQueueAveragely(), true, null);
        consumer.setNamesrvAddr(Env.namesrv());
        consumer.setInstanceName(Env.instance());
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        Seen seen = new Seen();
        consumer.registerMessageListener(seen.listener());
        env.closing(consumer::shutdown);
        Env.start(consumer);
        Set<String> ids = ConcurrentHashMap.newKeySet();
        for (int i = 0; i < MESSAGES; i++) {
            ids.add(producer.send(new Message(topic, "tag", "key" + i, ("traced " + i).getBytes(StandardCharsets.UTF_8))).getMsgId());
        }
        Check.until(60, () -> seen.distinct() >= MESSAGES, "%d messages", MESSAGES);

        // A record is TYPE, a separator, fields; a message holds many, and its keys are the ids that it speaks of.
        Set<String> traced = ConcurrentHashMap.newKeySet();
        env.push(env.name("reader"), TRACE_TOPIC, "*", (MessageListenerConcurrently) (msgs, context) -> {
            msgs.forEach(m -> {
                for (String record : Seen.body(m).split("\u0002")) {
                    String type = record.split("\u0001")[0];
                    ids.stream().filter(record::contains).forEach(id -> traced.add(type + " " + id));
                }
            });
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        Check.until(60, () -> ids.stream().allMatch(id -> traced.contains("Pub " + id) && traced.contains("SubBefore " + id)), "records of %d messages, not %s", MESSAGES, traced);
        String id = ids.iterator().next();
        Check.until(30, () -> !env.admin().queryMessage(TRACE_TOPIC, id, 64, 0, System.currentTimeMillis() + 60_000).getMessageList().isEmpty(), "trace of %s by its key", id);
        return "messages=" + MESSAGES + " records=" + traced.size();
    }
}
