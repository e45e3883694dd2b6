//! Takes a leader's snapshot into a replica, unless the replica's log needs none.
//!
//! A leader decides to send a snapshot by what it knows of the follower's log, and that may be old: the entries that the
//! snapshot covers, and later ones, may have arrived meanwhile while the answers were lost. Raft keeps such a log. openraft
//! does, too, but then counts the snapshot's last entry as the last one that was submitted to the log, though later ones
//! were: a debug build ends on an assertion (`io_progress.rs`, "expect submitted"), and a release build applies no entry
//! after the snapshot until the leader appends another one.
//!
//! So each snapshot is first offered, before it is sent and again when it has come, as an append of nothing after the snapshot's
//! last entry, which tells that this entry is committed. A log that has the entry answers with success: it has, durably, all that is in the snapshot. A log that has
//! not answers with a conflict, and takes the snapshot. An append that overtakes it changes nothing: openraft
//! remembers the commit index of an append that conflicts, so when the entry arrives after all it is committed
//! that moment, and openraft takes no snapshot of what is committed. Hence the invariant: no snapshot is installed into a
//! log that reaches as far as the snapshot.

use openraft::errors::RaftError;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};

use crate::consensus::{LogId, TypeConfig, Vote};
use crate::group::GroupRaft;
use crate::storage::Snapshot;

/// What became of a leader's snapshot.
#[derive(Debug, PartialEq, Eq)]
pub enum Installed {
    /// The replica is at least where the snapshot is.
    Whole,
    /// It was before, without the snapshot.
    NotNeeded,
    /// The replica knows a newer vote, and has taken nothing.
    Refused(Vote),
}

/// What a replica says to a leader's snapshot.
#[derive(Debug, PartialEq, Eq)]
pub enum Offered {
    /// It needs it.
    Wanted,
    /// It has all that is in it.
    NotNeeded,
    /// It knows a newer vote.
    Refused(Vote),
}

/// Offers the replica a snapshot of the entries up to `last`, of the leader with `vote`.
pub async fn offer(
    raft: &GroupRaft,
    vote: Vote,
    last: Option<LogId>,
) -> Result<Offered, RaftError<TypeConfig>> {
    let offer = AppendEntriesRequest { vote, prev_log_id: last, leader_commit: last, entries: Vec::new() };
    Ok(match raft.append_entries(offer).await? {
        AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_) => Offered::NotNeeded,
        AppendEntriesResponse::HigherVote(newer) => Offered::Refused(newer),
        AppendEntriesResponse::Conflict => Offered::Wanted,
    })
}

/// Brings the replica to where `snapshot`, sent by the leader with `vote`, is.
pub async fn install(
    raft: &GroupRaft,
    vote: Vote,
    snapshot: Snapshot,
) -> Result<Installed, RaftError<TypeConfig>> {
    match offer(raft, vote, snapshot.meta.last_log_id).await? {
        Offered::NotNeeded => Ok(Installed::NotNeeded),
        Offered::Refused(newer) => Ok(Installed::Refused(newer)),
        Offered::Wanted => match raft.install_full_snapshot(vote, snapshot).await?.vote {
            same if same == vote => Ok(Installed::Whole),
            newer => Ok(Installed::Refused(newer)),
        },
    }
}

#[cfg(test)]
mod tests {
    use quoris_engine::entry::Topology;
    use std::path::Path;
    use std::sync::{Arc, RwLock};
    use std::time::Duration;

    use openraft::async_runtime::watch::WatchReceiver;
    use openraft::entry::RaftEntry;
    use openraft::{Config, EntryPayload, Raft, SnapshotPolicy};
    use openraft_rt::deterministic_rng::DeterministicRng;
    use openraft_rt_tokio::TokioRuntime;
    use quoris_engine::Machine;

    use super::*;
    use crate::consensus::{Entry, LogId, Membership};
    use crate::env::Rng;
    use crate::env::fake_disk::{FakeDisk, FakeDiskOptions};
    use crate::links::Links;
    use crate::log::{LogOptions, SharedLog};
    use crate::members::Members;
    use crate::network::Network;
    use crate::pace::Pace;
    use crate::slot_map::SlotMap;
    use crate::snapshot_store::SnapshotStore;
    use crate::storage::{LogStore, Picture, Replica};
    use crate::thrifty::Thrifty;
    use crate::trust::Trust;

    const TERM: u64 = 4;
    const LEADER: u64 = 1;

    struct AnyRng;

    impl Rng for AnyRng {
        fn next_u64(&self) -> u64 {
            7
        }
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(DeterministicRng::<TokioRuntime>::scope(7, test));
    }

    /// Group 0's replica on node `id`; its peers cannot be reached, and it does nothing by itself.
    async fn replica(id: u64) -> GroupRaft {
        let disk = FakeDisk::new(id, FakeDiskOptions::default());
        let log = SharedLog::open(disk.mount(), Arc::new(AnyRng), Path::new("/log"), LogOptions::default());
        let log = log.expect("a fresh log").group(0);
        let store = SnapshotStore::open(disk.mount(), Path::new("/snapshots"), 0, Pace::default())
            .expect("a fresh directory");
        let machine = Arc::new(RwLock::new(Machine::new(id)));
        let (slots, trust) = (Arc::new(SlotMap::new(&Topology::default())), Arc::new(Trust::new(None)));
        let picture = Picture { slots, members: Members::new(id, "test", Topology::default()) };
        let machine = Replica::new(0, machine, store, Arc::new(()), trust, picture, id);
        let (links, thrifty) = (Links::default(), Thrifty::new(0, id, true));
        let network = Network { cluster_id: "test".into(), group: 0, links, log: log.clone(), thrifty };
        let log = LogStore::new(log);
        let config =
            Config { snapshot_policy: SnapshotPolicy::Never, enable_elect: false, ..Config::default() };
        let config = Arc::new(config.validate().expect("a sound configuration"));
        let raft = Raft::build(id, config, network, log, machine).await.expect("a fresh replica");
        raft.run();
        raft
    }

    fn at(index: u64) -> Option<LogId> {
        // Entry 0 is the founding membership.
        Some(LogId::new_term_index(if index == 0 { 0 } else { TERM }, index))
    }

    fn entry(index: u64) -> Entry {
        let payload = match index {
            0 => EntryPayload::Membership(Membership::new_with_defaults(vec![[1, 2, 3].into()], [])),
            _ => EntryPayload::Blank,
        };
        Entry::new(at(index).expect("an id"), payload)
    }

    /// The leader sends the entries from `first` to `last`; none, if that is the one before, to say what is committed.
    async fn append(to: &GroupRaft, first: u64, last: u64, commit: Option<LogId>) {
        let prev_log_id = first.checked_sub(1).and_then(at);
        let vote = Vote::new_committed(TERM, LEADER);
        let entries = (first..=last).map(entry).collect();
        let request = AppendEntriesRequest { vote, prev_log_id, leader_commit: commit, entries };
        let reply = to.append_entries(request).await.expect("a running replica");
        assert!(reply.is_success(), "{reply}");
    }

    async fn has_applied(raft: &GroupRaft, index: u64) {
        let applied = raft.wait(Some(Duration::from_secs(5))).applied_index(Some(index), "applied").await;
        applied.expect("a running replica that applies what is committed");
    }

    /// A snapshot of the entries up to 10, as a replica makes it.
    async fn snapshot() -> Snapshot {
        let other = replica(3).await;
        append(&other, 0, 10, at(10)).await;
        has_applied(&other, 10).await;
        other.trigger().snapshot().await.expect("a running replica");
        let made = other.wait(Some(Duration::from_secs(5))).snapshot(at(10).expect("an id"), "made").await;
        made.expect("a snapshot");
        other.get_snapshot().await.expect("a running replica").expect("a snapshot")
    }

    #[test]
    fn a_log_that_is_longer_than_the_snapshot_goes_on() {
        run(async {
            let raft = replica(2).await;
            // The answers were lost, and so was the word that the entries are committed.
            append(&raft, 0, 11, None).await;
            let offered = offer(&raft, Vote::new_committed(TERM, LEADER), at(10)).await;
            assert_eq!(offered.expect("a running replica"), Offered::NotNeeded);
            let vote = install(&raft, Vote::new_committed(TERM, LEADER), snapshot().await).await;
            assert_eq!(vote.expect("a running replica"), Installed::NotNeeded);
            has_applied(&raft, 10).await;
            // A heartbeat, not another entry.
            append(&raft, 12, 11, at(11)).await;
            has_applied(&raft, 11).await;
        });
    }

    #[test]
    fn a_log_that_is_shorter_takes_the_snapshot() {
        run(async {
            let raft = replica(2).await;
            append(&raft, 0, 4, at(2)).await;
            let offered = offer(&raft, Vote::new_committed(TERM, LEADER), at(10)).await;
            assert_eq!(offered.expect("a running replica"), Offered::Wanted);
            let installed = install(&raft, Vote::new_committed(TERM, LEADER), snapshot().await).await;
            assert_eq!(installed.expect("a running replica"), Installed::Whole);
            has_applied(&raft, 10).await;
            assert_eq!(raft.metrics().borrow_watched().snapshot, at(10));
            append(&raft, 11, 11, at(11)).await;
            has_applied(&raft, 11).await;
        });
    }

    #[test]
    fn a_deposed_leader_is_refused() {
        run(async {
            let raft = replica(2).await;
            append(&raft, 0, 4, at(4)).await;
            let offered = offer(&raft, Vote::new_committed(TERM - 1, 3), at(10)).await;
            let newer = Vote::new_committed(TERM, LEADER);
            assert_eq!(offered.expect("a running replica"), Offered::Refused(newer));
            let vote = install(&raft, Vote::new_committed(TERM - 1, 3), snapshot().await).await;
            assert_eq!(
                vote.expect("a running replica"),
                Installed::Refused(Vote::new_committed(TERM, LEADER))
            );
            assert_eq!(raft.metrics().borrow_watched().snapshot, None);
        });
    }
}
