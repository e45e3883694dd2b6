//! What work outside of Lua's own instructions counts as, in instructions: what commands touch, what is copied. Functions of
//! the script, its data and the keys alone, so that a budget ends on every replica alike. One instruction stands for some 10 ns.

use std::sync::LazyLock;

use bytes::Bytes;

use crate::command::{self, Command, Flags};
use crate::keyspace::Keyspace;
use crate::reply::Reply;
use crate::value::Value;

/// Any call.
const CALL: u64 = 20;
/// Each word of a call, each element of a reply.
const WORD: u64 = 8;
/// Each value that an answer is made of.
pub const VALUE: u64 = 16;
/// Each value that a library reads or writes.
pub const CODED: u64 = 32;
/// A call of a library's function, whatever it does.
pub const CROSSING: u32 = 10;
/// DEBUG SLEEP, though nobody sleeps while the script runs (`ReadOnly`).
pub const MILLISECOND: u64 = 100_000;
/// Each key, for what goes over all keys of a group.
const KEY: u64 = 8;

/// What is bounded by a call's words and its reply, or frees what was made before, though Redis does not call it fast. Whatever
/// is neither here nor fast is taken to go over all that its keys hold. Sorted, for it is searched.
const BY_WORDS: [&str; 62] = [
    "append",
    "bitfield",
    "bitfield_ro",
    "blmove",
    "blmpop",
    "blpop",
    "brpop",
    "brpoplpush",
    "bzmpop",
    "decr",
    "decrby",
    "del",
    "echo",
    "geoadd",
    "geodist",
    "geohash",
    "geopos",
    "getrange",
    "hrandfield",
    "incr",
    "incrby",
    "incrbyfloat",
    "lindex",
    "lmove",
    "lmpop",
    "lrange",
    "lset",
    "ltrim",
    "mget",
    "mset",
    "msetnx",
    "object",
    "psetex",
    "publish",
    "rename",
    "renamenx",
    "rpoplpush",
    "set",
    "setbit",
    "setex",
    "setrange",
    "spop",
    "spublish",
    "srandmember",
    "substr",
    "unlink",
    "xack",
    "xadd",
    "xdel",
    "xrange",
    "xrevrange",
    "xtrim",
    "zmpop",
    "zrandmember",
    "zrange",
    "zrangebylex",
    "zrangebyscore",
    "zremrangebylex",
    "zremrangebyrank",
    "zremrangebyscore",
    "zrevrange",
    "zrevrangebyscore",
];

/// Copying, or looking at, so many bytes.
pub fn of_bytes(bytes: usize) -> u64 {
    (bytes / 16) as u64
}

/// A call, before it runs: its reply counts when it is there.
pub fn of_call(row: &Command, words: &[Bytes], keys: &Keyspace) -> u64 {
    let text: u64 = words.iter().map(|word| WORD + of_bytes(word.len())).sum();
    CALL + text + walked(row, words, keys)
}

/// Whether a call's words and its reply bound what it does, for each row by its place.
static BOUNDED: LazyLock<Vec<bool>> = LazyLock::new(|| {
    let bounded =
        |row: &Command| row.flags.contains(Flags::FAST) || BY_WORDS.binary_search(&row.name).is_ok();
    command::rows().iter().map(|row| bounded(row.command)).collect()
});

fn walked(row: &Command, words: &[Bytes], keys: &Keyspace) -> u64 {
    if BOUNDED[row.id] {
        return 0;
    }
    let sizes = || row.keys.of(words).filter_map(|key| keys.get(key)).map(|object| of_value(&object.value));
    match row.name {
        "scan" | "sscan" | "hscan" | "zscan" => looked_at(words).saturating_mul(WORD),
        "lcs" => sizes().fold(1, u64::saturating_mul).saturating_mul(16),
        _ if row.keys.any() => sizes().sum(),
        _ if row.flags.intersects(Flags::READONLY | Flags::WRITE) => keys.len() as u64 * KEY,
        _ => 0,
    }
}

/// What COUNT says, or 10.
fn looked_at(words: &[Bytes]) -> u64 {
    let at = words.iter().position(|word| word.eq_ignore_ascii_case(b"count"));
    let count = at.and_then(|at| std::str::from_utf8(words.get(at + 1)?).ok()?.parse().ok());
    count.unwrap_or(10)
}

/// To go over all of a value.
fn of_value(value: &Value) -> u64 {
    match value {
        Value::String(_) => of_bytes(value.bytes()),
        _ => (value.bytes() / 4) as u64,
    }
}

/// Making a reply, and Lua's values of it.
pub fn of_reply(reply: &Reply) -> u64 {
    let pair = |(first, second): &(Reply, Reply)| of_reply(first) + of_reply(second);
    WORD + match reply {
        Reply::Bulk(text) | Reply::Status(text) | Reply::Verbatim(_, text) => of_bytes(text.len()),
        Reply::Array(items) | Reply::Push(items) | Reply::Set(items) => items.iter().map(of_reply).sum(),
        Reply::Pairs(pairs) | Reply::Map(pairs) | Reply::Named(pairs) => pairs.iter().map(pair).sum(),
        Reply::Attributed(_, reply) => of_reply(reply),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found() {
        assert!(BY_WORDS.is_sorted());
    }
}
