//! Log entries, as they come from the disk and from peers.

use bytes::Bytes;
use quoris_engine::entry::{
    Batch, Bounds, Call, Check, Entry, Genesis, GroupInfo, Message, NodeInfo, SlotRange, Stamp, Topology,
    Watch,
};
use rand::Rng;
use rand::rngs::StdRng;

use crate::{damage, within_memory};

/// An empty part of a message takes 2 bytes, and a place in a growing list here.
const FACTOR: usize = 512;

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
    assert_eq!(Entry::decode(&encoded[..]), Ok(entry), "decoded, encoded and decoded");
}

fn entry(rng: &mut StdRng) -> Entry {
    Entry {
        stamp: rng.random::<bool>().then(|| Stamp {
            now_ms: rng.random(),
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

fn batch(rng: &mut StdRng) -> Batch {
    Batch {
        calls: (0..rng.random_range(0..4)).map(|_| Call::new(damage::words(rng, 5))).collect(),
        watches: watches(rng),
        transaction: rng.random(),
        cancel: rng.random(),
        origin: rng.random(),
        evict: watches(rng),
    }
}

fn watches(rng: &mut StdRng) -> Vec<Watch> {
    damage::words(rng, 2).into_iter().map(|key| Watch { key: key.into(), version: rng.random() }).collect()
}

fn genesis(rng: &mut StdRng) -> Genesis {
    let slots = vec![SlotRange { start: rng.random(), end: rng.random() }; rng.random_range(0..3)];
    let node = NodeInfo { id: rng.random(), ..NodeInfo::default() };
    let group = GroupInfo { slots: slots.clone(), ..GroupInfo::default() };
    let topology = Topology { epoch: rng.random(), nodes: vec![node], groups: vec![group] };
    Genesis { cluster_id: "fuzz".to_string(), group: rng.random(), slots, topology: Some(topology) }
}
