package interop;

import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Looking messages up: by offset message id, by unique id and by key. */
final class Query implements Scenario {
    private static final int MESSAGES = 5;

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", 2);
        long begin = System.currentTimeMillis() - 60_000;
        SendResult last = null;
        for (int i = 0; i < MESSAGES; i++) {
            Message m = new Message(topic, "tag", "", ("body " + i).getBytes(StandardCharsets.UTF_8));
            m.setKeys(List.of("shared", "own" + i));
            last = env.producer().send(m);
        }
        DefaultMQPullConsumer c = env.pull(env.name("g"));
        String body = "body " + (MESSAGES - 1);
        Check.same(Seen.body(c.viewMessage(topic, last.getOffsetMsgId())), body, "message by offset id");
        String id = last.getMsgId();
        AtomicReference<MessageExt> byId = new AtomicReference<>();
        // the index is built behind the commit log
        Check.until(15, () -> {
            byId.set(c.viewMessage(topic, id));
            return byId.get() != null;
        }, "message by unique id");
        Check.same(Seen.body(byId.get()), body, "message by unique id");
        Check.same(byId.get().getMsgId(), id, "msgId of the message by unique id");
        for (int i = 0; i < MESSAGES; i++) {
            QueryResult r = c.queryMessage(topic, "own" + i, 32, begin, System.currentTimeMillis() + 60_000);
            Check.same(r.getMessageList().size(), 1, "messages by the key of one");
            Check.same(Seen.body(r.getMessageList().get(0)), "body " + i, "message by its key");
        }
        QueryResult shared = c.queryMessage(topic, "shared", 32, begin, System.currentTimeMillis() + 60_000);
        Check.same(shared.getMessageList().size(), MESSAGES, "messages by a shared key");
        QueryResult none = null;
        try {
            none = c.queryMessage(topic, "no-such-key", 32, begin, System.currentTimeMillis() + 60_000);
        } catch (org.apache.rocketmq.client.exception.MQClientException e) {
            Check.same(e.getResponseCode(), 208, "code for a key that does not exist");
        }
        Check.that(none == null || none.getMessageList().isEmpty(), "a key that does not exist: %s", none);
        return "messages=" + MESSAGES;
    }
}
