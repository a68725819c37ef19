//! One server process: its log file, its end.
//!
//! A process is in a process group of its own, so that Ctrl-C at the terminal reaches only the program that holds it,
//! which then ends it in order. It never outlives its holder: dropping a [`ServerProcess`] kills it, and where
//! `setpriv` (util-linux) is there, the kernel does when the holder is killed itself.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::BenchError;

/// How often the end of a process is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Bytes of a log's end that are shown when a process ended by itself.
const LAST_WORDS: i64 = 1500;

/// What to run.
#[derive(Clone, Debug)]
pub struct Program {
    /// Name of the process in messages.
    pub name: String,
    pub path: PathBuf,
    pub args: Vec<String>,
    /// Gets everything the process prints; appended to.
    pub log: PathBuf,
}

/// A process that was started and not yet given up. It may have ended all the same.
pub struct ServerProcess {
    program: Program,
    child: Option<Child>,
}

impl ServerProcess {
    /// Starts it.
    ///
    /// # Errors
    /// The program is not there or cannot be run, or the log cannot be written.
    pub fn start(program: Program) -> Result<Self, BenchError> {
        let mut process = Self {
            program,
            child: None,
        };
        process.restart()?;
        Ok(process)
    }

    /// Starts it again after its end; does nothing while it runs.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&mut self) -> Result<(), BenchError> {
        if self.ended().is_none() && self.child.is_some() {
            return Ok(());
        }
        let program = &self.program;
        if !program.path.is_file() {
            return Err(BenchError::NoProgram(program.path.clone()));
        }
        let open = || File::options().create(true).append(true).open(&program.log);
        let log = open().map_err(BenchError::io(&program.log))?;
        let log2 = log.try_clone().map_err(BenchError::io(&program.log))?;
        let mut command = bound_to_holder(&program.path);
        command
            .args(&program.args)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log2)
            .process_group(0);
        let child = spawn(command).map_err(|source| BenchError::Spawn {
            name: program.name.clone(),
            source,
        })?;
        self.child = Some(child);
        Ok(())
    }

    pub fn name(&self) -> &str {
        &self.program.name
    }

    /// The process id; None after a kill or stop.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// An error when it ended by itself.
    ///
    /// # Errors
    /// [`BenchError::Ended`] with the end of its log.
    pub fn check(&mut self) -> Result<(), BenchError> {
        match self.ended() {
            None => Ok(()),
            Some(status) => Err(BenchError::Ended {
                name: self.program.name.clone(),
                status: describe(status),
                log: last_words(&self.program.log),
            }),
        }
    }

    /// Ends it at once, as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails when it has ended already; then there is nothing to end.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to end (SIGTERM); [`Self::finish`] waits for that.
    pub fn ask_to_stop(&self) {
        self.signal(Signal::TERM);
    }

    /// Holds it (SIGSTOP) or lets it go on (SIGCONT).
    pub fn hold(&self, hold: bool) {
        self.signal(if hold { Signal::STOP } else { Signal::CONT });
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self
            .pid()
            .and_then(|p| i32::try_from(p).ok())
            .and_then(Pid::from_raw)
        {
            // Fails when it has ended already. The id cannot be another's: the child is not waited for yet.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for its end until `deadline`, then kills it. False when it had to be killed.
    pub fn finish(&mut self, deadline: Instant) -> bool {
        while self.child.is_some() {
            if self.ended().is_some() {
                self.child = None;
                return true;
            }
            if Instant::now() >= deadline {
                self.kill();
                return false;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        true
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `status 1` or `signal 9`.
fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown status".to_owned(),
    }
}

fn last_words(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = i64::try_from(file.metadata()?.len()).unwrap_or(i64::MAX);
        file.seek(SeekFrom::End(-LAST_WORDS.min(length)))?;
        let mut end = Vec::new();
        file.read_to_end(&mut end)?;
        Ok(end)
    };
    match read() {
        Ok(end) => String::from_utf8_lossy(&end).into_owned(),
        Err(e) => format!("({}: {e})", log.display()),
    }
}

/// The program, run so that it dies with this process even when this one is killed with -9.
fn bound_to_holder(path: &Path) -> Command {
    const SETPRIV: &str = "/usr/bin/setpriv";
    if !Path::new(SETPRIV).exists() {
        return Command::new(path);
    }
    let mut command = Command::new(SETPRIV);
    command.args(["--pdeathsig", "KILL", "--"]).arg(path);
    command
}

/// A command and where its outcome goes.
type Order = (Command, Sender<std::io::Result<Child>>);

/// Starts processes from a thread that never ends: the kernel sends the death signal when the starting *thread* ends,
/// and an async runtime's threads come and go.
fn spawn(command: Command) -> std::io::Result<Child> {
    static STARTER: OnceLock<Sender<Order>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (tx, rx) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, outcome) in rx {
                // Nobody waits for it any more: dropping the child would leave it running.
                if let Err(unwanted) = outcome.send(command.spawn())
                    && let Ok(mut child) = unwanted.0
                {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
        });
        tx
    });
    let gone = |_| std::io::Error::other("the starting thread is gone");
    let (tx, rx) = channel();
    starter.send((command, tx)).map_err(|_| gone(()))?;
    rx.recv().map_err(|_| gone(()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(dir: &Path, seconds: &str) -> ServerProcess {
        ServerProcess::start(Program {
            name: "sleeper".into(),
            path: "/bin/sleep".into(),
            args: vec![seconds.into()],
            log: dir.join("log"),
        })
        .unwrap()
    }

    fn lives(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let process = sleeper(dir.path(), "60");
        let pid = process.pid().unwrap();
        assert!(lives(pid));
        drop(process);
        assert!(!lives(pid));
    }

    #[test]
    fn one_that_ended_is_noticed_and_can_be_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = sleeper(dir.path(), "nonsense");
        let deadline = Instant::now() + Duration::from_secs(10);
        while process.ended().is_none() && Instant::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
        let error = process.check().unwrap_err().to_string();
        assert!(
            error.contains("status 1") && error.contains("nonsense"),
            "{error}"
        );
        process.restart().unwrap();
        process.ask_to_stop();
        assert!(process.finish(Instant::now() + Duration::from_secs(10)));
        assert_eq!(process.pid(), None);
    }
}
