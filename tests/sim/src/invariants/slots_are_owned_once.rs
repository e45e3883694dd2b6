//! In each of its epochs a slot is served by one group alone, and in the end every slot is served by one.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use quoris_engine::keyspace::ownership::{Epoch, Ownership};
use quoris_engine::{SLOT_COUNT, SlotId};
use quoris_raft::types::GroupId;

use super::Verdict;

/// Slots as runs, in order.
pub type Slots = Vec<RangeInclusive<SlotId>>;

/// Who was seen to serve what.
#[derive(Default)]
pub struct SlotsAreOwnedOnce {
    /// What each group was founded with.
    founded: BTreeMap<GroupId, Slots>,
    /// Who serves a slot in an epoch after the founding.
    moved: BTreeMap<(SlotId, Epoch), GroupId>,
    /// What each group serves, by the replica that has applied most.
    latest: BTreeMap<GroupId, (u64, Slots)>,
}

impl SlotsAreOwnedOnce {
    /// A replica of `group` was founded with `slots`.
    pub fn founded(&mut self, group: GroupId, slots: Slots) -> Verdict {
        match self.founded.get(&group) {
            Some(known) if *known == slots => return Ok(()),
            Some(known) => {
                return Err(format!("replicas of group {group} were founded with {slots:?} and {known:?}"));
            }
            None => {}
        }
        let overlaps = |a: &RangeInclusive<SlotId>, b: &RangeInclusive<SlotId>| {
            a.start() <= b.end() && b.start() <= a.end()
        };
        let taken = self
            .founded
            .iter()
            .find(|(_, others)| others.iter().any(|other| slots.iter().any(|range| overlaps(range, other))));
        if let Some((other, theirs)) = taken {
            return Err(format!("group {group} was founded with {slots:?}, group {other} with {theirs:?}"));
        }
        self.founded.insert(group, slots);
        Ok(())
    }

    /// A replica of `group` that has applied so much has these slots.
    pub fn serves(&mut self, group: GroupId, applied: u64, ownership: &Ownership) -> Verdict {
        let served = ownership.served();
        let of_latest = self.latest.entry(group).or_default();
        if of_latest.0 <= applied {
            *of_latest = (applied, served.to_vec());
        }
        for slot in served.iter().cloned().flatten() {
            let epoch = ownership.epoch(slot).unwrap_or_default();
            if epoch > 1 {
                let first = *self.moved.entry((slot, epoch)).or_insert(group);
                if first != group {
                    return Err(format!(
                        "groups {first} and {group} both serve slot {slot} in epoch {epoch}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// When all groups have come to rest: no slot is left over, and none is served twice.
    pub fn all_are_owned(&self) -> Verdict {
        let mut owners = vec![None; usize::from(SLOT_COUNT)];
        for (group, (_, slots)) in &self.latest {
            for slot in slots.iter().cloned().flatten() {
                if let Some(other) = owners[usize::from(slot)].replace(group) {
                    return Err(format!("groups {other} and {group} both serve slot {slot}"));
                }
            }
        }
        match owners.iter().position(Option::is_none) {
            Some(slot) => Err(format!("nobody serves slot {slot}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use quoris_engine::entry::{Genesis, SlotRange};
    use quoris_engine::machine::Replies;
    use quoris_engine::{Entry, Machine, Position};

    use super::*;

    fn machine(group: GroupId, start: u32, end: u32) -> Machine {
        let mut machine = Machine::new(1);
        let slots = vec![SlotRange { start, end }];
        let genesis = Genesis { cluster_id: "c".into(), group, slots, topology: None };
        let entry = Entry { genesis: Some(genesis), ..Entry::default() };
        machine.apply(Position { term: 1, index: 1 }, &entry, Replies::Unwanted);
        machine
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init)]
    fn a_founding_that_overlaps_or_differs_is_found() {
        let mut invariant = SlotsAreOwnedOnce::default();
        assert!(invariant.founded(0, vec![0..=99]).is_ok());
        assert!(invariant.founded(0, vec![0..=99]).is_ok(), "another replica");
        assert!(invariant.founded(0, vec![0..=98]).is_err(), "a replica that differs");
        assert!(invariant.founded(1, vec![99..=16383]).is_err(), "slot 99 twice");
        assert!(invariant.founded(1, vec![101..=16383]).is_ok());
    }

    #[test]
    fn a_slot_served_twice_or_by_nobody_is_found() {
        let mut invariant = SlotsAreOwnedOnce::default();
        let mut serves = |group, start, end| {
            let machine = machine(group, start, end);
            assert!(invariant.serves(group, 1, machine.keyspace().ownership()).is_ok());
            invariant.all_are_owned()
        };
        assert_eq!(serves(0, 0, 99), Err("nobody serves slot 100".into()));
        assert!(serves(1, 100, 16383).is_ok());
        assert_eq!(serves(1, 99, 16383), Err("groups 0 and 1 both serve slot 99".into()));
    }
}
