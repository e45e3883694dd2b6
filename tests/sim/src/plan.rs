//! What a seed draws: the cluster's size and limits, and the faults.
//!
//! Each seed draws its own mix (swarm testing): some runs have no partitions, some little else; some take a snapshot every
//! few entries, some never.

use quoris_raft::env::Rng;

use crate::env::SeededRng;

/// A run.
#[derive(Debug)]
pub struct Plan {
    /// 3 to 7, mostly few.
    pub nodes: u64,
    /// Nodes beside those, which may become members: 0 to 2.
    pub spares: u64,
    /// 2 to 5.
    pub groups: u64,
    /// From 2 (a snapshot every other entry) to 200.
    pub snapshot_entries: u64,
    /// Entries kept behind a snapshot.
    pub entries_behind_snapshot: u64,
    /// All of a node's log, in KB: the least that is possible, or plenty.
    pub log_kb: u64,
    /// What clients do.
    pub load: Load,
    /// About how long a piece of a slot that moves is: from 1 (each key alone) on.
    pub move_piece_bytes: u64,
    /// How long an instruction of a long script takes, in microseconds: mostly it takes no time, else so much that the script
    /// may outlast a leader.
    pub instruction_us: u64,
    /// Longest fsync of the log, in microseconds.
    pub sync_us: u64,
    /// Longest other use of the disk, in microseconds.
    pub offload_us: u64,
    /// Longest time a message takes, in milliseconds.
    pub latency_ms: u64,
    /// How long faults strike, in milliseconds of simulated time, counted from the first acknowledged write.
    pub faults_ms: u64,
    /// The faults, in the order of their time.
    pub faults: Vec<(u64, Fault)>,
    /// If none of them was a power cut within an operation that came to pass: whose disk that is to be, and after how many
    /// more.
    pub last_crash: Option<(u64, u64)>,
    /// One more, counted in operations of a disk.
    pub crash_point: Option<CrashPoint>,
}

/// What clients do, and how often. Shares are out of all of them together.
#[derive(Clone, Debug)]
pub struct Load {
    /// 2 to 6.
    pub clients: u64,
    /// Longest time between two calls of a client, in milliseconds.
    pub pause_ms: u64,
    /// Registers, and as many lists.
    pub keys: u64,
    /// Bytes that a write carries along.
    pub ballast: u64,
    /// Share of reads.
    pub reads: u64,
    /// Share of writes to registers.
    pub registers: u64,
    /// Share of writes to lists.
    pub lists: u64,
    /// Share of calls from the command table.
    pub table: u64,
    /// Share of scripts.
    pub scripts: u64,
    /// Share of pushes to queues.
    pub pushes: u64,
    /// Queues.
    pub queues: u64,
    /// Clients beside those, which wait for what is pushed: 0 to 3.
    pub consumers: u64,
    /// Longest time between two moves of slots, in milliseconds; 0: none is moved.
    pub moves_ms: u64,
    /// And those that keep keys with deadlines: 0 to 2.
    pub keepers: u64,
    /// Longest time between two changes of the members, in milliseconds; 0: they stay.
    pub members_ms: u64,
}

/// A power cut during one operation of a disk that changes something or makes it durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashPoint {
    /// Whose disk.
    pub node: u64,
    /// Operations before, counted from the first that the node ever does.
    pub op: u64,
    /// Whether the power of all other nodes fails at the same moment.
    pub all: bool,
}

/// What goes wrong, or is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The node's power fails: what was not fsynced may be lost or torn.
    PowerCut(u64),
    /// The node's power fails during an operation of its disk that changes something, after so many more.
    PowerCutInOperation(u64, u64),
    /// The power of all nodes fails.
    PowerCutOfAll,
    /// The power of all nodes but one fails.
    PowerCutOfAllBut(u64),
    /// The node's process is killed; the disk keeps what was written.
    Kill(u64),
    /// The node starts again.
    Start(u64),
    /// Every node that is down starts again.
    StartAll,
    /// An operation of the node's disk fails, after so many more.
    DiskError(u64, u64),
    /// The node's disk is full until the node has stopped.
    DiskFull(u64),
    /// The node loses its disk and comes back with an empty one, if all others can vote.
    Wipe(u64),
    /// The node is killed, a bit of its log, its snapshots or its catalog is flipped, as the number says, and it is told to
    /// rejoin, in the course of which its power may fail; if all others can vote.
    Damage(u64, u64),
    /// Nothing passes between two nodes.
    Partition(u64, u64),
    /// Nothing passes from the first to the second.
    OneWay(u64, u64),
    /// Nothing passes between the node and any other node.
    Isolate(u64),
    /// Nothing leaves or reaches the node, and its disk stands still, until it resumes: then all comes at once.
    Pause(u64),
    /// The node goes on.
    Resume(u64),
    /// All nodes reach each other.
    Repair,
    /// Two nodes are killed, and come back with each other's disks: each at the other's address.
    Exchange(u64, u64),
    /// Every node that is at another's address is killed, and comes back at its own.
    PutRight,
    /// The node's clock jumps, in milliseconds.
    ClockJump(u64, i64),
    /// The node's disk takes up to so many microseconds for an fsync.
    SlowDisk(u64, u64),
}

/// The kinds of faults that a mix is made of. What mends comes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each is the fault of that name
pub enum Kind {
    ClockJump,
    Damage,
    DiskError,
    DiskFull,
    Exchange,
    Isolate,
    Kill,
    OneWay,
    Partition,
    Pause,
    PowerCut,
    PowerCutInOperation,
    PowerCutOfAll,
    PowerCutOfAllBut,
    SlowDisk,
    Wipe,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 16] = [
        Kind::ClockJump,
        Kind::Damage,
        Kind::DiskError,
        Kind::DiskFull,
        Kind::Exchange,
        Kind::Isolate,
        Kind::Kill,
        Kind::OneWay,
        Kind::Partition,
        Kind::Pause,
        Kind::PowerCut,
        Kind::PowerCutInOperation,
        Kind::PowerCutOfAll,
        Kind::PowerCutOfAllBut,
        Kind::SlowDisk,
        Kind::Wipe,
    ];

    /// How many shares a run's mix has of it at most.
    fn most(self) -> u64 {
        match self {
            Kind::Exchange | Kind::PowerCutOfAll | Kind::PowerCutOfAllBut => 1,
            _ => 3,
        }
    }
}

impl Plan {
    /// What `seed` draws; faults of the kinds in `only` alone, if there are any.
    pub fn of(seed: u64, only: &[Kind]) -> Plan {
        let rng = SeededRng::new(seed);
        let draw = |from: u64, to: u64| from + rng.next_u64() % (to - from + 1);
        let snapshot_entries = [2, 3, 5, 20, 200][draw(0, 4) as usize];
        let mut plan = Plan {
            nodes: [3, 3, 3, 4, 5, 5, 6, 7][draw(0, 7) as usize],
            spares: 0,
            groups: draw(2, 5),
            snapshot_entries,
            entries_behind_snapshot: draw(0, snapshot_entries / 2),
            log_kb: [256, 256, 16 << 10][draw(0, 2) as usize],
            load: Load {
                clients: draw(2, 6),
                pause_ms: [5, 25, 60][draw(0, 2) as usize],
                keys: draw(1, 6),
                ballast: [0, 0, 100, 2000][draw(0, 3) as usize],
                reads: draw(1, 5),
                registers: draw(0, 4),
                lists: draw(1, 4),
                table: draw(0, 5),
                scripts: draw(0, 3),
                pushes: 0,
                queues: 0,
                consumers: 0,
                moves_ms: 0,
                keepers: 0,
                members_ms: 0,
            },
            move_piece_bytes: 1,
            instruction_us: 0,
            sync_us: draw(200, 8000),
            offload_us: draw(1, 8000),
            latency_ms: draw(1, 10),
            // Mostly short: many short runs come to more that is rare than few long ones.
            faults_ms: [draw(1000, 3000), draw(1000, 3000), draw(2000, 7000)][draw(0, 2) as usize],
            faults: Vec::new(),
            last_crash: None,
            crash_point: None,
        };
        let share = |kind: &Kind| match only.is_empty() {
            true => draw(0, kind.most()),
            false => {
                if only.contains(kind) {
                    kind.most()
                } else {
                    0
                }
            }
        };
        let mix: Vec<u64> = Kind::ALL.iter().map(share).collect();
        let longest_pause_ms = draw(150, 1200);
        let mut at = draw(0, 500);
        while at < plan.faults_ms {
            let fault = draw_fault(&draw, &mix, plan.nodes);
            plan.faults.push((at, fault));
            let end = match fault {
                Fault::Pause(node) => Some(Fault::Resume(node)),
                Fault::Exchange(..) => Some(Fault::PutRight),
                _ => None,
            };
            plan.faults.extend(end.map(|end| (at + draw(100, 2500), end)));
            at += draw(10, longest_pause_ms);
        }
        plan.faults.sort_by_key(|(at, _)| *at);
        let crash = (draw(1, plan.nodes), draw(0, 10));
        plan.last_crash = only.is_empty().then_some(crash);
        let load = &mut plan.load;
        (load.consumers, load.queues) = (draw(0, 3), draw(1, 3));
        load.pushes = if load.consumers == 0 { 0 } else { draw(1, 2) };
        load.moves_ms = [0, 100, 400, 1500][draw(0, 3) as usize];
        plan.move_piece_bytes = [1, 100, 64 << 10][draw(0, 2) as usize];
        load.keepers = draw(0, 2);
        plan.instruction_us = [0, 0, draw(12, 20)][draw(0, 2) as usize];
        plan.draw_members(&draw, only);
        plan
    }

    /// In one run of three the members change, and in most of those somebody may join. A spare node's power fails, too.
    fn draw_members(&mut self, draw: &dyn Fn(u64, u64) -> u64, only: &[Kind]) {
        self.load.members_ms = [0, 0, 0, 0, 300, 1000][draw(0, 5) as usize];
        if self.load.members_ms == 0 {
            return;
        }
        self.spares = draw(if self.nodes == 3 { 1 } else { 0 }, 2);
        for spare in self.nodes + 1..=self.places() {
            let (at, ops, down_ms) = (draw(0, self.faults_ms), draw(0, 80), draw(50, 1500));
            if only.is_empty() && draw(0, 1) == 0 {
                self.faults.push((at, Fault::PowerCutInOperation(spare, ops)));
                self.faults.push((at + down_ms, Fault::Start(spare)));
            }
        }
        self.faults.sort_by_key(|(at, _)| *at);
    }

    /// How many nodes there are, members or not.
    pub fn places(&self) -> u64 {
        self.nodes + self.spares
    }
}

impl Plan {
    /// A short run in which every kind of file is written, renamed and made durable on every node, and the power fails
    /// at `point`, if one is given. Up to the point, all runs of a seed are the same.
    pub fn with_crash_point(seed: u64, point: Option<CrashPoint>) -> Plan {
        let load = Load {
            clients: 3,
            pause_ms: 20,
            keys: 3,
            ballast: 3000,
            reads: 2,
            registers: 2,
            lists: 4,
            table: 1,
            scripts: 1,
            pushes: 0,
            queues: 0,
            consumers: 0,
            moves_ms: 150,
            keepers: 0,
            members_ms: 0,
        };
        let rng = SeededRng::new(seed);
        let draw = |from: u64, to: u64| from + rng.next_u64() % (to - from + 1);
        // A follower that needs a snapshot; a leader that dies; what it had not got committed is cut off.
        let late = draw(1, 3);
        let faults = vec![
            (100, Fault::Isolate(late)),
            (500, Fault::Repair),
            (700, Fault::Kill(late % 3 + 1)),
            (900, Fault::StartAll),
        ];
        Plan {
            nodes: 3,
            spares: 0,
            groups: 2,
            snapshot_entries: draw(3, 6),
            entries_behind_snapshot: 0,
            log_kb: 256,
            load,
            move_piece_bytes: 1,
            instruction_us: 0,
            sync_us: 1500,
            offload_us: 1500,
            latency_ms: 2,
            faults_ms: 1200,
            faults,
            last_crash: None,
            crash_point: point,
        }
    }
}

fn draw_fault(draw: &dyn Fn(u64, u64) -> u64, mix: &[u64], nodes: u64) -> Fault {
    let (node, next) = (draw(1, nodes), draw(1, nodes - 1));
    let other = (node + next - 1) % nodes + 1;
    // Starts and repairs come by themselves, lest everything soon stands still.
    let healing = 2 + mix.iter().sum::<u64>() / 2;
    let mut ticket = draw(0, healing + mix.iter().sum::<u64>() - 1);
    let kind = mix.iter().position(|share| {
        let hit = ticket < *share;
        ticket = ticket.saturating_sub(*share);
        hit
    });
    match kind.map(|place| Kind::ALL[place]) {
        Some(Kind::ClockJump) => Fault::ClockJump(node, draw(0, 20_000) as i64 - 10_000),
        Some(Kind::Damage) => Fault::Damage(node, draw(0, u64::MAX - 1)),
        Some(Kind::DiskError) => Fault::DiskError(node, draw(0, 40)),
        Some(Kind::DiskFull) => Fault::DiskFull(node),
        Some(Kind::Exchange) => Fault::Exchange(node, other),
        Some(Kind::Isolate) => Fault::Isolate(node),
        Some(Kind::Kill) => Fault::Kill(node),
        Some(Kind::OneWay) => Fault::OneWay(node, other),
        Some(Kind::Partition) => Fault::Partition(node, other),
        Some(Kind::Pause) => Fault::Pause(node),
        Some(Kind::PowerCut) => Fault::PowerCut(node),
        Some(Kind::PowerCutInOperation) => Fault::PowerCutInOperation(node, draw(0, 40)),
        Some(Kind::PowerCutOfAll) => Fault::PowerCutOfAll,
        Some(Kind::PowerCutOfAllBut) => Fault::PowerCutOfAllBut(node),
        Some(Kind::SlowDisk) => Fault::SlowDisk(node, draw(1_000, 300_000)),
        Some(Kind::Wipe) => Fault::Wipe(node),
        None => match draw(0, 3) {
            0 => Fault::Start(node),
            1 => Fault::StartAll,
            _ => Fault::Repair,
        },
    }
}
