//! How a cluster begins: the topology that every node computes alike from its settings, and the founding of the
//! groups (`standing` says who may).

use quoris_engine::SLOT_COUNT;
use quoris_engine::entry::{GroupInfo, NodeInfo, SlotRange, Topology};

use crate::node::NodeConfig;

/// The topology of a cluster that begins with these settings: slots in equal shares, preferred leaders in turn.
pub fn topology(config: &NodeConfig) -> Topology {
    let nodes: Vec<NodeInfo> = config.initial_cluster.clone();
    let groups = u64::from(config.groups);
    let group = |id: u64| {
        let start = id * u64::from(SLOT_COUNT) / groups;
        let end = (id + 1) * u64::from(SLOT_COUNT) / groups - 1;
        GroupInfo {
            id: id as u32,
            slots: vec![SlotRange { start: start as u32, end: end as u32 }],
            preferred_leader: nodes[id as usize % nodes.len()].id,
        }
    };
    Topology { epoch: 1, groups: (0..groups).map(group).collect(), nodes, removed: Vec::new() }
}
