//! Generates the entry's Rust types from proto/entry.proto (no system protoc: protox parses it).

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../../proto/entry.proto");
    let files = protox::compile(["entry.proto"], ["../../proto"])?;
    // Batches are many, and few of them move slots or run scripts under fewer than all rights: that is to take no room in the
    // others.
    let (moves, rights) = (".quoris.entry.Batch.moves", ".quoris.entry.Batch.rights");
    prost_build::Config::new().bytes(["."]).boxed(moves).boxed(rights).compile_fds(files)?;
    Ok(())
}
