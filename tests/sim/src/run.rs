//! One run: a cluster, clients, faults; then everything is mended, and every key is read once more.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use quoris::config::Config;
use quoris::server::Server;
use quoris_raft::env::fake_disk::{FakeDisk, FakeDiskOptions};
use turmoil::Sim;

use crate::client::Client;
use crate::env::{Machine, SeededRng};
use crate::history::History;
use crate::plan::{FAULTS_MS, Fault, Plan};
use crate::workload::{self, Shared};

/// The cluster must be founded and acknowledge a write within so many milliseconds.
const FOUNDING_MS: u64 = 10_000;

/// After everything is mended, all keys must have been read within so many milliseconds.
const HEALING_MS: u64 = 30_000;

thread_local! {
    static TRACING: Cell<bool> = const { Cell::new(false) };
}

/// Prints a line of the run's trace, if it is wanted.
pub fn trace(line: impl FnOnce() -> String) {
    if TRACING.get() {
        let at = turmoil::sim_elapsed().unwrap_or_default().as_micros();
        println!("{at:>10} {}", line());
    }
}

/// What a run has shown.
#[derive(Debug)]
pub struct Report {
    /// What clients saw.
    pub history: History,
    /// Faults that struck.
    pub faults: usize,
}

/// Runs `seed`; with `tracing`, every call and every fault is printed.
pub fn run(seed: u64, tracing: bool) -> anyhow::Result<Report> {
    TRACING.set(tracing);
    let plan = Plan::of(seed);
    trace(|| format!("{plan:?}"));
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(Duration::from_secs(3600))
        .tick_duration(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(plan.latency_ms))
        .tcp_capacity(100_000)
        .build();
    let machines: Vec<Machine> = (1..=plan.nodes).map(|id| start_node(&mut sim, &plan, seed, id)).collect();
    let history: Shared = Rc::new(RefCell::new(History::default()));
    let nodes: Vec<String> = (1..=plan.nodes).map(client_addr).collect();
    for me in 0..plan.clients {
        let (history, nodes, clients) = (Rc::clone(&history), nodes.clone(), plan.clients);
        sim.client(format!("client-{me}"), async move {
            workload::run(history, nodes, me, clients, seed).await;
            Ok(())
        });
    }
    let began = Rc::clone(&history);
    step_until(&mut sim, FOUNDING_MS, "a first acknowledged write", || began.borrow().acknowledged > 0)?;
    let mut cluster = Cluster { sim, machines, plan: &plan };
    cluster.suffer()?;
    cluster.mend();
    let done = read_all(&mut cluster.sim, &history, nodes);
    step_until(&mut cluster.sim, HEALING_MS, "every key read after all was mended", || done.get())?;
    // The simulation's hosts hold clones of the history.
    let history = std::mem::take(&mut *history.borrow_mut());
    Ok(Report { history, faults: plan.faults.len() })
}

fn client_addr(id: u64) -> String {
    format!("n{id}:7000")
}

fn disk_options(sync_us: Range<u64>) -> FakeDiskOptions {
    FakeDiskOptions { sync_us, ..FakeDiskOptions::default() }
}

fn start_node(sim: &mut Sim, plan: &Plan, seed: u64, id: u64) -> Machine {
    let machine = Machine {
        disk: FakeDisk::new(seed.rotate_left(17) ^ id, disk_options(50..plan.sync_us)),
        skew_ms: Arc::new(AtomicI64::new(0)),
        rng: Arc::new(SeededRng::new(seed.rotate_left(31) ^ id)),
    };
    let members: Vec<String> = (1..=plan.nodes).map(|id| format!("{id}=n{id}:7000@n{id}:17000")).collect();
    let text = format!(
        "node_id = {id}\nlisten = \"n{id}:7000\"\npeer_listen = \"n{id}:17000\"\ndata_dir = \"/data\"\n\
         cluster_id = \"sim\"\ngroups = {}\ninitial_cluster = \"{}\"\nsnapshot_entries = {}\n\
         entries_behind_snapshot = {}\nlog_segment_bytes = \"64kb\"\nlog_max_bytes = \"16mb\"\n",
        plan.groups,
        members.join(","),
        plan.snapshot_entries,
        plan.snapshot_entries / 2,
    );
    let config = Config::load(&text, []).unwrap_or_else(|error| panic!("the simulator's settings: {error}"));
    let on_host = machine.clone();
    sim.host(format!("n{id}"), move || {
        let (env, config) = (on_host.env(), config.clone());
        async move {
            // A node that fails (a disk that refuses) is down until the plan starts it again.
            if let Err(error) = Server::run(env, config, None, std::future::pending()).await {
                trace(|| format!("node {id} has stopped: {error}"));
                std::future::pending::<()>().await;
            }
            Ok(())
        }
    });
    machine
}

fn step_until(sim: &mut Sim, limit_ms: u64, what: &str, done: impl Fn() -> bool) -> anyhow::Result<()> {
    for _ in 0..limit_ms {
        if done() {
            return Ok(());
        }
        sim.step().map_err(|error| anyhow::anyhow!("the simulation broke: {error}"))?;
    }
    anyhow::bail!("waited {limit_ms} ms of simulated time in vain for {what}")
}

/// Starts a client that reads every key until it has an answer for each.
fn read_all(sim: &mut Sim, history: &Shared, nodes: Vec<String>) -> Rc<Cell<bool>> {
    let done = Rc::new(Cell::new(false));
    let (history, flag) = (Rc::clone(history), Rc::clone(&done));
    sim.client("reader", async move {
        let mut client = Client::new(nodes, 0);
        let keys = history.borrow().keys();
        for key in keys {
            while !workload::read(&history, &mut client, &key).await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        flag.set(true);
        Ok(())
    });
    done
}

struct Cluster<'a> {
    sim: Sim<'a>,
    machines: Vec<Machine>,
    plan: &'a Plan,
}

impl Cluster<'_> {
    /// Lets the planned faults strike.
    fn suffer(&mut self) -> anyhow::Result<()> {
        let mut faults = self.plan.faults.iter().peekable();
        for now in 0..FAULTS_MS {
            while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= now) {
                trace(|| format!("{fault:?}"));
                self.strike(*fault);
            }
            self.sim.step().map_err(|error| anyhow::anyhow!("the simulation broke: {error}"))?;
        }
        Ok(())
    }

    fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::PowerCut(id) => self.stop(id, FakeDisk::crash),
            Fault::Kill(id) => self.stop(id, FakeDisk::kill),
            Fault::Start(id) => self.start(id),
            Fault::Partition(a, b) => self.sim.partition(host(a), host(b)),
            Fault::OneWay(a, b) => self.sim.partition_oneway(host(a), host(b)),
            Fault::Repair => self.repair(),
            Fault::ClockJump(id, ms) => {
                self.machine(id).skew_ms.fetch_add(ms, Ordering::Relaxed);
            }
            Fault::SlowDisk(id, us) => self.machine(id).disk.set_options(disk_options(us / 2..us)),
        }
    }

    fn machine(&self, id: u64) -> &Machine {
        &self.machines[id as usize - 1]
    }

    fn stop(&mut self, id: u64, how: fn(&FakeDisk)) {
        if self.sim.is_host_running(host(id)) {
            self.sim.crash(host(id));
            how(&self.machine(id).disk);
        }
    }

    fn start(&mut self, id: u64) {
        if !self.sim.is_host_running(host(id)) {
            self.sim.bounce(host(id));
        }
    }

    fn repair(&mut self) {
        for a in 1..=self.plan.nodes {
            for b in 1..a {
                self.sim.repair(host(a), host(b));
            }
        }
    }

    /// Ends every fault.
    fn mend(&mut self) {
        trace(|| "all is mended".into());
        self.repair();
        for id in 1..=self.plan.nodes {
            self.machine(id).disk.set_options(disk_options(50..self.plan.sync_us));
            self.start(id);
        }
    }
}

fn host(id: u64) -> String {
    format!("n{id}")
}
