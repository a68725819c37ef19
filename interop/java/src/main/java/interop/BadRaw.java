package interop;

import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.netty.NettyClientConfig;
import org.apache.rocketmq.remoting.netty.NettyRemotingClient;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/**
 * What the client's own checks never let through, sent with the client's remoting layer alone. The codes are those of
 * Apache RocketMQ 5.3.3.
 */
final class BadRaw implements Scenario {
    private static final int SEND_MESSAGE = 10;
    private static final int PULL_MESSAGE = 11;
    private static final int HEART_BEAT = 34;
    private static final int GET_ROUTE = 105;
    private static final long TIMEOUT_MS = 10_000;

    @Override
    public String run(Env env) throws Exception {
        String topic = env.topic("t", 2);
        MessageQueue q = env.queues(topic).get(0);
        String broker = env.masterOf(env.admin(), q);
        String namesrv = Env.namesrv().split(";")[0];
        NettyRemotingClient client = new NettyRemotingClient(new NettyClientConfig());
        client.start();
        env.closing(client::shutdown);
        byte[] one = {1};
        Answers a = new Answers();
        Raw raw = new Raw(client, a);

        raw.send("send: good", "0", broker, send(topic), one);
        raw.send("send: illegal topic", "29", broker, send("bad topic!"), one);
        raw.send("send: topic of 128 characters", "29", broker, send("t".repeat(128)), one);
        raw.send("send: no topic", "1|29", broker, without(send(topic), "topic"), one);
        raw.send("send: empty topic", "29", broker, send(""), one);
        raw.send("send: queue id not a number", "1|29", broker, with(send(topic), "queueId", "x"), one);
        raw.send("send: forbidden system topic", "16", broker, send("SCHEDULE_TOPIC_XXXX"), one);
        raw.send("send: empty body", "1|13", broker, send(topic), new byte[0]);
        raw.send("send: broken batch", "1|13", broker, with(send(topic), "batch", "true"), new byte[] {0, 0, 0, 100, 1, 2, 3});
        raw.send("send: batch to a retry topic", "13", broker, with(send("%RETRY%interop-raw"), "batch", "true"), new byte[] {0, 0, 0, 100, 1, 2, 3});
        raw.send("send: an inner batch", "13", broker, with(send(topic), "sysFlag", "128"), one);
        raw.send("send: inner messages without being one", "13", broker, with(send(topic), "properties", "INNER_NUM\u00012\u0002"), one);
        raw.send("send: properties over 32 KiB", "13", broker, with(send(topic), "properties", "k\u0001" + "x".repeat(32_800) + "\u0002"), one);
        raw.send("send: a level that is no number", "1", broker, with(send(topic), "properties", "DELAY\u0001x\u0002"), one);
        raw.call("unknown request code", "3", broker, 9999, Map.of(), null);
        raw.call("unknown request code, name server", "3", namesrv, 9999, Map.of(), null);
        raw.call("pull: no fields", "1", broker, PULL_MESSAGE, Map.of(), null);
        raw.call("heartbeat: not JSON", "1", broker, HEART_BEAT, Map.of(), "no json".getBytes());
        raw.call("route: no topic", "17|1", namesrv, GET_ROUTE, Map.of(), null);
        raw.call("route: unknown topic", "17", namesrv, GET_ROUTE, Map.of("topic", "no-such-topic"), null);
        raw.send("send: good after all", "0", broker, send(topic), one);
        return a.done();
    }

    private static Map<String, String> send(String topic) {
        Map<String, String> f = new LinkedHashMap<>();
        f.put("producerGroup", "interop-raw");
        f.put("topic", topic);
        f.put("defaultTopic", Env.CREATE_KEY);
        f.put("defaultTopicQueueNums", "4");
        f.put("queueId", "0");
        f.put("sysFlag", "0");
        f.put("bornTimestamp", Long.toString(System.currentTimeMillis()));
        f.put("flag", "0");
        f.put("properties", "");
        f.put("reconsumeTimes", "0");
        f.put("unitMode", "false");
        f.put("batch", "false");
        return f;
    }

    private static Map<String, String> without(Map<String, String> f, String key) {
        Map<String, String> m = new HashMap<>(f);
        m.remove(key);
        return m;
    }

    private static Map<String, String> with(Map<String, String> f, String key, String value) {
        Map<String, String> m = new HashMap<>(f);
        m.put(key, value);
        return m;
    }

    private record Raw(NettyRemotingClient client, Answers answers) {
        void send(String what, String want, String address, Map<String, String> fields, byte[] body) {
            call(what, want, address, SEND_MESSAGE, fields, body);
        }

        void call(String what, String want, String address, int code, Map<String, String> fields, byte[] body) {
            RemotingCommand c = RemotingCommand.createRequestCommand(code, null);
            fields.forEach(c::addExtField);
            c.setBody(body);
            try {
                RemotingCommand r = client.invokeSync(address, c, TIMEOUT_MS);
                answers.is(what, want, "" + r.getCode(), r.getRemark());
            } catch (Exception e) {
                answers.is(what, want, e.getClass().getSimpleName(), e.getMessage());
            }
        }
    }
}
