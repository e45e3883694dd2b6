//! A replica of one group on this node: what the server calls to read and write.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{Fatal, RaftError};
use openraft::raft::{ClientWriteResult, TransferLeaderRequest, VoteRequest};
use openraft::{Instant as _, Raft, RaftState, ServerState};
use prost::Message;
use quoris_engine::digest::Difference;
use quoris_engine::entry::Draft;
use quoris_engine::machine::Expiry;
use quoris_engine::{Call, Entry, Machine, Stamp};
use tokio::sync::{mpsc, oneshot};

use crate::consensus::{Callback, Data, LogId, StoredMembership, TypeConfig, Vote};
use crate::env::Env;
use crate::limits;
use crate::links::Links;
use crate::log::SharedLog;
use crate::long_writes::LongWrites;
use crate::node::{NodeConfig, ReadMode};
use crate::planted::{Bug, is_planted};
pub use crate::propose::Waiter;
use crate::propose::{self, Proposal};
use crate::read_gate::{self, ReadGate};
use crate::storage::Replica;
use crate::thrifty::Thrifty;
use crate::trust::Trust;
use crate::types::{GroupId, GroupStatus, NodeId, ReadOutcome, Refusal, Watcher, WriteOutcome};
use crate::vacancy::Vacancy;

pub(crate) type GroupRaft = Raft<TypeConfig, Replica>;

/// A replica of one group. Shared by all connections.
pub struct Group {
    id: GroupId,
    pub(crate) node_id: NodeId,
    pub(crate) raft: GroupRaft,
    vacancy: Vacancy,
    machine: Arc<RwLock<Machine>>,
    proposals: mpsc::Sender<Proposal>,
    /// For those of more than [`limits::LONG_WRITE_BYTES`].
    long_writes: mpsc::Sender<Proposal>,
    reads: mpsc::Sender<read_gate::Waiting>,
    pub(crate) env: Env,
    pub(crate) links: Links,
    watcher: Arc<dyn Watcher>,
    read_mode: ReadMode,
    write_timeout: Duration,
    entries_behind_snapshot: u64,
    /// See [`Group::last_leader`]; 0 if there was none.
    last_leader: AtomicU64,
    pub(crate) trust: Arc<Trust>,
    pub(crate) thrifty: Thrifty,
    /// For how many ticks there has been no leader.
    leaderless: AtomicU32,
    /// Whether the replica's state is being replaced: then its log keeps what it has.
    pub(crate) rebuilding: AtomicBool,
    pub(crate) snapshots_not_needed: AtomicU64,
    /// Up to where openraft has been told to purge the log.
    told_to_purge: AtomicU64,
}

/// What all groups of a node stand on.
pub(crate) struct Ground {
    pub env: Env,
    pub links: Links,
    pub log: SharedLog,
    pub watcher: Arc<dyn Watcher>,
    pub trust: Arc<Trust>,
    pub thrifty: Thrifty,
}

impl Group {
    /// Starts the tasks that propose, confirm reads and move the clock.
    pub(crate) fn start(
        id: GroupId,
        raft: GroupRaft,
        machine: Arc<RwLock<Machine>>,
        ground: Ground,
        config: &NodeConfig,
    ) -> Arc<Group> {
        let Ground { env, links, log, watcher, trust, thrifty } = ground;
        let (proposals, waiting) = mpsc::channel(limits::WAITING_WRITES);
        let (long_writes, long_waiting) = mpsc::channel(limits::WAITING_WRITES);
        let (reads, readers) = mpsc::channel(limits::WAITING_WRITES);
        let vacancy = Vacancy::new(config, raft.clone(), links.clone());
        let read_gate = ReadGate {
            group: id,
            node_id: config.node_id,
            raft: raft.clone(),
            vacancy: vacancy.clone(),
            log: log.group(id),
            links: links.clone(),
            thrifty: thrifty.clone(),
            mode: config.read_mode,
            settled: None,
        };
        tokio::spawn(propose::run(
            id,
            raft.clone(),
            vacancy.clone(),
            log,
            env.clone(),
            Arc::clone(&watcher),
            waiting,
        ));
        let write_timeout = Duration::from_millis(config.timing.write_timeout_ms);
        let carrier = LongWrites { rng: Arc::clone(&env.rng), proposals: proposals.clone(), write_timeout };
        tokio::spawn(carrier.run(long_waiting));
        tokio::spawn(read_gate.run(readers));
        let group = Arc::new(Group {
            id,
            node_id: config.node_id,
            raft,
            vacancy,
            machine,
            proposals,
            long_writes,
            reads,
            env,
            links,
            watcher,
            read_mode: config.read_mode,
            write_timeout,
            entries_behind_snapshot: config.limits.entries_behind_snapshot,
            last_leader: AtomicU64::new(0),
            trust,
            thrifty,
            leaderless: AtomicU32::new(0),
            rebuilding: AtomicBool::new(false),
            snapshots_not_needed: AtomicU64::new(0),
            told_to_purge: AtomicU64::new(0),
        });
        tokio::spawn(tick(Arc::downgrade(&group)));
        group
    }

    /// Its number.
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// The node that leads it, if one is known.
    pub fn leader(&self) -> Option<NodeId> {
        self.raft.server_metrics().borrow_watched().current_leader
    }

    /// The node that leads it, if it is one to send a client to: this node, or one that this node can reach.
    pub fn leader_in_reach(&self) -> Option<NodeId> {
        self.vacancy.leader()
    }

    /// [`Group::leader_in_reach`]; if there is none, waits for the next as calls do.
    pub async fn await_leader(&self) -> Result<NodeId, Refusal> {
        loop {
            if let Some(leader) = self.leader_in_reach() {
                return Ok(leader);
            }
            if !self.vacancy.outlast().await {
                return Err(Refusal::NoQuorum);
            }
        }
    }

    /// The node that leads it, or the last one known to have led it.
    pub fn last_leader(&self) -> Option<NodeId> {
        let known = self.leader();
        if let Some(leader) = known {
            self.last_leader.store(leader, Ordering::Relaxed);
        }
        // Node numbers begin at 1.
        known.or_else(|| Some(self.last_leader.load(Ordering::Relaxed)).filter(|leader| *leader > 0))
    }

    /// Whether this node believes to lead it.
    pub fn is_leader(&self) -> bool {
        self.raft.server_metrics().borrow_watched().state == ServerState::Leader
    }

    /// What a check or an audit has found: this replica is not what it should be. It then neither serves, votes nor leads.
    pub fn difference(&self) -> Option<Difference> {
        self.with_machine(Machine::difference).or_else(|| self.trust.difference())
    }

    /// Figures for people.
    pub fn status(&self) -> GroupStatus {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
        GroupStatus {
            id: self.id,
            leader: metrics.current_leader,
            term: metrics.current_term,
            last_index: metrics.last_log_index.unwrap_or(0),
            committed: index(metrics.local_committed),
            applied: index(metrics.last_applied),
            snapshot_index: index(metrics.snapshot),
            purged: index(metrics.purged),
            voters: metrics.membership_config.voter_ids().collect(),
            learners: metrics.membership_config.membership().learner_ids().collect(),
            difference: self.difference(),
            verified: self.with_machine(Machine::verified),
            audit: self.trust.newest_audit(),
        }
    }

    /// Writes batches, each applied whole and with nothing between its calls.
    ///
    /// Waits for a leader as long as calls may, and in all at most the write timeout; what has not entered the log by
    /// then never will.
    pub async fn write(&self, batches: impl Into<Draft>) -> WriteOutcome {
        self.write_within(self.write_timeout, batches).await
    }

    /// [`Group::write`] with another limit.
    pub(crate) async fn write_within(&self, limit: Duration, batches: impl Into<Draft>) -> WriteOutcome {
        match self.propose(batches) {
            Ok(mut waiter) => waiter.wait(limit).await,
            Err(refusal) => WriteOutcome::Refused(refusal),
        }
    }

    /// [`Group::write`] for those who want to know what became of a write even when it is late.
    pub fn propose(&self, batches: impl Into<Draft>) -> Result<Waiter, Refusal> {
        if self.trust.is_distrusted() {
            return Err(Refusal::Differs);
        }
        let draft = batches.into();
        let queue = match draft.size() > limits::LONG_WRITE_BYTES {
            true => &self.long_writes,
            false => &self.proposals,
        };
        let (proposal, waiter) = Proposal::new(draft);
        match queue.try_send(proposal) {
            Ok(()) => Ok(waiter),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Refusal::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Refusal::ShuttingDown),
        }
    }

    /// How long a write may take before its fate is called unknown.
    pub(crate) fn write_timeout(&self) -> Duration {
        self.write_timeout
    }

    /// Whether this node leads it, with a quorum behind it as far as is known.
    pub fn is_led_here(&self) -> bool {
        self.leader_in_reach() == Some(self.node_id) && self.vacancy.is_filled()
    }

    /// The voters, and up to which index the log of each is known to be durable; this node must lead.
    pub fn durable(&self) -> Option<Vec<(NodeId, u64)>> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let replication = metrics.replication.as_ref()?;
        let flushed = |voter: NodeId| replication.get(&voter).copied().flatten().map_or(0, |id| id.index);
        Some(metrics.membership_config.voter_ids().map(|voter| (voter, flushed(voter))).collect())
    }

    /// How many followers this node is connected to and has had an answer of within `lag`; `None` if it does not lead.
    pub fn followers_heard(&self, lag: Duration) -> Option<usize> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let answered = metrics.heartbeat.as_ref()?;
        let is_heard = |id: &NodeId| {
            let at = answered.get(id).copied().flatten();
            self.links.is_up(*id) && at.is_some_and(|at| at.into_inner().elapsed() < lag)
        };
        let followers = metrics.membership_config.voter_ids().filter(|id| *id != self.node_id);
        Some(followers.filter(is_heard).count())
    }

    /// Makes sure that this replica may answer reads that arrived before the call (by the node's [`ReadMode`]), and
    /// that no key of `calls` is due by wall clock and still there.
    pub async fn ready_to_read(&self, calls: &[Call]) -> Result<(), Refusal> {
        if self.trust.is_distrusted() {
            return Err(Refusal::Differs);
        }
        if self.read_mode != ReadMode::Local {
            let (tell, told) = oneshot::channel();
            self.reads.try_send(tell).map_err(|_| Refusal::Busy)?;
            told.await.map_err(|_| Refusal::ShuttingDown)??;
        }
        if is_planted(Bug::DueIsAlive) {
            return Ok(());
        }
        let (now_ms, expiry) = (self.env.clock.now_ms(), self.watcher.expiry());
        let Some(batches) = self.with_machine(|machine| machine.before_read(calls, now_ms, expiry)) else {
            return Ok(());
        };
        match self.write(batches).await {
            WriteOutcome::Applied(_) => Ok(()),
            WriteOutcome::Refused(refusal) => Err(refusal),
            // The entry does nothing but what the time does: to try again is safe.
            WriteOutcome::Unknown(_) => Err(Refusal::NoQuorum),
        }
    }

    /// [`Group::ready_to_read`], then the calls' answers.
    pub async fn read(&self, calls: &[Call]) -> ReadOutcome {
        self.ready_to_read(calls).await?;
        let (now_ms, seed) = (self.env.clock.now_ms(), self.env.rng.next_u64());
        Ok(self.with_machine(|machine| machine.read(calls, now_ms, seed)))
    }

    /// Has what is due removed, if this node leads the group, without waiting for the next tick to do so.
    pub async fn remove_due(&self) {
        if self.is_leader() && self.has_due_keys() {
            // Whatever becomes of it, the next tick tries again.
            self.write(Draft::default()).await;
        }
    }

    /// Looks at the machine under the group's read lock. Not a promise of freshness.
    pub fn with_machine<R>(&self, look: impl FnOnce(&Machine) -> R) -> R {
        look(&self.machine())
    }

    /// Begins or ends the noting of what happens to keys, for this node's [`crate::types::Watcher`].
    pub fn observe(&self, observe: bool) {
        self.machine_mut().observe(observe);
    }

    /// Exchanges the replica's machine and `other`, if they are at the same index.
    pub(crate) fn exchange(&self, other: &mut Machine) -> bool {
        let exchanged = {
            let mut machine = self.machine_mut();
            let same = machine.applied() == other.applied();
            if same {
                other.observe(machine.is_observed());
                std::mem::swap(&mut *machine, other);
            }
            same
        };
        if exchanged {
            self.watcher.replaced(self.id);
        }
        exchanged
    }

    /// Ready when this node has led the group and leads it no longer. False: it has stopped for good.
    pub async fn lost_leadership(&self) -> bool {
        let mut metrics = self.raft.server_metrics();
        for leads in [true, false] {
            while (metrics.borrow_watched().state == ServerState::Leader) != leads {
                if metrics.changed().await.is_err() {
                    return false;
                }
            }
        }
        true
    }

    /// Asks `to` to take over; ready when the request is on its way.
    pub async fn transfer_leader(&self, to: NodeId) -> Result<(), Refusal> {
        self.raft.trigger().transfer_leader(to).await.map_err(|_| Refusal::ShuttingDown)
    }

    /// Stands for election at once, because the process of the leader is known to be dead.
    ///
    /// Voters grant such a vote within the dead leader's lease, as they would after a transfer; whether this node's
    /// log is recent enough to lead they judge as ever.
    pub(crate) async fn take_over_from(&self, dead: NodeId) {
        let metrics = self.raft.metrics().borrow_watched().clone();
        if metrics.current_leader != Some(dead) || self.difference().is_some() {
            return;
        }
        tracing::info!(group = self.id, dead, "the leader's process has died: standing for election");
        let request = TransferLeaderRequest::new(metrics.vote, self.node_id, None);
        if let Err(error) = self.raft.handle_transfer_leader(request).await {
            tracing::debug!(group = self.id, %error, "cannot stand for election");
        }
    }

    /// Proposes an entry of this crate's own (a genesis, a check, an audit), which removes nothing that is due: whether that
    /// is to go, the watcher decides. Its index, if it is known to have been applied.
    pub(crate) async fn write_entry(&self, entry: Entry) -> Option<u64> {
        let stamp = Stamp { keep_due: true, ..entry.stamp.unwrap_or_default() };
        let entry = Entry { stamp: Some(stamp), ..entry };
        let (tell, told) = oneshot::channel();
        let callback =
            Callback(Box::new(move |result: ClientWriteResult<TypeConfig>| drop(tell.send(result))));
        let data = Data(entry.encode_to_vec().into());
        self.raft.write(data).responder(callback).await.ok()?;
        let applied = tokio::time::timeout(self.write_timeout, told).await.ok()?.ok()?.ok()?;
        Some(applied.log_id.index)
    }

    /// For whom this replica has voted in the newest term it knows, and the membership that its log says.
    pub(crate) async fn vote(&self) -> Result<(Vote, StoredMembership), Fatal<TypeConfig>> {
        let look = |state: &RaftState<TypeConfig>| {
            (*state.vote_ref(), (**state.membership_state.effective()).clone())
        };
        self.raft.with_raft_state(look).await
    }

    /// Makes this replica vote as `vote` says, durably, unless it has a newer vote; nobody counts it. From then on it
    /// follows no leader of an older term.
    pub(crate) async fn adopt_vote(&self, vote: Vote) -> Result<(), RaftError<TypeConfig>> {
        let candidate = Vote::new(vote.leader_id().term, vote.leader_id().voted_for);
        // Granted whatever the replica's log and lease say: it elects nobody.
        let any_log = LogId::new_term_index(u64::MAX, u64::MAX);
        let mut request = VoteRequest::new(candidate, Some(any_log));
        request.leadership_transfer = true;
        self.raft.vote(request).await.map(drop)
    }

    /// Whether nothing has ever happened in the group, as far as this replica knows.
    pub(crate) async fn is_blank(&self) -> bool {
        // A replica that cannot tell is about to stop.
        self.raft.is_initialized().await.is_ok_and(|initialized| !initialized)
    }

    /// Whether this replica has applied `index`, or does so within `limit`.
    pub async fn has_applied(&self, index: u64, limit: Duration) -> bool {
        let applied = async {
            while self.with_machine(Machine::applied) < index {
                tokio::time::sleep(limits::VACANCY_CHECK).await;
            }
        };
        tokio::time::timeout(limit, applied).await.is_ok()
    }

    /// Whether `follower`'s log is at most a few entries behind this leader's.
    pub(crate) fn is_caught_up(&self, follower: NodeId) -> bool {
        const CLOSE: u64 = 1000;
        let metrics = self.raft.metrics().borrow_watched().clone();
        let matched = metrics.replication.as_ref().and_then(|all| all.get(&follower).copied().flatten());
        let last = metrics.last_log_index.unwrap_or(0);
        matched.is_some_and(|matched| matched.index + CLOSE >= last)
    }

    /// Whether a snapshot, or a purge behind one, would let go of entries.
    ///
    /// A follower purges as soon as it is told to. If it has not, then it was told while it led, the purge waited for
    /// entries on their way to others, and openraft has forgotten it: it tries again only while it leads, and takes no second
    /// order for the same index. So that counts as done, and what helps is taken: the first entry of the leader that came
    /// after.
    pub(crate) fn can_be_purged(&self) -> bool {
        let newest = self.status();
        let told =
            if newest.leader == Some(self.node_id) { 0 } else { self.told_to_purge.load(Ordering::Relaxed) };
        newest.applied > newest.purged.max(told)
    }

    async fn purge(&self, upto: u64) {
        // If that fails, the group has stopped: then so does the node.
        let _ = self.raft.trigger().purge_log(upto).await;
        self.told_to_purge.fetch_max(upto, Ordering::Relaxed);
    }

    /// Purges the log up to the newest snapshot, but for the entries that late followers may want.
    ///
    /// openraft can do so after each snapshot. But a leader purges only when nobody is being sent what is to go, and
    /// a schedule of openraft's would replace one of [`Group::snapshot_and_purge`] that goes further and still waits.
    /// To trigger each purge never goes back.
    async fn purge_behind_snapshot(&self) {
        if self.rebuilding.load(Ordering::Acquire) {
            return;
        }
        let upto = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let upto = metrics.snapshot.map_or(0, |id| id.index).saturating_sub(self.entries_behind_snapshot);
            (upto > metrics.purged.map_or(0, |id| id.index)).then_some(upto)
        };
        if let Some(upto) = upto {
            self.purge(upto).await;
        }
    }

    /// Snapshots the group and purges its log up to there, whatever the settings keep for late followers.
    pub(crate) async fn snapshot_and_purge(&self) {
        if self.rebuilding.load(Ordering::Acquire) {
            return;
        }
        let newest = self.status();
        if newest.snapshot_index > newest.purged {
            self.purge(newest.snapshot_index).await;
        }
        if newest.applied > newest.snapshot_index {
            let _ = self.raft.trigger().snapshot().await;
        }
    }

    /// Snapshots the group as it is now. Whether that was done; it is not if the group has stopped.
    pub async fn save(&self) -> bool {
        let wanted = self.status().applied;
        while self.status().snapshot_index < wanted {
            // One may be under way already that began too early: then this asks for nothing, and must ask again.
            if self.raft.trigger().snapshot().await.is_err() {
                return false;
            }
            tokio::time::sleep(limits::SNAPSHOT_CHECK).await;
        }
        true
    }

    /// Ready when the group can go on no longer, with the reason.
    pub(crate) async fn failed(&self) -> String {
        let mut metrics = self.raft.server_metrics();
        // These change seldom, and when openraft's core ends for whatever reason, they do not change: they end.
        while metrics.changed().await.is_ok() {}
        let state = self.raft.metrics().borrow_watched().running_state.clone();
        match state {
            Ok(()) | Err(Fatal::Stopped) => std::future::pending().await,
            Err(_) if is_planted(Bug::FailedGroupIgnored) => std::future::pending().await,
            Err(error) => format!("group {}: {error}", self.id),
        }
    }

    /// Stops serving and electing, aloud, if a check has found a difference.
    fn notice_difference(&self) {
        if let Some(found) = self.with_machine(Machine::difference) {
            self.distrust(found);
        }
    }

    /// Serves again: the replica is what a majority is.
    pub(crate) fn acquit(&self) {
        // First: what the machine has found is noticed again and again.
        self.machine_mut().forget_difference();
        self.trust.restore();
    }

    /// Stops serving and electing, aloud, until the replica is rebuilt. `standing` lets it stand for election then.
    pub(crate) fn distrust(&self, difference: Difference) {
        if !self.trust.distrust(difference) {
            return;
        }
        let Difference { index, ours, leaders } = difference;
        let (ours, theirs) = (format!("{ours:016x}"), format!("{leaders:016x}"));
        tracing::error!(
            group = self.id,
            index,
            ours,
            theirs,
            "this replica differs from the others, and neither serves nor votes: quoris ctl rebuild"
        );
        self.raft.runtime_config().elect(false);
    }

    async fn publish_digest(&self) {
        let Some(check) = self.with_machine(Machine::unchecked_digest) else { return };
        let (now_ms, seed) = (self.env.clock.now_ms(), self.env.rng.next_u64());
        let stamp = Stamp { now_ms, seed, ..Stamp::default() };
        // Whatever becomes of it, there will be another.
        self.write_entry(Entry { stamp: Some(stamp), check: Some(check), ..Entry::default() }).await;
    }

    fn count_leaderless(&self) {
        let ticks = self.leaderless.load(Ordering::Relaxed);
        self.leaderless
            .store(if self.vacancy.is_filled() { 0 } else { ticks.saturating_add(1) }, Ordering::Relaxed);
    }

    /// Refuses, in words, a vote for somebody else. A distrusted replica, whose log is as good as any, gives its vote only
    /// if the group cannot do without it: to who takes over from a leader that resigns, for it may be distrusted itself,
    /// and when there has been no leader for long, for more replicas may be distrusted than rightly are.
    pub(crate) fn check_may_grant(&self, takes_over: bool) -> Result<(), String> {
        let needed = takes_over || self.leaderless.load(Ordering::Relaxed) >= limits::TICKS_TO_LAST_RESORT;
        match self.difference() {
            Some(_) if !needed => Err("its replica differs from the others".into()),
            _ => Ok(()),
        }
    }

    fn machine_mut(&self) -> RwLockWriteGuard<'_, Machine> {
        // A panic in apply ends the process: there is no state to go on with.
        self.machine.write().expect("apply has panicked")
    }

    fn machine(&self) -> RwLockReadGuard<'_, Machine> {
        // A panic in apply ends the process: there is no state to go on with.
        self.machine.read().expect("apply has panicked")
    }

    fn has_due_keys(&self) -> bool {
        let now_ms = self.env.clock.now_ms();
        self.with_machine(|machine| machine.keyspace().next_deadline_ms().is_some_and(|at| at < now_ms))
    }
}

/// What a replica does now and then: its leader writes entries that carry the time, while keys are due and nothing
/// else moves the machine's clock, and entries that say what its replica looks like, for the others to compare.
async fn tick(group: std::sync::Weak<Group>) {
    for round in 1u32.. {
        tokio::time::sleep(limits::TICK_INTERVAL).await;
        let Some(group) = group.upgrade() else { return };
        // So that it is remembered when the leader is gone.
        group.last_leader();
        group.vacancy.review();
        group.count_leaderless();
        group.notice_difference();
        group.purge_behind_snapshot().await;
        // What a distrusted leader would say of its replica misleads the others.
        if !group.is_leader() || group.trust.is_distrusted() {
            continue;
        }
        if group.watcher.expiry() == Expiry::AtOnce {
            group.remove_due().await;
        }
        if round.is_multiple_of(limits::TICKS_PER_CHECK) {
            group.publish_digest().await;
        }
    }
}
