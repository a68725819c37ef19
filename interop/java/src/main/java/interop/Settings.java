package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * Settings changed while brokers run, and what they then refuse: transactions (rejectTransactionMessage), and more sends than a broker
 * takes (flow control). What was refused is not stored, what was acknowledged is, and both work again with the old settings. It
 * changes the cluster for all, so it runs alone.
 */
final class Settings implements Scenario {
    private static final int SYSTEM_BUSY = 2;
    private static final int FLOOD = 4_000;
    private static final int ROUNDS = 5;
    /** How long all callbacks of a flood may take, s. */
    private static final int FLOOD_S = 60;
    /**
     * What makes a broker refuse sends that wait: how many may, or how long, ms. RocketMQ reads the second one while it runs, and the
     * first at its start; a broker may refuse to change the one that it reads at its start.
     */
    private static final Map<String, String> FEW = Map.of("sendThreadPoolQueueCapacity", "1", "waitTimeMillsInSendQueue", "0");

    @Override
    public boolean alone() {
        return true;
    }

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", 2);
        DefaultMQAdminExt admin = env.admin();
        List<String> masters = new ArrayList<>();
        for (var broker : admin.examineTopicRouteInfo(topic).getBrokerDatas()) {
            masters.add(broker.getBrokerAddrs().get(0L));
        }
        Seen seen = new Seen();
        env.push(env.name("g"), topic, "*", seen.listener());
        Answers answers = new Answers();
        Set<String> wanted = ConcurrentHashMap.newKeySet();
        transactions(env, admin, masters, topic, answers, wanted);
        int refused = flood(env, admin, masters, topic, wanted);
        Check.until(60, () -> seen.hasAll(wanted), "all %d that were acknowledged, not %s", wanted.size(), seen.missing(wanted));
        Thread.sleep(1_000);
        Check.same(seen.distinct(), wanted.size(), "messages");
        answers.done();
        return "acknowledged=" + wanted.size() + " refused=" + refused;
    }

    private static void transactions(Env env, DefaultMQAdminExt admin, List<String> masters, String topic, Answers answers, Set<String> wanted) throws Exception {
        TransactionMQProducer producer = new TransactionMQProducer(env.name("p"));
        producer.setNamesrvAddr(Env.namesrv());
        producer.setInstanceName(Env.instance());
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message m, Object what) {
                return LocalTransactionState.COMMIT_MESSAGE;
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt m) {
                return LocalTransactionState.COMMIT_MESSAGE;
            }
        });
        producer.start();
        env.closing(producer::shutdown);
        Map<String, Properties> before = change(admin, masters, Map.of("rejectTransactionMessage", "true"));
        try {
            answers.of("half message: transactions are rejected", "MQClientException -1", () -> producer.sendMessageInTransaction(message(topic, "rejected"), null));
            answers.of("the same, without the client's own wrapping", "MQClientException 16", () -> producer.getDefaultMQProducerImpl().send(half(topic, env.name("p"))));
            Check.same(env.producer().send(message(topic, "not in a transaction")).getSendStatus(), SendStatus.SEND_OK, "a send while transactions are rejected");
            wanted.add("not in a transaction");
        } finally {
            restore(admin, before);
        }
        Check.same(producer.sendMessageInTransaction(message(topic, "accepted"), null).getSendStatus(), SendStatus.SEND_OK, "a half message after that");
        wanted.add("accepted");
    }

    /** A half message as the client makes it. */
    private static Message half(String topic, String group) {
        Message m = message(topic, "rejected");
        MessageAccessor.putProperty(m, "TRAN_MSG", "true");
        MessageAccessor.putProperty(m, "PGROUP", group);
        return m;
    }

    /** More sends at once than a broker takes; how many of them were refused. */
    private static int flood(Env env, DefaultMQAdminExt admin, List<String> masters, String topic, Set<String> wanted) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(env.name("flood"));
        producer.setNamesrvAddr(Env.namesrv());
        producer.setInstanceName(Env.instance());
        producer.setRetryTimesWhenSendAsyncFailed(0);
        producer.setSendMsgTimeout(FLOOD_S * 1_000);
        producer.start();
        env.closing(producer::shutdown);
        producer.send(message(topic, "before the flood"));
        wanted.add("before the flood");
        Map<String, String> refused = new ConcurrentHashMap<>();
        Map<String, Properties> before = change(admin, masters, FEW);
        try {
            for (int round = 0; round < ROUNDS && refused.isEmpty(); round++) {
                CountDownLatch left = new CountDownLatch(FLOOD);
                for (int i = 0; i < FLOOD; i++) {
                    String body = "flood " + round + " " + i;
                    producer.send(message(topic, body), new SendCallback() {
                        @Override
                        public void onSuccess(SendResult r) {
                            wanted.add(body);
                            left.countDown();
                        }

                        @Override
                        public void onException(Throwable e) {
                            refused.put(body, e instanceof MQBrokerException b ? "code " + b.getResponseCode() : e.toString());
                            left.countDown();
                        }
                    });
                }
                Check.that(left.await(FLOOD_S, TimeUnit.SECONDS), "%d of %d sends were not answered", left.getCount(), FLOOD);
            }
        } finally {
            restore(admin, before);
        }
        Check.that(!refused.isEmpty(), "none of %d sends was refused", ROUNDS * FLOOD);
        refused.forEach((body, how) -> Check.same(how, "code " + SYSTEM_BUSY, "refusal of <" + body + ">"));
        // refused means not stored: each may be sent again
        for (String body : refused.keySet().stream().limit(50).toList()) {
            Check.same(env.producer().send(message(topic, body)).getSendStatus(), SendStatus.SEND_OK, "a send after the flood");
            wanted.add(body);
        }
        return refused.size();
    }

    private static Message message(String topic, String body) {
        return new Message(topic, body.getBytes(StandardCharsets.UTF_8));
    }

    /** Sets each key that the broker lets be set; one must be. Returns what they were, by broker. */
    private static Map<String, Properties> change(DefaultMQAdminExt admin, List<String> brokers, Map<String, String> to) throws Exception {
        Map<String, Properties> before = new HashMap<>();
        for (String broker : brokers) {
            Properties is = admin.getBrokerConfig(broker);
            Properties were = new Properties();
            List<String> reasons = new ArrayList<>();
            for (Map.Entry<String, String> e : to.entrySet()) {
                Properties p = new Properties();
                p.setProperty(e.getKey(), e.getValue());
                try {
                    admin.updateBrokerConfig(broker, p);
                    Check.same(admin.getBrokerConfig(broker).getProperty(e.getKey()), e.getValue(), e.getKey() + " after its change");
                    were.setProperty(e.getKey(), is.getProperty(e.getKey()));
                } catch (MQBrokerException refused) {
                    reasons.add(refused.getErrorMessage());
                }
            }
            Check.that(!were.isEmpty(), "%s lets none be changed: %s", broker, reasons);
            before.put(broker, were);
        }
        return before;
    }

    private static void restore(DefaultMQAdminExt admin, Map<String, Properties> before) throws Exception {
        for (Map.Entry<String, Properties> e : before.entrySet()) {
            admin.updateBrokerConfig(e.getKey(), e.getValue());
        }
    }
}
