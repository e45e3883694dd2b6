//! Who is in the cluster, and which node should lead which group: state of the meta group, changed by QUORIS ADDNODE and
//! REMOVENODE.
//!
//! What groups make of it (who holds replicas and votes) is their own business, one entry of membership after the other in
//! each of their logs. A number that has been removed is not given again: a node that comes back under it, with an old
//! disk or an empty one, can be told from all others for good.

use std::collections::BTreeMap;

use crate::entry::{NodeInfo, Topology};
use crate::error::CommandError;
use crate::rng::Rng;

/// A cluster has at most so many nodes.
pub const MAX_NODES: usize = 64;

impl Topology {
    /// The node of that number, if it is a member.
    pub fn node(&self, id: u64) -> Option<&NodeInfo> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// What is known of a node that is a member or was one.
    pub fn info(&self, id: u64) -> Option<&NodeInfo> {
        self.nodes.iter().chain(&self.removed).find(|node| node.id == id)
    }

    /// Whether a node of that number was a member, and is none for good.
    pub fn has_removed(&self, id: u64) -> bool {
        self.removed.iter().any(|node| node.id == id)
    }

    /// Makes each of `nodes` a member, or gives the member of its number its addresses: all at once.
    ///
    /// # Errors
    /// If a number is not to be had, or two members would have one address; nothing has changed then.
    pub(crate) fn set_nodes(&mut self, nodes: Vec<NodeInfo>) -> Result<(), CommandError> {
        let refuse = |why: String| Err(CommandError::Message(format!("ERR {why}")));
        let mut members = self.nodes.clone();
        for node in nodes {
            if self.has_removed(node.id) {
                return refuse(format!(
                    "node {} was removed: give a node that joins a number of its own",
                    node.id
                ));
            }
            match members.iter_mut().find(|member| member.id == node.id) {
                Some(member) => *member = node,
                None => members.push(node),
            }
        }
        if members.len() > MAX_NODES {
            return refuse(format!("a cluster has at most {MAX_NODES} nodes"));
        }
        let mut owners = BTreeMap::new();
        for node in &members {
            for addr in [&node.client_addr, &node.peer_addr] {
                let owner = owners.insert(addr, node.id);
                if owner == Some(node.id) {
                    return refuse(format!("node {} would have one address for clients and peers", node.id));
                }
                if let Some(other) = owner {
                    return refuse(format!("nodes {other} and {} would both be at {addr}", node.id));
                }
            }
        }
        if members != self.nodes {
            self.nodes = members;
            self.has_changed();
        }
        Ok(())
    }

    /// Takes a member out, for good. Whether it was one; who was removed before is no error.
    ///
    /// # Errors
    /// If there was never such a node, or it is the last.
    pub(crate) fn remove_node(&mut self, id: u64) -> Result<bool, CommandError> {
        if self.has_removed(id) {
            return Ok(false);
        }
        let Some(at) = self.nodes.iter().position(|node| node.id == id) else {
            return Err(CommandError::Message(format!("ERR there is no node {id}")));
        };
        if self.nodes.len() == 1 {
            return Err(CommandError::Text("ERR it is the only node"));
        }
        // Its address, too: groups may count on it for a while.
        self.removed.push(self.nodes.remove(at));
        self.has_changed();
        Ok(true)
    }

    fn has_changed(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
        self.spread_leaders();
    }

    /// Gives every group a member for its preferred leader, and no member more than one group more than another. What need
    /// not change does not.
    fn spread_leaders(&mut self) {
        let mut led: BTreeMap<u64, usize> = self.nodes.iter().map(|node| (node.id, 0)).collect();
        for group in &self.groups {
            led.entry(group.preferred_leader).and_modify(|groups| *groups += 1);
        }
        let least = |led: &BTreeMap<u64, usize>| {
            let (id, groups) = led.iter().min_by_key(|(_, groups)| **groups).expect("there is a member");
            (*id, *groups)
        };
        for group in &mut self.groups {
            let (next, few) = least(&led);
            let now = led.get(&group.preferred_leader).copied();
            if now.is_some_and(|groups| groups <= few + 1) {
                continue;
            }
            led.entry(group.preferred_leader).and_modify(|groups| *groups -= 1);
            led.entry(next).and_modify(|groups| *groups += 1);
            group.preferred_leader = next;
        }
    }
}

/// 40 hex digits that stay the same for a node of a cluster, as Redis Cluster names nodes.
pub fn node_name(cluster_id: &str, id: u64) -> String {
    let seed =
        cluster_id.bytes().fold(0, |seed: u64, byte| seed.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte));
    let mut rng = Rng::for_call(seed, id);
    let mut name = (0..3).map(|_| format!("{:016x}", rng.next_u64())).collect::<String>();
    name.truncate(40);
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::GroupInfo;

    fn node(id: u64) -> NodeInfo {
        NodeInfo {
            id,
            name: node_name("c", id),
            client_addr: format!("h{id}:1"),
            peer_addr: format!("h{id}:2"),
        }
    }

    fn topology(nodes: u64, groups: u32) -> Topology {
        let group = |id| GroupInfo { id, slots: Vec::new(), preferred_leader: u64::from(id) % nodes + 1 };
        Topology {
            epoch: 1,
            nodes: (1..=nodes).map(node).collect(),
            groups: (0..groups).map(group).collect(),
            removed: Vec::new(),
        }
    }

    fn leaders(topology: &Topology) -> Vec<u64> {
        topology.groups.iter().map(|group| group.preferred_leader).collect()
    }

    #[test]
    fn leaders_follow_the_members_and_move_no_more_than_they_must() {
        let mut topology = topology(3, 7);
        assert_eq!(leaders(&topology), [1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(topology.set_nodes(vec![node(4)]), Ok(()));
        assert_eq!(leaders(&topology), [4, 2, 3, 1, 2, 3, 1]);
        assert_eq!(topology.remove_node(2), Ok(true));
        assert_eq!(leaders(&topology), [4, 4, 3, 1, 1, 3, 1]);
        assert_eq!(topology.epoch, 3);
    }

    #[test]
    fn a_number_is_given_once_and_an_address_to_one_node() {
        let mut topology = topology(2, 1);
        assert_eq!(topology.set_nodes(vec![node(2)]), Ok(()));
        assert_eq!(topology.epoch, 1, "nothing has changed");
        let moved = NodeInfo { peer_addr: "elsewhere:2".into(), ..node(2) };
        assert_eq!(topology.set_nodes(vec![moved.clone()]), Ok(()));
        assert_eq!((topology.epoch, topology.node(2)), (2, Some(&moved)));
        assert!(topology.set_nodes(vec![NodeInfo { id: 3, ..moved }]).is_err(), "its addresses are taken");
        assert_eq!(topology.remove_node(2), Ok(true));
        assert_eq!(topology.remove_node(2), Ok(false), "again");
        assert!(topology.set_nodes(vec![node(2)]).is_err(), "a number that was removed");
        assert!(topology.remove_node(7).is_err(), "never a member");
        assert!(topology.remove_node(1).is_err(), "the last");
        assert_eq!(topology.epoch, 3);
    }

    #[test]
    fn addresses_are_exchanged_at_once_or_not_at_all() {
        let mut topology = topology(3, 1);
        let at = |id, place: u64| NodeInfo { id, ..node(place) };
        assert!(topology.set_nodes(vec![at(1, 2)]).is_err());
        assert_eq!(topology.epoch, 1);
        assert_eq!(topology.set_nodes(vec![at(1, 2), at(2, 1)]), Ok(()));
        assert_eq!((topology.epoch, topology.node(2)), (2, Some(&at(2, 1))));
    }

    #[test]
    fn a_cluster_has_bounds() {
        let mut topology = topology(1, 1);
        for id in 2..=MAX_NODES as u64 {
            assert_eq!(topology.set_nodes(vec![node(id)]), Ok(()));
        }
        assert!(topology.set_nodes(vec![node(100)]).is_err());
    }

    #[test]
    fn names_are_forty_hex_digits_and_differ() {
        let names = [node_name("c", 1), node_name("c", 2), node_name("d", 1)];
        assert!(names.iter().all(|n| n.len() == 40 && n.bytes().all(|b| b.is_ascii_hexdigit())));
        assert!(names[0] != names[1] && names[0] != names[2]);
    }
}
