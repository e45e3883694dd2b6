//! Queues: RPUSH, BLPOP and LPOP; every element is taken once, first in first out.

use std::time::Duration;

use rand::Rng;

use super::{Hand, NoAnswer, Workload};
use crate::checkers::Anomaly;
use crate::checkers::queue::{self, Action};
use crate::history::Op;
use crate::outcome::Failure;
use crate::resp::Value;

const KEYS: u64 = 4;
const BLOCK: Duration = Duration::from_millis(200);

/// See the module.
pub struct Queue {
    prefix: String,
}

impl Workload for Queue {
    type Action = Action;
    type Memory = ();

    fn new(prefix: &str) -> Queue {
        Queue { prefix: format!("{prefix}queue:") }
    }

    async fn step(&self, hand: &mut Hand<Queue>) {
        let key = format!("{}{}", self.prefix, hand.rng.random_range(0..KEYS));
        match hand.rng.random_range(0..100_u8) {
            ..55 => push(hand, &key).await,
            55..85 => pop(hand, &key, Some(BLOCK)).await,
            85.. => pop(hand, &key, None).await,
        }
    }

    async fn finish(&self, hand: &mut Hand<Queue>) -> Result<(), NoAnswer> {
        for key in hand.keys() {
            // In one read: a take that is tried again would be of unknown fate itself.
            hand.insist(async |hand| rest(hand, &key).await).await?;
        }
        Ok(())
    }

    fn check(ops: &[Op<Action>]) -> Vec<Anomaly> {
        queue::check(ops)
    }
}

async fn push(hand: &mut Hand<Queue>, key: &str) {
    let value = hand.fresh();
    let begun = hand.begin();
    let length =
        hand.client.call(key, &["RPUSH", key, &value.to_string()]).await.and_then(Value::number::<u64>);
    hand.note(begun, key, &length, Action::Push(value));
}

async fn pop(hand: &mut Hand<Queue>, key: &str, block: Option<Duration>) {
    let begun = hand.begin_waiting(block.unwrap_or_default());
    let value = match block {
        None => hand.client.call(key, &["LPOP", key]).await.and_then(|reply| reply.or_nil(Value::number)),
        Some(block) => {
            let limit_s = block.as_secs_f64().to_string();
            let reply = hand.client.call(key, &["BLPOP", key, &limit_s]).await;
            reply.and_then(|reply| reply.or_nil(|pair| pair.items().and_then(|[_, value]| value.number())))
        }
    };
    hand.note(begun, key, &value, Action::Pop(value.clone().unwrap_or(None)));
}

async fn rest(hand: &mut Hand<Queue>, key: &str) -> Result<(), Failure> {
    let begun = hand.begin();
    let values =
        hand.client.call(key, &["LRANGE", key, "0", "-1"]).await.and_then(|reply| reply.list(Value::number));
    hand.note(begun, key, &values, Action::Rest(values.clone().unwrap_or_default()));
    values.map(|_| ())
}
