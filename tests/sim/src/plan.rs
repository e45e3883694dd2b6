//! What a seed draws: the cluster's size and limits, and the faults.

use quoris_raft::env::Rng;

use crate::env::SeededRng;

/// How long faults strike, in milliseconds of simulated time, counted from the first acknowledged write.
pub const FAULTS_MS: u64 = 12_000;

/// A run.
#[derive(Debug)]
pub struct Plan {
    /// 3 to 5.
    pub nodes: u64,
    /// 2 to 4.
    pub groups: u64,
    /// 2 to 4.
    pub clients: u64,
    /// From 5 (a snapshot every few entries) to 200.
    pub snapshot_entries: u64,
    /// Longest fsync, in microseconds.
    pub sync_us: u64,
    /// Longest time a message takes, in milliseconds.
    pub latency_ms: u64,
    /// The faults, in the order of their time.
    pub faults: Vec<(u64, Fault)>,
}

/// What goes wrong, or is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The node's power fails: what was not fsynced may be lost or torn.
    PowerCut(u64),
    /// The node's process is killed; the disk keeps what was written.
    Kill(u64),
    /// The node starts again.
    Start(u64),
    /// Nothing passes between two nodes.
    Partition(u64, u64),
    /// Nothing passes from the first to the second.
    OneWay(u64, u64),
    /// All nodes reach each other.
    Repair,
    /// The node's clock jumps, in milliseconds.
    ClockJump(u64, i64),
    /// The node's disk takes so many microseconds for an fsync.
    SlowDisk(u64, u64),
}

impl Plan {
    /// What `seed` draws.
    pub fn of(seed: u64) -> Plan {
        let rng = SeededRng::new(seed);
        let draw = |from: u64, to: u64| from + rng.next_u64() % (to - from + 1);
        let nodes = draw(3, 5);
        let mut plan = Plan {
            nodes,
            groups: draw(2, 4),
            clients: draw(2, 4),
            snapshot_entries: [5, 20, 200][draw(0, 2) as usize],
            sync_us: draw(200, 5000),
            latency_ms: draw(1, 10),
            faults: Vec::new(),
        };
        let mut at = 0;
        while at < FAULTS_MS {
            at += draw(100, 2000);
            let (node, other) = (draw(1, nodes), draw(1, nodes));
            let fault = match draw(0, 9) {
                0..=1 => Fault::PowerCut(node),
                2 => Fault::Kill(node),
                3..=4 => Fault::Start(node),
                5 if node != other => Fault::Partition(node, other),
                6 if node != other => Fault::OneWay(node, other),
                7 => Fault::ClockJump(node, draw(0, 20_000) as i64 - 10_000),
                8 => Fault::SlowDisk(node, draw(1_000, 300_000)),
                _ => Fault::Repair,
            };
            plan.faults.push((at, fault));
            if draw(0, 19) == 0 {
                plan.faults.extend((1..=nodes).map(|node| (at, Fault::PowerCut(node))));
            }
        }
        plan
    }
}
