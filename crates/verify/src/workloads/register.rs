//! Registers: GET, SET, SET with GET, and compare-and-set by script, on a few hot keys, each linearizable.

use std::collections::HashMap;

use rand::Rng;

use super::{Hand, NoAnswer, Workload};
use crate::checkers::Anomaly;
use crate::checkers::register::{self, Action};
use crate::history::Op;
use crate::outcome::Failure;
use crate::resp::Value;

const KEYS: u64 = 12;
/// A key is given up after a while, so that its absence is tested again and again.
const NUMBERS_PER_GENERATION: u64 = 4000;

const COMPARE_AND_SET: &str = "
local current = redis.call('GET', KEYS[1])
if current == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2])
  return {1, current}
end
return {0, current}
";

/// See the module.
pub struct Register {
    prefix: String,
}

impl Workload for Register {
    type Action = Action;
    /// What the client has last seen of each key.
    type Memory = HashMap<String, u64>;

    fn new(prefix: &str) -> Register {
        Register { prefix: format!("{prefix}register:") }
    }

    async fn step(&self, hand: &mut Hand<Register>) {
        let value = hand.fresh();
        let key =
            format!("{}{}:{}", self.prefix, value / NUMBERS_PER_GENERATION, hand.rng.random_range(0..KEYS));
        let seen = match (hand.rng.random_range(0..100_u8), hand.memory.get(&key).copied()) {
            (..45, _) | (80.., None) => read(hand, &key).await.ok().flatten(),
            (45..70, _) => write(hand, &key, value).await,
            (70..80, _) => exchange(hand, &key, value).await,
            (_, Some(expected)) => compare_and_set(hand, &key, expected, value).await,
        };
        if let Some(seen) = seen {
            hand.memory.insert(key, seen);
        }
    }

    async fn finish(&self, hand: &mut Hand<Register>) -> Result<(), NoAnswer> {
        for key in hand.keys() {
            hand.insist(async |hand| read(hand, &key).await).await?;
        }
        Ok(())
    }

    fn check(ops: &[Op<Action>]) -> Vec<Anomaly> {
        register::check(ops)
    }
}

async fn read(hand: &mut Hand<Register>, key: &str) -> Result<Option<u64>, Failure> {
    let begun = hand.begin();
    let seen = hand.client.call(key, &["GET", key]).await.and_then(|reply| reply.or_nil(Value::number));
    hand.note(begun, key, &seen, Action::Read(seen.clone().unwrap_or(None)));
    seen
}

async fn write(hand: &mut Hand<Register>, key: &str, value: u64) -> Option<u64> {
    let begun = hand.begin();
    let words = ["SET", key, &value.to_string()];
    let done = hand.client.call(key, &words).await.and_then(Value::status);
    hand.note(begun, key, &done, Action::Write(value));
    done.ok().map(|()| value)
}

async fn exchange(hand: &mut Hand<Register>, key: &str, value: u64) -> Option<u64> {
    let begun = hand.begin();
    let words = ["SET", key, &value.to_string(), "GET"];
    let old = hand.client.call(key, &words).await.and_then(|reply| reply.or_nil(Value::number));
    // One without a reply of success says nothing of what was there before.
    let action = old.clone().map_or(Action::Write(value), |from| Action::Update { from, to: value });
    hand.note(begun, key, &old, action);
    old.ok().map(|_| value)
}

async fn compare_and_set(hand: &mut Hand<Register>, key: &str, expected: u64, value: u64) -> Option<u64> {
    let begun = hand.begin();
    let words = ["EVAL", COMPARE_AND_SET, "1", key, &expected.to_string(), &value.to_string()];
    let reply = hand.client.call(key, &words).await.and_then(answer);
    let action = match reply {
        // It did nothing, and told why.
        Ok((false, current)) => Action::Read(current),
        Ok((true, from)) => Action::Update { from, to: value },
        Err(_) => Action::Update { from: Some(expected), to: value },
    };
    hand.note(begun, key, &reply, action);
    let (done, current) = reply.ok()?;
    if done { Some(value) } else { current }
}

/// Whether it was set, and what was there.
fn answer(reply: Value) -> Result<(bool, Option<u64>), Failure> {
    let mut items = reply.list(Ok)?.into_iter();
    let done = items.next().unwrap_or(Value::Nil).number::<u64>()?;
    // Redis ends a script's array at its first nil.
    let current = items.next().unwrap_or(Value::Nil).or_nil(Value::number)?;
    Ok((done == 1, current))
}
