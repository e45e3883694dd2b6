//! Linearizability of registers whose values are all different: exact, in O(n log n), however many are concurrent.
//!
//! With different values, every read names the write that it saw (Gibbons and Korach, *Testing shared memories*, 1997).
//! All that concerns one value, its write and the reads of it, must then stand together in any linearization, as one
//! *cluster*; and an atomic update from `a` to `b` puts `b`'s cluster right behind `a`'s, so that these form a *chain*.
//! Let `first_end` be when the first operation of a chain ended and `last_start` when its last one started. Chain X must
//! stand before chain Y exactly if X.first_end < Y.last_start. Among chains, this relation has a cycle only if it has one
//! of length two: of the chains of a cycle take the one with the greatest last_start; all others stand before it, and it
//! stands before one of them. So it is enough to look for pairs.
//!
//! A write of unknown outcome never ends; one whose value nobody has seen is taken as not done, which is always allowed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use serde::Serialize;

use super::{Anomaly, LOST_OR_STALE};
use crate::history::{self, FOREVER, Time, by_key};
use crate::outcome::Outcome;

/// `None`: the key is absent, as it is at first.
type Seen = Option<u64>;

/// What was done to a register. Every value is written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Saw this.
    Read(Seen),
    /// Set it, whatever was there.
    Write(u64),
    /// Set it where, at the same moment, something was there: if its outcome is unknown, where that *would have* been.
    Update {
        /// What was there.
        from: Seen,
        /// What is there now.
        to: u64,
    },
}

impl Action {
    fn written(self) -> Option<u64> {
        match self {
            Action::Read(_) => None,
            Action::Write(value) | Action::Update { to: value, .. } => Some(value),
        }
    }

    fn seen(self) -> Option<Seen> {
        match self {
            Action::Write(_) => None,
            Action::Read(seen) | Action::Update { from: seen, .. } => Some(seen),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Read(seen) => write!(out, "read {}", name(*seen)),
            Action::Write(value) => write!(out, "write {value}"),
            Action::Update { from, to } => write!(out, "update {} to {to}", name(*from)),
        }
    }
}

type Op = history::Op<Action>;

/// What contradicts linearizability of each key.
pub fn check(ops: &[Op]) -> Vec<Anomaly> {
    by_key(ops).into_values().flat_map(|ops| check_key(&ops)).collect()
}

fn check_key(ops: &[&Op]) -> Vec<Anomaly> {
    let (clusters, anomalies) = clusters_of(ops);
    if !anomalies.is_empty() {
        return anomalies;
    }
    let chains = chains_of(&clusters);
    let found = circle(&clusters, &chains)
        .or_else(|| chains.iter().find_map(disorder_within))
        .or_else(|| disorder_between(&chains));
    found.into_iter().collect()
}

/// The operations on one value.
#[derive(Default)]
struct Cluster<'a> {
    value: Seen,
    /// Who wrote it; nobody did at first.
    write: Option<&'a Op>,
    reads: Vec<&'a Op>,
    /// The atomic update from this value to another one.
    update: Option<&'a Op>,
}

/// When something was, and what. What was before all time has no operation.
#[derive(Clone, Copy)]
struct Mark<'a>(Time, Option<&'a Op>);

impl<'a> Cluster<'a> {
    fn first_end(&self) -> Mark<'a> {
        let write = self.write.map_or(Mark(Time::MIN, None), |op| Mark(op.until(), Some(op)));
        self.reads.iter().map(|op| Mark(op.end, Some(*op))).fold(write, earlier)
    }

    fn last_start(&self) -> Mark<'a> {
        let write = self.write.map_or(Mark(Time::MIN, None), |op| Mark(op.start, Some(op)));
        self.reads.iter().map(|op| Mark(op.start, Some(*op))).fold(write, later)
    }
}

fn earlier<'a>(one: Mark<'a>, other: Mark<'a>) -> Mark<'a> {
    if other.0 < one.0 { other } else { one }
}

fn later<'a>(one: Mark<'a>, other: Mark<'a>) -> Mark<'a> {
    if other.0 > one.0 { other } else { one }
}

fn clusters_of<'a>(ops: &[&'a Op]) -> (BTreeMap<Seen, Cluster<'a>>, Vec<Anomaly>) {
    let mut writes = HashMap::new();
    for op in ops {
        if let Some(value) = op.action.written() {
            let before = writes.insert(value, *op);
            assert!(before.is_none(), "{value} is written twice to {}: a fault of the workload", op.key);
        }
    }
    let seen = seen_values(ops);
    let took_effect = |op: &Op| {
        let written = op.action.written();
        op.is_ok() || (op.outcome == Outcome::Info && written.is_some() && seen.contains(&written))
    };
    let mut clusters = BTreeMap::from([(None, Cluster::default())]);
    for (value, op) in &writes {
        if took_effect(op) {
            let cluster = Cluster { value: Some(*value), write: Some(*op), ..Cluster::default() };
            clusters.insert(Some(*value), cluster);
        }
    }
    let mut anomalies = Vec::new();
    for op in ops.iter().filter(|op| took_effect(op)) {
        let Some(value) = op.action.seen() else { continue };
        match clusters.get_mut(&value) {
            None => anomalies.push(unfounded(op, value.and_then(|value| writes.get(&value).copied()))),
            Some(cluster) => anomalies.extend(join(cluster, op)),
        }
    }
    (clusters, anomalies)
}

/// Adds what has seen the cluster's value to it.
fn join<'a>(cluster: &mut Cluster<'a>, op: &'a Op) -> Option<Anomaly> {
    if let Action::Read(_) = op.action {
        cluster.reads.push(op);
        let write = cluster.write.filter(|write| op.end < write.start)?;
        let what = format!("{} was read before its write began", name(cluster.value));
        return Some(Anomaly::new("read from the future", what, [op, write]));
    }
    let other = cluster.update.replace(op)?;
    let what = format!("two atomic updates started from {}", name(cluster.value));
    Some(Anomaly::new("lost update", what, [other, op]))
}

/// What somebody has read, or must have: an unknown update whose value was seen has seen the one it names.
fn seen_values(ops: &[&Op]) -> HashSet<Seen> {
    let mut found: Vec<Seen> = ops.iter().filter(|op| op.is_ok()).filter_map(|op| op.action.seen()).collect();
    let unknown: HashMap<Seen, Seen> = ops
        .iter()
        .filter(|op| op.outcome == Outcome::Info)
        .filter_map(|op| match op.action {
            Action::Update { from, to } => Some((Some(to), from)),
            _ => None,
        })
        .collect();
    let mut seen = HashSet::new();
    while let Some(value) = found.pop() {
        if seen.insert(value) {
            found.extend(unknown.get(&value));
        }
    }
    seen
}

fn unfounded(op: &Op, write: Option<&Op>) -> Anomaly {
    let value = op.action.seen().flatten();
    match write {
        Some(write) => {
            let what = format!("{} was answered as certainly not done, and took effect", name(value));
            Anomaly::new("failed write took effect", what, [write, op])
        }
        None => Anomaly::new("phantom", format!("{} was never written", name(value)), [op]),
    }
}

/// Clusters that stand right behind one another.
struct Chain<'a, 'c> {
    clusters: Vec<&'c Cluster<'a>>,
    first_end: Mark<'a>,
    last_start: Mark<'a>,
}

fn chains_of<'a, 'c>(clusters: &'c BTreeMap<Seen, Cluster<'a>>) -> Vec<Chain<'a, 'c>> {
    let next = |cluster: &Cluster| cluster.update.and_then(|op| op.action.written());
    let followers: HashSet<Seen> = clusters.values().filter_map(next).map(Some).collect();
    let heads = clusters.iter().filter(|(value, _)| !followers.contains(value)).map(|(_, cluster)| cluster);
    heads
        .map(|head| {
            let follow = |cluster: &&Cluster<'a>| next(cluster).map(|value| &clusters[&Some(value)]);
            let members: Vec<_> = std::iter::successors(Some(head), follow).collect();
            let first_end = members.iter().map(|c| c.first_end()).fold(Mark(FOREVER, None), earlier);
            let last_start = members.iter().map(|c| c.last_start()).fold(Mark(Time::MIN, None), later);
            Chain { clusters: members, first_end, last_start }
        })
        .collect()
}

/// Updates that each start from the value of the next one, around.
fn circle(clusters: &BTreeMap<Seen, Cluster>, chains: &[Chain]) -> Option<Anomaly> {
    let in_chains: HashSet<Seen> =
        chains.iter().flat_map(|chain| &chain.clusters).map(|cluster| cluster.value).collect();
    let updates: Vec<&Op> =
        clusters.values().filter(|c| !in_chains.contains(&c.value)).filter_map(|c| c.update).collect();
    (!updates.is_empty()).then(|| {
        Anomaly::new("not linearizable", "atomic updates started from one another's values", updates)
    })
}

/// Something about a later cluster had ended before something about an earlier one started.
fn disorder_within(chain: &Chain) -> Option<Anomaly> {
    let mut latest = (Mark(Time::MIN, None), None);
    for cluster in &chain.clusters {
        let end = cluster.first_end();
        if end.0 < latest.0.0 {
            let what =
                format!("{} was current again after {} had replaced it", name(latest.1), name(cluster.value));
            return Some(Anomaly::new("not linearizable", what, end.1.into_iter().chain(latest.0.1)));
        }
        let start = cluster.last_start();
        if start.0 > latest.0.0 {
            latest = (start, cluster.value);
        }
    }
    None
}

fn disorder_between(chains: &[Chain]) -> Option<Anomaly> {
    let (mut forward, others): (Vec<&Chain>, Vec<&Chain>) =
        chains.iter().partition(|chain| chain.first_end.0 < chain.last_start.0);
    forward.sort_by_key(|chain| chain.first_end.0);
    if let Some(pair) = forward.windows(2).find(|pair| pair[1].first_end.0 < pair[0].last_start.0) {
        return Some(crossing(pair[0], pair[1]));
    }
    others.into_iter().find_map(|chain| {
        // The forward chain that may have something ended before this one started.
        let place = forward.partition_point(|other| other.first_end.0 < chain.last_start.0);
        let other = forward[..place].last()?;
        (chain.first_end.0 < other.last_start.0).then(|| crossing(other, chain))
    })
}

/// Each chain has something that ended before something of the other started.
fn crossing(one: &Chain, other: &Chain) -> Anomaly {
    let marks = [one.first_end, other.last_start, other.first_end, one.last_start];
    let mut ops: Vec<&Op> = marks.iter().filter_map(|mark| mark.1).collect();
    ops.sort_by_key(|op| op.index);
    ops.dedup_by_key(|op| op.index);
    let is_initial = |chain: &Chain| chain.clusters[0].write.is_none();
    let kind = if is_initial(one) || is_initial(other) { LOST_OR_STALE } else { "not linearizable" };
    let step = |before: Mark, after: Mark| match (before.1, after.1) {
        (Some(before), Some(after)) => format!("#{} ended before #{} began", before.index, after.index),
        _ => "the key was absent at first".to_string(),
    };
    let what = format!(
        "each of {} and {} must have come before the other: {}, and {}",
        names(one),
        names(other),
        step(one.first_end, other.last_start),
        step(other.first_end, one.last_start),
    );
    Anomaly::new(kind, what, ops)
}

/// The values of a chain.
fn names(chain: &Chain) -> String {
    let values: Vec<String> = chain.clusters.iter().take(3).map(|cluster| name(cluster.value)).collect();
    let more = if chain.clusters.len() > values.len() { ", …" } else { "" };
    format!("{}{more}", values.join(", "))
}

fn name(value: Seen) -> String {
    value.map_or("nothing".to_string(), |value| value.to_string())
}

#[cfg(test)]
mod tests;
