//! Counters: INCR and GET, linearizable; an increment is done once, or not at all if it was refused.

use rand::Rng;

use super::{Hand, NoAnswer, Workload};
use crate::checkers::Anomaly;
use crate::checkers::counter::{self, Action};
use crate::history::Op;
use crate::outcome::Failure;
use crate::resp::Value;

const KEYS: u64 = 9;

/// See the module.
pub struct Counter {
    prefix: String,
}

impl Workload for Counter {
    type Action = Action;
    type Memory = ();

    fn new(prefix: &str) -> Counter {
        Counter { prefix: format!("{prefix}counter:") }
    }

    async fn step(&self, hand: &mut Hand<Counter>) {
        let key = format!("{}{}", self.prefix, hand.rng.random_range(0..KEYS));
        if hand.rng.random_bool(0.6) {
            increment(hand, &key).await;
        } else {
            // What went wrong is in the history.
            let _noted = read(hand, &key).await;
        }
    }

    async fn finish(&self, hand: &mut Hand<Counter>) -> Result<(), NoAnswer> {
        for key in hand.keys() {
            hand.insist(async |hand| read(hand, &key).await).await?;
        }
        Ok(())
    }

    fn check(ops: &[Op<Action>]) -> Vec<Anomaly> {
        counter::check(ops)
    }
}

async fn increment(hand: &mut Hand<Counter>, key: &str) {
    let begun = hand.begin();
    let count = hand.client.call(key, &["INCR", key]).await.and_then(Value::number);
    hand.note(begun, key, &count, Action::Incr(count.clone().unwrap_or(0)));
}

async fn read(hand: &mut Hand<Counter>, key: &str) -> Result<(), Failure> {
    let begun = hand.begin();
    let count = hand.client.call(key, &["GET", key]).await.and_then(|reply| reply.or_nil(Value::number));
    hand.note(begun, key, &count, Action::Read(count.clone().unwrap_or(None).unwrap_or(0)));
    count.map(|_| ())
}
