//! A set that only grows: linearizable, exactly. Reads must be ordered by inclusion, and agree with time.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::Serialize;

use super::{Anomaly, LOST_OR_STALE};
use crate::history::{self, by_key};
use crate::outcome::Outcome;

/// What was done to a set. Every element is added once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// One element.
    Add(u64),
    /// Saw all of it, in ascending order.
    Read(Vec<u64>),
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Add(value) => write!(out, "add {value}"),
            Action::Read(values) => write!(out, "read {} elements", values.len()),
        }
    }
}

type Op = history::Op<Action>;

/// What contradicts linearizability of each key.
pub fn check(ops: &[Op]) -> Vec<Anomaly> {
    by_key(ops).into_values().filter_map(|ops| Growing::of(&ops).judge()).collect()
}

/// One set.
struct Growing<'a> {
    adds: HashMap<u64, &'a Op>,
    /// From the one that shows least to the one that shows most; alike ones in the order of their starts.
    reads: Vec<(&'a Op, &'a [u64])>,
}

impl<'a> Growing<'a> {
    fn of(ops: &[&'a Op]) -> Growing<'a> {
        let (mut adds, mut reads) = (HashMap::new(), Vec::new());
        for op in ops {
            match &op.action {
                Action::Add(value) => {
                    let before = adds.insert(*value, *op);
                    assert!(
                        before.is_none(),
                        "{value} is added twice to {}: a fault of the workload",
                        op.key
                    );
                }
                Action::Read(values) if op.is_ok() => reads.push((*op, values.as_slice())),
                Action::Read(_) => {}
            }
        }
        reads.sort_by_key(|(op, values)| (values.len(), op.start));
        Growing { adds, reads }
    }

    fn judge(&self) -> Option<Anomaly> {
        let founded = self.reads.iter().find_map(|(op, values)| self.unfounded(op, values));
        founded.or_else(|| self.inclusion()).or_else(|| self.time_of_reads()).or_else(|| {
            let shown = self.shown();
            self.time_of_adds(&shown).or_else(|| self.order_of_adds(&shown))
        })
    }

    fn unfounded(&self, op: &Op, values: &[u64]) -> Option<Anomaly> {
        if let Some(pair) = values.windows(2).find(|pair| pair[0] == pair[1]) {
            return Some(Anomaly::new("duplicate", format!("{} is in it twice", pair[0]), [op]));
        }
        values.iter().find_map(|value| match self.adds.get(value) {
            None => Some(Anomaly::new("phantom", format!("{value} was never added"), [op])),
            Some(add) if add.outcome == Outcome::Fail => {
                let what = format!("{value} was answered as certainly not added, and is there");
                Some(Anomaly::new("failed write took effect", what, [add, op]))
            }
            Some(add) if op.end < add.start => {
                let what = format!("{value} was there before it was added");
                Some(Anomaly::new("read from the future", what, [op, add]))
            }
            Some(_) => None,
        })
    }

    /// Neither of two reads contains the other: they cannot both be of one growing set.
    fn inclusion(&self) -> Option<Anomaly> {
        self.reads.windows(2).find_map(|pair| {
            let [(small, few), (large, many)] = pair else { unreachable!("windows of two") };
            let absent = few.iter().find(|value| many.binary_search(value).is_err())?;
            // The earlier one shows that it was there, or that it was not there yet.
            let what = format!("{absent} is in one read, and not in another one that shows as much or more");
            Some(Anomaly::new(LOST_OR_STALE, what, [*self.adds.get(absent)?, small, large]))
        })
    }

    /// A read that ended before another one started must not show more.
    fn time_of_reads(&self) -> Option<Anomaly> {
        let mut latest: Option<(&Op, &[u64])> = None;
        for (op, values) in &self.reads {
            // Those before it in this order show less or the same.
            if let Some((less, few)) = latest
                && op.end < less.start
                && few.len() < values.len()
            {
                let what = "less was there, after more had been";
                return Some(Anomaly::new(LOST_OR_STALE, what, [*op, less]));
            }
            if latest.is_none_or(|(less, _)| op.start > less.start) {
                latest = Some((op, values));
            }
        }
        None
    }

    /// For each element the first read, in the order of what they show, that shows it.
    fn shown(&self) -> HashMap<u64, usize> {
        let mut shown = HashMap::new();
        let mut before: HashSet<u64> = HashSet::new();
        for (level, (_, values)) in self.reads.iter().enumerate() {
            // Nothing is new in a read that shows as much as the one before it.
            if values.len() > before.len() {
                for value in values.iter().filter(|value| !before.contains(value)).collect::<Vec<_>>() {
                    shown.insert(*value, level);
                    before.insert(*value);
                }
            }
        }
        shown
    }

    /// Acknowledged before a read started, and not in it.
    fn time_of_adds(&self, shown: &HashMap<u64, usize>) -> Option<Anomaly> {
        // Of the reads up to each, the one that started last.
        let started: Vec<&Op> = self
            .reads
            .iter()
            .scan(None, |latest: &mut Option<&Op>, (op, _)| {
                *latest = latest.filter(|other| other.start >= op.start).or(Some(op));
                *latest
            })
            .collect();
        self.in_order().into_iter().find_map(|(value, add)| {
            // What nobody has acknowledged may come at any time after its start.
            let level = *shown.get(&value).unwrap_or(&self.reads.len());
            let read = started[..level].last().filter(|read| read.start > add.until())?;
            let what = format!("{value} was acknowledged, and is absent from a later read");
            Some(Anomaly::new(LOST_OR_STALE, what, [add, *read]))
        })
    }

    /// An element added later must not be seen without one that was acknowledged before it was added.
    fn order_of_adds(&self, shown: &HashMap<u64, usize>) -> Option<Anomaly> {
        let adds = self.in_order();
        let mut done: Vec<_> = adds.iter().filter(|(_, add)| add.is_ok()).copied().collect();
        done.sort_by_key(|(_, add)| add.end);
        let mut done = done.into_iter().peekable();
        let level = |value: &u64| shown.get(value).copied();
        let mut highest: Option<(usize, u64, &Op)> = None;
        for (value, add) in &adds {
            while let Some((value, before)) = done.next_if(|(_, before)| before.end < add.start) {
                let level = level(&value).unwrap_or(self.reads.len());
                if highest.is_none_or(|(most, ..)| level > most) {
                    highest = Some((level, value, before));
                }
            }
            if let (Some(level), Some((most, missing, before))) = (level(value), highest)
                && level < most
            {
                let what = format!("a read shows {value} without {missing}, which was there before it");
                return Some(Anomaly::new(LOST_OR_STALE, what, [before, *add, self.reads[level].0]));
            }
        }
        None
    }

    /// Its elements in the order in which they began to be added.
    fn in_order(&self) -> Vec<(u64, &'a Op)> {
        let mut adds: Vec<_> = self.adds.iter().map(|(value, op)| (*value, *op)).collect();
        adds.sort_by_key(|(_, op)| op.start);
        adds
    }
}

#[cfg(test)]
mod tests;
