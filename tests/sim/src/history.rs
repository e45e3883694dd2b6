//! What clients saw, and whether a linearizable store that loses nothing can have shown it.
//!
//! Each key has one writer, which writes 1, 2, 3 … in turn, and many readers. Such a history is linearizable exactly
//! if every read returns a number that was not certainly refused, that is no lower than any number acknowledged, or
//! read by anybody, before the read began, and no higher than what had been tried when it ended. A write of unknown
//! fate may show up or not; once a higher number has shown up it may not come back, which the same rule forbids.

use std::collections::{BTreeMap, BTreeSet};

/// One key's history so far.
#[derive(Default, Debug)]
struct Register {
    tried: u64,
    /// The highest number that any read or acknowledgement has proved.
    proved: u64,
    refused: BTreeSet<u64>,
}

/// All that clients saw.
#[derive(Default, Debug)]
pub struct History {
    registers: BTreeMap<String, Register>,
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// Writes of unknown fate.
    pub unknown: u64,
    /// Reads answered.
    pub reads: u64,
    /// What cannot be.
    pub violations: Vec<String>,
}

impl History {
    /// A write begins; the number to write.
    pub fn begin_write(&mut self, key: &str) -> u64 {
        let register = self.registers.entry(key.into()).or_default();
        register.tried += 1;
        register.tried
    }

    /// A write has been acknowledged.
    pub fn acknowledge(&mut self, key: &str, number: u64) {
        self.acknowledged += 1;
        let register = self.registers.entry(key.into()).or_default();
        register.proved = register.proved.max(number);
    }

    /// A write has certainly not been applied.
    pub fn refuse(&mut self, key: &str, number: u64) {
        self.registers.entry(key.into()).or_default().refused.insert(number);
    }

    /// A write's fate is unknown.
    pub fn lose_track(&mut self) {
        self.unknown += 1;
    }

    /// A read begins; what to give to [`History::end_read`].
    pub fn begin_read(&self, key: &str) -> u64 {
        self.registers.get(key).map_or(0, |register| register.proved)
    }

    /// A read that began at `floor` has returned `number` (0: no value).
    pub fn end_read(&mut self, key: &str, floor: u64, number: u64) {
        self.reads += 1;
        let register = self.registers.entry(key.into()).or_default();
        let wrong = if number < floor {
            Some(format!("{key} was at least {floor} before the read and then read as {number}"))
        } else if number > register.tried {
            Some(format!("{key} read as {number}, which nobody wrote (last: {})", register.tried))
        } else if register.refused.contains(&number) {
            Some(format!("{key} read as {number}, whose write was answered as certainly not applied"))
        } else {
            None
        };
        self.violations.extend(wrong);
        register.proved = register.proved.max(number);
    }

    /// The keys that were written.
    pub fn keys(&self) -> Vec<String> {
        self.registers.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_write_a_stale_read_and_a_lie_are_found() {
        let mut history = History::default();
        let first = history.begin_write("k");
        history.acknowledge("k", first);
        let floor = history.begin_read("k");
        history.end_read("k", floor, 0);
        assert_eq!(history.violations.len(), 1, "lost: {history:?}");
        let second = history.begin_write("k");
        history.refuse("k", second);
        history.end_read("k", floor, second);
        assert_eq!(history.violations.len(), 2, "a lie: {history:?}");
        history.end_read("k", floor, 9);
        assert_eq!(history.violations.len(), 3, "out of thin air: {history:?}");
    }

    #[test]
    fn an_unknown_write_may_show_up_but_not_come_back() {
        let mut history = History::default();
        let unknown = history.begin_write("k");
        history.lose_track();
        let before = history.begin_read("k");
        history.end_read("k", before, unknown);
        let next = history.begin_write("k");
        history.acknowledge("k", next);
        assert!(history.violations.is_empty());
        let floor = history.begin_read("k");
        history.end_read("k", floor, unknown);
        assert_eq!(history.violations.len(), 1);
    }
}
