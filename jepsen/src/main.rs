//! `raftmq-jepsen`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    raftmq_jepsen::cli::main()
}
