//! Log entries, as they come from the disk and from peers: what can be decoded can be applied, and does the same to every
//! replica.

use bytes::Bytes;
use quoris_engine::SLOT_COUNT;
use quoris_engine::entry::{
    Arrive, Batch, Bounds, Call, Check, Entry, Genesis, GroupInfo, Leave, Message, Moves, NodeInfo, Part,
    SlotEpoch, SlotRange, Stamp, Topology, UserState, Watch,
};
use quoris_engine::hash_slot::slot_of;
use quoris_engine::keyspace::object_bytes;
use quoris_engine::machine::{ApplyError, Machine, Position, Replies};
use quoris_engine::slot::{NEVER, Object};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::snapshot::{self, Filled, restored};
use crate::{damage, within_memory};

/// An empty part of a message takes 2 bytes, and a place in a growing list here.
const FACTOR: usize = 512;
/// Calls that have run before the entry does.
const CALLS_BEFORE: usize = 8;
/// Any time that does not overflow when a deadline is added to it.
const TIMES_MS: std::ops::Range<u64> = 0..1 << 50;

pub fn make(rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = entry(rng).encode_to_vec();
    damage::maybe(rng, &mut bytes);
    bytes
}

pub fn check(input: &[u8]) {
    let input = Bytes::copy_from_slice(input);
    let decoded = within_memory("an entry", input.len(), FACTOR, || Entry::decode(input.clone()));
    let Ok(entry) = decoded else { return };
    let encoded = entry.encode_to_vec();
    assert_eq!(Entry::decode(&encoded[..]).as_ref(), Ok(&entry), "decoded, encoded and decoded");
    check_applied(&input);
}

/// Applies an encoded entry to replicas that differ in nothing but what has no influence: their hash seeds, whether their
/// replies are wanted, whether they are observed, and whether they come from a snapshot.
fn check_applied(input: &Bytes) {
    let seed = input.iter().fold(0, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(*byte));
    let mut answering = Filled::random(&mut StdRng::seed_from_u64(seed), CALLS_BEFORE).into_machine();
    let mut following = restored(&answering, 2);
    answering.observe(true);
    let at = Position { term: 1, index: answering.applied() + 1 };
    let before = answering.digest();
    let answered = answering.apply_bytes(at, input.clone(), Replies::Wanted);
    let followed = following.apply_bytes(at, input.clone(), Replies::Unwanted);
    let (answered, followed) = match (answered, followed) {
        (Ok(answered), Ok(followed)) => (answered, followed),
        (Err(ApplyError::NewerVersion(..)), Err(ApplyError::NewerVersion(..))) => {
            return assert_eq!(answering.digest(), before, "refused, and changed nothing");
        }
        (answered, followed) => panic!("it was decoded, and applied: {answered:?}, {followed:?}"),
    };
    assert_eq!(answering.digest(), following.digest(), "applied by two replicas");
    assert_eq!(answering.unchecked_digest(), following.unchecked_digest(), "their running digests");
    assert_eq!(answered.served, followed.served, "whom it served");
    assert_eq!(restored(&answering, 3).digest(), answering.digest(), "what it left, as a snapshot");
    check_counts(&answering);
    // What the entry left must bear the next one, which removes what is due.
    let next = Position { term: 2, index: at.index + 1 };
    for machine in [&mut answering, &mut following] {
        machine.apply(next, &Entry::default(), Replies::Unwanted);
    }
    assert_eq!(answering.digest(), following.digest(), "gone on by two replicas");
}

/// What a keyspace counts as it goes is what there is.
fn check_counts(machine: &Machine) {
    let keys = machine.keyspace();
    let objects = || (0..SLOT_COUNT).flat_map(|slot| keys.slot(slot).iter());
    assert_eq!(keys.len(), objects().count(), "keys");
    let bytes = objects().map(|(key, object)| object_bytes(key, object)).sum::<usize>();
    assert_eq!(keys.bytes(), bytes, "bytes of keys");
    let expires = |object: &&Object| object.expire_ms.min(object.value.next_deadline_ms()) != NEVER;
    assert_eq!(keys.expiring(), objects().map(|(_, object)| object).filter(expires).count(), "deadlines");
}

fn entry(rng: &mut StdRng) -> Entry {
    Entry {
        stamp: rng.random::<bool>().then(|| Stamp {
            now_ms: rng.random_range(TIMES_MS),
            seed: rng.random(),
            script_instructions: rng.random(),
            script_bytes: rng.random(),
            out_of_memory: rng.random(),
            bounds: rng.random::<bool>().then(|| bounds(rng)),
            keep_due: rng.random(),
            few_replicas: rng.random(),
        }),
        batches: (0..rng.random_range(0..4)).map(|_| batch(rng)).collect(),
        genesis: (rng.random_range(0..4) == 0).then(|| genesis(rng)),
        check: rng.random::<bool>().then(|| Check { index: rng.random(), digest: rng.random() }),
        audit: rng.random(),
        version: rng.random_range(0..50) / 48,
    }
}

fn bounds(rng: &mut StdRng) -> Bounds {
    Bounds {
        hash_fields: rng.random(),
        hash_bytes: rng.random(),
        set_integers: rng.random(),
        zset_members: rng.random(),
        zset_bytes: rng.random(),
        node_entries: rng.random(),
        node_bytes: rng.random(),
    }
}

/// Mostly one of a single kind: what else it has to do keeps a batch from its calls.
fn batch(rng: &mut StdRng) -> Batch {
    const WAITERS: u64 = 4;
    let calls = Batch {
        calls: (0..rng.random_range(0..4)).map(|_| any_call(rng)).collect(),
        watches: if rng.random_range(0..4) == 0 { watches(rng) } else { Vec::new() },
        transaction: rng.random(),
        origin: rng.random(),
        tracked: rng.random(),
        rights: (rng.random_range(0..4) == 0).then(|| Box::new(rights(rng))),
        ..Batch::default()
    };
    match rng.random_range(0..16) {
        0 => Batch { cancel: rng.random_range(0..WAITERS), ..calls },
        1 => Batch { evict: watches(rng), ..calls },
        2 => Batch { expire: keys(rng), ..calls },
        // Parts that fit are rare among random numbers.
        6 => Batch { part: Some(Box::new(part(rng))), ..calls },
        3..=5 => Batch { moves: Some(Box::new(moves(rng))), ..calls },
        _ => calls,
    }
}

fn part(rng: &mut StdRng) -> Part {
    let bytes: Bytes =
        Entry { batches: vec![Batch::of(vec![any_call(rng)])], ..Entry::default() }.encode_to_vec().into();
    let total = if rng.random() { bytes.len() as u64 } else { rng.random() };
    let position = if rng.random() { 0 } else { rng.random_range(0..4) };
    Part { id: rng.random_range(0..2), position, total, batches: 1, bytes }
}

/// Changes users, mostly.
fn users_call(rng: &mut StdRng) -> Call {
    let name = ["a", "b", "default"][rng.random_range(0..3)];
    let mut words: Vec<Bytes> = match rng.random_range(0..4) {
        0 => vec!["acl".into(), "deluser".into(), name.into()],
        _ => vec!["acl".into(), "setuser".into(), name.into()],
    };
    words.extend(rights(rng).rules);
    Call { args: words }
}

/// Mostly rules.
fn rights(rng: &mut StdRng) -> UserState {
    const RULES: [&str; 10] =
        ["+@all", "-@all", "+get", "-set", "~key*", "%R~key1", "&c", "(+set ~*)", "+select|0", "+nosuch"];
    let rule = |rng: &mut StdRng| match rng.random_range(0..8) {
        0 => damage::words(rng, 1).pop().unwrap_or_default().into(),
        _ => RULES[rng.random_range(0..RULES.len())].into(),
    };
    UserState { name: "u".into(), rules: (0..rng.random_range(0..6)).map(|_| rule(rng)).collect() }
}

/// Mostly one that does something.
fn any_call(rng: &mut StdRng) -> Call {
    match rng.random_range(0..5) {
        4 => users_call(rng),
        0 => Call::new(damage::words(rng, 5)),
        _ => snapshot::call(rng),
    }
}

fn moves(rng: &mut StdRng) -> Moves {
    match rng.random_range(0..3) {
        0 => {
            Moves { leave: Some(Leave { to: rng.random_range(0..3), slots: slots(rng) }), ..Moves::default() }
        }
        1 => Moves { seal: slots(rng), forget: slots(rng), ..Moves::default() },
        _ => Moves { arrive: Some(arrive(rng)), ..Moves::default() },
    }
}

/// Mostly of keys that are there, in an epoch in which their slots are served.
fn slots(rng: &mut StdRng) -> Vec<SlotEpoch> {
    let keys = keys(rng);
    keys.iter().map(|key| SlotEpoch { slot: slot_of(key).into(), epoch: rng.random_range(0..3) }).collect()
}

/// A piece of a slot that another group has given up, mostly as it should be.
fn arrive(rng: &mut StdRng) -> Arrive {
    let mut from = Filled::random(rng, CALLS_BEFORE).into_machine();
    let key: Bytes = format!("key{}", rng.random_range(0..Filled::KEYS)).into();
    let slot = slot_of(&key);
    let slots = vec![SlotEpoch { slot: slot.into(), epoch: 1 }];
    let leave = Entry { batches: vec![Batch::leave(1, slots)], ..Entry::default() };
    from.apply(Position { term: 1, index: from.applied() + 1 }, &leave, Replies::Unwanted);
    let piece = from.keyspace().piece(slot, 0, rng.random_range(0..1000)).map(|(piece, _)| piece);
    let odd = rng.random_range(0..4) == 0;
    Arrive {
        slot: if odd { rng.random_range(0..20_000) } else { slot.into() },
        epoch: rng.random_range(0..4),
        position: u64::from(odd),
        now_ms: rng.random_range(TIMES_MS),
        ..piece.unwrap_or_default()
    }
}

fn watches(rng: &mut StdRng) -> Vec<Watch> {
    let keys = keys(rng);
    keys.into_iter().map(|key| Watch { key, version: rng.random_range(0..2 * CALLS_BEFORE as u64) }).collect()
}

/// Some that are there, some that are not.
fn keys(rng: &mut StdRng) -> Vec<Bytes> {
    let count = rng.random_range(0..3);
    (0..count).map(|_| format!("key{}", rng.random_range(0..2 * Filled::KEYS)).into()).collect()
}

fn genesis(rng: &mut StdRng) -> Genesis {
    let slots = vec![SlotRange { start: rng.random(), end: rng.random() }; rng.random_range(0..3)];
    let node = NodeInfo { id: rng.random(), ..NodeInfo::default() };
    let group = GroupInfo { slots: slots.clone(), ..GroupInfo::default() };
    let topology =
        Topology { epoch: rng.random(), nodes: vec![node], groups: vec![group], removed: Vec::new() };
    Genesis { cluster_id: "fuzz".to_string(), group: rng.random(), slots, topology: Some(topology) }
}
