package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;

/**
 * Timer messages that are taken back before their time never come, all others once: by the handle of the SendResult (5.x; wants
 * recallMessageEnable=true), and by a message that names the other one (TIMER_DEL_UNIQKEY).
 */
final class Recall implements Scenario {
    private static final int MESSAGES = 40;
    /** When they are due, ms from now. */
    private static final long DELAY_MS = 8_000;

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", 4);
        String other = env.topic("o", 1);
        Seen seen = new Seen();
        env.push(env.name("g"), topic, "*", seen.listener());
        Answers answers = new Answers();
        List<String> kept = new ArrayList<>();
        long at = System.currentTimeMillis() + DELAY_MS;
        int recalled = 0;
        int deleted = 0;
        String handle = null;
        for (int i = 0; i < MESSAGES; i++) {
            long due = at + 37L * i;
            String body = "recall " + i;
            SendResult r = env.producer().send(timer(topic, body, due));
            if (i % 4 == 1 && Line.is5()) {
                handle = Line.recallHandle(r);
                Check.same(Line.recall(env.producer(), topic, handle), r.getMsgId(), "what was taken back");
                recalled++;
            } else if (i % 4 == 3) {
                Message delete = timer(topic, "delete", due);
                MessageAccessor.putProperty(delete, "TIMER_DEL_UNIQKEY", topic + "+" + r.getMsgId());
                Check.same(env.producer().send(delete).getSendStatus(), SendStatus.SEND_OK, "status of a deleting message");
                deleted++;
            } else {
                kept.add(body);
            }
        }
        if (Line.is5()) {
            String last = handle;
            answers.of("recall: another topic", "MQBrokerException 604", () -> Line.recall(env.producer(), other, last));
            answers.of("recall: no such topic", "MQBrokerException 17", () -> Line.recall(env.producer(), "no-such-topic", last));
            answers.of("recall: no handle", "MQClientException -1", () -> Line.recall(env.producer(), topic, "~"));
        }
        answers.of("deleting message: too late", "MQBrokerException 13", () -> {
            Message late = timer(topic, "delete", System.currentTimeMillis() - 1_000);
            MessageAccessor.putProperty(late, "TIMER_DEL_UNIQKEY", topic + "+id");
            return env.producer().send(late);
        });
        Check.until(40, () -> seen.hasAll(kept), "all %d that were kept, not %s", kept.size(), seen.missing(kept));
        Thread.sleep(2_500);
        Check.same(seen.deliveries(), kept.size(), "deliveries");
        if (Line.is5()) {
            String late = handle;
            answers.of("recall: too late", "MQBrokerException 604", () -> Line.recall(env.producer(), topic, late));
        }
        answers.done();
        return "messages=" + MESSAGES + " recalled=" + recalled + " deleted=" + deleted;
    }

    private static Message timer(String topic, String body, long due) {
        Message m = new Message(topic, body.getBytes(StandardCharsets.UTF_8));
        MessageAccessor.putProperty(m, "TIMER_DELIVER_MS", String.valueOf(due));
        return m;
    }
}
