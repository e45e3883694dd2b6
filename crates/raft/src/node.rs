//! One node: its groups, its log, its peers.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use bytes::Bytes;
use openraft::{Config, Raft, SnapshotPolicy};
use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt_tokio::TokioRuntime;
use quoris_engine::digest::Difference;
use quoris_engine::entry::{NodeInfo, Topology};
use quoris_engine::{Machine, SlotId};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::catalog::{Catalog, CatalogError};
use crate::env::Env;
use crate::founding;
use crate::group::{Ground, Group};
use crate::limits;
use crate::links::Links;
use crate::log::{LogError, LogOptions, SharedLog};
use crate::members::Members;
use crate::membership;
use crate::moves;
use crate::network::Network;
use crate::pace::Pace;
use crate::planted::{Bug, is_planted};
use crate::rejoin;
use crate::service::Service;
use crate::slot_map::SlotMap;
use crate::snapshot_store::{SnapshotStore, SnapshotStoreError};
use crate::standing::Standing;
use crate::storage::{LogStore, Picture, Replica};
use crate::thrifty::Thrifty;
use crate::trust::Trust;
use crate::types::{GroupId, NodeId, Watcher};
use crate::upkeep;
use crate::wire::proto::{MayLead, frame};

/// What a node is told at start.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// This node.
    pub node_id: NodeId,
    /// The cluster's name; peers of another one are refused.
    pub cluster_id: String,
    /// Where the other nodes reach this one, `host:port`.
    pub peer_listen: String,
    /// Where everything durable is kept.
    pub data_dir: PathBuf,
    /// Every node, this one included, at the founding; of a node that joins later, the members that it is to be one of.
    pub initial_cluster: Vec<NodeInfo>,
    /// How many groups the slots are spread over when the cluster is founded.
    pub groups: u32,
    /// Timeouts.
    pub timing: Timing,
    /// Sizes.
    pub limits: Limits,
    /// How reads are made safe.
    pub read_mode: ReadMode,
    /// Whether a leader asks no more followers at once than it needs for a quorum.
    pub thrifty: bool,
}

/// Timeouts, in milliseconds.
#[derive(Clone, Debug)]
pub struct Timing {
    /// A leader says so this often.
    pub heartbeat_interval_ms: u64,
    /// A follower stands for election after it has heard nothing for three to four times as long: the dead leader's
    /// lease (twice this) must run out first.
    pub election_timeout_ms: u64,
    /// Calls for a group without a leader wait for the next one until it has been missed for this long; 0: never.
    pub leader_wait_ms: u64,
    /// A write that has not been applied after this long is answered `UNKNOWN`.
    pub write_timeout_ms: u64,
}

/// Sizes, in the units of their names.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A log segment file.
    pub log_segment_bytes: u64,
    /// All of the log; a group that pins more is snapshotted.
    pub log_bytes: u64,
    /// Recent entries kept in memory.
    pub log_cache_bytes: u64,
    /// A group is snapshotted after this many entries.
    pub snapshot_entries: u64,
    /// Entries kept behind a snapshot, for followers that are a little late.
    pub entries_behind_snapshot: u64,
    /// A piece of a slot that moves to another group is closed once it has so many.
    pub move_piece_bytes: usize,
}

/// How a read is made safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// Linearizable: leadership is confirmed by a quorum after the read arrived.
    ReadIndex,
    /// The leader answers within its lease: linearizable while clocks drift little and no node is paused.
    Lease,
    /// Whatever this replica has: may be stale.
    Local,
}

/// Why a node cannot start; one line for the person who started it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory's identity.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The snapshots.
    #[error(transparent)]
    Snapshot(#[from] SnapshotStoreError),
    /// It is no member any more.
    #[error(
        "node {0} was removed from the cluster, for good: start a node with another node-id and an empty data-dir, and \
         quoris ctl add-node"
    )]
    Removed(NodeId),
    /// The settings of who founded the cluster are others.
    #[error("groups: got {ours}, but the cluster was founded with {theirs}: set groups = {theirs}")]
    Groups {
        /// As this node is told.
        ours: u32,
        /// As the cluster has.
        theirs: usize,
    },
    /// The peers' port.
    #[error("cannot listen for peers on {addr}: {source}")]
    Listen {
        /// The address.
        addr: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Consensus could not begin.
    #[error("cannot start group {group}: {reason}")]
    Group {
        /// The group.
        group: GroupId,
        /// What went wrong.
        reason: String,
    },
}

/// A running node.
pub struct Node {
    pub(crate) env: Env,
    config: NodeConfig,
    members: Members,
    slots: Arc<SlotMap>,
    groups: Vec<Arc<Group>>,
    pub(crate) links: Links,
    pub(crate) log: SharedLog,
    pub(crate) standing: Arc<Standing>,
    snapshots: BTreeMap<GroupId, SnapshotStore>,
    /// While the node is a newcomer: who votes in a group, as the others say.
    pub(crate) named: Mutex<BTreeSet<NodeId>>,
    /// Whether the node is no member any more, and remembers that.
    pub(crate) has_left: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Node {
    /// Opens the data directory, recovers, listens for peers and joins its groups.
    /// `watcher` learns of what is applied.
    pub async fn start(
        env: Env,
        config: NodeConfig,
        watcher: Arc<dyn Watcher>,
    ) -> Result<Arc<Node>, StartError> {
        let seed = env.rng.next_u64();
        DeterministicRng::<TokioRuntime>::scope(seed, start(env, config, watcher)).await
    }

    /// This node's number.
    pub fn id(&self) -> NodeId {
        self.config.node_id
    }

    /// What it was started with.
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// The members as far as this node knows, and the slots of each group as they were at the founding: which they are now,
    /// [`Node::slots`] tells.
    pub fn topology(&self) -> Arc<Topology> {
        self.members.get()
    }

    /// The members, and who was removed and a group still counts on: it may lead one.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        let topology = self.topology();
        let counted = |info: &&NodeInfo| self.groups.iter().any(|group| group.counts_on(info.id));
        topology.nodes.iter().chain(topology.removed.iter().filter(counted)).cloned().collect()
    }

    /// Who the members are, and how that changes.
    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    /// Which group serves each slot.
    pub fn slots(&self) -> &SlotMap {
        &self.slots
    }

    /// The group that serves `slot`, or that did last if it is moving.
    pub fn group_of(&self, slot: SlotId) -> &Arc<Group> {
        &self.groups[self.slots.place(slot).group as usize]
    }

    /// All groups with a replica here, in the order of their numbers.
    pub fn groups(&self) -> &[Arc<Group>] {
        &self.groups
    }

    /// Whether the link to `node` stands (always true for this node).
    pub fn is_reachable(&self, node: NodeId) -> bool {
        node == self.id() || self.links.is_up(node)
    }

    /// Tells the servers on all other nodes ([`Watcher::told`]): at most once, in order, and not at all those that cannot
    /// be reached now or do not take what they are sent. How many those are, as far as is known.
    pub fn tell_peers(&self, notice: &Bytes) -> usize {
        self.links.all().values().filter(|link| !link.tell(notice.clone())).count()
    }

    /// The voters of `group` in reach, in the order in which they stand for election when the process of its leader dies.
    /// Rotated by the group, so that groups which die together do not all go to one node.
    pub fn heirs(&self, group: GroupId) -> Vec<NodeId> {
        let voters: BTreeSet<NodeId> = self.groups[group as usize].status().voters.into_iter().collect();
        let mut heirs: Vec<NodeId> = voters.into_iter().filter(|id| self.is_reachable(*id)).collect();
        // A node that is to join votes nowhere, and knows of nobody who does.
        let places = (group as usize).checked_rem(heirs.len()).unwrap_or(0);
        heirs.rotate_left(places);
        heirs
    }

    /// Bytes of all files of the log.
    pub fn log_bytes_used(&self) -> u64 {
        self.log.bytes_used()
    }

    /// Whether this node votes (`standing` says when it does not).
    pub fn is_voter(&self) -> bool {
        self.standing.is_voter()
    }

    /// Ready when the node can no longer keep its promise and must stop, with the reason.
    pub async fn failed(&self) -> String {
        let mut log_failure = self.log.watch_failure();
        let log_failed = async {
            match log_failure.wait_for(Option::is_some).await {
                Ok(reason) => reason.clone().unwrap_or_default(),
                Err(_) => std::future::pending().await,
            }
        };
        let has_left = async {
            // The sender is part of this.
            let _ = self.has_left.subscribe().wait_for(|left| *left).await;
        };
        let group_failed =
            futures::future::select_all(self.groups.iter().map(|group| Box::pin(group.failed())));
        tokio::select! {
            biased;
            reason = log_failed => format!("the log has failed: {reason}"),
            (reason, _, _) = group_failed => reason,
            () = has_left => StartError::Removed(self.id()).to_string(),
            topology = self.other_groups() => {
                StartError::Groups { ours: self.config.groups, theirs: topology.groups.len() }.to_string()
            }
        }
    }

    /// Ready when the cluster turns out to have more groups than this node, or fewer.
    async fn other_groups(&self) -> Arc<Topology> {
        let differs = |topology: &Arc<Topology>| topology.groups.len() != self.groups.len();
        match self.members.changes().wait_for(differs).await {
            Ok(topology) => Arc::clone(&topology),
            Err(_) => std::future::pending().await,
        }
    }

    /// Where the snapshots of `group`, which has a replica here, are kept.
    pub(crate) fn snapshots(&self, group: GroupId) -> &SnapshotStore {
        &self.snapshots[&group]
    }

    /// Whether this node is the one that founds the cluster: the one with the lowest number.
    pub(crate) fn is_founder(&self) -> bool {
        self.topology().nodes.iter().all(|node| node.id >= self.id())
    }

    /// The node that should lead `group` when it can.
    pub(crate) fn preferred_leader(&self, group: GroupId) -> Option<NodeId> {
        self.topology().groups.iter().find(|info| info.id == group).map(|info| info.preferred_leader)
    }

    /// Stops. [`Node::hand_over`] comes first.
    pub async fn shutdown(&self) {
        for group in &self.groups {
            if let Err(error) = group.raft.shutdown().await {
                tracing::warn!(group = group.id(), %error, "the group did not stop cleanly");
            }
        }
        self.stop_tasks();
        if let Err(error) = self.log.close().await {
            tracing::warn!(%error, "the log did not close cleanly");
        }
    }

    /// Gives each group this node leads to a peer, and waits a moment for it to take over. Clients are served
    /// meanwhile: they are sent to the new leader.
    pub async fn hand_over(&self) {
        let heir = |group: &Arc<Group>| {
            let voters = group.status().voters;
            let others = voters.into_iter().filter(|id| *id != self.id() && self.is_reachable(*id));
            // Spread over the peers rather than all to one.
            let others: Vec<NodeId> = others.collect();
            (!others.is_empty()).then(|| others[group.id() as usize % others.len()])
        };
        let mut leaving = Vec::new();
        for group in self.groups.iter().filter(|group| group.is_leader()) {
            // If nobody can take over, the others elect when this node is gone.
            if let Some(heir) = heir(group)
                && self.hand_over_to(group, heir).await
            {
                leaving.push(group);
            }
        }
        let handed_over = async {
            while leaving.iter().any(|group| group.is_leader()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let patience = Duration::from_millis(2 * self.config.timing.election_timeout_ms);
        if tokio::time::timeout(patience, handed_over).await.is_err() {
            tracing::warn!("stopping while still leading a group: no peer took over");
        }
    }

    /// Asks `heir` to take over `group`; false if it will not, and nothing was begun.
    pub(crate) async fn hand_over_to(&self, group: &Group, heir: NodeId) -> bool {
        let Some(link) = self.links.get(heir) else { return false };
        let asked = link.request(group.id(), frame::Body::MayLead(MayLead {}));
        match tokio::time::timeout(limits::CONNECT_TIMEOUT, asked).await {
            Ok(Ok(frame::Body::MayLeadReply(reply))) if reply.ready => {
                group.transfer_leader(heir).await.is_ok()
            }
            _ => false,
        }
    }

    fn stop_tasks(&self) {
        self.links.close();
        self.tasks.lock().expect("no code panics while it holds this lock").drain(..).for_each(|t| t.abort());
    }

    /// Links up with the members, and with nobody else but those that a group still counts on.
    pub(crate) fn follow_members(self: &Arc<Node>) {
        let named = self.named.lock().expect("no code panics while it holds this lock").clone();
        let counted = |id| named.contains(&id) || self.groups.iter().any(|group| group.counts_on(id));
        for link in self.links.follow(&self.env, &self.members, &self.topology(), counted) {
            self.spawn(upkeep::watch_for_death(Arc::downgrade(self), link));
        }
    }

    fn spawn(self: &Arc<Node>, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().expect("no code panics while it holds this lock").push(tokio::spawn(task));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop_tasks();
    }
}

async fn start(env: Env, config: NodeConfig, watcher: Arc<dyn Watcher>) -> Result<Arc<Node>, StartError> {
    let catalog = Catalog::open(&env.disk, &config.data_dir, config.node_id, &config.cluster_id)?;
    rejoin::finish(&env.disk, &config.data_dir, &catalog)?;
    let log = open_log(&env, &config, catalog.is_voter())?;
    let members = members(&config, &catalog)?;
    let (slots, links) = (Arc::new(SlotMap::new(&members.get())), Links::default());
    // Who comes back to a cluster is not empty, whatever it has.
    let (mut groups, mut snapshots, mut empty) = (Vec::new(), BTreeMap::new(), !catalog.rejoins());
    for id in 0..config.groups {
        let (dir, pace) = (config.data_dir.join("snapshots"), Pace::of(log.clone()));
        let store = SnapshotStore::open(Arc::clone(&env.disk), &dir, id, pace)?;
        empty &= store.current().is_none() && !log.groups().contains(&id);
        let parts = GroupParts {
            id,
            log: log.clone(),
            snapshots: store.clone(),
            watcher: Arc::clone(&watcher),
            links: links.clone(),
            picture: Picture { slots: Arc::clone(&slots), members: members.clone() },
            may_elect: catalog.is_voter(),
            distrusted: distrusted(&catalog, id),
        };
        let group = start_group(&env, &config, parts).await?;
        snapshots.insert(id, store);
        groups.push(group);
    }
    let standing = Arc::new(Standing::new(catalog, empty, config.groups));
    let (standing_here, log_here) = (Arc::clone(&standing), log.clone());
    let service = Service::new(members.clone(), &groups, snapshots.clone(), log_here, standing_here, watcher);
    let listener = env.net.listen(&config.peer_listen).await;
    let listener =
        listener.map_err(|source| StartError::Listen { addr: config.peer_listen.clone(), source })?;
    let node = Arc::new(Node {
        env,
        config,
        members,
        slots,
        groups,
        links,
        log,
        standing,
        snapshots,
        named: Mutex::default(),
        has_left: watch::Sender::new(false),
        tasks: Mutex::new(Vec::new()),
    });
    node.spawn(upkeep::serve_peers(listener, service));
    node.follow_members();
    node.spawn(upkeep::keep_links(Arc::downgrade(&node)));
    node.spawn(upkeep::leave(Arc::downgrade(&node)));
    node.spawn(upkeep::found(Arc::downgrade(&node)));
    node.spawn(upkeep::keep_leaders_spread(Arc::downgrade(&node)));
    node.spawn(upkeep::keep_log_bounded(Arc::downgrade(&node)));
    for group in node.groups() {
        node.spawn(moves::keep_taking_in(Arc::downgrade(&node), Arc::clone(group)));
        node.spawn(moves::keep_letting_go(Arc::downgrade(&node), Arc::clone(group)));
        node.spawn(membership::keep_members(Arc::downgrade(&node), Arc::clone(group)));
    }
    Ok(node)
}

/// What was recorded of a replica that is not to be trusted.
fn distrusted(catalog: &Catalog, group: GroupId) -> Option<Difference> {
    let recorded = catalog.distrusted().into_iter().find(|recorded| recorded.group == group)?;
    tracing::error!(
        group,
        recorded.index,
        "this replica differed from the others, and neither serves nor votes: quoris ctl rebuild"
    );
    Some(Difference { index: recorded.index, ours: recorded.ours, leaders: recorded.theirs })
}

pub(crate) fn open_log(env: &Env, config: &NodeConfig, is_voter: bool) -> Result<SharedLog, LogError> {
    // A log that is busy is purged when half of it is live: then what was live is enough for all that comes, and none
    // of it need be made anew.
    let max_spares = config.limits.log_bytes / config.limits.log_segment_bytes / 2;
    let options = LogOptions {
        segment_bytes: config.limits.log_segment_bytes,
        cache_bytes: config.limits.log_cache_bytes as usize,
        max_bytes: config.limits.log_bytes,
        // A voter that finds no log has lost its votes.
        must_exist: is_voter,
        max_spares: max_spares as usize,
    };
    SharedLog::open(Arc::clone(&env.disk), Arc::clone(&env.rng), &config.data_dir.join("log"), options)
}

/// Who the members are, as this node knew last; at first as its settings say.
fn members(config: &NodeConfig, catalog: &Catalog) -> Result<Members, StartError> {
    let topology = catalog.topology().unwrap_or_else(|| founding::topology(config));
    // Who was removed and not dismissed is still needed.
    if catalog.is_dismissed() {
        return Err(StartError::Removed(config.node_id));
    }
    if topology.groups.len() != config.groups as usize {
        return Err(StartError::Groups { ours: config.groups, theirs: topology.groups.len() });
    }
    let (own, known) = (|node: &&NodeInfo| node.id == config.node_id, topology.node(config.node_id));
    if let (Some(own), Some(known)) = (config.initial_cluster.iter().find(own), known)
        && own != known
    {
        let (clients, peers) = (&known.client_addr, &known.peer_addr);
        tracing::warn!(
            clients,
            peers,
            "the cluster knows this node at other addresses than its settings do: quoris ctl add-node changes them"
        );
    }
    Ok(Members::new(config.node_id, &config.cluster_id, topology))
}

/// What one group's replica is made of.
struct GroupParts {
    id: GroupId,
    log: SharedLog,
    snapshots: SnapshotStore,
    watcher: Arc<dyn Watcher>,
    links: Links,
    picture: Picture,
    may_elect: bool,
    distrusted: Option<Difference>,
}

async fn start_group(env: &Env, config: &NodeConfig, parts: GroupParts) -> Result<Arc<Group>, StartError> {
    let GroupParts { id, log, snapshots, watcher, links, picture, may_elect, distrusted } = parts;
    let failed = |reason: String| StartError::Group { group: id, reason };
    let raft_config = Arc::new(raft_config(config).validate().map_err(|error| failed(error.to_string()))?);
    let hash_seed = env.rng.next_u64();
    let machine = Arc::new(RwLock::new(Machine::new(hash_seed)));
    let thrifty = Thrifty::new(id, config.node_id, config.thrifty);
    let network = Network {
        cluster_id: config.cluster_id.clone(),
        group: id,
        links: links.clone(),
        log: log.group(id),
        thrifty: thrifty.clone(),
    };
    let store = LogStore::new(log.group(id));
    let trust = Arc::new(Trust::new(distrusted));
    let replica = Replica::new(
        id,
        Arc::clone(&machine),
        snapshots,
        Arc::clone(&watcher),
        Arc::clone(&trust),
        picture,
        hash_seed,
    );
    let raft = Raft::build(config.node_id, raft_config, network, store, replica).await;
    let raft = raft.map_err(|error| failed(error.to_string()))?;
    raft.runtime_config().elect(may_elect && distrusted.is_none());
    raft.run();
    thrifty.follow(raft.server_metrics());
    let ground = Ground { env: env.clone(), links, log, watcher, trust, thrifty };
    Ok(Group::start(id, raft, machine, ground, config))
}

fn raft_config(config: &NodeConfig) -> Config {
    let timing = &config.timing;
    Config {
        cluster_name: config.cluster_id.clone(),
        heartbeat_interval: timing.heartbeat_interval_ms,
        election_timeout_min: timing.election_timeout_ms,
        election_timeout_max: 2 * timing.election_timeout_ms,
        enable_pre_vote: Some(true),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.limits.snapshot_entries),
        // Never by itself: `Group::purge_behind_snapshot` does, lest two schedules get in each other's way.
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: config.limits.entries_behind_snapshot.max(config.limits.snapshot_entries)
            + 1,
        // A wiped node comes back with an empty log; `standing` keeps it from voting until it has caught up.
        allow_log_reversion: Some(true),
        // A leader that restarts must be elected anew: what it knows to be committed may be older than what it had
        // acknowledged, and only the no-op of a new term makes its reads as fresh as they must be.
        enable_leader_restore: Some(is_planted(Bug::SkipNoop)),
        // A snapshot of any size gets through as long as its bytes move.
        install_snapshot_timeout: 600_000,
        ..Config::default()
    }
}
