package interop;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** What a scenario needs of the outside: names that no other run uses, and clients that are shut down at its end. */
final class Env implements AutoCloseable {
    /** The topic whose route new topics inherit from, on a cluster with autoCreateTopicEnable. */
    static final String CREATE_KEY = "TBW102";

    /** How long to wait for a client to shut down, ms. */
    private static final long CLOSE_MS = 5_000;

    /**
     * The consumers' heartbeat, ms. A 5.x client whose rebalance falls together with its periodic heartbeat skips the heartbeat with
     * its new subscription version; the broker refuses its pulls (code 25) until the next one, by default 30 s later.
     */
    private static final int HEARTBEAT_MS = 3_000;

    private static final String RUN = Long.toString(System.currentTimeMillis(), 36);
    private static final AtomicInteger INSTANCES = new AtomicInteger();

    private final String scenario;
    private final List<AutoCloseable> open = new CopyOnWriteArrayList<>();
    private DefaultMQProducer producer;

    Env(String scenario) {
        this.scenario = scenario;
    }

    static String namesrv() {
        String s = System.getenv("NAMESRV_ADDR");
        return s == null || s.isEmpty() ? "127.0.0.1:9876" : s;
    }

    /** Each client gets its own instance name: clients of one name in one JVM would share their connections and their client id. */
    static String instance() {
        return "interop-" + ProcessHandle.current().pid() + "-" + INSTANCES.incrementAndGet();
    }

    /** A topic or group name of this run. */
    String name(String purpose) {
        return "interop-" + scenario + "-" + purpose + "-" + RUN;
    }

    /** Registers something to close at the end. */
    void closing(AutoCloseable c) {
        open.add(c);
    }

    /** The scenario's producer, started at first use. */
    synchronized DefaultMQProducer producer() throws Exception {
        if (producer == null) {
            DefaultMQProducer p = new DefaultMQProducer(name("producer"));
            p.setNamesrvAddr(namesrv());
            p.setInstanceName(instance());
            p.setSendMsgTimeout(10_000);
            p.start();
            closing(p::shutdown);
            producer = p;
        }
        return producer;
    }

    /** Creates a topic through MQAdmin and waits until its route can be read. */
    String topic(String purpose, int queues) throws Exception {
        String topic = name(purpose);
        Line.createTopic(producer(), CREATE_KEY, topic, queues);
        Check.until(30, () -> producer().fetchPublishMessageQueues(topic).size() >= queues, "route of the new topic %s", topic);
        return topic;
    }

    List<MessageQueue> queues(String topic) throws Exception {
        List<MessageQueue> l = new ArrayList<>(producer().fetchPublishMessageQueues(topic));
        l.sort(null);
        return l;
    }

    /** A push consumer, not started; it begins at the first message and has a small thread pool. */
    DefaultMQPushConsumer push(String group) {
        DefaultMQPushConsumer c = new DefaultMQPushConsumer(group);
        c.setNamesrvAddr(namesrv());
        c.setInstanceName(instance());
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        c.setHeartbeatBrokerInterval(HEARTBEAT_MS);
        c.setConsumeThreadMin(4);
        c.setConsumeThreadMax(4);
        closing(c::shutdown);
        return c;
    }

    /** A push consumer, started. */
    DefaultMQPushConsumer push(String group, String topic, String tags, MessageListenerConcurrently listener) throws Exception {
        DefaultMQPushConsumer c = push(group);
        c.subscribe(topic, tags);
        c.registerMessageListener(listener);
        start(c);
        return c;
    }

    /**
     * Starts a push consumer. The 5.x client heartbeats from two threads as it starts; when the other one holds the lock,
     * start() skips its first rebalance and the consumer would idle for 20 s, so it is asked for here.
     */
    static void start(DefaultMQPushConsumer c) throws Exception {
        c.start();
        c.getDefaultMQPushConsumerImpl().getmQClientFactory().rebalanceImmediately();
    }

    DefaultMQPullConsumer pull(String group) throws Exception {
        DefaultMQPullConsumer c = new DefaultMQPullConsumer(group);
        c.setNamesrvAddr(namesrv());
        c.setInstanceName(instance());
        c.start();
        closing(c::shutdown);
        return c;
    }

    /** A lite pull consumer, not started. */
    DefaultLitePullConsumer lite(String group) {
        DefaultLitePullConsumer c = new DefaultLitePullConsumer(group);
        c.setNamesrvAddr(namesrv());
        c.setInstanceName(instance());
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        c.setHeartbeatBrokerInterval(HEARTBEAT_MS);
        closing(c::shutdown);
        return c;
    }

    DefaultMQAdminExt admin() throws Exception {
        DefaultMQAdminExt a = new DefaultMQAdminExt(10_000);
        a.setNamesrvAddr(namesrv());
        a.setInstanceName(instance());
        a.start();
        closing(a::shutdown);
        return a;
    }

    /** The address of the master that holds a queue. */
    String masterOf(DefaultMQAdminExt admin, MessageQueue q) throws Exception {
        for (var b : admin.examineTopicRouteInfo(q.getTopic()).getBrokerDatas()) {
            if (b.getBrokerName().equals(q.getBrokerName())) {
                return b.getBrokerAddrs().get(0L);
            }
        }
        throw new Check.Failed("no master of " + q + " in its route");
    }

    /** Shuts all clients down side by side: one may take seconds, as its threads look for the end of their work only so often. */
    @Override
    public void close() {
        List<Thread> closers = new ArrayList<>();
        for (AutoCloseable c : open) {
            Thread t = new Thread(() -> {
                try {
                    c.close();
                } catch (Exception e) {
                    System.err.println(scenario + ": on close: " + e);
                }
            });
            t.setDaemon(true);
            t.start();
            closers.add(t);
        }
        try {
            for (Thread t : closers) {
                t.join(CLOSE_MS);
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
