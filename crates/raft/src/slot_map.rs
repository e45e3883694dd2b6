//! Which group serves each slot, as far as this node has applied the groups' logs.
//!
//! Every node has a replica of every group, so nobody need be asked: what the replicas' machines say of their slots is put
//! together here, where each call looks. A replica may be late; of two groups that both seem to serve a slot, the one in the
//! later epoch does. Whether a group serves a slot its machine decides, when it applies or reads: this map only tells
//! where to ask.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quoris_engine::entry::{SlotRange, Topology};
use quoris_engine::keyspace::ownership::{Epoch, Ownership};
use quoris_engine::{SLOT_COUNT, SlotId};
use tokio::sync::watch;

use crate::types::GroupId;

/// The map. It only ever goes on: to later epochs, and in one epoch from served to moving.
pub struct SlotMap {
    /// For each slot its [`Place`], packed so that the larger is the later: epoch, [`MOVING`], [`HELD`], group.
    places: Box<[AtomicU64]>,
    changed: watch::Sender<()>,
}

const MOVING: u64 = 1 << 31;
/// As if it were moving, until it does or is released: what a replica says of a slot that moves outlives the release.
const HELD: u64 = 1 << 30;
const GROUP: u64 = HELD - 1;

/// Where a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which of the slot's groups this is.
    pub epoch: Epoch,
    /// Whether it is on its way to another group, and served by none.
    pub moving: bool,
    /// The group that serves it, or did last.
    pub group: GroupId,
}

impl Place {
    fn pack(self) -> u64 {
        let moving = if self.moving { MOVING } else { 0 };
        u64::from(self.epoch) << 32 | moving | u64::from(self.group)
    }

    fn unpack(packed: u64) -> Place {
        Place {
            epoch: (packed >> 32) as Epoch,
            moving: packed & (MOVING | HELD) != 0,
            group: (packed & GROUP) as GroupId,
        }
    }
}

impl SlotMap {
    /// The map of a cluster in which no slot has moved.
    pub fn new(topology: &Topology) -> SlotMap {
        let places = (0..SLOT_COUNT).map(|_| AtomicU64::new(0)).collect();
        let map = SlotMap { places, changed: watch::Sender::new(()) };
        for group in &topology.groups {
            for range in &group.slots {
                let place = Place { epoch: 1, moving: false, group: group.id };
                for slot in range.start..=range.end {
                    map.advance(slot as SlotId, place);
                }
            }
        }
        map
    }

    /// Where `slot` is.
    pub fn place(&self, slot: SlotId) -> Place {
        Place::unpack(self.places[usize::from(slot)].load(Ordering::Acquire))
    }

    /// The slots that `group` serves, or did last, in ascending order.
    pub fn slots_of(&self, group: GroupId) -> Vec<SlotRange> {
        let mut ranges: Vec<SlotRange> = Vec::new();
        for slot in (0..SLOT_COUNT).filter(|slot| self.place(*slot).group == group).map(u32::from) {
            match ranges.last_mut() {
                Some(last) if last.end + 1 == slot => last.end = slot,
                _ => ranges.push(SlotRange { start: slot, end: slot }),
            }
        }
        ranges
    }

    /// The latest epoch of any slot.
    pub fn latest_epoch(&self) -> Epoch {
        (0..SLOT_COUNT).map(|slot| self.place(slot).epoch).max().unwrap_or_default()
    }

    /// Ready when `slot` is on its way no longer; false if that takes longer than `limit`.
    pub async fn settled(&self, slot: SlotId, limit: Duration) -> bool {
        let mut changes = self.changes();
        let settled = async { while self.place(slot).moving && changes.changed().await.is_ok() {} };
        tokio::time::timeout(limit, settled).await.is_ok()
    }

    /// Ready when no slot is on its way; false if that takes longer than `limit`.
    pub async fn all_settled(&self, limit: Duration) -> bool {
        let until = tokio::time::Instant::now() + limit;
        let moving = || (0..SLOT_COUNT).find(|slot| self.place(*slot).moving);
        while let Some(slot) = moving() {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            if !self.settled(slot, left).await {
                return false;
            }
        }
        true
    }

    /// Told of every change.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Takes in what a replica of `group` says of its slots, which has changed. That is news also where it changes no place: those who
    /// bring slots from group to group may go on.
    pub(crate) fn learn(&self, group: GroupId, ownership: &Ownership) {
        for slot in ownership.served().iter().cloned().flatten() {
            let epoch = ownership.epoch(slot).expect("it is served");
            self.advance(slot, Place { epoch, moving: false, group });
        }
        for left in ownership.leaving() {
            self.advance(left.slot, Place { epoch: left.epoch - 1, moving: true, group });
        }
        self.changed.send_replace(());
    }

    /// Has calls for `slot`, which `place` says is served, wait here as if it were moving.
    pub(crate) fn hold(&self, slot: SlotId, place: Place) {
        self.advance_to(slot, place.pack() | HELD);
    }

    /// Ends [`SlotMap::hold`], if the slot is not in fact moving.
    pub(crate) fn release(&self, slot: SlotId, place: Place) {
        let (free, at) = (place.pack(), &self.places[usize::from(slot)]);
        if at.compare_exchange(free | HELD, free, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.changed.send_replace(());
        }
    }

    /// Whether that is news.
    fn advance(&self, slot: SlotId, to: Place) -> bool {
        self.advance_to(slot, to.pack())
    }

    fn advance_to(&self, slot: SlotId, to: u64) -> bool {
        let place = &self.places[usize::from(slot)];
        // A look first: mostly there is nothing to change.
        place.load(Ordering::Acquire) < to && place.fetch_max(to, Ordering::AcqRel) < to
    }
}

#[cfg(test)]
mod tests {
    use quoris_engine::entry::GroupInfo;

    use super::*;

    fn map() -> SlotMap {
        let group =
            |id, start, end| GroupInfo { id, slots: vec![SlotRange { start, end }], preferred_leader: 1 };
        let groups = vec![group(0, 0, 99), group(1, 100, u32::from(SLOT_COUNT) - 1)];
        SlotMap::new(&Topology { epoch: 1, nodes: Vec::new(), groups })
    }

    #[test]
    fn a_late_replica_changes_nothing() {
        let map = map();
        let at = |epoch, moving, group| Place { epoch, moving, group };
        assert_eq!(map.place(7), at(1, false, 0));
        assert!(map.advance(7, at(1, true, 0)));
        assert!(map.advance(7, at(2, false, 1)));
        for late in [at(1, false, 0), at(1, true, 0), at(2, false, 1)] {
            assert!(!map.advance(7, late), "{late:?}");
        }
        assert_eq!(map.place(7), at(2, false, 1));
        assert_eq!(map.latest_epoch(), 2);
        let range = |start, end| SlotRange { start, end };
        assert_eq!(map.slots_of(0), [range(0, 6), range(8, 99)]);
        assert_eq!(map.slots_of(1), [range(7, 7), range(100, 16383)]);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_wait_while_a_slot_is_held_and_no_longer() {
        let map = map();
        let (limit, place) = (Duration::from_secs(1), map.place(7));
        assert!(map.settled(7, limit).await);
        map.hold(7, place);
        assert!(!map.settled(7, limit).await);
        let release = async {
            tokio::time::sleep(limit / 2).await;
            map.release(7, place);
        };
        assert!(tokio::join!(map.settled(7, limit), release).0);
        assert_eq!(map.place(7), place);
        map.hold(7, place);
        map.advance(7, Place { moving: true, ..place });
        map.release(7, place);
        assert!(map.place(7).moving, "what has been given up meanwhile is moving in fact");
        map.advance(7, Place { epoch: 2, moving: false, group: 1 });
        map.release(7, place);
        assert_eq!(map.place(7).group, 1, "what has moved on is not taken back");
    }
}
