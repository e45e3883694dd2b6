//! A closed-loop load generator for Redis servers, cluster or not, and a probe of the disk's fsync time.
//!
//! `redis-benchmark` has neither a mix of commands nor p99.9, and spreads its keys over a cluster at the price of a
//! CRC per command; here the keys are sorted by node before the clock starts, so that the generator takes as little
//! as possible of the processor it shares with the servers. Every connection sends a run of `--pipeline` commands,
//! waits for all its replies, and sends the next; a command's latency is that of its run, as in `redis-benchmark`.
//!
//! Prints one line of JSON. An error reply ends the program: figures that count refusals would mislead.

use anyhow::Result;
use clap::{Parser, Subcommand};

mod drive;
mod fsync;
mod keys;
mod wire;

#[derive(Parser)]
#[command(about = "Load generator and fsync probe of tests/bench")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Sets every key once, then exits.
    Fill(drive::Target),
    /// Sends commands for some seconds and prints rate and latencies.
    Run(drive::Load),
    /// Times writes of 4 KiB with fdatasync in a preallocated file of DIR.
    Fsync(fsync::Probe),
}

fn main() -> Result<()> {
    let report = match Args::parse().verb {
        Verb::Fill(target) => drive::fill(&target)?,
        Verb::Run(load) => drive::run(&load)?,
        Verb::Fsync(probe) => fsync::measure(&probe)?,
    };
    println!("{report}");
    Ok(())
}
