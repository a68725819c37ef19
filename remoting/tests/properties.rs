//! Property tests: random and mutated bytes never panic, and what is written is read back.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use raftmq_remoting::body::{ConsumeStats, HeartbeatData, RegisterBrokerBody, TopicRouteData};
use raftmq_remoting::frame::{FrameReader, decode_frame, encode};
use raftmq_remoting::header::*;
use raftmq_remoting::message::{
    BatchItem, NewMessage, StoredRecord, batch, body_crc, parse_offset_msg_id, properties, stamp,
};
use raftmq_remoting::{ExtFields, LanguageCode, RemotingCommand, SerializeType, json, validate};

fn command() -> impl Strategy<Value = RemotingCommand> {
    let numbers = (
        any::<i16>(),
        any::<i16>(),
        any::<i32>(),
        any::<i32>(),
        0u8..14,
    );
    let texts = (
        proptest::option::of(".{1,40}"),
        btree_map(".{1,12}", ".{1,60}", 0..20),
    );
    (numbers, texts, vec(any::<u8>(), 0..300), any::<bool>()).prop_map(
        |((code, version, opaque, flag, language), (remark, fields), body, binary)| {
            let mut cmd = RemotingCommand::request(code.into());
            (cmd.version, cmd.opaque, cmd.flag) = (version.into(), opaque, flag | 1);
            cmd.language = LanguageCode::from_ordinal(language);
            cmd.remark = remark;
            cmd.ext = fields.into_iter().collect::<ExtFields>();
            cmd.body = body.into();
            cmd.serialize = if binary {
                SerializeType::RocketMq
            } else {
                SerializeType::Json
            };
            cmd
        },
    )
}

/// Reads the bytes in every way a peer's bytes are read.
fn read_everything(bytes: &[u8]) {
    let _ = decode_frame(Bytes::copy_from_slice(bytes));
    for serialize in [0, 1] {
        let mut frame = BytesMut::from(&(serialize << 24 | bytes.len() as u32).to_be_bytes()[..]);
        frame.extend_from_slice(bytes);
        if let Ok(cmd) = decode_frame(frame.freeze()) {
            read_headers(&cmd.ext);
        }
    }
    let _ = StoredRecord::all(bytes).count();
    let _ = batch::decode(Bytes::copy_from_slice(bytes), 1000);
    let _ = properties::iter(bytes).count();
    let _ = properties::set(bytes, "a", "b");
    let _ = RegisterBrokerBody::decode(bytes, 479);
    let _ = json::from_slice::<HeartbeatData>(bytes);
    let _ = json::from_slice::<ConsumeStats>(bytes);
    let _ = json::from_slice::<TopicRouteData>(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = parse_offset_msg_id(text);
        let _ = validate::check_topic(text);
    }
}

fn read_headers(ext: &ExtFields) {
    for code in [10, 310] {
        let _ = SendMessageRequestHeader::decode_for(code, ext);
    }
    let _ = PullMessageRequestHeader::decode(ext);
    let _ = PopMessageRequestHeader::decode(ext);
    let _ = RegisterBrokerRequestHeader::decode(ext);
}

fn host() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (any::<[u8; 4]>(), any::<u16>()).prop_map(SocketAddr::from),
        (any::<[u8; 16]>(), any::<u16>()).prop_map(SocketAddr::from),
    ]
}

fn message() -> impl Strategy<Value = NewMessage> {
    let numbers = (
        any::<i32>(),
        any::<i32>(),
        any::<i32>(),
        any::<i64>(),
        any::<i32>(),
        any::<i64>(),
    );
    (
        numbers,
        host(),
        host(),
        "[a-z]{1,300}",
        vec(any::<u8>(), 0..200),
        btree_map("[a-z]{1,5}", "[a-z]{1,5}", 0..5),
    )
        .prop_map(|(n, born_host, store_host, topic, body, p)| NewMessage {
            topic: topic.into(),
            queue_id: n.0,
            flag: n.1,
            sys_flag: n.2,
            born_timestamp: n.3,
            born_host,
            store_host,
            reconsume_times: n.4,
            prepared_transaction_offset: n.5,
            body_crc: body_crc(&body),
            body: body.into(),
            properties: properties::encode(p),
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn commands_round_trip(cmd in command()) {
        let mut out = Vec::new();
        encode(&cmd, &mut out).unwrap();
        let read = decode_frame(Bytes::from(out).slice(4..)).unwrap();
        prop_assert_eq!(read, cmd);
    }

    #[test]
    fn frames_survive_any_cut(cmds in vec(command(), 1..5), sizes in vec(1usize..500, 1..50)) {
        let mut out = Vec::new();
        cmds.iter().for_each(|c| encode(c, &mut out).unwrap());
        let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = rt.block_on(async {
            let (mut tx, rx) = tokio::io::duplex(100_000);
            let feed = async {
                use tokio::io::AsyncWriteExt;
                let mut rest = &out[..];
                for n in sizes.iter().cycle() {
                    let (now, later) = rest.split_at((*n).min(rest.len()));
                    tx.write_all(now).await.unwrap();
                    tokio::task::yield_now().await;
                    rest = later;
                    if rest.is_empty() { break; }
                }
                drop(tx);
            };
            let take = async {
                let mut reader = FrameReader::new(rx);
                let mut read = Vec::new();
                while let Some(frame) = reader.next().await.unwrap() {
                    read.push(decode_frame(frame).unwrap());
                }
                read
            };
            tokio::join!(feed, take).1
        });
        prop_assert_eq!(read, cmds);
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        read_everything(&bytes);
    }

    #[test]
    fn random_text_never_panics(text in "[\\[\\]{}:,\"\\\\0-9a-eu\\-. é\u{1}\u{2}]{0,120}") {
        read_everything(text.as_bytes());
    }

    #[test]
    fn mutated_frames_never_panic(cmd in command(), at in any::<prop::sample::Index>(), value in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut out = Vec::new();
        encode(&cmd, &mut out).unwrap();
        let i = at.index(out.len());
        out[i] = value;
        read_everything(&out[4..]);
        read_everything(&out[..cut.index(out.len())]);
        if out.len() > 8 {
            read_everything(&out[8..]);
        }
    }

    #[test]
    fn records_round_trip(m in message(), q in any::<i64>(), p in any::<i64>(), t in any::<i64>()) {
        let mut out = BytesMut::new();
        m.encode_into(&mut out);
        prop_assert_eq!(out.len(), m.encoded_len());
        stamp(&mut out, q, p, t);
        let r = StoredRecord::parse(&out).unwrap();
        prop_assert_eq!((r.queue_offset(), r.physical_offset(), r.store_timestamp()), (q, p, t));
        prop_assert_eq!((r.born_host(), r.store_host()), (m.born_host, m.store_host));
        prop_assert_eq!(r.sys_flag() & !0x30, m.sys_flag & !0x30);
        prop_assert_eq!((r.topic(), r.body(), r.properties()), (&*m.topic, &m.body[..], &m.properties[..]));
        prop_assert_eq!((r.reconsume_times(), r.prepared_transaction_offset()), (m.reconsume_times, m.prepared_transaction_offset));
        prop_assert!(r.body_crc_ok());
    }

    #[test]
    fn mutated_records_never_panic(m in message(), at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let mut out = BytesMut::new();
        m.encode_into(&mut out);
        let i = at.index(out.len());
        out[i] = value;
        for record in StoredRecord::all(&out) {
            let Ok(r) = record else { break };
            let _ = (r.tags_code(), r.body_crc_ok(), r.store_timestamp(), r.prepared_transaction_offset());
        }
    }

    #[test]
    fn batches_round_trip(items in vec((any::<i32>(), vec(any::<u8>(), 0..50), vec(any::<u8>(), 0..50)), 0..10)) {
        let items: Vec<BatchItem> = items
            .into_iter()
            .map(|(flag, body, properties)| BatchItem { flag, body: body.into(), properties: properties.into() })
            .collect();
        let body = batch::encode(&items).unwrap();
        prop_assert_eq!(batch::decode(body, 10).unwrap(), items);
    }

    #[test]
    fn properties_behave_like_a_map(pairs in btree_map("[a-f]{1,3}", "[^\u{1}\u{2}]{1,9}", 0..8), key in "[a-f]{1,3}", value in "[^\u{1}\u{2}]{1,9}") {
        let encoded = properties::encode(&pairs);
        let read = |b: &[u8]| properties::iter(b).map(|(k, v)| (k.to_owned(), v.to_owned())).collect::<BTreeMap<_, _>>();
        prop_assert_eq!(&read(&encoded), &pairs);
        prop_assert_eq!(properties::get(&encoded, &key), pairs.get(&key).map(String::as_str));
        let mut wanted = pairs.clone();
        wanted.insert(key.clone(), value.clone());
        prop_assert_eq!(read(&properties::set(&encoded, &key, &value)), wanted.clone());
        wanted.remove(&key);
        prop_assert_eq!(read(&properties::remove(&encoded, &key)), wanted);
    }

    #[test]
    fn send_headers_round_trip(
        texts in vec(".{0,30}", 4),
        numbers in vec(any::<i32>(), 4),
        born in any::<i64>(),
        maybe in proptest::option::of(any::<i32>()),
        flags in any::<(bool, bool)>(),
    ) {
        let h = SendMessageRequestHeader {
            producer_group: texts[0].as_str().into(),
            topic: texts[1].as_str().into(),
            default_topic: texts[2].as_str().into(),
            default_topic_queue_nums: numbers[0],
            queue_id: numbers[1],
            sys_flag: numbers[2],
            born_timestamp: born,
            flag: numbers[3],
            properties: Some(texts[3].as_str().into()),
            reconsume_times: maybe,
            unit_mode: flags.0,
            max_reconsume_times: maybe,
            batch: flags.1,
            broker_name: None,
        };
        let (mut v1, mut v2) = (ExtFields::new(), ExtFields::new());
        h.encode_v1(&mut v1);
        h.encode_v2(&mut v2);
        prop_assert_eq!(&SendMessageRequestHeader::decode_for(10, &v1).unwrap(), &h);
        prop_assert_eq!(&SendMessageRequestHeader::decode_for(310, &v2).unwrap(), &h);
    }
}

#[test]
fn header_errors_name_the_field() {
    let mut ext = ExtFields::new();
    let error = |ext: &ExtFields| {
        PullMessageRequestHeader::decode(ext)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(error(&ext), "the required field <consumerGroup> is missing");
    for (name, required) in PullMessageRequestHeader::FIELDS {
        if *required {
            ext.set(name, "1");
        }
    }
    ext.set("queueId", "one");
    assert_eq!(
        error(&ext),
        "the field <queueId> is not a 32-bit number: \"one\""
    );
    ext.set("queueId", "2");
    ext.set("maxMsgBytes", "99999999999");
    assert!(error(&ext).contains("<maxMsgBytes>"));
    assert_eq!(ext.remove("maxMsgBytes").as_deref(), Some("99999999999"));
    assert_eq!(PullMessageRequestHeader::decode(&ext).unwrap().queue_id, 2);
}
