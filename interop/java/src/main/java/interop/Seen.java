package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Records what a consumer was given, by message body. */
final class Seen {
    private final Map<String, List<MessageExt>> byBody = new ConcurrentHashMap<>();

    static String body(MessageExt m) {
        return new String(m.getBody(), StandardCharsets.UTF_8);
    }

    static MessageQueue queue(MessageExt m) {
        return new MessageQueue(m.getTopic(), m.getBrokerName(), m.getQueueId());
    }

    /** A listener that records and succeeds. */
    MessageListenerConcurrently listener() {
        return (msgs, context) -> {
            msgs.forEach(this::add);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        };
    }

    void add(MessageExt m) {
        byBody.computeIfAbsent(body(m), k -> new CopyOnWriteArrayList<>()).add(m);
    }

    List<MessageExt> of(String body) {
        return byBody.getOrDefault(body, Collections.emptyList());
    }

    List<MessageExt> all() {
        return byBody.values().stream().flatMap(List::stream).collect(Collectors.toList());
    }

    /** Distinct bodies. */
    int distinct() {
        return byBody.size();
    }

    /** Deliveries, with repeated ones. */
    int deliveries() {
        return byBody.values().stream().mapToInt(List::size).sum();
    }

    boolean hasAll(java.util.Collection<String> bodies) {
        return byBody.keySet().containsAll(bodies);
    }

    /** Those of {@code bodies} that did not come, at most ten. */
    List<String> missing(java.util.Collection<String> bodies) {
        List<String> l = new ArrayList<>(bodies);
        l.removeAll(byBody.keySet());
        return l.subList(0, Math.min(10, l.size()));
    }

    /** How many deliveries came from each queue. */
    Map<MessageQueue, Integer> perQueue() {
        Map<MessageQueue, Integer> m = new TreeMap<>();
        all().forEach(x -> m.merge(queue(x), 1, Integer::sum));
        return m;
    }
}
