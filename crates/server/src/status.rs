//! What this node knows of nodes and groups: the JSON of QUORIS STATUS, and the table that `ctl status` makes of it.

use std::fmt::Write;

use quoris_raft::node::Node;
use quoris_raft::types::{GroupId, NodeId};
use serde::{Deserialize, Serialize};

use crate::cluster::serving_leader;

/// One node's view of the cluster.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// The cluster's name.
    pub cluster_id: String,
    /// The node that says all this.
    pub node_id: NodeId,
    /// Every node.
    pub nodes: Vec<NodeStatus>,
    /// Every group that has a replica on the node.
    pub groups: Vec<GroupRow>,
}

/// A node.
#[derive(Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // the fields are those of the topology
pub struct NodeStatus {
    pub id: NodeId,
    pub name: String,
    pub client_addr: String,
    pub peer_addr: String,
    /// Whether the connection to it stands.
    pub reachable: bool,
}

/// A group, its log as it is on the node.
#[derive(Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // the fields are those of the group's own status
pub struct GroupRow {
    pub id: GroupId,
    pub leader: Option<NodeId>,
    pub term: u64,
    pub last_index: u64,
    pub committed: u64,
    pub applied: u64,
    pub snapshot_index: u64,
    pub purged: u64,
    /// First and last slot of each range.
    pub slots: Vec<[u32; 2]>,
    pub voters: Vec<NodeId>,
    /// Who is sent the log and does not vote.
    #[serde(default)]
    pub learners: Vec<NodeId>,
    /// The replica has been found to differ, and serves no more.
    pub difference: Option<DifferenceRow>,
    /// The newest comparison of running digests that found the replica to be what its leader's was.
    pub verified: Option<DigestRow>,
    /// The replica's whole state at the newest audit.
    pub audit: Option<DigestRow>,
}

/// Where two replicas differed, and the digests they had, in hexadecimal.
#[derive(Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // the fields are those of the engine's
pub struct DifferenceRow {
    pub index: u64,
    pub ours: String,
    pub leaders: String,
}

/// A digest, in hexadecimal, and the index that it stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct DigestRow {
    pub index: u64,
    pub digest: String,
}

impl Status {
    /// What `node` knows now.
    pub fn of(node: &Node) -> Status {
        let known = node.nodes();
        let nodes = known.iter().map(|info| NodeStatus {
            id: info.id,
            name: info.name.clone(),
            client_addr: info.client_addr.clone(),
            peer_addr: info.peer_addr.clone(),
            reachable: node.is_reachable(info.id),
        });
        let groups = node.groups().iter().map(|group| {
            let status = group.status();
            let slots = node.slots().slots_of(status.id).into_iter().map(|range| [range.start, range.end]);
            GroupRow {
                id: status.id,
                leader: serving_leader(group),
                term: status.term,
                last_index: status.last_index,
                committed: status.committed,
                applied: status.applied,
                snapshot_index: status.snapshot_index,
                purged: status.purged,
                slots: slots.collect(),
                voters: status.voters,
                learners: status.learners,
                difference: status.difference.map(|found| DifferenceRow {
                    index: found.index,
                    ours: format!("{:016x}", found.ours),
                    leaders: format!("{:016x}", found.leaders),
                }),
                verified: status
                    .verified
                    .map(|check| DigestRow { index: check.index, digest: format!("{:016x}", check.digest) }),
                audit: status
                    .audit
                    .map(|audit| DigestRow { index: audit.index, digest: format!("{:08x}", audit.digest) }),
            }
        });
        Status {
            cluster_id: node.config().cluster_id.clone(),
            node_id: node.id(),
            nodes: nodes.collect(),
            groups: groups.collect(),
        }
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers, texts and lists are JSON")
    }

    /// As tables for a person.
    pub fn to_table(&self) -> String {
        let nodes = self.nodes.iter().map(|node| {
            let reachable = match (node.id == self.node_id, node.reachable) {
                (true, _) => "this node",
                (false, true) => "yes",
                (false, false) => "no",
            };
            let led = self.groups.iter().filter(|group| group.leader == Some(node.id)).count();
            [
                node.id.to_string(),
                node.client_addr.clone(),
                node.peer_addr.clone(),
                reachable.into(),
                led.to_string(),
            ]
        });
        let groups = self.groups.iter().map(|group| {
            let range = |[start, end]: &[u32; 2]| match start == end {
                true => start.to_string(),
                false => format!("{start}-{end}"),
            };
            let slots: Vec<String> = group.slots.iter().map(range).collect();
            let voters = group.voters.iter().map(u64::to_string);
            let learners = group.learners.iter().map(|learner| format!("({learner})"));
            let voters: Vec<String> = voters.chain(learners).collect();
            [
                group.id.to_string(),
                group.leader.map_or("none".to_string(), |leader| leader.to_string()),
                group.term.to_string(),
                group.last_index.to_string(),
                group.committed.to_string(),
                group.applied.to_string(),
                group.snapshot_index.to_string(),
                group.purged.to_string(),
                voters.join(" "),
                slots.join(" "),
            ]
        });
        let mut text = String::new();
        writeln!(text, "cluster {}, as node {} sees it\n", self.cluster_id, self.node_id).expect(IN_MEMORY);
        put_table(&mut text, ["node", "clients", "peers", "reachable", "leads"], nodes.collect());
        text.push('\n');
        let head = [
            "group",
            "leader",
            "term",
            "last",
            "committed",
            "applied",
            "snapshot",
            "purged",
            "voters",
            "slots",
        ];
        put_table(&mut text, head, groups.collect());
        for group in &self.groups {
            if let Some(DifferenceRow { index, ours, leaders }) = &group.difference {
                let line = format!(
                    "\ngroup {0}: the replica here differs from the others at index {index} ({ours} here, {leaders} \
                     there).\nIt neither serves nor votes until it is rebuilt: quoris ctl rebuild --group {0}",
                    group.id
                );
                writeln!(text, "{line}").expect(IN_MEMORY);
            }
        }
        text
    }
}

const IN_MEMORY: &str = "a string takes all that is written";

/// Columns as wide as their widest cell, two spaces apart.
pub(crate) fn put_table<const N: usize>(text: &mut String, head: [&str; N], rows: Vec<[String; N]>) {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_string)).chain(rows).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    // Nothing stands behind it; and of slots scattered over groups it may be wider than can be filled up to.
    widths[N - 1] = 0;
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(text, "{}", cells.join("  ").trim_end()).expect(IN_MEMORY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_column_may_be_of_any_width() {
        let (mut text, wide) = (String::new(), "x".repeat(100_000));
        put_table(&mut text, ["a", "b"], vec![["1".to_string(), wide.clone()]]);
        assert_eq!(text, format!("a  b\n1  {wide}\n"));
    }

    fn status() -> Status {
        let node = |id: u64| NodeStatus {
            id,
            name: format!("{id:040}"),
            client_addr: format!("127.0.0.1:700{id}"),
            peer_addr: format!("127.0.0.1:1700{id}"),
            reachable: id == 1,
        };
        let group = GroupRow {
            id: 0,
            leader: None,
            term: 3,
            last_index: 12,
            committed: 11,
            applied: 10,
            snapshot_index: 0,
            purged: 0,
            slots: vec![[0, 8191]],
            voters: vec![1, 2],
            learners: vec![3],
            difference: None,
            verified: None,
            audit: None,
        };
        Status { cluster_id: "c".into(), node_id: 1, nodes: vec![node(1), node(2)], groups: vec![group] }
    }

    #[test]
    fn a_person_can_read_it() {
        let expected = "\
cluster c, as node 1 sees it

node  clients         peers            reachable  leads
1     127.0.0.1:7001  127.0.0.1:17001  this node  0
2     127.0.0.1:7002  127.0.0.1:17002  no         0

group  leader  term  last  committed  applied  snapshot  purged  voters   slots
0      none    3     12    11         10       0         0       1 2 (3)  0-8191
";
        assert_eq!(status().to_table(), expected);
    }

    #[test]
    fn json_survives_and_an_unknown_leader_is_null() {
        let json = status().to_json();
        assert!(json.contains("\"leader\":null"), "{json}");
        let again: Status = serde_json::from_str(&json).expect("its own JSON");
        assert_eq!(again.to_table(), status().to_table());
    }
}
