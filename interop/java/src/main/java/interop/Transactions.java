package interop;

import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Transactions that are committed, rolled back, or left open: then the broker asks, and the answers commit, roll back, and say nothing
 * once before they commit. Every message comes once or never, as itself. Wants transactionTimeOut and transactionCheckInterval of
 * a few seconds.
 */
final class Transactions implements Scenario {
    private static final int EACH = 10;

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", 4);
        Seen seen = new Seen();
        env.push(env.name("g"), topic, "tag", seen.listener());
        Map<String, AtomicInteger> asked = new ConcurrentHashMap<>();
        TransactionMQProducer producer = new TransactionMQProducer(env.name("p"));
        producer.setNamesrvAddr(Env.namesrv());
        producer.setInstanceName(Env.instance());
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message m, Object what) {
                switch ((String) what) {
                    case "commit": return LocalTransactionState.COMMIT_MESSAGE;
                    case "rollback": return LocalTransactionState.ROLLBACK_MESSAGE;
                    case "fails": throw new IllegalStateException("the local transaction fails, as this scenario wants");
                    default: return LocalTransactionState.UNKNOW;
                }
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt m) {
                String body = Seen.body(m);
                int times = asked.computeIfAbsent(body, k -> new AtomicInteger()).incrementAndGet();
                Check.same(m.getTopic(), topic, "topic of a check");
                if (body.startsWith("asked-rollback") || body.startsWith("fails")) {
                    return LocalTransactionState.ROLLBACK_MESSAGE;
                }
                return body.startsWith("asked-twice") && times < 2 ? LocalTransactionState.UNKNOW : LocalTransactionState.COMMIT_MESSAGE;
            }
        });
        producer.start();
        env.closing(producer::shutdown);
        String[] kinds = {"commit", "rollback", "asked-commit", "asked-rollback", "asked-twice", "fails"};
        Map<String, String> ids = new ConcurrentHashMap<>();
        for (int i = 0; i < EACH; i++) {
            for (String kind : kinds) {
                String body = kind + " " + i;
                Message m = new Message(topic, "tag", "k" + i, body.getBytes(StandardCharsets.UTF_8));
                m.putUserProperty("mine", body);
                SendResult r = producer.sendMessageInTransaction(m, kind);
                Check.same(r.getSendStatus(), SendStatus.SEND_OK, "status of a half message");
                ids.put(body, r.getTransactionId());
            }
        }
        int wanted = 3 * EACH;
        Check.until(90, () -> seen.distinct() >= wanted, "%d committed messages", wanted);
        Check.until(60, () -> asked.size() >= 4 * EACH, "all open transactions are asked about, not %d", asked.size());
        Thread.sleep(5_000);
        Check.same(seen.deliveries(), wanted, "deliveries");
        for (MessageExt m : seen.all()) {
            String body = Seen.body(m);
            Check.that(body.startsWith("commit") || body.startsWith("asked-commit") || body.startsWith("asked-twice"), "<%s> came", body);
            Check.same(m.getMsgId(), ids.get(body), "transaction id, which is the message id");
            Check.same(m.getUserProperty("mine"), body, "property");
            Check.same(m.getTags(), "tag", "tag");
        }
        return "messages=" + kinds.length * EACH + " committed=" + wanted + " asked=" + asked.size();
    }
}
