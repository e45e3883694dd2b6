//! Writes in parts: others' entries come between, and nothing of the write is seen before the last part.

use quoris_engine::entry::{Draft, Genesis, Message, SlotRange, Stamp, encode};
use quoris_engine::machine::{Applied, BatchOutcome, Position, Replies};
use quoris_engine::snapshot::Restore;
use quoris_engine::{Batch, Call, Entry, Machine, Reply, SLOT_COUNT};

const PART_BYTES: usize = 16;

/// A replica, and one that began from a snapshot of it before its last entry.
struct Replicas {
    machine: Machine,
    restored: Machine,
    term: u64,
}

impl Replicas {
    fn founded() -> Replicas {
        let slots = vec![SlotRange { start: 0, end: u32::from(SLOT_COUNT) - 1 }];
        let genesis = Some(Genesis { cluster_id: "parts".into(), group: 0, slots, topology: None });
        let mut machine = Machine::new(1);
        let entry = Entry { genesis, ..Entry::default() };
        machine.apply(Position { term: 1, index: 1 }, &entry, Replies::Wanted);
        Replicas { restored: restored(&machine), machine, term: 1 }
    }

    /// Applies an entry of `drafts`; what it gave.
    fn apply(&mut self, drafts: &[&Draft]) -> Vec<BatchOutcome> {
        let stamp = Stamp { now_ms: 1000, seed: 1, ..Stamp::default() };
        let bytes = bytes::Bytes::from(encode(&stamp, drafts.iter().copied()));
        self.restored = restored(&self.machine);
        let at = Position { term: self.term, index: self.machine.applied() + 1 };
        let apply = |machine: &mut Machine, replies| -> Applied {
            machine.apply_bytes(at, bytes.clone(), replies).expect("an entry")
        };
        let applied = apply(&mut self.machine, Replies::Wanted);
        let elsewhere = apply(&mut self.restored, Replies::Unwanted);
        assert!(elsewhere.outcomes.is_empty());
        assert_eq!(self.machine.digest(), self.restored.digest(), "the states");
        assert_eq!(self.machine.unchecked_digest(), self.restored.unchecked_digest(), "what they have done");
        applied.outcomes
    }

    fn value(&self, key: &'static str) -> Option<Reply> {
        let read = self.machine.read(&[Call::new(["GET", key])], 1000, 1).pop();
        read.map(|read| match read {
            quoris_engine::machine::Read::Reply(reply) => reply,
            quoris_engine::machine::Read::Script(_) => unreachable!("GET is no script"),
        })
    }
}

fn restored(machine: &Machine) -> Machine {
    let mut restore = Restore::new(2);
    machine.snapshot().chunks().for_each(|chunk| restore.push(chunk).expect("a chunk"));
    restore.finish().expect("a snapshot")
}

fn set(key: &'static str, value: &'static str) -> Draft {
    Draft::of_each(&[Call::new(["SET", key, value])], 0)
}

/// Two calls, in parts.
fn long(id: u64) -> Vec<Draft> {
    let calls = [Call::new(["SET", "k", "a value of some length"]), Call::new(["GETSET", "other", "z"])];
    let parts: Vec<Draft> = Draft::of_each(&calls, 0).in_parts(id, PART_BYTES).collect();
    assert!(parts.len() > 2);
    parts
}

fn ok() -> BatchOutcome {
    BatchOutcome::Ran(vec![Reply::OK])
}

#[test]
fn runs_with_its_last_part() {
    let mut replicas = Replicas::founded();
    replicas.apply(&[&set("other", "x")]);
    let parts = long(7);
    let (last, first) = parts.split_last().expect("parts");
    for part in first {
        assert_eq!(replicas.apply(&[part, &set("k", "short")]), [ok(), ok()]);
        assert_eq!(replicas.value("k"), Some(Reply::Bulk("short".into())));
    }
    let outcomes = replicas.apply(&[&set("other", "y"), last, &set("third", "1")]);
    let was = BatchOutcome::Ran(vec![Reply::Bulk("y".into())]);
    assert_eq!(outcomes, [ok(), ok(), was, ok()], "in its place, with an outcome for each batch");
    assert_eq!(replicas.value("k"), Some(Reply::Bulk("a value of some length".into())));
}

#[test]
fn does_nothing_without_all_its_parts() {
    let parts = long(7);
    let (last, first) = parts.split_last().expect("parts");
    let missing = [BatchOutcome::PartMissing, BatchOutcome::PartMissing];
    for left_out in 0..first.len() {
        let mut replicas = Replicas::founded();
        for (i, part) in first.iter().enumerate().filter(|(i, _)| *i != left_out) {
            let outcome = if i > left_out { BatchOutcome::PartMissing } else { ok() };
            assert_eq!(replicas.apply(&[part]), [outcome]);
        }
        assert_eq!(replicas.apply(&[last]), missing);
        assert_eq!(replicas.value("k"), Some(Reply::Null));
    }
}

#[test]
fn ends_with_its_leader() {
    let mut replicas = Replicas::founded();
    let parts = long(7);
    let (last, first) = parts.split_last().expect("parts");
    first.iter().for_each(|part| drop(replicas.apply(&[part])));
    replicas.term = 2;
    assert_eq!(replicas.apply(&[last]), [BatchOutcome::PartMissing, BatchOutcome::PartMissing]);
    // And the next one begins anew.
    for part in long(8) {
        replicas.apply(&[&part]);
    }
    assert_eq!(replicas.value("k"), Some(Reply::Bulk("a value of some length".into())));
}

#[test]
fn can_be_given_up() {
    let mut replicas = Replicas::founded();
    let parts = long(7);
    let (last, first) = parts.split_last().expect("parts");
    first.iter().for_each(|part| drop(replicas.apply(&[part])));
    let holding = replicas.machine.snapshot().chunks().map(|chunk| chunk.len()).sum::<usize>();
    assert_eq!(replicas.apply(&[&Draft::without_parts(), &set("k", "v")]), [ok()]);
    let given_up = replicas.machine.snapshot().chunks().map(|chunk| chunk.len()).sum::<usize>();
    assert!(given_up < holding, "{given_up} bytes, {holding} before");
    assert_eq!(replicas.apply(&[last]), [BatchOutcome::PartMissing, BatchOutcome::PartMissing]);
}

#[test]
fn an_entry_with_a_part_is_refused_by_a_build_that_knows_none() {
    let entry =
        |draft: &Draft| Entry::decode(&encode(&Stamp::default(), [draft].into_iter())[..]).expect("one");
    assert_eq!(entry(&set("k", "v")).version, 0);
    assert!(long(1).iter().all(|part| entry(part).version == 1));
    assert_eq!(entry(&Draft::from(Batch::of(vec![]))).version, 0);
}
