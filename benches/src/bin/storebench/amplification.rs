//! Bytes that go to the disk for each byte of message: log, consume queues, key index, metadata, snapshots. What the file
//! system writes about itself is not among them.

use std::path::PathBuf;
use std::time::Instant;

use raftmq_benches::BenchError;
use raftmq_benches::feed::Feed;
use raftmq_benches::local::{LocalStore, Submitted};
use raftmq_benches::proc_stat::DiskIo;
use raftmq_store::commitlog::LogOptions;

use super::append::Flush;
use super::line::Line;
use super::work::{MIB, directory, now_ms, settle};

#[derive(clap::Args)]
pub struct Args {
    /// When an entry counts as written.
    #[arg(long, value_enum, default_value_t = Flush::Async)]
    flush: Flush,

    /// Bodies together, MiB.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    mib: u64,

    /// Body of a message, bytes.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    size: u32,

    /// Messages of an entry: what a leader gathers under load. 1 is a producer that waits for each answer.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    entry: u32,

    /// Topics the messages go to.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    topics: u32,

    /// Queues of each.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    queues: u32,

    /// mappedFileSizeCommitLog, MiB.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(32..=2048))]
    segment_mib: u64,

    /// Where the store goes [default: the temporary directory].
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Fills a store, closes it, and sees what was written.
///
/// # Errors
/// I/O, or the system does not say what was written.
pub fn run(args: &Args) -> Result<Line, BenchError> {
    let wanted = args.mib * MIB;
    let work = directory(args.dir.as_deref(), wanted * 3 + 2 * args.segment_mib * MIB)?;
    let options = LogOptions::new(args.segment_mib * MIB, args.flush.into());
    let written = || {
        let io = DiskIo::own().map(|io| io.written);
        io.ok_or_else(|| BenchError::Usage("/proc/self/io cannot be read".to_owned()))
    };
    let before = written()?;
    let began = Instant::now();
    let mut local = LocalStore::open(&work.path().join("store"), &options)?;
    local.keep_house();
    let mut feed = Feed::new(args.topics as usize, args.queues, args.size as usize);
    let mut under_way: Option<Submitted> = None;
    while feed.number() * u64::from(args.size) < wanted {
        let draft = feed.draft(args.entry as usize)?;
        let submitted = local.submit(vec![draft], now_ms())?;
        if let Some(before) = under_way.replace(submitted) {
            local.apply(&before)?;
        }
    }
    if let Some(last) = under_way {
        local.apply(&last)?;
    }
    let log = local.store.log.end();
    let index = local.store.keys.stats().bytes;
    local.close()?;
    let took = began.elapsed();
    settle(work.path())?;
    let written = written()? - before;
    let bodies = feed.number() * u64::from(args.size);
    let each = |bytes: u64| bytes as f64 / bodies as f64;
    let mut line = Line::default();
    line.float("amplification", each(written), 3)
        .float("log_share", each(log), 3)
        .float("index_share", each(index), 3)
        .mib("message_mib", bodies)
        .mib("written_mib", written)
        .ms("took_ms", took);
    Ok(line)
}
