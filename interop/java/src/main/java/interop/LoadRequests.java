package interop;

import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.RequestCallback;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Requests, each tried until it has its reply: every number gets one, and that of no other request. */
final class LoadRequests extends Load {
    private static final long TIMEOUT_MS = 2_000;
    /** A broker replies only to clients that it knows from their heartbeat; a new leader knows them after so long, ms. */
    private static final int HEARTBEAT_MS = 3_000;

    private final AtomicLong wrong = new AtomicLong();
    private DefaultMQProducer asking;
    private DefaultMQProducer replying;

    LoadRequests(FailoverFeatures run) {
        super(run, "requests", 0.4);
    }

    @Override
    void start(Env env) throws Exception {
        replying = started(env, new DefaultMQProducer(topic + "-replying"));
        asking = new DefaultMQProducer(topic + "-asking");
        asking.setHeartbeatBrokerInterval(HEARTBEAT_MS);
        started(env, asking);
        consume(env, (msgs, context) -> {
            for (MessageExt m : msgs) {
                try {
                    replying.send(MessageUtil.createReplyMessage(m, ("re: " + Seen.body(m)).getBytes(StandardCharsets.UTF_8)));
                } catch (Exception e) {
                    // who asked will ask again
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
    }

    @Override
    boolean underWay() {
        return acked.size() > 5;
    }

    @Override
    boolean attempt(long number) throws Exception {
        String body = "request " + number;
        CompletableFuture<Message> reply = new CompletableFuture<>();
        // see RequestReply about the forms without a selector
        asking.request(message(number, body), (queues, m, arg) -> queues.get((int) (number % queues.size())), null, new RequestCallback() {
            @Override
            public void onSuccess(Message m) {
                reply.complete(m);
            }

            @Override
            public void onException(Throwable e) {
                reply.completeExceptionally(e);
            }
        }, TIMEOUT_MS);
        String got = new String(reply.get(2 * TIMEOUT_MS, TimeUnit.MILLISECONDS).getBody(), StandardCharsets.UTF_8);
        if (!got.equals("re: " + body)) {
            wrong.incrementAndGet();
        }
        acked.add(body);
        return true;
    }

    @Override
    List<String> lost() {
        return List.of();
    }

    @Override
    void verify(Env env, String line) {
        Check.same(wrong.get(), 0L, "replies to another request: " + line);
    }
}
