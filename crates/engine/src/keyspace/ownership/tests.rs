//! A slot on its way between two groups, whatever is said twice, late or by somebody else: the keys are those of a group
//! from which nothing ever moved.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::tests::{Step, step, words};
use super::*;
use crate::entry::{Genesis, SlotRange};
use crate::hash_slot::slot_of;
use crate::machine::{BatchOutcome, Replies};
use crate::snapshot::Restore;
use crate::{Batch, Call, CommandError, Entry, Machine, Position, Reply, Stamp};

/// The slot of the keys that [`step`] mostly draws.
fn slot() -> SlotId {
    slot_of(b"{k}")
}

struct Group {
    machine: Machine,
    index: u64,
}

impl Group {
    fn new(id: u32, serves_all: bool) -> Group {
        let mut group = Group { machine: Machine::new(id.into()), index: 0 };
        let all = SlotRange { start: 0, end: u32::from(SLOT_COUNT) - 1 };
        let slots = if serves_all { vec![all] } else { Vec::new() };
        let genesis = Some(Genesis { cluster_id: "test".into(), group: id, slots, topology: None });
        group.apply(Entry { genesis, ..Entry::default() }, 1);
        group
    }

    fn apply(&mut self, entry: Entry, now_ms: u64) -> crate::Applied {
        self.index += 1;
        let entry = Entry { stamp: Some(Stamp { now_ms, seed: now_ms, ..Stamp::default() }), ..entry };
        self.machine.apply(Position { term: 1, index: self.index }, &entry, Replies::Wanted)
    }

    /// The only reply of a batch.
    fn write(&mut self, batch: Batch, now_ms: u64) -> Reply {
        let applied = self.apply(Entry { batches: vec![batch], ..Entry::default() }, now_ms);
        match &applied.outcomes[..] {
            [BatchOutcome::Ran(replies)] => replies[0].clone(),
            other => panic!("one batch ran: {other:?}"),
        }
    }

    fn run(&mut self, words: &[String], now_ms: u64) -> Reply {
        let words = words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes()));
        self.write(Batch::of(vec![Call::new(words)]), now_ms)
    }

    fn ownership(&self) -> &Ownership {
        self.machine.keyspace().ownership()
    }

    fn leave(&self, to: u32) -> Batch {
        let epoch = self.ownership().epoch(slot()).expect("it is served");
        Batch::leave(to, vec![SlotEpoch { slot: slot().into(), epoch }])
    }

    /// As after a restart.
    fn restart(&mut self) {
        let mut restore = Restore::new(9);
        self.machine.snapshot().chunks().for_each(|chunk| restore.push(chunk).expect("just written"));
        let machine = restore.finish().expect("it has a header");
        assert_eq!(machine.digest(), self.machine.digest());
        self.machine = machine;
    }

    /// What is there, but for versions.
    fn shown(&self) -> Vec<(Key, u64, bytes::BytesMut)> {
        let shown = self.machine.keyspace().iter().map(|(key, object)| {
            let mut value = bytes::BytesMut::new();
            object.value.put(&mut value);
            (key.clone(), object.expire_ms, value)
        });
        let mut shown: Vec<_> = shown.collect();
        shown.sort();
        shown
    }
}

/// Two groups, whose numbers are their places, and one that stands for both.
struct Pair {
    groups: [Group; 2],
    both: Group,
    now_ms: u64,
    /// Steps of moves that have been applied, by group: any of them may come again.
    said: Vec<(usize, Batch)>,
}

impl Pair {
    fn new() -> Pair {
        let groups = [Group::new(0, true), Group::new(1, false)];
        Pair { groups, both: Group::new(2, true), now_ms: 1_000_000, said: Vec::new() }
    }

    fn server(&self) -> Option<usize> {
        self.groups.iter().position(|group| group.ownership().epoch(slot()).is_some())
    }

    fn run(&mut self, (ms, words): &Step) {
        self.now_ms += ms;
        let is_flush = words[0] == "flushall";
        if is_flush && self.server().is_none() {
            // It would miss what is on its way.
            return;
        }
        let got = self.groups.each_mut().map(|group| group.run(words, self.now_ms));
        let refused = |reply: &&Reply| matches!(reply, Reply::Error(CommandError::WrongGroup { .. }));
        let served: Vec<&Reply> = got.iter().filter(|reply| !refused(reply)).collect();
        match served[..] {
            // On its way.
            [] => {}
            [reply] => assert_eq!(*reply, self.both.run(words, self.now_ms), "{words:?}"),
            _ if is_flush => drop(self.both.run(words, self.now_ms)),
            _ => panic!("both groups serve {words:?}"),
        }
    }

    fn say(&mut self, to: usize, batch: Batch) {
        self.groups[to].write(batch.clone(), self.now_ms);
        self.said.push((to, batch));
    }

    fn begin_move(&mut self) {
        if let Some(from) = self.server() {
            let leave = self.groups[from].leave(1 - from as u32);
            self.say(from, leave);
        }
    }

    /// One piece of what is on its way; whether there was any. `ahead`: the one after the next, if there is one.
    fn bring(&mut self, ahead: bool) -> bool {
        for from in 0..2 {
            let left = self.groups[from].ownership().leaving().find(|left| left.sealed);
            let Some(left) = left else { continue };
            let to = left.to as usize;
            if let Some(position) = self.groups[to].ownership().awaits(left.slot, left.epoch) {
                let keys = self.groups[from].machine.keyspace();
                let (mut piece, next) = keys.piece(left.slot, position, 1).expect("it has left");
                if ahead && !piece.last {
                    (piece, _) = keys.piece(left.slot, next, 1).expect("it has left");
                }
                self.say(to, Batch::arrive(piece));
                return true;
            }
        }
        false
    }

    fn seal(&mut self) {
        for from in 0..2 {
            let left = self.groups[from].ownership().leaving().filter(|left| !left.sealed);
            let left: Vec<SlotEpoch> = left.map(|left| left.named()).collect();
            if !left.is_empty() {
                self.say(from, Batch::seal(left));
            }
        }
    }

    fn forget(&mut self) {
        for from in 0..2 {
            let arrived: Vec<SlotEpoch> = self.groups[from]
                .ownership()
                .leaving()
                .filter(|left| self.groups[left.to as usize].ownership().has_reached(left.slot, left.epoch))
                .map(|left| left.named())
                .collect();
            if !arrived.is_empty() {
                self.say(from, Batch::forget(arrived));
            }
        }
    }

    fn repeat(&mut self, which: prop::sample::Index) {
        if !self.said.is_empty() {
            let (to, batch) = self.said[which.index(self.said.len())].clone();
            self.groups[to].write(batch, self.now_ms);
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Run(Step),
    Begin,
    Bring,
    BringAhead,
    Seal,
    Forget,
    Repeat(prop::sample::Index),
    Restart(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        10 => step().prop_map(Act::Run),
        1 => Just(Act::Begin),
        5 => Just(Act::Bring),
        1 => Just(Act::BringAhead),
        2 => Just(Act::Seal),
        1 => Just(Act::Forget),
        2 => any::<prop::sample::Index>().prop_map(Act::Repeat),
        1 => (0usize..2).prop_map(Act::Restart),
    ]
}

proptest! {
    #[test]
    fn a_slot_that_moves_is_the_slot_that_never_moved(acts in prop::collection::vec(act(), 1..200)) {
        let mut pair = Pair::new();
        for act in &acts {
            match act {
                Act::Run(step) => pair.run(step),
                Act::Begin => pair.begin_move(),
                Act::Bring => drop(pair.bring(false)),
                Act::BringAhead => drop(pair.bring(true)),
                Act::Seal => pair.seal(),
                Act::Forget => pair.forget(),
                Act::Repeat(which) => pair.repeat(*which),
                Act::Restart(group) => pair.groups[*group].restart(),
            }
            pair.groups.iter().for_each(|group| group.machine.keyspace().check());
        }
        pair.seal();
        while pair.bring(false) {}
        pair.forget();
        let (now_ms, mut shown) = (pair.now_ms + 1, Vec::new());
        for group in pair.groups.iter_mut().chain([&mut pair.both]) {
            group.apply(Entry::default(), now_ms);
        }
        pair.groups.iter().for_each(|group| shown.extend(group.shown()));
        shown.sort();
        prop_assert_eq!(shown, pair.both.shown());
        let under_way = |group: &Group| group.ownership().keys_under_way().count();
        prop_assert_eq!(pair.groups.iter().map(under_way).sum::<usize>(), 0, "nothing is kept that has arrived");
    }
}

#[test]
fn a_slot_given_up_twice_at_once_keeps_its_keys() {
    let mut group = Group::new(0, true);
    group.run(&words("set {k} v").1, 2);
    let mut leave = group.leave(1);
    let slots = &mut leave.moves.as_mut().and_then(|moves| moves.leave.as_mut()).expect("it leaves").slots;
    slots.push(slots[0]);
    assert_eq!(group.write(leave, 2), Reply::Int(1));
    let (piece, next) = group.machine.keyspace().piece(slot(), 0, 1).expect("it has left");
    assert_eq!((next, piece.last), (1, true));
    assert!(group.machine.keyspace().is_empty());
}

#[test]
fn who_waits_for_a_key_is_told_that_its_slot_has_gone() {
    let mut group = Group::new(0, true);
    assert!(matches!(group.run(&words("blpop {k} 0").1, 2), Reply::Blocked { .. }));
    assert!(matches!(group.run(&words("blpop other 0").1, 2), Reply::Blocked { .. }));
    let leave = group.leave(1);
    let applied = group.apply(Entry { batches: vec![leave], ..Entry::default() }, 2);
    assert_eq!(applied.served, [(1, Reply::Error(CommandError::WrongGroup { slot: slot() }))]);
    assert!(applied.moved);
    assert_eq!(group.machine.blocked(), 1);
}

#[test]
fn no_version_of_one_group_is_one_of_the_next() {
    let mut pair = Pair::new();
    let versions = |pair: &Pair| {
        let keys = |group: &Group| {
            ["{k}", "{k}absent"].map(|key| group.machine.keyspace().version_of(key.as_bytes()))
        };
        pair.groups.iter().flat_map(keys).collect::<Vec<u64>>()
    };
    pair.run(&words("set {k} v"));
    let mut seen = versions(&pair);
    for _ in 0..4 {
        let from = pair.server().expect("it has arrived");
        pair.begin_move();
        pair.seal();
        while pair.bring(false) {}
        let to = versions(&pair)[2 * (1 - from)..][..2].to_vec();
        assert!(to.iter().all(|version| !seen.contains(version)), "{to:?} of {seen:?}");
        seen.extend(to);
    }
}

#[test]
fn the_clock_of_a_group_is_not_behind_that_of_the_slots_it_takes() {
    let mut pair = Pair::new();
    pair.groups[0].run(&words("set {k} v px 5").1, 1000);
    pair.groups[0].apply(Entry { stamp: None, ..Entry::default() }, 2000);
    let leave = pair.groups[0].leave(1);
    pair.groups[0].write(leave, 2000);
    pair.now_ms = 3;
    pair.seal();
    assert!(pair.bring(false));
    assert_eq!(pair.groups[1].machine.keyspace().now_ms(), 2000);
}

#[test]
fn pieces_that_are_none_are_refused() {
    let mut group = Group::new(1, false);
    let piece = |slot: u32, objects: &'static [u8]| {
        Batch::arrive(Arrive { slot, epoch: 2, objects: objects.into(), last: true, ..Arrive::default() })
    };
    let endless = Batch::arrive(Arrive { slot: 7, epoch: Epoch::MAX, last: true, ..Arrive::default() });
    let (mut objects, object) = (
        bytes::BytesMut::new(),
        Object { value: crate::value::Value::string(b"v"), expire_ms: NEVER, version: 1 },
    );
    put_object(&mut objects, b"k", &object);
    let elsewhere =
        Batch::arrive(Arrive { slot: 7, epoch: 2, objects: objects.clone().freeze(), ..Arrive::default() });
    put_object(&mut objects, b"k", &object);
    let twice = Batch::arrive(Arrive {
        slot: slot_of(b"k").into(),
        epoch: 2,
        objects: objects.freeze(),
        ..Arrive::default()
    });
    for wrong in [piece(u32::from(SLOT_COUNT), b""), piece(7, b"xyz"), endless, elsewhere, twice] {
        assert!(matches!(group.write(wrong, 2), Reply::Error(_)));
    }
    assert!(group.ownership().served().is_empty());
    assert_eq!(group.write(piece(7, b""), 2), Reply::Int(1));
    assert_eq!(group.ownership().served(), [7..=7]);
}
