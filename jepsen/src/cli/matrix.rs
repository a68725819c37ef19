//! `matrix`: every kind of fault against every workload it can hurt, in the modes that promise something about it.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use raftmq_benches::BenchError;

use super::campaign::{self, Done, Made};
use crate::checker::verdict::Valid;

/// Workload, faults, further arguments.
type Config = (&'static str, &'static str, &'static str);

/// Whose servers, the configuration, what came of it.
type Row = (String, String, Done);

/// All configurations.
#[rustfmt::skip]
pub const CONFIGS: [Config; 56] = [
    // Processes.
    ("log", "kill:leader", ""),
    ("log", "kill:minority,kill:majority,kill:all", "--flush async"),
    ("log", "restart-storm", "--flush async"),
    ("log", "pause:leader,pause:majority", ""),
    ("log", "stop:leader,transfer", ""),
    ("log", "kill:leader,partition-halves,pause:leader", "--overlap"),
    ("log", "kill:majority,partition-ring", "--replicas 5"),
    ("log", "kill:leader", "--rate 0 --concurrency 64 -- mappedFileSizeCommitLog=4194304"),
    // Networks.
    ("log", "partition-halves,partition-leader", ""),
    ("log", "isolate-leader,one-way", ""),
    ("log", "bridge,partition-ring", "--replicas 5"),
    ("log", "flapping,one-way", "--flush async"),
    ("log", "delay,loss", ""),
    ("log", "reset,duplicate,reorder", ""),
    ("log", "throttle,kill:leader", "--overlap"),
    // Power.
    ("log", "power:all", ""),
    ("log", "power:leader,power:majority", ""),
    ("log", "power-leader-fast", ""),
    ("log", "power-leader-fast", "--flush async"),
    ("log", "part-kill", ""),
    ("log", "part-kill", "--flush async"),
    ("log", "pause-kill", ""),
    ("log", "pause-kill", "--flush async"),
    ("log", "power:all,power:majority", "--flush async"),
    // Disks and files.
    ("log", "disk-full", ""),
    ("log", "disk-hang,disk-slow", ""),
    ("log", "fsync-error", ""),
    ("log", "bitflip:segment,bitflip:sparse-index,bitflip:marks,bitflip:snapshot", ""),
    ("log", "bitflip:queue,bitflip:key-index,bitflip:metadata", ""),
    ("log", "bitflip:segment,truncate:segment,old-copy:segment", "--replicas 5"),
    ("log", "truncate:segment,truncate:sparse-index,truncate:marks,truncate:snapshot", ""),
    ("log", "truncate:queue,truncate:key-index,truncate:metadata", ""),
    ("log", "old-copy:segment,old-copy:queue,old-copy:key-index", ""),
    ("log", "old-copy:metadata,old-copy:snapshot", ""),
    ("log", "trim-past", ""),
    // Clocks, members, names.
    ("log", "clock-jump,clock-skew,clock-strobe", ""),
    ("log", "grow-shrink", ""),
    ("log", "wipe-rejoin,wipe-two", ""),
    ("log", "transfer,transfer-dead,namesrv-kill", "--overlap"),
    ("log", "namesrv-kill", ""),
    ("log", "restart-beside-isolated-leader", ""),
    // Acknowledgement levels.
    ("log", "kill:leader,isolate-leader", "--ack async"),
    ("log", "kill:leader,pause:follower", "--ack all"),
    // Other workloads.
    ("ordered", "kill:leader,partition-halves", ""),
    ("ordered", "transfer,reset", "--overlap"),
    ("register", "partition-halves,isolate-leader", ""),
    ("register", "kill:leader,pause:leader,clock-strobe", ""),
    ("max-offset", "isolate-leader,pause:leader", ""),
    ("max-offset", "kill:leader,transfer", "--ack async"),
    ("resume", "kill:leader,transfer", ""),
    ("resume", "partition-leader,power:all", ""),
    ("delay", "kill:leader,power:leader", ""),
    ("delay", "clock-jump,partition-halves", ""),
    // One consumer takes all that comes again.
    ("retry", "kill:leader,partition-leader", "--rate 200"),
    ("transaction", "kill:leader,partition-leader", ""),
    ("transaction", "power:leader,pause:leader,transfer", ""),
];

#[derive(Args)]
pub struct MatrixArgs {
    /// With faults, each.
    #[arg(long, default_value_t = 180)]
    seconds: u64,

    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Where everything goes; what is there already, made with the same arguments and broker, is not run again.
    #[arg(long)]
    dir: PathBuf,

    /// Only those whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,

    /// Whose servers: raftmq, java-dledger, java-master; several side by side. Each is given every fault in turn.
    #[arg(long, value_delimiter = ',', default_value = "raftmq")]
    servers: Vec<String>,
}

/// `log_kill-leader_flush-async`
fn name((workload, faults, more): &Config) -> String {
    // Without settings of the brokers.
    let more = more.split(" -- ").next().unwrap_or_default();
    let text = format!("{workload}_{faults}_{}", more.replace("--", ""));
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' {
            c
        } else {
            '-'
        }
    };
    text.chars()
        .map(plain)
        .collect::<String>()
        .trim_end_matches('_')
        .to_owned()
}

/// Runs what is not there yet, and writes `summary.md` after each.
pub async fn run(args: &MatrixArgs) -> Result<Valid, BenchError> {
    std::fs::create_dir_all(&args.dir).map_err(BenchError::io(&args.dir))?;
    let (mut worst, go) = (Valid::True, campaign::has_go());
    let mut rows: Vec<Row> = Vec::new();
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|o| name.contains(o));
    for (number, config) in (0..).zip(&CONFIGS) {
        let name = name(config);
        if !wanted(&name) {
            continue;
        }
        for servers in &args.servers {
            let dir = match args.servers.len() {
                1 => args.dir.join(&name),
                _ => args.dir.join(servers).join(&name),
            };
            let words = words(config, servers, args.seconds, args.seed + number, go);
            let done = match campaign::earlier(&dir, &Made::from(&words)?) {
                Some(done) => done,
                None => {
                    println!("== {servers} {name}");
                    campaign::test(&words, &dir).await?
                }
            };
            worst = worst.max(done.valid);
            rows.push((servers.clone(), name.clone(), done));
            let summary = args.dir.join("summary.md");
            std::fs::write(&summary, table(&rows)).map_err(BenchError::io(summary))?;
        }
    }
    println!("{}", table(&rows));
    Ok(worst)
}

fn words(
    (workload, faults, more): &Config,
    servers: &str,
    seconds: u64,
    seed: u64,
    go: bool,
) -> Vec<String> {
    // Where the second opinion can be had it is asked for.
    let opinion = if go { "--require-porcupine" } else { "" };
    let line = format!(
        "--workload {workload} --nemesis {faults} --seconds {seconds} --seed {seed} --servers {servers} {opinion} {more}"
    );
    line.split_whitespace().map(str::to_owned).collect()
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| servers | run | valid | acknowledged | lost | unknown, stored | first ack after the last fault, ms | after the slowest, ms | findings |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for (servers, name, done) in rows {
        let valid = match done.valid {
            Valid::True => "yes",
            Valid::Unknown => "undecided",
            Valid::False => "**no**",
        };
        let recovery = done.results.get("recovery");
        let told = |field: &str| {
            let ms = recovery.and_then(|r| r.get(field)).filter(|v| !v.is_null());
            ms.map_or("–".to_owned(), ToString::to_string)
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {servers} | {name} | {valid} | {} | {} | {} | {} | {} | {} |",
            done.count("acknowledged-count"),
            done.count("lost-count"),
            done.count("recovered-count"),
            told("first-ack-ms"),
            told("slowest-ms"),
            done.findings().join(", ")
        );
    }
    let sum = |field: &str| {
        rows.iter()
            .map(|(_, _, done)| done.count(field))
            .sum::<u64>()
    };
    let valid = rows.iter().filter(|(_, _, done)| done.valid == Valid::True);
    let _ = writeln!(
        text,
        "| | {} runs | {} | {} | {} | {} | | | |",
        rows.len(),
        valid.count(),
        sum("acknowledged-count"),
        sum("lost-count"),
        sum("recovered-count")
    );
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::nemesis::catalogue;
    use crate::workload::Workload;

    #[test]
    fn every_fault_and_workload_is_in_the_matrix() {
        let names: BTreeSet<_> = CONFIGS.iter().map(name).collect();
        assert_eq!(names.len(), CONFIGS.len(), "two have one name");
        for (_, workload, _) in Workload::ALL {
            assert!(CONFIGS.iter().any(|c| c.0 == workload), "{workload}");
        }
        let faults: BTreeSet<_> = CONFIGS.iter().flat_map(|c| c.1.split(',')).collect();
        // Every kind of file, for a fault that meets another one each time may miss some.
        for fault in catalogue()
            .iter()
            .filter(|f| f.options.contains(&"segment"))
        {
            for kind in fault.options {
                let name = format!("{}:{kind}", fault.name);
                assert!(faults.contains(name.as_str()), "{name}");
            }
        }
        for fault in catalogue() {
            let is = |wanted: &&str| wanted.split(':').next() == Some(fault.name);
            assert!(faults.iter().any(is), "{}", fault.name);
        }
        for fault in &faults {
            let (name, option) = fault.split_once(':').unwrap_or((fault, ""));
            let known = catalogue().iter().find(|f| f.name == name);
            let known = known.unwrap_or_else(|| panic!("there is no fault {fault}"));
            assert!(
                option.is_empty() || known.options.contains(&option),
                "{fault}"
            );
        }
    }
}
