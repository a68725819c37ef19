//! Appends to a commitlog in turn with the disk itself, round by round, so that what else happens on the machine meets
//! both alike.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use raftmq_benches::BenchError;
use raftmq_benches::feed::Feed;
use raftmq_store::StoreError;
use raftmq_store::commitlog::draft::Draft;
use raftmq_store::commitlog::writer::FlushPolicy;
use raftmq_store::commitlog::{CommitLog, EntryId, LogOptions};
use raftmq_store::vfs::RealFs;

use super::line::{Line, median};
use super::raw;
use super::work::{MIB, Times, directory, settle};

/// Body of a message, bytes.
const BODY: usize = 1024;
/// Queues they go round.
const QUEUES: u32 = 8;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Flush {
    /// `SYNC_FLUSH`: `fdatasync` before an append is done.
    Sync,
    /// `ASYNC_FLUSH`: the page cache is enough.
    Async,
}

impl From<Flush> for FlushPolicy {
    fn from(flush: Flush) -> Self {
        match flush {
            Flush::Sync => FlushPolicy::Sync,
            Flush::Async => FlushPolicy::Async,
        }
    }
}

#[derive(clap::Args)]
pub struct Args {
    /// When an append is done.
    #[arg(long, value_enum, default_value_t = Flush::Async)]
    flush: Flush,

    /// Longest time of a round, s.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,

    /// Bytes of an append, about: messages of 1 KiB fill it.
    #[arg(long, default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1_400..=16_777_216))]
    batch_bytes: u32,

    /// Appends under way at any time.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    in_flight: u16,

    /// Rounds of each, in turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// Most bytes of a round, MiB.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u64).range(16..=1_048_576))]
    max_mib: u64,

    /// mappedFileSizeCommitLog, MiB.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(32..=2048))]
    segment_mib: u64,

    /// Where the files go [default: the temporary directory].
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// What a round did.
pub struct Round {
    pub bytes: u64,
    pub time: Duration,
    /// From the start of an append to its end.
    pub times: Times,
    pub appends: u64,
    /// Writes (and fsyncs) they shared.
    pub groups: u64,
}

impl Round {
    fn mb_s(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.time.as_secs_f64()
    }

    fn group(&self) -> usize {
        usize::try_from((self.appends / self.groups.max(1)).max(1)).unwrap_or(1)
    }
}

/// Rounds of both and the medians.
///
/// # Errors
/// I/O.
pub fn run(args: &Args) -> Result<Line, BenchError> {
    let bytes = args.max_mib * MIB;
    let mut rounds = Vec::new();
    for round in 1..=args.rounds {
        // Plain files are allocated whole; a log is one segment ahead.
        let dir = directory(args.dir.as_deref(), bytes + args.segment_mib * MIB)?;
        let (ours, batch) = ours(args, dir.path(), bytes)?;
        drop(dir);
        let dir = directory(args.dir.as_deref(), bytes + args.segment_mib * MIB)?;
        settle(dir.path())?;
        let load = raw::Load {
            sync: args.flush == Flush::Sync,
            batch,
            group: ours.group(),
            in_flight: args.in_flight.into(),
            time: Duration::from_secs(args.seconds),
            bytes,
            file: args.segment_mib * MIB,
        };
        let raw = raw::run(dir.path(), &load)?;
        drop(dir);
        eprintln!(
            "round {round}: store {:.1} MB/s p50 {:.0} p99 {:.0} µs in {} MiB, raw {:.1} MB/s p50 {:.0} p99 {:.0} µs; {} appends a group",
            ours.mb_s(),
            ours.times.micros(0.5),
            ours.times.micros(0.99),
            ours.bytes / MIB,
            raw.mb_s(),
            raw.times.micros(0.5),
            raw.times.micros(0.99),
            ours.group(),
        );
        rounds.push((ours, raw));
    }
    let of = |figure: &dyn Fn(&(Round, Round)) -> f64| median(rounds.iter().map(figure).collect());
    // A virtual disk has moods: the spread says how far the median can be trusted.
    let ratios = || rounds.iter().map(|r| r.0.mb_s() / r.1.mb_s());
    let best = |better: fn(f64, f64) -> f64| ratios().reduce(better).unwrap_or(0.0);
    let mut line = Line::default();
    line.float("store_mb_s", of(&|r| r.0.mb_s()), 1)
        .float("raw_mb_s", of(&|r| r.1.mb_s()), 1)
        .float("ratio", of(&|r| r.0.mb_s() / r.1.mb_s()), 3)
        .float("ratio_min", best(f64::min), 3)
        .float("ratio_max", best(f64::max), 3)
        .float("store_p50_us", of(&|r| r.0.times.micros(0.5)), 0)
        .float("raw_p50_us", of(&|r| r.1.times.micros(0.5)), 0)
        .float("store_p99_us", of(&|r| r.0.times.micros(0.99)), 0)
        .float("raw_p99_us", of(&|r| r.1.times.micros(0.99)), 0)
        .float(
            "group",
            of(&|r| r.0.appends as f64 / r.0.groups.max(1) as f64),
            1,
        );
    Ok(line)
}

/// An append's start, its end, and where the log was written to then: appends of one group see the same.
type Done = (Instant, Instant, u64, Result<(), String>);

/// Returns the bytes of an append, too.
fn ours(args: &Args, dir: &Path, max_bytes: u64) -> Result<(Round, usize), BenchError> {
    let options = LogOptions::new(args.segment_mib * MIB, args.flush.into());
    let log = CommitLog::open(Arc::new(RealFs), dir.join("commitlog"), &options, None)?;
    settle(dir)?;
    let messages = messages_of(args.batch_bytes as usize)?;
    let len = Feed::new(1, QUEUES, BODY).draft(messages)?.len();
    let drafts = builder(messages, args.in_flight.into());
    let (tx, done) = channel::<Done>();
    let mut times = Times::new();
    let (mut index, mut in_flight, mut bytes) = (0, 0, 0);
    let (mut groups, mut last_group) = (0, u64::MAX);
    let began = Instant::now();
    let time = Duration::from_secs(args.seconds);
    let mut ended = began;
    loop {
        let more = began.elapsed() < time && bytes + len as u64 <= max_bytes;
        if more && in_flight < args.in_flight {
            let Ok(draft) = drafts.recv() else { break };
            let draft = draft?;
            let submitted = Instant::now();
            let mut batch = log.append();
            batch.push_draft(EntryId { term: 1, index }, draft, 1_700_000_000_000)?;
            let (tx, progress) = (tx.clone(), log.clone());
            batch.submit(Box::new(move |result| {
                let written = progress
                    .progress()
                    .written
                    .load(std::sync::atomic::Ordering::Acquire);
                // Nobody listens when the run was given up.
                let _ = tx.send((submitted, Instant::now(), written, result));
            }));
            (index, in_flight, bytes) = (index + 1, in_flight + 1, bytes + len as u64);
            continue;
        }
        if in_flight == 0 {
            break;
        }
        let Ok((submitted, at, written, result)) = done.recv() else {
            break;
        };
        result.map_err(StoreError::Poisoned)?;
        times.record(at - submitted);
        ended = at;
        in_flight -= 1;
        groups += u64::from(written != last_group);
        last_group = written;
    }
    log.close();
    let round = Round {
        bytes,
        time: ended - began,
        times,
        appends: index,
        groups,
    };
    Ok((round, len))
}

/// How many messages fill an append.
fn messages_of(batch: usize) -> Result<usize, StoreError> {
    let one = Feed::new(1, QUEUES, BODY).draft(1)?.len();
    let more = Feed::new(1, QUEUES, BODY).draft(2)?.len() - one;
    Ok(1 + batch.saturating_sub(one) / more)
}

/// Makes entries ahead, as the thread that reads requests does: an append begins when its messages are there.
fn builder(messages: usize, ahead: usize) -> Receiver<Result<Draft, StoreError>> {
    let (tx, rx) = sync_channel(ahead);
    std::thread::spawn(move || {
        let mut feed = Feed::new(1, QUEUES, BODY);
        while tx.send(feed.draft(messages)).is_ok() {}
    });
    rx
}
