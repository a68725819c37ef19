package interop;

import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;

/**
 * Timer messages of which every other one is taken back: what is acknowledged as taken back never comes, all others do. By the
 * handle of the SendResult with the 5.x client, by a message that names the other one with 4.9.
 */
final class LoadRecalls extends Load {
    private static final long DELAY_MS = 15_000;
    /** A message that was taken back later than so long before its time may be on its way already, ms. */
    private static final long MARGIN_MS = 2_000;
    /** ILLEGAL_OPERATION: too late. */
    private static final int TOO_LATE = 604;

    private record Sent(String body, SendResult result, long due) {}

    private final Map<Long, Sent> toRecall = new ConcurrentHashMap<>();
    private final Set<String> recalled = ConcurrentHashMap.newKeySet();
    private final AtomicLong attempts = new AtomicLong();
    private DefaultMQProducer producer;

    LoadRecalls(FailoverFeatures run) {
        super(run, "recalls", 0.4);
    }

    @Override
    void start(Env env) throws Exception {
        producer = started(env, new DefaultMQProducer(topic + "-producer"));
        consume(env, (msgs, context) -> {
            takeAll(msgs);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
    }

    @Override
    boolean underWay() {
        return recalled.size() > 5;
    }

    @Override
    boolean attempt(long number) throws Exception {
        Sent sent = toRecall.get(number);
        if (sent == null) {
            // a number that is tried again has another body: what became of the first copy is not known
            String body = "recall " + number + " " + attempts.incrementAndGet();
            long due = System.currentTimeMillis() + DELAY_MS;
            SendResult r = producer.send(timer(body, due));
            if (r.getSendStatus() != SendStatus.SEND_OK || number % 2 == 0) {
                return acknowledged(r, body);
            }
            sent = new Sent(body, r, due);
            toRecall.put(number, sent);
        }
        if (System.currentTimeMillis() > sent.due - MARGIN_MS) {
            return true;
        }
        try {
            recall(sent);
        } catch (MQBrokerException e) {
            if (e.getResponseCode() == TOO_LATE) {
                return true;
            }
            throw e;
        }
        if (System.currentTimeMillis() < sent.due - MARGIN_MS) {
            recalled.add(sent.body);
        }
        return true;
    }

    private void recall(Sent sent) throws Exception {
        if (Line.is5()) {
            Line.recall(producer, topic, Line.recallHandle(sent.result));
            return;
        }
        Message delete = timer("delete", sent.due);
        MessageAccessor.putProperty(delete, "TIMER_DEL_UNIQKEY", topic + "+" + sent.result.getMsgId());
        SendStatus status = producer.send(delete).getSendStatus();
        if (status != SendStatus.SEND_OK) {
            throw new IllegalStateException("status " + status);
        }
    }

    private Message timer(String body, long due) {
        Message m = message(attempts.get(), body);
        MessageAccessor.putProperty(m, "TIMER_DELIVER_MS", String.valueOf(due));
        return m;
    }

    @Override
    void verify(Env env, String line) throws Exception {
        // the last of them would be due now
        Thread.sleep(MARGIN_MS);
        List<String> wrong = recalled.stream().filter(came::contains).toList();
        Check.that(wrong.isEmpty(), "taken back and delivered: %s: %s", wrong.subList(0, Math.min(5, wrong.size())), line);
    }

    @Override
    String figures() {
        return "timers_kept=" + acked.size() + " taken_back=" + recalled.size();
    }
}
