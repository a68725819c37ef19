package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * What RocketMQ Dashboard 2.1 asks for its pages, in their order and with its calls, and that the answers hold what is shown.
 * docs/compatibility.md says how to run the Dashboard itself.
 */
final class Dashboard implements Scenario {
    private static final int QUEUES = 4;
    private static final int MESSAGES = 40;
    /** How far the group that is offline is behind, in each queue. */
    private static final int BEHIND = 3;
    /** What the pages read of a broker's runtime information. */
    private static final List<String> RUNTIME = List.of("brokerVersionDesc", "putTps", "getTransferredTps", "getTotalTps", "msgPutTotalTodayNow",
        "msgPutTotalTodayMorning", "msgPutTotalYesterdayMorning", "msgGetTotalTodayNow", "msgGetTotalTodayMorning", "msgGetTotalYesterdayMorning");

    private Env env;
    private DefaultMQAdminExt admin;
    private String topic;
    private String group;
    private String idle;
    private SendResult first;
    private long begin;

    @Override
    public String run(Env e) throws Exception {
        Dashboard d = new Dashboard();
        d.env = e;
        return d.pages();
    }

    private String pages() throws Exception {
        admin = env.admin();
        begin = System.currentTimeMillis() - 60_000;
        topic = env.topic("t", QUEUES);
        group = env.name("g");
        idle = env.name("idle");
        DefaultMQPushConsumer consumer = fixtures();
        String client = consumer.getDefaultMQPushConsumerImpl().getmQClientFactory().getClientId();
        int brokers = cluster();
        topics();
        consumers(client);
        messages(client);
        deadLetters();
        return "brokers=" + brokers;
    }

    private DefaultMQPushConsumer fixtures() throws Exception {
        for (int i = 0; i < MESSAGES; i++) {
            SendResult r = send(i);
            first = first == null ? r : first;
        }
        Seen seen = new Seen();
        DefaultMQPushConsumer c = env.push(group);
        c.setPersistConsumerOffsetInterval(1_000);
        c.subscribe(topic, "*");
        MessageListenerConcurrently listener = seen.listener();
        c.registerMessageListener(listener);
        Env.start(c);
        List<String> bodies = new ArrayList<>();
        for (int i = 0; i < MESSAGES; i++) {
            bodies.add("body " + i);
        }
        Check.until(30, () -> seen.hasAll(bodies), "the messages");
        for (MessageQueue q : env.queues(topic)) {
            // the tools find the brokers of a group by its retry topic, which its first client makes
            Line.createGroup(admin, env.masterOf(admin, q), idle);
            Line.createTopic(env.producer(), Env.CREATE_KEY, "%RETRY%" + idle, 1);
            admin.updateConsumeOffset(env.masterOf(admin, q), idle, q, MESSAGES / env.queues(topic).size() - BEHIND);
        }
        return c;
    }

    private SendResult send(int i) throws Exception {
        List<MessageQueue> queues = env.queues(topic);
        Message m = new Message(topic, "A", "key-" + i, ("body " + i).getBytes(StandardCharsets.UTF_8));
        return env.producer().send(m, queues.get(i % queues.size()));
    }

    /** Pages Dashboard and Cluster: all brokers with their runtime information, and the configuration of one. */
    private int cluster() throws Exception {
        var info = admin.examineBrokerClusterInfo();
        int brokers = 0;
        for (var b : info.getBrokerAddrTable().values()) {
            Check.that(b.getBrokerAddrs().containsKey(0L), "no master of %s", b.getBrokerName());
            for (String address : b.getBrokerAddrs().values()) {
                var table = admin.fetchBrokerRuntimeStats(address).getTable();
                Check.that(table.keySet().containsAll(RUNTIME), "%s: not all of %s", address, RUNTIME);
                Double.parseDouble(table.get("getTotalTps").split(" ")[0]);
                brokers++;
            }
            var config = admin.getBrokerConfig(b.getBrokerAddrs().get(0L));
            Check.same(config.getProperty("brokerName"), b.getBrokerName(), "brokerName of getBrokerConfig");
        }
        return brokers;
    }

    /** Page Topic: list with types, stats, route, consumers, configuration. */
    private void topics() throws Exception {
        var all = admin.fetchAllTopicList().getTopicList();
        Check.that(all.contains(topic), "the topic is not in the list");
        var system = env.producer().getDefaultMQProducerImpl().getmQClientFactory().getMQClientAPIImpl().getSystemTopicList(20_000).getTopicList();
        Check.that(system.contains("TBW102") && !system.contains(topic), "system topics %s", system);
        var master = env.masterOf(admin, env.queues(topic).get(0));
        var config = admin.getAllTopicConfig(master, 10_000).getTopicConfigTable().get(topic);
        Check.that(config != null && config.getReadQueueNums() == QUEUES, "configuration of the topic: %s", config);
        var stats = admin.examineTopicStats(topic).getOffsetTable();
        long sum = stats.values().stream().mapToLong(o -> o.getMaxOffset() - o.getMinOffset()).sum();
        Check.same(sum, (long) MESSAGES, "messages by topic stats");
        Check.that(stats.values().stream().allMatch(o -> o.getLastUpdateTimestamp() > begin), "last update of the topic's queues");
        Check.that(!admin.examineTopicRouteInfo(topic).getQueueDatas().isEmpty(), "route");
        var groups = admin.queryTopicConsumeByWho(topic).getGroupList();
        Check.that(groups.contains(group) && groups.contains(idle), "groups of the topic: %s", groups);
    }

    /** Page Consumer: list of groups, progress with the client of each queue, clients, what a client says of itself. */
    private void consumers(String client) throws Exception {
        for (MessageQueue q : env.queues(topic)) {
            String master = env.masterOf(admin, q);
            var all = admin.getAllSubscriptionGroup(master, 30_000).getSubscriptionGroupTable();
            Check.that(all.containsKey(group), "the group is not in the list");
        }
        Check.until(30, () -> admin.examineConsumeStats(group).computeTotalDiff() == 0, "lag 0 of the group that is online");
        Check.same(admin.examineConsumeStats(idle).computeTotalDiff(), (long) BEHIND * env.queues(topic).size(), "lag of the group that is offline");
        var connections = admin.examineConsumerConnectionInfo(group);
        Check.same(connections.getConnectionSet().size(), 1, "clients of the group");
        Check.same(connections.getConnectionSet().iterator().next().getClientId(), client, "client id");
        Check.that(connections.getSubscriptionTable().containsKey(topic), "subscription %s", connections.getSubscriptionTable());
        var running = admin.getConsumerRunningInfo(group, client, false);
        Check.same(running.getMqTable().keySet().stream().filter(q -> q.getTopic().equals(topic)).count(), (long) env.queues(topic).size(),
            "queues that the client says it has");
        Check.that(running.getStatusTable().containsKey(topic), "status of the topic in %s", running.getStatusTable().keySet());
        String stacks = admin.getConsumerRunningInfo(group, client, true).getJstack();
        Check.that(stacks != null && stacks.contains("RebalanceService"), "stacks of the client");
        // a producer's first heartbeat may be its second, 30 s later
        Check.until(40, () -> admin.examineProducerConnectionInfo(env.name("producer"), topic).getConnectionSet().size() == 1, "clients of the producer group");
    }

    /** Page Message: by id, by key, by time; who consumed it; consumed again by a client. */
    private void messages(String client) throws Exception {
        var byId = admin.viewMessage(topic, first.getMsgId());
        Check.same(new String(byId.getBody(), StandardCharsets.UTF_8), "body 0", "message by id");
        Check.until(30, () -> tracked(byId, group, "CONSUMED"), "track of the group");
        Check.that(tracked(byId, idle, "NOT_ONLINE"), "track of the group that is offline");
        Check.until(10, () -> admin.queryMessage(topic, "key-7", 64, 0, System.currentTimeMillis()).getMessageList().size() == 1, "message by key");
        DefaultMQPullConsumer pull = env.pull("TOOLS_CONSUMER");
        int found = 0;
        for (MessageQueue q : pull.fetchSubscribeMessageQueues(topic)) {
            long offset = pull.searchOffset(q, begin);
            long end = pull.searchOffset(q, System.currentTimeMillis());
            while (offset < end) {
                var r = pull.pull(q, "*", offset, 32);
                Check.same(r.getPullStatus(), PullStatus.FOUND, "pull of the message page");
                found += r.getMsgFoundList().size();
                offset = r.getNextBeginOffset();
            }
        }
        Check.same(found, MESSAGES, "messages by time");
        var again = admin.consumeMessageDirectly(group, client, topic, first.getMsgId());
        Check.same(again.getConsumeResult().toString(), "CR_SUCCESS", "consumed directly");
    }

    private boolean tracked(MessageExt message, String by, String as) throws Exception {
        return admin.messageTrackDetail(message).stream().anyMatch(t -> t.getConsumerGroup().equals(by) && t.getTrackType().toString().equals(as));
    }

    /** Page DLQ: the route of a dead letter topic that there is not, and one message of one that there is. */
    private void deadLetters() throws Exception {
        String dead = env.name("dead");
        try {
            admin.examineTopicRouteInfo("%DLQ%" + dead);
            throw new Check.Failed("a route of a dead letter topic that does not exist");
        } catch (org.apache.rocketmq.client.exception.MQClientException e) {
            Check.same(e.getResponseCode(), 17, "code of a dead letter topic that does not exist");
        }
        DefaultMQPushConsumer c = env.push(dead);
        c.setMaxReconsumeTimes(0);
        c.subscribe(topic, "*");
        MessageListenerConcurrently never = (messages, context) -> ConsumeConcurrentlyStatus.RECONSUME_LATER;
        c.registerMessageListener(never);
        Env.start(c);
        Check.until(30, () -> !admin.examineTopicRouteInfo("%DLQ%" + dead).getQueueDatas().isEmpty(), "route of the dead letter topic");
        Check.until(30, () -> admin.queryMessage("%DLQ%" + dead, "key-3", 64, 0, System.currentTimeMillis()).getMessageList().size() == 1, "a dead letter by key");
        c.shutdown();
    }
}
