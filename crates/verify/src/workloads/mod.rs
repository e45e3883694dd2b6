//! Workloads: what clients do, and which checker judges what they saw. One file each; [`Kind`] is the list.

mod append;
mod bank;
mod counter;
mod lock;
mod pubsub;
mod queue;
mod register;
mod set;
mod stream;
mod watch;

use std::cell::{Cell, RefCell};
use std::fmt::{self, Display};
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rand::rngs::StdRng;
use serde::{Serialize, Serializer};

use crate::checkers::Anomaly;
use crate::client::Client;
use crate::gauge::{Gauge, Seat};
use crate::history::{Op, Time};
use crate::outcome::{Failure, Outcome};

pub use append::Append;
pub use bank::Bank;
pub use counter::Counter;
pub use lock::Lock;
pub use pubsub::PubSub;
pub use queue::Queue;
pub use register::Register;
pub use set::Set;
pub use stream::Stream;
pub use watch::Watch;

/// How long a last read is tried.
const LAST_READ: Duration = Duration::from_secs(30);
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(5);

/// All workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// GET, SET, SET with GET, compare-and-set by script.
    Register,
    /// INCR, GET.
    Counter,
    /// RPUSH and LRANGE on several keys of a slot, in MULTI.
    Append,
    /// SADD, SMEMBERS.
    Set,
    /// Transfers by script; balances by MGET and MULTI.
    Bank,
    /// XADD, XREADGROUP, XACK, XAUTOCLAIM.
    Stream,
    /// RPUSH, BLPOP, LPOP.
    Queue,
    /// SET with NX and PX, released by script.
    Lock,
    /// WATCH, GET, MULTI, SET, EXEC.
    Watch,
    /// Tagged calls of many slots in pipelines; PUBLISH and SUBSCRIBE.
    #[value(name = "pubsub")]
    PubSub,
}

impl Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("no workload is left out");
        out.pad(value.get_name())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What one client does at a time, what is read at the end, and what must hold.
pub trait Workload: 'static {
    /// What is noted of an operation.
    type Action: Clone + Display + Serialize + 'static;
    /// What a client remembers between its steps.
    type Memory: Default;

    /// With keys that begin with `prefix`.
    fn new(prefix: &str) -> Self;

    /// Before all others begin, by one client.
    async fn prepare(&self, _hand: &mut Hand<Self>) -> Result<(), NoAnswer> {
        Ok(())
    }

    /// One operation, or a few.
    async fn step(&self, hand: &mut Hand<Self>);

    /// After all others have ended, by one client.
    async fn finish(&self, _hand: &mut Hand<Self>) -> Result<(), NoAnswer> {
        Ok(())
    }

    /// What contradicts the promise. `ops` are sealed.
    fn check(ops: &[Op<Self::Action>]) -> Vec<Anomaly>;
}

/// A last read, or what must come first, did not succeed for so long that the history says too little.
#[derive(Debug)]
pub struct NoAnswer(pub String);

/// What all clients of a workload share.
pub struct Log<W: Workload + ?Sized> {
    /// What they did so far, in the order of ends.
    pub ops: RefCell<Vec<Op<W::Action>>>,
    began: Instant,
    last_number: Cell<u64>,
}

impl<W: Workload> Log<W> {
    /// Of a run that began then.
    pub fn new(began: Instant) -> Log<W> {
        Log { ops: RefCell::default(), began, last_number: Cell::new(0) }
    }
}

/// One client's hand: performs operations, and notes each in the history.
pub struct Hand<W: Workload + ?Sized> {
    /// Which client.
    pub number: usize,
    /// The way to the cluster.
    pub client: Client,
    /// Decides what it does.
    pub rng: StdRng,
    /// Of its earlier steps.
    pub memory: W::Memory,
    log: Rc<Log<W>>,
    gauge: Rc<Gauge>,
    seat: Seat,
    last: Outcome,
}

/// When an operation began.
#[derive(Clone, Copy)]
pub struct Begun(Time);

impl<W: Workload> Hand<W> {
    /// The hand of a new client.
    pub fn new(number: usize, client: Client, rng: StdRng, log: Rc<Log<W>>, gauge: Rc<Gauge>) -> Hand<W> {
        let seat = gauge.seat();
        Hand { number, client, rng, memory: W::Memory::default(), log, gauge, seat, last: Outcome::Ok }
    }

    /// An operation begins.
    pub fn begin(&mut self) -> Begun {
        self.begin_waiting(Duration::ZERO)
    }

    /// An operation begins that may wait for so long by itself.
    pub fn begin_waiting(&mut self, may_wait: Duration) -> Begun {
        self.gauge.begin(self.seat, may_wait);
        Begun(self.now())
    }

    /// It has ended so; notes what was done, and seen, without what all keys begin with.
    pub fn note<T>(&mut self, begun: Begun, key: &str, result: &Result<T, Failure>, action: W::Action) {
        let end = self.now();
        let (outcome, error) = match result {
            Ok(_) => (Outcome::Ok, String::new()),
            Err(failure) => (failure.outcome(), failure.text().to_string()),
        };
        self.gauge.end(self.seat, outcome);
        self.last = outcome;
        let (index, client, start) = (0, self.number, begun.0);
        let key = key.strip_prefix(self.client.prefix()).unwrap_or(key).into();
        let garbled = matches!(result, Err(Failure::Garbled(_)));
        let op = Op { index, client, key, action, start, end, outcome, error, garbled };
        self.log.ops.borrow_mut().push(op);
    }

    /// A number that nobody of this workload has used.
    pub fn fresh(&self) -> u64 {
        self.log.last_number.set(self.log.last_number.get() + 1);
        self.log.last_number.get()
    }

    /// How many numbers there are.
    pub fn used_up(&self) -> u64 {
        self.log.last_number.get()
    }

    /// The keys of the history so far.
    pub fn keys(&self) -> Vec<String> {
        let prefix = self.client.prefix();
        let mut keys: Vec<String> =
            self.log.ops.borrow().iter().map(|op| format!("{prefix}{}", op.key)).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// Repeats an attempt until it succeeds.
    pub async fn insist<T>(
        &mut self,
        mut attempt: impl AsyncFnMut(&mut Hand<W>) -> Result<T, Failure>,
    ) -> Result<T, NoAnswer> {
        let deadline = Instant::now() + LAST_READ;
        loop {
            match attempt(self).await {
                Ok(value) => return Ok(value),
                Err(failure) if Instant::now() > deadline => {
                    let text = failure.text();
                    return Err(NoAnswer(format!("no answer for {} s: {text}", LAST_READ.as_secs())));
                }
                Err(_) => tokio::time::sleep(PAUSE_AFTER_ERROR).await,
            }
        }
    }

    /// After a step: a short rest if it failed.
    pub async fn catch_breath(&mut self) {
        if self.last != Outcome::Ok {
            tokio::time::sleep(PAUSE_AFTER_ERROR).await;
        }
    }

    /// The client was served, or stops: what it has waited so far is a pause of its own.
    pub fn pause_ends(&self) {
        self.gauge.pause_ends(self.seat);
    }

    fn now(&self) -> Time {
        Time::try_from(self.log.began.elapsed().as_nanos()).expect("a run lasts less than 292 years")
    }
}
