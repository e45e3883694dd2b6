//! One run: a cluster, clients, faults; then everything is mended, every key is read once more, and all replicas must
//! come to the same state.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::client::{Client, ClientKind};
use crate::cluster::{CLIENTS, Cluster, client_addr};
use crate::coverage::{Coverage, Event};
use crate::history::{Fate, History};
use crate::invariants::blocked_calls_are_answered;
use crate::invariants::{
    acknowledged_is_never_lost, deadlines_hold, members_are_what_was_said, queues_lose_nothing,
    reads_are_linearizable, unknown_appears_at_most_once,
};
use crate::observe::{self, Observed};
use crate::plan::{Fault, Plan};
use crate::workload::table::Table;
use crate::workload::{self, Shared, deadlines, members, moves, queues};

/// The cluster must be founded and acknowledge a write within so many milliseconds. A client that draws one blocking call
/// after the other begins late.
const FOUNDING_MS: u64 = 60_000;

/// A node whose power is to fail within an operation of its disk has so many milliseconds to come to one, and so many nodes
/// are tried.
const CRASH_MS: u64 = 500;
const MOST_TRIES: usize = 20;

/// Clients go on for so many milliseconds after everything has been mended.
const AFTERMATH_MS: u64 = 500;

/// After that all keys must have been read, and all replicas be equal, within so many milliseconds.
const HEALING_MS: u64 = 30_000;

thread_local! {
    static TRACING: Cell<bool> = const { Cell::new(false) };
    static NOW_MS: Cell<u64> = const { Cell::new(0) };
}

/// Tells what time it is in the simulation, for the trace.
pub fn set_now(now: Duration) {
    NOW_MS.set(now.as_millis() as u64);
}

/// What time it is in the simulation, in milliseconds.
pub fn now_ms() -> u64 {
    NOW_MS.get()
}

/// Prints a line of the run's trace, if it is wanted.
pub fn trace(line: impl FnOnce() -> String) {
    if TRACING.get() {
        println!("{:>6} {}", NOW_MS.get(), line());
    }
}

/// What a run has shown.
#[derive(Debug)]
pub struct Report {
    /// What clients saw.
    pub history: History,
    /// Faults that struck.
    pub faults: usize,
    /// What was reached.
    pub coverage: Coverage,
    /// What cannot be.
    pub violations: Vec<String>,
    /// What the plan's crash point has hit, if it has been reached.
    pub crashed_in: Option<String>,
    /// Operations that each node's disk has done.
    pub ops: Vec<u64>,
}

/// Runs `seed` as `plan` says, with calls of `table` among others; with `tracing`, every call and every fault is printed.
pub fn run(seed: u64, plan: Plan, table: Arc<Table>, tracing: bool) -> Report {
    TRACING.set(tracing);
    trace(|| format!("{plan:?}"));
    let observed = Rc::new(RefCell::new(Observed::default()));
    let shared = Shared {
        history: Rc::default(),
        table,
        load: Rc::new(plan.load.clone()),
        long_scripts: Rc::default(),
        instruction_us: plan.instruction_us,
        coverage: Rc::default(),
        over: Rc::default(),
        running: Rc::default(),
    };
    let mut cluster = Cluster::new(&plan, seed, Rc::clone(&observed));
    cluster.charge_for(Rc::clone(&shared.long_scripts));
    let done = act(&mut cluster, &plan, seed, &shared, &observed);
    let (crashed_in, ops) = (cluster.crashed_in(), cluster.ops());
    // The simulation's hosts hold clones of these.
    let history = shared.history.take();
    let mut observed = observed.take();
    if let Err(error) = done {
        observed.violate("the cluster serves", error.to_string());
    } else {
        judge(&history, &cluster, &mut observed);
    }
    count_fates(&history, &mut observed.coverage);
    let across = shared.long_scripts.borrow().across(&observed.elections);
    observed.coverage.add(Event::ScriptAcrossElection, across);
    observed.coverage.add_all(&shared.coverage.borrow());
    let Observed { coverage, violations, .. } = observed;
    Report { history, faults: plan.faults.len(), coverage, violations, crashed_in, ops }
}

/// Founding, faults, healing.
fn act(
    cluster: &mut Cluster,
    plan: &Plan,
    seed: u64,
    shared: &Shared,
    observed: &observe::Shared,
) -> anyhow::Result<()> {
    let nodes: Vec<String> = (1..=plan.places()).map(client_addr).collect();
    let client = |me| workload::run(shared.clone(), nodes.clone(), me, seed);
    let consumer = |me| queues::consume(shared.clone(), nodes.clone(), me, seed);
    let clients: Vec<_> = (0..plan.load.clients).map(client).collect();
    let consumers: Vec<_> = (0..plan.load.consumers).map(consumer).collect();
    let mover =
        (plan.load.moves_ms > 0).then(|| moves::run(shared.clone(), nodes.clone(), plan.groups, seed));
    let founded = plan.nodes;
    let operator = (plan.load.members_ms > 0)
        .then(|| members::run(shared.clone(), nodes.clone(), founded, plan.places(), seed));
    let keeper = |me| deadlines::keep(shared.clone(), nodes.clone(), me, seed);
    let keepers: Vec<_> = (0..plan.load.keepers).map(keeper).collect();
    let running = Rc::clone(&shared.running);
    // One host for all: each costs as much as a node at every step, whether anything happens on it or not.
    cluster.sim.client(CLIENTS, async move {
        let mut tasks = JoinSet::new();
        clients.into_iter().for_each(|client| drop(tasks.spawn_local(client)));
        consumers.into_iter().for_each(|consumer| drop(tasks.spawn_local(consumer)));
        mover.into_iter().for_each(|mover| drop(tasks.spawn_local(mover)));
        operator.into_iter().for_each(|operator| drop(tasks.spawn_local(operator)));
        keepers.into_iter().for_each(|keeper| drop(tasks.spawn_local(keeper)));
        running.set(tasks.len() as u64);
        while tasks.join_next().await.is_some() {
            running.set(tasks.len() as u64);
        }
        Ok(())
    });
    step_until(cluster, FOUNDING_MS, || shared.history.borrow().acknowledged > 0)
        .map_err(|error| error.context("no write was acknowledged"))?;
    let mut faults = plan.faults.iter().peekable();
    for now in 0..plan.faults_ms {
        while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= now) {
            trace(|| format!("{fault:?}"));
            cluster.strike(*fault);
        }
        cluster.step()?;
    }
    cluster.mend();
    if let Some(crash) = plan.last_crash {
        crash_within(cluster, crash, plan.places(), observed)?;
    }
    for _ in 0..AFTERMATH_MS {
        cluster.step()?;
    }
    if plan.last_crash.is_some() {
        cluster.mend();
    }
    shared.over.set(true);
    let done = read_all(cluster, shared, nodes);
    step_until(cluster, HEALING_MS, || done.get())
        .map_err(|error| error.context("a key could not be read after all was mended"))?;
    let converged = || observed.borrow().have_converged(plan.groups);
    step_until(cluster, HEALING_MS, converged).map_err(|error| {
        let summary = observed.borrow().summary();
        error.context(format!("replicas did not come to the same state: {summary}"))
    })
}

/// No run without one: a crash at a random point of a write, by node `first`. One that writes nothing for a while, being no
/// member any more, say, is followed by the next.
fn crash_within(
    cluster: &mut Cluster,
    (first, ops): (u64, u64),
    places: u64,
    observed: &observe::Shared,
) -> anyhow::Result<()> {
    let has_crashed = || observed.borrow().coverage.of(Event::PowerCutInOperation) > 0;
    for node in (first..=places).chain(1..first).cycle().take(MOST_TRIES) {
        if has_crashed() {
            return Ok(());
        }
        let fault = Fault::PowerCutInOperation(node, ops);
        trace(|| format!("{fault:?}"));
        cluster.strike(fault);
        for _ in (0..CRASH_MS).take_while(|_| !has_crashed()) {
            cluster.step()?;
        }
    }
    anyhow::ensure!(has_crashed(), "no disk was written to");
    Ok(())
}

fn judge(history: &History, cluster: &Cluster, observed: &mut Observed) {
    observed.finish();
    let members = members_are_what_was_said::check(history, observed.members());
    let behind = deadlines_hold::behind(&history.deadlines, cluster.clocks());
    observed.coverage.add(Event::LeaderBehindLog, behind);
    let mut all = |invariant: &str, wrongs: Vec<String>| {
        wrongs.into_iter().for_each(|wrong| observed.violate(invariant, wrong));
    };
    all("acknowledged is never lost", acknowledged_is_never_lost::check(history));
    all("reads are linearizable", reads_are_linearizable::check(history));
    all("members are what was said", members);
    all("a reply answers its call", history.strange.clone());
    all("queues lose nothing", queues_lose_nothing::check(history));
    all("blocked calls are answered", blocked_calls_are_answered::check(history, cluster.troubles()));
    all("deadlines hold", deadlines_hold::check(&history.deadlines, cluster.clocks()));
    all("an unknown write appears at most once", unknown_appears_at_most_once::check(history));
}

fn count_fates(history: &History, coverage: &mut Coverage) {
    for of_key in history.keys.values() {
        for write in &of_key.writes {
            let seen = || of_key.reads.iter().any(|read| read.values.contains(&write.value));
            match write.fate {
                Fate::Refused => coverage.count(Event::WriteRefused),
                Fate::Unknown if seen() => coverage.count(Event::UnknownSeen),
                Fate::Unknown => coverage.count(Event::UnknownUnseen),
                Fate::Acknowledged(_) => {}
            }
        }
    }
}

fn step_until(cluster: &mut Cluster, limit_ms: u64, done: impl Fn() -> bool) -> anyhow::Result<()> {
    for _ in 0..limit_ms {
        if done() {
            return Ok(());
        }
        cluster.step()?;
    }
    anyhow::bail!("waited {limit_ms} ms of simulated time in vain")
}

/// Starts a client that reads every key until it has an answer for each.
fn read_all(cluster: &mut Cluster, shared: &Shared, nodes: Vec<String>) -> Rc<Cell<bool>> {
    let done = Rc::new(Cell::new(false));
    let (shared, flag) = (shared.clone(), Rc::clone(&done));
    cluster.sim.client("reader", async move {
        let mut client = Client::new(nodes, 0, ClientKind::Plain);
        const AGAIN: Duration = Duration::from_millis(50);
        let keys: Vec<_> = shared.history.borrow().keys.keys().cloned().collect();
        for (kind, key) in keys {
            while !workload::read(&shared.history, &mut client, kind, &key).await {
                tokio::time::sleep(AGAIN).await;
            }
        }
        // A token on its way would be missed.
        while shared.running.get() > 0 {
            tokio::time::sleep(AGAIN).await;
        }
        let queues: Vec<_> = shared.history.borrow().queues.keys().cloned().collect();
        for name in queues {
            while !queues::look(&shared, &mut client, &name).await {
                tokio::time::sleep(AGAIN).await;
            }
        }
        flag.set(true);
        Ok(())
    });
    done
}
