//! The store, in entries of 64 messages: appending, group commit, applying, what a pull reads, and opening.

use std::cell::Cell;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use raftmq_benches::feed::{Feed, MESSAGES_PER_ENTRY, topic};
use raftmq_benches::local::LocalStore;
use raftmq_store::commitlog::draft::Draft;
use raftmq_store::commitlog::tail::RawEntry;
use raftmq_store::commitlog::writer::FlushPolicy;
use raftmq_store::commitlog::{CommitLog, EntryId, FlushEvery, LogOptions};
use raftmq_store::vfs::RealFs;
use raftmq_store::{Effects, Store};

const BODY: usize = 1024;
const MIB: u64 = 1 << 20;
/// Large enough that a run rarely needs a new segment.
const SEGMENT_BYTES: u64 = 256 * MIB;
/// Entries after which a log is cut: a quick machine would fill the disk. About 80 MiB.
const ENTRIES_KEPT: u64 = 1_000;
const NOW_MS: i64 = 1_700_000_000_000;

fn options(flush: FlushPolicy) -> LogOptions {
    let mut options = LogOptions::new(SEGMENT_BYTES, flush);
    // Only what the append itself waits for.
    options.every = FlushEvery {
        interval: Duration::from_secs(3600),
        least_bytes: u64::MAX,
        thorough: Duration::from_secs(3600),
    };
    options
}

fn open_log(dir: &Path, flush: FlushPolicy) -> CommitLog {
    let dir = dir.join("commitlog");
    CommitLog::open(Arc::new(RealFs), dir, &options(flush), None).expect("opens")
}

fn draft(feed: &mut Feed) -> Draft {
    feed.draft(MESSAGES_PER_ENTRY).expect("fits")
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

/// Appends drafts with an operation each and waits for all of them.
fn append_all(log: &CommitLog, next: &Cell<u64>, drafts: Vec<Draft>) {
    let (tx, rx) = channel();
    let count = drafts.len();
    for draft in drafts {
        let id = EntryId {
            term: 1,
            index: next.get(),
        };
        let mut batch = log.append();
        batch.push_draft(id, draft, NOW_MS).expect("appends");
        let tx = tx.clone();
        batch.submit(Box::new(move |result| tx.send(result).expect("heard")));
        next.set(id.index + 1);
    }
    for _ in 0..count {
        rx.recv().expect("answered").expect("written");
    }
}

fn cut_if_long(log: &CommitLog, next: &Cell<u64>) {
    if next.get() >= ENTRIES_KEPT {
        cut(log);
        next.set(0);
    }
}

/// Stamped, checksummed, queued, and written by the storage thread; without fsync.
fn append(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open_log(dir.path(), FlushPolicy::Async);
    let mut feed = Feed::new(1, 8, BODY);
    let mut group = c.benchmark_group("commitlog, 64 messages of 1 KiB");
    group.throughput(Throughput::Elements(MESSAGES_PER_ENTRY as u64));
    group.bench_function("build the draft", |b| {
        b.iter(|| black_box(draft(&mut feed)))
    });
    let next = Cell::new(0);
    group.bench_function("append it and wait until it is written", |b| {
        b.iter_batched(
            || {
                cut_if_long(&log, &next);
                draft(&mut feed)
            },
            |draft| append_all(&log, &next, vec![draft]),
            BatchSize::PerIteration,
        );
    });
    group.finish();
    log.close();
}

/// With `fdatasync`: entries that wait while the disk works share the next one.
fn group_commit(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open_log(dir.path(), FlushPolicy::Sync);
    let mut feed = Feed::new(1, 8, BODY);
    let next = Cell::new(0);
    let mut group = c.benchmark_group("group commit with fdatasync, entries of 64 messages");
    for entries in [1, 4, 16] {
        group.throughput(Throughput::Elements(entries * MESSAGES_PER_ENTRY as u64));
        group.bench_function(
            format!("{entries} at once, until the last is durable"),
            |b| {
                b.iter_batched(
                    || {
                        cut_if_long(&log, &next);
                        (0..entries).map(|_| draft(&mut feed)).collect()
                    },
                    |drafts| append_all(&log, &next, drafts),
                    BatchSize::PerIteration,
                );
            },
        );
    }
    group.finish();
    log.close();
}

/// Consume queues, key index and `applied`, for an entry that is in the log. Entries are made by a store of their own kind
/// for each number of queues: the last has more than there may be open files.
fn dispatch(c: &mut Criterion) {
    let mut group = c.benchmark_group("apply an entry of 64 messages");
    group.throughput(Throughput::Elements(MESSAGES_PER_ENTRY as u64));
    for (topics, queues) in [(1, 1), (1, 8), (50, 8), (1_000, 8)] {
        let dir = tempfile::tempdir().expect("a directory");
        let mut local = LocalStore::open(dir.path(), &options(FlushPolicy::Async)).expect("opens");
        let mut feed = Feed::new(topics, queues, BODY);
        // Every queue is there.
        while feed.number() < topics as u64 * u64::from(queues) {
            next_entry(&mut local, &mut feed, apply);
        }
        group.bench_function(format!("over {} queues", topics as u32 * queues), |b| {
            b.iter_custom(|times| {
                let mut taken = Duration::ZERO;
                for _ in 0..times {
                    taken += next_entry(&mut local, &mut feed, apply);
                }
                taken
            });
        });
        local.close().expect("closes");
    }
    group.finish();
}

fn apply(store: &Store, entry: &RawEntry) {
    let mut machine = store.machine.lock();
    let mut effects = Effects::default();
    machine.apply(entry, None, &mut effects).expect("applies");
    machine.finish().expect("finishes");
    black_box(effects);
}

/// Puts an entry into the log and times what is done with it then.
fn next_entry(
    local: &mut LocalStore,
    feed: &mut Feed,
    work: impl Fn(&Store, &RawEntry),
) -> Duration {
    let submitted = local.submit(vec![draft(feed)], NOW_MS).expect("appends");
    submitted.wait().expect("written");
    let mut taken = Duration::ZERO;
    for entry in submitted.entries() {
        let began = Instant::now();
        work(&local.store, entry);
        taken += began.elapsed();
        let store = &local.store;
        store.log.set_committed(entry.end(), entry.header.index);
    }
    taken
}

/// A pull of 32 messages: the queue's entries, then the records they point to.
fn pull(c: &mut Criterion) {
    const PULLED: usize = 32;
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = options(FlushPolicy::Async);
    options.tail_bytes = 8 * MIB as usize;
    let mut local = LocalStore::open(dir.path(), &options).expect("opens");
    let mut feed = Feed::new(1, 8, BODY);
    while local.store.log.end() < 128 * MIB {
        next_entry(&mut local, &mut feed, apply);
    }
    let queue = local.store.queues.get(&topic(0), 0).expect("has messages");
    let mut group = c.benchmark_group("pull of 32 messages of 1 KiB");
    group.throughput(Throughput::Elements(PULLED as u64));
    let newest = queue.max() - PULLED as i64;
    group.bench_function("the queue's entries", |b| {
        b.iter(|| queue.read(black_box(newest), PULLED).expect("reads"))
    });
    let read = |from: i64| {
        let entries = queue.read(from, PULLED).expect("reads");
        for entry in entries {
            let position = entry.physical_offset as u64;
            let record = local.store.log.read_record(position, entry.size);
            black_box(record.expect("reads"));
        }
    };
    let hot = queue.read(newest, 1).expect("reads")[0].physical_offset as u64;
    assert!(local.store.log.is_hot(hot), "the newest are in memory");
    group.bench_function("entries and records, in memory", |b| {
        b.iter(|| read(newest))
    });
    // Page after page of what only the files have; from the page cache, checksums are looked at the first time round.
    let cold = queue.max() / 2;
    let next = Cell::new(0);
    group.bench_function("entries and records, from files", |b| {
        b.iter(|| {
            read(next.get());
            next.set((next.get() + PULLED as i64) % cold);
        })
    });
    group.finish();
    local.close().expect("closes");
}

/// Opening the log with 64 MiB after its checkpoint: checksums and offsets. The page cache is warm.
fn recovery(c: &mut Criterion) {
    const AFTER: u64 = 64 * MIB;
    let dir = tempfile::tempdir().expect("a directory");
    let log = open_log(dir.path(), FlushPolicy::Async);
    let mut feed = Feed::new(100, 8, BODY);
    let next = Cell::new(0);
    let fill = |feed: &mut Feed, bytes: u64| {
        let until = log.end() + bytes;
        while log.end() < until {
            append_all(&log, &next, vec![draft(feed)]);
        }
    };
    fill(&mut feed, 16 * MIB);
    log.flush().expect("syncs");
    log.checkpoint().expect("saved");
    fill(&mut feed, AFTER);
    let (bounds, end) = (log.bounds(), log.end());
    // Everything but the segments, as a kill would leave it now.
    let small = small_files(&dir.path().join("commitlog"));
    log.close();
    let mut group: BenchmarkGroup<'_, WallTime> = c.benchmark_group("open");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(AFTER));
    group.bench_function("a commitlog with 64 MiB after its checkpoint", |b| {
        b.iter_custom(|times| {
            let mut taken = Duration::ZERO;
            for _ in 0..times {
                // Closing moved the checkpoint to the end.
                for (path, content) in &small {
                    std::fs::write(path, content).expect("written");
                }
                let began = Instant::now();
                let log = open_log(dir.path(), FlushPolicy::Async);
                taken += began.elapsed();
                assert_eq!((log.bounds(), log.end()), (bounds, end));
                log.close();
            }
            taken
        });
    });
    group.finish();
}

fn small_files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("listed") {
        let path = entry.expect("listed").path();
        let meta = path.metadata().expect("there");
        if meta.is_dir() {
            found.extend(small_files(&path));
        } else if meta.len() < SEGMENT_BYTES {
            let content = std::fs::read(&path).expect("read");
            found.push((path, content));
        }
    }
    found
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
    targets = append, group_commit, dispatch, pull, recovery
}
criterion_main!(benches);
