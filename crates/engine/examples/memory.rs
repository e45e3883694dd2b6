//! What keys take in memory, by kind: fills a machine through its log entries and prints how much the process has grown
//! beside what [`Keyspace::bytes`](quoris_engine::keyspace::Keyspace::bytes) says.
//!
//! ```sh
//! cargo run --release -p quoris-engine --example memory -- string 1000000
//! cargo run --release -p quoris-engine --example memory -- hash 10000
//! ```
//!
//! Kinds: `string` (keys `key:%012d` of 128 bytes each), and `hash`, `set`, `zset`, `list` of 100 small elements each.
//! `long-list N` pushes N elements onto one list and says how long the slowest entry took, a snapshot being held.

// The engine has no clock; who measures it has one.
#![allow(clippy::disallowed_types)]

use std::time::Instant;

use bytes::Bytes;
use quoris_engine::entry::{Genesis, SlotRange};
use quoris_engine::machine::{Position, Replies};
use quoris_engine::{Batch, Call, Entry, Machine, SLOT_COUNT, Stamp};

/// As `quoris serve` has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Elements of a collection.
const ELEMENTS: usize = 100;

struct Filled {
    machine: Machine,
    index: u64,
}

impl Filled {
    fn new() -> Filled {
        let mut filled = Filled { machine: Machine::new(1), index: 0 };
        let slots = vec![SlotRange { start: 0, end: u32::from(SLOT_COUNT) - 1 }];
        let genesis = Some(Genesis { cluster_id: "memory".to_string(), group: 1, slots, topology: None });
        filled.apply(Entry {
            stamp: Some(Stamp { now_ms: 1, seed: 1, ..Stamp::default() }),
            genesis,
            ..Entry::default()
        });
        filled
    }

    fn apply(&mut self, entry: Entry) {
        self.index += 1;
        self.machine.apply(Position { term: 1, index: self.index }, &entry, Replies::Unwanted);
    }

    fn run(&mut self, words: Vec<String>) {
        let call = Call::new(words.into_iter().map(Bytes::from));
        let stamp = Some(Stamp { now_ms: 1, seed: self.index, ..Stamp::default() });
        self.apply(Entry { stamp, batches: vec![Batch::of(vec![call])], ..Entry::default() });
    }
}

/// The call that makes key number `n`.
fn call(kind: &str, n: usize) -> Vec<String> {
    let key = format!("key:{n:012}");
    let elements =
        |element: &dyn Fn(usize) -> Vec<String>| (0..ELEMENTS).flat_map(element).collect::<Vec<_>>();
    let (name, rest) = match kind {
        "string" => ("set", vec![format!("{n:0128}")]),
        "hash" => ("hset", elements(&|i| vec![format!("field:{i}"), format!("value:{i}")])),
        "set" => ("sadd", elements(&|i| vec![format!("member:{i}")])),
        "zset" => ("zadd", elements(&|i| vec![format!("{i}"), format!("member:{i}")])),
        "list" => ("rpush", elements(&|i| vec![format!("element:{i}")])),
        other => panic!("no such kind: {other}"),
    };
    [name.to_string(), key].into_iter().chain(rest).collect()
}

/// What the process holds in memory, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its own memory");
    let kilobytes = line.split_whitespace().nth(1).expect("a number");
    kilobytes.parse::<usize>().expect("a number") * 1024
}

fn main() {
    let mut args = std::env::args().skip(1);
    let kind = args.next().unwrap_or_else(|| "string".to_string());
    let count: usize = args.next().map_or(1_000_000, |count| count.parse().expect("a number"));
    let mut filled = Filled::new();
    if kind == "long-list" {
        return long_list(&mut filled, count);
    }
    let before = resident();
    (0..count).for_each(|n| filled.run(call(&kind, n)));
    let grown = resident() - before;
    let logical = filled.machine.keyspace().bytes();
    println!(
        "{count} {kind}: {} bytes resident a key, {} by Keyspace::bytes",
        grown / count,
        logical / count
    );
}

fn long_list(filled: &mut Filled, count: usize) {
    const AT_ONCE: usize = 1000;
    let before = resident();
    for n in 0..count / AT_ONCE {
        let elements = (0..AT_ONCE).map(|i| format!("element:{:08}", n * AT_ONCE + i));
        filled.run(["rpush".to_string(), "list".to_string()].into_iter().chain(elements).collect());
    }
    println!("{count} elements: {:.1} bytes each", (resident() - before) as f64 / count as f64);
    let _snapshot = filled.machine.snapshot();
    let calls = ["lpush list a", "rpush list b", "lset list 5000000 c", "lpop list", "rpop list"];
    for words in calls {
        let start = Instant::now();
        filled.run(words.split(' ').map(str::to_string).collect());
        println!("with a snapshot held, {words}: {:?}", start.elapsed());
    }
}
