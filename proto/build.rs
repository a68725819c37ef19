//! Generates the code through protox, a compiler in Rust: no `protoc` has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["proto/raft.proto"], ["proto"])?;
    // Entries are megabytes: as `Bytes` they are slices of what was received, not copies.
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::codec::PeerCodec")
        .compile_fds(files)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
