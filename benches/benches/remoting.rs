//! The wire: frames with a send header in both encodings, and the stored record.

use std::hint::black_box;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use raftmq_remoting::frame::{decode_frame, encode_head};
use raftmq_remoting::header::SendMessageRequestHeader;
use raftmq_remoting::message::{NewMessage, StoredRecord, body_crc, properties, unique_id};
use raftmq_remoting::{ByteStr, RemotingCommand, SerializeType, request_code};

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
        let mut out = BytesMut::with_capacity(4096);
        group.bench_function("encode", |b| {
            b.iter(|| {
                out.clear();
                encode_head(&send(serialize, black_box(&header), &body), &mut out).expect("small");
            });
        });
        out.clear();
        encode_head(&send(serialize, &header, &body), &mut out).expect("small");
        out.extend_from_slice(&body);
        let frame = out.freeze().slice(LENGTH..);
        group.bench_function("decode", |b| {
            b.iter(|| {
                let command = decode_frame(black_box(frame.clone())).expect("a frame");
                SendMessageRequestHeader::decode_for(command.code, &command.ext).expect("a send")
            });
        });
        group.finish();
    }
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
    targets = frames, records
}
criterion_main!(benches);
