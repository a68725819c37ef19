//! Bodies and records written by the Java library: read, and written back to the same bytes where the order is fixed.

mod common;

use std::net::SocketAddr;

use bytes::BytesMut;
use common::golden;
use raftmq_remoting::body::*;
use raftmq_remoting::json::{self, Dialect};
use raftmq_remoting::message::{
    self, BatchItem, MAGIC_V1, MAGIC_V2, NewMessage, StoredRecord, batch, properties, stamp,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn same<T: Serialize + DeserializeOwned>(name: &str) -> T {
    let bytes = golden(name);
    let value: T = json::from_slice(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(json::to_bytes(&value), bytes, "{name}");
    value
}

#[test]
fn bodies_are_read_and_written_as_fastjson_does() {
    let heartbeat: HeartbeatData = same("body-heartbeat");
    let consumer = &heartbeat.consumer_data_set[0];
    assert_eq!(consumer.consume_from_where, ConsumeFromWhere::FirstOffset);
    assert!(
        consumer.subscription_data_set[0]
            .code_set
            .contains(&message::java_hash("TagA"))
    );
    let route: TopicRouteData = same("body-route");
    assert_eq!(
        json::to_bytes_in(&route, Dialect::Standard),
        golden("body-route-standard")
    );
    assert_eq!(
        same::<ClusterInfo>("body-cluster").broker_addr_table["broker-a"],
        route.broker_datas[0]
    );
    let stats: TopicStatsTable = same("body-topic-stats");
    let mq = MessageQueue::new("GoldenTopic", "broker-a", 3);
    assert_eq!(
        stats.offset_table[&mq],
        TopicOffset::new(1, 100, 1_700_000_000_000)
    );
    assert_eq!(
        same::<ConsumeStats>("body-consume-stats").offset_table[&mq].pull_offset,
        95
    );
    assert_eq!(
        same::<ResetOffsetBody>("body-reset-offset").offset_table[&mq],
        55
    );
    let mq = vec![mq];
    assert_eq!(same::<LockBatchRequestBody>("body-lock").mq_set, mq);
    assert_eq!(
        same::<LockBatchResponseBody>("body-lock-answer").lock_ok_mq_set,
        mq
    );
    let default = SubscriptionGroupConfig {
        group_name: "golden_consumer".into(),
        ..Default::default()
    };
    assert_eq!(same::<SubscriptionGroupConfig>("body-group"), default);
    let connection: ConsumerConnection = same("body-consumer-connection");
    assert_eq!(connection.message_model, MessageModel::Broadcasting);
    let acks: BatchAckMessageRequestBody = same("body-batch-ack");
    assert_eq!(acks.acks[0].bit_set.iter().collect::<Vec<_>>(), [0, 9, 70]);
}

#[test]
fn registrations_in_both_forms() {
    let plain = RegisterBrokerBody::decode(&golden("body-register-plain"), 479).unwrap();
    let wrapper = &plain.topic_config_serialize_wrapper;
    assert_eq!(
        wrapper.data_version,
        DataVersion {
            counter: 12,
            state_version: 3,
            timestamp: 1_700_000_000_000
        }
    );
    assert_eq!(wrapper.topic_config_table["TopicA"].write_queue_nums, 4);
    assert_eq!(
        wrapper.topic_config_table["TopicB"].attributes["message.type"],
        "FIFO"
    );
    let mut deflated =
        RegisterBrokerBody::decode(&golden("body-register-compressed"), 479).unwrap();
    // The compressed form has no place for it.
    deflated.topic_config_serialize_wrapper.mapping_data_version = wrapper.mapping_data_version;
    assert_eq!(deflated, plain);
    for version in [300, 479] {
        let mut again =
            RegisterBrokerBody::decode(&plain.encode_compressed(version), version).unwrap();
        again.topic_config_serialize_wrapper.mapping_data_version = wrapper.mapping_data_version;
        assert_eq!(again, plain);
    }
    assert_eq!(
        RegisterBrokerBody::decode(&plain.encode(), 479).unwrap(),
        plain
    );
    let table_only = json::to_bytes(wrapper);
    assert_eq!(
        RegisterBrokerBody::decode(&table_only, 30)
            .unwrap()
            .topic_config_serialize_wrapper,
        *wrapper
    );
}

#[test]
fn bad_registrations_are_errors() {
    let body = golden("body-register-compressed");
    for n in 1..body.len() {
        assert!(
            RegisterBrokerBody::decode(&body[..n], 479).is_err(),
            "cut at {n}"
        );
    }
    let bomb = {
        use std::io::Write;
        let mut z = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        let chunk = vec![0u8; 1 << 20];
        (0..80).for_each(|_| z.write_all(&chunk).unwrap());
        z.finish().unwrap()
    };
    assert!(matches!(
        RegisterBrokerBody::decode(&bomb, 479),
        Err(RegisterBodyError::TooLarge)
    ));
}

/// The C++ client writes enums as ordinals and numbers as strings.
#[test]
fn heartbeats_of_the_cpp_client_are_read() {
    let text = br#"{"clientID":"c","consumerDataSet":[{"consumeFromWhere":4,"consumeType":0,"groupName":"g","messageModel":1,
        "subscriptionDataSet":[{"codeSet":["2598919",2598920],"subString":"*","subVersion":"1700000000000","tagsSet":null,
        "topic":"t"}]}],"producerDataSet":[]}"#;
    let data: HeartbeatData = json::from_slice(text).unwrap();
    let consumer = &data.consumer_data_set[0];
    assert_eq!(consumer.consume_from_where, ConsumeFromWhere::FirstOffset);
    assert_eq!(
        (consumer.consume_type, consumer.message_model),
        (ConsumeType::Actively, MessageModel::Clustering)
    );
    let subscription = &consumer.subscription_data_set[0];
    assert_eq!(subscription.sub_version, 1_700_000_000_000);
    assert_eq!(
        subscription.code_set.iter().copied().collect::<Vec<_>>(),
        [2_598_919, 2_598_920]
    );
    assert_eq!(subscription.expression_type, "TAG");
}

#[test]
fn nulls_and_unknown_fields_are_tolerated() {
    let text = br#"{"clientID":"c","producerDataSet":null,"future":{"a":[1]},"consumerDataSet":[{"groupName":"g",
        "consumeType":"SOMETHING_NEW","subscriptionDataSet":[{"topic":"t","tagsSet":null,"expressionType":null}]}]}"#;
    let data: HeartbeatData = json::from_slice(text).unwrap();
    assert_eq!(
        data.consumer_data_set[0].consume_type,
        ConsumeType::Passively
    );
    assert!(data.producer_data_set.is_empty());
    let group: SubscriptionGroupConfig =
        json::from_slice(br#"{"groupName":"g","groupRetryPolicy":null}"#).unwrap();
    assert_eq!((group.retry_max_times, group.consume_enable), (16, true));
}

fn check_record(name: &str, host: &str, topic: &str, magic: i32) {
    let host: SocketAddr = host.parse().unwrap();
    let bytes = golden(name);
    let r = StoredRecord::parse(&bytes).unwrap();
    assert_eq!(
        (r.total_size(), r.magic(), r.topic()),
        (bytes.len(), magic, topic),
        "{name}"
    );
    assert_eq!((r.born_host(), r.store_host()), (host, host));
    assert_eq!(
        (
            r.queue_id(),
            r.flag(),
            r.reconsume_times(),
            r.prepared_transaction_offset()
        ),
        (5, 9, 2, 77)
    );
    assert_eq!(
        (r.born_timestamp(), r.store_timestamp()),
        (1_700_000_000_001, 1_700_000_000_002)
    );
    assert_eq!((r.body(), r.body_crc_ok()), (&b"stored body"[..], true));
    assert_eq!(r.property("name"), Some("café"));
    assert_eq!(r.property(properties::KEYS), Some("k1 k2"));
    assert_eq!(r.tags_code(), message::tags_code(Some("TagA")));

    let new = NewMessage {
        topic: topic.into(),
        queue_id: r.queue_id(),
        flag: r.flag(),
        sys_flag: 8,
        born_timestamp: r.born_timestamp(),
        born_host: host,
        store_host: host,
        reconsume_times: 2,
        prepared_transaction_offset: 77,
        body: bytes.slice_ref(r.body()),
        body_crc: message::body_crc(r.body()),
        properties: bytes.slice_ref(r.properties()),
    };
    let mut out = BytesMut::new();
    new.encode_into(&mut out);
    assert_eq!(out.len(), new.encoded_len());
    stamp(
        &mut out,
        r.queue_offset(),
        r.physical_offset(),
        r.store_timestamp(),
    );
    assert_eq!(out, bytes, "{name}");
    stamp(&mut out, 11, 22, 33);
    let stamped = StoredRecord::parse(&out).unwrap();
    assert_eq!(
        (
            stamped.queue_offset(),
            stamped.physical_offset(),
            stamped.store_timestamp()
        ),
        (11, 22, 33)
    );
}

#[test]
fn records_are_read_and_written_as_the_broker_does() {
    let long = format!("%RETRY%{}", "g".repeat(200));
    check_record("record-v1", "10.1.2.3:10911", "GoldenTopic", MAGIC_V1);
    check_record(
        "record-v1-ipv6",
        "[2001:db8::7]:10911",
        "GoldenTopic",
        MAGIC_V1,
    );
    check_record("record-v2", "10.1.2.3:10911", &long, MAGIC_V2);
    check_record("record-v2-ipv6", "[2001:db8::7]:10911", &long, MAGIC_V2);
}

#[test]
fn cut_records_are_errors() {
    for name in ["record-v1", "record-v2-ipv6"] {
        let bytes = golden(name);
        for n in 0..bytes.len() {
            assert!(
                StoredRecord::parse(&bytes[..n]).is_err(),
                "{name} cut at {n}"
            );
            let mut short = bytes[..n].to_vec();
            if n >= 4 {
                short[..4].copy_from_slice(&(n as u32).to_be_bytes());
                assert!(
                    StoredRecord::parse(&short).is_err(),
                    "{name} shortened to {n}"
                );
            }
        }
        let twice = [&bytes[..], &bytes[..], &bytes[..10]].concat();
        let read: Vec<_> = StoredRecord::all(&twice).map(|r| r.is_ok()).collect();
        assert_eq!(read, [true, true, false]);
    }
}

#[test]
fn ids_and_batches_are_the_java_ones() {
    for (name, host) in [
        ("msg-id", "10.1.2.3:10911"),
        ("msg-id-ipv6", "[2001:db8::7]:10911"),
    ] {
        let host: SocketAddr = host.parse().unwrap();
        let id = String::from_utf8(golden(name).to_vec()).unwrap();
        assert_eq!(message::offset_msg_id(host, 0x1234), id);
        assert_eq!(message::parse_offset_msg_id(&id), Ok((host, 0x1234)));
    }
    let body = golden("batch");
    let items = batch::decode(body.clone(), 3).unwrap();
    let wanted = BatchItem {
        flag: 2,
        body: "body 2".into(),
        properties: properties::encode([("TAGS", "T2")]),
    };
    assert_eq!(items[2], wanted);
    assert_eq!(batch::encode(&items).unwrap(), body);
}
