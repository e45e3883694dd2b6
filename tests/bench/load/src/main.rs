//! The bench's load generator, for Redis servers (cluster or not) and for etcd, and a probe of the disk's fsync time.
//!
//! `redis-benchmark` has neither a mix of commands nor p99.9 nor fixed rates, and spreads its keys over a cluster at the
//! price of a CRC per command. Here keys are sorted by node before the clock starts, and one thread drives all
//! connections, so that the generator takes as little as it can of the processors it shares with the servers.
//!
//! Reading order: [`work`] (what is sent), [`keys`] (to whom), [`wire`], [`resp`] and [`etcd`] (how), [`closed`] and
//! [`open`] (when). [`stalls`] stands by itself.
//!
//! Prints one line of JSON. An error reply ends the program: figures that count refusals would mislead.

use anyhow::Result;
use clap::{Parser, Subcommand};

mod closed;
mod etcd;
mod fsync;
mod keys;
mod open;
mod resp;
mod stalls;
mod tally;
mod wire;
mod work;

#[derive(Parser)]
#[command(about = "Load generator and fsync probe of tests/bench")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Sets every key once, then exits.
    Fill(work::Target),
    /// Closed loop: every connection sends a run of commands, waits for all replies, sends the next. For throughput.
    Run(closed::Load),
    /// Open loop: commands leave at a fixed rate, whatever has been answered. For latency.
    Rate(open::Load),
    /// Times writes of 4 KiB with fdatasync in a preallocated file of DIR.
    Fsync(fsync::Probe),
    /// Notes how long each call of some probes takes, until standard input ends.
    Probe(stalls::Probes),
}

fn main() -> Result<()> {
    let report = match Args::parse().verb {
        Verb::Fill(target) => closed::fill(&target)?,
        Verb::Run(load) => closed::run(&load)?,
        Verb::Rate(load) => open::run(load)?,
        Verb::Fsync(probe) => fsync::measure(&probe)?,
        Verb::Probe(probes) => stalls::run(&probes)?,
    };
    println!("{report}");
    Ok(())
}
