//! What the disk itself does: the same bytes in groups of the same size, written one after the other into files that
//! were allocated before, and with nothing but the system calls.

use std::collections::VecDeque;
use std::fs::File;
use std::io::IoSlice;
use std::path::Path;
use std::time::{Duration, Instant};

use raftmq_benches::BenchError;
use rustix::fs::{FallocateFlags, fallocate};

use super::append::Round;
use super::work::Times;

/// What to write.
pub struct Load {
    /// Whether each group is followed by `fdatasync`.
    pub sync: bool,
    /// Bytes of an append.
    pub batch: usize,
    /// Appends written at once.
    pub group: usize,
    /// Appends under way at any time.
    pub in_flight: usize,
    /// Longest time.
    pub time: Duration,
    /// Most bytes.
    pub bytes: u64,
    /// Bytes of a file: as long as a segment.
    pub file: u64,
}

/// Writes until time or bytes are used up. An append that was under way while another group was written waited for it, as
/// in the log.
///
/// # Errors
/// I/O.
pub fn run(dir: &Path, load: &Load) -> Result<Round, BenchError> {
    let path = |n: u64| dir.join(format!("raw-{n}"));
    let mut files = Vec::new();
    for n in 0..load.bytes.div_ceil(load.file) {
        let file = File::create(path(n)).map_err(BenchError::io(path(n)))?;
        fallocate(&file, FallocateFlags::empty(), 0, load.file)
            .map_err(|e| BenchError::io(path(n))(e.into()))?;
        // The file itself is durable before anything in it has to be.
        file.sync_all().map_err(BenchError::io(path(n)))?;
        files.push(file);
    }
    // As many buffers as appends under way: all of one in a processor's cache would be too good.
    let group = load.group.clamp(1, load.in_flight.max(1));
    let buffers: Vec<_> = (0..load.in_flight.max(1))
        .map(|n| vec![b'a' + (n % 26) as u8; load.batch])
        .collect();
    let mut next = buffers.iter().cycle();
    let step = (load.batch * group) as u64;
    let mut times = Times::new();
    let began = Instant::now();
    let mut waiting: VecDeque<Instant> = vec![began; load.in_flight.max(1)].into();
    let (mut written, mut groups) = (0, 0);
    let (mut nth, mut at) = (0, 0);
    while began.elapsed() < load.time && written + step <= load.bytes {
        if at + step > load.file {
            (nth, at) = (nth + 1, 0);
        }
        let Some(file) = files.get(nth) else { break };
        let slices: Vec<_> = next.by_ref().take(group).map(|b| IoSlice::new(b)).collect();
        write_all(file, &slices, at, step)
            .and_then(|()| if load.sync { file.sync_data() } else { Ok(()) })
            .map_err(BenchError::io(path(nth as u64)))?;
        let now = Instant::now();
        for _ in 0..group {
            if let Some(submitted) = waiting.pop_front() {
                times.record(now - submitted);
            }
            waiting.push_back(now);
        }
        (at, written, groups) = (at + step, written + step, groups + 1);
    }
    Ok(Round {
        bytes: written,
        time: began.elapsed(),
        times,
        appends: groups * group as u64,
        groups,
    })
}

fn write_all(file: &File, slices: &[IoSlice<'_>], at: u64, len: u64) -> std::io::Result<()> {
    /// The kernel's limit is 1 024.
    const MAX_SLICES: usize = 512;
    let mut done = 0;
    for part in slices.chunks(MAX_SLICES) {
        done += rustix::io::retry_on_intr(|| rustix::io::pwritev(file, part, at + done))? as u64;
    }
    if done < len {
        return Err(std::io::Error::other("a write was cut short"));
    }
    Ok(())
}
