//! The wire: requests and answers of a send in both encodings, the stored record, and what a tag filter looks at.

use std::hint::black_box;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use raftmq_remoting::frame::{decode_frame, encode_head};
use raftmq_remoting::header::{SendMessageRequestHeader, SendMessageResponseHeader};
use raftmq_remoting::message::{
    NewMessage, StoredRecord, body_crc, properties, tags_code, unique_id,
};
use raftmq_remoting::{ByteStr, RemotingCommand, SerializeType, request_code};

/// The broker's own, which is no part of its interface; it knows nothing but tags.
#[path = "../../broker/src/tag_filter.rs"]
#[allow(dead_code, unused_imports)]
mod tag_filter;

use tag_filter::TagFilter;

const BODY: usize = 1024;
/// Bytes of a frame before the serialize type: its length.
const LENGTH: usize = 4;

fn send_header() -> SendMessageRequestHeader {
    let encoded = properties::encode([
        ("UNIQ_KEY", unique_id().as_str()),
        ("WAIT", "true"),
        ("TAGS", "TagA"),
    ]);
    SendMessageRequestHeader {
        producer_group: "producer-group".into(),
        topic: "BenchmarkTest".into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 4,
        queue_id: 3,
        born_timestamp: 1_700_000_000_000,
        properties: ByteStr::from_utf8(encoded).ok(),
        reconsume_times: Some(0),
        broker_name: Some("broker-a".into()),
        ..SendMessageRequestHeader::default()
    }
}

fn send(
    serialize: SerializeType,
    header: &SendMessageRequestHeader,
    body: &Bytes,
) -> RemotingCommand {
    let mut command =
        RemotingCommand::request(request_code::SEND_MESSAGE_V2).with_body(body.clone());
    command.serialize = serialize;
    header.encode_v2(&mut command.ext);
    command
}

fn frames(c: &mut Criterion) {
    let header = send_header();
    let body = Bytes::from(vec![b'x'; BODY]);
    for (name, serialize) in [
        ("json", SerializeType::Json),
        ("binary", SerializeType::RocketMq),
    ] {
        let mut group = c.benchmark_group(format!("send header, {name}"));
        let mut out = Vec::with_capacity(4096);
        group.bench_function("encode", |b| {
            b.iter(|| {
                out.clear();
                encode_head(&send(serialize, black_box(&header), &body), &mut out).expect("small");
            });
        });
        out.clear();
        encode_head(&send(serialize, &header, &body), &mut out).expect("small");
        out.extend_from_slice(&body);
        let frame = Bytes::from(out).slice(LENGTH..);
        group.bench_function("decode", |b| {
            b.iter(|| {
                let command = decode_frame(black_box(frame.clone())).expect("a frame");
                SendMessageRequestHeader::decode_for(command.code, &command.ext).expect("a send")
            });
        });
        group.finish();
    }
}

/// What a broker answers a send with.
fn answers(c: &mut Criterion) {
    let header = SendMessageResponseHeader {
        msg_id: "7F000001000078BF000000003B9ACA00".to_owned(),
        queue_id: 3,
        queue_offset: 1_000_000,
        transaction_id: Some(unique_id()),
        ..SendMessageResponseHeader::default()
    };
    let mut group = c.benchmark_group("send answer");
    let mut out = Vec::with_capacity(4096);
    for (name, serialize) in [
        ("json", SerializeType::Json),
        ("binary", SerializeType::RocketMq),
    ] {
        group.bench_function(format!("encode, {name}"), |b| {
            b.iter(|| {
                out.clear();
                let mut command = RemotingCommand::response(0)
                    .with_header(black_box(&header))
                    .with_ext("MSG_REGION", "DefaultRegion")
                    .with_ext("TRACE_ON", "true");
                command.serialize = serialize;
                encode_head(&command, &mut out).expect("small");
            });
        });
    }
    group.finish();
}

/// What a pull does for each entry of a queue: one in four matches.
fn tags(c: &mut Criterion) {
    const ENTRIES: usize = 32;
    let codes: Vec<_> = (0..ENTRIES)
        .map(|n| tags_code(Some(&format!("tag{}", n % 4))))
        .collect();
    let mut group = c.benchmark_group("tag filter");
    group.bench_function("parse", |b| {
        b.iter(|| TagFilter::parse(black_box(Some("tag1 || tagX || tagY"))).expect("tags"));
    });
    group.throughput(Throughput::Elements(ENTRIES as u64));
    for expression in ["tag1", "tag1 || tagX || tagY"] {
        let filter = TagFilter::parse(Some(expression)).expect("tags");
        let matching = || {
            codes
                .iter()
                .filter(|code| filter.matches(black_box(**code)))
        };
        assert_eq!(matching().count(), ENTRIES / 4);
        group.bench_function(format!("32 entries, {expression}"), |b| {
            b.iter(|| matching().count());
        });
    }
    group.finish();
}

fn records(c: &mut Criterion) {
    let header = send_header();
    let body = Bytes::from(vec![b'x'; BODY]);
    let message = NewMessage {
        topic: header.topic.clone(),
        queue_id: 3,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1_700_000_000_000,
        born_host: ([127, 0, 0, 1], 40_000).into(),
        store_host: ([127, 0, 0, 1], 10_911).into(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body_crc: body_crc(&body),
        properties: Bytes::copy_from_slice(
            header.properties.as_deref().unwrap_or_default().as_bytes(),
        ),
        body,
    };
    let mut group = c.benchmark_group("stored record of 1 KiB");
    group.throughput(Throughput::Bytes(BODY as u64));
    let mut out = BytesMut::with_capacity(4096);
    group.bench_function("body crc", |b| {
        b.iter(|| body_crc(black_box(&message.body)))
    });
    group.bench_function("encode", |b| {
        b.iter(|| {
            out.clear();
            message.encode_into(&mut out);
        });
    });
    out.clear();
    message.encode_into(&mut out);
    group.bench_function("parse", |b| {
        b.iter(|| {
            StoredRecord::parse(black_box(&out))
                .map(|r| r.total_size())
                .expect("a record")
        });
    });
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots()
}

criterion_group! {
    name = benches;
    config = quick();
    targets = frames, answers, records, tags
}
criterion_main!(benches);
