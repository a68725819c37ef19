//! The order of things: round after round, in each every work, in each work every case in turn, so that what else happens on the
//! machine meets all of them alike. What fails is noted and the run goes on.

use std::time::Duration;

use raftmq_benches::BenchError;
use raftmq_benches::process::{Program, ServerProcess};
use serde_json::{Value, json};

use super::bed::{Bed, Places};
use super::case::{Case, Flush};
use super::disk;
use super::lines::{Lines, Spread};
use super::matrix::{self, Group, Pace, Work};

/// How long a cluster is left alone after its start, and then watched.
const SETTLE: Duration = Duration::from_secs(1);
const WATCH: Duration = Duration::from_secs(2);
/// For everything about a load but its own time: topics are made, connections opened.
const ASIDE: Duration = Duration::from_secs(60);
/// The topic that is drained has bodies of 1 KiB, the rest of a backlog bigger ones, so that it is there soon.
const DRAIN_TOPIC: &str = "drain";
const FILL_BODY: u64 = 16 << 10;

/// What to do.
pub struct Plan {
    pub groups: Vec<Group>,
    pub full: bool,
    pub rounds: u32,
    /// Of a load, s; and before it.
    pub seconds: u64,
    pub warm_up: u64,
    /// Messages that are drained.
    pub drained: u64,
    /// Bytes that are sent before them being read cold.
    pub backlog: u64,
}

/// A run under way.
pub struct Run<'a> {
    pub places: &'a Places,
    pub plan: Plan,
    pub lines: Lines,
}

impl Run<'_> {
    /// Everything of the plan.
    ///
    /// # Errors
    /// Results cannot be written. What cannot be measured is a line of its own.
    pub async fn all(&mut self) -> Result<(), BenchError> {
        if self.wants(Group::Start) {
            self.starts().await?;
        }
        for flush in [Flush::Async, Flush::Sync] {
            let works = matrix::works(self.plan.full);
            let wanted = |w: &Work| w.flush == flush && self.wants(w.group);
            let works: Vec<_> = works.into_iter().filter(wanted).collect();
            let mut bed = Bed::new(self.places, flush);
            if !works.is_empty() {
                self.loads(&mut bed, &works).await?;
            }
            if flush == Flush::Async && self.wants(Group::Floor) {
                self.floor(&mut bed).await?;
            }
            if flush == Flush::Async && self.wants(Group::Backlog) {
                self.backlog(&mut bed).await?;
            }
        }
        Ok(())
    }

    fn wants(&self, group: Group) -> bool {
        self.plan.groups.contains(&group)
    }

    /// Notes a measurement or why there is none; false when there is none.
    fn note(
        &mut self,
        group: Group,
        work: &str,
        subject: &str,
        round: u32,
        measured: Result<Value, BenchError>,
    ) -> Result<bool, BenchError> {
        let good = measured.is_ok();
        let report = measured.unwrap_or_else(|e| json!({"failed": e.to_string()}));
        eprintln!(
            "mqcompare: round {round}  {subject:<15} {work}: {}",
            summary(&report)
        );
        self.lines
            .push(group.name(), work, subject, round, report)?;
        Ok(good)
    }

    /// Every case alone: started, left alone, watched, ended.
    async fn starts(&mut self) -> Result<(), BenchError> {
        // What is started and watched does not depend much on the moment.
        let rounds = match self.plan.full {
            true => self.plan.rounds,
            false => self.plan.rounds.min(2),
        };
        for round in 1..=rounds {
            for case in matrix::own_cases(Group::Start, self.plan.full) {
                let mut bed = Bed::new(self.places, Flush::Async);
                let measured = start_and_idle(&mut bed, case).await;
                bed.end(case);
                self.note(Group::Start, matrix::START, case.name(), round, measured)?;
            }
        }
        Ok(())
    }

    /// mqbench's works on cases that run side by side.
    async fn loads(&mut self, bed: &mut Bed<'_>, works: &[Work]) -> Result<(), BenchError> {
        let mut groups = Vec::new();
        for work in works {
            if !groups.contains(&work.group) {
                groups.push(work.group);
            }
        }
        for group in groups {
            let works: Vec<_> = works.iter().filter(|w| w.group == group).collect();
            self.group(bed, group, &works).await?;
        }
        Ok(())
    }

    /// The works of a group, round by round, on what they need alone.
    async fn group(
        &mut self,
        bed: &mut Bed<'_>,
        group: Group,
        works: &[&Work],
    ) -> Result<(), BenchError> {
        let mut cases: Vec<Case> = works.iter().flat_map(|w| w.cases.iter().copied()).collect();
        cases.sort_unstable();
        cases.dedup();
        bed.end_others(&cases);
        let mut absent = Vec::new();
        for case in &cases {
            if let Err(e) = bed.start_warm(*case).await {
                bed.end(*case);
                absent.push(*case);
                self.note(group, "start of the loads", case.name(), 1, Err(e))?;
            }
        }
        for round in 1..=self.plan.rounds {
            for work in works {
                for case in work.cases.iter().filter(|c| !absent.contains(c)) {
                    let measured = self.load(bed, work, *case).await;
                    self.note(work.group, &work.name, case.name(), round, measured)?;
                }
                if bed.flush == Flush::Sync && work.name == matrix::base(Flush::Sync) {
                    let time = Duration::from_secs(1);
                    let measured = disk::fdatasync(&self.places.work, time);
                    let name = matrix::FDATASYNC;
                    self.note(Group::Flush, name, matrix::DISK, round, measured)?;
                }
            }
        }
        Ok(())
    }

    /// One load on one case.
    async fn load(&self, bed: &mut Bed<'_>, work: &Work, case: Case) -> Result<Value, BenchError> {
        bed.make_room(case).await?;
        let mut flags = work.flags.clone();
        let rate = match work.pace {
            Pace::Most => None,
            Pace::Rate(rate) => Some(rate),
            Pace::Share(share) => {
                let most = match self.most(case) {
                    Some(most) => most,
                    None => {
                        let report = self.mqbench(bed, case, 1024, &[]).await?;
                        figure(&report, "/messages_per_second")?
                    }
                };
                Some((most * share).max(1.0) as u32)
            }
        };
        if let Some(rate) = rate {
            // A message too late is still sent; what is under way is bounded all the same.
            flags.extend(["--rate".to_owned(), rate.to_string()]);
            flags.extend(["-w", "4096"].map(str::to_owned));
        }
        self.mqbench(bed, case, work.size, &flags).await
    }

    /// Sends a second of a case so far, 1 KiB and 64 in flight.
    fn most(&self, case: Case) -> Option<f64> {
        let name = matrix::base(Flush::Async);
        let rounds = self
            .lines
            .rounds(&name, case.name(), "/messages_per_second");
        Some(Spread::of(rounds.into_iter().map(|(_, f)| f))?.median)
    }

    async fn mqbench(
        &self,
        bed: &mut Bed<'_>,
        case: Case,
        size: u32,
        more: &[String],
    ) -> Result<Value, BenchError> {
        let plan = &self.plan;
        // What is big fills the disk soon.
        let warm_up = if size > 16_384 { 0 } else { plan.warm_up };
        let mut flags: Vec<String> = ["-t", "compare", "-s"].map(str::to_owned).into();
        // mqbench takes a flag once.
        if more.iter().any(|f| f == "-t") {
            flags.drain(..2);
        }
        flags.push(size.to_string());
        flags.extend(["--seconds".to_owned(), plan.seconds.to_string()]);
        flags.extend(["--warm-up".to_owned(), warm_up.to_string()]);
        flags.extend_from_slice(more);
        let limit = Duration::from_secs(plan.seconds + warm_up) + ASIDE;
        Ok(with_share(bed.mqbench(case, &flags, limit).await?))
    }

    /// One replica and a bare server in turn.
    async fn floor(&mut self, bed: &mut Bed<'_>) -> Result<(), BenchError> {
        let case = Case::Raftmq1;
        bed.end_others(&[case]);
        bed.start_warm(case).await?;
        // Few connections with much in flight show what the server costs, many with little what the network does.
        let loads = [
            (matrix::FLOOR, ["-c", "4", "-w", "256"]),
            (matrix::FLOOR_MANY, ["-c", "1000", "-w", "1000"]),
        ];
        let port = self.places.port.map_or(19_990, |p| p.saturating_add(700));
        let addr = format!("127.0.0.1:{port}");
        let file = self.places.work.join("floor");
        let arg = |text: &str| text.to_owned();
        let bare = ServerProcess::start(Program {
            name: arg(matrix::BARE),
            path: self.places.bin_dir.join("mqfloor"),
            args: vec![
                arg("--listen"),
                addr.clone(),
                arg("--file"),
                file.to_string_lossy().into_owned(),
            ],
            log: self.places.work.join("floor.out"),
        });
        let mut bare = match bare {
            Ok(bare) => bare,
            Err(e) => {
                return self
                    .note(Group::Floor, matrix::FLOOR, matrix::BARE, 1, Err(e))
                    .map(drop);
            }
        };
        tokio::time::sleep(Duration::from_millis(500)).await;
        for round in 1..=self.plan.rounds {
            for (work, load) in loads {
                let load = load.map(str::to_owned);
                bed.make_room(case).await?;
                let measured = self.mqbench(bed, case, 1024, &load).await;
                self.note(Group::Floor, work, case.name(), round, measured)?;
                let mut flags = ["--raw-addr", &addr, "--json", "-s", "1024", "--pids"]
                    .map(str::to_owned)
                    .to_vec();
                flags.push(bare.pid().unwrap_or_default().to_string());
                flags.extend(load);
                flags.extend(["--seconds".to_owned(), self.plan.seconds.to_string()]);
                flags.extend(["--warm-up".to_owned(), self.plan.warm_up.to_string()]);
                let limit = Duration::from_secs(self.plan.seconds + self.plan.warm_up) + ASIDE;
                let tool = self.places.tool("mqbench", &flags, limit).await;
                let measured = tool.map(with_share);
                self.note(Group::Floor, work, matrix::BARE, round, measured)?;
            }
        }
        bare.kill();
        let _ = std::fs::remove_file(file);
        Ok(())
    }

    /// A topic is filled and drained from the page cache; more is sent; sends are measured beside it all; then the brokers start
    /// again with a cold page cache and the topic is drained from the disk.
    async fn backlog(&mut self, bed: &mut Bed<'_>) -> Result<(), BenchError> {
        let mut cases = matrix::own_cases(Group::Backlog, self.plan.full);
        bed.end_others(&[]);
        let mut absent = Vec::new();
        for case in &cases {
            let measured = async {
                bed.start_warm(*case).await?;
                self.fill(bed, *case, DRAIN_TOPIC, 1024, self.plan.drained)
                    .await
            };
            if let Err(e) = measured.await {
                bed.end(*case);
                absent.push(*case);
                self.note(Group::Backlog, "filling", case.name(), 1, Err(e))?;
            }
        }
        cases.retain(|c| !absent.contains(c));
        for round in 1..=self.plan.rounds {
            for case in &cases {
                let measured = self.drain(bed, *case).await;
                self.note(Group::Backlog, matrix::WARM, case.name(), round, measured)?;
            }
        }
        for case in &cases {
            let filled = self
                .fill(bed, *case, "fill", FILL_BODY, self.plan.backlog / FILL_BODY)
                .await;
            if let Err(e) = filled {
                self.note(Group::Backlog, "filling", case.name(), 2, Err(e))?;
            }
        }
        for round in 1..=self.plan.rounds {
            for case in &cases {
                let measured = self.mqbench(bed, *case, 1024, &[]).await;
                self.note(Group::Backlog, matrix::BEHIND, case.name(), round, measured)?;
            }
        }
        for round in 1..=self.plan.rounds {
            for case in &cases {
                let measured = match bed.restart_cold(*case).await {
                    Ok(()) => self.drain(bed, *case).await,
                    Err(e) => Err(e),
                };
                self.note(Group::Backlog, matrix::COLD, case.name(), round, measured)?;
            }
        }
        bed.end_others(&[]);
        Ok(())
    }

    async fn fill(
        &self,
        bed: &mut Bed<'_>,
        case: Case,
        topic: &str,
        size: u64,
        messages: u64,
    ) -> Result<(), BenchError> {
        let flags = format!("-t {topic} -s {size} --messages {messages} --warm-up 0 --seconds 120");
        let flags: Vec<_> = flags.split(' ').map(str::to_owned).collect();
        let limit = Duration::from_secs(120) + ASIDE;
        let report = bed.mqbench(case, &flags, limit).await?;
        match report["messages"].as_u64() {
            Some(sent) if sent >= messages => Ok(()),
            sent => Err(BenchError::Usage(format!(
                "{sent:?} of {messages} messages sent"
            ))),
        }
    }

    async fn drain(&self, bed: &mut Bed<'_>, case: Case) -> Result<Value, BenchError> {
        let flags = format!("--mode consume -t {DRAIN_TOPIC} --seconds 60");
        let flags: Vec<_> = flags.split(' ').map(str::to_owned).collect();
        let mut report = with_share(bed.mqbench(case, &flags, ASIDE * 2).await?);
        let drained = figure(&report, "/messages")?;
        if drained < self.plan.drained as f64 {
            let why = format!("{drained} of {} messages drained", self.plan.drained);
            return Err(BenchError::Usage(why));
        }
        report["consumed_per_second"] = report["messages_per_second"].clone();
        Ok(report)
    }
}

async fn start_and_idle(bed: &mut Bed<'_>, case: Case) -> Result<Value, BenchError> {
    let took = bed.start(case).await?.unwrap_or_default();
    tokio::time::sleep(SETTLE).await;
    let before = bed.usage(case);
    tokio::time::sleep(WATCH).await;
    let after = bed.usage(case);
    let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64() / WATCH.as_secs_f64();
    Ok(
        json!({"start_ms": took.as_secs_f64() * 1e3, "rss_bytes": after.rss, "cpu_percent": cpu * 100.0}),
    )
}

fn figure(report: &Value, pointer: &str) -> Result<f64, BenchError> {
    let found = report.pointer(pointer).and_then(Value::as_f64);
    found.ok_or_else(|| BenchError::Usage(format!("mqbench reports no {pointer}")))
}

/// What mqbench itself took of the processors, where it does not say.
fn with_share(mut report: Value) -> Value {
    let figure = |key: &str| report[key].as_f64();
    if report["own_cpu_share"].is_null()
        && let (Some(us), Some(rate)) = (
            figure("own_cpu_us_per_message"),
            figure("messages_per_second"),
        )
    {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        report["own_cpu_share"] = json!(us * rate / 1e6 / processors as f64);
    }
    report
}

/// For who watches.
fn summary(report: &Value) -> String {
    let one = |(name, pointer, factor): (&str, &str, f64)| {
        let value = report.pointer(pointer)?.as_f64()?;
        Some(format!("{name} {:.2}", value * factor))
    };
    let shown = [
        ("sends/s", "/messages_per_second", 1.0),
        ("consumed/s", "/consumed_per_second", 1.0),
        ("p50 ms", "/latency_us/p50", 1e-3),
        ("p99 ms", "/latency_us/p99", 1e-3),
        ("end to end p50 ms", "/end_to_end_us/p50", 1e-3),
        ("CPU µs", "/servers/cpu_us_per_message", 1.0),
        ("start ms", "/start_ms", 1.0),
        ("MiB", "/rss_bytes", 1.0 / 1_048_576.0),
        ("idle %", "/cpu_percent", 1.0),
    ];
    match report["failed"].as_str() {
        Some(why) => format!("not measured: {why}"),
        None => shown
            .into_iter()
            .filter_map(one)
            .collect::<Vec<_>>()
            .join(", "),
    }
}
