//! A run: clients of all workloads work at the same time, then the last reads are made, then checkers judge.
//!
//! All of it is one thread, so nothing is locked, and one clock.

use std::fmt::Display;
use std::fs::File;
use std::future::Future;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::checkers::Anomaly;
use crate::client::{Client, UsedKeys};
use crate::gauge::Gauge;
use crate::history::{self, Op};
use crate::outcome::Outcome;
use crate::target::Target;
use crate::verdict::{Judgement, Verdict};
use crate::workloads::{
    Append, Bank, Counter, Hand, Kind, Lock, Log, NoAnswer, PubSub, Queue, Register, Set, Stream, Watch,
    Workload,
};

/// How patient clients are, in turn. Impatient ones leave more behind whose fate is unknown.
const PATIENCE_MS: [u64; 3] = [400, 1000, 3000];
/// Numbers of clients of one workload are below this.
pub const CLIENTS_AT_MOST: u64 = 10_000;
/// Deletions that fail before no more are tried.
const FAILED_DELETES: usize = 10;

/// What all clients of a run share.
pub struct Stage {
    /// The cluster.
    pub target: Rc<Target>,
    /// What all keys begin with.
    pub prefix: Rc<str>,
    /// The keys that were used.
    pub used: UsedKeys,
    /// What is shown meanwhile.
    pub gauge: Rc<Gauge>,
    /// Of each workload.
    pub clients: usize,
    /// Operations a second, of all clients of a workload together.
    pub rate: f64,
    /// Decides what clients do.
    pub seed: u64,
    /// When the run began.
    pub began: Instant,
    /// Becomes true when the time is up.
    pub is_over: watch::Receiver<bool>,
}

/// What clients have left behind when nobody works any more.
pub trait Record {
    /// Checks it.
    fn judge(&self) -> Verdict;

    /// Writes its operations into a directory, one a line.
    fn save(&self, directory: &Path) -> io::Result<()>;
}

/// Runs a workload's clients until the time is up, and makes the last reads.
pub fn start(kind: Kind, stage: Rc<Stage>) -> Pin<Box<dyn Future<Output = Box<dyn Record>>>> {
    match kind {
        Kind::Register => Box::pin(run::<Register>(kind, stage)),
        Kind::Counter => Box::pin(run::<Counter>(kind, stage)),
        Kind::Append => Box::pin(run::<Append>(kind, stage)),
        Kind::Set => Box::pin(run::<Set>(kind, stage)),
        Kind::Bank => Box::pin(run::<Bank>(kind, stage)),
        Kind::Stream => Box::pin(run::<Stream>(kind, stage)),
        Kind::Queue => Box::pin(run::<Queue>(kind, stage)),
        Kind::Lock => Box::pin(run::<Lock>(kind, stage)),
        Kind::Watch => Box::pin(run::<Watch>(kind, stage)),
        Kind::PubSub => Box::pin(run::<PubSub>(kind, stage)),
    }
}

async fn run<W: Workload>(kind: Kind, stage: Rc<Stage>) -> Box<dyn Record> {
    let log = Rc::new(Log::new(stage.began));
    let workload = Rc::new(W::new(&stage.prefix));
    let mut last = stage.hand::<W>(kind, stage.clients, &log);
    let mut trouble = workload.prepare(&mut last).await.err();
    if trouble.is_none() {
        let mut clients = JoinSet::new();
        for number in 0..stage.clients {
            let hand = stage.hand::<W>(kind, number, &log);
            clients.spawn_local(work(workload.clone(), hand, stage.clone()));
        }
        while let Some(ended) = clients.join_next().await {
            ended.expect("a client does not panic");
        }
        trouble = workload.finish(&mut last).await.err();
    }
    last.pause_ends();
    let mut ops = log.ops.take();
    history::seal(&mut ops);
    Box::new(Held::<W> { kind, ops, trouble })
}

impl Stage {
    fn hand<W: Workload>(&self, kind: Kind, number: usize, log: &Rc<Log<W>>) -> Hand<W> {
        let place = kind as u64 * CLIENTS_AT_MOST + number as u64;
        let mut rng = StdRng::seed_from_u64(self.seed.wrapping_add(place));
        // The one that makes the last reads is patient.
        let patience = PATIENCE_MS[if number == self.clients { 2 } else { number % PATIENCE_MS.len() }];
        let client = self.client(number, patience, StdRng::from_rng(&mut rng));
        Hand::new(number, client, rng, log.clone(), self.gauge.clone())
    }

    fn client(&self, number: usize, patience_ms: u64, rng: StdRng) -> Client {
        let patience = Duration::from_millis(patience_ms);
        Client::new(self.target.clone(), number, patience, rng, self.prefix.clone(), self.used.clone())
    }

    /// The time between two steps of a client: at random, so that clients do not beat in step.
    fn pause(&self, rng: &mut StdRng) -> Duration {
        let mean_s = self.clients as f64 / self.rate;
        Duration::from_secs_f64(-mean_s * (1.0 - rng.random::<f64>()).ln())
    }

    /// Deletes the keys that were used. How many could not be.
    pub async fn delete_keys(&self) -> usize {
        let mut client = self.client(0, PATIENCE_MS[2], StdRng::seed_from_u64(self.seed));
        let keys = self.used.borrow().clone();
        let (mut left, mut failures) = (0, 0);
        for key in &keys {
            let mut deleted = false;
            while !deleted && failures < FAILED_DELETES {
                deleted = client.call(key, &["DEL", key]).await.is_ok();
                failures += usize::from(!deleted);
            }
            left += usize::from(!deleted);
        }
        left
    }
}

/// One client's life.
async fn work<W: Workload>(workload: Rc<W>, mut hand: Hand<W>, stage: Rc<Stage>) {
    let mut is_over = stage.is_over.clone();
    loop {
        let pause = stage.pause(&mut hand.rng);
        tokio::select! {
            // If its sender is gone, the run is over, too.
            _ = is_over.wait_for(|is_over| *is_over) => break,
            () = tokio::time::sleep(pause) => {}
        }
        workload.step(&mut hand).await;
        hand.catch_breath().await;
    }
    hand.pause_ends();
}

/// A workload's record.
struct Held<W: Workload> {
    kind: Kind,
    ops: Vec<Op<W::Action>>,
    trouble: Option<NoAnswer>,
}

impl<W: Workload> Record for Held<W> {
    fn judge(&self) -> Verdict {
        let began = Instant::now();
        let mut anomalies = garbled(&self.ops);
        anomalies.extend(W::check(&self.ops));
        let count = |outcome| self.ops.iter().filter(|op| op.outcome == outcome).count();
        let [ok, fail, info] = [Outcome::Ok, Outcome::Fail, Outcome::Info].map(count);
        let trouble = match &self.trouble {
            Some(NoAnswer(text)) => Some(text.clone()),
            None => (ok == 0).then(|| "no operation succeeded, so nothing was shown".to_string()),
        };
        let judgement = match (anomalies.is_empty(), &trouble) {
            (false, _) => Judgement::Anomaly,
            (true, None) => Judgement::Valid,
            (true, Some(_)) => Judgement::Unknown,
        };
        let (workload, checked_in_s) = (self.kind, began.elapsed().as_secs_f64());
        Verdict { workload, judgement, ok, fail, info, anomalies, trouble, checked_in_s }
    }

    fn save(&self, directory: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(directory.join(format!("{}.jsonl", self.kind)))?);
        for op in &self.ops {
            serde_json::to_writer(&mut file, op)?;
            file.write_all(b"\n")?;
        }
        file.flush()
    }
}

/// Replies that no command of their kind has.
fn garbled<A: Display>(ops: &[Op<A>]) -> Vec<Anomaly> {
    let wrong = ops.iter().filter(|op| op.garbled);
    wrong.map(|op| Anomaly::new("garbled reply", "no such command has such a reply", [op])).collect()
}
