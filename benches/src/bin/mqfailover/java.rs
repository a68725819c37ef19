//! An unmodified Java client under steady load: a process that prints a line for each of its sends (interop/java, `Steady`).

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use raftmq_benches::process::{Program, ServerProcess};
use raftmq_benches::{BenchError, Tally};
use serde::Serialize;

use crate::load::late;

/// Its threads, and their messages a second together: enough to see a gap of 20 ms, little beside the cluster's load.
const THREADS: &str = "4";
const RATE: &str = "200";
/// Messages of a run at most, 5 hours of them.
const MOST: u64 = 4 << 20;
/// How often its lines are read.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// An acknowledgement may lie in the client's socket when its broker dies; read later than this it is a new one.
const LEFTOVERS_US: u64 = 100_000;
/// Time it has to end.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// The end of one send as the application saw it. Times in microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub start: u64,
    pub end: u64,
    /// The set that acknowledged it, or what the client threw.
    pub result: Result<String, String>,
}

/// What an outage was to the client, ms from the kill where not said otherwise.
#[derive(Clone, Debug, Serialize)]
pub struct JavaGap {
    /// Until the broken set acknowledged a send.
    pub set_ms: f64,
    /// Until any set did.
    pub any_ms: f64,
    /// The longest time without any acknowledgement between the kill and the end of `set_ms`.
    pub longest_pause_ms: f64,
    /// Sends that ended with an exception until then.
    pub failed: usize,
}

/// The process.
pub struct JavaSender {
    process: ServerProcess,
    lines: File,
    /// The beginning of a line whose end is not there yet.
    rest: String,
    sent: Vec<Sent>,
    tally: Arc<Tally>,
}

impl JavaSender {
    /// Starts it; its files go below `dir`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        script: &Path,
        dir: &Path,
        namesrv: &str,
        topic: &str,
        poll: Duration,
        tally: Arc<Tally>,
    ) -> Result<Self, BenchError> {
        // It numbers them itself, and one may be consumed before its line is read: all are known from the start.
        while tally.counts().sent < MOST && tally.next().is_some() {}
        let log = dir.join("java-sender.out");
        let home = dir.join("java-sender").to_string_lossy().into_owned();
        let poll = poll.as_millis().to_string();
        let run = tally.run().to_string();
        let args = [&home, namesrv, THREADS, RATE, &poll, topic, &run];
        let process = ServerProcess::start(Program {
            name: "java-sender".to_owned(),
            path: script.to_owned(),
            args: args.map(str::to_owned).into(),
            log: log.clone(),
        })?;
        Ok(Self {
            process,
            lines: File::open(&log).map_err(BenchError::io(&log))?,
            rest: String::new(),
            sent: Vec::new(),
            tally,
        })
    }

    /// Reads what it said meanwhile.
    fn read(&mut self) -> Result<(), BenchError> {
        let mut new = Vec::new();
        let read = self.lines.read_to_end(&mut new);
        read.map_err(BenchError::io("java-sender.out"))?;
        self.rest += &String::from_utf8_lossy(&new);
        while let Some(end) = self.rest.find('\n') {
            let line: String = self.rest.drain(..=end).collect();
            let Some((sent, number)) = parse(line.trim_end()) else {
                continue;
            };
            if sent.result.is_ok() {
                self.tally.acked(number);
            }
            self.sent.push(sent);
        }
        Ok(())
    }

    /// All ends of sends so far, as they came.
    ///
    /// # Errors
    /// It ended by itself, or its words cannot be read.
    pub fn sent(&mut self) -> Result<&[Sent], BenchError> {
        self.process.check()?;
        self.read()?;
        Ok(&self.sent)
    }

    /// Waits until every one of `sets` acknowledged something.
    ///
    /// # Errors
    /// It takes longer than `limit`, or as [`Self::sent`].
    pub async fn wait_sending(
        &mut self,
        sets: &[String],
        limit: Duration,
    ) -> Result<(), BenchError> {
        let deadline = Instant::now() + limit;
        loop {
            let sent = self.sent()?;
            let acked = |set: &String| sent.iter().any(|s| s.result.as_ref() == Ok(set));
            if sets.iter().all(acked) {
                return Ok(());
            }
            late(deadline, limit, "the Java client sends nothing")?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until `set`, whose leader was killed between the two times, acknowledges something again.
    ///
    /// # Errors
    /// It takes longer than `limit`, or as [`Self::sent`].
    pub async fn gap(
        &mut self,
        set: &str,
        killed: (u64, u64),
        limit: Duration,
    ) -> Result<JavaGap, BenchError> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(gap) = gap_of(self.sent()?, set, killed) {
                return Ok(gap);
            }
            late(deadline, limit, "no acknowledgement for the Java client")?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ends it and books its last words.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn finish(mut self) -> Result<(), BenchError> {
        self.process.ask_to_stop();
        self.process.finish(Instant::now() + STOP_GRACE);
        self.read()
    }
}

/// Microseconds since 1970, as the Java client tells times.
pub fn epoch_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

/// What the client saw in a span of time: the longest time without an acknowledgement, ms, and why sends failed.
pub fn span(sent: &[Sent], (from, to): (u64, u64)) -> (f64, Vec<String>) {
    let within = |s: &&Sent| (from..=to).contains(&s.end);
    let ends = sent.iter().filter(within).filter(|s| s.result.is_ok());
    let mut times: Vec<_> = ends.map(|s| s.end).chain([from, to]).collect();
    times.sort_unstable();
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max();
    let failed = sent.iter().filter(within);
    (
        longest.unwrap_or_default() as f64 / 1e3,
        failed.filter_map(|s| s.result.clone().err()).collect(),
    )
}

/// None until `set` acknowledged something after the kill, which took from the first time to the second.
fn gap_of(sent: &[Sent], set: &str, (killed, dead): (u64, u64)) -> Option<JavaGap> {
    // Lines come about in the order of their ends; a few threads may swap neighbours.
    let mut acks: Vec<_> = sent
        .iter()
        .filter(|s| s.end >= killed && (s.start >= dead || s.end >= dead + LEFTOVERS_US))
        .filter_map(|s| Some((s.end, s.result.as_ref().ok()?)))
        .collect();
    acks.sort_unstable();
    let (again, _) = *acks.iter().find(|(_, by)| *by == set)?;
    let ms = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e3;
    let until = acks.iter().map(|(end, _)| *end).take_while(|e| *e <= again);
    let times: Vec<_> = std::iter::once(killed).chain(until).collect();
    let pauses = times.windows(2).map(|pair| ms(pair[0], pair[1]));
    Some(JavaGap {
        set_ms: ms(killed, again),
        any_ms: ms(killed, acks.first()?.0),
        longest_pause_ms: pauses.fold(0.0, f64::max),
        failed: sent
            .iter()
            .filter(|s| s.result.is_err() && (killed..=again).contains(&s.end))
            .count(),
    })
}

/// A line and the number of its message; None for anything else that a JVM prints.
fn parse(line: &str) -> Option<(Sent, u64)> {
    let mut words = line.splitn(5, ' ');
    let kind = words.next()?;
    let start = words.next()?.parse().ok()?;
    let end = words.next()?.parse().ok()?;
    let (fourth, fifth) = (words.next()?, words.next()?);
    let (result, number) = match kind {
        "A" => (Ok(fourth.to_owned()), fifth),
        "F" => (Err(fifth.to_owned()), fourth),
        _ => return None,
    };
    Some((Sent { start, end, result }, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let (sent, number) = parse("A 10 20 broker-a 7").unwrap();
        assert_eq!((sent.start, sent.end, number), (10, 20, 7));
        assert_eq!(sent.result, Ok("broker-a".to_owned()));
        let (sent, number) = parse("F 10 20 8 MQClientException: no route").unwrap();
        assert_eq!(sent.result, Err("MQClientException: no route".to_owned()));
        assert_eq!(number, 8);
        assert_eq!(parse("Picked up JAVA_TOOL_OPTIONS: -X one two"), None);
    }

    #[test]
    fn what_counts_as_the_end_of_an_outage() {
        let text = "A 0 999000 broker-a 1
A 999900 1000500 broker-a 2
F 999950 1010000 3 MQClientException: x
A 1000100 1300000 broker-b 4
A 990000 1350000 broker-b 5
A 1350100 1900000 broker-a 6
A 1900000 1900100 broker-a 7";
        let sent: Vec<_> = text.lines().filter_map(|l| Some(parse(l)?.0)).collect();
        let killed = (1_000_000, 1_000_050);
        let gap = gap_of(&sent, "broker-a", killed).unwrap();
        assert_eq!(
            (gap.set_ms, gap.any_ms, gap.longest_pause_ms, gap.failed),
            (900.0, 300.0, 550.0, 1)
        );
        assert!(gap_of(&sent[..5], "broker-a", killed).is_none());
        let (longest, failed) = span(&sent, (1_000_000, 1_400_000));
        assert_eq!((longest, failed.len()), (299.5, 1));
    }
}
