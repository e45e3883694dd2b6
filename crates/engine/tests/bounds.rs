//! The bounds of compact forms are an entry's, and what an entry leaves does not depend on later ones.

use bytes::Bytes;
use quoris_engine::entry::Bounds;
use quoris_engine::machine::{BatchOutcome, Position, Replies};
use quoris_engine::snapshot::Restore;
use quoris_engine::{Batch, Call, CommandError, Entry, Machine, Reply, Stamp};

fn call(line: &str) -> Call {
    Call::new(line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())))
}

/// A machine that owns all slots, and the index of its last entry.
struct Run(Machine, u64);

impl Run {
    fn new() -> Run {
        let mut machine = Machine::new(1);
        let slots = vec![quoris_engine::entry::SlotRange { start: 0, end: 16383 }];
        let genesis =
            quoris_engine::entry::Genesis { cluster_id: "c".to_string(), slots, ..Default::default() };
        let entry = Entry { genesis: Some(genesis), ..Entry::default() };
        machine.apply(Position { term: 1, index: 1 }, &entry, Replies::Unwanted);
        Run(machine, 1)
    }

    fn apply(&mut self, bounds: Option<Bounds>, line: &str) -> Reply {
        self.1 += 1;
        let entry = Entry {
            stamp: Some(Stamp { now_ms: 1_000, bounds, ..Stamp::default() }),
            batches: vec![Batch::of(vec![call(line)])],
            ..Entry::default()
        };
        let applied = self.0.apply(Position { term: 1, index: self.1 }, &entry, Replies::Wanted);
        match applied.outcomes.into_iter().next() {
            Some(BatchOutcome::Ran(replies)) => replies.into_iter().next().expect("one reply"),
            other => panic!("not run: {other:?}"),
        }
    }

    fn encoding(&mut self, key: &str) -> Reply {
        self.apply(None, &format!("OBJECT ENCODING {key}"))
    }
}

#[test]
fn the_stamp_decides_the_form() {
    let none = Some(Bounds { node_entries: 1, ..Bounds::default() });
    let mut run = Run::new();
    for (line, key, compact, big) in [
        ("HSET h f v", "h", "listpack", "hashtable"),
        ("SADD s 1", "s", "intset", "hashtable"),
        ("ZADD z 1 m", "z", "listpack", "skiplist"),
    ] {
        run.apply(None, line);
        assert_eq!(run.encoding(key), Reply::bulk(compact));
        run.apply(None, &format!("DEL {key}"));
        run.apply(none, line);
        assert_eq!(run.encoding(key), Reply::bulk(big));
    }
    for id in 1..=5 {
        run.apply(none, &format!("XADD x {id} f v"));
    }
    assert_eq!(run.apply(none, "XTRIM x MAXLEN ~ 2"), Reply::Int(3), "each entry is a node");
}

#[test]
fn compact_forms_hold_what_wide_bounds_ask_of_them() {
    let wide = Some(Bounds {
        hash_fields: u64::MAX,
        hash_bytes: u64::MAX,
        set_integers: u64::MAX,
        zset_members: u64::MAX,
        zset_bytes: u64::MAX,
        node_entries: 0,
        node_bytes: 0,
    });
    let mut run = Run::new();
    let long = "v".repeat(70_000);
    run.apply(wide, &format!("HSET h short 1 long {long} {long} 2"));
    assert_eq!(run.encoding("h"), Reply::bulk("listpack"));
    assert_eq!(run.apply(None, "HGET h long"), Reply::bulk(&long));
    assert_eq!(run.apply(None, &format!("HGET h {long}")), Reply::bulk("2"));
    let members: Vec<String> = (0..300).map(|i| format!("{i} m{i}")).collect();
    run.apply(wide, &format!("ZADD z {}", members.join(" ")));
    assert_eq!(run.encoding("z"), Reply::bulk("listpack"));
    assert_eq!(run.apply(None, "ZSCORE z m299"), Reply::Double(299.0));
    assert_eq!(run.apply(None, "ZCARD z"), Reply::Int(300));
    let mut restore = Restore::new(2);
    run.0.snapshot().chunks().for_each(|chunk| restore.push(chunk).expect("what was just written"));
    let mut restored = Run(restore.finish().expect("a whole snapshot"), run.1);
    assert_eq!(
        (restored.encoding("h"), restored.encoding("z")),
        (Reply::bulk("listpack"), Reply::bulk("listpack"))
    );
    assert_eq!(restored.apply(None, "HGET h long"), Reply::bulk(&long));
}

#[test]
fn a_call_without_keys_is_refused_whatever_it_would_do() {
    for line in
        ["LMPOP 0 a LEFT", "ZMPOP 0 a MIN", "BLMPOP 1 0 a LEFT", "ZUNIONSTORE d 0 a", "XREAD COUNT 1 a b"]
    {
        assert!(Machine::refusal(call(line)).is_error(), "{line}");
    }
    let numkeys = CommandError::Text("ERR numkeys should be greater than 0");
    assert_eq!(Machine::refusal(call("LMPOP 0 a LEFT")), Reply::Error(numkeys));
}
