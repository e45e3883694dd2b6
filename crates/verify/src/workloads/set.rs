//! Sets that grow: SADD and SMEMBERS, linearizable; what was added stays.

use rand::Rng;

use super::{Hand, NoAnswer, Workload};
use crate::checkers::Anomaly;
use crate::checkers::set::{self, Action};
use crate::history::Op;
use crate::outcome::Failure;
use crate::resp::Value;

const KEYS: u64 = 6;
/// A set is given up when it has become long, so that reading all of it stays cheap.
const ADDS_PER_SET: u64 = 300;

/// See the module.
pub struct Set {
    prefix: String,
}

impl Workload for Set {
    type Action = Action;
    type Memory = ();

    fn new(prefix: &str) -> Set {
        Set { prefix: format!("{prefix}set:") }
    }

    async fn step(&self, hand: &mut Hand<Set>) {
        let generation = hand.used_up() / (KEYS * ADDS_PER_SET);
        let key = format!("{}{generation}:{}", self.prefix, hand.rng.random_range(0..KEYS));
        if hand.rng.random_bool(0.7) {
            add(hand, &key).await;
        } else {
            // What went wrong is in the history.
            let _noted = read(hand, &key).await;
        }
    }

    async fn finish(&self, hand: &mut Hand<Set>) -> Result<(), NoAnswer> {
        for key in hand.keys() {
            hand.insist(async |hand| read(hand, &key).await).await?;
        }
        Ok(())
    }

    fn check(ops: &[Op<Action>]) -> Vec<Anomaly> {
        set::check(ops)
    }
}

async fn add(hand: &mut Hand<Set>, key: &str) {
    let value = hand.fresh();
    let begun = hand.begin();
    let added =
        hand.client.call(key, &["SADD", key, &value.to_string()]).await.and_then(Value::number::<u64>);
    hand.note(begun, key, &added, Action::Add(value));
}

async fn read(hand: &mut Hand<Set>, key: &str) -> Result<(), Failure> {
    let begun = hand.begin();
    let seen = hand.client.call(key, &["SMEMBERS", key]).await.and_then(|reply| reply.list(Value::number));
    let members = seen.clone().map(|mut members: Vec<u64>| {
        members.sort_unstable();
        members
    });
    hand.note(begun, key, &seen, Action::Read(members.unwrap_or_default()));
    seen.map(|_| ())
}
