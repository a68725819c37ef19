/*
 * Writes remoting/tests/golden/*.hex with the Java library. Regenerate from the repository root, with the jars of
 * rocketmq-broker 5.3.3 and its dependencies from Maven Central in $JARS (mvn dependency:copy-dependencies):
 *
 *   java --add-opens=java.base/java.lang=ALL-UNNAMED --add-opens=java.base/java.nio=ALL-UNNAMED \
 *        --add-opens=java.base/sun.nio.ch=ALL-UNNAMED -cp "$JARS/*" interop/golden/GoldenFrames.java remoting/tests/golden
 */

import java.io.File;
import java.io.IOException;
import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.Collections;
import java.util.Enumeration;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;

import com.alibaba.fastjson.serializer.SerializerFeature;
import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExtBrokerInner;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.message.MessageVersion;
import org.apache.rocketmq.remoting.CommandCustomHeader;
import org.apache.rocketmq.remoting.annotation.CFNotNull;
import org.apache.rocketmq.remoting.protocol.DataVersion;
import org.apache.rocketmq.remoting.protocol.LanguageCode;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.RemotingSerializable;
import org.apache.rocketmq.remoting.protocol.SerializeType;
import org.apache.rocketmq.remoting.protocol.admin.ConsumeStats;
import org.apache.rocketmq.remoting.protocol.admin.OffsetWrapper;
import org.apache.rocketmq.remoting.protocol.admin.TopicOffset;
import org.apache.rocketmq.remoting.protocol.admin.TopicStatsTable;
import org.apache.rocketmq.remoting.protocol.body.BatchAck;
import org.apache.rocketmq.remoting.protocol.body.BatchAckMessageRequestBody;
import org.apache.rocketmq.remoting.protocol.body.ClusterInfo;
import org.apache.rocketmq.remoting.protocol.body.ConsumerConnection;
import org.apache.rocketmq.remoting.protocol.body.Connection;
import org.apache.rocketmq.remoting.protocol.body.LockBatchRequestBody;
import org.apache.rocketmq.remoting.protocol.body.LockBatchResponseBody;
import org.apache.rocketmq.remoting.protocol.body.RegisterBrokerBody;
import org.apache.rocketmq.remoting.protocol.body.ResetOffsetBody;
import org.apache.rocketmq.remoting.protocol.body.TopicConfigAndMappingSerializeWrapper;
import org.apache.rocketmq.remoting.protocol.header.PullMessageRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.PullMessageResponseHeader;
import org.apache.rocketmq.remoting.protocol.header.PopMessageRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.SendMessageRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.SendMessageRequestHeaderV2;
import org.apache.rocketmq.remoting.protocol.header.SendMessageResponseHeader;
import org.apache.rocketmq.remoting.protocol.header.namesrv.GetRouteInfoRequestHeader;
import org.apache.rocketmq.remoting.protocol.heartbeat.ConsumeType;
import org.apache.rocketmq.remoting.protocol.heartbeat.ConsumerData;
import org.apache.rocketmq.remoting.protocol.heartbeat.HeartbeatData;
import org.apache.rocketmq.remoting.protocol.heartbeat.MessageModel;
import org.apache.rocketmq.remoting.protocol.heartbeat.ProducerData;
import org.apache.rocketmq.remoting.protocol.heartbeat.SubscriptionData;
import org.apache.rocketmq.remoting.protocol.route.BrokerData;
import org.apache.rocketmq.remoting.protocol.route.QueueData;
import org.apache.rocketmq.remoting.protocol.route.TopicRouteData;
import org.apache.rocketmq.remoting.protocol.subscription.SubscriptionGroupConfig;
import org.apache.rocketmq.store.MessageExtEncoder;
import org.apache.rocketmq.store.config.MessageStoreConfig;

public class GoldenFrames {
    static final int VERSION = MQVersion.Version.V5_3_3.ordinal();
    static Path out;

    public static void main(String[] args) throws Exception {
        out = Path.of(args[0]);
        Files.createDirectories(out);
        for (SerializeType type : SerializeType.values()) {
            commands(type);
        }
        records();
        bodies();
        headers();
        System.exit(0);
    }

    static void write(String name, byte[] bytes) throws IOException {
        StringBuilder hex = new StringBuilder();
        for (int i = 0; i < bytes.length; i++) {
            hex.append(String.format("%02x", bytes[i]));
            if (i % 60 == 59) {
                hex.append('\n');
            }
        }
        Files.writeString(out.resolve(name + ".hex"), hex.append('\n').toString());
    }

    static void write(String name, ByteBuffer buffer) throws IOException {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        write(name, bytes);
    }

    static void command(SerializeType type, String name, RemotingCommand command) throws Exception {
        command.setSerializeTypeCurrentRPC(type);
        command.setVersion(VERSION);
        write((type == SerializeType.JSON ? "json-" : "binary-") + name, command.encode());
    }

    static SendMessageRequestHeader sendHeader(boolean batch) {
        SendMessageRequestHeader h = new SendMessageRequestHeader();
        h.setProducerGroup("golden_producer");
        h.setTopic("GoldenTopic");
        h.setDefaultTopic("TBW102");
        h.setDefaultTopicQueueNums(4);
        h.setQueueId(3);
        h.setSysFlag(0);
        h.setBornTimestamp(1700000000123L);
        h.setFlag(7);
        h.setProperties("KEYS\u0001k1 k2\u0002TAGS\u0001TagA\u0002UNIQ_KEY\u00017F0000010000000000000000000A0001\u0002caf\u00e9\u0001\u20ac \uD83D\uDE00\u0002");
        h.setReconsumeTimes(0);
        h.setUnitMode(false);
        h.setBatch(batch);
        h.setMaxReconsumeTimes(16);
        h.setBrokerName("broker-a");
        return h;
    }

    static void commands(SerializeType type) throws Exception {
        RemotingCommand c = RemotingCommand.createRequestCommand(10, sendHeader(false));
        c.setOpaque(1);
        c.setBody("hello v1".getBytes(StandardCharsets.UTF_8));
        command(type, "send-v1", c);

        c = RemotingCommand.createRequestCommand(310, SendMessageRequestHeaderV2.createSendMessageRequestHeaderV2(sendHeader(false)));
        c.setOpaque(2);
        c.setBody("hello v2".getBytes(StandardCharsets.UTF_8));
        command(type, "send-v2", c);

        List<Message> messages = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            Message m = new Message("GoldenTopic", "TagB", "key" + i, ("batch body " + i).getBytes(StandardCharsets.UTF_8));
            m.setFlag(i);
            messages.add(m);
        }
        c = RemotingCommand.createRequestCommand(320, SendMessageRequestHeaderV2.createSendMessageRequestHeaderV2(sendHeader(true)));
        c.setOpaque(3);
        c.setBody(MessageDecoder.encodeMessages(messages));
        command(type, "send-batch", c);

        PullMessageRequestHeader pull = new PullMessageRequestHeader();
        pull.setConsumerGroup("golden_consumer");
        pull.setTopic("GoldenTopic");
        pull.setQueueId(2);
        pull.setQueueOffset(1234567890123L);
        pull.setMaxMsgNums(32);
        pull.setSysFlag(6);
        pull.setCommitOffset(0L);
        pull.setSuspendTimeoutMillis(15000L);
        pull.setSubscription("TagA || TagB");
        pull.setSubVersion(1700000000000L);
        pull.setExpressionType("TAG");
        pull.setMaxMsgBytes(Integer.MAX_VALUE);
        pull.setRequestSource(-1);
        pull.setProxyFrowardClientId("client@1");
        c = RemotingCommand.createRequestCommand(11, pull);
        c.setOpaque(4);
        command(type, "pull", c);

        PullMessageResponseHeader found = new PullMessageResponseHeader();
        found.setSuggestWhichBrokerId(0L);
        found.setNextBeginOffset(10L);
        found.setMinOffset(0L);
        found.setMaxOffset(99L);
        c = RemotingCommand.createResponseCommandWithHeader(0, found);
        c.setOpaque(5);
        c.setRemark("FOUND");
        c.setBody(record(new InetSocketAddress(InetAddress.getByName("10.1.2.3"), 10911), "GoldenTopic", MessageVersion.MESSAGE_VERSION_V1));
        command(type, "pull-found", c);

        SendMessageResponseHeader sent = new SendMessageResponseHeader();
        sent.setMsgId("0A01020300002A9F0000000000001234");
        sent.setQueueId(3);
        sent.setQueueOffset(42L);
        c = RemotingCommand.createResponseCommandWithHeader(0, sent);
        c.setOpaque(6);
        c.addExtField("MSG_REGION", "DefaultRegion");
        c.addExtField("TRACE_ON", "true");
        command(type, "send-answer", c);

        c = RemotingCommand.createResponseCommand(1, "line \"one\"\n\ttab \\ caf\u00e9 \u0001\u007f", (Class<? extends CommandCustomHeader>) null);
        c.setOpaque(7);
        command(type, "error-answer", c);

        c = RemotingCommand.createResponseCommand(0, null, (Class<? extends CommandCustomHeader>) null);
        c.setOpaque(8);
        command(type, "bare-answer", c);

        c = RemotingCommand.createRequestCommand(34, null);
        c.setOpaque(9);
        c.setLanguage(LanguageCode.GO);
        c.setBody(heartbeat().encode());
        command(type, "heartbeat", c);

        GetRouteInfoRequestHeader route = new GetRouteInfoRequestHeader();
        route.setTopic("GoldenTopic");
        route.setAcceptStandardJsonOnly(true);
        c = RemotingCommand.createRequestCommand(105, route);
        c.setOpaque(10);
        command(type, "route", c);

        c = RemotingCommand.createResponseCommand(0, null, (Class<? extends CommandCustomHeader>) null);
        c.setOpaque(11);
        c.setBody(route().encode());
        command(type, "route-answer", c);

        PopMessageRequestHeader pop = new PopMessageRequestHeader();
        pop.setConsumerGroup("golden_consumer");
        pop.setTopic("GoldenTopic");
        pop.setQueueId(-1);
        pop.setMaxMsgNums(32);
        pop.setInvisibleTime(60000L);
        pop.setPollTime(15000L);
        pop.setBornTime(1700000000000L);
        pop.setInitMode(1);
        pop.setExpType("TAG");
        pop.setExp("*");
        pop.setOrder(false);
        c = RemotingCommand.createRequestCommand(200050, pop);
        c.setOpaque(12);
        command(type, "pop", c);

        c = RemotingCommand.createRequestCommand(15, null);
        c.setOpaque(13);
        c.markOnewayRPC();
        command(type, "oneway", c);
    }

    static HeartbeatData heartbeat() {
        HeartbeatData data = new HeartbeatData();
        data.setClientID("10.0.0.1@4711#1");
        ProducerData producer = new ProducerData();
        producer.setGroupName("golden_producer");
        data.setProducerDataSet(new HashSet<>(List.of(producer)));
        ConsumerData consumer = new ConsumerData();
        consumer.setGroupName("golden_consumer");
        consumer.setConsumeType(ConsumeType.CONSUME_PASSIVELY);
        consumer.setMessageModel(MessageModel.CLUSTERING);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        SubscriptionData subscription = new SubscriptionData("GoldenTopic", "TagA || TagB");
        subscription.setSubVersion(1700000000000L);
        subscription.setTagsSet(new HashSet<>(List.of("TagA", "TagB")));
        subscription.setCodeSet(new HashSet<>(List.of("TagA".hashCode(), "TagB".hashCode())));
        consumer.setSubscriptionDataSet(new HashSet<>(List.of(subscription)));
        data.setConsumerDataSet(new HashSet<>(List.of(consumer)));
        return data;
    }

    static TopicRouteData route() {
        TopicRouteData route = new TopicRouteData();
        HashMap<Long, String> addresses = new HashMap<>();
        addresses.put(0L, "10.0.0.1:10911");
        addresses.put(1L, "10.0.0.2:10911");
        route.setBrokerDatas(new ArrayList<>(List.of(new BrokerData("DefaultCluster", "broker-a", addresses))));
        QueueData queue = new QueueData();
        queue.setBrokerName("broker-a");
        queue.setReadQueueNums(8);
        queue.setWriteQueueNums(4);
        queue.setPerm(6);
        route.setQueueDatas(new ArrayList<>(List.of(queue)));
        route.setFilterServerTable(new HashMap<>());
        return route;
    }

    static byte[] record(InetSocketAddress host, String topic, MessageVersion version) throws Exception {
        MessageExtBrokerInner m = new MessageExtBrokerInner();
        m.setTopic(topic);
        m.setBody("stored body".getBytes(StandardCharsets.UTF_8));
        m.setBodyCRC(org.apache.rocketmq.common.UtilAll.crc32(m.getBody()));
        m.setQueueId(5);
        m.setFlag(9);
        m.setSysFlag(8);
        m.setBornTimestamp(1700000000001L);
        m.setBornHost(host);
        m.setStoreHost(host);
        m.setStoreTimestamp(1700000000002L);
        m.setReconsumeTimes(2);
        m.setPreparedTransactionOffset(77L);
        if (host.getAddress().getAddress().length == 16) {
            m.setBornHostV6Flag();
            m.setStoreHostAddressV6Flag();
        }
        m.setVersion(version);
        Map<String, String> properties = new LinkedHashMap<>();
        properties.put("TAGS", "TagA");
        properties.put("KEYS", "k1 k2");
        properties.put("name", "caf\u00e9");
        m.setPropertiesString(MessageDecoder.messageProperties2String(properties));
        MessageStoreConfig config = new MessageStoreConfig();
        MessageExtEncoder encoder = new MessageExtEncoder(config);
        if (encoder.encode(m) != null) {
            throw new IllegalStateException("not encoded");
        }
        ByteBuffer buffer = encoder.getEncoderBuffer();
        byte[] bytes = new byte[buffer.getInt(0)];
        buffer.get(bytes);
        return bytes;
    }

    static void records() throws Exception {
        InetSocketAddress v4 = new InetSocketAddress(InetAddress.getByName("10.1.2.3"), 10911);
        InetSocketAddress v6 = new InetSocketAddress(InetAddress.getByName("2001:db8::7"), 10911);
        String longTopic = "%RETRY%" + "g".repeat(200);
        write("record-v1", record(v4, "GoldenTopic", MessageVersion.MESSAGE_VERSION_V1));
        write("record-v1-ipv6", record(v6, "GoldenTopic", MessageVersion.MESSAGE_VERSION_V1));
        write("record-v2", record(v4, longTopic, MessageVersion.MESSAGE_VERSION_V2));
        write("record-v2-ipv6", record(v6, longTopic, MessageVersion.MESSAGE_VERSION_V2));
        write("msg-id", MessageDecoder.createMessageId(v4, 0x1234L).getBytes(StandardCharsets.UTF_8));
        write("msg-id-ipv6", MessageDecoder.createMessageId(v6, 0x1234L).getBytes(StandardCharsets.UTF_8));
        List<Message> messages = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            Message m = new Message("t", ("body " + i).getBytes(StandardCharsets.UTF_8));
            MessageAccessor.setProperties(m, new HashMap<>(Map.of("TAGS", "T" + i)));
            m.setFlag(i);
            messages.add(m);
        }
        write("batch", MessageDecoder.encodeMessages(messages));
    }

    static DataVersion version() {
        DataVersion v = new DataVersion();
        v.setStateVersion(3);
        v.setTimestamp(1700000000000L);
        v.setCounter(new AtomicLong(12));
        return v;
    }

    static void bodies() throws Exception {
        write("body-heartbeat", heartbeat().encode());
        write("body-route", route().encode());
        write("body-route-standard", route().encode(SerializerFeature.BrowserCompatible, SerializerFeature.QuoteFieldNames,
            SerializerFeature.SkipTransientField, SerializerFeature.MapSortField));

        RegisterBrokerBody register = new RegisterBrokerBody();
        TopicConfigAndMappingSerializeWrapper wrapper = new TopicConfigAndMappingSerializeWrapper();
        ConcurrentHashMap<String, TopicConfig> topics = new ConcurrentHashMap<>();
        topics.put("TopicA", new TopicConfig("TopicA", 8, 4, 6));
        TopicConfig b = new TopicConfig("TopicB", 1, 1, 7);
        b.setAttributes(new HashMap<>(Map.of("message.type", "FIFO")));
        topics.put("TopicB", b);
        wrapper.setTopicConfigTable(topics);
        wrapper.setDataVersion(version());
        wrapper.setMappingDataVersion(version());
        register.setTopicConfigSerializeWrapper(wrapper);
        register.setFilterServerList(new ArrayList<>());
        write("body-register-plain", register.encode(false));
        write("body-register-compressed", register.encode(true));

        MessageQueue mq = new MessageQueue("GoldenTopic", "broker-a", 3);
        TopicStatsTable stats = new TopicStatsTable();
        TopicOffset offset = new TopicOffset();
        offset.setMinOffset(1);
        offset.setMaxOffset(100);
        offset.setLastUpdateTimestamp(1700000000000L);
        stats.setOffsetTable(new ConcurrentHashMap<>(Map.of(mq, offset)));
        stats.setTopicPutTps(1.5);
        write("body-topic-stats", stats.encode());

        ConsumeStats consume = new ConsumeStats();
        OffsetWrapper w = new OffsetWrapper();
        w.setBrokerOffset(100);
        w.setConsumerOffset(90);
        w.setPullOffset(95);
        w.setLastTimestamp(1700000000000L);
        consume.setOffsetTable(new ConcurrentHashMap<>(Map.of(mq, w)));
        consume.setConsumeTps(2.0);
        write("body-consume-stats", consume.encode());

        ResetOffsetBody reset = new ResetOffsetBody();
        reset.setOffsetTable(new HashMap<>(Map.of(mq, 55L)));
        write("body-reset-offset", reset.encode());

        LockBatchRequestBody lock = new LockBatchRequestBody();
        lock.setClientId("c");
        lock.setConsumerGroup("g");
        lock.setMqSet(new HashSet<>(List.of(mq)));
        write("body-lock", lock.encode());
        LockBatchResponseBody locked = new LockBatchResponseBody();
        locked.setLockOKMQSet(new HashSet<>(List.of(mq)));
        write("body-lock-answer", locked.encode());

        SubscriptionGroupConfig group = new SubscriptionGroupConfig();
        group.setGroupName("golden_consumer");
        write("body-group", RemotingSerializable.encode(group));

        ClusterInfo cluster = new ClusterInfo();
        cluster.setBrokerAddrTable(new HashMap<>(Map.of("broker-a", route().getBrokerDatas().get(0))));
        cluster.setClusterAddrTable(new HashMap<>(Map.of("DefaultCluster", new HashSet<>(List.of("broker-a")))));
        write("body-cluster", cluster.encode());

        ConsumerConnection connections = new ConsumerConnection();
        Connection connection = new Connection();
        connection.setClientId("c");
        connection.setClientAddr("10.0.0.9:5555");
        connection.setLanguage(LanguageCode.JAVA);
        connection.setVersion(VERSION);
        connections.setConnectionSet(new HashSet<>(List.of(connection)));
        connections.setConsumeType(ConsumeType.CONSUME_ACTIVELY);
        connections.setMessageModel(MessageModel.BROADCASTING);
        connections.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_TIMESTAMP);
        write("body-consumer-connection", connections.encode());

        BatchAckMessageRequestBody acks = new BatchAckMessageRequestBody();
        BatchAck ack = new BatchAck();
        ack.setConsumerGroup("g");
        ack.setTopic("t");
        ack.setRetry("1");
        ack.setStartOffset(100);
        ack.setQueueId(2);
        ack.setReviveQueueId(3);
        ack.setPopTime(1700000000000L);
        ack.setInvisibleTime(60000);
        BitSet bits = new BitSet();
        bits.set(0);
        bits.set(9);
        bits.set(70);
        ack.setBitSet(bits);
        acks.setBrokerName("broker-a");
        acks.setAcks(List.of(ack));
        write("body-batch-ack", acks.encode());
    }

    /** One line per header class: simple name, then `field:type` with a star when the field must be set. */
    static void headers() throws Exception {
        TreeMap<String, String> lines = new TreeMap<>();
        File jar = new File(CommandCustomHeader.class.getProtectionDomain().getCodeSource().getLocation().toURI());
        try (JarFile file = new JarFile(jar)) {
            for (Enumeration<JarEntry> e = file.entries(); e.hasMoreElements();) {
                String name = e.nextElement().getName();
                if (!name.startsWith("org/apache/rocketmq/remoting/protocol/header/") || !name.endsWith(".class") || name.contains("$")) {
                    continue;
                }
                Class<?> c = Class.forName(name.replace('/', '.').substring(0, name.length() - 6));
                if (!CommandCustomHeader.class.isAssignableFrom(c)) {
                    continue;
                }
                List<String> fields = new ArrayList<>();
                for (Field f : c.getDeclaredFields()) {
                    if (!Modifier.isStatic(f.getModifiers())) {
                        fields.add(f.getName() + ":" + f.getType().getSimpleName() + (f.isAnnotationPresent(CFNotNull.class) ? "*" : ""));
                    }
                }
                Collections.sort(fields);
                lines.put(c.getSimpleName(), String.join(" ", fields));
            }
        }
        StringBuilder text = new StringBuilder();
        lines.forEach((name, fields) -> text.append((name + " " + fields).trim()).append('\n'));
        Files.writeString(out.resolve("headers.txt"), text.toString());
    }
}
