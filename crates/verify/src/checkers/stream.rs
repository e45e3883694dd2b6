//! A stream read by a consumer group.
//!
//! Every acknowledged entry is in the stream, once, at ids that grow with time; each is delivered at least once, to one
//! consumer unless it was claimed, and never again after it was acknowledged; a group hands out entries in their order.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::{Serialize, Serializer};

use super::Anomaly;
use crate::history::{self, by_key};
use crate::outcome::{Outcome, word};

/// An entry's id: milliseconds and a sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u64, pub u64);

impl fmt::Display for Id {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.0, self.1)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Ids and values.
pub type Entries = Vec<(Id, u64)>;

/// What was done to a stream. Every value is added once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The group was made.
    Create,
    /// A value, and where it is.
    Add(u64, Option<Id>),
    /// What was new to the group.
    Deliver(Entries),
    /// What others had been given and not acknowledged.
    Claim(Entries),
    /// Whether it was pending.
    Ack(Id, bool),
    /// At the end: what was new, after which nothing is new any more.
    Drain(Entries),
    /// At the end: all there is.
    All(Entries),
}

impl Action {
    /// What a consumer was handed out.
    fn handed_out(&self) -> &[(Id, u64)] {
        match self {
            Action::Deliver(entries) | Action::Claim(entries) | Action::Drain(entries) => entries,
            _ => &[],
        }
    }

    fn is_delivery(&self) -> bool {
        matches!(self, Action::Deliver(_) | Action::Drain(_))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |entries: &Entries| match (entries.first(), entries.last()) {
            (Some((first, _)), Some((last, _))) => format!("{} entries, {first} to {last}", entries.len()),
            _ => "nothing".to_string(),
        };
        match self {
            Action::Create => write!(out, "create the group"),
            Action::Add(value, None) => write!(out, "add {value}"),
            Action::Add(value, Some(id)) => write!(out, "add {value} as {id}"),
            Action::Deliver(entries) => write!(out, "be given {}", range(entries)),
            Action::Claim(entries) => write!(out, "claim {}", range(entries)),
            Action::Ack(id, was_pending) => write!(out, "acknowledge {id}, which was pending: {was_pending}"),
            Action::Drain(entries) => write!(out, "be given the rest: {}", range(entries)),
            Action::All(entries) => write!(out, "read all: {}", range(entries)),
        }
    }
}

type Op = history::Op<Action>;

/// What contradicts a stream and its group at each key.
pub fn check(ops: &[Op]) -> Vec<Anomaly> {
    by_key(ops).into_values().flat_map(|ops| check_key(&ops)).collect()
}

fn check_key(ops: &[&Op]) -> Vec<Anomaly> {
    let done: Vec<&Op> = ops.iter().copied().filter(|op| op.is_ok()).collect();
    let all = done.iter().find_map(|op| match &op.action {
        Action::All(entries) => Some((*op, entries)),
        _ => None,
    });
    let mut anomalies = all.map_or(Vec::new(), |(all, entries)| contents(ops, all, entries));
    anomalies.extend(group_is_gone(ops));
    anomalies.extend(once(&done));
    anomalies.extend(in_order(&done));
    anomalies.extend(after_acknowledgement(&done));
    anomalies.extend(all.and_then(|(all, entries)| never_delivered(&done, all, entries)));
    anomalies
}

/// It was made before all others began.
fn group_is_gone(ops: &[&Op]) -> Option<Anomaly> {
    let created = ops.iter().find(|op| op.is_ok() && op.action == Action::Create)?;
    let refused = ops.iter().find(|op| op.start > created.end && word(&op.error) == "NOGROUP")?;
    Some(Anomaly::new("lost write", "the group was made, and is gone", [*created, *refused]))
}

fn contents(ops: &[&Op], all: &Op, entries: &Entries) -> Vec<Anomaly> {
    let adds: Vec<(u64, Option<Id>, &Op)> = ops
        .iter()
        .filter_map(|op| match op.action {
            Action::Add(value, id) => Some((value, id, *op)),
            _ => None,
        })
        .collect();
    let by_value: HashMap<u64, (Option<Id>, &Op)> =
        adds.iter().map(|(value, id, op)| (*value, (*id, *op))).collect();
    let (mut anomalies, mut at) = (Vec::new(), HashMap::new());
    for (id, value) in entries {
        let (kind, what, add) = match by_value.get(value) {
            None => ("phantom", "was never added", None),
            Some((_, add)) if add.outcome == Outcome::Fail => {
                ("failed write took effect", "was answered as certainly not added, and is there", Some(*add))
            }
            Some((_, add)) if at.contains_key(value) => ("duplicate", "is there twice", Some(*add)),
            Some((told, add)) if add.is_ok() && *told != Some(*id) => {
                ("wrong id", "was told to be elsewhere", Some(*add))
            }
            Some(_) => {
                at.insert(*value, *id);
                continue;
            }
        };
        anomalies.push(Anomaly::new(kind, format!("{value}, at {id}, {what}"), add.into_iter().chain([all])));
    }
    let missing: Vec<&Op> =
        adds.iter().filter(|(value, _, op)| op.is_ok() && !at.contains_key(value)).map(|add| add.2).collect();
    if let Some(first) = missing.first() {
        let what = format!("{} acknowledged entries are gone", missing.len());
        anomalies.push(Anomaly::new("lost write", what, [*first, all]));
    }
    anomalies.extend(ids_follow_time(&adds, &at));
    anomalies
}

/// An entry that was added later has a greater id.
fn ids_follow_time(adds: &[(u64, Option<Id>, &Op)], at: &HashMap<u64, Id>) -> Option<Anomaly> {
    let present: Vec<(Id, &Op)> =
        adds.iter().filter_map(|(value, _, op)| Some((*at.get(value)?, *op))).collect();
    let mut done: Vec<(Id, &Op)> = present.iter().filter(|(_, op)| op.is_ok()).copied().collect();
    done.sort_by_key(|(_, op)| op.end);
    let mut done = done.into_iter().peekable();
    let mut highest: Option<(Id, &Op)> = None;
    for (id, op) in present {
        while let Some(before) = done.next_if(|(_, before)| before.end < op.start) {
            highest = highest.filter(|(most, _)| *most > before.0).or(Some(before));
        }
        if let Some((most, before)) = highest.filter(|(most, _)| id < *most) {
            let what = format!("an entry at {id} was added after one at {most}");
            return Some(Anomaly::new("not linearizable", what, [before, op]));
        }
    }
    None
}

/// What is new to the group is handed out once.
fn once(done: &[&Op]) -> Option<Anomaly> {
    let mut given = HashMap::new();
    let deliveries = done.iter().filter(|op| op.action.is_delivery());
    deliveries.flat_map(|op| op.action.handed_out().iter().map(move |(id, _)| (*id, *op))).find_map(
        |(id, op)| {
            let other: &Op = given.insert(id, op)?;
            Some(Anomaly::new("duplicate", format!("{id} was handed out as new twice"), [other, op]))
        },
    )
}

/// A delivery that began after another had ended hands out later entries.
fn in_order(done: &[&Op]) -> Option<Anomaly> {
    let ends = |op: &Op| Some((op.action.handed_out().first()?.0, op.action.handed_out().last()?.0));
    let deliveries: Vec<(Id, Id, &Op)> = done
        .iter()
        .filter(|op| op.action.is_delivery())
        .filter_map(|op| ends(op).map(|(first, last)| (first, last, *op)))
        .collect();
    let mut ended = deliveries.clone();
    ended.sort_by_key(|(_, _, op)| op.end);
    let mut ended = ended.into_iter().peekable();
    let mut highest: Option<(Id, &Op)> = None;
    for (first, _, op) in deliveries {
        if !op.action.handed_out().is_sorted_by_key(|(id, _)| *id) {
            return Some(Anomaly::new("out of order", "one delivery is not in order", [op]));
        }
        while let Some((_, last, before)) = ended.next_if(|(_, _, before)| before.end < op.start) {
            highest = highest.filter(|(most, _)| *most > last).or(Some((last, before)));
        }
        if let Some((most, before)) = highest.filter(|(most, _)| first < *most) {
            let what = format!("{first} was handed out as new after {most}");
            return Some(Anomaly::new("out of order", what, [before, op]));
        }
    }
    None
}

/// What was acknowledged is neither delivered nor claimed any more.
fn after_acknowledgement(done: &[&Op]) -> Option<Anomaly> {
    let acknowledged: HashMap<Id, &Op> = done
        .iter()
        .filter_map(|op| match op.action {
            Action::Ack(id, true) => Some((id, *op)),
            _ => None,
        })
        .collect();
    done.iter().flat_map(|op| op.action.handed_out().iter().map(move |(id, _)| (id, *op))).find_map(
        |(id, op)| {
            let ack = acknowledged.get(id).filter(|ack| ack.end < op.start)?;
            Some(Anomaly::new("delivered after acknowledgement", id.to_string(), [*ack, op]))
        },
    )
}

/// At least once, to somebody who was told. What went to one of unknown fate is pending, and claimed at the end.
fn never_delivered(done: &[&Op], all: &Op, entries: &Entries) -> Option<Anomaly> {
    done.iter().find(|op| matches!(op.action, Action::Drain(_)))?;
    let shown: HashSet<Id> = done.iter().flat_map(|op| op.action.handed_out()).map(|(id, _)| *id).collect();
    let missing: Vec<Id> = entries.iter().map(|(id, _)| *id).filter(|id| !shown.contains(id)).collect();
    let first = missing.first()?;
    let what = format!("{} entries were never delivered, such as {first}", missing.len());
    Some(Anomaly::new("never delivered", what, [all]))
}

#[cfg(test)]
mod tests;
