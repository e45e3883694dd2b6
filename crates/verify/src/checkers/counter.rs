//! A counter that only INCR changes: linearizable, exactly, in O(n log n).
//!
//! The values tell the order. An INCR that returned n was the n-th; a read of n came after the n-th and before the next.
//! Increments of unknown outcome fill the gaps: each gap must be given one that started before anybody saw a value beyond
//! it.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::Serialize;

use super::{Anomaly, LOST_OR_STALE};
use crate::history::{self, FOREVER, by_key};
use crate::outcome::Outcome;

/// What was done to a counter, and the number that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// One more.
    Incr(u64),
    /// Looked; 0 if the key is absent.
    Read(u64),
}

impl Action {
    fn value(self) -> u64 {
        match self {
            Action::Incr(value) | Action::Read(value) => value,
        }
    }

    fn is_incr(self) -> bool {
        matches!(self, Action::Incr(_))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Incr(value) => write!(out, "increment to {value}"),
            Action::Read(value) => write!(out, "read {value}"),
        }
    }
}

type Op = history::Op<Action>;

/// What contradicts linearizability of each key.
pub fn check(ops: &[Op]) -> Vec<Anomaly> {
    by_key(ops).into_values().filter_map(|ops| check_key(&ops)).collect()
}

fn check_key(ops: &[&Op]) -> Option<Anomaly> {
    let mut seen: Vec<&Op> = ops.iter().copied().filter(|op| op.is_ok()).collect();
    let found = twice(&seen).or_else(|| disorder(&seen));
    seen.sort_by_key(|op| op.action.value());
    found.or_else(|| gaps(ops, &seen))
}

fn twice(seen: &[&Op]) -> Option<Anomaly> {
    let mut owners = HashMap::new();
    seen.iter().filter(|op| op.action.is_incr()).find_map(|op| {
        let other: &Op = owners.insert(op.action.value(), *op)?;
        let what = format!("two increments returned {}", op.action.value());
        Some(Anomaly::new("lost update", what, [other, op]))
    })
}

/// Whoever started after a greater value had been returned must not see a smaller one, or increment to the same.
/// `seen` is in the order of starts.
fn disorder(seen: &[&Op]) -> Option<Anomaly> {
    let mut by_end = seen.to_vec();
    by_end.sort_by_key(|op| op.end);
    let mut ended = by_end.into_iter().peekable();
    let mut greatest: Option<&Op> = None;
    for op in seen {
        while let Some(before) = ended.next_if(|before| before.end < op.start) {
            if greatest.is_none_or(|greatest| before.action.value() > greatest.action.value()) {
                greatest = Some(before);
            }
        }
        let (value, Some(before)) = (op.action.value(), greatest) else { continue };
        let most = before.action.value();
        if value < most || (value == most && op.action.is_incr()) {
            let what = format!("it went back from {most} to {}", value - u64::from(op.action.is_incr()));
            return Some(Anomaly::new(LOST_OR_STALE, what, [before, *op]));
        }
    }
    None
}

/// `seen` is in the order of values.
fn gaps(ops: &[&Op], seen: &[&Op]) -> Option<Anomaly> {
    let taken: HashSet<u64> =
        seen.iter().filter(|op| op.action.is_incr()).map(|op| op.action.value()).collect();
    let most = seen.last()?.action.value();
    let missing: Vec<u64> = (1..=most).filter(|value| !taken.contains(value)).collect();
    let is_unknown = |op: &&&Op| op.action.is_incr() && op.outcome == Outcome::Info;
    let mut unknown: Vec<&Op> = ops.iter().filter(is_unknown).copied().collect();
    unknown.sort_by_key(|op| op.start);
    // From the top down: of the operations that saw at least so much, the one that ended first.
    let (mut rest, mut deadline) = (seen, (FOREVER, None));
    for (n, value) in missing.iter().enumerate().rev() {
        while let Some((op, fewer)) = rest.split_last().filter(|(op, _)| op.action.value() >= *value) {
            if op.end < deadline.0 {
                deadline = (op.end, Some(*op));
            }
            rest = fewer;
        }
        if unknown.get(n).is_none_or(|op| op.start > deadline.0) {
            let what = format!(
                "nobody can have made it {value}: an increment took effect twice, or though it failed"
            );
            return Some(Anomaly::new("failed write took effect", what, deadline.1));
        }
    }
    None
}

#[cfg(test)]
mod tests;
