//! `mqbench`
fn main() {}
