//! A queue of different elements, filled at one end and emptied at the other.
//!
//! Every acknowledged element is taken once, in the order in which they came; what was refused never appears. A taker whose
//! fate is unknown may have taken one element that nobody has. What is left at the end is read, so what is missing then is
//! lost.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use super::Anomaly;
use crate::history::{self, by_key};
use crate::outcome::Outcome;

/// What was done to a queue. Every element is pushed once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// One more at the end.
    Push(u64),
    /// The first one was taken, if there was one.
    Pop(Option<u64>),
    /// All that was left when nobody took any more.
    Rest(Vec<u64>),
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Push(value) => write!(out, "push {value}"),
            Action::Pop(Some(value)) => write!(out, "take {value}"),
            Action::Pop(None) => write!(out, "take nothing"),
            Action::Rest(values) => write!(out, "find {} left", values.len()),
        }
    }
}

type Op = history::Op<Action>;

/// What contradicts a queue at each key.
pub fn check(ops: &[Op]) -> Vec<Anomaly> {
    by_key(ops).into_values().flat_map(|ops| check_key(&ops)).collect()
}

fn check_key(ops: &[&Op]) -> Vec<Anomaly> {
    let (mut pushes, mut taken, mut anomalies) = (HashMap::new(), HashMap::new(), Vec::new());
    for op in ops {
        if let Action::Push(value) = op.action {
            let before = pushes.insert(value, *op);
            assert!(before.is_none(), "{value} is pushed twice to {}: a fault of the workload", op.key);
        }
    }
    for op in ops {
        for value in taken_by(op) {
            anomalies.extend(unfounded(*value, op, pushes.get(value).copied()));
            if let Some(other) = taken.insert(*value, *op) {
                anomalies.push(Anomaly::new("duplicate", format!("{value} was taken twice"), [other, op]));
            }
        }
    }
    anomalies.extend(lost(ops, &pushes, &taken));
    anomalies.extend(out_of_order(&pushes, &taken));
    anomalies
}

fn taken_by(op: &Op) -> &[u64] {
    match &op.action {
        _ if !op.is_ok() => &[],
        Action::Push(_) => &[],
        Action::Pop(value) => value.as_slice(),
        Action::Rest(values) => values,
    }
}

fn unfounded(value: u64, op: &Op, push: Option<&Op>) -> Option<Anomaly> {
    match push {
        None => Some(Anomaly::new("phantom", format!("{value} was never pushed"), [op])),
        Some(push) if push.outcome == Outcome::Fail => {
            let what = format!("{value} was answered as certainly not pushed, and was taken");
            Some(Anomaly::new("failed write took effect", what, [push, op]))
        }
        Some(push) if op.end < push.start => {
            let what = format!("{value} was taken before it was pushed");
            Some(Anomaly::new("read from the future", what, [op, push]))
        }
        Some(_) => None,
    }
}

/// Each taker of unknown fate may account for one element.
fn lost(ops: &[&Op], pushes: &HashMap<u64, &Op>, taken: &HashMap<u64, &Op>) -> Option<Anomaly> {
    let rest = ops.iter().find(|op| op.is_ok() && matches!(op.action, Action::Rest(_)))?;
    let mut missing: Vec<&Op> = pushes
        .iter()
        .filter(|(value, op)| op.is_ok() && !taken.contains_key(value))
        .map(|(_, op)| *op)
        .collect();
    missing.sort_by_key(|op| op.index);
    let is_excuse = |op: &&&Op| op.outcome == Outcome::Info && matches!(op.action, Action::Pop(_));
    let excuses = ops.iter().filter(is_excuse).count();
    (missing.len() > excuses).then(|| {
        let what = format!(
            "{} acknowledged elements are gone, and {excuses} takers of unknown fate may have one each",
            missing.len()
        );
        Anomaly::new("lost write", what, missing.into_iter().take(excuses.min(4) + 1).chain([*rest]))
    })
}

/// One element was pushed after another was in, and taken before anybody began to take that one.
fn out_of_order(pushes: &HashMap<u64, &Op>, taken: &HashMap<u64, &Op>) -> Option<Anomaly> {
    // (push, take) of the elements whose push is known to have ended, in the order of these ends.
    let pairs: Vec<(&Op, &Op)> =
        taken.iter().filter_map(|(value, pop)| Some((*pushes.get(value)?, *pop))).collect();
    let mut known: Vec<(&Op, &Op)> = pairs.iter().filter(|(push, _)| push.is_ok()).copied().collect();
    known.sort_by_key(|(push, _)| push.end);
    // Of the elements up to each, the one that was begun to be taken last.
    let latest: Vec<(&Op, &Op)> = known
        .iter()
        .scan(None, |latest: &mut Option<(&Op, &Op)>, pair| {
            *latest = latest.filter(|other| other.1.start >= pair.1.start).or(Some(*pair));
            *latest
        })
        .collect();
    pairs.into_iter().find_map(|(push, pop)| {
        let place = known.partition_point(|(before, _)| before.end < push.start);
        let (before, late) = latest[..place].last().filter(|(_, late)| late.start > pop.end)?;
        let what = "an element was pushed after another one was in, and taken before it";
        Some(Anomaly::new("out of order", what, [*before, push, pop, *late]))
    })
}

#[cfg(test)]
mod tests;
