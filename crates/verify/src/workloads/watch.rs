//! Compare-and-set by WATCH, GET, MULTI, SET and EXEC: an update is atomic, or nothing is done.

use rand::Rng;

use super::{Hand, NoAnswer, Workload};
use crate::checkers::Anomaly;
use crate::checkers::register::{self, Action};
use crate::history::Op;
use crate::outcome::Failure;
use crate::resp::Value;
use crate::target::slot_of;

const KEYS: u64 = 6;
const CHANGED: &str = "the watched key has changed";

/// See the module.
pub struct Watch {
    prefix: String,
}

impl Workload for Watch {
    type Action = Action;
    type Memory = ();

    fn new(prefix: &str) -> Watch {
        Watch { prefix: format!("{prefix}watch:") }
    }

    async fn step(&self, hand: &mut Hand<Watch>) {
        let key = format!("{}{}", self.prefix, hand.rng.random_range(0..KEYS));
        match hand.rng.random_range(0..100_u8) {
            ..30 => {
                // What went wrong is in the history.
                let _noted = read(hand, &key).await;
            }
            30..40 => write(hand, &key).await,
            40.. => update(hand, &key).await,
        }
    }

    async fn finish(&self, hand: &mut Hand<Watch>) -> Result<(), NoAnswer> {
        for key in hand.keys() {
            hand.insist(async |hand| read(hand, &key).await).await?;
        }
        Ok(())
    }

    fn check(ops: &[Op<Action>]) -> Vec<Anomaly> {
        register::check(ops)
    }
}

async fn read(hand: &mut Hand<Watch>, key: &str) -> Result<(), Failure> {
    let begun = hand.begin();
    let seen = hand.client.call(key, &["GET", key]).await.and_then(|reply| reply.or_nil(Value::number));
    hand.note(begun, key, &seen, Action::Read(seen.clone().unwrap_or(None)));
    seen.map(|_| ())
}

async fn write(hand: &mut Hand<Watch>, key: &str) {
    let value = hand.fresh();
    let begun = hand.begin();
    let done = hand.client.call(key, &["SET", key, &value.to_string()]).await.and_then(Value::status);
    hand.note(begun, key, &done, Action::Write(value));
}

/// Reads under WATCH, and sets if nothing has changed meanwhile.
async fn update(hand: &mut Hand<Watch>, key: &str) {
    let to = hand.fresh();
    let begun = hand.begin();
    let (from, done) = match watch(hand, key).await {
        Ok((addr, from)) => (from, set_if_unchanged(hand, &addr, key, to).await),
        Err(failure) => (None, Err(failure)),
    };
    hand.note(begun, key, &done, Action::Update { from, to });
    if done.as_ref().is_err_and(|failure| failure.text() == CHANGED) {
        // Who is told so was served.
        hand.pause_ends();
    }
}

/// The node where the key is watched now, and what is there. Nothing is written.
async fn watch(hand: &mut Hand<Watch>, key: &str) -> Result<(String, Option<u64>), Failure> {
    let addr = hand.client.place_of(slot_of(key));
    let looked = hand.client.send(&addr, &[&["WATCH", key], &["GET", key]]).await;
    let seen = match looked.as_deref() {
        Ok([Value::Error(error), _] | [_, Value::Error(error)]) => {
            hand.client.redirect(error, &addr);
            Err(Failure::NotApplied(error.clone()))
        }
        Ok([_, value]) => value.clone().or_nil(Value::number),
        Ok(_) => unreachable!("as many replies as calls"),
        Err(failure) => Err(Failure::NotApplied(format!("before EXEC: {}", failure.text()))),
    };
    if seen.is_err() {
        // Nothing is watched any more by a connection that is used again.
        hand.client.disconnect(&addr);
    }
    Ok((addr, seen?))
}

async fn set_if_unchanged(hand: &mut Hand<Watch>, addr: &str, key: &str, to: u64) -> Result<(), Failure> {
    let calls: [&[&str]; 3] = [&["MULTI"], &["SET", key, &to.to_string()], &["EXEC"]];
    match hand.client.send(addr, &calls).await?.pop() {
        Some(Value::Nil) => Err(Failure::NotApplied(CHANGED.to_string())),
        Some(Value::Error(error)) => Err(Failure::of_reply(error)),
        executed => executed.unwrap_or(Value::Nil).items().and_then(|[set]| set.status()),
    }
}
