//! Queries by key against the number of segments that lie in the time range, and of those outside of it. Every segment has
//! an hour of its own.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use raftmq_benches::BenchError;
use raftmq_benches::feed::{Feed, MESSAGES_PER_ENTRY, key, topic, unique_id};
use raftmq_benches::local::LocalStore;
use raftmq_store::commitlog::LogOptions;
use raftmq_store::commitlog::writer::FlushPolicy;
use raftmq_store::{StoreError, key_query};

use super::line::Line;
use super::work::{MIB, Times, directory};

/// Body of a message, bytes: many messages a segment.
const BODY: usize = 256;
/// Time of the first segment, ms.
const FIRST_MS: i64 = 1_700_000_000_000;
/// Time of a segment, ms.
const HOUR_MS: i64 = 3_600_000;
/// Messages a query may find.
const MAX_FOUND: usize = 32;

#[derive(clap::Args)]
pub struct Args {
    /// Segments of the log at the end.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    segments: u32,

    /// mappedFileSizeCommitLog, MiB.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=2048))]
    segment_mib: u64,

    /// Queries for each figure.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    queries: u32,

    /// Where the store goes [default: the temporary directory].
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Fills segment by segment; measures at 1, 2, 4… of them and at the end.
///
/// # Errors
/// I/O.
pub fn run(args: &Args) -> Result<Line, BenchError> {
    let segment = args.segment_mib * MIB;
    let needed = u64::from(args.segments) * segment * 5 / 4 + 4 * segment;
    let work = directory(args.dir.as_deref(), needed)?;
    let options = LogOptions::new(segment, FlushPolicy::Async);
    let mut local = LocalStore::open(&work.path().join("store"), &options)?;
    // One topic: every query could meet every message.
    let mut feed = Feed::new(1, 8, BODY).with_keys();
    let mut measured = Vec::new();
    let mut first_number = 0;
    for nth in 0..args.segments {
        first_number = feed.number();
        fill_segment(&mut local, &mut feed, nth, segment)?;
        let there = nth + 1;
        if there.is_power_of_two() || there == args.segments {
            while local.store.keys.maintain()? > 0 {}
            let figures = measure(&local, args.queries, nth, first_number..feed.number())?;
            eprintln!(
                "{there} segments: absent key p50 {:.1} µs with 1 in the range, {:.1} µs with all in it, {:.1} µs with none; present key p50 {:.1} p99 {:.1} µs with 1 in the range, {:.1} µs with all; unique id {:.1} µs",
                figures.absent_one,
                figures.absent_all,
                figures.absent_none,
                figures.found_one,
                figures.found_one_p99,
                figures.found_all,
                figures.unique
            );
            measured.push(figures);
        }
    }
    let messages = feed.number() - first_number;
    let stats = local.store.keys.stats();
    let mut line = Line::default();
    if let (Some(first), Some(last)) = (measured.first(), measured.last()) {
        line.add("segments", args.segments.into())
            .add("messages_a_segment", messages)
            .float("found_us", last.found_one, 1)
            .float("found_p99_us", last.found_one_p99, 1)
            .float("found_all_us", last.found_all, 1)
            .float("absent_1_of_1_us", first.absent_one, 1)
            .float("absent_1_of_n_us", last.absent_one, 1)
            .float("absent_n_of_n_us", last.absent_all, 1)
            .float("absent_0_of_n_us", last.absent_none, 1)
            .float(
                "index_bytes_an_entry",
                stats.bytes as f64 / stats.entries.max(1) as f64,
                1,
            );
    }
    local.close()?;
    Ok(line)
}

fn time_of(segment: u32) -> i64 {
    FIRST_MS + i64::from(segment) * HOUR_MS
}

/// Fills until the log has entered the next segment, or would.
fn fill_segment(
    local: &mut LocalStore,
    feed: &mut Feed,
    nth: u32,
    segment: u64,
) -> Result<(), StoreError> {
    let end = u64::from(nth + 1) * segment;
    let entry = Feed::new(1, 8, BODY)
        .with_keys()
        .draft(MESSAGES_PER_ENTRY)?
        .len() as u64;
    // Longer numbers make longer entries.
    while local.store.log.end() + entry + entry / 4 <= end {
        let draft = feed.draft(MESSAGES_PER_ENTRY)?;
        let submitted = local.submit(vec![draft], time_of(nth))?;
        local.apply(&submitted)?;
    }
    Ok(())
}

/// Medians, µs, unless the name says otherwise.
struct Figures {
    absent_one: f64,
    absent_all: f64,
    absent_none: f64,
    found_one: f64,
    found_one_p99: f64,
    found_all: f64,
    unique: f64,
}

/// With `newest` the last segment, whose messages have these numbers.
fn measure(
    local: &LocalStore,
    queries: u32,
    newest: u32,
    numbers: std::ops::Range<u64>,
) -> Result<Figures, StoreError> {
    let topic = topic(0);
    let (keys, log) = (&local.store.keys, &local.store.log);
    let one = (time_of(newest), time_of(newest) + HOUR_MS - 1);
    let all = (time_of(0), one.1);
    let none = (0, FIRST_MS - 1);
    let absent = |range: (i64, i64)| {
        timed(queries, |n| {
            let key = format!("absent-{n}");
            keys.query(&topic, &key, range.0, range.1, &mut |_| {
                Ok(ControlFlow::Continue(()))
            })
        })
    };
    // Spread over the segment, each asked once if there are enough.
    let step = (numbers.end - numbers.start) / u64::from(queries);
    let number =
        |n: u32| numbers.start + u64::from(n) * step.max(1) % (numbers.end - numbers.start);
    let found = |name: &dyn Fn(u64) -> String, range: (i64, i64)| {
        timed(queries, |n| {
            let name = name(number(n));
            let found = key_query::query(keys, log, &topic, &name, range, MAX_FOUND)?;
            match found.len() {
                1 => Ok(()),
                n => Err(StoreError::corrupt(
                    "query",
                    format!("{n} messages of {name}"),
                )),
            }
        })
    };
    let found_one = found(&key, one)?;
    Ok(Figures {
        absent_one: absent(one)?.micros(0.5),
        absent_all: absent(all)?.micros(0.5),
        absent_none: absent(none)?.micros(0.5),
        found_one: found_one.micros(0.5),
        found_one_p99: found_one.micros(0.99),
        found_all: found(&key, all)?.micros(0.5),
        unique: found(&unique_id, one)?.micros(0.5),
    })
}

fn timed(
    times: u32,
    mut run: impl FnMut(u32) -> Result<(), StoreError>,
) -> Result<Times, StoreError> {
    let mut taken = Times::new();
    for n in 0..times {
        let began = Instant::now();
        run(n)?;
        taken.record(began.elapsed().max(Duration::from_nanos(1)));
    }
    Ok(taken)
}
