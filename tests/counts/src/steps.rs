//! The steps. Each returns how many commands (or objects) went through it.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use quoris::resp::{self, DecodeLimits, Decoder, Protocol};
use quoris_engine::entry::{self, Draft};
use quoris_engine::machine::BatchOutcome;
use quoris_engine::script::scripts::sha1_hex;
use quoris_engine::snapshot::Restore;
use quoris_engine::{Call, Reply};

use crate::bank::{self, BATCHES_PER_ENTRY, Bank, call, entries};
use crate::counted;

const COMMANDS: usize = 1000;
const KEYS: usize = 2000;
/// Keys of collections, and what each holds at most.
const COLLECTIONS: usize = 50;
const ELEMENTS: usize = 100;
const VALUE: [u8; 128] = [b'x'; 128];
const SCRIPT: &str = include_str!("../../../examples/payments/transfer.lua");
const LIMITS: DecodeLimits = DecodeLimits { bulk_bytes: 1 << 29, call_bytes: 1 << 30, authenticated: true };

type Step = fn() -> usize;

/// By name.
pub const ALL: [(&str, Step); 15] = [
    ("decode/SET", || decode(set)),
    ("decode/EVALSHA", || decode(transfer)),
    ("combine/SET", combine),
    ("encode/SET", || encode_entries(set)),
    ("encode/EVALSHA", || encode_entries(transfer)),
    ("apply/SET", || apply(set)),
    ("apply/HSET", || apply(hset)),
    ("apply/ZADD", || apply(zadd)),
    ("apply/XADD", || apply(xadd)),
    ("apply/EVALSHA", || apply(transfer)),
    ("read/GET", read),
    ("reply/OK", || reply(set)),
    ("reply/GET", reply_to_get),
    ("snapshot/write", snapshot_write),
    ("snapshot/read", snapshot_read),
];

/// Call number `n` of a kind: keys and elements out of a fixed set, in a fixed disorder.
type Kind = fn(usize) -> Call;

fn scattered(n: usize, of: usize) -> usize {
    n.wrapping_mul(7919) % of
}

fn key(n: usize) -> String {
    format!("key:{:012}", scattered(n, KEYS))
}

fn collection(n: usize, suffix: &str) -> String {
    format!("{{key:{:012}}}:{suffix}", scattered(n, COLLECTIONS))
}

fn value() -> Bytes {
    Bytes::from_static(&VALUE)
}

fn set(n: usize) -> Call {
    call([Bytes::from("SET"), key(n).into(), value()])
}

fn get(n: usize) -> Call {
    call(["GET".to_string(), key(n)])
}

fn hset(n: usize) -> Call {
    let field = format!("field:{}", scattered(n / 3, ELEMENTS));
    call([Bytes::from("HSET"), collection(n, "h").into(), field.into(), value()])
}

fn zadd(n: usize) -> Call {
    let (score, member) = (scattered(n, 1_000_000), scattered(n / 3, ELEMENTS));
    call(["ZADD".to_string(), collection(n, "z"), score.to_string(), format!("member:{member}")])
}

fn xadd(n: usize) -> Call {
    call([Bytes::from("XADD"), collection(n, "x").into(), "*".into(), "field".into(), value()])
}

/// Like those of examples/payments, of an amount that every account has.
fn transfer(n: usize) -> Call {
    let keys = ["balances", "journal", &format!("request:{n}")].map(|name| collection(n, name));
    let words = ["EVALSHA".to_string(), sha1_hex(SCRIPT.as_bytes()), "3".to_string()];
    let arguments = [n.to_string(), "a".to_string(), "b".to_string(), "-1".to_string(), "60".to_string()];
    call(words.into_iter().chain(keys).chain(arguments))
}

fn calls(kind: Kind) -> Vec<Call> {
    (0..COMMANDS).map(kind).collect()
}

/// A machine that has seen calls of the kind, so that keys are there and memory has been asked for.
fn bank(kind: Kind) -> Bank {
    let mut bank = Bank::new();
    bank.apply_all(&[call(["SCRIPT", "LOAD", SCRIPT])]);
    bank.apply_all(&(COMMANDS..3 * COMMANDS).map(kind).collect::<Vec<_>>());
    bank
}

/// A pipeline, as it comes from a client.
fn decode(kind: Kind) -> usize {
    let mut inbox = BytesMut::new();
    calls(kind).iter().for_each(|call| resp::encode_call(&call.args, &mut inbox));
    let mut decoder = Decoder::default();
    let mut decoded = 0;
    counted(&mut || {
        while let Some(words) = decoder.decode(&mut inbox, &LIMITS).expect("is RESP") {
            decoded += 1;
            black_box(words);
        }
    });
    assert_eq!(decoded, COMMANDS);
    decoded
}

/// Runs of one call each, of as many connections as make an entry.
fn combine() -> usize {
    let mut writes: Vec<Vec<Draft>> = calls(set).chunks(BATCHES_PER_ENTRY).map(drafts).collect();
    let mut combined = 0;
    counted(&mut || combined = writes.drain(..).map(quoris_raft::combined).sum());
    assert_eq!(combined, COMMANDS);
    combined
}

fn encode_entries(kind: Kind) -> usize {
    let calls = calls(kind);
    let encoded = |calls: &[Call]| entry::encode(&bank::stamp(), drafts(calls).iter());
    counted(&mut || calls.chunks(BATCHES_PER_ENTRY).for_each(|calls| drop(black_box(encoded(calls)))));
    COMMANDS
}

/// What as many connections write that send one of `calls` each.
fn drafts(calls: &[Call]) -> Vec<Draft> {
    calls.iter().map(|call| Draft::of_each(std::slice::from_ref(call), 0)).collect()
}

fn apply(kind: Kind) -> usize {
    let mut bank = bank(kind);
    let mut entries = entries(&calls(kind));
    counted(&mut || entries.drain(..).for_each(|entry| drop(black_box(bank.apply(entry)))));
    COMMANDS
}

fn read() -> usize {
    let bank = bank(set);
    let calls = calls(get);
    counted(&mut || {
        for call in &calls {
            black_box(bank.machine.read(std::slice::from_ref(call), 0, 42));
        }
    });
    COMMANDS
}

/// What the calls are answered.
fn reply(kind: Kind) -> usize {
    let mut bank = bank(kind);
    let outcomes = entries(&calls(kind)).into_iter().flat_map(|entry| bank.apply(entry).outcomes);
    let ran = outcomes.flat_map(|outcome| match outcome {
        BatchOutcome::Ran(replies) => replies,
        other => panic!("{other:?}"),
    });
    encode_replies(&ran.collect::<Vec<_>>())
}

fn reply_to_get() -> usize {
    encode_replies(&vec![Reply::Bulk(value()); COMMANDS])
}

fn encode_replies(replies: &[Reply]) -> usize {
    let mut out = BytesMut::with_capacity(1 << 20);
    counted(&mut || replies.iter().for_each(|reply| resp::encode(reply, Protocol::Resp2, &mut out)));
    assert!(out.len() >= 5 * replies.len(), "every reply was encoded");
    replies.len()
}

/// A machine with some of everything, and how many keys it has.
fn furnished() -> (Bank, usize) {
    let mut bank = bank(set);
    for kind in [hset, zadd, xadd] {
        bank.apply_all(&calls(kind));
    }
    let keys = bank.machine.keyspace().len();
    (bank, keys)
}

fn snapshot_write() -> usize {
    let (bank, keys) = furnished();
    counted(&mut || bank.machine.snapshot().chunks().for_each(|chunk| drop(black_box(chunk))));
    keys
}

fn snapshot_read() -> usize {
    let (bank, keys) = furnished();
    let mut chunks: Vec<Bytes> = bank.machine.snapshot().chunks().collect();
    let mut restored = None;
    counted(&mut || {
        let mut restore = Restore::new(1);
        chunks.drain(..).for_each(|chunk| restore.push(chunk).expect("is a chunk"));
        restored = Some(restore.finish().expect("is a snapshot"));
    });
    assert_eq!(restored.map(|machine| machine.digest()), Some(bank.machine.digest()));
    keys
}
