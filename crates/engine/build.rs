//! Generates the entry's Rust types from proto/entry.proto (no system protoc: protox parses it).

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../../proto/entry.proto");
    let files = protox::compile(["entry.proto"], ["../../proto"])?;
    // Batches are many, and few of them move slots, run scripts under fewer than all rights or come in parts: that is to take no
    // room in the others.
    let mut config = prost_build::Config::new();
    for rare in ["moves", "rights", "part"] {
        config.boxed(format!(".quoris.entry.Batch.{rare}"));
    }
    config.bytes(["."]).compile_fds(files)?;
    Ok(())
}
