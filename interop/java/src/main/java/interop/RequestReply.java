package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
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
        Check.same(get(ask(asking, topic, "one", 30_000)), "re: one", "reply");
        String large = "x".repeat(LARGE);
        Check.same(get(ask(asking, topic, large, 10_000)), "re: " + large, "large reply");
        int waitedFor = 0;
        if (!Line.is5()) {
            for (; waitedFor < 3; waitedFor++) {
                Message answer = asking.request(new Message(topic, "tag", bytes("sync")), 10_000);
                Check.same(new String(answer.getBody(), StandardCharsets.UTF_8), "re: sync", "reply that was waited for");
            }
        }
        List<CompletableFuture<Message>> many = new ArrayList<>();
        for (int i = 0; i < CALLBACKS; i++) {
            many.add(ask(asking, topic, "callback " + i, 10_000));
        }
        for (int i = 0; i < CALLBACKS; i++) {
            Check.same(get(many.get(i)), "re: callback " + i, "reply by callback");
        }
        int all = CALLBACKS + 2 + waitedFor;
        // A reply comes before the answer to its sender.
        Check.until(10, () -> replies.get() >= all, "%d replies sent", all);
        Check.same(replies.get(), all, "replies");
        Check.same(failed.get(), 0, "replies that failed");

        long begin = System.nanoTime();
        try {
            get(ask(asking, ignored, "nobody", 2_000));
            throw new Check.Failed("a request that nobody replies to returned");
        } catch (ExecutionException e) {
            Check.that(e.getCause() instanceof RequestTimeoutException, "a request that nobody replies to: %s", e.getCause());
            long ms = (System.nanoTime() - begin) / 1_000_000;
            Check.that(ms >= 1_900 && ms < 10_000, "timed out after %d ms", ms);
        }
        return "replies=" + replies.get();
    }

    /**
     * A request by callback, to a queue that a selector chooses. The simpler forms of the 5.3.3 client end as soon as the request is
     * sent, without waiting for the reply (apache/rocketmq#9608).
     */
    private static CompletableFuture<Message> ask(DefaultMQProducer p, String topic, String body, long timeoutMs) throws Exception {
        CompletableFuture<Message> f = new CompletableFuture<>();
        p.request(new Message(topic, "tag", bytes(body)), (queues, m, arg) -> queues.get(Math.floorMod(body.hashCode(), queues.size())), null, new RequestCallback() {
            @Override
            public void onSuccess(Message m) {
                f.complete(m);
            }

            @Override
            public void onException(Throwable e) {
                f.completeExceptionally(e);
            }
        }, timeoutMs);
        return f;
    }

    private static String get(CompletableFuture<Message> reply) throws Exception {
        return new String(reply.get(40, TimeUnit.SECONDS).getBody(), StandardCharsets.UTF_8);
    }

    private static byte[] bytes(String s) {
        return s.getBytes(StandardCharsets.UTF_8);
    }

    private static String reply(byte[] request) {
        return "re: " + new String(request, StandardCharsets.UTF_8);
    }
}
