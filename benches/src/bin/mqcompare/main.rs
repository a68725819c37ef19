//! `mqcompare`: RaftMQ and Apache RocketMQ side by side on this machine, the same driver, the same flush and replication settings.
//!
//! [`matrix`] says what is measured and which two points make a row of the table, [`case`] what a cluster is, [`bed`] runs them,
//! [`run`] loads them in turn, [`lines`] keeps what comes out, [`table`] writes it down.

mod bed;
mod case;
mod disk;
mod lines;
mod matrix;
mod run;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use raftmq_benches::BenchError;
use raftmq_benches::cluster::own_bin_dir;
use raftmq_benches::stop::StopSignal;

use bed::Places;
use lines::Lines;
use matrix::Group;
use run::{Plan, Run};

/// Exit status after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

/// Runs our brokers and the Java ones side by side, loads them in turn with mqbench, and writes one table of ratios. The last line
/// is key=value: ratios of median sends with 1 KiB and 64 in flight, and our processor time a message with 1024.
#[derive(Parser)]
#[command(name = "mqcompare", version)]
struct Args {
    /// Groups to measure [default: all].
    #[arg(long, value_enum, num_args = 1.., value_delimiter = ',')]
    only: Vec<Group>,

    /// The whole matrix, 5 rounds of 3 s; without it what matters most, 3 rounds of 2 s.
    #[arg(long)]
    full: bool,

    /// The default.
    #[arg(long, conflicts_with = "full")]
    short: bool,

    /// Rounds.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,

    /// Time of each load, s; another one before it is not measured.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: Option<u64>,

    /// How long a Java broker is loaded before it is measured, s.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=600))]
    first_load: u64,

    /// The same for ours, s.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    own_first_load: u64,

    /// Shows groups, works and cases, and ends.
    #[arg(long)]
    list: bool,

    /// Keeps the results of groups that are not measured now.
    #[arg(long)]
    append: bool,

    /// Measures nothing: only the table, of the results that are there.
    #[arg(long)]
    table_only: bool,

    /// Lines of JSON, one for each load.
    #[arg(long, default_value = "compare.jsonl")]
    results: PathBuf,

    /// A document whose table is replaced.
    #[arg(long)]
    write: Option<PathBuf>,

    /// What is measured and when, for the table.
    #[arg(long, default_value = "unknown")]
    commit: String,

    /// The script that starts a Java server.
    #[arg(long, default_value = "benches/java-peer/run")]
    java_run: PathBuf,

    /// Ports from here on, 1000 of them [default: free ones].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1024..=64_000))]
    port: Option<u16>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(code) => code,
        Err(e) => {
            eprintln!("mqcompare: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<ExitCode, BenchError> {
    let groups: Vec<_> = match (args.table_only, args.only.is_empty()) {
        (true, _) => Vec::new(),
        (_, true) => Group::value_variants().to_vec(),
        _ => args.only.clone(),
    };
    if args.list {
        list(args.full, &groups);
        return Ok(ExitCode::SUCCESS);
    }
    let mut stop = StopSignal::new()?;
    let work = tempfile::Builder::new()
        .prefix("raftmq-compare.")
        .tempdir()
        .map_err(BenchError::io(std::env::temp_dir()))?;
    let places = Places {
        bin_dir: own_bin_dir()?,
        java_run: std::path::absolute(&args.java_run).map_err(BenchError::io(&args.java_run))?,
        work: work.path().to_owned(),
        port: args.port,
        first_load: args.first_load,
        own_first_load: args.own_first_load,
    };
    let names: Vec<_> = groups.iter().map(|g| g.name()).collect();
    let keep = args.append || args.table_only;
    let lines = Lines::open(&args.results, &args.commit, &names, keep)?;
    let (rounds, seconds) = if args.full { (5, 3) } else { (3, 2) };
    let mut run = Run {
        places: &places,
        plan: Plan {
            groups,
            full: args.full,
            rounds: args.rounds.unwrap_or(rounds),
            seconds: args.seconds.unwrap_or(seconds),
            warm_up: 1,
            drained: if args.full { 2_000_000 } else { 200_000 },
            backlog: if args.full { 10 << 30 } else { 1 << 30 },
        },
        lines,
    };
    tokio::select! {
        // Everything that was started ends with the future that holds it.
        done = run.all() => done?,
        () = stop.received() => return Ok(ExitCode::from(INTERRUPTED)),
    }
    let table = table::markdown(&run.lines, &matrix::rows(true), &facts(&run));
    println!("{table}");
    if let Some(document) = &args.write {
        table::write_into(document, &table)?;
    }
    println!("{}", table::last_line(&run.lines));
    Ok(ExitCode::SUCCESS)
}

fn list(full: bool, groups: &[Group]) {
    for group in groups {
        println!("{}", group.name());
        let show = |name: &str, cases: &[case::Case]| {
            let cases: Vec<_> = cases.iter().map(|c| c.name()).collect();
            println!("  {name}: {}", cases.join(", "));
        };
        let own = matrix::own_cases(*group, full);
        let names: &[_] = match group {
            Group::Start => &[matrix::START],
            Group::Backlog => &[matrix::WARM, matrix::BEHIND, matrix::COLD],
            Group::Floor => &[matrix::FLOOR, matrix::FLOOR_MANY],
            Group::Flush => &[matrix::FDATASYNC],
            _ => &[],
        };
        names.iter().for_each(|name| show(name, &own));
        let works = matrix::works(full);
        let works = works.iter().filter(|w| w.group == *group);
        works.for_each(|w| show(&w.name, &w.cases));
    }
}

/// What the figures belong to.
fn facts(run: &Run<'_>) -> Vec<String> {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|l| l.starts_with(name));
        let value = line.and_then(|l| l.split_once(':'));
        value.map_or_else(String::new, |(_, v)| v.trim().to_owned())
    };
    let memory = field(&file("/proc/meminfo"), "MemTotal");
    let memory = memory.trim_end_matches(" kB").parse().unwrap_or(0.0) / 1_048_576.0;
    let mut of: Vec<_> = run.lines.all.iter().map(|l| l.commit.as_str()).collect();
    of.sort();
    of.dedup();
    let rounds = run.lines.all.iter().map(|l| l.round).max().unwrap_or(0);
    vec![
        format!(
            "{} processors ({}), {memory:.0} GiB, Linux {}; load average {} at the end. Commit {}.",
            std::thread::available_parallelism().map_or(0, usize::from),
            field(&file("/proc/cpuinfo"), "model name"),
            file("/proc/sys/kernel/osrelease").trim(),
            file("/proc/loadavg").split(' ').next().unwrap_or_default(),
            of.join(", "),
        ),
        format!(
            "{rounds} rounds of {} s each, after {} s that do not count.",
            run.plan.seconds, run.plan.warm_up
        ),
    ]
}
