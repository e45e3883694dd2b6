//! Snapshots, as they come from the disk and from peers, and the values in them.

use bytes::{BufMut, Bytes, BytesMut};
use quoris_engine::entry::{Genesis, SlotRange};
use quoris_engine::machine::{BatchOutcome, Position, Replies};
use quoris_engine::snapshot::Restore;
use quoris_engine::{Batch, Call, Entry, Machine, Reply, SLOT_COUNT, Stamp};
use rand::Rng;
use rand::rngs::StdRng;

use crate::{damage, within_memory};

/// An object without content takes some 30 bytes in a snapshot.
const FACTOR: usize = 512;
/// A machine has a place for each slot, and interpreters.
const MACHINE_BYTES: usize = 4 << 20;
/// Calls that make a machine.
const CALLS: usize = 30;

/// Chunks with their lengths before them.
pub fn make(rng: &mut StdRng) -> Vec<u8> {
    let mut filled = Filled::random(rng, CALLS);
    let snapshot = filled.machine.snapshot();
    let taken: Vec<Bytes> = snapshot.chunks().collect();
    (0..CALLS / 3).for_each(|_| {
        filled.run(call(rng));
    });
    assert!(snapshot.chunks().eq(taken.iter()), "a snapshot stays as it was, though writes go on");

    let damaged = rng.random_range(0..4);
    let mut input = BytesMut::new();
    for (number, chunk) in taken.iter().enumerate() {
        let mut chunk = chunk.to_vec();
        if number == damaged {
            damage::maybe(rng, &mut chunk);
        }
        input.put_u32_le(chunk.len() as u32);
        input.put_slice(&chunk);
    }
    input.to_vec()
}

pub fn check(input: &[u8]) {
    let chunks = chunks(input);
    let machine =
        within_memory("a snapshot", input.len() + MACHINE_BYTES / FACTOR, FACTOR, || restore(&chunks, 1));
    let Some(machine) = machine else { return };
    assert_eq!(restored(&machine, 1).digest(), machine.digest(), "restored, written and restored");
}

/// A machine from a snapshot of `machine`.
pub fn restored(machine: &Machine, hash_seed: u64) -> Machine {
    let chunks: Vec<Bytes> = machine.snapshot().chunks().collect();
    restore(&chunks, hash_seed).expect("what a machine has written")
}

fn restore(chunks: &[Bytes], hash_seed: u64) -> Option<Machine> {
    let mut restore = Restore::new(hash_seed);
    for chunk in chunks {
        restore.push(chunk.clone()).ok()?;
    }
    restore.finish().ok()
}

fn chunks(mut input: &[u8]) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    while let Some((len, rest)) = input.split_first_chunk() {
        let (chunk, rest) = rest.split_at(rest.len().min(u32::from_le_bytes(*len) as usize));
        chunks.push(Bytes::copy_from_slice(chunk));
        input = rest;
    }
    chunks
}

/// A machine with some keys.
pub struct Filled {
    machine: Machine,
    index: u64,
}

impl Filled {
    /// `key0`, `key1`, …
    pub const KEYS: usize = 6;

    /// One that `calls` random calls have filled.
    pub fn random(rng: &mut StdRng, calls: usize) -> Filled {
        let mut filled = Filled { machine: Machine::new(1), index: 0 };
        let slots = vec![SlotRange { start: 0, end: u32::from(SLOT_COUNT) - 1 }];
        let genesis = Genesis { cluster_id: "fuzz".to_string(), group: 1, slots, topology: None };
        filled.apply(Entry { genesis: Some(genesis), ..Entry::default() });
        (0..calls).for_each(|_| {
            let call = call(rng);
            filled.run(call);
        });
        filled
    }

    /// The machine.
    pub fn into_machine(self) -> Machine {
        self.machine
    }

    /// The answer to `call`, if it is a string.
    pub fn bulk(&mut self, call: Call) -> Option<Vec<u8>> {
        match self.run(call) {
            Some(Reply::Bulk(bytes)) => Some(bytes.to_vec()),
            _ => None,
        }
    }

    fn run(&mut self, call: Call) -> Option<Reply> {
        let outcomes = self.apply(Entry { batches: vec![Batch::of(vec![call])], ..Entry::default() });
        match outcomes.into_iter().next() {
            Some(BatchOutcome::Ran(replies)) => replies.into_iter().next(),
            _ => None,
        }
    }

    fn apply(&mut self, entry: Entry) -> Vec<BatchOutcome> {
        self.index += 1;
        let stamp = Some(Stamp { now_ms: 1000 + self.index, seed: self.index, ..Stamp::default() });
        let entry = Entry { stamp, ..entry };
        self.machine.apply(Position { term: 1, index: self.index }, &entry, Replies::Wanted).outcomes
    }
}

/// A call that writes.
pub fn call(rng: &mut StdRng) -> Call {
    const SHAPES: [(&str, usize); 14] = [
        ("SET k w", 1),
        ("RPUSH k w", 20),
        ("LPUSH k w", 4),
        ("SADD k w", 30),
        ("SADD k n", 30),
        ("HSET k w w", 20),
        ("ZADD k n w", 20),
        ("XADD k * w w", 3),
        ("XGROUP CREATE k g 0 MKSTREAM", 1),
        ("XREADGROUP GROUP g c STREAMS k >", 1),
        ("PFADD k w", 5),
        ("PEXPIREAT k 99999999999999", 1),
        ("HPEXPIREAT k 99999999999999 FIELDS 1 w", 1),
        ("BLPOP k 0", 1),
    ];
    let (shape, repeats) = SHAPES[rng.random_range(0..SHAPES.len())];
    let words: Vec<&str> = shape.split(' ').collect();
    // What stands behind the key is there again and again.
    let behind = words.iter().position(|word| *word == "k").map_or(words.len(), |at| at + 1);
    let times = rng.random_range(1..=repeats);
    let key = format!("key{}", rng.random_range(0..Filled::KEYS));
    let mut draw = |word: &&str| match *word {
        "k" => key.clone().into_bytes(),
        "w" => damage::word(rng),
        "n" => rng.random_range(-1000..1000).to_string().into_bytes(),
        other => other.as_bytes().to_vec(),
    };
    let mut args: Vec<Vec<u8>> = words[..behind].iter().map(&mut draw).collect();
    (0..times).for_each(|_| args.extend(words[behind..].iter().map(&mut draw)));
    Call::new(args)
}
