//! Many queues with one message each: what they take of memory and descriptors, how long it takes to make them and to open
//! the store again.

use std::path::PathBuf;
use std::time::Instant;

use raftmq_benches::BenchError;
use raftmq_benches::feed::{Feed, MESSAGES_PER_ENTRY};
use raftmq_benches::local::LocalStore;
use raftmq_benches::proc_stat::{Usage, own_descriptors};
use raftmq_store::commitlog::LogOptions;
use raftmq_store::commitlog::writer::FlushPolicy;

use super::line::Line;
use super::open::open_cold;
use super::work::{MIB, directory, settle};

/// Body of a message, bytes: the messages are not what is measured.
const BODY: usize = 16;
/// mappedFileSizeCommitLog, MiB.
const SEGMENT_MIB: u64 = 256;
/// Disk that a queue takes, bytes: its directory, its file, its message.
const DISK_A_QUEUE: u64 = 16 * 1024;

#[derive(clap::Args)]
pub struct Args {
    /// Topics.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    topics: u32,

    /// Queues of each topic.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    queues: u32,

    /// Instead: this many topics of one queue.
    #[arg(long, conflicts_with_all = ["topics", "queues"], value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    flat: Option<u32>,

    /// Where the store goes [default: the temporary directory].
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Makes them, closes, opens.
///
/// # Errors
/// I/O.
pub fn run(args: &Args) -> Result<Line, BenchError> {
    let (topics, queues) = match args.flat {
        Some(topics) => (topics, 1),
        None => (args.topics, args.queues),
    };
    let all = u64::from(topics) * u64::from(queues);
    let work = directory(
        args.dir.as_deref(),
        all * DISK_A_QUEUE + 4 * SEGMENT_MIB * MIB,
    )?;
    let dir = work.path().join("store");
    let mut options = LogOptions::new(SEGMENT_MIB * MIB, FlushPolicy::Async);
    // Only the queues should count.
    options.tail_bytes = 1 << 20;
    let mut local = LocalStore::open(&dir, &options)?;
    let mut feed = Feed::new(topics as usize, queues, BODY);
    let rss = || Usage::of(std::process::id()).unwrap_or_default().rss;
    let (rss_before, descriptors_before) = (rss(), own_descriptors());
    let began = Instant::now();
    while feed.number() < all {
        let left = usize::try_from(all - feed.number()).unwrap_or(MESSAGES_PER_ENTRY);
        let draft = feed.draft(left.min(MESSAGES_PER_ENTRY))?;
        let submitted = local.submit(vec![draft], 1_700_000_000_000)?;
        local.apply(&submitted)?;
    }
    let make = began.elapsed();
    let grown = rss().saturating_sub(rss_before);
    let mut line = Line::default();
    line.add("queues", local.store.queues.len() as u64)
        .mib("rss_mib", grown)
        .float("bytes_a_queue", grown as f64 / all as f64, 0)
        .add(
            "descriptors",
            own_descriptors().saturating_sub(descriptors_before) as u64,
        )
        .ms("make_ms", make);
    let began = Instant::now();
    local.close()?;
    line.ms("close_ms", began.elapsed());
    settle(work.path())?;
    let opened = open_cold(&dir, SEGMENT_MIB)?;
    line.float("reopen_ms", opened.number("open_ms")?, 1)
        .float("reopen_rss_mib", opened.number("rss_mib")?, 1)
        .float("reopen_descriptors", opened.number("descriptors")?, 0);
    Ok(line)
}
