//! What commands do to their keys, in the words of COMMAND's key specifications: `RO`, `RW`, `OW` (overwritten), `RM` (removed),
//! and whether what is in the value is looked at (`access`), changed (`update`), added to (`insert`) or taken out (`delete`).

use bytes::Bytes;

use crate::command::{Command, Flags};

/// Redis's names of them.
pub type KeyFlags = &'static [&'static str];

const LOOKED_AT: KeyFlags = &["RO", "access"];
/// Its length or its being there, not what is in it.
const MEASURED: KeyFlags = &["RO"];
const CHANGED: KeyFlags = &["RW", "update"];
const READ_AND_CHANGED: KeyFlags = &["RW", "access", "update"];
const ADDED_TO: KeyFlags = &["RW", "insert"];
const CUT: KeyFlags = &["RW", "delete"];
const TAKEN_FROM: KeyFlags = &["RW", "access", "delete"];
const OVERWRITTEN: KeyFlags = &["OW", "update"];
const MADE: KeyFlags = &["OW", "insert"];

/// What the call `words` of `row` does to the `nth` of its keys, the first being 0.
pub fn of_call(row: &Command, words: &[Bytes], nth: usize) -> KeyFlags {
    let says = |option: &[u8], from| words.iter().skip(from).any(|word| word.eq_ignore_ascii_case(option));
    match row.name {
        // Only with GET does SET read what is there.
        "set" if says(b"get", 3) => READ_AND_CHANGED,
        "set" => OVERWRITTEN,
        "bitfield" if !says(b"set", 2) && !says(b"incrby", 2) => LOOKED_AT,
        _ => of_key(row, nth),
    }
}

/// Whether [`of_call`] depends on more of a call than its command.
pub fn by_words(row: &Command) -> bool {
    matches!(row.name, "set" | "bitfield")
}

/// What some call of `row` may do to the `nth` of its keys.
pub fn of_key(row: &Command, nth: usize) -> KeyFlags {
    match row.name {
        "blmove" | "brpoplpush" | "lmove" | "rpoplpush" | "smove" if nth > 0 => ADDED_TO,
        "rename" | "copy" | "sort" | "georadius" | "georadiusbymember" if nth > 0 => OVERWRITTEN,
        "renamenx" if nth > 0 => MADE,
        "copy" | "sort" | "georadius" | "georadiusbymember" => LOOKED_AT,
        "bitop" | "geosearchstore" | "sdiffstore" | "sinterstore" | "sunionstore" | "zdiffstore"
        | "zinterstore" | "zrangestore" | "zunionstore" | "pfmerge"
            if nth > 0 =>
        {
            LOOKED_AT
        }
        "bitop" | "geosearchstore" | "sdiffstore" | "sinterstore" | "sunionstore" | "zdiffstore"
        | "zinterstore" | "zrangestore" | "zunionstore" => OVERWRITTEN,
        "mset" | "psetex" | "setex" | "restore" | "restore-asking" => OVERWRITTEN,
        "msetnx" | "setnx" => MADE,
        "pfmerge" => &["RW", "access", "insert"],
        // Redis's keeps the count in the value.
        "pfdebug" => &["RW", "access"],
        "del" | "unlink" => &["RM", "delete"],
        "append" | "hsetnx" | "linsert" | "lpush" | "lpushx" | "pfadd" | "rpush" | "rpushx" | "sadd"
        | "create" | "createconsumer" => ADDED_TO,
        "hdel" | "lrem" | "ltrim" | "srem" | "xautoclaim" | "xdel" | "xtrim" | "zrem" | "zremrangebylex"
        | "zremrangebyrank" | "zremrangebyscore" | "delconsumer" | "destroy" => CUT,
        "blmove" | "blmpop" | "blpop" | "brpop" | "brpoplpush" | "bzmpop" | "bzpopmax" | "bzpopmin"
        | "getdel" | "hgetdel" | "lmove" | "lmpop" | "lpop" | "migrate" | "rename" | "renamenx" | "rpop"
        | "rpoplpush" | "smove" | "spop" | "zmpop" | "zpopmax" | "zpopmin" => TAKEN_FROM,
        "bitfield" | "decr" | "decrby" | "eval" | "evalsha" | "fcall" | "getex" | "getset" | "hgetex"
        | "hincrby" | "hincrbyfloat" | "incr" | "incrby" | "incrbyfloat" | "move" | "set" | "setbit"
        | "zincrby" => READ_AND_CHANGED,
        "exists" | "hexists" | "hlen" | "hstrlen" | "llen" | "scard" | "sismember" | "strlen" | "touch"
        | "type" | "watch" | "xlen" | "zcard" | "usage" | "encoding" | "freq" | "idletime" | "refcount" => {
            MEASURED
        }
        "xreadgroup" => LOOKED_AT,
        _ if row.flags.contains(Flags::PUBSUB) => &["not_key"],
        _ if row.flags.contains(Flags::WRITE) => CHANGED,
        _ => LOOKED_AT,
    }
}
