//! What a replica's process believes about its machine: which boot it is, and what time. Both are files of the bed that the process
//! is started over: one is mounted over the kernel's boot id in the process' own mount namespace, the other is read by libfaketime at
//! every look at the clock (the monotonic clock stays true).

use std::fs;
use std::path::{Path, PathBuf};

use raftmq_benches::BenchError;

/// Where Debian's package `libfaketime` has it.
pub const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
/// What is mounted over.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Where the kernel makes new ones.
const RANDOM_ID: &str = "/proc/sys/kernel/random/uuid";

/// Two files of a replica.
#[derive(Clone, Debug)]
pub struct Beliefs {
    boot: Option<PathBuf>,
    clock: Option<PathBuf>,
}

impl Beliefs {
    /// Makes the files of the replica `name` in `dir`, as far as they are wanted; the boot needs root.
    ///
    /// # Errors
    /// A file cannot be written; libfaketime is not there.
    pub fn make(dir: &Path, name: &str, boot: bool, clock: bool) -> Result<Self, BenchError> {
        if clock && !Path::new(FAKETIME).exists() {
            let why = format!("{FAKETIME} is not there: apt-get install libfaketime");
            return Err(BenchError::Usage(why));
        }
        let file = |wanted: bool, end| wanted.then(|| dir.join(format!("{name}.{end}")));
        let beliefs = Self {
            boot: file(boot, "boot"),
            clock: file(clock, "clock"),
        };
        beliefs.boot_anew()?;
        beliefs.set_clock(0.0)?;
        Ok(beliefs)
    }

    /// From its next start on the process is in another boot.
    ///
    /// # Errors
    /// I/O.
    pub fn boot_anew(&self) -> Result<(), BenchError> {
        let Some(path) = &self.boot else {
            return Ok(());
        };
        let id = fs::read_to_string(RANDOM_ID).map_err(BenchError::io(RANDOM_ID))?;
        fs::write(path, id).map_err(BenchError::io(path))
    }

    /// The process' clock is so many seconds off from now on.
    ///
    /// # Errors
    /// I/O.
    pub fn set_clock(&self, seconds: f64) -> Result<(), BenchError> {
        let Some(path) = &self.clock else {
            return Ok(());
        };
        // A reader finds the old offset or the new one.
        let new = path.with_extension("clock-new");
        fs::write(&new, format!("{seconds:+.6}\n")).map_err(BenchError::io(&new))?;
        fs::rename(&new, path).map_err(BenchError::io(path))
    }

    /// The command that a program and its arguments follow; none when nothing is pretended. `own_mounts`: whoever starts it has
    /// given it a mount namespace already. `often`: it looks at its clock so often that a look may not cost 40 µs, and may find an
    /// offset of up to a second before.
    pub fn wrapper(&self, own_mounts: bool, often: bool) -> Vec<String> {
        let mut command = Vec::new();
        if let Some(boot) = &self.boot {
            if !own_mounts {
                command.extend(
                    ["/usr/bin/unshare", "-m", "--propagation", "slave"].map(str::to_owned),
                );
            }
            let script = format!("mount --bind \"$0\" {BOOT_ID} && exec \"$@\"");
            command.extend(["/bin/sh".to_owned(), "-c".to_owned(), script, text(boot)]);
        }
        if let Some(clock) = &self.clock {
            command.extend([
                "/usr/bin/env".to_owned(),
                format!("LD_PRELOAD={FAKETIME}"),
                format!("FAKETIME_TIMESTAMP_FILE={}", text(clock)),
                match often {
                    true => "FAKETIME_CACHE_DURATION=1".to_owned(),
                    false => "FAKETIME_NO_CACHE=1".to_owned(),
                },
                "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
                "DONT_FAKE_MONOTONIC=1".to_owned(),
                "NO_FAKE_STAT=1".to_owned(),
                // Otherwise every timed wait of a JVM is over at once.
                "FAKETIME_FORCE_MONOTONIC_FIX=0".to_owned(),
            ]);
        }
        command
    }
}

/// Removes what libfaketime left of processes that were killed.
pub fn sweep() {
    let entries = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let parts = ["faketime_shm_", "sem.faketime_sem_"];
        let pid = parts.iter().find_map(|part| name.strip_prefix(part));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::super::tools::is_root;
    use super::*;

    fn told(beliefs: &Beliefs, program: &[&str]) -> String {
        let mut command = beliefs.wrapper(false, false);
        command.extend(program.iter().map(|s| (*s).to_owned()));
        let output = Command::new(&command[0]).args(&command[1..]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    #[test]
    fn a_process_believes_in_another_boot_only_when_it_was_told() {
        if !is_root() {
            println!("skipped: root is needed");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let beliefs = Beliefs::make(dir.path(), "n0", true, false).unwrap();
        let look = || told(&beliefs, &["/bin/cat", BOOT_ID]);
        let first = look();
        assert_eq!(first.trim().len(), 36);
        assert_eq!(look(), first);
        assert_ne!(fs::read_to_string(BOOT_ID).unwrap(), first);
        beliefs.boot_anew().unwrap();
        assert_ne!(look(), first);
    }

    #[test]
    fn a_process_sees_another_time() {
        if !Path::new(FAKETIME).exists() {
            println!("skipped: {FAKETIME} is not there");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let beliefs = Beliefs::make(dir.path(), "n0", false, true).unwrap();
        for offset in [0_i64, -100, 3600] {
            beliefs.set_clock(offset as f64).unwrap();
            let seen: f64 = told(&beliefs, &["/bin/date", "+%s.%N"])
                .trim()
                .parse()
                .unwrap();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let off = seen - now.as_secs_f64() - offset as f64;
            assert!(
                off.abs() < Duration::from_secs(5).as_secs_f64(),
                "{offset}: {off}"
            );
        }
    }
}
