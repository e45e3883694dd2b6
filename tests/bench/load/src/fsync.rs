//! How long the disk takes to make 4 KiB durable: the unit in which a write's latency is judged.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Args;

const BLOCK_BYTES: usize = 4096;
const FILE_BLOCKS: usize = 1024;

/// What to measure.
#[derive(Args)]
pub struct Probe {
    /// A directory on the disk in question; the file made there is removed again.
    #[arg(long)]
    dir: PathBuf,
    #[arg(long, default_value_t = 1000)]
    rounds: usize,
}

/// Overwrites blocks of a file that was written and synced before, so that no round pays for growing it.
pub fn measure(probe: &Probe) -> Result<serde_json::Value> {
    let path = probe.dir.join("fsync-probe");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
    file.write_all(&vec![0; BLOCK_BYTES * FILE_BLOCKS])?;
    file.sync_all()?;
    let block = [0x5a; BLOCK_BYTES];
    let mut micros = Vec::with_capacity(probe.rounds);
    for round in 0..probe.rounds {
        let began = Instant::now();
        file.write_all_at(&block, ((round % FILE_BLOCKS) * BLOCK_BYTES) as u64)?;
        file.sync_data()?;
        micros.push(began.elapsed().as_secs_f64() * 1e6);
    }
    std::fs::remove_file(&path)?;
    micros.sort_by(f64::total_cmp);
    Ok(serde_json::json!({
        "median_us": micros[micros.len() / 2],
        "p99_us": micros[micros.len() * 99 / 100],
    }))
}
