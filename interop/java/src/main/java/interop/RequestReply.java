package interop;

import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.exception.RequestTimeoutException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.RequestCallback;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.message.Message;

/** Requests and their replies: waited for, by callback, many at once, large; and one that nobody replies to. */
final class RequestReply implements Scenario {
    private static final int CALLBACKS = 50;
    /** Large enough for the client to compress it. */
    private static final int LARGE = 20_000;

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", 4);
        String ignored = env.topic("ignored", 1);
        DefaultMQProducer replying = env.producer();
        AtomicInteger replies = new AtomicInteger();
        AtomicInteger failed = new AtomicInteger();
        env.push(env.name("g"), topic, "*", (msgs, context) -> {
            msgs.forEach(m -> {
                try {
                    Message reply = MessageUtil.createReplyMessage(m, reply(m.getBody()).getBytes(StandardCharsets.UTF_8));
                    Check.same(replying.send(reply).getSendStatus(), SendStatus.SEND_OK, "status of a reply");
                    replies.incrementAndGet();
                } catch (Exception e) {
                    failed.incrementAndGet();
                }
            });
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });

        // A client that does not know the topic yet announces itself with its first request.
        DefaultMQProducer asking = new DefaultMQProducer(env.name("asking"));
        asking.setNamesrvAddr(Env.namesrv());
        asking.setInstanceName(Env.instance());
        asking.start();
        env.closing(asking::shutdown);
        Message answer = asking.request(new Message(topic, "tag", bytes("one")), 30_000);
        Check.same(new String(answer.getBody(), StandardCharsets.UTF_8), "re: one", "reply");
        String large = "x".repeat(LARGE);
        answer = asking.request(new Message(topic, bytes(large)), 10_000);
        Check.same(new String(answer.getBody(), StandardCharsets.UTF_8), "re: " + large, "large reply");

        Map<String, String> got = new ConcurrentHashMap<>();
        for (int i = 0; i < CALLBACKS; i++) {
            String body = "callback " + i;
            asking.request(new Message(topic, bytes(body)), new RequestCallback() {
                @Override
                public void onSuccess(Message m) {
                    got.put(body, new String(m.getBody(), StandardCharsets.UTF_8));
                }

                @Override
                public void onException(Throwable e) {
                    got.put(body, e.toString());
                }
            }, 10_000);
        }
        Check.until(15, () -> got.size() == CALLBACKS, "%d callbacks", CALLBACKS);
        got.forEach((body, r) -> Check.same(r, "re: " + body, "reply by callback"));
        Check.same(failed.get(), 0, "replies that failed");
        Check.same(replies.get(), CALLBACKS + 2, "replies");

        long begin = System.nanoTime();
        try {
            asking.request(new Message(ignored, bytes("nobody")), 2_000);
            throw new Check.Failed("a request that nobody replies to returned");
        } catch (RequestTimeoutException e) {
            long ms = (System.nanoTime() - begin) / 1_000_000;
            Check.that(ms >= 1_900 && ms < 10_000, "timed out after %d ms", ms);
        }
        return "replies=" + replies.get();
    }

    private static byte[] bytes(String s) {
        return s.getBytes(StandardCharsets.UTF_8);
    }

    private static String reply(byte[] request) {
        return "re: " + new String(request, StandardCharsets.UTF_8);
    }
}
