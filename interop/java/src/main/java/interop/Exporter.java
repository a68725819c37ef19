package interop;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * What rocketmq-exporter 0.0.3 asks once a minute, with its calls, under a small load: producers, clients, lag, the message that a group
 * has next, and the rates of topic, group and broker. docs/compatibility.md says how to run the exporter itself.
 */
final class Exporter implements Scenario {
    private static final int QUEUES = 2;
    private static final int MESSAGES = 20;
    private static final int BEHIND = 3;
    /** Rates are computed from samples that are 10 s apart. */
    private static final int RATES_S = 60;

    /** What the cluster page and the exporter read of a broker's runtime information; the exporter ends its round when a number is missing. */
    private static final List<String> NUMBERS = List.of("msgPutTotalTodayNow", "msgPutTotalTodayMorning", "msgPutTotalYesterdayMorning",
        "msgGetTotalTodayNow", "msgGetTotalTodayMorning", "msgGetTotalYesterdayMorning", "sendThreadPoolQueueHeadWaitTimeMills",
        "queryThreadPoolQueueHeadWaitTimeMills", "pullThreadPoolQueueHeadWaitTimeMills", "sendThreadPoolQueueSize", "pullThreadPoolQueueSize",
        "queryThreadPoolQueueSize", "sendThreadPoolQueueCapacity", "pullThreadPoolQueueCapacity", "queryThreadPoolQueueCapacity",
        "bootTimestamp", "commitLogMinOffset", "commitLogMaxOffset", "dispatchMaxBuffer", "brokerVersion", "consumeQueueDiskRatio",
        "commitLogDiskRatio", "pageCacheLockTimeMills", "getMessageEntireTimeMax", "putMessageEntireTimeMax", "putMessageTimesTotal",
        "startAcceptSendRequestTimeStamp", "earliestMessageTimeStamp", "remainTransientStoreBufferNumbs", "putMessageAverageSize",
        "dispatchBehindBytes", "putMessageSizeTotal");
    private static final List<String> RATES = List.of("putTps", "getMissTps", "getTotalTps", "getFoundTps");
    private static final List<String> TEXTS = List.of("brokerVersionDesc", "runtime", "remainHowManyDataToFlush", "commitLogDirCapacity",
        "putMessageDistributeTime");

    @Override
    public String run(Env env) throws Exception {
        DefaultMQAdminExt admin = env.admin();
        String topic = env.topic("t", QUEUES);
        String group = env.name("g");
        String idle = env.name("idle");
        Seen seen = new Seen();
        DefaultMQPushConsumer consumer = env.push(group, topic, "*", seen.listener());
        String client = consumer.getDefaultMQPushConsumerImpl().getmQClientFactory().getClientId();
        List<MessageQueue> queues = env.queues(topic);
        MessageQueue q = queues.get(0);
        for (int i = 0; i < MESSAGES; i++) {
            send(env, queues.get(i % queues.size()));
        }
        String master = env.masterOf(admin, q);
        int each = MESSAGES / queues.size();
        for (MessageQueue one : queues) {
            // the tools find the brokers of a group by its retry topic, which its first client makes
            Line.createGroup(admin, env.masterOf(admin, one), idle);
            Line.createTopic(env.producer(), Env.CREATE_KEY, "%RETRY%" + idle, 1);
            admin.updateConsumeOffset(env.masterOf(admin, one), idle, one, each - BEHIND);
        }
        Check.that(admin.fetchAllTopicList().getTopicList().contains(topic), "the topic is not in the list");
        Check.that(admin.queryTopicConsumeByWho(topic).getGroupList().contains(idle), "groups of the topic");
        Check.same(admin.examineConsumeStats(idle, topic).computeTotalDiff(), (long) BEHIND * queues.size(), "lag of a group that is offline");
        Check.same(admin.examineConsumerConnectionInfo(group).getConnectionSet().size(), 1, "clients of the group");
        DefaultMQPullConsumer pull = env.pull(env.name("pull"));
        Check.same(pull.pull(q, "*", each - BEHIND, 1).getPullStatus(), PullStatus.FOUND, "the next message of a group");
        // a producer's first heartbeat may be its second, 30 s later
        Check.until(40, () -> admin.getAllProducerInfo(master).getData().containsKey(env.name("producer")), "the producer group");
        Check.that(admin.getConsumerRunningInfo(group, client, false).getStatusTable().containsKey(topic), "rates of the client");

        String cluster = admin.getBrokerConfig(master).getProperty("brokerClusterName");
        double[] rate = {0};
        Callable<Boolean> rates = () -> {
            send(env, q);
            rate[0] = tps(admin, master, "TOPIC_PUT_NUMS", topic);
            return rate[0] > 0 && tps(admin, master, "TOPIC_PUT_SIZE", topic) > 0 && tps(admin, master, "GROUP_GET_NUMS", topic + "@" + group) > 0
                && tps(admin, master, "GROUP_GET_SIZE", topic + "@" + group) > 0 && tps(admin, master, "BROKER_PUT_NUMS", cluster) > 0
                && tps(admin, master, "BROKER_GET_NUMS", cluster) > 0;
        };
        Check.until(RATES_S, rates, "rates of topic, group and broker");
        Map<String, String> table = runtime(admin, master);
        Check.that(Arrays.stream(table.get("putTps").trim().split(" ")).anyMatch(t -> Double.parseDouble(t) > 0), "putTps %s", table.get("putTps"));
        Check.that(Long.parseLong(table.get("msgPutTotalTodayNow")) >= MESSAGES, "msgPutTotalTodayNow %s", table.get("msgPutTotalTodayNow"));
        return "topic_tps=" + Math.round(rate[0] * 10) / 10.0;
    }

    private static void send(Env env, MessageQueue q) throws Exception {
        env.producer().send(new Message(q.getTopic(), "A", "", "body".getBytes(StandardCharsets.UTF_8)), q);
    }

    private static double tps(DefaultMQAdminExt admin, String broker, String name, String key) throws Exception {
        return admin.viewBrokerStatsData(broker, name, key).getStatsMinute().getTps();
    }

    /** A broker's runtime information, checked. */
    static Map<String, String> runtime(DefaultMQAdminExt admin, String address) throws Exception {
        Map<String, String> table = admin.fetchBrokerRuntimeStats(address).getTable();
        for (String key : NUMBERS) {
            Check.that(table.containsKey(key), "%s: no %s", address, key);
            Double.parseDouble(table.get(key));
        }
        for (String key : RATES) {
            Check.that(table.containsKey(key), "%s: no %s", address, key);
            for (String rate : table.get(key).trim().split(" ")) {
                Double.parseDouble(rate);
            }
        }
        // RocketMQ 5 renamed it; the 4.9 tools read the old name
        Check.that(table.containsKey("getTransferredTps") || table.containsKey("getTransferedTps"), "%s: no getTransferredTps", address);
        for (String key : TEXTS) {
            Check.that(table.containsKey(key), "%s: no %s", address, key);
        }
        return table;
    }
}
