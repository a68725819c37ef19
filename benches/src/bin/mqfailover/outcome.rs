//! What a run has to say: a table, the raw samples, and the last line.

use std::path::PathBuf;
use std::process::ExitCode;

use raftmq_benches::BenchError;
use raftmq_benches::samples::Samples;
use serde_json::Value;

/// The end of a run.
pub struct Outcome {
    /// What the table is about.
    pub title: String,
    pub rows: Vec<(&'static str, Samples)>,
    /// The last line.
    pub last: String,
    /// Whether everything that must hold did.
    pub good: bool,
    /// Every sample, for `file`.
    pub raw: Value,
    pub file: Option<PathBuf>,
}

impl Outcome {
    /// Prints it and writes the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn tell(self) -> Result<ExitCode, BenchError> {
        if let Some(file) = &self.file {
            std::fs::write(file, format!("{:#}\n", self.raw)).map_err(BenchError::io(file))?;
        }
        if !self.rows.is_empty() {
            println!("{}", Samples::head(&self.title));
            for (name, samples) in self.rows.iter().filter(|(_, s)| !s.is_empty()) {
                println!("{}", samples.row(name));
            }
        }
        println!("{}", self.last);
        Ok(if self.good {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
