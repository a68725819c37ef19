//! `raftmq-jepsen`: see the library.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    raftmq_jepsen::cli::main().await
}
