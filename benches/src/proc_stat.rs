//! What a process costs, from `/proc`. Linux only.

use std::time::Duration;

/// Unit of the times in `/proc/PID/stat`, per second: `USER_HZ`, which Linux fixes at 100 for every program.
const TICKS_PER_SECOND: u64 = 100;

/// Processor time and memory of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time of all threads since its start; steps of 10 ms.
    pub cpu: Duration,
    /// Resident memory, bytes.
    pub rss: u64,
}

impl Usage {
    /// Now; None when there is no such process.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Some(Self {
            cpu: cpu_of(&stat)?,
            rss: rss_of(&status)?,
        })
    }

    /// All of them together; processes that are gone count nothing.
    pub fn of_all(pids: &[u32]) -> Self {
        let all = pids.iter().filter_map(|pid| Self::of(*pid));
        all.fold(Self::default(), |sum, one| Self {
            cpu: sum.cpu + one.cpu,
            rss: sum.rss + one.rss,
        })
    }
}

/// Fields 14 and 15. The name, field 2, may hold blanks and brackets: what counts comes after its last bracket.
fn cpu_of(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let sum = ticks()? + ticks()?;
    Some(Duration::from_millis(sum * 1000 / TICKS_PER_SECOND))
}

/// What this process had written and read, bytes: of the disk, not of the page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskIo {
    /// Fetched from the disk.
    pub read: u64,
    /// Pages made dirty; what was truncated before it was written out counts all the same.
    pub written: u64,
}

impl DiskIo {
    /// Of this process so far; None when the system does not say.
    pub fn own() -> Option<Self> {
        let io = std::fs::read_to_string("/proc/self/io").ok()?;
        let field = |name: &str| {
            let line = io.lines().find_map(|l| l.strip_prefix(name))?;
            line.trim().parse().ok()
        };
        Some(Self {
            read: field("read_bytes:")?,
            written: field("write_bytes:")?,
        })
    }
}

/// Open descriptors of this process.
pub fn own_descriptors() -> usize {
    // The listing itself has one.
    std::fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count().saturating_sub(1))
}

fn rss_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_do_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 9 0 100 1 2";
        assert_eq!(cpu_of(stat), Some(Duration::from_secs(2)));
        assert_eq!(cpu_of("7 (a"), None);
    }

    #[test]
    fn this_process_is_seen() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.rss > 100_000);
        assert_eq!(Usage::of(u32::MAX), None);
        assert!(own_descriptors() >= 3);
    }
}
