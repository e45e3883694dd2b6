//! The load itself: connections that each send a run, wait for its replies, and send the next.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use quoris_engine::script::scripts::sha1_hex;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

use crate::keys::{self, Share};
use crate::wire;

const RECEIVE_BYTES: usize = 64 * 1024;
const FILL_RUN: usize = 100;
const LONGEST_US: u64 = 60_000_000;

/// The script of the example: two reads and four writes, one of them to a stream.
const TRANSFER: &str = include_str!("../../../../examples/payments/transfer.lua");
/// For how long its answers are kept, in seconds.
const KEEP_S: &[u8] = b"5";

/// The server and the data.
#[derive(Args, Clone)]
pub struct Target {
    /// Any node of the cluster, or a single server.
    #[arg(long)]
    addr: String,
    #[arg(long, default_value_t = 100_000)]
    keys: usize,
    #[arg(long, default_value_t = 64)]
    value_bytes: usize,
}

/// The commands sent.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Mix {
    Set,
    Get,
    /// Each command is SET or GET with equal chance.
    Mixed,
    /// Each command is an EVALSHA of [`TRANSFER`].
    Transfer,
}

/// What to send, and for how long.
#[derive(Args, Clone)]
pub struct Load {
    #[command(flatten)]
    target: Target,
    #[arg(long, value_enum)]
    mix: Mix,
    #[arg(long)]
    connections: usize,
    #[arg(long, default_value_t = 1)]
    pipeline: usize,
    /// Length of the measured part.
    #[arg(long)]
    seconds: f64,
    /// Load before the measured part.
    #[arg(long, default_value_t = 1.0)]
    warmup_seconds: f64,
}

/// Sets every key once.
pub fn fill(target: &Target) -> Result<serde_json::Value> {
    let shares = keys::shares(&target.addr, target.keys)?;
    let value = vec![b'x'; target.value_bytes];
    block_on(async {
        for share in &shares {
            let mut connection = Connection::open(&share.addr).await?;
            for run in share.keys.chunks(FILL_RUN) {
                run.iter().for_each(|key| connection.queue(&[b"SET", key.as_bytes(), &value]));
                connection.exchange(run.len()).await?;
            }
        }
        Ok(serde_json::json!({ "filled": target.keys, "nodes": shares.len() }))
    })
}

/// Runs the load. `all_commands` counts the warm-up too: it goes with the servers' CPU time over the whole run.
pub fn run(load: &Load) -> Result<serde_json::Value> {
    ensure!(load.connections > 0 && load.pipeline > 0, "at least one connection and one command in a run");
    let shares = keys::shares(&load.target.addr, load.target.keys)?;
    let shares: Vec<Rc<Share>> = shares.into_iter().map(Rc::new).collect();
    let totals = block_on(drive_all(load.clone(), shares))?;
    let at = |quantile| totals.latency_us.value_at_quantile(quantile);
    Ok(serde_json::json!({
        "requests_per_second": totals.latency_us.len() as f64 / load.seconds,
        "p50_us": at(0.5),
        "p99_us": at(0.99),
        "p999_us": at(0.999),
        "all_commands": totals.all_commands,
    }))
}

/// One thread: the generator must leave the processors to the servers.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work)
}

struct Totals {
    latency_us: Histogram<u64>,
    all_commands: u64,
}

impl Totals {
    fn new() -> Result<Self> {
        Ok(Self { latency_us: Histogram::new_with_max(LONGEST_US, 3)?, all_commands: 0 })
    }
}

async fn drive_all(load: Load, shares: Vec<Rc<Share>>) -> Result<Totals> {
    let mut connections = Vec::with_capacity(load.connections);
    for number in 0..load.connections {
        // A lone connection visits the node with the most keys; more are spread evenly.
        let share = shares[number % shares.len()].clone();
        connections.push((number, Connection::open(&share.addr).await?, share));
    }
    if load.mix == Mix::Transfer {
        let mut connection = Connection::open(&load.target.addr).await?;
        connection.queue(&[b"SCRIPT", b"LOAD", TRANSFER.as_bytes()]);
        connection.exchange(1).await?;
    }
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, connection, share) in connections {
        tasks.spawn_local(drive(load.clone(), connection, share, number as u64, began));
    }
    let mut totals = Totals::new()?;
    while let Some(done) = tasks.join_next().await {
        let one = done??;
        totals.latency_us.add(one.latency_us)?;
        totals.all_commands += one.all_commands;
    }
    Ok(totals)
}

async fn drive(
    load: Load,
    mut connection: Connection,
    share: Rc<Share>,
    seed: u64,
    began: Instant,
) -> Result<Totals> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut totals = Totals::new()?;
    let value = vec![b'x'; load.target.value_bytes];
    let sha = sha1_hex(TRANSFER.as_bytes());
    let measure_from = began + Duration::from_secs_f64(load.warmup_seconds);
    let measure_until = measure_from + Duration::from_secs_f64(load.seconds);
    loop {
        for _ in 0..load.pipeline {
            let key = &share.keys[rng.random_range(0..share.keys.len())];
            if load.mix == Mix::Transfer {
                let names = ["balances", "journal"].map(|name| format!("{{{key}}}:{name}"));
                let number = format!("{seed}-{}", rng.random::<u64>());
                let answered = format!("{{{key}}}:{number}");
                // An amount below 0, so that nobody is refused and no account needs filling.
                let keys = [names[0].as_bytes(), names[1].as_bytes(), answered.as_bytes()];
                let [balances, journal, answered] = keys;
                let head: [&[u8]; 6] = [b"EVALSHA", sha.as_bytes(), b"3", balances, journal, answered];
                let tail: [&[u8]; 5] = [number.as_bytes(), b"a", b"b", b"-1", KEEP_S];
                connection.queue(&[&head[..], &tail[..]].concat());
                continue;
            }
            let key = key.as_bytes();
            let set = load.mix == Mix::Set || (load.mix == Mix::Mixed && rng.random());
            if set {
                connection.queue(&[b"SET", key, &value]);
            } else {
                connection.queue(&[b"GET", key]);
            }
        }
        let sent = Instant::now();
        connection.exchange(load.pipeline).await?;
        let done = Instant::now();
        totals.all_commands += load.pipeline as u64;
        if done >= measure_until {
            return Ok(totals);
        }
        if done >= measure_from {
            let latency_us = u64::try_from((done - sent).as_micros())?.min(LONGEST_US);
            totals.latency_us.record_n(latency_us, load.pipeline as u64)?;
        }
    }
}

struct Connection {
    socket: TcpStream,
    out: Vec<u8>,
    input: Vec<u8>,
}

impl Connection {
    async fn open(addr: &str) -> Result<Self> {
        let socket = TcpStream::connect(addr).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, out: Vec::new(), input: Vec::with_capacity(RECEIVE_BYTES) })
    }

    fn queue(&mut self, words: &[&[u8]]) {
        wire::encode(&mut self.out, words);
    }

    /// Sends what is queued and waits for `replies` replies.
    async fn exchange(&mut self, replies: usize) -> Result<()> {
        self.socket.write_all(&self.out).await?;
        self.out.clear();
        let (mut seen, mut at) = (0, 0);
        loop {
            while seen < replies
                && let Some(len) = wire::reply_len(&self.input[at..])?
            {
                at += len;
                seen += 1;
            }
            if seen == replies {
                self.input.drain(..at);
                return Ok(());
            }
            ensure!(self.socket.read_buf(&mut self.input).await? > 0, "the server closed the connection");
        }
    }
}
