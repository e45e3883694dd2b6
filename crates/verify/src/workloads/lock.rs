//! Locks: SET with NX and PX, given back by a script that compares the token; never held by two.

use std::time::Duration;

use rand::Rng;
use rand::seq::IndexedRandom;

use super::{Hand, Workload};
use crate::checkers::Anomaly;
use crate::checkers::lock::{self, Action};
use crate::history::{Op, Time};
use crate::resp::Value;

const KEYS: u64 = 3;
const LIMITS_MS: [Time; 3] = [300, 1000, 3000];
const NS_PER_MS: Time = 1_000_000;
const LONGEST_HOLD: Duration = Duration::from_millis(30);

const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// See the module.
pub struct Lock {
    prefix: String,
}

impl Workload for Lock {
    type Action = Action;
    type Memory = ();

    fn new(prefix: &str) -> Lock {
        Lock { prefix: format!("{prefix}lock:") }
    }

    async fn step(&self, hand: &mut Hand<Lock>) {
        let key = format!("{}{}", self.prefix, hand.rng.random_range(0..KEYS));
        let token = hand.fresh();
        if acquire(hand, &key, token).await {
            let held = hand.rng.random_range(Duration::ZERO..LONGEST_HOLD);
            tokio::time::sleep(held).await;
            // Some holders die, and the limit frees their lock.
            if hand.rng.random_bool(0.9) {
                release(hand, &key, token).await;
            }
        }
    }

    fn check(ops: &[Op<Action>]) -> Vec<Anomaly> {
        lock::check(ops)
    }
}

async fn acquire(hand: &mut Hand<Lock>, key: &str, token: u64) -> bool {
    let limit_ms = *LIMITS_MS.choose(&mut hand.rng).expect("there are some");
    let begun = hand.begin();
    let words = ["SET", key, &token.to_string(), "NX", "PX", &limit_ms.to_string()];
    let granted = hand.client.call(key, &words).await.and_then(|reply| reply.or_nil(Value::status));
    let is_granted = granted == Ok(Some(()));
    hand.note(
        begun,
        key,
        &granted,
        Action::Acquire { token, limit: limit_ms * NS_PER_MS, granted: is_granted },
    );
    is_granted
}

async fn release(hand: &mut Hand<Lock>, key: &str, token: u64) {
    let begun = hand.begin();
    let words = ["EVAL", RELEASE, "1", key, &token.to_string()];
    let count = hand.client.call(key, &words).await.and_then(Value::number::<u8>);
    hand.note(begun, key, &count, Action::Release { token, released: count == Ok(1) });
}
