package interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * One group with a tag and one with an SQL92 expression: each gets what it asked for and nothing else. At the end, messages from
 * before and after the failover are found by their key and by their id.
 */
final class LoadFilters extends Load {
    private static final String EXPRESSION = "n BETWEEN 2 AND 4 AND color = 'blue' AND other IS NULL";
    private static final int QUERIES = 20;

    private final Set<String> byTag = ConcurrentHashMap.newKeySet();
    private final Set<String> bySql = ConcurrentHashMap.newKeySet();
    private final ConcurrentHashMap<String, String> ids = new ConcurrentHashMap<>();
    private final long begin = System.currentTimeMillis();
    private DefaultMQProducer producer;

    LoadFilters(FailoverFeatures run) {
        super(run, "filtered", 1);
    }

    @Override
    void start(Env env) throws Exception {
        producer = started(env, new DefaultMQProducer(topic + "-producer"));
        group(env, "tag", byTag, MessageSelector.byTag("even"));
        group(env, "sql", bySql, MessageSelector.bySql(EXPRESSION));
    }

    private void group(Env env, String name, Set<String> into, MessageSelector selector) throws Exception {
        DefaultMQPushConsumer c = consumer(env, group + "-" + name, (msgs, context) -> {
            msgs.forEach(m -> into.add(Seen.body(m)));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        c.subscribe(topic, selector);
        Env.start(c);
    }

    private static long number(String body) {
        return Long.parseLong(body.split(" ")[1]);
    }

    private static boolean hasTag(String body) {
        return number(body) % 2 == 0;
    }

    private static boolean fits(String body) {
        long n = number(body) % 10;
        return n >= 2 && n <= 4 && number(body) % 3 == 0;
    }

    @Override
    boolean underWay() {
        return byTag.size() > 5 && bySql.size() > 1;
    }

    @Override
    boolean attempt(long number) throws Exception {
        String body = "filtered " + number;
        Message m = message(number, body);
        m.setTags(hasTag(body) ? "even" : "odd");
        m.putUserProperty("n", String.valueOf(number % 10));
        m.putUserProperty("color", number % 3 == 0 ? "blue" : "green");
        SendResult r = producer.send(m);
        boolean done = acknowledged(r, body);
        if (done) {
            ids.put(body, r.getMsgId());
        }
        return done;
    }

    @Override
    List<String> lost() {
        List<String> lost = new ArrayList<>();
        acked.stream().filter(b -> hasTag(b) && !byTag.contains(b)).forEach(b -> lost.add("by tag: " + b));
        acked.stream().filter(b -> fits(b) && !bySql.contains(b)).forEach(b -> lost.add("by SQL: " + b));
        return lost;
    }

    @Override
    void verify(Env env, String line) throws Exception {
        Check.that(byTag.stream().allMatch(LoadFilters::hasTag), "a message without the tag came: %s", line);
        Check.that(bySql.stream().allMatch(LoadFilters::fits), "a message that does not fit <%s> came: %s", EXPRESSION, line);
        DefaultMQAdminExt admin = env.admin();
        for (String body : sample(acked, QUERIES)) {
            Check.until(30, () -> {
                QueryResult found = admin.queryMessage(topic, "k" + number(body), 64, begin, System.currentTimeMillis());
                return found.getMessageList().stream().anyMatch(m -> Seen.body(m).equals(body) && m.getMsgId().equals(ids.get(body)));
            }, "<%s> by its key: %s", body, line);
            Check.same(Seen.body(admin.viewMessage(topic, ids.get(body))), body, "message by its id: " + line);
        }
    }

    @Override
    String figures() {
        return "by_tag=" + byTag.size() + " by_sql=" + bySql.size();
    }
}
