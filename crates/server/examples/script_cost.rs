//! What a script costs beside the same commands in MULTI: EVALSHA calls of examples/payments/transfer.lua, and transactions of the
//! commands that it calls. Prints the time of one of each, and how many times as long the script takes, of two ways:
//!
//! - **apply**: the entry's bytes are applied, as on each replica;
//! - **leader**: from what the client sends to what it is sent: calls decoded, the entry encoded and applied, replies encoded. Without
//!   the session, the log and the network.
//!
//! ```sh
//! cargo run --release -p quoris --example script_cost [CALLS]
//! ```
//!
//! With the allocator of the server. Rounds of the two kinds take turns, each on a machine of its own. Each figure is the median of
//! its rounds, in processor time, so that what else runs on the computer does not count.

use bytes::{Bytes, BytesMut};
use prost::Message;
use quoris::resp::{self, DecodeLimits, Decoder, Protocol};
use quoris_engine::entry::{self, Draft, Genesis, SlotRange};
use quoris_engine::machine::{BatchOutcome, Position, Replies};
use quoris_engine::{Batch, Call, Entry, Machine, Reply, SLOT_COUNT, Stamp};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SCRIPT: &str = include_str!("../../../examples/payments/transfer.lua");
const ROUNDS: usize = 15;
const BATCHES_PER_ENTRY: usize = 50;
const ACCOUNTS: usize = 1000;
const LIMITS: DecodeLimits = DecodeLimits { bulk_bytes: 1 << 29, call_bytes: 1 << 30, authenticated: true };

/// Nanoseconds for each batch of a bank's entries.
type Way = fn(&mut Bank, Vec<Vec<Batch>>) -> f64;

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
        Entry { stamp: Some(self.stamp()), ..entry }.encode_to_vec().into()
    }

    fn stamp(&mut self) -> Stamp {
        self.stamps += 1;
        Stamp { now_ms: 1_700_000_000_000 + self.stamps, seed: self.stamps, ..Stamp::default() }
    }

    /// What each batch was answered.
    fn apply_bytes(&mut self, bytes: Bytes) -> Vec<Vec<Reply>> {
        self.index += 1;
        let at = Position { term: 1, index: self.index };
        let applied = self.machine.apply_bytes(at, bytes, Replies::Wanted).expect("is an entry");
        let ran = applied.outcomes.into_iter().map(|outcome| {
            let BatchOutcome::Ran(replies) = outcome else { panic!("nothing is watched") };
            let failed = replies.iter().find(|reply| matches!(reply, Reply::Error(_)));
            assert!(failed.is_none(), "{failed:?}");
            replies
        });
        ran.collect()
    }

    /// The batches of `count` entries, which `batch` makes of the numbers of requests.
    fn batches(&mut self, count: usize, batch: impl Fn(usize) -> Batch) -> Vec<Vec<Batch>> {
        let next = |_| {
            let first = self.requests + 1;
            self.requests += BATCHES_PER_ENTRY;
            (first..=self.requests).map(&batch).collect()
        };
        (0..count).map(next).collect()
    }

    /// Applies the entries of `batches`; nanoseconds for each batch.
    fn time_apply(&mut self, batches: Vec<Vec<Batch>>) -> f64 {
        let encoded = |batches| self.encode(entry_of(batches));
        let entries: Vec<Bytes> = batches.into_iter().map(encoded).collect();
        timed(entries, |bytes| drop(self.apply_bytes(bytes)))
    }

    /// The same from the bytes that clients send to those that they are sent.
    fn time_leader(&mut self, batches: Vec<Vec<Batch>>) -> f64 {
        let mut out = BytesMut::new();
        timed(batches.iter().map(|batches| sent(batches)).collect(), |mut inbox| {
            out.clear();
            let drafts: Vec<Draft> = (0..BATCHES_PER_ENTRY).map(|_| received(&mut inbox, &mut out)).collect();
            let bytes = entry::encode(&self.stamp(), drafts.iter()).into();
            for mut replies in self.apply_bytes(bytes) {
                let reply = if replies.len() == 1 { replies.remove(0) } else { Reply::Array(replies) };
                resp::encode(&reply, Protocol::Resp2, &mut out);
            }
        })
    }
}

/// Nanoseconds that `work` takes for each batch of `entries`.
fn timed<T>(entries: Vec<T>, work: impl FnMut(T)) -> f64 {
    let batches = entries.len() * BATCHES_PER_ENTRY;
    let before = processor_ns();
    entries.into_iter().for_each(work);
    (processor_ns() - before) / batches as f64
}

/// What clients send to have `batches` run.
fn sent(batches: &[Batch]) -> BytesMut {
    let mut inbox = BytesMut::new();
    for batch in batches {
        if batch.transaction {
            resp::encode_call(&["MULTI"], &mut inbox);
        }
        batch.calls.iter().for_each(|call| resp::encode_call(&call.args, &mut inbox));
        if batch.transaction {
            resp::encode_call(&["EXEC"], &mut inbox);
        }
    }
    inbox
}

/// The next call or transaction. What is answered before it is applied goes to `out`.
fn received(inbox: &mut BytesMut, out: &mut BytesMut) -> Draft {
    let mut decoder = Decoder::default();
    let mut decoded = || decoder.decode(inbox, &LIMITS).expect("is RESP").expect("is whole");
    let words = decoded();
    if words[0] != "MULTI" {
        return Draft::of_each(&[call(words)], 0);
    }
    resp::encode(&Reply::OK, Protocol::Resp2, out);
    let mut calls = Vec::new();
    loop {
        let words = decoded();
        if words[0] == "EXEC" {
            return Batch::transaction(calls, Vec::new()).into();
        }
        calls.push(call(words));
        resp::encode(&Reply::Simple("QUEUED"), Protocol::Resp2, out);
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
    let calls: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(20_000);
    let entries = calls / BATCHES_PER_ENTRY;
    let sha = quoris_engine::script::scripts::sha1_hex(SCRIPT.as_bytes());
    let ways: [(&str, Way); 2] = [("apply", Bank::time_apply), ("leader", Bank::time_leader)];
    for (name, time) in ways {
        let (mut scripted, mut plain) = (Bank::new(), Bank::new());
        let (mut script_ns, mut multi_ns) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let batches = scripted.batches(entries, |request| by_script(&sha, request));
            script_ns.push(time(&mut scripted, batches));
            let batches = plain.batches(entries, by_commands);
            multi_ns.push(time(&mut plain, batches));
        }
        let (script_ns, multi_ns) = (median(script_ns), median(multi_ns));
        println!(
            "{name:6} EVALSHA {script_ns:.0} ns, MULTI {multi_ns:.0} ns, ratio {:.2}",
            script_ns / multi_ns
        );
    }
}
