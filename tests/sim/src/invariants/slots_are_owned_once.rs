//! In each epoch of the topology every slot is owned by exactly one group, and all replicas agree by which.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use quoris_engine::{SLOT_COUNT, SlotId};
use quoris_raft::types::GroupId;

use super::Verdict;

/// Slots as runs, in order.
pub type Slots = Vec<RangeInclusive<SlotId>>;

/// Who was seen to own what.
#[derive(Default)]
pub struct SlotsAreOwnedOnce {
    owners: BTreeMap<u64, BTreeMap<GroupId, Slots>>,
}

impl SlotsAreOwnedOnce {
    /// A replica of `group` serves `slots` in `epoch`.
    pub fn owns(&mut self, epoch: u64, group: GroupId, slots: Slots) -> Verdict {
        let owners = self.owners.entry(epoch).or_default();
        match owners.get(&group) {
            Some(known) if *known == slots => return Ok(()),
            Some(known) => {
                return Err(format!(
                    "replicas of group {group} own {slots:?} and {known:?} in epoch {epoch}"
                ));
            }
            None => {}
        }
        let overlaps = |a: &RangeInclusive<SlotId>, b: &RangeInclusive<SlotId>| {
            a.start() <= b.end() && b.start() <= a.end()
        };
        let taken = owners
            .iter()
            .find(|(_, others)| others.iter().any(|other| slots.iter().any(|range| overlaps(range, other))));
        if let Some((other, theirs)) = taken {
            return Err(format!("group {group} owns {slots:?} in epoch {epoch}, group {other} {theirs:?}"));
        }
        owners.insert(group, slots);
        Ok(())
    }

    /// When all groups have been seen: no slot is left over.
    pub fn all_are_owned(&self) -> Verdict {
        for (epoch, owners) in &self.owners {
            let slots = owners.values().flatten().map(|range| u32::from(range.end() - range.start()) + 1);
            let owned: u32 = slots.sum();
            if owned != u32::from(SLOT_COUNT) {
                return Err(format!("{owned} slots of {SLOT_COUNT} are owned in epoch {epoch}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::single_range_in_vec_init)]
    fn a_slot_owned_twice_or_by_nobody_is_found() {
        let mut invariant = SlotsAreOwnedOnce::default();
        assert!(invariant.owns(1, 0, vec![0..=99]).is_ok());
        assert!(invariant.owns(1, 0, vec![0..=99]).is_ok(), "another replica");
        assert!(invariant.owns(1, 0, vec![0..=98]).is_err(), "a replica that differs");
        assert!(invariant.owns(1, 1, vec![99..=16383]).is_err(), "slot 99 twice");
        assert!(invariant.owns(1, 1, vec![101..=16383]).is_ok());
        assert!(invariant.all_are_owned().is_err(), "slot 100");
        assert!(invariant.owns(1, 2, vec![100..=100]).is_ok());
        assert!(invariant.all_are_owned().is_ok());
    }
}
