//! Which group serves each slot, as far as this node has applied the groups' logs.
//!
//! Every node has a replica of every group, so nobody need be asked: what the replicas' machines say of their slots is put
//! together here, where each call looks. A replica may be late; of two groups that both seem to serve a slot, the one in the
//! later epoch does. Whether a group serves a slot its machine decides, when it applies or reads: this map only tells
//! where to ask.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use quoris_engine::entry::{SlotRange, Topology};
use quoris_engine::keyspace::ownership::{Epoch, Ownership};
use quoris_engine::{SLOT_COUNT, SlotId};
use tokio::sync::watch;

use crate::types::GroupId;

/// The map. It only ever goes on: to later epochs, and in one epoch from served to moving.
pub struct SlotMap {
    /// For each slot its [`Place`], packed so that the larger is the later.
    places: Box<[AtomicU64]>,
    /// For how many of them calls wait.
    moving: AtomicUsize,
    /// How often any of them has changed.
    version: AtomicU64,
    changed: watch::Sender<()>,
}

/// Where a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which of the slot's groups this is.
    pub epoch: Epoch,
    /// Whether calls go there.
    pub state: State,
    /// The group that serves it, or did last.
    pub group: GroupId,
}

/// Whether calls for a slot go to its group. In this order within an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// They do.
    Served = 0,
    /// They wait, for this node is about to have the group give the slot up.
    Held = 1,
    /// They wait: the slot is on its way to another group, and served by none.
    Moving = 2,
}

impl Place {
    /// Whether calls wait.
    pub fn is_moving(self) -> bool {
        self.state != State::Served
    }

    fn pack(self) -> u64 {
        u64::from(self.epoch) << 32 | (self.state as u64) << GROUP_BITS | u64::from(self.group)
    }

    fn unpack(packed: u64) -> Place {
        let state = match packed >> GROUP_BITS & 3 {
            0 => State::Served,
            1 => State::Held,
            _ => State::Moving,
        };
        let group = packed & ((1 << GROUP_BITS) - 1);
        Place { epoch: (packed >> 32) as Epoch, state, group: group as GroupId }
    }
}

/// Of a packed place.
const GROUP_BITS: u32 = 30;

impl SlotMap {
    /// The map of a cluster in which no slot has moved.
    pub fn new(topology: &Topology) -> SlotMap {
        let places = (0..SLOT_COUNT).map(|_| AtomicU64::new(0)).collect();
        let map = SlotMap {
            places,
            moving: AtomicUsize::new(0),
            version: AtomicU64::new(0),
            changed: watch::Sender::new(()),
        };
        for group in &topology.groups {
            for range in &group.slots {
                let place = Place { epoch: 1, state: State::Served, group: group.id };
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

    /// Another number whenever any slot is elsewhere: what has been looked up under one number fits together.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
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
        let settled = async { while self.place(slot).is_moving() && changes.changed().await.is_ok() {} };
        tokio::time::timeout(limit, settled).await.is_ok()
    }

    /// Ready when no slot is on its way; false if that takes longer than `limit`.
    pub async fn all_settled(&self, limit: Duration) -> bool {
        let until = tokio::time::Instant::now() + limit;
        let moving = || (0..SLOT_COUNT).find(|slot| self.place(*slot).is_moving());
        while self.moving.load(Ordering::Acquire) > 0
            && let Some(slot) = moving()
        {
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
            self.advance(slot, Place { epoch, state: State::Served, group });
        }
        for left in ownership.leaving() {
            self.advance(left.slot, Place { epoch: left.epoch - 1, state: State::Moving, group });
        }
        self.changed.send_replace(());
    }

    /// Has calls for `slot`, which is at `place`, wait. False if it is elsewhere by now.
    pub(crate) fn hold(&self, slot: SlotId, place: Place) -> bool {
        self.exchange(slot, place, Place { state: State::Held, ..place })
    }

    /// Ends [`SlotMap::hold`], unless the slot has been given up meanwhile.
    pub(crate) fn release(&self, slot: SlotId, place: Place) {
        if self.exchange(slot, Place { state: State::Held, ..place }, place) {
            self.changed.send_replace(());
        }
    }

    fn exchange(&self, slot: SlotId, from: Place, to: Place) -> bool {
        let place = &self.places[usize::from(slot)];
        let exchanged =
            place.compare_exchange(from.pack(), to.pack(), Ordering::AcqRel, Ordering::Acquire).is_ok();
        if exchanged {
            self.count(from, to);
        }
        exchanged
    }

    /// Whether that is news.
    fn advance(&self, slot: SlotId, to: Place) -> bool {
        let place = &self.places[usize::from(slot)];
        // A look first: mostly there is nothing to change.
        if place.load(Ordering::Acquire) >= to.pack() {
            return false;
        }
        let before = place.fetch_max(to.pack(), Ordering::AcqRel);
        let is_news = before < to.pack();
        if is_news {
            self.count(Place::unpack(before), to);
        }
        is_news
    }

    fn count(&self, before: Place, after: Place) {
        self.version.fetch_add(1, Ordering::AcqRel);
        match (before.is_moving(), after.is_moving()) {
            (false, true) => {
                self.moving.fetch_add(1, Ordering::AcqRel);
            }
            (true, false) => {
                self.moving.fetch_sub(1, Ordering::AcqRel);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use quoris_engine::entry::GroupInfo;

    use super::State::{Held, Moving, Served};
    use super::*;

    fn map() -> SlotMap {
        let group =
            |id, start, end| GroupInfo { id, slots: vec![SlotRange { start, end }], preferred_leader: 1 };
        let groups = vec![group(0, 0, 99), group(1, 100, u32::from(SLOT_COUNT) - 1)];
        SlotMap::new(&Topology { epoch: 1, groups, ..Topology::default() })
    }

    #[test]
    fn a_late_replica_changes_nothing() {
        let map = map();
        let at = |epoch, state, group| Place { epoch, state, group };
        assert_eq!(map.place(7), at(1, Served, 0));
        assert!(map.advance(7, at(1, Moving, 0)));
        assert!(map.advance(7, at(2, Served, 1)));
        for late in [at(1, Served, 0), at(1, Moving, 0), at(2, Served, 1)] {
            assert!(!map.advance(7, late), "{late:?}");
        }
        assert_eq!(map.place(7), at(2, Served, 1));
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
        assert!(map.hold(7, place));
        assert!(!map.settled(7, limit).await);
        let release = async {
            tokio::time::sleep(limit / 2).await;
            map.release(7, place);
        };
        assert!(tokio::join!(map.settled(7, limit), release).0);
        assert_eq!(map.place(7), place);
        assert!(map.hold(7, place) && !map.hold(7, place), "once");
        assert_eq!(map.place(7), Place { state: Held, ..place });
        assert!(!map.all_settled(limit).await);
        // What has been given up, or has moved on, is not taken back.
        for later in [Place { state: Moving, ..place }, Place { epoch: 2, group: 1, ..place }] {
            map.advance(7, later);
            map.release(7, place);
            assert_eq!(map.place(7), later);
        }
        assert!(map.all_settled(limit).await);
    }
}
