//! The simulated nodes, and what happens to them.

use std::cell::{Cell, Ref, RefCell};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use quoris::config::Config;
use quoris::server::{ServeError, Server};
use quoris_raft::env::fake_disk::{FakeDisk, FakeDiskOptions};
use quoris_raft::rejoin::rejoin;
use turmoil::Sim;

use crate::clocks::Clocks;
use crate::coverage::Event;
use crate::env::{Machine, SeededRng};
use crate::invariants::blocked_calls_are_answered::{Trouble, W_MS};
use crate::long_scripts::LongScripts;
use crate::observe;
use crate::plan::{CrashPoint, Fault, Plan};
use crate::run::{set_now, trace};
use crate::workload::scripts::INSTRUCTIONS;

/// A disk that stands still takes so long for an fsync.
const STANDSTILL_US: u64 = 1_000_000;

/// What the plan knows of a node.
#[derive(Clone)]
struct Node {
    /// Its number, which stands on its disk.
    id: u64,
    machine: Machine,
    /// Its server has ended by itself: its process is about to exit.
    ended: Rc<Cell<bool>>,
    /// Its disk was told to fail: it may stop for that.
    excused: Rc<Cell<bool>>,
    /// Something on its disk was damaged, and it has not started since.
    damaged: Rc<Cell<bool>>,
    /// What it runs.
    serving: Rc<RefCell<Weak<quoris_raft::node::Node>>>,
}

/// All nodes, and the simulation that they live in.
pub struct Cluster<'a> {
    /// Time and network.
    pub sim: Sim<'a>,
    plan: &'a Plan,
    /// The node that is at each address: the first is node 1's.
    places: Vec<Rc<RefCell<Node>>>,
    observed: observe::Shared,
    /// What clients' calls may have suffered from; those that are not over have no end.
    troubles: Vec<Trouble>,
    clocks: Clocks,
    /// Scripts that take long; not when all has been mended.
    long_scripts: Option<Rc<RefCell<LongScripts>>>,
    /// The nodes that are busy with one, and until when.
    busy: Vec<(u64, Duration)>,
    /// When the nodes that a crash point has stopped start again.
    restart_at: Option<Duration>,
}

/// Nodes that a crash point has stopped stay down for so long.
const CRASHED_FOR: Duration = Duration::from_millis(150);

/// Where clients reach a node.
pub fn client_addr(id: u64) -> String {
    format!("n{id}:7000")
}

/// Where the other nodes reach it.
pub fn peer_addr(id: u64) -> String {
    format!("n{id}:17000")
}

fn host(id: u64) -> String {
    format!("n{id}")
}

impl<'a> Cluster<'a> {
    /// Nodes that are about to found a cluster.
    pub fn new(plan: &'a Plan, seed: u64, observed: observe::Shared) -> Cluster<'a> {
        let sim = turmoil::Builder::new()
            .rng_seed(seed)
            .simulation_duration(Duration::from_secs(3600))
            .tick_duration(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(plan.latency_ms))
            .tcp_capacity(100_000)
            .build();
        let mut cluster = Cluster {
            sim,
            plan,
            places: Vec::new(),
            observed,
            troubles: Vec::new(),
            clocks: Clocks::default(),
            long_scripts: None,
            busy: Vec::new(),
            restart_at: None,
        };
        for id in 1..=plan.places() {
            let place = cluster.add_node(seed, id);
            cluster.places.push(place);
            cluster.note_clock(id);
        }
        (1..=plan.places()).for_each(|id| cluster.arm_crash_point(id));
        cluster
    }

    fn add_node(&mut self, seed: u64, id: u64) -> Rc<RefCell<Node>> {
        let disk = FakeDisk::new(seed.rotate_left(17) ^ id, disk_options(self.plan, 50..self.plan.sync_us));
        let rng = Arc::new(SeededRng::new(seed.rotate_left(31) ^ id));
        // As long as the longest script, which is tried out so.
        let job_ms = self.plan.instruction_us * 3 * INSTRUCTIONS / 2 / 1000;
        let machine = Machine { disk, skew_ms: Arc::new(AtomicI64::new(0)), rng, job_ms };
        let (ended, excused, damaged, serving) = Default::default();
        let place = Rc::new(RefCell::new(Node { id, machine, ended, excused, damaged, serving }));
        let text = settings(self.plan, id);
        let (at, observed) = (Rc::clone(&place), Rc::clone(&self.observed));
        self.sim.host(host(id), move || {
            let node = at.borrow().clone();
            let (id, config, observed) = (node.id, config(node.id, &text), Rc::clone(&observed));
            async move {
                let mut served = serve(&node, config.clone(), &observed).await;
                if node.damaged.get() {
                    served = rejoin_and_serve(&node, config, &observed, served).await;
                }
                let reason = match served {
                    Ok(()) => "it was not asked to".into(),
                    Err(error) => error.to_string(),
                };
                trace(|| format!("node {id} has stopped: {reason}"));
                observed.borrow_mut().ended(id, &reason, node.excused.get());
                node.ended.set(true);
                // Until the process is taken away.
                std::future::pending().await
            }
        });
        place
    }

    /// One millisecond.
    pub fn step(&mut self) -> anyhow::Result<()> {
        set_now(self.sim.elapsed());
        self.sim.step().map_err(|error| anyhow::anyhow!("the simulation broke: {error}"))?;
        for id in 1..=self.plan.places() {
            // First: a server often ends by itself when the power fails under it.
            if self.node(id).machine.disk.power_is_off() {
                self.power_failed_within(id);
            } else if self.node(id).ended.get() {
                self.stop(id, FakeDisk::kill);
            }
        }
        if self.restart_at.is_some_and(|at| self.sim.elapsed() >= at) {
            self.restart_at = None;
            self.strike(Fault::StartAll);
        }
        self.charge();
        Ok(())
    }

    /// From now on nodes take their time for `scripts`, until all is mended.
    pub fn charge_for(&mut self, scripts: Rc<RefCell<LongScripts>>) {
        self.long_scripts = (self.plan.instruction_us > 0).then_some(scripts);
    }

    /// Has those nodes stand still that have applied long scripts, and those go on whose time for it is over.
    fn charge(&mut self) {
        let Some(scripts) = self.long_scripts.clone() else { return };
        let now = self.sim.elapsed();
        let (over, busy) = std::mem::take(&mut self.busy).into_iter().partition(|(_, until)| *until <= now);
        self.busy = busy;
        over.iter().for_each(|(id, _): &(u64, Duration)| self.resume(*id));
        for id in 1..=self.plan.places() {
            let Some(serving) = self.node(id).serving.borrow().upgrade() else { continue };
            let Some((group, ms)) = scripts.borrow_mut().applied(id, &serving) else { continue };
            if !self.is_paused(id) {
                trace(|| format!("node {id} is busy with a script of group {group} for {ms} ms"));
                self.pause(id);
                self.busy.push((id, now + Duration::from_millis(ms)));
                self.observed.borrow_mut().busy.insert(self.node(id).id, group);
            }
        }
    }

    fn is_paused(&self, id: u64) -> bool {
        let is_on = |trouble: &Trouble| trouble.paused && trouble.node == id && trouble.to_ms == u64::MAX;
        self.troubles.iter().any(is_on)
    }

    fn pause(&mut self, id: u64) {
        self.trouble(id, true);
        self.set_sync_us(id, STANDSTILL_US..2 * STANDSTILL_US);
        self.everybody_but(id).for_each(|other| self.sim.hold(host(id), other));
    }

    fn resume(&mut self, id: u64) {
        self.end_troubles(|trouble| trouble.paused && trouble.node == id);
        self.observed.borrow_mut().busy.remove(&self.node(id).id);
        self.set_sync_us(id, 50..self.plan.sync_us);
        self.everybody_but(id).for_each(|other| self.sim.release(host(id), other));
    }

    fn power_failed_within(&mut self, id: u64) {
        trace(|| {
            format!(
                "node {id}: the power has failed within {:?}",
                self.node(id).machine.disk.power_failed_in()
            )
        });
        self.observed.borrow_mut().coverage.count(Event::PowerCutInOperation);
        if self.node(id).damaged.get() {
            self.observed.borrow_mut().coverage.count(Event::PowerCutInRejoin);
        }
        self.stop(id, FakeDisk::crash);
        let Some(point) = self.plan.crash_point.filter(|point| point.node == id) else { return };
        if point.all {
            self.strike(Fault::PowerCutOfAll);
        }
        self.restart_at = Some(self.sim.elapsed() + CRASHED_FOR);
    }

    /// What the plan's crash point has hit, if it has been reached: what was being done, and to what.
    pub fn crashed_in(&self) -> Option<String> {
        let (what, path) = self.node(self.plan.crash_point?.node).machine.disk.power_failed_in()?;
        let within = |part: &&str| path.starts_with(Path::new("/data").join(part));
        let of = ["log", "snapshots"].into_iter().find(within).unwrap_or("catalog");
        Some(format!("{what}, {of}"))
    }

    /// How many operations each node's disk has done.
    pub fn ops(&self) -> Vec<u64> {
        self.places.iter().map(|place| place.borrow().machine.disk.ops()).collect()
    }

    /// Lets a fault strike.
    pub fn strike(&mut self, fault: Fault) {
        let all = 1..=self.plan.places();
        self.note(fault);
        match fault {
            Fault::PowerCut(id) => self.stop(id, FakeDisk::crash),
            Fault::PowerCutInOperation(id, ops) => self.upset_disk(id, |disk| disk.fail_power_after(ops)),
            Fault::PowerCutOfAll => all.for_each(|id| self.stop(id, FakeDisk::crash)),
            Fault::PowerCutOfAllBut(spared) => {
                all.filter(|id| *id != spared).for_each(|id| self.stop(id, FakeDisk::crash));
            }
            Fault::Kill(id) => self.stop(id, FakeDisk::kill),
            Fault::Start(id) => self.start(id),
            Fault::StartAll => all.for_each(|id| self.start(id)),
            Fault::DiskError(id, ops) => self.upset_disk(id, |disk| disk.fail_once_after(ops)),
            Fault::DiskFull(id) => self.upset_disk(id, |disk| disk.fill(true)),
            Fault::Wipe(id) => self.wipe(id),
            Fault::Damage(id, number) => self.damage(id, number),
            Fault::Partition(a, b) => {
                self.cut([a, b]);
                self.sim.partition(host(a), host(b));
            }
            Fault::OneWay(a, b) => {
                self.cut([a, b]);
                self.sim.partition_oneway(host(a), host(b));
            }
            Fault::Isolate(id) => {
                self.cut(1..=self.plan.places());
                all.filter(|other| *other != id).for_each(|other| self.sim.partition(host(id), host(other)));
            }
            Fault::Pause(id) => self.pause(id),
            Fault::Resume(id) => self.resume(id),
            Fault::Repair => self.repair(),
            Fault::Exchange(a, b) => self.exchange(a, b),
            Fault::PutRight => self.put_right(),
            Fault::ClockJump(id, ms) => {
                self.node(id).machine.skew_ms.fetch_add(ms, Ordering::Relaxed);
                self.note_clock(id);
            }
            Fault::SlowDisk(id, us) => self.set_sync_us(id, us / 2..us),
        }
    }

    fn note(&mut self, fault: Fault) {
        let mut observed = self.observed.borrow_mut();
        let (node, event) = match fault {
            Fault::PowerCut(id) | Fault::Kill(id) => (id, Event::LeaderKilled),
            Fault::Isolate(id) => (id, Event::LeaderIsolated),
            Fault::Pause(id) => (id, Event::LeaderPaused),
            Fault::DiskError(id, _) | Fault::DiskFull(id) | Fault::SlowDisk(id, _) => {
                (id, Event::LeaderDiskFaulted)
            }
            Fault::PowerCutOfAll => return observed.coverage.count(Event::PowerCutOfAll),
            Fault::ClockJump(_, ..0) => return observed.coverage.count(Event::ClockWentBack),
            _ => return,
        };
        if observed.is_leader(self.node(node).id) {
            observed.coverage.count(event);
        }
    }

    /// Ends every fault.
    pub fn mend(&mut self) {
        trace(|| "all is mended".into());
        self.long_scripts = None;
        self.strike(Fault::PutRight);
        for id in 1..=self.plan.places() {
            self.strike(Fault::Resume(id));
        }
        self.repair();
        for id in 1..=self.plan.places() {
            // A disk that was told to fail, and has not yet, is not mended before it is restarted.
            if self.node(id).excused.get() {
                self.stop(id, FakeDisk::kill);
            }
            self.start(id);
        }
    }

    /// The node that is where node `id` belongs: itself, unless nodes have been exchanged. Faults are of places.
    fn node(&self, id: u64) -> Ref<'_, Node> {
        self.places[id as usize - 1].borrow()
    }

    /// The hosts of all other nodes, and that of the clients.
    fn everybody_but(&self, id: u64) -> impl Iterator<Item = String> + use<> {
        let nodes = (1..=self.plan.places()).filter(move |other| *other != id).map(host);
        nodes.chain([CLIENTS.to_owned()])
    }

    fn is_running(&mut self, id: u64) -> bool {
        self.sim.is_host_running(host(id))
    }

    fn stop(&mut self, id: u64, how: fn(&FakeDisk)) {
        if self.is_running(id) {
            self.sim.crash(host(id));
        }
        how(&self.node(id).machine.disk);
        self.node(id).machine.disk.fill(false);
        self.node(id).excused.set(false);
        self.node(id).ended.set(false);
        self.observed.borrow_mut().stopped(self.node(id).id);
    }

    fn start(&mut self, id: u64) {
        if !self.is_running(id) {
            self.arm_crash_point(id);
            if let Some(scripts) = &self.long_scripts {
                scripts.borrow_mut().starts(id);
            }
            self.sim.bounce(host(id));
        }
    }

    /// Lets the power of node `id` fail at the plan's crash point, unless that has been passed: in this life or an earlier
    /// one.
    fn arm_crash_point(&self, id: u64) {
        let Some(CrashPoint { op, .. }) = self.plan.crash_point.filter(|point| point.node == id) else {
            return;
        };
        let Node { machine, excused, .. } = &*self.node(id);
        if machine.disk.power_failed_in().is_none() && machine.disk.ops() <= op {
            excused.set(true);
            machine.disk.fail_power_after(op - machine.disk.ops());
        }
    }

    /// The disk will fail the node, if it runs: it may stop for that.
    fn upset_disk(&mut self, id: u64, how: impl FnOnce(&FakeDisk)) {
        if self.is_running(id) {
            self.node(id).excused.set(true);
            how(&self.node(id).machine.disk);
        }
    }

    fn exchange(&mut self, a: u64, b: u64) {
        self.observed.borrow_mut().coverage.count(Event::NodesExchanged);
        [a, b].into_iter().for_each(|id| self.stop(id, FakeDisk::kill));
        self.places[a as usize - 1].swap(&self.places[b as usize - 1]);
        [a, b].into_iter().for_each(|id| self.note_clock(id));
        [a, b].into_iter().for_each(|id| self.start(id));
    }

    fn put_right(&mut self) {
        let is_elsewhere = |id: &u64| self.node(*id).id != *id;
        let wrong: Vec<u64> = (1..=self.plan.places()).filter(is_elsewhere).collect();
        wrong.iter().for_each(|id| self.stop(*id, FakeDisk::kill));
        for id in &wrong {
            let place = |is: u64| &self.places[is as usize - 1];
            // Each swap brings one home.
            while self.node(*id).id != *id {
                let there = self.node(*id).id;
                place(*id).swap(place(there));
            }
        }
        wrong.iter().for_each(|id| self.note_clock(*id));
        wrong.into_iter().for_each(|id| self.start(id));
    }

    /// What the clock of the node that is where node `id` belongs shows from now on.
    fn note_clock(&mut self, id: u64) {
        let skew_ms = self.node(id).machine.skew_ms.load(Ordering::Relaxed);
        self.clocks.set(id, self.sim.elapsed().as_millis() as u64, skew_ms);
    }

    /// What the nodes' clocks have shown.
    pub fn clocks(&self) -> &Clocks {
        &self.clocks
    }

    fn wipe(&mut self, id: u64) {
        if self.can_be_spared(id) {
            self.stop(id, FakeDisk::wipe);
            self.observed.borrow_mut().wiped(self.node(id).id);
            self.start(id);
        }
    }

    /// Whether all members vote in all groups: one of them may forget what it knew.
    fn can_be_spared(&mut self, id: u64) -> bool {
        let mut observed = self.observed.borrow_mut();
        let spared = observed.all_vote(self.plan.groups);
        if spared && observed.is_leader(self.node(id).id) {
            observed.coverage.count(Event::LeaderWiped);
        }
        spared
    }

    /// Flips a bit that is surely noticed: anywhere in the catalog or a snapshot, or in what a segment of the log begins with.
    fn damage(&mut self, id: u64, number: u64) {
        const SEGMENT_HEADER: u64 = 48;
        if !self.can_be_spared(id) {
            return;
        }
        self.stop(id, FakeDisk::kill);
        let disk = self.node(id).machine.disk.clone();
        let kept = |path: &PathBuf| {
            let is = |extension| path.extension().is_some_and(|it| it == extension);
            is("log") || is("snap") || path.ends_with("catalog")
        };
        let files: Vec<PathBuf> =
            disk.files().into_iter().filter(|path| kept(path) && !is_set_aside(path)).collect();
        let file = &files[number as usize % files.len()];
        let len = disk.content(file).expect("a file that is there").len() as u64;
        let within = if file.extension().is_some_and(|it| it == "log") { SEGMENT_HEADER } else { len };
        disk.flip(file, (number >> 8) % within, 1 << (number % 8));
        trace(|| format!("damaged {}", file.display()));
        self.node(id).damaged.set(true);
        self.observed.borrow_mut().wiped(self.node(id).id);
        self.start(id);
        // In every other case within what setting aside takes, or soon after.
        if (number >> 16).is_multiple_of(2) {
            self.upset_disk(id, |disk| disk.fail_power_after((number >> 24) % 40));
        }
    }

    fn cut(&mut self, nodes: impl IntoIterator<Item = u64>) {
        nodes.into_iter().for_each(|node| self.trouble(node, false));
    }

    fn trouble(&mut self, node: u64, paused: bool) {
        let from_ms = self.sim.elapsed().as_millis() as u64;
        self.troubles.push(Trouble { node, paused, from_ms, to_ms: u64::MAX });
    }

    fn end_troubles(&mut self, which: impl Fn(&Trouble) -> bool) {
        let now_ms = self.sim.elapsed().as_millis() as u64;
        let going_on = |trouble: &&mut Trouble| trouble.to_ms == u64::MAX && which(trouble);
        self.troubles.iter_mut().filter(going_on).for_each(|trouble| trouble.to_ms = now_ms);
    }

    /// What clients' calls may have suffered from.
    pub fn troubles(&self) -> &[Trouble] {
        &self.troubles
    }

    fn repair(&mut self) {
        self.end_troubles(|trouble| !trouble.paused);
        for a in 1..=self.plan.places() {
            for b in 1..a {
                self.sim.repair(host(a), host(b));
            }
        }
    }

    fn set_sync_us(&self, id: u64, sync_us: Range<u64>) {
        self.node(id).machine.disk.set_options(disk_options(self.plan, sync_us));
    }
}

/// The host of all clients.
pub const CLIENTS: &str = "clients";

/// The product's server, as its `main` runs it, with a watcher beside it.
async fn serve(node: &Node, config: Config, observed: &observe::Shared) -> Result<(), ServeError> {
    let (env, addr) = (node.machine.env(), config.listen.clone());
    let listener = env.net.listen(&addr).await.map_err(|source| ServeError::Listen { addr, source })?;
    let server = Server::start(env, config, None).await?;
    // What was damaged has been set aside, or is not needed.
    node.damaged.set(false);
    node.serving.replace(Arc::downgrade(&server.node));
    let watcher = observe::watch(Rc::clone(observed), Arc::clone(&server.node));
    tokio::select! {
        biased;
        ended = server.serve(listener, std::future::pending()) => ended,
        () = watcher => unreachable!("it watches for ever"),
    }
}

fn is_set_aside(path: &Path) -> bool {
    path.starts_with("/data/set-aside")
}

/// What a person does with a node that does not start because of damage, which is how it was `served`: it is told to rejoin,
/// and started again. Each time it is another process.
async fn rejoin_and_serve(
    node: &Node,
    config: Config,
    observed: &observe::Shared,
    served: Result<(), ServeError>,
) -> Result<(), ServeError> {
    node.machine.disk.hand_over();
    match rejoin(node.machine.env(), &config.node_config()).await {
        Ok(place) => trace(|| format!("set aside in {}", place.display())),
        Err(error) => {
            trace(|| format!("cannot rejoin: {error}"));
            return served;
        }
    }
    observed.borrow_mut().coverage.count(Event::DataSetAside);
    node.machine.disk.hand_over();
    serve(node, config, observed).await
}

fn disk_options(plan: &Plan, sync_us: Range<u64>) -> FakeDiskOptions {
    FakeDiskOptions { sync_us, offload_us: 0..plan.offload_us, ..FakeDiskOptions::default() }
}

/// The settings of whatever node is where node `id` belongs.
fn settings(plan: &Plan, id: u64) -> String {
    // Who may join knows whom it is to join.
    let joins = Some(id).filter(|id| *id > plan.nodes);
    let members =
        (1..=plan.nodes).chain(joins).map(|id| format!("{id}={}@{}", client_addr(id), peer_addr(id)));
    let members: Vec<String> = members.collect();
    format!(
        "listen = \"n{id}:7000\"\npeer_listen = \"n{id}:17000\"\ndata_dir = \"/data\"\n\
         cluster_id = \"sim\"\ngroups = {}\ninitial_cluster = \"{}\"\nsnapshot_entries = {}\n\
         entries_behind_snapshot = {}\nlog_segment_bytes = \"64kb\"\nlog_cache_bytes = \"64kb\"\n\
         log_max_bytes = \"{}kb\"\nmove_piece_bytes = \"{}\"\nwrite_timeout_ms = {W_MS}\n\
         script_instructions = {}\nscript_memory = \"1mb\"\n",
        plan.groups,
        members.join(","),
        plan.snapshot_entries,
        plan.entries_behind_snapshot,
        plan.log_kb,
        plan.move_piece_bytes,
        // Where scripts take time, long ones are to come to something.
        if plan.instruction_us > 0 { 2 * INSTRUCTIONS } else { INSTRUCTIONS },
    )
}

fn config(id: u64, settings: &str) -> Config {
    Config::load(&format!("node_id = {id}\n{settings}"), [])
        .unwrap_or_else(|error| panic!("the simulator's settings: {error}"))
}
