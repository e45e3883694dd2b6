//! The open loop: commands leave at a fixed rate, whatever has been answered, and a command's latency counts from the
//! moment it was to leave. So a server that stalls cannot slow down the questions that would have found it stalling
//! (coordinated omission), and the generator's own lateness counts too; it is reported beside.
//!
//! Command number `n` of all is due at `n / rate` and goes over connection `n % connections`: so whoever reads that
//! connection's replies knows when each was due without being told. A thread of its own sleeps until commands are due
//! and sends them: the runtime's timer knows milliseconds only.

use std::io::{ErrorKind, Write as _};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::keys::Share;
use crate::tally::Tally;
use crate::work::{self, Work};
use crate::{closed, etcd, resp};

/// Between the last connection's opening and the first command.
const LEAD: Duration = Duration::from_millis(20);
/// Before a command is tried again at a socket that takes no more.
const FULL_PAUSE: Duration = Duration::from_micros(100);
/// For how long after its end what was due before is still sent: on a busy machine the last commands are a moment late.
const OVERTIME: Duration = Duration::from_millis(100);
/// How long the last replies may take. What has not come then is reported as unanswered, and is in no percentile.
const GRACE: Duration = Duration::from_secs(2);

/// What to send, how often, and for how long.
#[derive(Args, Clone)]
pub struct Load {
    #[command(flatten)]
    work: Work,
    /// Commands a second, over all connections.
    #[arg(long)]
    rate: f64,
}

/// When each command is due.
#[derive(Clone, Copy)]
struct Schedule {
    began: Instant,
    connections: u64,
    rate: f64,
    warmup: u64,
    total: u64,
}

impl Schedule {
    fn due(&self, number: u64) -> Instant {
        self.began + Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// The numbers of what goes over one connection.
    fn of(&self, connection: u64) -> impl Iterator<Item = u64> + use<> {
        (connection..self.total).step_by(self.connections as usize)
    }

    fn end(&self) -> Instant {
        self.due(self.total)
    }

    /// The latency, or nothing during the warm-up.
    fn record(&self, tally: &mut Tally, number: u64, done: Instant) -> Result<()> {
        tally.all_commands += 1;
        if number >= self.warmup {
            tally.record(done.saturating_duration_since(self.due(number)), 1)?;
        }
        Ok(())
    }

    /// Calls `send` for each command when it is due, or as soon after as can be; how late that was. What is not sent
    /// soon after the end counts as sent too: it is never answered.
    fn keep(&self, mut send: impl FnMut(u64) -> Result<()>) -> Result<Tally> {
        let mut lateness = Tally::new()?;
        for number in 0..self.total {
            let now = Instant::now();
            if let Some(early) = self.due(number).checked_duration_since(now) {
                thread::sleep(early);
            }
            // Who cannot send what is due is as slow as it can be; its last commands would only prolong that.
            if now <= self.end() + OVERTIME {
                send(number)?;
            }
            self.record(&mut lateness, number, Instant::now())?;
        }
        Ok(lateness)
    }
}

/// Runs the load.
pub fn run(load: Load) -> Result<serde_json::Value> {
    ensure!(
        load.work.connections > 0 && load.rate > 0.0,
        "at least one connection and some commands a second"
    );
    let shares: Vec<Rc<Share>> = closed::shares(&load.work.target)?.into_iter().map(Rc::new).collect();
    let (tally, lateness, measured) = closed::block_on(async {
        closed::load_script(&load.work.target, load.work.mix).await?;
        match load.work.target.etcd {
            true => drive_etcd(&load, &shares[0]).await,
            false => drive_resp(&load, &shares).await,
        }
    })?;
    // A server that is over its limit answers the last command late.
    let mut report = tally.report(measured.elapsed().as_secs_f64());
    report["asked_per_second"] = load.rate.into();
    report["unanswered"] = (lateness.all_commands - tally.all_commands).into();
    report["sent_late_p99_us"] = lateness.latency_us.value_at_quantile(0.99).into();
    Ok(report)
}

fn schedule(load: &Load) -> Schedule {
    let commands = |seconds: f64| (load.rate * seconds) as u64;
    Schedule {
        began: Instant::now() + LEAD,
        connections: load.work.connections as u64,
        rate: load.rate,
        warmup: commands(load.work.warmup_seconds),
        total: commands(load.work.warmup_seconds + load.work.seconds),
    }
}

async fn drive_resp(load: &Load, shares: &[Rc<Share>]) -> Result<(Tally, Tally, Instant)> {
    let replies = work::replies_to_one(load.work.mix, &load.work.target)?;
    let (mut readers, mut writers) = (Vec::new(), Vec::new());
    for number in 0..load.work.connections {
        let share = &shares[number % shares.len()];
        let socket = std::net::TcpStream::connect(&share.addr)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        readers.push(TcpStream::from_std(socket.try_clone()?)?);
        writers.push((socket, composer(load, share, number as u64)));
    }
    let schedule = schedule(load);
    let sender = thread::spawn(move || {
        let mut out = Vec::new();
        schedule.keep(|number| {
            let (socket, compose) = &mut writers[(number % schedule.connections) as usize];
            out.clear();
            compose(&mut out);
            send(socket, &out)
        })
    });
    let mut tasks = JoinSet::new();
    for (number, socket) in readers.into_iter().enumerate() {
        tasks.spawn_local(read_replies(socket, schedule, number as u64, replies));
    }
    let mut total = Tally::new()?;
    while let Some(done) = tasks.join_next().await {
        total.add(done??)?;
    }
    let lateness = sender.join().ok().context("the sender panicked")??;
    Ok((total, lateness, schedule.due(schedule.warmup)))
}

/// Makes the commands of one connection.
fn composer(load: &Load, share: &Share, seed: u64) -> impl FnMut(&mut Vec<u8>) + Send + use<> {
    let share = Share { addr: share.addr.clone(), keys: share.keys.clone() };
    let mut composer = work::Composer::new(load.work.mix, &load.work.target, SmallRng::seed_from_u64(seed));
    move |out| {
        composer.run(&share, 1, out);
    }
}

/// To a socket that does not block, because its other half is the runtime's.
fn send(socket: &mut std::net::TcpStream, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match socket.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(FULL_PAUSE),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Until the connection's last reply is there, or cannot be waited for any longer.
async fn read_replies(
    mut socket: TcpStream,
    schedule: Schedule,
    connection: u64,
    each: usize,
) -> Result<Tally> {
    let mut tally = Tally::new()?;
    let mut replies = resp::Replies::default();
    let mut missing = each;
    let mut numbers = schedule.of(connection).peekable();
    let until = tokio::time::Instant::from_std(schedule.end() + GRACE);
    while numbers.peek().is_some() {
        match tokio::time::timeout_at(until, replies.receive(&mut socket)).await {
            Ok(received) => received?,
            Err(_) => break,
        }
        let now = Instant::now();
        while let Some(&number) = numbers.peek() {
            missing -= replies.take(missing)?;
            if missing > 0 {
                break;
            }
            missing = each;
            numbers.next();
            schedule.record(&mut tally, number, now)?;
        }
    }
    Ok(tally)
}

/// The sender says when; what is said and heard stays with the runtime.
async fn drive_etcd(load: &Load, share: &Share) -> Result<(Tally, Tally, Instant)> {
    let mut connections = Vec::new();
    for number in 0..load.work.connections as u64 {
        let composer =
            etcd::Composer::new(load.work.mix, &load.work.target, SmallRng::seed_from_u64(number))?;
        connections.push((etcd::Connection::open(&share.addr).await?, composer));
    }
    let schedule = schedule(load);
    let (tell, mut due) = tokio::sync::mpsc::unbounded_channel();
    let (finish, finished) = mpsc::channel();
    let sender = thread::spawn(move || schedule.keep(|number| Ok(tell.send(number)?)));
    let mut tasks = JoinSet::new();
    while let Some(number) = due.recv().await {
        let (connection, composer) = &mut connections[(number % schedule.connections) as usize];
        let (connection, ask, finish) = (connection.clone(), composer.next(share), finish.clone());
        tasks.spawn_local(async move {
            connection.ask(ask).await?;
            Ok::<_, anyhow::Error>(finish.send((number, Instant::now()))?)
        });
    }
    let until = tokio::time::Instant::from_std(schedule.end() + GRACE);
    while let Ok(Some(done)) = tokio::time::timeout_at(until, tasks.join_next()).await {
        done??;
    }
    let mut tally = Tally::new()?;
    drop(finish);
    tasks.shutdown().await;
    for (number, done) in finished {
        schedule.record(&mut tally, number, done)?;
    }
    let lateness = sender.join().ok().context("the sender panicked")??;
    Ok((tally, lateness, schedule.due(schedule.warmup)))
}
