//! Rebuilding a distrusted replica: its state is thrown away and replaced by the leader's.
//!
//! Only the state goes. The log and the votes stay: their bytes came from leaders and have matched their checksums, so the
//! node forgets neither what it has acknowledged nor for whom it has voted, and the group's quorum is as large during a
//! rebuild as before it. That is why a rebuild need refuse nothing for the quorum's sake: the replica that is rebuilt does
//! not vote already, and what its log adds to the quorum it goes on adding.
//!
//! 1. An audit shows that a majority of the replicas have one state, and the leader has it. Else there would be nothing to
//!    build on, and a broken leader's state would spread.
//! 2. The leader makes a snapshot that is no older than what has been applied here, and sends it.
//! 3. A machine is made of it, and brought by the entries of this node's own log to where the replica is. While this
//!    lasts, nothing is purged here.
//! 4. The replica's machine is exchanged for it, between two entries.
//! 5. Another audit's entry comes after the exchange, and shows the new state to be the leader's.
//! 6. A snapshot, of after the audit, makes the new state durable; it replaces those of the old one.
//! 7. Only then does distrust end, in memory and in the catalog.
//!
//! A crash at any point leaves either the old state or the new one, and the record of distrust: the node starts
//! distrusted, and may be told to rebuild again.

use std::sync::atomic::Ordering;

use quoris_engine::Machine;
use quoris_engine::snapshot::Restore;

use crate::group::Group;
use crate::limits;
use crate::network::{read_off, receive};
use crate::node::Node;
use crate::snapshot_store::{SnapshotFile, SnapshotStore};
use crate::storage::{LogStore, apply_entry};
use crate::types::NodeId;
use crate::wire::proto::{self, frame, peer_client::PeerClient};

/// Why a replica was not rebuilt. It is as distrusted as before.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// There is nothing wrong with it.
    #[error("the replica here has not been found to differ: there is nothing to rebuild")]
    Trusted,
    /// One rebuild at a time.
    #[error("the replica is being rebuilt already")]
    UnderWay,
    /// Nobody has a state to give, or this node does, which hands over what it leads.
    #[error("no other node in reach leads the group: try again when one does")]
    NoLeader,
    /// There is no state that more than half of the replicas have, or the leader has another one.
    #[error(
        "no majority of the replicas is shown to have what the leader has: see quoris ctl verify --whole"
    )]
    NoMajority,
    /// The leader's snapshot did not arrive.
    #[error("the leader's snapshot did not arrive: {0}")]
    Snapshot(String),
    /// The entries between the leader's snapshot and where this replica is cannot be read.
    #[error("entries of this node's log that follow the leader's snapshot cannot be read: {0}")]
    Log(String),
    /// Even the new state differs: what applies entries here does so in another way than there.
    #[error("the rebuilt replica differs from its leader's again: look at this node's build and memory")]
    DiffersAgain,
    /// It could not be compared, or not be made durable.
    #[error("{0}: try again")]
    Unconfirmed(&'static str),
}

/// Ends with the rebuild, however that ends.
struct UnderWay<'a>(&'a Group);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.rebuilding.store(false, Ordering::Release);
    }
}

impl Node {
    /// Replaces the state of this node's distrusted replica of `group` by the leader's. The index at which the two were
    /// found to be the same.
    pub async fn rebuild(&self, group: &Group) -> Result<u64, RebuildError> {
        let difference = group.difference().ok_or(RebuildError::Trusted)?;
        if group.rebuilding.swap(true, Ordering::AcqRel) {
            return Err(RebuildError::UnderWay);
        }
        let _under_way = UnderWay(group);
        // What the machine has found of itself goes with the machine.
        group.distrust(difference);
        let leader =
            group.leader_in_reach().filter(|leader| *leader != self.id()).ok_or(RebuildError::NoLeader)?;
        let audit = ask_for_audit(group, leader).await?;
        if audit.majority != Some(audit.digest) {
            return Err(RebuildError::NoMajority);
        }
        tracing::warn!(group = group.id(), leader, "rebuilding the replica");
        let machine = restore(self.fetch(group, leader).await?, self.env.rng.next_u64()).await?;
        self.exchange(group, machine).await?;
        let index = compare(group, leader).await?;
        if !group.save().await {
            return Err(RebuildError::Unconfirmed("the node is stopping"));
        }
        group.trust.restore();
        if let Err(error) = self.standing.record_distrust(self.groups()).await {
            group.distrust(difference);
            tracing::error!(%error, "cannot record that the replica was rebuilt");
            return Err(RebuildError::Unconfirmed("the catalog cannot be written"));
        }
        tracing::info!(group = group.id(), index, "the replica is rebuilt, and the same as its leader's");
        Ok(index)
    }

    /// A snapshot of the leader's that holds all that is applied here.
    async fn fetch(&self, group: &Group, leader: NodeId) -> Result<SnapshotFile, RebuildError> {
        let lost = |reason: &dyn std::fmt::Display| RebuildError::Snapshot(reason.to_string());
        let channel = self.links.get(leader).and_then(|link| link.channel());
        let channel = channel.ok_or_else(|| lost(&"the link is down"))?;
        let wanted = proto::SnapshotWanted {
            cluster_id: self.config().cluster_id.clone(),
            group: group.id(),
            at_least: group.with_machine(Machine::applied),
        };
        let parts = PeerClient::new(channel).fetch_snapshot(wanted).await;
        let mut parts = parts.map_err(|status| lost(&status.message()))?.into_inner();
        let store: &SnapshotStore = self.snapshots(group.id());
        let snapshot = receive(&mut parts, store).await;
        if snapshot.is_err() {
            read_off(&mut parts).await;
        }
        snapshot.map_err(|status| lost(&status.message()))
    }

    /// Brings `machine` to where the replica is, and puts it in the place of the replica's own.
    async fn exchange(&self, group: &Group, mut machine: Machine) -> Result<(), RebuildError> {
        const ENTRIES_AT_ONCE: u64 = 1000;
        let lost = |reason: &dyn std::fmt::Display| RebuildError::Log(reason.to_string());
        let mut log = LogStore::new(self.log.group(group.id()));
        while !group.exchange(&mut machine) {
            let (have, want) = (machine.applied(), group.with_machine(Machine::applied));
            if have >= want {
                // The replica will get there by itself, or has just moved on.
                tokio::time::sleep(limits::VACANCY_CHECK).await;
                continue;
            }
            let upto = want.min(have + ENTRIES_AT_ONCE);
            let entries = log.read_entries(have + 1..upto + 1).await.map_err(|error| lost(&error))?;
            if entries.first().is_none_or(|first| first.log_id.index != have + 1) {
                return Err(lost(&"they have been purged; try again"));
            }
            for entry in &entries {
                apply_entry(&mut machine, entry).map_err(|error| lost(&error))?;
            }
        }
        Ok(())
    }
}

/// Whether the replica is what `leader`'s is, at an index after this call.
async fn compare(group: &Group, leader: NodeId) -> Result<u64, RebuildError> {
    let audit = ask_for_audit(group, leader).await?;
    let ours = group.audited(audit.index).await;
    let ours = ours.ok_or(RebuildError::Unconfirmed("the replica could not be compared in time"))?;
    match ours == audit.digest && group.with_machine(Machine::difference).is_none() {
        true => Ok(audit.index),
        false => Err(RebuildError::DiffersAgain),
    }
}

async fn ask_for_audit(group: &Group, leader: NodeId) -> Result<proto::AuditReply, RebuildError> {
    match group.ask_peer(leader, frame::Body::Audit(proto::Audit {}), limits::AUDIT_TIMEOUT).await {
        Some(frame::Body::AuditReply(reply)) => Ok(reply),
        _ => Err(RebuildError::Unconfirmed("the leader could not compare the replicas")),
    }
}

async fn restore(snapshot: SnapshotFile, hash_seed: u64) -> Result<Machine, RebuildError> {
    let damaged = |reason: &dyn std::fmt::Display| RebuildError::Snapshot(reason.to_string());
    let mut restore = Restore::new(hash_seed);
    let mut reader = snapshot.reader();
    while let Some(chunk) = reader.next().await.map_err(|error| damaged(&error))? {
        restore.push(chunk).map_err(|error| damaged(&error))?;
    }
    restore.finish().map_err(|error| damaged(&error))
}
