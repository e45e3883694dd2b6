//! Evictions: explicit removals, chosen by a leader that may know less than the log.

use quoris_engine::entry::{Genesis, SlotRange, Stamp, Watch};
use quoris_engine::events::{EventClass, KeyEvent};
use quoris_engine::machine::{Applied, BatchOutcome, Position, Replies};
use quoris_engine::{Batch, Call, Entry, Machine, Reply, SLOT_COUNT};

fn apply(machine: &mut Machine, batches: Vec<Batch>) -> Applied {
    let at = Position { term: 1, index: machine.applied() + 1 };
    let stamp = Some(Stamp { now_ms: 1000, seed: 1, ..Stamp::default() });
    machine.apply(at, &Entry { stamp, batches, ..Entry::default() }, Replies::Wanted)
}

fn founded() -> Machine {
    let mut machine = Machine::new(1);
    let slots = vec![SlotRange { start: 0, end: u32::from(SLOT_COUNT) - 1 }];
    let genesis = Some(Genesis { cluster_id: "evict".into(), group: 0, slots, topology: None });
    let at = Position { term: 1, index: 1 };
    machine.apply(at, &Entry { genesis, ..Entry::default() }, Replies::Wanted);
    machine
}

fn set(key: &'static str, value: &'static str) -> Batch {
    Batch::of(vec![Call::new(["SET", key, value])])
}

#[test]
fn a_key_that_has_changed_since_it_was_chosen_stays() {
    let mut machine = founded();
    apply(&mut machine, vec![set("a", "1"), set("b", "1")]);
    let victim =
        |key: &'static str| Watch { key: key.into(), version: machine.keyspace().version_of(key.as_bytes()) };
    let victims = vec![victim("a"), victim("b"), victim("absent")];
    machine.observe(true);
    let applied = apply(&mut machine, vec![set("b", "2"), Batch::evict(victims)]);
    assert_eq!(applied.outcomes[1], BatchOutcome::Ran(vec![Reply::Int(1)]));
    assert!(!machine.keyspace().contains(b"a") && machine.keyspace().contains(b"b"));
    assert!(applied.events.contains(&KeyEvent::Notice(EventClass::EVICTED, "evicted", "a".into())));
}
