//! Generates the entry's Rust types from proto/entry.proto (no system protoc: protox parses it).

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../../proto/entry.proto");
    let files = protox::compile(["entry.proto"], ["../../proto"])?;
    // Batches are many, and steps of slots that move are few: each is to take no room in the others.
    let seldom = ".quoris.entry.Batch.moves";
    prost_build::Config::new().bytes(["."]).boxed(seldom).compile_fds(files)?;
    Ok(())
}
