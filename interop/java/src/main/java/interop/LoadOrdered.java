package interop;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Messages to chosen queues and an orderly consumer: the order of each queue holds. */
final class LoadOrdered extends Load {
    private final Map<Integer, List<Long>> numbersOf = new ConcurrentHashMap<>();
    private List<MessageQueue> queues;
    private DefaultMQProducer producer;

    LoadOrdered(FailoverFeatures run) {
        super(run, "ordered", 1);
    }

    @Override
    void start(Env env) throws Exception {
        producer = started(env, new DefaultMQProducer(topic + "-producer"));
        queues = env.queues(topic);
        DefaultMQPushConsumer c = consumer(env, group, null);
        c.subscribe(topic, "*");
        c.registerMessageListener((MessageListenerOrderly) (msgs, context) -> {
            for (MessageExt m : msgs) {
                String[] words = Seen.body(m).split(" ");
                List<Long> numbers = numbersOf.computeIfAbsent(Integer.parseInt(words[0]), k -> new ArrayList<>());
                synchronized (numbers) {
                    numbers.add(Long.parseLong(words[1]));
                }
            }
            takeAll(msgs);
            return ConsumeOrderlyStatus.SUCCESS;
        });
        Env.start(c);
    }

    @Override
    boolean underWay() {
        return numbersOf.size() == QUEUES;
    }

    @Override
    boolean attempt(long number) throws Exception {
        MessageQueue queue = queues.get((int) (number % queues.size()));
        String body = queue.getQueueId() + " " + number;
        SendResult r = producer.send(message(number, body), (all, m, arg) -> queue, null);
        return acknowledged(r, body);
    }

    @Override
    void verify(Env env, String line) {
        numbersOf.forEach((queue, numbers) -> {
            long last = -1;
            Set<Long> before = new HashSet<>();
            for (long n : List.copyOf(numbers)) {
                if (before.add(n)) {
                    Check.that(n > last, "queue %d: %d came first after %d: %s", queue, n, last, line);
                    last = n;
                }
            }
        });
    }
}
