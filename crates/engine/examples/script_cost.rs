//! What a script costs beside the same commands in MULTI: applies entries of EVALSHA calls of examples/payments/transfer.lua,
//! and entries of transactions of the commands that it calls, and prints the time of one of each.
//!
//! ```sh
//! cargo run --release -p quoris-engine --example script_cost [CALLS]
//! ```
//!
//! Entries are applied as a replica does it: from their bytes, with the allocator of the server. Rounds of the two take turns,
//! each on a machine of its own. Each figure is the median of its rounds, in processor time, so that what else runs on the
//! computer does not count.

use bytes::Bytes;
use prost::Message;
use quoris_engine::entry::{Genesis, SlotRange};
use quoris_engine::machine::{BatchOutcome, Position, Replies};
use quoris_engine::{Batch, Call, Entry, Machine, Reply, SLOT_COUNT, Stamp};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SCRIPT: &str = include_str!("../../../examples/payments/transfer.lua");
const ROUNDS: usize = 15;
const BATCHES_PER_ENTRY: usize = 50;
const ACCOUNTS: usize = 1000;

struct Bank {
    machine: Machine,
    index: u64,
    stamps: u64,
    requests: usize,
}

impl Bank {
    fn new() -> Bank {
        let mut bank = Bank { machine: Machine::new(1), index: 0, stamps: 0, requests: 0 };
        let slots = vec![SlotRange { start: 0, end: u32::from(SLOT_COUNT) - 1 }];
        let genesis = Some(Genesis { cluster_id: "cost".to_string(), group: 1, slots, topology: None });
        bank.apply(Entry { genesis, ..Entry::default() });
        bank.apply(entry_of(vec![Batch::of(vec![call(["script", "load", SCRIPT])])]));
        for account in 0..ACCOUNTS {
            let words = ["hset".to_string(), key("balances"), account.to_string(), "1000000".to_string()];
            bank.apply(entry_of(vec![Batch::of(vec![call(words)])]));
        }
        bank
    }

    fn apply(&mut self, entry: Entry) {
        let bytes = self.encode(entry);
        self.apply_bytes(bytes);
    }

    /// The entry's bytes, with the stamp of the next one.
    fn encode(&mut self, entry: Entry) -> Bytes {
        self.stamps += 1;
        let now_ms = 1_700_000_000_000 + self.stamps;
        let stamp = Some(Stamp { now_ms, seed: self.stamps, ..Stamp::default() });
        Entry { stamp, ..entry }.encode_to_vec().into()
    }

    fn apply_bytes(&mut self, bytes: Bytes) {
        self.index += 1;
        let at = Position { term: 1, index: self.index };
        let applied = self.machine.apply_bytes(at, bytes, Replies::Wanted).expect("is an entry");
        for outcome in applied.outcomes {
            let BatchOutcome::Ran(replies) = outcome else { panic!("nothing is watched") };
            let failed = replies.iter().find(|reply| matches!(reply, Reply::Error(_)));
            assert!(failed.is_none(), "{failed:?}");
        }
    }

    /// Applies `calls` batches that `batch` makes; nanoseconds for each.
    fn time(&mut self, calls: usize, batch: impl Fn(usize) -> Batch) -> f64 {
        let entries: Vec<Bytes> = (0..calls / BATCHES_PER_ENTRY)
            .map(|_| {
                let first = self.requests + 1;
                self.requests += BATCHES_PER_ENTRY;
                self.encode(entry_of((first..=self.requests).map(&batch).collect()))
            })
            .collect();
        let applied = entries.len() * BATCHES_PER_ENTRY;
        let before = processor_ns();
        entries.into_iter().for_each(|bytes| self.apply_bytes(bytes));
        (processor_ns() - before) / applied as f64
    }
}

fn entry_of(batches: Vec<Batch>) -> Entry {
    Entry { batches, ..Entry::default() }
}

fn call<W: Into<Bytes>>(words: impl IntoIterator<Item = W>) -> Call {
    Call::new(words)
}

fn key(name: &str) -> String {
    format!("{{bank}}:{name}")
}

/// One account to another, and how much.
fn transfer(request: usize) -> [String; 4] {
    let from = request * 7 % ACCOUNTS;
    let to = (from + 1 + request % 5) % ACCOUNTS;
    [request, from, to, 1 + request % 9].map(|number| number.to_string())
}

fn by_script(sha: &str, request: usize) -> Batch {
    let head = ["evalsha".to_string(), sha.to_string(), "3".to_string(), key("balances"), key("journal")];
    let tail = [key(&format!("request:{request}"))].into_iter().chain(transfer(request));
    Batch::of(vec![call(head.into_iter().chain(tail).chain(["60".to_string()]))])
}

/// What the script calls when there is enough.
fn by_commands(request: usize) -> Batch {
    let answered = key(&format!("request:{request}"));
    let [number, from, to, amount] = transfer(request);
    let (balances, journal) = (key("balances"), key("journal"));
    let calls = [
        vec!["get", &answered],
        vec!["hget", &balances, &from],
        vec!["hincrby", &balances, &from, &format!("-{amount}")],
        vec!["hincrby", &balances, &to, &amount],
        vec!["xadd", &journal, "*", "request", &number, "from", &from, "to", &to, "amount", &amount],
        vec!["set", &answered, "1700000000000-0", "EX", "60"],
    ]
    .map(|words| call(words.into_iter().map(str::to_string)));
    Batch::transaction(calls.into(), Vec::new())
}

/// What this thread has had of a processor.
fn processor_ns() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts it");
    text.split(' ').next().and_then(|word| word.parse().ok()).expect("a number")
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

fn main() {
    let calls = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(20_000);
    let sha = quoris_engine::script::scripts::sha1_hex(SCRIPT.as_bytes());
    let (mut scripted, mut plain) = (Bank::new(), Bank::new());
    let (mut script_ns, mut multi_ns) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        script_ns.push(scripted.time(calls, |request| by_script(&sha, request)));
        multi_ns.push(plain.time(calls, by_commands));
    }
    let (script_ns, multi_ns) = (median(script_ns), median(multi_ns));
    println!("EVALSHA {script_ns:.0} ns, MULTI {multi_ns:.0} ns, ratio {:.2}", script_ns / multi_ns);
}
