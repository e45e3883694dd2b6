//! Locks with a time limit: no two clients may hold one at the same time.
//!
//! A holder is sure of its lock from the reply that granted it until it begins to give it back, or until the limit has
//! passed since it *asked*; the server counts from a later moment, so this interval lies within what was promised. Two
//! such intervals of one lock must not overlap. The nodes' clocks must agree: where they jump, nobody promises this.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use super::Anomaly;
use crate::history::{self, Time, by_key, seconds};

/// What was done to a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Asked for it.
    Acquire {
        /// Whose it would be.
        token: u64,
        /// For how long, in nanoseconds.
        limit: Time,
        /// Whether it was granted.
        granted: bool,
    },
    /// Gave it back.
    Release {
        /// Whose it was.
        token: u64,
        /// Whether it was still so.
        released: bool,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Acquire { token, limit, granted } => {
                write!(out, "acquire for {token}, {} s: granted {granted}", seconds(*limit))
            }
            Action::Release { token, released } => write!(out, "release of {token}: released {released}"),
        }
    }
}

type Op = history::Op<Action>;

/// What contradicts mutual exclusion at each key.
pub fn check(ops: &[Op]) -> Vec<Anomaly> {
    by_key(ops).into_values().flat_map(|ops| check_key(&ops)).collect()
}

/// When its holder is sure of a lock.
#[derive(Clone, Copy)]
struct Hold<'a> {
    from: Time,
    until: Time,
    /// Until when it would be, if it were not given back.
    limit: Time,
    grant: &'a Op,
}

fn check_key(ops: &[&Op]) -> Vec<Anomaly> {
    let mut releases = HashMap::new();
    for op in ops {
        if let Action::Release { token, .. } = op.action {
            releases.insert(token, *op);
        }
    }
    let mut holds: Vec<(u64, Hold)> = ops
        .iter()
        .filter_map(|op| match op.action {
            Action::Acquire { token, limit, granted: true } if op.is_ok() => {
                let limit = op.start + limit;
                let until = releases.get(&token).map_or(limit, |release: &&Op| limit.min(release.start));
                Some((token, Hold { from: op.end, until, limit, grant: op }))
            }
            _ => None,
        })
        .filter(|(_, hold)| hold.until > hold.from)
        .collect();
    holds.sort_by_key(|(_, hold)| hold.from);
    let gone = holds.iter().find_map(|(token, hold)| gone(hold, releases.get(token)?));
    overlaps(holds.iter().map(|(_, hold)| *hold)).into_iter().chain(gone).collect()
}

fn overlaps<'a>(holds: impl Iterator<Item = Hold<'a>>) -> Vec<Anomaly> {
    let (mut anomalies, mut latest) = (Vec::new(), None::<Hold>);
    for hold in holds {
        if let Some(other) = latest.filter(|other| hold.from < other.until) {
            let (from, until) = (seconds(hold.from), seconds(hold.until.min(other.until)));
            let what = format!("two held it from {from:.6} to {until:.6}");
            anomalies.push(Anomaly::new("lock held twice", what, [other.grant, hold.grant]));
        }
        if latest.is_none_or(|other| hold.until > other.until) {
            latest = Some(hold);
        }
    }
    anomalies
}

/// A lock that was certainly held when its holder gave it back must have been the holder's.
fn gone(hold: &Hold, release: &Op) -> Option<Anomaly> {
    let Action::Release { released: false, .. } = release.action else { return None };
    (release.is_ok() && release.end < hold.limit)
        .then(|| Anomaly::new("lost write", "the lock was gone before its time limit", [hold.grant, release]))
}

#[cfg(test)]
mod tests;
