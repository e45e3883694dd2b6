//! Random commands against a machine: what must hold after every entry, whatever came before.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::command;
use crate::commands::scan::{Cursor, ScanOf, ScanOptions, scan};
use crate::entry::{Genesis, SlotRange};
use crate::hash_slot::SLOT_COUNT;
use crate::machine::{Position, Replies};
use crate::snapshot::Restore;
use crate::{Batch, Call, Entry, Machine, Stamp, args::Args};

/// A call, and how far the clock goes on before it.
pub(super) type Step = (u64, Vec<String>);

pub(super) fn step() -> impl Strategy<Value = Step> {
    let key = (0u32..8).prop_map(|i| format!("{{k}}{i}"));
    let elsewhere = (0u32..8).prop_map(|i| format!("k{i}"));
    let field = (0u32..8).prop_map(|i| format!("f{i}"));
    // A long one makes a sorted set big.
    let long_or_short = (0usize..6).prop_map(|i| "m".repeat(1 + i * 16));
    let ms = (0u32..40).prop_map(|ms| ms.to_string());
    let one =
        |name: &'static str, key: BoxedStrategy<String>| key.prop_map(move |k| vec![name.to_string(), k]);
    let two =
        |name: &'static str| (key.clone(), key.clone()).prop_map(move |(a, b)| vec![name.to_string(), a, b]);
    let words = prop_oneof![
        4 => (key.clone(), ms.clone()).prop_map(|(k, v)| vec!["set".into(), k, v]),
        2 => (elsewhere.clone(), ms.clone()).prop_map(|(k, v)| vec!["set".into(), k, v]),
        6 => (key.clone(), field.clone(), ms.clone()).prop_map(|(k, f, v)| vec!["hset".into(), k, f, v]),
        1 => (key.clone(), field.clone()).prop_map(|(k, f)| vec!["hset".into(), k, f, "v".repeat(65)]),
        4 => (key.clone(), ms.clone(), field.clone())
            .prop_map(|(k, ms, f)| vec!["hpexpire".into(), k, ms, "fields".into(), "1".into(), f]),
        2 => (key.clone(), field).prop_map(|(k, f)| vec!["hdel".into(), k, f]),
        3 => (key.clone(), ms.clone()).prop_map(|(k, ms)| vec!["pexpire".into(), k, ms]),
        2 => (key.clone(), ms.clone()).prop_map(|(k, v)| vec!["rpush".into(), k, v.clone(), v]),
        2 => one("lpop", key.clone().boxed()),
        1 => (key.clone(), key.clone())
            .prop_map(|(a, b)| vec!["lmove".into(), a, b, "left".into(), "right".into()]),
        2 => (key.clone(), ms.clone()).prop_map(|(k, v)| vec!["sadd".into(), k, v, "1".into()]),
        1 => (key.clone(), ms.clone()).prop_map(|(k, v)| vec!["sadd".into(), k, format!("m{v}"), "a".into()]),
        2 => one("spop", key.clone().boxed()),
        1 => two("sunionstore"),
        1 => (key.clone(), key.clone()).prop_map(|(a, b)| vec!["smove".into(), a, b, "1".into()]),
        1 => (key.clone(), key.clone()).prop_map(|(a, b)| vec!["sort".into(), a, "store".into(), b]),
        1 => one("persist", key.clone().boxed()),
        4 => (key.clone(), ms.clone(), long_or_short.clone()).prop_map(|(k, n, m)| vec!["zadd".into(), k, n, m]),
        2 => (key.clone(), ms.clone(), long_or_short.clone()).prop_map(|(k, n, m)| vec!["zincrby".into(), k, n, m]),
        2 => (key.clone(), long_or_short).prop_map(|(k, m)| vec!["zrem".into(), k, m]),
        1 => one("zpopmin", key.clone().boxed()),
        1 => key.clone().prop_map(|k| words(&format!("zremrangebyrank {k} 0 1")).1),
        2 => one("del", key.clone().boxed()),
        1 => one("del", elsewhere.boxed()),
        1 => two("rename"),
        1 => two("copy"),
        1 => Just(vec!["flushall".to_string()]),
        6 => key.clone().prop_map(|k| words(&format!("xadd {k} * f v")).1),
        2 => key.clone().prop_map(|k| words(&format!("xgroup create {k} g 0 mkstream")).1),
        3 => key.clone().prop_map(|k| words(&format!("xreadgroup group g c count 2 streams {k} >")).1),
        1 => key.clone().prop_map(|k| words(&format!("xautoclaim {k} g d 0 -")).1),
        1 => key.prop_map(|k| words(&format!("xtrim {k} maxlen 1")).1),
    ];
    (0u64..12, words)
}

struct Group {
    machine: Machine,
    now_ms: u64,
    index: u64,
    /// The notifications since they were last taken.
    noticed: Vec<&'static str>,
}

impl Group {
    fn new(hash_seed: u64) -> Group {
        let mut group =
            Group { machine: Machine::new(hash_seed), now_ms: 1_000_000, index: 0, noticed: Vec::new() };
        let slots = vec![SlotRange { start: 0, end: u32::from(SLOT_COUNT) - 1 }];
        let genesis = Genesis { cluster_id: "test".to_string(), group: 1, slots, topology: None };
        group.apply(Vec::new(), Some(genesis));
        group
    }

    fn apply(&mut self, batches: Vec<Batch>, genesis: Option<Genesis>) {
        self.index += 1;
        let stamp = Some(Stamp { now_ms: self.now_ms, seed: self.index, ..Stamp::default() });
        let at = Position { term: 1, index: self.index };
        let applied =
            self.machine.apply(at, &Entry { stamp, batches, genesis, ..Entry::default() }, Replies::Unwanted);
        self.noticed.extend(applied.events.iter().filter_map(|event| match event {
            KeyEvent::Notice(_, event, _) => Some(*event),
            _ => None,
        }));
    }

    fn run(&mut self, (ms, words): &Step) {
        self.now_ms += ms;
        let words = words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes()));
        self.apply(vec![Batch::of(vec![Call::new(words)])], None);
    }

    fn restored(&self, hash_seed: u64) -> Group {
        let mut restore = Restore::new(hash_seed);
        self.machine
            .snapshot()
            .chunks()
            .for_each(|chunk| restore.push(chunk).expect("what was just written"));
        let machine = restore.finish().expect("it has a header");
        Group { machine, noticed: Vec::new(), ..*self }
    }

    fn keep_those_there(&self, keys: &mut BTreeSet<Key>) {
        let names = self.names();
        keys.retain(|key| names.contains(key));
    }

    fn names(&self) -> BTreeSet<Key> {
        self.machine.keyspace().iter().map(|(key, _)| key.clone()).collect()
    }
}

impl Keyspace {
    /// What the module promises, counted anew.
    pub(super) fn check(&self) {
        let held = || self.slots.from(0).flat_map(|slot| slot.iter());
        let due =
            held().map(|(key, object)| (deadline_of(object), key.clone())).filter(|(at, _)| *at != NEVER);
        assert_eq!(due.collect::<BTreeSet<_>>(), self.deadlines);
        assert_eq!(held().count(), self.key_count);
        assert_eq!(held().map(|(key, object)| object_bytes(key, object)).sum::<usize>(), self.bytes);
        for (key, object) in held() {
            assert!(object.version <= self.version);
            let due = deadline_of(object) < self.now_ms;
            assert!(
                due || !object.value.is_empty(self.now_ms),
                "an empty value that nothing will remove: {key:?}"
            );
            assert_eq!(self.get(key).is_some(), self.version_of(key) < ABSENT);
        }
    }
}

proptest! {
    #[test]
    fn index_and_count_are_right_after_every_entry(steps in prop::collection::vec(step(), 1..120)) {
        let mut group = Group::new(1);
        for step in &steps {
            group.run(step);
            group.machine.keyspace().check();
        }
    }

    #[test]
    fn a_restored_machine_goes_on_as_the_original(
        before in prop::collection::vec(step(), 1..60),
        after in prop::collection::vec(step(), 1..60),
    ) {
        let mut group = Group::new(1);
        before.iter().for_each(|step| group.run(step));
        let mut restored = group.restored(2);
        restored.machine.keyspace().check();
        prop_assert_eq!(restored.machine.digest(), group.machine.digest());
        prop_assert_eq!(restored.machine.keyspace().bytes(), group.machine.keyspace().bytes());
        for step in &after {
            group.run(step);
            restored.run(step);
            prop_assert_eq!(restored.machine.digest(), group.machine.digest());
        }
    }

    /// SCAN's promise, also over a cut of the slots into runs and a change of the replica between any two calls.
    #[test]
    fn scan_meets_every_key_that_stays(
        before in prop::collection::vec(step(), 1..60),
        rounds in prop::collection::vec((1u64..4, prop::collection::vec(step(), 0..4)), 1..20),
        cut in 1..SLOT_COUNT,
    ) {
        let mut group = Group::new(1);
        before.iter().for_each(|step| group.run(step));
        let mut stayed = group.names();
        let mut met = BTreeSet::new();
        let mut wire = 0;
        for (count, steps) in rounds.iter().cycle() {
            let mut options = ScanOptions::parse(Args(&[]), 0, ScanOf::Keys).expect("no options");
            options.count = *count;
            let keys = group.machine.keyspace();
            let cursor = Cursor::parse(wire.to_string().as_bytes()).expect("our own");
            let (mut next, found) = scan(keys, cursor, 0..=cut - 1, &mut options);
            met.extend(found);
            if next.is_none() {
                let from = if cursor.slot() < cut { Cursor::at_slot(cut) } else { cursor };
                let (after, found) = scan(keys, from, cut..=SLOT_COUNT - 1, &mut options);
                met.extend(found);
                next = after;
            }
            wire = Cursor::wire(next);
            if wire == 0 {
                break;
            }
            for (ms, words) in steps {
                // Expiry and the call apart: a key that expires and is made anew did not stay.
                group.now_ms += ms;
                group.apply(Vec::new(), None);
                group.keep_those_there(&mut stayed);
                group.run(&(0, words.clone()));
                group.keep_those_there(&mut stayed);
            }
            group = group.restored(3);
        }
        prop_assert!(stayed.is_subset(&met), "{stayed:?} met {met:?}");
    }
}

pub(super) fn words(text: &str) -> Step {
    (0, text.split(' ').map(str::to_string).collect())
}

/// A hash with more due fields than one entry removes: absent at once, removed little by little.
#[test]
fn many_due_fields_are_removed_by_several_entries() {
    const FIELDS: usize = 2500;
    let mut group = Group::new(1);
    let pairs: Vec<String> = (0..FIELDS).map(|i| format!("f{i} v")).collect();
    let names: Vec<String> = (0..FIELDS).map(|i| format!("f{i}")).collect();
    group.run(&words(&format!("hset h {}", pairs.join(" "))));
    group.run(&words(&format!("hpexpire h 10 fields {FIELDS} {}", names.join(" "))));
    group.run(&words("hset h stays v"));
    group.now_ms += 10;
    group.apply(Vec::new(), None);
    // At their deadline they are there.
    assert_eq!(
        group.machine.keyspace().hash(b"h").expect("a hash").expect("it stays").positions(),
        1 + FIELDS
    );
    group.now_ms += 1;
    for left in [1500, 500, 0] {
        let version = group.machine.keyspace().version_of(b"h");
        group.apply(Vec::new(), None);
        let keys = group.machine.keyspace();
        keys.check();
        let hash = keys.hash(b"h").expect("a hash").expect("it stays");
        assert_eq!(hash.len(keys.now_ms()), 1);
        assert_eq!(hash.positions(), 1 + left);
        assert!(keys.version_of(b"h") > version, "WATCH must notice");
    }
}

#[test]
fn a_write_that_changes_nothing_keeps_the_version() {
    let mut group = Group::new(1);
    group.run(&words("hset h f v"));
    let version = group.machine.keyspace().version_of(b"h");
    let idle =
        ["hdel h x", "hsetnx h f w", "persist h", "pexpire h 5 xx", "rename h h", "hpersist h fields 1 f"];
    for text in idle {
        group.run(&words(text));
        assert_eq!(group.machine.keyspace().version_of(b"h"), version, "{text}");
    }
    group.run(&words("hset h f v"));
    assert!(group.machine.keyspace().version_of(b"h") > version);
}

/// As in Redis, EXEC is refused if a watched key that was absent was made, also if it is gone again; not for what was done to
/// another key, nor when what had expired is removed.
#[test]
fn an_absent_key_that_was_made_has_another_version() {
    for (before, meanwhile, is_changed) in [
        ("del k", "", false),
        ("del k", "set k v; del k", true),
        ("set k v; del k", "", false),
        ("set k v; del k", "set k v; del k", true),
        ("del k", "set k v px 5; later", true),
        ("del k", "hset k f v; hpexpire k 5 fields 1 f; later", true),
        ("set k v px 5; later", "later", false),
        ("set k v", "del k", true),
        ("set k v", "pexpire k 5; later", true),
        ("del k", "set l v; rename l k; flushall", true),
        ("del k", "flushall", false),
        ("set k v", "flushall", true),
        ("del k", "set l v; del l", false),
        ("del k", "set k v px -1", false),
    ] {
        let mut group = Group::new(1);
        let mut run = |texts: &str| {
            for text in texts.split("; ").filter(|text| !text.is_empty()) {
                match text {
                    "later" => group.run(&(10, words("exists k").1)),
                    text => group.run(&words(text)),
                }
            }
            let restored = group.restored(7).machine.keyspace().version_of(b"k");
            assert_eq!(restored, group.machine.keyspace().version_of(b"k"), "{texts}");
            restored
        };
        let watched = run(before);
        assert_eq!(run(meanwhile) != watched, is_changed, "{before} | {meanwhile}");
    }
}

/// What is due is removed bit by bit; what is made in its place meanwhile has been made all the same.
#[test]
fn a_key_made_where_a_due_one_still_stands_has_another_version() {
    let mut group = Group::new(1);
    let fields: Vec<String> = (0..2500).map(|i| format!("f{i}")).collect();
    group.run(&words(&format!("hset h {} v", fields.join(" v "))));
    group.run(&words(&format!("hpexpire h 5 fields 2500 {}", fields.join(" "))));
    group.run(&(10, words("exists h").1));
    let keyspace = group.machine.keyspace();
    assert!(keyspace.spot(b"h").is_some(), "part of it still stands");
    let watched = keyspace.version_of(b"h");
    assert!(watched >= ABSENT);
    group.run(&words("set h v"));
    group.run(&words("del h"));
    assert!(group.machine.keyspace().version_of(b"h") > watched);
}

#[test]
fn keys_of_a_slot_are_those_that_are_there() {
    let mut group = Group::new(1);
    for text in ["set {k}1 v", "set {k}2 v", "set k3 v", "pexpire {k}2 5"] {
        group.run(&words(text));
    }
    let slot = slot_of(b"k");
    let keys = group.machine.keyspace();
    assert_eq!(keys.count_in_slot(slot), 2);
    assert_eq!(keys.keys_in_slot(slot, 1).count(), 1);
    assert_eq!(keys.keys_in_slot(slot, 10).count(), 2);
}

#[test]
fn streams_tell_what_happened() {
    let mut group = Group::new(1);
    group.machine.observe(true);
    for (text, expected) in [
        ("xgroup create s g $ mkstream", "new xgroup-create"),
        ("xadd s 1 f v", "xadd"),
        ("xadd s maxlen 1 2 f v", "xadd xtrim"),
        ("xadd s 2 f v", ""),
        ("xreadgroup group g c streams s >", "xgroup-createconsumer"),
        ("xreadgroup group g c streams s 0", ""),
        ("xclaim s g d 0 2", "xgroup-createconsumer"),
        ("xautoclaim s g e 0 -", "xgroup-createconsumer"),
        ("xgroup createconsumer s g c", ""),
        ("xgroup createconsumer s g f", "xgroup-createconsumer"),
        ("xgroup delconsumer s g f", "xgroup-delconsumer"),
        ("xgroup setid s g 0", "xgroup-setid"),
        ("xack s g 2", ""),
        ("xsetid s 9", "xsetid"),
        ("xtrim s maxlen 1", ""),
        ("xdel s 2", "xdel"),
        ("xgroup destroy s g", "xgroup-destroy"),
    ] {
        group.run(&words(text));
        assert_eq!(group.noticed.drain(..).collect::<Vec<_>>().join(" "), expected, "{text}");
    }
}

/// An acknowledgement is no change of the stream: neither WATCH nor those who wait for entries learn of it.
#[test]
fn a_groups_bookkeeping_keeps_the_version() {
    let mut group = Group::new(1);
    ["xadd s 1 f v", "xgroup create s g 0"].into_iter().for_each(|text| group.run(&words(text)));
    let version = group.machine.keyspace().version_of(b"s");
    for text in ["xreadgroup group g c streams s >", "xclaim s g d 0 1", "xack s g 1", "xgroup setid s g 0"] {
        group.run(&words(text));
        assert_eq!(group.machine.keyspace().version_of(b"s"), version, "{text}");
    }
    group.run(&words("xgroup destroy s g"));
    assert!(group.machine.keyspace().version_of(b"s") > version);
}

/// What the random steps call exists: a typing error would make every one of them an error reply.
#[test]
fn the_steps_are_commands() {
    let names = [
        "set",
        "hset",
        "hpexpire",
        "hdel",
        "pexpire",
        "persist",
        "del",
        "rename",
        "copy",
        "flushall",
        "rpush",
        "lpop",
        "lmove",
        "sadd",
        "spop",
        "sunionstore",
        "smove",
        "sort",
        "xadd",
        "xreadgroup",
        "xautoclaim",
        "xtrim",
    ];
    for name in names {
        assert!(command::find(name.as_bytes()).is_some_and(|row| row.is_write()), "{name}");
    }
}

/// A replica that rolled a script back must be the same as one that did not have to, the order of keys included.
#[test]
fn a_roll_back_restores_order_and_bookkeeping() {
    let words = ["a", "b", "c", "d", "e", "f"];
    proptest!(ProptestConfig::with_cases(500), |(
        before in proptest::collection::vec((0usize..6, 0u64..3), 0..12),
        within in proptest::collection::vec((0usize..6, 0u64..5), 1..16),
    )| {
        let mut keys = Keyspace::new(1);
        keys.begin_entry(1, 0, Bounds::default());
        let apply = |keys: &mut Keyspace, (word, action): &(usize, u64)| {
            let key = format!("{{t}}{}", words[*word]);
            match action {
                0 => drop(keys.remove(key.as_bytes())),
                1 => keys.set(key.as_bytes(), Value::string(b"v"), NEVER),
                2 => keys.set(key.as_bytes(), Value::string(b"longer"), 1_000_000),
                3 => drop(keys.rename(key.as_bytes(), b"{t}renamed")),
                _ => keys.clear(false),
            }
        };
        before.iter().for_each(|step| apply(&mut keys, step));
        let show = |keys: &Keyspace| -> Vec<(Key, u64)> {
            keys.iter().map(|(key, object)| (key.clone(), object.expire_ms)).collect()
        };
        let (order, len, bytes, deadlines) =
            (show(&keys), keys.len(), keys.bytes(), keys.deadlines.clone());
        let births: Vec<_> = keys.births.iter().collect();
        keys.begin_entry(2, 0, Bounds::default());
        keys.begin_undo();
        within.iter().for_each(|step| apply(&mut keys, step));
        keys.roll_back();
        prop_assert_eq!(show(&keys), order);
        prop_assert!(keys.births.iter().eq(births));
        prop_assert_eq!((keys.len(), keys.bytes()), (len, bytes));
        prop_assert_eq!(&keys.deadlines, &deadlines);
        // And the index still finds every key.
        for (key, _) in show(&keys) {
            prop_assert!(keys.contains(&key));
        }
    });
}

/// The same of values: whatever commands did to them, and in whatever way it was remembered.
#[test]
fn a_roll_back_restores_values() {
    let steps = |most| prop::collection::vec(step(), 1..most);
    proptest!(ProptestConfig::with_cases(1000), |(before in steps(60), within in steps(30), after in steps(20))| {
        let (mut undone, mut plain) = (Group::new(1), Group::new(1));
        for group in [&mut undone, &mut plain] {
            before.iter().for_each(|step| group.run(step));
            // What is due is gone, and no time passes before the steps that are undone.
            group.apply(Vec::new(), None);
        }
        let keep_still = |(_, words): &Step| (0, words.clone());
        let index = undone.index;
        undone.machine.keyspace.begin_undo();
        within.iter().for_each(|step| undone.run(&keep_still(step)));
        undone.machine.keyspace.roll_back();
        prop_assert_eq!(shown(undone.machine.keyspace()), shown(plain.machine.keyspace()));
        undone.machine.keyspace().check();
        // What is kept is what would be without an undo.
        undone.index = undone.machine.applied();
        plain.index = undone.index;
        undone.machine.keyspace.begin_undo();
        for group in [&mut undone, &mut plain] {
            within.iter().for_each(|step| group.run(&keep_still(step)));
        }
        undone.machine.keyspace.keep();
        for group in [&mut undone, &mut plain] {
            after.iter().for_each(|step| group.run(step));
        }
        prop_assert!(undone.index > index);
        prop_assert_eq!(shown(undone.machine.keyspace()), shown(plain.machine.keyspace()));
        let noting = |(_, object): (&Key, &Object)| object.value.changes().is_some();
        prop_assert!(!undone.machine.keyspace().iter().any(noting), "nobody will take these changes back");
    });
}

#[test]
fn a_copy_of_a_value_that_notes_changes_does_not() {
    let mut group = Group::new(1);
    let run = |group: &mut Group, call: &str| group.run(&words(call));
    run(&mut group, &format!("hset h f {}", "v".repeat(65)));
    group.machine.keyspace.begin_undo();
    run(&mut group, "hset h f 1");
    run(&mut group, "copy h {h}2");
    assert_eq!(group.machine.keyspace().get(b"h").expect("there").value.changes(), Some(1));
    assert_eq!(group.machine.keyspace().get(b"{h}2").expect("there").value.changes(), None);
    group.machine.keyspace.roll_back();
    assert!(group.machine.keyspace().get(b"{h}2").is_none());
}

/// A key, when it expires, its version and its value.
type Shown = (Key, u64, u64, bytes::BytesMut);

/// All that is state of the keys.
fn shown(keys: &Keyspace) -> (Vec<Shown>, usize, usize, BTreeSet<(u64, Key)>) {
    let held = keys.slots.from(0).flat_map(|slot| slot.iter()).map(|(key, object)| {
        let mut value = bytes::BytesMut::new();
        object.value.put(&mut value);
        (key.clone(), object.expire_ms, object.version, value)
    });
    (held.collect(), keys.key_count, keys.bytes, keys.deadlines.clone())
}

#[test]
fn what_takes_long_is_freed_aside_and_counts_only_if_asked_for() {
    let mut keys = Keyspace::new(1);
    keys.begin_entry(1, 0, Bounds::default());
    let long = || Value::string(&[b'x'; 1 << 20]);
    keys.set(b"a", long(), NEVER);
    keys.set(b"a", Value::string(b"short"), NEVER);
    assert!(!keys.take_garbage().is_empty(), "it was replaced");
    assert!(keys.discard(b"a") && keys.take_garbage().is_empty(), "it was short");
    keys.set(b"a", long(), NEVER);
    assert!(keys.discard(b"a"));
    let garbage = keys.take_garbage();
    assert!(!garbage.is_empty() && garbage.objects() == 0, "it was removed");
    for (asked, counted) in [(false, 0), (true, 1)] {
        keys.set(b"a", Value::string(b"short"), NEVER);
        keys.clear(asked);
        let garbage = keys.take_garbage();
        assert!(!garbage.is_empty() && garbage.objects() == counted, "all were removed");
    }
    keys.set(b"a", long(), 10);
    keys.begin_entry(2, 20, Bounds::default());
    keys.remove_due(5);
    assert!(!keys.contains(b"a"));
    assert!(!keys.take_garbage().is_empty(), "it was due");
    keys.set(b"a", long(), NEVER);
    keys.begin_undo();
    assert!(keys.discard(b"a"));
    keys.roll_back();
    assert!(keys.take_garbage().is_empty() && keys.contains(b"a"), "it is there again");
}
