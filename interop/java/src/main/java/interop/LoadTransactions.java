package interop;

import java.nio.charset.StandardCharsets;
import java.util.List;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Transactions that are committed, rolled back, and left to be asked about: the one kind comes, the other does not. */
final class LoadTransactions extends Load {
    private static final String[] KINDS = {"commit", "rollback", "open-commit", "open-rollback"};

    private TransactionMQProducer producer;

    LoadTransactions(FailoverFeatures run) {
        super(run, "transactions", 1);
    }

    @Override
    void start(Env env) throws Exception {
        producer = new TransactionMQProducer(topic + "-asked");
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message m, Object what) {
                String body = new String(m.getBody(), StandardCharsets.UTF_8);
                return body.startsWith("open") ? LocalTransactionState.UNKNOW : state(body);
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt m) {
                return state(Seen.body(m));
            }
        });
        started(env, producer);
        consume(env, (msgs, context) -> {
            takeAll(msgs);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
    }

    private static LocalTransactionState state(String body) {
        return isCommitted(body) ? LocalTransactionState.COMMIT_MESSAGE : LocalTransactionState.ROLLBACK_MESSAGE;
    }

    private static boolean isCommitted(String body) {
        return body.startsWith("commit") || body.startsWith("open-commit");
    }

    @Override
    boolean attempt(long number) throws Exception {
        String body = KINDS[(int) (number % KINDS.length)] + " " + number;
        return acknowledged(producer.sendMessageInTransaction(message(number, body), null), body);
    }

    @Override
    List<String> lost() {
        return acked.stream().filter(b -> isCommitted(b) && !came.contains(b)).toList();
    }

    @Override
    void verify(Env env, String line) {
        Check.same(came.stream().filter(b -> !isCommitted(b)).count(), 0L, "messages that were rolled back and delivered: " + line);
    }
}
