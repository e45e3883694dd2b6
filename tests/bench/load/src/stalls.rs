//! Probes: clients of small keys that note how long each of their calls took and when, until their standard input ends.
//!
//! Each sends the next call a moment after the reply to the last one, so that four of them ask little of the machine and a
//! stall is seen by the call that runs into it.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::{resp, wire};

/// Several probes at once.
#[derive(Args)]
pub struct Probes {
    /// get or set, of which key, where: KIND:KEY@HOST:PORT. May be repeated.
    #[arg(long = "probe", required = true)]
    probes: Vec<String>,
    /// Milliseconds between a reply and the next call.
    #[arg(long, default_value_t = 1.0)]
    pause_ms: f64,
    /// Where each call goes: a line with the probe's number, when it began (nanoseconds since 1970) and how long it took.
    #[arg(long)]
    out: std::path::PathBuf,
}

/// One call: its probe, when it began, how long it took.
type Call = (usize, u128, u64);

/// Runs the probes.
pub fn run(probes: &Probes) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let calls = runtime.block_on(async {
        let pause = Duration::from_secs_f64(probes.pause_ms / 1000.0);
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let mut running = Vec::new();
        for (number, probe) in probes.probes.iter().enumerate() {
            running.push(tokio::spawn(probe_one(number, probe.clone(), pause, stopped.clone())));
        }
        std::thread::spawn(move || {
            // Whatever is said, or not: the end of it counts.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            stop.send_replace(true);
        });
        let mut calls: Vec<Call> = Vec::new();
        for probe in running {
            calls.extend(probe.await??);
        }
        Ok::<_, anyhow::Error>(calls)
    })?;
    let mut out = std::io::BufWriter::new(std::fs::File::create(&probes.out)?);
    for (probe, began, took) in &calls {
        writeln!(out, "{probe} {began} {took}")?;
    }
    out.flush()?;
    Ok(json!({ "calls": calls.len() }))
}

async fn probe_one(
    number: usize,
    probe: String,
    pause: Duration,
    stopped: tokio::sync::watch::Receiver<bool>,
) -> Result<Vec<Call>> {
    let (what, addr) = probe.split_once('@').context("a probe is KIND:KEY@HOST:PORT")?;
    let (kind, key) = what.split_once(':').context("a probe is KIND:KEY@HOST:PORT")?;
    let command = match kind {
        "get" => wire::command(&[b"GET", key.as_bytes()]),
        "set" => wire::command(&[b"SET", key.as_bytes(), b"0123456789"]),
        other => bail!("a probe that is neither get nor set: {other}"),
    };
    let mut connection = resp::Connection::open(addr).await?;
    let mut calls = Vec::new();
    while !*stopped.borrow() {
        connection.out.extend_from_slice(&command);
        let (at, began) = (SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos(), Instant::now());
        if let Err(error) = connection.exchange(1).await {
            // An error reply is one that came too late, as a rule; the next call is another connection's.
            eprintln!("{probe}: {error}");
            connection = resp::Connection::open(addr).await?;
        }
        calls.push((number, at, began.elapsed().as_nanos() as u64));
        tokio::time::sleep(pause).await;
    }
    Ok(calls)
}
