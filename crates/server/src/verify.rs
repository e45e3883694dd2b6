//! Whether replicas are the same, for a person to see: QUORIS AUDIT and REBUILD, and the table of `quoris ctl verify`.
//!
//! The comparing itself is `raft`'s. Here nodes are asked what they have found, and the answers stand side by side.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use quoris_engine::args::Args;
use quoris_engine::{CommandError, Reply};
use quoris_raft::audit::AuditReport;
use quoris_raft::group::Group;
use quoris_raft::types::{GroupId, NodeId};
use serde::{Deserialize, Serialize};

use crate::route;
use crate::server::Server;
use crate::status::{GroupRow, Status, put_table};

/// QUORIS AUDIT: compares the whole states of a group's replicas.
pub async fn audit(server: &Server, words: &[Bytes]) -> Reply {
    let Some(group) = group(server, words) else { return no_group() };
    match group.audit().await {
        Ok(report) => {
            Reply::bulk(serde_json::to_string(&Audit::of(report)).expect("numbers and texts are JSON"))
        }
        Err(refusal) => Reply::Error(route::refused(&server.node, refusal, None)),
    }
}

/// QUORIS REBUILD: replaces the state of this node's replica of a group by its leader's.
pub async fn rebuild(server: &Server, words: &[Bytes]) -> Reply {
    let Some(group) = group(server, words) else { return no_group() };
    match server.node.rebuild(group).await {
        Ok(index) => Reply::bulk(format!("rebuilt, and the same as its leader's at index {index}")),
        Err(error) => Reply::Error(CommandError::TryAgain(error.to_string())),
    }
}

fn group<'a>(server: &'a Server, words: &[Bytes]) -> Option<&'a Arc<Group>> {
    let id = GroupId::try_from(Args(words).int(2).ok()?).ok()?;
    server.node.groups().iter().find(|group| group.id() == id)
}

fn no_group() -> Reply {
    Reply::Error(CommandError::Text("ERR there is no such group"))
}

/// The JSON of QUORIS AUDIT.
#[derive(Debug, Serialize, Deserialize)]
pub struct Audit {
    /// Where the replicas were compared.
    pub index: u64,
    /// Each node's digest of its whole state; null if it did not answer.
    pub replicas: BTreeMap<NodeId, Option<String>>,
    /// The digest of a majority.
    pub majority: Option<String>,
}

impl Audit {
    fn of(report: AuditReport) -> Audit {
        let text = |digest: u32| format!("{digest:08x}");
        Audit {
            index: report.index,
            replicas: report.replicas.into_iter().map(|(node, digest)| (node, digest.map(text))).collect(),
            majority: report.majority.map(text),
        }
    }
}

/// What `quoris ctl verify` has found.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// A row for each replica, by group and node.
    pub replicas: Vec<ReplicaRow>,
    /// Whether every replica answered, and none differs.
    pub sound: bool,
}

/// A replica.
#[derive(Debug, Serialize)]
pub struct ReplicaRow {
    /// Its group.
    pub group: GroupId,
    /// Its node.
    pub node: NodeId,
    /// What the node says of it; none if it does not answer.
    pub row: Option<GroupRow>,
    /// Its state in an audit that was asked for just now, and whether it is the majority's.
    pub audit: Option<(String, bool)>,
}

impl Verified {
    /// Puts together what each node says of itself, and the audits, if any were asked for.
    pub fn of(
        statuses: BTreeMap<NodeId, Option<Status>>,
        audits: Option<&BTreeMap<GroupId, Option<Audit>>>,
    ) -> Verified {
        let groups: Vec<GroupId> =
            statuses.values().flatten().next().map_or(vec![], |s| s.groups.iter().map(|g| g.id).collect());
        let mut replicas = Vec::new();
        for (node, mut status) in statuses {
            for &group in &groups {
                let rows = status.as_mut().map(|status| &mut status.groups);
                let row = rows.and_then(|rows| {
                    let at = rows.iter().position(|row| row.id == group)?;
                    Some(rows.swap_remove(at))
                });
                let audit = audits.and_then(|audits| audits.get(&group)?.as_ref()).and_then(|audit| {
                    let digest = audit.replicas.get(&node)?.clone()?;
                    let same = audit.majority.as_ref() == Some(&digest);
                    Some((digest, same))
                });
                replicas.push(ReplicaRow { group, node, row, audit });
            }
        }
        replicas.sort_by_key(|replica| (replica.group, replica.node));
        let sound = |replica: &ReplicaRow| {
            let trusted = replica.row.as_ref().is_some_and(|row| row.difference.is_none());
            trusted && (audits.is_none() || replica.audit.as_ref().is_some_and(|(_, same)| *same))
        };
        Verified { sound: !replicas.is_empty() && replicas.iter().all(sound), replicas }
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers, texts and lists are JSON")
    }

    /// As a table for a person.
    pub fn to_table(&self) -> String {
        let head = ["group", "node", "applied", "verified", "digest", "whole state", "replica"];
        let mut text = String::new();
        put_table(&mut text, head, self.replicas.iter().map(ReplicaRow::cells).collect());
        text
    }
}

impl ReplicaRow {
    fn cells(&self) -> [String; 7] {
        let none = || "-".to_string();
        let row = self.row.as_ref();
        let verified = row.and_then(|row| row.verified.as_ref());
        [
            self.group.to_string(),
            self.node.to_string(),
            row.map_or_else(none, |row| row.applied.to_string()),
            verified.map_or_else(none, |at| at.index.to_string()),
            verified.map_or_else(none, |at| at.digest.clone()),
            self.audit.as_ref().map_or_else(none, |(digest, _)| digest.clone()),
            self.verdict(),
        ]
    }

    fn verdict(&self) -> String {
        let Some(row) = &self.row else { return "no answer".into() };
        match (&row.difference, &self.audit) {
            (Some(found), _) => {
                format!("DIFFERS at {}: {} here, {} there", found.index, found.ours, found.leaders)
            }
            (None, Some((_, false))) => "not what a majority has".into(),
            (None, _) if row.leader == Some(self.node) => "leads".into(),
            (None, _) => "follows".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{DifferenceRow, DigestRow};

    fn status(node_id: NodeId, difference: Option<DifferenceRow>) -> Status {
        let group = GroupRow {
            id: 0,
            leader: Some(1),
            term: 3,
            last_index: 12,
            committed: 11,
            applied: 10,
            snapshot_index: 0,
            purged: 0,
            slots: vec![[0, 16383]],
            voters: vec![1, 2, 3],
            learners: Vec::new(),
            difference,
            verified: Some(DigestRow { index: 9, digest: "00000000000000ab".into() }),
            audit: None,
        };
        Status { cluster_id: "c".into(), node_id, nodes: vec![], groups: vec![group] }
    }

    #[test]
    fn a_difference_and_a_silent_node_are_seen() {
        let found = DifferenceRow { index: 7, ours: "a".into(), leaders: "b".into() };
        let statuses = [(1, Some(status(1, None))), (2, Some(status(2, Some(found)))), (3, None)];
        let verified = Verified::of(statuses.into(), None);
        assert!(!verified.sound);
        let expected = "\
group  node  applied  verified  digest            whole state  replica
0      1     10       9         00000000000000ab  -            leads
0      2     10       9         00000000000000ab  -            DIFFERS at 7: a here, b there
0      3     -        -         -                 -            no answer
";
        assert_eq!(verified.to_table(), expected);
    }

    #[test]
    fn an_audit_needs_every_replica() {
        let statuses = || [(1, Some(status(1, None))), (2, Some(status(2, None)))].into();
        let sound = |second: Option<&str>| {
            let replicas = [(1, Some("0a".to_string())), (2, second.map(str::to_string))].into();
            let audit = Audit { index: 11, replicas, majority: Some("0a".into()) };
            Verified::of(statuses(), Some(&[(0, Some(audit))].into())).sound
        };
        assert!(sound(Some("0a")));
        assert!(!sound(Some("0b")));
        assert!(!sound(None));
        assert!(!Verified::of(statuses(), Some(&[(0, None)].into())).sound, "nobody leads");
        assert!(Verified::of(statuses(), None).sound);
    }
}
