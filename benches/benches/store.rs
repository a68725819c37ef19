//! The store: appending an entry of 64 messages to the commitlog.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use raftmq_remoting::message::{NewMessage, body_crc, properties};
use raftmq_store::commitlog::draft::Draft;
use raftmq_store::commitlog::writer::FlushPolicy;
use raftmq_store::commitlog::{CommitLog, EntryId, LogOptions};
use raftmq_store::vfs::RealFs;

const BODY: usize = 1024;
/// Messages of one entry: what a busy propose loop gathers.
const MESSAGES: u64 = 64;
/// Large enough that a run rarely needs a new segment.
const SEGMENT_BYTES: u64 = 256 << 20;
/// Entries after which the log is cut: a quick machine would fill the disk. About 72 MiB.
const ENTRIES_KEPT: u64 = 1_000;

fn message(queue_id: i32) -> NewMessage {
    let body = Bytes::from(vec![b'x'; BODY]);
    NewMessage {
        topic: "BenchmarkTest".into(),
        queue_id,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1_700_000_000_000,
        born_host: ([127, 0, 0, 1], 40_000).into(),
        store_host: ([127, 0, 0, 1], 10_911).into(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body_crc: body_crc(&body),
        properties: properties::encode([
            ("UNIQ_KEY", "7F0000010001000000000000000000AA"),
            ("WAIT", "true"),
        ]),
        body,
    }
}

fn draft(messages: &[NewMessage]) -> Draft {
    let mut draft = Draft::new(messages.len() * (BODY + 256));
    for message in messages {
        draft.push_message(message).expect("fits");
    }
    draft
}

/// Forgets all entries, in memory and on disk.
fn cut(log: &CommitLog) {
    let (tx, rx) = channel();
    log.truncate_after(
        None,
        Box::new(move |result| tx.send(result).expect("heard")),
    )
    .expect("readable");
    rx.recv().expect("answered").expect("cut");
}

/// Stamped, checksummed, queued, and written by the storage thread; without fsync.
fn append(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let options = LogOptions {
        segment_size: SEGMENT_BYTES,
        flush: FlushPolicy::Async,
        flush_interval: Duration::from_secs(3600),
    };
    let log = CommitLog::open(Arc::new(RealFs), dir.path().to_path_buf(), &options).expect("opens");
    let messages: Vec<_> = (0..8)
        .cycle()
        .take(MESSAGES as usize)
        .map(message)
        .collect();
    let mut group = c.benchmark_group("commitlog, 64 messages of 1 KiB");
    group.throughput(Throughput::Elements(MESSAGES));
    group.bench_function("build the draft", |b| {
        b.iter(|| draft(black_box(&messages)))
    });
    let next = Cell::new(0);
    group.bench_function("append it and wait until it is written", |b| {
        b.iter_batched(
            || {
                if next.get() >= ENTRIES_KEPT {
                    cut(&log);
                    next.set(0);
                }
                draft(&messages)
            },
            |draft| {
                let id = EntryId {
                    term: 1,
                    index: next.get(),
                };
                let (tx, rx) = channel();
                let mut batch = log.append();
                batch
                    .push_draft(id, draft, 1_700_000_000_000)
                    .expect("appends");
                batch.submit(Box::new(move |result| tx.send(result).expect("heard")));
                rx.recv().expect("answered").expect("written");
                next.set(id.index + 1);
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
    log.close();
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
    targets = append
}
criterion_main!(benches);
