//! `initial-cluster`: every node and its two addresses.

use quoris_engine::entry::NodeInfo;
use quoris_engine::topology::node_name;
use quoris_raft::types::NodeId;

use super::field::parse_address;
use crate::status::NodeStatus;

/// What the setting takes.
pub const TAKES: &str = "id=client_host:port@peer_host:port, separated by commas";

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number, 1 or more.
    pub id: NodeId,
    /// Where clients are sent.
    pub client_addr: String,
    /// Where the other nodes reach it.
    pub peer_addr: String,
}

impl From<&NodeStatus> for Member {
    fn from(node: &NodeStatus) -> Member {
        Member { id: node.id, client_addr: node.client_addr.clone(), peer_addr: node.peer_addr.clone() }
    }
}

impl Member {
    /// What the cluster keeps of it.
    pub fn info(&self, cluster_id: &str) -> NodeInfo {
        NodeInfo {
            id: self.id,
            name: node_name(cluster_id, self.id),
            client_addr: self.client_addr.clone(),
            peer_addr: self.peer_addr.clone(),
        }
    }
}

/// Reads `1=127.0.0.1:7001@127.0.0.1:17001,2=…`.
pub(super) fn parse(text: &str) -> Option<Vec<Member>> {
    text.split(',').map(|part| parse_member(part.trim())).collect()
}

/// Reads one of them.
pub fn parse_member(text: &str) -> Option<Member> {
    let (id, addrs) = text.split_once('=')?;
    let (client, peer) = addrs.split_once('@')?;
    Some(Member {
        id: id.parse().ok().filter(|id| *id != 0)?,
        client_addr: parse_address(client)?,
        peer_addr: parse_address(peer)?,
    })
}

/// The other way round.
pub fn show(members: &[Member]) -> String {
    let show = |m: &Member| format!("{}={}@{}", m.id, m.client_addr, m.peer_addr);
    members.iter().map(show).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_shown_as_they_are_read() {
        let text = "1=a:1@a:2,20=[::1]:3@[::1]:4";
        assert_eq!(show(&parse(text).expect("two members")), text);
        assert!(
            ["", "1", "1=a:1", "0=a:1@a:2", "x=a:1@a:2", "1=a:1@a:2,"].iter().all(|t| parse(t).is_none())
        );
    }
}
