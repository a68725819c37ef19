package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * One feature under a steady load of its own while something outside kills the leader: numbered messages, each tried until it is
 * acknowledged, and consumers. What was acknowledged is in {@link #acked} and must have come, by body, in {@link #came}, unless the
 * feature says otherwise. One thread sends; consumers call from theirs.
 */
abstract class Load {
    static final int QUEUES = 4;

    final String kind;
    /** Messages a second, as a share of the rate of the run. */
    final double share;
    final Set<String> acked = ConcurrentHashMap.newKeySet();
    final Set<String> came = ConcurrentHashMap.newKeySet();
    /** Numbers that are done with. */
    final AtomicLong done = new AtomicLong();
    final String topic;
    final String group;
    private final int pollMs;

    Load(FailoverFeatures run, String kind, double share) {
        this.kind = kind;
        this.share = share;
        this.topic = run.prefix() + "-" + kind;
        this.group = topic + "-group";
        this.pollMs = run.pollMs();
    }

    /** Consumers, and whatever else there is before the first message; the topic is there. */
    abstract void start(Env env) throws Exception;

    /** One attempt with this number; whether it is done with. */
    abstract boolean attempt(long number) throws Exception;

    /** Whether messages are on their way to the end of theirs. */
    boolean underWay() {
        return came.size() > 5;
    }

    /** What was acknowledged, is to come, and did not. */
    List<String> lost() {
        return acked.stream().filter(b -> !came.contains(b)).toList();
    }

    /** All that must hold at the end beside {@link #lost}; {@code line} is for the reason of a failure. */
    void verify(Env env, String line) throws Exception {}

    /** For the PASS line, {@code key=value}. */
    String figures() {
        return kind + "=" + acked.size();
    }

    final Message message(long number, String body) {
        return new Message(topic, "", "k" + number, body.getBytes(StandardCharsets.UTF_8));
    }

    final boolean acknowledged(SendResult r, String body) {
        if (r.getSendStatus() != SendStatus.SEND_OK) {
            return false;
        }
        acked.add(body);
        return true;
    }

    /** Sets what every client of the run has, starts it, and ends it with the run. */
    final <P extends DefaultMQProducer> P started(Env env, P p) throws Exception {
        p.setNamesrvAddr(Env.namesrv());
        p.setInstanceName(Env.instance());
        p.setPollNameServerInterval(pollMs);
        p.start();
        env.closing(p::shutdown);
        return p;
    }

    final DefaultMQPushConsumer consumer(Env env, String ofGroup, MessageListenerConcurrently listener) {
        DefaultMQPushConsumer c = env.push(ofGroup);
        c.setPollNameServerInterval(pollMs);
        if (listener != null) {
            c.registerMessageListener(listener);
        }
        return c;
    }

    final void consume(Env env, MessageListenerConcurrently listener) throws Exception {
        DefaultMQPushConsumer c = consumer(env, group, listener);
        c.subscribe(topic, "*");
        Env.start(c);
    }

    final void takeAll(List<MessageExt> messages) {
        messages.forEach(m -> came.add(Seen.body(m)));
    }

    /** At most {@code n} of them, spread evenly. */
    static List<String> sample(Set<String> of, int n) {
        List<String> all = new ArrayList<>(of);
        all.sort(null);
        List<String> some = new ArrayList<>();
        for (int i = 0; i < n && i < all.size(); i++) {
            some.add(all.get((int) ((long) i * all.size() / Math.min(n, all.size()))));
        }
        return some;
    }
}
