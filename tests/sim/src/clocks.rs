//! What the nodes' clocks said at every moment of a run. Nobody but the simulation knows: so it can say what a node must have
//! known, and what none of them can have.

use std::ops::RangeInclusive;

use crate::env::BEGIN_MS;

/// Moments are those of the simulation's steps, of a millisecond each: a clock that was read within one may have shown so much
/// more or less.
const STEP_MS: u64 = 1;

/// All clocks. Moments are in milliseconds of the simulation, what clocks show in milliseconds since the Unix epoch.
#[derive(Clone, Debug, Default)]
pub struct Clocks {
    /// In the order of their time; every node's first one is at 0.
    changes: Vec<Change>,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    node: u64,
    from_ms: u64,
    skew_ms: i64,
}

impl Clocks {
    /// From `from_ms` on the clock at `node`'s address is `skew_ms` ahead of the simulation's.
    pub fn set(&mut self, node: u64, from_ms: u64, skew_ms: i64) {
        self.changes.push(Change { node, from_ms, skew_ms });
    }

    /// The least and the most that the clock at `node`'s address showed between two moments.
    pub fn between(&self, node: u64, began_ms: u64, ended_ms: u64) -> RangeInclusive<u64> {
        let (mut least, mut most) = (u64::MAX, 0);
        for (change, until_ms) in self.periods(node) {
            let (from_ms, until_ms) = (change.from_ms.max(began_ms), until_ms.min(ended_ms));
            if from_ms <= until_ms {
                least = least.min(shown(from_ms, change.skew_ms));
                most = most.max(shown(until_ms, change.skew_ms));
            }
        }
        least.saturating_sub(STEP_MS)..=most + STEP_MS
    }

    /// The most that any clock has ever shown until a moment.
    pub fn latest(&self, until_ms: u64) -> u64 {
        let of = |change: &Change| *self.between(change.node, 0, until_ms).end();
        self.changes.iter().filter(|change| change.from_ms == 0).map(of).max().unwrap_or(0)
    }

    /// How `node`'s clock was set, each time until when.
    fn periods(&self, node: u64) -> impl Iterator<Item = (&Change, u64)> {
        let of_node = move |change: &&Change| change.node == node;
        let ends = self.changes.iter().filter(of_node).skip(1).map(|change| change.from_ms);
        self.changes.iter().filter(of_node).zip(ends.chain([u64::MAX]))
    }
}

fn shown(at_ms: u64, skew_ms: i64) -> u64 {
    (BEGIN_MS + at_ms).saturating_add_signed(skew_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_all_that_was_shown() {
        let mut clocks = Clocks::default();
        (1..=2).for_each(|node| clocks.set(node, 0, 0));
        clocks.set(1, 100, 5000);
        clocks.set(1, 200, -5000);
        let between = |node, began_ms, ended_ms| {
            let shown = clocks.between(node, began_ms, ended_ms);
            let relative = |ms: u64| ms as i64 - BEGIN_MS as i64;
            (relative(*shown.start()) + STEP_MS as i64, relative(*shown.end()) - STEP_MS as i64)
        };
        assert_eq!(between(2, 50, 300), (50, 300), "another node's clock");
        assert_eq!(between(1, 50, 99), (50, 99), "before it jumped");
        assert_eq!(between(1, 150, 160), (5150, 5160));
        assert_eq!(between(1, 90, 160), (90, 5160));
        assert_eq!(between(1, 250, 260), (-4750, -4740), "it has jumped back");
        let latest = |until_ms| clocks.latest(until_ms) - BEGIN_MS - STEP_MS;
        assert_eq!(
            (latest(99), latest(150), latest(300)),
            (99, 5150, 5200),
            "what was shown once counts for ever"
        );
    }
}
