//! Opening a large store with a cold page cache, after `kill -9` in the middle of the work and after a clean stop. What
//! fills it and what opens it are processes of their own: the one is really killed, the other really starts.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use raftmq_benches::BenchError;
use raftmq_benches::feed::{Feed, MESSAGES_PER_ENTRY};
use raftmq_benches::local::{LocalStore, Submitted};
use raftmq_benches::page_cache::evict;
use raftmq_benches::proc_stat::{DiskIo, Usage, own_descriptors};
use raftmq_store::commitlog::LogOptions;
use raftmq_store::commitlog::marks::{Mark, Marker};
use raftmq_store::commitlog::writer::FlushPolicy;
use raftmq_store::consume_queue::QueueTable;
use raftmq_store::key_index::KeyIndex;
use raftmq_store::vfs::{FileSystem, RealFs};

use super::line::Line;
use super::work::{MIB, directory, now_ms, settle};

/// Body of a message, bytes.
const BODY: usize = 1024;
/// Entries appended with one operation.
const ENTRIES_AT_ONCE: usize = 8;
/// Longest time that the filling goes on after it is done, when nobody kills it.
const ALIVE: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub struct Args {
    /// Log, GiB; may be a fraction.
    #[arg(long, default_value_t = 10.0)]
    gib: f64,

    #[command(flatten)]
    shape: Shape,

    /// Time from the end of the filling to the kill, ms; meanwhile messages go in.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(0..=30_000))]
    kill_after_ms: u64,

    /// Where the store goes [default: the temporary directory].
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// What the messages are like.
#[derive(clap::Args, Clone)]
pub struct Shape {
    /// mappedFileSizeCommitLog, MiB.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=2048))]
    segment_mib: u64,

    /// Topics the messages go to.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    topics: u32,

    /// Queues of each.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    queues: u32,
}

#[derive(clap::Args)]
pub struct FillArgs {
    /// Must be empty.
    #[arg(long)]
    dir: PathBuf,

    /// Log, bytes.
    #[arg(long)]
    bytes: u64,

    #[command(flatten)]
    shape: Shape,
}

#[derive(clap::Args)]
pub struct OnceArgs {
    #[arg(long)]
    pub dir: PathBuf,

    /// mappedFileSizeCommitLog, MiB.
    #[arg(long)]
    pub segment_mib: u64,
}

/// Fills, kills, opens, closes, opens.
///
/// # Errors
/// I/O; a process that does not do what it should.
pub fn run(args: &Args) -> Result<Line, BenchError> {
    let bytes = (args.gib * 1024.0 * MIB as f64) as u64;
    // What is derived from the log, and what goes in until the kill.
    let needed = bytes + bytes / 4 + 4 * args.shape.segment_mib * MIB;
    let work = directory(args.dir.as_deref(), needed)?;
    let store = work.path().join("store");
    let began = Instant::now();
    let mut filling = Filling::start(&store, bytes, &args.shape)?;
    filling.wait_filled()?;
    eprintln!("filled in {:.1} s", began.elapsed().as_secs_f64());
    std::thread::sleep(Duration::from_millis(args.kill_after_ms));
    filling.kill()?;

    let (to_replay, log) = self::to_replay(&store, args.shape.segment_mib * MIB)?;
    settle(work.path())?;
    let killed = open_cold(&store, args.shape.segment_mib)?;
    let (to_replay_clean, _) = self::to_replay(&store, args.shape.segment_mib * MIB)?;
    let clean = open_cold(&store, args.shape.segment_mib)?;
    let mut line = Line::default();
    line.float("open_killed_ms", killed.number("open_ms")?, 1)
        .float("open_clean_ms", clean.number("open_ms")?, 1)
        .mib("replayed_mib", to_replay)
        .float("apply_killed_ms", killed.number("apply_ms")?, 1)
        .float("applied_killed_mib", killed.number("applied_mib")?, 1)
        .mib("replayed_clean_mib", to_replay_clean)
        .float("read_killed_mib", killed.number("read_mib")?, 1)
        .float("read_clean_mib", clean.number("read_mib")?, 1)
        .float("close_ms", killed.number("close_ms")?, 1)
        .mib("log_mib", log);
    Ok(line)
}

/// The process that fills; it ends with this one.
struct Filling {
    child: Child,
    /// Closed when this process ends, however it does.
    _alive: Option<ChildStdin>,
}

impl Filling {
    fn start(dir: &Path, bytes: u64, shape: &Shape) -> Result<Self, BenchError> {
        let mut child = own_program()?
            .arg("fill")
            .arg("--dir")
            .arg(dir)
            .args(["--bytes", &bytes.to_string()])
            .args(["--segment-mib", &shape.segment_mib.to_string()])
            .args(["--topics", &shape.topics.to_string()])
            .args(["--queues", &shape.queues.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(BenchError::io("storebench fill"))?;
        let alive = child.stdin.take();
        Ok(Self {
            child,
            _alive: alive,
        })
    }

    fn wait_filled(&mut self) -> Result<(), BenchError> {
        let mut line = String::new();
        if let Some(out) = self.child.stdout.take() {
            BufReader::new(out)
                .read_line(&mut line)
                .map_err(BenchError::io("storebench fill"))?;
        }
        match line.trim() {
            "filled" => Ok(()),
            _ => Err(BenchError::Usage("the store could not be filled".into())),
        }
    }

    fn kill(mut self) -> Result<(), BenchError> {
        self.child.kill().map_err(BenchError::io("kill"))
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        // Fails when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn own_program() -> Result<Command, BenchError> {
    let own = std::env::current_exe().map_err(BenchError::io("this program"))?;
    Ok(Command::new(own))
}

/// Bytes of log that the next start reads again, and of the log. Looks at the same marks as the start does; what it
/// opens for that is closed before anything is measured.
fn to_replay(dir: &Path, segment: u64) -> Result<(u64, u64), BenchError> {
    let fs = Arc::new(RealFs);
    let log = dir.join("commitlog");
    let marker = fs.read(&log.join("marker")).map_err(BenchError::io(&log))?;
    let end = Marker::decode(&marker).written;
    let checked = Mark::load(fs.as_ref(), &log.join("checkpoint"))?.map_or(0, |m| m.position);
    let queues = QueueTable::open(fs.clone(), dir.join("consumequeue"))?;
    let queued = queues.as_of.map_or(0, |(_, position)| position);
    let indexed = KeyIndex::open(fs, dir.join("index"), segment)?.covered();
    eprintln!(
        "the log ends at {} MiB: it is checked up to {}, queues {}, keys {}",
        end / MIB,
        checked / MIB,
        queued / MIB,
        indexed / MIB
    );
    let from = checked.min(queued).min(indexed);
    Ok((end.saturating_sub(from), end))
}

/// What [`once`] found out.
pub struct Opened(String);

impl Opened {
    /// One of its numbers.
    ///
    /// # Errors
    /// It printed none.
    pub fn number(&self, name: &str) -> Result<f64, BenchError> {
        Line::number_in(&self.0, name)
            .ok_or_else(|| BenchError::Usage(format!("no {name} in {:?}", self.0)))
    }
}

/// Opens a store in a process of its own after its files are out of the page cache; it is closed cleanly then.
///
/// # Errors
/// I/O; the store cannot be opened.
pub fn open_cold(dir: &Path, segment_mib: u64) -> Result<Opened, BenchError> {
    evict(dir)?;
    let out = own_program()?
        .args(["--json", "open-once", "--dir"])
        .arg(dir)
        .args(["--segment-mib", &segment_mib.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .map_err(BenchError::io("storebench open-once"))?;
    if !out.status.success() {
        return Err(BenchError::Usage("the store cannot be opened".to_owned()));
    }
    Ok(Opened(
        String::from_utf8_lossy(&out.stdout).trim().to_owned(),
    ))
}

/// Opens, applies what is left to apply, closes, and says how long that took.
///
/// # Errors
/// As a start of a replica.
pub fn once(args: &OnceArgs) -> Result<Line, BenchError> {
    let usage = || Usage::of(std::process::id()).unwrap_or_default();
    let options = LogOptions::new(args.segment_mib * MIB, FlushPolicy::Async);
    let (read, rss) = (DiskIo::own().unwrap_or_default().read, usage().rss);
    let began = Instant::now();
    let store = LocalStore::open(&args.dir, &options)?;
    let open = began.elapsed();
    let read = DiskIo::own().unwrap_or_default().read - read;
    let mut line = Line::default();
    line.ms("open_ms", open)
        .mib("read_mib", read)
        .mib("rss_mib", usage().rss.saturating_sub(rss))
        .add("descriptors", own_descriptors() as u64)
        .add("queues", store.store.queues.len() as u64);
    let began = Instant::now();
    let applied = store.apply_rest()?;
    line.ms("apply_ms", began.elapsed())
        .mib("applied_mib", applied);
    let began = Instant::now();
    store.close()?;
    line.ms("close_ms", began.elapsed());
    Ok(line)
}

/// Fills a store, says so and goes on until it is killed.
///
/// # Errors
/// I/O.
pub fn fill(args: &FillArgs) -> Result<Line, BenchError> {
    end_with_parent();
    let options = LogOptions::new(args.shape.segment_mib * MIB, FlushPolicy::Async);
    let mut local = LocalStore::open(&args.dir, &options)?;
    local.keep_house();
    let mut feed = Feed::new(args.shape.topics as usize, args.shape.queues, BODY);
    let mut under_way: Option<Submitted> = None;
    let mut filled = None::<Instant>;
    while filled.is_none_or(|at| at.elapsed() < ALIVE) {
        let drafts: Result<_, _> = (0..ENTRIES_AT_ONCE)
            .map(|_| feed.draft(MESSAGES_PER_ENTRY))
            .collect();
        let submitted = local.submit(drafts?, now_ms())?;
        // Applies one while the next is written.
        if let Some(before) = under_way.replace(submitted) {
            local.apply(&before)?;
        }
        if filled.is_none() && local.store.log.end() >= args.bytes {
            println!("filled");
            std::io::stdout()
                .flush()
                .map_err(BenchError::io("standard output"))?;
            filled = Some(Instant::now());
        }
        if filled.is_some() {
            // Steadily, and without a disk that is far behind.
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(Line::default())
}

/// A process whose parent was killed would go on writing.
fn end_with_parent() {
    std::thread::spawn(|| {
        let mut rest = Vec::new();
        // Ends when the parent does, whatever comes.
        let _ = std::io::stdin().read_to_end(&mut rest);
        std::process::exit(1);
    });
}
