//! The closed loop: connections that each send a run, wait for its replies, and send the next.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use clap::Args;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::task::{JoinSet, LocalSet};

use crate::keys::{self, Share};
use crate::tally::Tally;
use crate::work::{Composer, Target, Work, Workload};
use crate::{etcd, resp, wire};

/// Keys set at once. etcd takes 128 puts in a transaction.
const FILL_RUN: usize = 100;

/// What to send, and for how long.
#[derive(Args, Clone)]
pub struct Load {
    #[command(flatten)]
    work: Work,
    #[arg(long, default_value_t = 1)]
    pipeline: usize,
}

/// Sets every key once.
pub fn fill(target: &Target) -> Result<serde_json::Value> {
    let shares = shares(target)?;
    let value = Bytes::from(vec![b'x'; target.value_bytes]);
    block_on(async {
        for share in &shares {
            match target.etcd {
                true => fill_etcd(share, &value).await?,
                false => fill_resp(share, &value).await?,
            }
        }
        Ok(serde_json::json!({ "filled": target.keys, "nodes": shares.len() }))
    })
}

async fn fill_resp(share: &Share, value: &[u8]) -> Result<()> {
    let mut connection = resp::Connection::open(&share.addr).await?;
    for run in share.keys.chunks(FILL_RUN) {
        run.iter().for_each(|&key| wire::encode(&mut connection.out, &[b"SET", &keys::name(key), value]));
        connection.exchange(run.len()).await?;
    }
    Ok(())
}

async fn fill_etcd(share: &Share, value: &Bytes) -> Result<()> {
    let connection = etcd::Connection::open(&share.addr).await?;
    for run in share.keys.chunks(FILL_RUN) {
        let names = run.iter().map(|&key| Bytes::copy_from_slice(&keys::name(key)));
        connection.ask(etcd::puts(names, value)).await?;
    }
    Ok(())
}

/// The keys, by the node that is asked for them.
pub fn shares(target: &Target) -> Result<Vec<Share>> {
    if target.etcd {
        return Ok(keys::whole(&target.addr, target.keys));
    }
    keys::shares(&target.addr, target.keys)
}

/// Runs the load.
pub fn run(load: &Load) -> Result<serde_json::Value> {
    ensure!(
        load.work.connections > 0 && load.pipeline > 0,
        "at least one connection and one command in a run"
    );
    let shares: Vec<Rc<Share>> = shares(&load.work.target)?.into_iter().map(Rc::new).collect();
    Ok(block_on(drive_all(load.clone(), shares))?.report(load.work.seconds))
}

/// One thread: the generator must leave the processors to the servers.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work)
}

/// Makes the workload's script known.
pub async fn load_script(target: &Target, workload: Workload) -> Result<()> {
    let Some(script) = workload.script() else { return Ok(()) };
    let mut connection = resp::Connection::open(&target.addr).await?;
    connection.out = wire::command(&[b"SCRIPT", b"LOAD", script.as_bytes()]);
    connection.exchange(1).await
}

async fn drive_all(load: Load, shares: Vec<Rc<Share>>) -> Result<Tally> {
    load_script(&load.work.target, load.work.mix).await?;
    let mut clients = Vec::with_capacity(load.work.connections);
    for number in 0..load.work.connections {
        let share = shares[number % shares.len()].clone();
        clients.push(Client::open(&load, share, number as u64).await?);
    }
    let measure_from = Instant::now() + Duration::from_secs_f64(load.work.warmup_seconds);
    let measure_until = measure_from + Duration::from_secs_f64(load.work.seconds);
    let mut tasks = JoinSet::new();
    for client in clients {
        tasks.spawn_local(drive(client, load.pipeline, measure_from, measure_until));
    }
    let mut total = Tally::new()?;
    while let Some(done) = tasks.join_next().await {
        total.add(done??)?;
    }
    Ok(total)
}

/// One connection, whose runs are of one protocol.
enum Client {
    Resp { connection: resp::Connection, composer: Composer, share: Rc<Share> },
    Etcd { connection: etcd::Connection, composer: etcd::Composer, share: Rc<Share> },
}

impl Client {
    async fn open(load: &Load, share: Rc<Share>, seed: u64) -> Result<Self> {
        let rng = SmallRng::seed_from_u64(seed);
        Ok(match load.work.target.etcd {
            true => Client::Etcd {
                connection: etcd::Connection::open(&share.addr).await?,
                composer: etcd::Composer::new(load.work.mix, &load.work.target, rng)?,
                share,
            },
            false => Client::Resp {
                connection: resp::Connection::open(&share.addr).await?,
                composer: Composer::new(load.work.mix, &load.work.target, rng),
                share,
            },
        })
    }

    /// Sends a run and waits for its replies; how long that took, without making the commands.
    async fn exchange(&mut self, run: usize) -> Result<(Instant, Instant)> {
        match self {
            Client::Resp { connection, composer, share } => {
                let replies = composer.run(share, run, &mut connection.out);
                let sent = Instant::now();
                connection.exchange(replies).await?;
                Ok((sent, Instant::now()))
            }
            Client::Etcd { connection, composer, share } => {
                let asks = (0..run).map(|_| composer.next(share)).collect();
                let sent = Instant::now();
                connection.exchange(asks).await?;
                Ok((sent, Instant::now()))
            }
        }
    }
}

async fn drive(
    mut client: Client,
    run: usize,
    measure_from: Instant,
    measure_until: Instant,
) -> Result<Tally> {
    let mut tally = Tally::new()?;
    loop {
        let (sent, done) = client.exchange(run).await?;
        tally.all_commands += run as u64;
        if done >= measure_until {
            return Ok(tally);
        }
        if done >= measure_from {
            tally.record(done - sent, run as u64)?;
        }
    }
}
