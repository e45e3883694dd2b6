//! Scripts that would make replicas differ if anything that they see were a replica's own: time, randomness, the order of
//! tables and of sets, what expires. Each leaves what it saw in the keyspace, and returns it.
//!
//! And one that appends to a list and goes on for long, perhaps for longer than it may: then nothing is to be left of it.
//! How long that is, nodes are told now and then, each for itself.

use std::time::Duration;

use quoris_raft::env::Rng;

use super::trace;
use crate::client::{Client, Outcome, Reply};

/// The least that nodes can be set to allow a script, and what they begin with.
pub const INSTRUCTIONS: u64 = 100_000;

/// A script's text, and the chapter whose keys it works on.
const SCRIPTS: [(&str, &str); 10] = [
    ("string", "local t = redis.call('TIME'); redis.call('SET', KEYS[1], t[1] .. '.' .. t[2]); return t"),
    ("list", "local n = math.random(1000000); redis.call('RPUSH', KEYS[1], n); return n"),
    (
        "string",
        "local t, s = {}, ''; for i = 1, 20 do t['k' .. math.random(100)] = i end; \
         for k, v in pairs(t) do s = s .. k .. v end; redis.call('SET', KEYS[1], s); return s",
    ),
    (
        "set",
        "for i = 1, 8 do redis.call('SADD', KEYS[1], 'm' .. math.random(40)) end; \
         local gone = redis.call('SPOP', KEYS[1]); return {gone, redis.call('SMEMBERS', KEYS[1])}",
    ),
    (
        "set",
        "local some = redis.call('SRANDMEMBER', KEYS[1], -5); redis.call('SADD', KEYS[1], table.concat(some)); return some",
    ),
    (
        "hash",
        "redis.call('HSET', KEYS[1], math.random(30), math.random(9), 'f', redis.call('TIME')[2]); \
         return {redis.call('HRANDFIELD', KEYS[1], 3), redis.call('HGETALL', KEYS[1])}",
    ),
    (
        "sorted-set",
        "redis.call('ZADD', KEYS[1], math.random() * 10, math.random(30)); \
         return {redis.call('ZRANDMEMBER', KEYS[1], 3), redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')}",
    ),
    ("stream", "return redis.call('XADD', KEYS[1], 'MAXLEN', 20, '*', 'n', math.random(1000))"),
    (
        "string",
        "redis.call('SET', KEYS[1], math.random(), 'PX', math.random(300)); \
         return {redis.call('PTTL', KEYS[1]), redis.call('PEXPIRETIME', KEYS[1])}",
    ),
    (
        "string",
        "local t = {}; for i = 1, 9 do t['k' .. i] = math.sin(i) end; local s = cjson.encode(t); \
         redis.call('SET', KEYS[1], s .. tostring({}) .. redis.sha1hex(s)); return s",
    ),
];

/// A script to run, and the key to run it on.
pub fn script(rng: &dyn Rng) -> (&'static str, String) {
    let (chapter, text) = SCRIPTS[(rng.next_u64() % SCRIPTS.len() as u64) as usize];
    (text, super::table::key(chapter, rng.next_u64(), rng.next_u64()))
}

/// A script that appends to a list and then works on.
pub struct Append {
    text: String,
    /// For so many instructions.
    pub rounds: u64,
}

impl Append {
    /// Drawn by a number: one in three is long, perhaps longer than it may be; two in three where that is `wanted`. Half of them
    /// have the text of short ones: if it was short the first time, it comes into the log untried. The others have their own.
    pub fn of(number: u64, wanted: bool) -> Append {
        const APPEND: &str = "local length = redis.call('APPEND', KEYS[1], ARGV[1]); \
            for i = 1, ARGV[2] do end; return length";
        let long = || INSTRUCTIONS / 2 + (number >> 2) % INSTRUCTIONS;
        match number % if wanted { 3 } else { 6 } {
            0 => Append { text: format!("{APPEND} -- {number}"), rounds: long() },
            1 => Append { text: APPEND.into(), rounds: long() },
            _ => Append { text: APPEND.into(), rounds: 0 },
        }
    }

    /// Has it append `word` to the list at `key`, and waits for longer than it may keep a node busy.
    pub async fn run(&self, client: &mut Client, key: &[u8], word: &[u8]) -> Outcome {
        let rounds = self.rounds.to_string();
        let words: [&[u8]; 6] = [b"EVAL", self.text.as_bytes(), b"1", key, word, rounds.as_bytes()];
        match self.rounds {
            0 => client.call(&words).await,
            _ => client.wait(&words, Duration::from_secs(5)).await,
        }
    }
}

/// Whether a script was answered that it had used up its budget.
pub fn is_overdrawn(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Ok(Reply::Error(line)) if line.contains("more instructions than it may"))
}

/// Sets what the client's node allows a script.
pub async fn allow(client: &mut Client, number: u64) -> Outcome {
    let instructions = (INSTRUCTIONS + number % INSTRUCTIONS).to_string();
    let node = client.node();
    let outcome = client.call(&[b"CONFIG", b"SET", b"script-instructions", instructions.as_bytes()]).await;
    trace(|| format!("node {node} allows {instructions} instructions"), &outcome);
    outcome
}
