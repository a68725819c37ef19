package interop.mqadmin;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * What the sub-commands find, the same on every cluster: topic {@code {p}} of four queues with 40 messages (key-N, tag A or B) that
 * group {@code {p}-readers} has consumed and goes on consuming, and group {@code {p}-idle} had, which is offline now and
 * two messages behind in each queue; producer group {@code {p}-writers}; one traced message.
 */
final class Fixtures implements AutoCloseable {
    private static final int QUEUES = 4;
    private static final int MESSAGES = 40;
    private static final int MORE = 8;

    private final String namesrv;
    private final String prefix;
    private final Map<String, String> variables = new LinkedHashMap<>();
    private final Map<String, String> names = new LinkedHashMap<>();
    private final List<Runnable> closing = new ArrayList<>();
    private final AtomicLong read = new AtomicLong();
    private final DefaultMQAdminExt admin;
    private DefaultMQProducer producer;
    private long readBefore;
    private int sent;

    Fixtures(String namesrv, Path dir) throws Exception {
        this.namesrv = namesrv;
        prefix = "adm" + Long.toString(System.currentTimeMillis(), 36);
        set("p", prefix);
        set("namesrv", namesrv);
        set("dir", dir.toString());
        admin = new DefaultMQAdminExt(10_000);
        admin.setNamesrvAddr(namesrv);
        admin.setInstanceName(prefix + "-fixtures");
        admin.start();
        closing.add(admin::shutdown);
        var info = admin.examineBrokerClusterInfo();
        String cluster = info.getClusterAddrTable().keySet().iterator().next();
        String name = info.getClusterAddrTable().get(cluster).iterator().next();
        String master = info.getBrokerAddrTable().get(name).getBrokerAddrs().get(0L);
        set("cluster", cluster);
        set("broker", master);
        for (String a : info.getBrokerAddrTable().get(name).getBrokerAddrs().values()) {
            names.put(a, "<broker>");
        }
        names.put(namesrv, "<namesrv>");
        names.put(cluster, "<cluster>");
        names.put(prefix, "<p>");
        set("name", name);
        messages(cluster);
        files(dir);
    }

    private void messages(String cluster) throws Exception {
        producer = new DefaultMQProducer(prefix + "-writers");
        producer.setNamesrvAddr(namesrv);
        producer.setInstanceName(prefix + "-writers");
        producer.setSendMsgTimeout(10_000);
        producer.start();
        closing.add(producer::shutdown);
        Object created = new Steps(namesrv).run(List.of("updateTopic", "-c", cluster, "-t", prefix, "-r", "" + QUEUES, "-w", "" + QUEUES));
        waitFor(() -> producer.fetchPublishMessageQueues(prefix).size() == QUEUES, "route of " + prefix + ": " + created);
        set("start", Long.toString(System.currentTimeMillis() - 1_000));
        SendResult first = send(MESSAGES);
        set("id", first.getMsgId());
        set("offsetid", first.getOffsetMsgId());
        names.put(first.getOffsetMsgId(), "<offsetid>");
        DefaultMQPushConsumer idle = consumer("idle", new AtomicLong(), MESSAGES);
        waitFor(() -> admin.examineConsumeStats(prefix + "-idle").computeTotalDiff() == 0, "the idle group's offsets");
        idle.shutdown();
        send(MORE);
        DefaultMQPushConsumer readers = consumer("readers", read, MESSAGES + MORE);
        closing.add(readers::shutdown);
        set("client", readers.getDefaultMQPushConsumerImpl().getmQClientFactory().getClientId());
        readBefore = read.get();
        waitFor(() -> admin.examineConsumeStats(prefix + "-readers").computeTotalDiff() == 0, "the readers' offsets");
        // The offset of their retry topic is stored after their first long pull of it (15 s), which may begin with the second
        // rebalance (20 s), at the next of the stores (5 s) that follow.
        waitFor(() -> admin.examineConsumeStats(prefix + "-readers").getOffsetTable().keySet().stream()
            .anyMatch(q -> q.getTopic().startsWith("%RETRY%")), "the readers' offsets of retries");
        DefaultMQProducer traced = new DefaultMQProducer(prefix + "-traced", null, true, null);
        traced.setNamesrvAddr(namesrv);
        traced.setInstanceName(prefix + "-traced");
        traced.start();
        closing.add(traced::shutdown);
        Message m = new Message(prefix, "A", "key-traced", "traced".getBytes(StandardCharsets.UTF_8));
        set("traced", traced.send(m, queue(0)).getMsgId());
    }

    private void files(Path dir) throws IOException {
        Path topics = dir.resolve("topics");
        Files.writeString(topics, """
            [{"topicName":"%1$s-l1","readQueueNums":3,"writeQueueNums":3,"perm":6,"topicFilterType":"SINGLE_TAG","topicSysFlag":0,"order":false},
             {"topicName":"%1$s-l2","readQueueNums":2,"writeQueueNums":2,"perm":4,"topicFilterType":"SINGLE_TAG","topicSysFlag":0,"order":false}]
            """.formatted(prefix));
        set("topics", topics.toString());
        Path groups = dir.resolve("groups");
        Files.writeString(groups, """
            [{"groupName":"%1$s-g1","consumeEnable":true,"retryQueueNums":2,"retryMaxTimes":5},
             {"groupName":"%1$s-g2","consumeEnable":false,"retryQueueNums":1,"retryMaxTimes":16}]
            """.formatted(prefix));
        set("groups", groups.toString());
        names.put(dir.toString(), "<dir>");
    }

    /** {@code @send N}; {@code @consumed N}: how many messages the readers were given since this was last asked, when it is N, or after a minute. */
    String act(List<String> words) throws Exception {
        switch (words.get(0)) {
            case "@send":
                send(Integer.parseInt(words.get(1)));
                return "";
            case "@consumed":
                int atLeast = Integer.parseInt(words.get(1));
                for (int i = 0; i < 600 && read.get() - readBefore < atLeast; i++) {
                    Thread.sleep(100);
                }
                Thread.sleep(2_500);
                long was = read.get();
                long n = was - readBefore;
                readBefore = was;
                return "consumed " + n;
            default:
                throw new IllegalArgumentException(words.get(0));
        }
    }

    /** With the address of the present master. */
    Map<String, String> variables() throws Exception {
        String master = admin.examineBrokerClusterInfo().getBrokerAddrTable().get(variables.get("name")).getBrokerAddrs().get(0L);
        if (master != null) {
            set("broker", master);
        }
        return variables;
    }

    Map<String, String> names() {
        return names;
    }

    private void set(String variable, String value) {
        variables.put(variable, value);
    }

    private MessageQueue queue(int id) {
        return new MessageQueue(prefix, variables.get("name"), id);
    }

    /** Sends so many, in turn to the queues; returns the first one's result. */
    private SendResult send(int count) throws Exception {
        SendResult first = null;
        for (int i = 0; i < count; i++, sent++) {
            Message m = new Message(prefix, sent % 8 < 4 ? "A" : "B", "key-" + sent, ("body " + sent).getBytes(StandardCharsets.UTF_8));
            SendResult r = producer.send(m, queue(sent % QUEUES));
            first = first == null ? r : first;
        }
        return first;
    }

    private DefaultMQPushConsumer consumer(String name, AtomicLong counter, int until) throws Exception {
        DefaultMQPushConsumer c = new DefaultMQPushConsumer(prefix + "-" + name);
        c.setNamesrvAddr(namesrv);
        c.setInstanceName(prefix + "-" + name);
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        c.setHeartbeatBrokerInterval(3_000);
        c.setPersistConsumerOffsetInterval(1_000);
        c.setConsumeThreadMin(2);
        c.setConsumeThreadMax(2);
        c.subscribe(prefix, "*");
        c.setMessageListener((org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently) (messages, context) -> {
            counter.addAndGet(messages.size());
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        c.start();
        c.getDefaultMQPushConsumerImpl().getmQClientFactory().rebalanceImmediately();
        waitFor(() -> counter.get() >= until, "messages of group " + name);
        return c;
    }

    private interface Condition {
        boolean holds() throws Exception;
    }

    private static void waitFor(Condition c, String what) throws Exception {
        Exception last = null;
        for (int i = 0; i < 1200; i++) {
            try {
                if (c.holds()) {
                    return;
                }
            } catch (Exception e) {
                last = e;
            }
            Thread.sleep(50);
        }
        throw new IllegalStateException("not within a minute: " + what, last);
    }

    /** Ends the clients and removes what the steps made, so that the next run finds as little as this one did. */
    @Override
    public void close() {
        closing.forEach(Runnable::run);
        try {
            Steps steps = new Steps(namesrv);
            for (String group : List.of("-readers", "-idle", "-new", "-g2", "-clone")) {
                steps.run(List.of("deleteSubGroup", "-c", variables.get("cluster"), "-g", prefix + group, "-r", "true"));
            }
            for (String topic : List.of("", "-a", "-fifo", "-l1", "-l2")) {
                steps.run(List.of("deleteTopic", "-c", variables.get("cluster"), "-t", prefix + topic));
            }
        } catch (Exception e) {
            System.err.println("not removed: " + e);
        }
    }
}
