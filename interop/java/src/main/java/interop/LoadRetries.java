package interop;

import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;

/** Messages that a consumer gives back: they come again; or, when it always does, they become dead letters after all attempts. */
final class LoadRetries extends Load {
    private static final int MAX_RECONSUME = 2;
    /** Delay level of the next attempt: 1 s by default. */
    private static final int LEVEL = 1;

    private final boolean toTheEnd;
    private final Set<String> tooOften = ConcurrentHashMap.newKeySet();
    private DefaultMQProducer producer;

    /** Given back once. */
    static LoadRetries once(FailoverFeatures run) {
        return new LoadRetries(run, "retried", 1, false);
    }

    /** Given back until they are dead letters, which another group consumes. */
    static LoadRetries deadLetters(FailoverFeatures run) {
        return new LoadRetries(run, "dead", 0.1, true);
    }

    private LoadRetries(FailoverFeatures run, String kind, double share, boolean toTheEnd) {
        super(run, kind, share);
        this.toTheEnd = toTheEnd;
    }

    @Override
    void start(Env env) throws Exception {
        producer = started(env, new DefaultMQProducer(topic + "-producer"));
        DefaultMQPushConsumer c = consumer(env, group, toTheEnd ? this::never : this::secondTime);
        c.setMaxReconsumeTimes(toTheEnd ? MAX_RECONSUME : -1);
        c.subscribe(topic, "*");
        Env.start(c);
        if (toTheEnd) {
            DefaultMQPushConsumer dead = consumer(env, group + "-dead", (msgs, context) -> {
                takeAll(msgs);
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            dead.subscribe("%DLQ%" + group, "*");
            Env.start(dead);
        }
    }

    private ConsumeConcurrentlyStatus secondTime(List<MessageExt> msgs, ConsumeConcurrentlyContext context) {
        if (msgs.get(0).getReconsumeTimes() > 0) {
            takeAll(msgs);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        }
        context.setDelayLevelWhenNextConsume(LEVEL);
        return ConsumeConcurrentlyStatus.RECONSUME_LATER;
    }

    private ConsumeConcurrentlyStatus never(List<MessageExt> msgs, ConsumeConcurrentlyContext context) {
        if (msgs.get(0).getReconsumeTimes() > MAX_RECONSUME) {
            tooOften.add(Seen.body(msgs.get(0)));
        }
        context.setDelayLevelWhenNextConsume(LEVEL);
        return ConsumeConcurrentlyStatus.RECONSUME_LATER;
    }

    @Override
    boolean underWay() {
        // the first dead letter makes its topic, which a consumer learns of by its next route poll
        return toTheEnd ? acked.size() > 5 : super.underWay();
    }

    @Override
    boolean attempt(long number) throws Exception {
        String body = kind + " " + number;
        return acknowledged(producer.send(message(number, body)), body);
    }

    @Override
    void verify(Env env, String line) {
        Check.same(tooOften.size(), 0, "messages delivered after the last attempt: " + line);
    }
}
