//! What the running digest costs: applies entries of SETs, and does for as many entries what the digest does for each,
//! and prints the processor time of both for one command.
//!
//! ```sh
//! cargo run --release -p quoris-engine --example digest_cost
//! ```

use bytes::Bytes;
use quoris_engine::digest::Digest;
use quoris_engine::entry::{Genesis, Message, SlotRange};
use quoris_engine::machine::{Position, Replies};
use quoris_engine::{Batch, Call, Entry, Machine, Reply, SLOT_COUNT, Stamp};

const ENTRIES: u64 = 20_000;
const KEYS: u64 = 100_000;

fn main() {
    println!("commands an entry | apply ns | digest ns | share");
    for commands in [1, 10, 100] {
        let entries: Vec<Bytes> = (0..ENTRIES / commands * 10).map(|n| entry(n, commands)).collect();
        let calls = (entries.len() as u64 * commands) as f64;
        let (apply, digest) =
            (median(|| apply(&entries)) / calls, median(|| digest(&entries, commands)) / calls);
        println!("{commands:17} | {apply:8.0} | {digest:9.1} | {:.1} %", 100.0 * digest / apply);
    }
}

/// SETs of 100 bytes to random keys.
fn entry(n: u64, commands: u64) -> Bytes {
    let set = |i: u64| {
        let key = (n * commands + i).wrapping_mul(0x9e37_79b9_7f4a_7c15) % KEYS;
        Batch::of(vec![Call::new(["SET".to_string(), format!("key:{key}"), "x".repeat(100)])])
    };
    let stamp = Some(Stamp { now_ms: 1_700_000_000_000 + n, seed: n, ..Stamp::default() });
    Entry { stamp, batches: (0..commands).map(set).collect(), ..Entry::default() }.encode_to_vec().into()
}

fn apply(entries: &[Bytes]) {
    let slots = vec![SlotRange { start: 0, end: u32::from(SLOT_COUNT) - 1 }];
    let genesis = Some(Genesis { cluster_id: "cost".to_string(), slots, ..Genesis::default() });
    let mut machine = Machine::new(1);
    machine.apply(Position { term: 1, index: 1 }, &Entry { genesis, ..Entry::default() }, Replies::Unwanted);
    for (index, bytes) in (2u64..).zip(entries) {
        machine.apply_bytes(Position { term: 1, index }, bytes.clone(), Replies::Wanted).expect("an entry");
    }
}

fn digest(entries: &[Bytes], commands: u64) {
    let mut digest = Digest::default();
    for (index, bytes) in (2u64..).zip(entries) {
        digest.note(bytes);
        (0..commands).for_each(|_| digest.note_reply(&Reply::OK));
        digest.note(&index.to_le_bytes());
        digest.note(&index.to_le_bytes());
        digest.end_entry(index, None);
    }
    assert_ne!(digest.value(), 0);
}

/// Nanoseconds of processor time, the median of five.
fn median(run: impl Fn()) -> f64 {
    let mut times: Vec<f64> = (0..5)
        .map(|_| {
            let before = processor_ns();
            run();
            processor_ns() - before
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[2]
}

fn processor_ns() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts it");
    text.split(' ').next().and_then(|word| word.parse().ok()).expect("a number")
}
