//! Generates the entry's Rust types from proto/entry.proto (no system protoc: protox parses it).

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../../proto/entry.proto");
    let files = protox::compile(["entry.proto"], ["../../proto"])?;
    prost_build::Config::new().bytes(["."]).compile_fds(files)?;
    Ok(())
}
