//! The cluster as Redis's clients know it, made from which group serves which slots and from who leads what.
//!
//! A node may lead several groups and follow in others. Some clients key their table of nodes by address and mix
//! up roles when one address is the primary of one range and a replica of another. So every node is shown as a
//! primary, with the slots of the groups it leads; only a node that leads nothing may stand behind a range.

use std::fmt::Write;

use bytes::Bytes;
use quoris_engine::entry::{NodeInfo, SlotRange};
use quoris_engine::{Reply, SLOT_COUNT};
use quoris_raft::group::Group;
use quoris_raft::node::Node;
use quoris_raft::types::NodeId;

/// The cluster as one node sees it at one moment.
#[derive(Clone, Debug)]
pub struct View {
    me: NodeId,
    epoch: u64,
    nodes: Vec<NodeView>,
    /// How many slots have a leader.
    served: u32,
}

/// A node, and what it serves.
#[derive(Clone, Debug)]
struct NodeView {
    info: NodeInfo,
    reachable: bool,
    /// Slots shown as its own: ascending, neighbours merged.
    slots: Vec<SlotRange>,
    /// Of the groups it leads, what is applied here: the nearest to Redis's replication offset.
    offset: u64,
}

/// A group that has its slots.
#[derive(Clone, Debug)]
struct GroupView {
    slots: Vec<SlotRange>,
    leader: Option<NodeId>,
    /// Whom its slots are shown with while it has none.
    stand_in: NodeId,
    applied: u64,
}

impl View {
    /// What `node` sees now.
    pub fn of(node: &Node) -> View {
        let topology = node.topology();
        let reachable = |info: NodeInfo| (node.is_reachable(info.id), info);
        let nodes =
            node.nodes().into_iter().map(reachable).map(|(reachable, info)| (info, reachable)).collect();
        let replica_of = |id| node.groups().iter().find(|group| group.id() == id && is_founded(group));
        let groups = topology.groups.iter().filter_map(|info| {
            let replica = replica_of(info.id)?;
            let last = || replica.last_leader().unwrap_or(info.preferred_leader);
            let heirs = node.heirs(info.id);
            let can_elect = heirs.len() * 2 > replica.status().voters.len();
            Some(GroupView {
                slots: node.slots().slots_of(info.id),
                leader: replica.leader_in_reach(),
                stand_in: if can_elect { heirs[0] } else { last() },
                applied: replica.status().applied,
            })
        });
        View::new(node.id(), u64::from(node.slots().latest_epoch()), nodes, groups.collect())
    }

    /// While a group elects its leader, its slots are shown as those of the node that is the first to stand: whoever
    /// asks that node waits there for the election. There are clients that take a range without a node for an error
    /// that no retry can mend. A node that is cut off from the majority shows what it knew last.
    fn new(me: NodeId, epoch: u64, nodes: Vec<(NodeInfo, bool)>, groups: Vec<GroupView>) -> View {
        let node = |(info, reachable)| NodeView { info, reachable, slots: Vec::new(), offset: 0 };
        let mut nodes: Vec<NodeView> = nodes.into_iter().map(node).collect();
        let mut served = 0;
        for group in groups {
            let shown = group.leader.unwrap_or(group.stand_in);
            if group.leader.is_some() {
                served += group.slots.iter().map(|range| range.end - range.start + 1).sum::<u32>();
            }
            if let Some(view) = nodes.iter_mut().find(|view| view.info.id == shown) {
                view.slots.extend(group.slots);
                view.offset += group.applied;
            }
        }
        for view in &mut nodes {
            view.slots = merged(std::mem::take(&mut view.slots));
        }
        View { me, epoch, nodes, served }
    }

    /// The name of this node.
    pub fn my_name(&self) -> &str {
        self.nodes.iter().find(|view| view.info.id == self.me).map_or("", |view| view.info.name.as_str())
    }

    /// Whether every slot has a leader.
    pub fn is_ok(&self) -> bool {
        self.served == u32::from(SLOT_COUNT)
    }

    /// CLUSTER SLOTS. Behind each range's primary stand, as replicas, the nodes that are primary of nothing: else a
    /// client that learns the cluster while one node leads everything would know no other when that node dies.
    pub fn slots(&self) -> Reply {
        let mut ranges: Vec<(&SlotRange, &NodeInfo)> = self
            .nodes
            .iter()
            .flat_map(|view| view.slots.iter().map(move |range| (range, &view.info)))
            .collect();
        ranges.sort_by_key(|(range, _)| range.start);
        let spare = || self.nodes.iter().filter(|view| view.slots.is_empty() && view.reachable);
        let entry = |(range, primary): (&SlotRange, &NodeInfo)| {
            let nodes = std::iter::once(primary).chain(spare().map(|view| &view.info)).map(address);
            Reply::Array([slot(range.start), slot(range.end)].into_iter().chain(nodes).collect())
        };
        Reply::Array(ranges.into_iter().map(entry).collect())
    }

    /// CLUSTER SHARDS.
    pub fn shards(&self) -> Reply {
        let shard = |view: &NodeView| {
            let (host, port) = split(&view.info.client_addr);
            let node = Reply::Map(vec![
                (Reply::bulk("id"), Reply::bulk(&view.info.name)),
                (Reply::bulk("port"), Reply::Int(port)),
                (Reply::bulk("ip"), Reply::bulk(host)),
                (Reply::bulk("endpoint"), Reply::bulk(host)),
                (Reply::bulk("role"), Reply::bulk("master")),
                (Reply::bulk("replication-offset"), Reply::Int(view.offset as i64)),
                (Reply::bulk("health"), Reply::bulk(if view.reachable { "online" } else { "fail" })),
            ]);
            let slots = view.slots.iter().flat_map(|range| [slot(range.start), slot(range.end)]).collect();
            Reply::Map(vec![
                (Reply::bulk("slots"), Reply::Array(slots)),
                (Reply::bulk("nodes"), Reply::Array(vec![node])),
            ])
        };
        Reply::Array(self.nodes.iter().map(shard).collect())
    }

    /// CLUSTER NODES.
    pub fn nodes(&self) -> String {
        let mut lines = String::new();
        for view in &self.nodes {
            let (_, peer_port) = split(&view.info.peer_addr);
            let flags = match (view.info.id == self.me, view.reachable) {
                (true, _) => "myself,master",
                (false, true) => "master",
                (false, false) => "master,fail",
            };
            let link = if view.reachable { "connected" } else { "disconnected" };
            let (name, addr) = (&view.info.name, &view.info.client_addr);
            write!(lines, "{name} {addr}@{peer_port} {flags} - 0 0 {} {link}", self.epoch).expect(IN_MEMORY);
            for range in &view.slots {
                match range.start == range.end {
                    true => write!(lines, " {}", range.start),
                    false => write!(lines, " {}-{}", range.start, range.end),
                }
                .expect(IN_MEMORY);
            }
            lines.push('\n');
        }
        lines
    }

    /// CLUSTER INFO.
    pub fn info(&self) -> String {
        let size = self.nodes.iter().filter(|view| !view.slots.is_empty()).count();
        let fields = [
            ("cluster_state", if self.is_ok() { "ok" } else { "fail" }.to_string()),
            ("cluster_slots_assigned", SLOT_COUNT.to_string()),
            ("cluster_slots_ok", self.served.to_string()),
            ("cluster_slots_pfail", "0".to_string()),
            ("cluster_slots_fail", (u32::from(SLOT_COUNT) - self.served).to_string()),
            ("cluster_known_nodes", self.nodes.len().to_string()),
            ("cluster_size", size.to_string()),
            ("cluster_current_epoch", self.epoch.to_string()),
            ("cluster_my_epoch", self.epoch.to_string()),
        ];
        fields.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect()
    }

    /// CLUSTER LINKS: the connections to peers that stand. What quoris does not measure of them is left out.
    pub fn links(&self) -> Reply {
        let peers = self.nodes.iter().filter(|view| view.info.id != self.me && view.reachable);
        let link = |view: &NodeView| {
            Reply::Map(vec![
                (Reply::bulk("direction"), Reply::bulk("to")),
                (Reply::bulk("node"), Reply::bulk(&view.info.name)),
            ])
        };
        Reply::Array(peers.map(link).collect())
    }

    /// A text that Redis sends verbatim.
    pub fn text(text: String) -> Reply {
        Reply::Verbatim("txt", Bytes::from(text))
    }
}

/// The node that leads `group`, once the group has its slots: between its first election and its founding it answers
/// for none.
pub fn serving_leader(group: &Group) -> Option<NodeId> {
    group.leader().filter(|_| is_founded(group))
}

/// Whether the group's first entry has been applied here.
pub fn is_founded(group: &Group) -> bool {
    group.with_machine(|machine| !machine.genesis().cluster_id.is_empty())
}

const IN_MEMORY: &str = "a string takes all that is written";

fn slot(slot: u32) -> Reply {
    Reply::Int(i64::from(slot))
}

/// A node in CLUSTER SLOTS. What follows its name is metadata of the address; there is none.
fn address(info: &NodeInfo) -> Reply {
    let (host, port) = split(&info.client_addr);
    Reply::Array(vec![Reply::bulk(host), Reply::Int(port), Reply::bulk(&info.name), Reply::Map(Vec::new())])
}

/// Ranges in ascending order, those that touch made one.
fn merged(mut ranges: Vec<SlotRange>) -> Vec<SlotRange> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<SlotRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.end + 1 == range.start => last.end = range.end,
            _ => merged.push(range),
        }
    }
    merged
}

/// Host and port of an address that the settings' check has let through.
fn split(addr: &str) -> (&str, i64) {
    let (host, port) = addr.rsplit_once(':').unwrap_or((addr, "0"));
    (host.trim_matches(['[', ']']), port.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group's slots, its leader and its stand-in.
    type Led<'a> = (&'a [(u32, u32)], Option<NodeId>, NodeId);

    /// Three nodes, the third out of reach.
    fn view(groups: &[Led]) -> View {
        let node = |id: u64| NodeInfo {
            id,
            name: format!("{id:040}"),
            client_addr: format!("127.0.0.1:700{id}"),
            peer_addr: format!("127.0.0.1:1700{id}"),
        };
        let group = |(slots, leader, stand_in): &Led| GroupView {
            slots: slots.iter().map(|&(start, end)| SlotRange { start, end }).collect(),
            leader: *leader,
            stand_in: *stand_in,
            applied: 9,
        };
        let nodes = (1..=3).map(|id| (node(id), id != 3)).collect();
        View::new(1, 4, nodes, groups.iter().map(group).collect())
    }

    #[test]
    fn nodes_are_primaries_with_the_slots_they_lead() {
        let view = view(&[
            (&[(8000, 16383)], Some(1), 3),
            (&[(0, 99)], Some(1), 1),
            (&[(100, 4999)], Some(2), 2),
            (&[(5000, 7999)], Some(2), 1),
        ]);
        let zeros = "0".repeat(39);
        assert_eq!(
            view.nodes(),
            format!(
                "{zeros}1 127.0.0.1:7001@17001 myself,master - 0 0 4 connected 0-99 8000-16383\n\
                 {zeros}2 127.0.0.1:7002@17002 master - 0 0 4 connected 100-7999\n\
                 {zeros}3 127.0.0.1:7003@17003 master,fail - 0 0 4 disconnected\n"
            )
        );
        assert!(view.info().starts_with("cluster_state:ok\r\ncluster_slots_assigned:16384\r\n"));
        assert!(view.info().contains("cluster_known_nodes:3\r\ncluster_size:2\r\n"));
    }

    #[test]
    fn a_group_without_a_leader_is_shown_where_it_belongs_and_counted_as_failed() {
        let view = view(&[(&[(0, 16381)], Some(1), 1), (&[(16382, 16383)], None, 2)]);
        assert!(!view.is_ok());
        assert!(view.info().contains("cluster_state:fail\r\n"));
        assert!(view.info().contains("cluster_slots_fail:2\r\n"));
        let Reply::Array(ranges) = view.slots() else { panic!("an array") };
        let second = Reply::Array(vec![
            Reply::Int(16382),
            Reply::Int(16383),
            Reply::Array(vec![
                Reply::bulk("127.0.0.1"),
                Reply::Int(7002),
                Reply::bulk(format!("{:040}", 2)),
                Reply::Map(Vec::new()),
            ]),
        ]);
        assert_eq!((ranges.len(), &ranges[1]), (2, &second));
    }

    #[test]
    fn only_nodes_that_lead_nothing_stand_behind_a_range() {
        let nodes_of = |view: View| match view.slots() {
            Reply::Array(mut ranges) => match ranges.pop() {
                Some(Reply::Array(range)) => range[2..].to_vec(),
                other => panic!("a range, not {other:?}"),
            },
            other => panic!("an array, not {other:?}"),
        };
        let node = |id: u64| {
            let address = vec![
                Reply::bulk("127.0.0.1"),
                Reply::Int(7000 + id as i64),
                Reply::bulk(format!("{id:040}")),
                Reply::Map(Vec::new()),
            ];
            Reply::Array(address)
        };
        // The third node is out of reach, and so no help to anybody.
        assert_eq!(nodes_of(view(&[(&[(0, 16383)], Some(1), 1)])), [node(1), node(2)]);
        let both = view(&[(&[(0, 99)], Some(1), 1), (&[(100, 16383)], Some(2), 2)]);
        assert_eq!(nodes_of(both), [node(2)]);
    }

    #[test]
    fn a_group_that_was_never_founded_is_not_shown() {
        let view = view(&[(&[(0, 0)], Some(1), 1)]);
        assert!(view.nodes().contains("connected 0\n"));
        assert!(view.info().contains("cluster_slots_fail:16383\r\n"));
    }
}
