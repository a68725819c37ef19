package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * What an administrator does with consumers: looks into one that runs, has it consume a message, resets offsets by time while it
 * runs and to the end while nobody does, clones offsets; and the figures of topic, group, queue and producers.
 */
final class ConsumerAdmin implements Scenario {
    private static final int QUEUES = 4;
    private static final int HALF = 20;

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", QUEUES);
        String group = env.name("g");
        List<MessageQueue> queues = env.queues(topic);
        List<String> before = new ArrayList<>();
        List<String> after = new ArrayList<>();
        for (int i = 0; i < HALF; i++) {
            before.add(send(env, topic, "before " + i, queues.get(i % queues.size())));
        }
        Thread.sleep(200);
        long middle = System.currentTimeMillis();
        Thread.sleep(200);
        SendResult last = null;
        for (int i = 0; i < HALF; i++) {
            after.add("after " + i);
            last = env.producer().send(message(topic, "after " + i), queues.get(i % queues.size()));
        }
        Seen seen = new Seen();
        DefaultMQPushConsumer consumer = env.push(group, topic, "*", seen.listener());
        Check.until(60, () -> seen.hasAll(before) && seen.hasAll(after), "all messages");
        DefaultMQAdminExt admin = env.admin();
        String client = consumer.getDefaultMQPushConsumerImpl().getmQClientFactory().getClientId();

        Check.until(15, () -> admin.getConsumerRunningInfo(group, client, false).getMqTable().keySet().containsAll(queues), "the queues of the consumer");
        var info = admin.getConsumerRunningInfo(group, client, true);
        Check.that(info.getJstack() != null && info.getJstack().contains("ConsumeMessageThread"), "stacks: %s", info.getJstack());
        Check.that(info.getSubscriptionSet().stream().anyMatch(s -> s.getTopic().equals(topic)), "subscriptions: %s", info.getSubscriptionSet());
        try {
            admin.getConsumerRunningInfo(group, "nobody", false);
            throw new Check.Failed("a client that does not exist tells about itself");
        } catch (MQClientException e) {
            Check.same(e.getResponseCode(), 1, "code for a client that is not online");
        }

        Check.until(30, () -> {
            Map<MessageQueue, Long> told = admin.getConsumeStatus(topic, group, "").get(client);
            return told != null && told.values().stream().mapToLong(x -> x).sum() == 2 * HALF;
        }, "offsets in the client's memory");

        String direct = after.get(HALF - 1);
        var result = admin.consumeMessageDirectly(group, client, topic, last.getMsgId());
        Check.same(result.getConsumeResult().name(), "CR_SUCCESS", "direct consumption");
        Check.same(seen.of(direct).size(), 2, "deliveries of the message that was consumed directly");

        // The consumer goes on from the time that is given.
        Map<MessageQueue, Long> reset = admin.resetOffsetByTimestamp(topic, group, middle, true);
        Check.same(reset.size(), queues.size(), "queues that were reset");
        reset.forEach((q, offset) -> Check.same(offset, (long) HALF / queues.size(), "reset of " + q));
        Check.until(60, () -> after.stream().allMatch(b -> seen.of(b).size() >= (b.equals(direct) ? 3 : 2)), "everything after the reset again");
        before.forEach(b -> Check.same(seen.of(b).size(), 1, "deliveries of " + b));
        Check.until(30, () -> committed(admin, topic, group) == 2 * HALF, "offsets at the end again");

        // Nobody consumes: what waits is skipped.
        consumer.shutdown();
        for (int i = 0; i < QUEUES; i++) {
            send(env, topic, "skipped " + i, queues.get(i % queues.size()));
        }
        Check.until(30, () -> admin.resetOffsetByTimestamp(topic, group, -1, true).values().stream().mapToLong(x -> x).sum() == 2 * HALF + QUEUES, "reset to the end");
        Check.same(committed(admin, topic, group), 2L * HALF + QUEUES, "offsets after the reset");
        Seen again = new Seen();
        env.push(group, topic, "*", again.listener());
        List<String> fresh = new ArrayList<>();
        for (int i = 0; i < QUEUES; i++) {
            fresh.add(send(env, topic, "fresh " + i, queues.get(i % queues.size())));
        }
        Check.until(60, () -> again.hasAll(fresh), "messages after the reset");
        Check.same(again.distinct(), fresh.size(), "messages after the reset");

        String copy = env.name("copy");
        admin.cloneGroupOffset(group, copy, topic, true);
        DefaultMQPullConsumer reader = env.pull(copy);
        for (MessageQueue q : queues) {
            Check.that(reader.fetchConsumeOffset(q, true) >= HALF / queues.size(), "cloned offset of %s", q);
        }

        Check.same(admin.queryConsumeTimeSpan(topic, group).size(), queues.size(), "queues in the time span");
        MessageQueue one = queues.get(0);
        String master = env.masterOf(admin, one);
        var stats = admin.fetchConsumeStatsInBroker(master, false, 10_000);
        Check.that(stats.getConsumeStatsList().stream().anyMatch(m -> m.containsKey(group)), "no statistics of %s", group);
        var entries = admin.queryConsumeQueue(master, topic, one.getQueueId(), 1, 2, group);
        Check.same(entries.getQueueData().size(), 2, "entries of the queue");
        // a producer's first heartbeat may come 30 s after its start
        Check.until(45, () -> admin.getAllProducerInfo(master).getData().containsKey(env.producer().getProducerGroup()), "the producer in the list");
        Check.that(admin.cleanUnusedTopicByAddr(master), "unused topics were not cleaned");
        return "messages=" + 2 * HALF + " queues=" + queues.size();
    }

    private static Message message(String topic, String body) {
        return new Message(topic, body.getBytes(StandardCharsets.UTF_8));
    }

    private static String send(Env env, String topic, String body, MessageQueue queue) throws Exception {
        env.producer().send(message(topic, body), queue);
        return body;
    }

    private static long committed(DefaultMQAdminExt admin, String topic, String group) throws Exception {
        return admin.examineConsumeStats(group, topic).getOffsetTable().entrySet().stream().filter(e -> e.getKey().getTopic().equals(topic))
            .mapToLong(e -> e.getValue().getConsumerOffset()).sum();
    }
}
