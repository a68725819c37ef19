//! `mqbroker` with promises that can be broken on purpose: `RAFTMQ_SABOTAGE` says which (`raftmq_store::sabotage`). A control
//! for tests, never a broker.

#[path = "../main.rs"]
mod mqbroker;

fn main() -> std::process::ExitCode {
    mqbroker::main()
}
