//! The matrix: every work that is measured, on which cases, and every row of the table, made of two points of it.

use clap::ValueEnum;

use super::case::{Case, Flush};

/// Works that are chosen together with `--only`, in the order they are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// From the start of the processes to the first accepted message; memory and processor time of a cluster that idles alone.
    Start,
    /// 1 KiB, 64 in flight.
    Send,
    /// 1 KiB, 1 and 1024 in flight.
    Depth,
    /// 128 B and 64 KiB.
    Sizes,
    /// Producers and consumers at once: closed loop, half and 30 % of the maximum, 16 consumer groups.
    Latency,
    /// 10 000 queues, one and 1000 connections.
    Scale,
    /// A backlog drained from memory and from the disk, and sends beside it.
    Backlog,
    /// 2 ms between the replicas.
    Delay,
    /// One replica beside a bare TCP server that writes what it gets to a file.
    Floor,
    /// The sends again with SYNC_FLUSH, and fdatasync beside them.
    Flush,
}

impl Group {
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Send => "send",
            Self::Depth => "depth",
            Self::Sizes => "sizes",
            Self::Latency => "latency",
            Self::Scale => "scale",
            Self::Backlog => "backlog",
            Self::Delay => "delay",
            Self::Floor => "floor",
            Self::Flush => "flush",
        }
    }
}

/// How fast messages are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Closed loop.
    Most,
    /// Open loop: this share of the case's sends a second with 1 KiB and 64 in flight.
    Share(f64),
    /// Open loop: so many messages a second.
    Rate(u32),
}

/// One load of mqbench, measured on some cases in turn.
#[derive(Clone, Debug)]
pub struct Work {
    pub name: String,
    pub group: Group,
    pub flush: Flush,
    pub cases: Vec<Case>,
    pub pace: Pace,
    /// Body, bytes.
    pub size: u32,
    /// Flags of mqbench besides.
    pub flags: Vec<String>,
}

/// One side of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub work: String,
    pub subject: String,
}

/// One row: the same figure of two points.
#[derive(Clone, Debug)]
pub struct Row {
    pub title: String,
    pub metric: Metric,
    pub ours: Point,
    pub theirs: Point,
    /// The ratio that is wanted at least, where above 1 is better for us.
    pub target: f64,
}

/// A figure of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    Sends,
    Consumed,
    P50,
    P99,
    EndToEnd50,
    EndToEnd99,
    /// While the processors kept their speed.
    SteadyP99,
    SteadyEndToEnd99,
    Cpu,
    LoadedMemory,
    IdleMemory,
    IdleCpu,
    Start,
}

/// Name, place in a report, factor to the unit of the table, and whether less is better.
pub struct MetricFacts {
    pub name: &'static str,
    pub pointer: &'static str,
    pub factor: f64,
    pub less_is_better: bool,
}

impl Metric {
    pub fn facts(self) -> MetricFacts {
        let (name, pointer, factor, less_is_better) = match self {
            Self::Sends => ("sends/s", "/messages_per_second", 1.0, false),
            Self::Consumed => ("consumed/s", "/consumed_per_second", 1.0, false),
            Self::P50 => ("p50, ms", "/latency_us/p50", 1e-3, true),
            Self::P99 => ("p99, ms", "/latency_us/p99", 1e-3, true),
            Self::EndToEnd50 => ("end to end p50, ms", "/end_to_end_us/p50", 1e-3, true),
            Self::EndToEnd99 => ("end to end p99, ms", "/end_to_end_us/p99", 1e-3, true),
            Self::SteadyP99 => (
                "p99, ms, machine steady",
                "/steady_latency_us/p99",
                1e-3,
                true,
            ),
            Self::SteadyEndToEnd99 => (
                "end to end p99, ms, machine steady",
                "/steady_end_to_end_us/p99",
                1e-3,
                true,
            ),
            Self::Cpu => (
                "CPU a message, µs",
                "/servers/cpu_us_per_message",
                1.0,
                true,
            ),
            Self::LoadedMemory => ("MiB", "/servers/rss_after_bytes", 1.0 / 1_048_576.0, true),
            Self::IdleMemory => ("MiB", "/rss_bytes", 1.0 / 1_048_576.0, true),
            Self::IdleCpu => ("% of a processor", "/cpu_percent", 1.0, true),
            Self::Start => ("ms", "/start_ms", 1.0, true),
        };
        MetricFacts {
            name,
            pointer,
            factor,
            less_is_better,
        }
    }
}

/// Cases of [`Group::Start`] and [`Group::Backlog`].
pub fn own_cases(group: Group, full: bool) -> Vec<Case> {
    use Case::*;
    match (group, full) {
        (Group::Start, _) => vec![Raftmq1, JavaAsync, Raftmq3Sync, JavaDledger],
        (Group::Backlog, false) => vec![Raftmq1, JavaAsync],
        (Group::Backlog, true) => vec![Raftmq1, JavaAsync, Raftmq3Sync, JavaSync2],
        (Group::Floor, _) => vec![Raftmq1],
        _ => Vec::new(),
    }
}

/// Names of works that are not made here but are no less part of the table.
pub const START: &str = "start";
pub const WARM: &str = "drain, warm";
pub const COLD: &str = "drain, cold";
pub const BEHIND: &str = "1 KiB, 64 in flight, with a backlog";
pub const FLOOR: &str = "1 KiB, 4 × 64 in flight, beside the bare server";
pub const FLOOR_MANY: &str = "1 KiB, 1000 × 1 in flight, beside the bare server";
pub const FDATASYNC: &str = "fdatasync of 64 KiB";
const DELAYED: &str = "1 KiB, 4096 in flight, 2 ms between replicas";
/// Subjects that are no cases.
pub const BARE: &str = "mqfloor";
pub const DISK: &str = "disk";

const SIZES: [(u32, &str); 3] = [(1024, "1 KiB"), (128, "128 B"), (65_536, "64 KiB")];
const DEPTHS: [u32; 3] = [64, 1, 1024];

/// Name of the work that the maximum of a case is taken from.
pub fn base(flush: Flush) -> String {
    send_name(flush, "1 KiB", 64)
}

fn send_name(flush: Flush, size: &str, depth: u32) -> String {
    match flush {
        Flush::Async => format!("{size}, {depth} in flight"),
        Flush::Sync => format!("SYNC_FLUSH, {size}, {depth} in flight"),
    }
}

/// Everything that mqbench measures on running cases.
pub fn works(full: bool) -> Vec<Work> {
    use Case::*;
    let few = vec![Raftmq1, JavaAsync, Raftmq3Sync];
    let levels = vec![Raftmq1, JavaAsync, Raftmq3Sync, Raftmq3Async];
    let own = vec![Raftmq1, Raftmq3Sync];
    let mut works = Vec::new();
    for flush in [Flush::Async, Flush::Sync] {
        for (size, size_name) in SIZES {
            for depth in DEPTHS {
                let (group, cases) = match (flush, size, depth) {
                    (Flush::Async, 1024, 64) => (Group::Send, Some(Case::ALL.to_vec())),
                    (Flush::Async, 1024, 1) => (Group::Depth, Some(levels.clone())),
                    (Flush::Async, 1024, _) => (Group::Depth, Some(Case::ALL.to_vec())),
                    (Flush::Async, _, _) => (Group::Sizes, None),
                    (Flush::Sync, 1024, 64 | 1024) => (Group::Flush, Some(few.clone())),
                    (Flush::Sync, _, _) => (Group::Flush, None),
                };
                let cases = if full {
                    Some(Case::ALL.to_vec())
                } else {
                    cases
                };
                works.extend(cases.map(|cases| Work {
                    name: send_name(flush, size_name, depth),
                    group,
                    flush,
                    cases,
                    pace: Pace::Most,
                    size,
                    flags: flags(&format!("-w {depth}")),
                }));
            }
        }
    }
    let rows = [
        (
            Group::Latency,
            "end to end, 64 in flight",
            Pace::Most,
            "--mode end-to-end -w 64",
            Some(&few),
        ),
        (
            Group::Latency,
            "end to end, half of the maximum",
            Pace::Share(0.5),
            "--mode end-to-end",
            Some(&few),
        ),
        (
            Group::Latency,
            "end to end, 10 000 a second",
            Pace::Rate(10_000),
            "--mode end-to-end",
            Some(&few),
        ),
        (
            Group::Latency,
            "16 consumer groups, 64 in flight",
            Pace::Most,
            "--mode end-to-end -w 64 --consumers 16",
            None,
        ),
        (
            Group::Latency,
            "30 % of the maximum",
            Pace::Share(0.3),
            "",
            Some(&levels),
        ),
        (
            Group::Scale,
            "10 000 queues, 64 in flight",
            Pace::Most,
            "-t many --topics 1250 -w 64",
            Some(&own),
        ),
        (
            Group::Scale,
            "1 connection, 1024 in flight",
            Pace::Most,
            "-c 1 -w 1024",
            Some(&own),
        ),
        (
            Group::Scale,
            "1000 connections, 1024 in flight",
            Pace::Most,
            "-c 1000 -w 1024",
            Some(&own),
        ),
    ];
    works.extend(
        rows.into_iter()
            .filter_map(|(group, name, pace, text, short)| {
                let all = full.then(|| Case::ALL.to_vec());
                Some(Work {
                    name: name.to_owned(),
                    group,
                    flush: Flush::Async,
                    cases: all.or_else(|| short.cloned())?,
                    pace,
                    size: 1024,
                    flags: flags(text),
                })
            }),
    );
    works.push(Work {
        name: DELAYED.to_owned(),
        group: Group::Delay,
        flush: Flush::Async,
        cases: vec![Raftmq3Sync, Raftmq3Delayed],
        pace: Pace::Most,
        size: 1024,
        flags: flags("-w 4096"),
    });
    works
}

fn flags(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// Who is compared with whom.
const PAIRS: [(Case, Case); 5] = [
    (Case::Raftmq1, Case::JavaAsync),
    (Case::Raftmq3Sync, Case::JavaDledger),
    (Case::Raftmq3Sync, Case::JavaAsync),
    (Case::Raftmq3Sync, Case::JavaSync2),
    (Case::Raftmq3Sync, Case::Raftmq3Async),
];

/// How much better ours should be.
fn target(metric: Metric, pair: (Case, Case)) -> f64 {
    use Metric::*;
    match (pair, metric) {
        ((Case::Raftmq3Sync, Case::Raftmq3Async), Sends | Consumed) => 0.8,
        ((Case::Raftmq3Sync, Case::Raftmq3Async), _) => 0.5,
        (_, Consumed) => 3.0,
        (_, EndToEnd99 | SteadyEndToEnd99 | LoadedMemory | IdleMemory) => 5.0,
        ((Case::Raftmq3Sync, Case::JavaDledger), Sends) => 10.0,
        ((Case::Raftmq3Sync, Case::JavaDledger), P99 | SteadyP99) => 5.0,
        ((Case::Raftmq1, Case::JavaAsync), Sends) => 3.0,
        ((Case::Raftmq1, Case::JavaAsync), P99 | SteadyP99 | Cpu) => 5.0,
        ((Case::Raftmq3Sync, Case::JavaAsync), Sends) => 2.0,
        _ => 1.0,
    }
}

/// All rows. One whose points were not measured is left out of the table.
pub fn rows(full: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for work in works(full) {
        for metric in metrics(&work) {
            for (ours, theirs) in PAIRS {
                rows.push(row(
                    *metric,
                    (&work.name, ours.name()),
                    (&work.name, theirs.name()),
                    target(*metric, (ours, theirs)),
                ));
            }
        }
    }
    let three = Case::Raftmq3Sync.name();
    let one = Case::Raftmq1.name();
    let base_name = base(Flush::Async);
    let deep = send_name(Flush::Async, "1 KiB", 1024);
    // Rows of our own: what something costs us.
    let kept = |work: &str, subject: &str, base: (&str, &str), target| {
        row(Metric::Sends, (work, subject), base, target)
    };
    for subject in [one, three] {
        for work in ["10 000 queues, 64 in flight", BEHIND] {
            rows.push(kept(work, subject, (&base_name, subject), 0.8));
        }
        let work = "1000 connections, 1024 in flight";
        let few = "1 connection, 1024 in flight";
        rows.push(kept(work, subject, (few, subject), 0.8));
    }
    rows.push(kept(
        DELAYED,
        Case::Raftmq3Delayed.name(),
        (DELAYED, three),
        0.7,
    ));
    let flushed = send_name(Flush::Sync, "1 KiB", 1024);
    rows.push(kept(&flushed, three, (&deep, three), 0.5));
    for work in [FLOOR, FLOOR_MANY] {
        rows.push(kept(work, one, (work, BARE), 0.5));
    }
    rows.push(kept(FLOOR_MANY, BARE, (FLOOR, BARE), 0.8));
    for subject in [one, three] {
        rows.push(row(
            Metric::P50,
            (&base(Flush::Sync), subject),
            (FDATASYNC, DISK),
            1.0 / 3.0,
        ));
    }
    for (ours, theirs) in PAIRS {
        for metric in [Metric::Start, Metric::IdleMemory, Metric::IdleCpu] {
            rows.push(row(
                metric,
                (START, ours.name()),
                (START, theirs.name()),
                target(metric, (ours, theirs)),
            ));
        }
        for (work, metric) in [
            (WARM, Metric::Consumed),
            (COLD, Metric::Consumed),
            (BEHIND, Metric::Sends),
        ] {
            rows.push(row(
                metric,
                (work, ours.name()),
                (work, theirs.name()),
                target(metric, (ours, theirs)),
            ));
        }
    }
    rows
}

fn metrics(work: &Work) -> &'static [Metric] {
    match (work.pace, work.group) {
        (Pace::Share(_) | Pace::Rate(_), _) if work.flags.is_empty() => {
            &[Metric::P50, Metric::P99, Metric::SteadyP99]
        }
        (Pace::Share(_) | Pace::Rate(_), _) => &[
            Metric::EndToEnd50,
            Metric::EndToEnd99,
            Metric::SteadyEndToEnd99,
        ],
        (_, Group::Latency) => &[Metric::Consumed, Metric::EndToEnd50],
        (_, Group::Send) => &[
            Metric::Sends,
            Metric::P99,
            Metric::SteadyP99,
            Metric::Cpu,
            Metric::LoadedMemory,
        ],
        _ if work.name.ends_with(" 1 in flight") => &[Metric::P50, Metric::P99],
        (_, Group::Depth) => &[Metric::Sends, Metric::P99, Metric::SteadyP99, Metric::Cpu],
        _ => &[Metric::Sends],
    }
}

fn row(metric: Metric, ours: (&str, &str), theirs: (&str, &str), target: f64) -> Row {
    let point = |(work, subject): (&str, &str)| Point {
        work: work.to_owned(),
        subject: subject.to_owned(),
    };
    let title = match ours.0 == theirs.0 {
        true => ours.0.to_owned(),
        false => format!("{} : {}", ours.0, theirs.0),
    };
    Row {
        title,
        metric,
        ours: point(ours),
        theirs: point(theirs),
        target,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_matrix_holds_the_short_one() {
        let (short, full) = (works(false), works(true));
        assert_eq!(
            full.iter()
                .filter(|w| w.name.ends_with(" in flight") && w.flags.len() == 2)
                .filter(|w| w.flags[0] == "-w" && w.pace == Pace::Most)
                .count(),
            18
        );
        for work in short {
            let same = full.iter().find(|w| w.name == work.name).unwrap();
            assert!(work.cases.iter().all(|case| same.cases.contains(case)));
        }
    }

    #[test]
    fn every_work_has_a_name_of_its_own_and_a_row() {
        for full in [false, true] {
            let rows = rows(full);
            let works = works(full);
            for (i, work) in works.iter().enumerate() {
                assert!(
                    works[..i].iter().all(|w| w.name != work.name),
                    "{}",
                    work.name
                );
                assert!(
                    rows.iter().any(|r| r.ours.work == work.name),
                    "{}",
                    work.name
                );
            }
        }
    }
}
