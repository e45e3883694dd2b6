//! Streams with a consumer group: XADD, XREADGROUP, XACK, XAUTOCLAIM; each entry delivered, none after its XACK.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use rand::Rng;

use super::{Hand, NoAnswer, Workload};
use crate::checkers::Anomaly;
use crate::checkers::stream::{self, Action, Entries, Id};
use crate::history::Op;
use crate::outcome::{Failure, word};
use crate::resp::Value;

const KEYS: u64 = 3;
const GROUP: &str = "group";
const BLOCK: Duration = Duration::from_millis(100);
/// For how long an entry must have been pending to be claimed, in milliseconds.
const CLAIM_AFTER_MS: &str = "200";
const CLAIMED_AT_ONCE: &str = "20";

/// See the module.
pub struct Stream {
    prefix: String,
}

impl Workload for Stream {
    type Action = Action;
    /// What the client was given of each stream, and has not acknowledged.
    type Memory = HashMap<String, VecDeque<Id>>;

    fn new(prefix: &str) -> Stream {
        Stream { prefix: format!("{prefix}stream:") }
    }

    async fn prepare(&self, hand: &mut Hand<Stream>) -> Result<(), NoAnswer> {
        for number in 0..KEYS {
            let key = format!("{}{number}", self.prefix);
            hand.insist(async |hand| create(hand, &key).await).await?;
        }
        Ok(())
    }

    async fn step(&self, hand: &mut Hand<Stream>) {
        let key = format!("{}{}", self.prefix, hand.rng.random_range(0..KEYS));
        let given = match hand.rng.random_range(0..100_u8) {
            ..45 => {
                add(hand, &key).await;
                None
            }
            45..75 => deliver(hand, &key).await.ok(),
            75..97 => {
                acknowledge(hand, &key).await;
                None
            }
            97.. => claim(hand, &key, CLAIM_AFTER_MS, CLAIMED_AT_ONCE).await.ok(),
        };
        let ids = given.into_iter().flatten().map(|(id, _)| id);
        hand.memory.entry(key).or_default().extend(ids);
    }

    async fn finish(&self, hand: &mut Hand<Stream>) -> Result<(), NoAnswer> {
        for number in 0..KEYS {
            let key = format!("{}{number}", self.prefix);
            // Until nothing new is left. An attempt of unknown fate leaves entries pending, and the claims find them.
            while !hand.insist(async |hand| unless_gone(drain(hand, &key).await)).await?.is_empty() {}
            hand.insist(async |hand| unless_gone(claim(hand, &key, "0", "1000000").await)).await?;
            hand.insist(async |hand| read_all(hand, &key).await).await?;
        }
        Ok(())
    }

    fn check(ops: &[Op<Action>]) -> Vec<Anomaly> {
        stream::check(ops)
    }
}

async fn create(hand: &mut Hand<Stream>, key: &str) -> Result<(), Failure> {
    let begun = hand.begin();
    let words = ["XGROUP", "CREATE", key, GROUP, "0", "MKSTREAM"];
    let created = match hand.client.call(key, &words).await {
        // By an attempt of unknown fate.
        Err(Failure::NotApplied(error)) if word(&error) == "BUSYGROUP" => Ok(()),
        reply => reply.and_then(Value::status),
    };
    hand.note(begun, key, &created, Action::Create);
    created
}

async fn add(hand: &mut Hand<Stream>, key: &str) {
    let value = hand.fresh();
    let begun = hand.begin();
    let words = ["XADD", key, "*", "v", &value.to_string()];
    let id = hand.client.call(key, &words).await.and_then(id);
    hand.note(begun, key, &id, Action::Add(value, id.clone().ok()));
}

async fn deliver(hand: &mut Hand<Stream>, key: &str) -> Result<Entries, Failure> {
    let block = hand.rng.random_bool(0.5).then_some(BLOCK);
    let begun = hand.begin_waiting(block.unwrap_or_default());
    let entries = read_new(hand, key, block).await;
    hand.note(begun, key, &entries, Action::Deliver(entries.clone().unwrap_or_default()));
    entries
}

async fn drain(hand: &mut Hand<Stream>, key: &str) -> Result<Entries, Failure> {
    let begun = hand.begin();
    let entries = read_new(hand, key, None).await;
    hand.note(begun, key, &entries, Action::Drain(entries.clone().unwrap_or_default()));
    entries
}

/// Asking again does not bring a lost group back. That it is gone is in the history.
fn unless_gone(entries: Result<Entries, Failure>) -> Result<Entries, Failure> {
    match entries {
        Err(Failure::NotApplied(error)) if word(&error) == "NOGROUP" => Ok(Vec::new()),
        entries => entries,
    }
}

async fn read_new(hand: &mut Hand<Stream>, key: &str, block: Option<Duration>) -> Result<Entries, Failure> {
    let (consumer, count) = (consumer(hand), hand.rng.random_range(1..=20_u8).to_string());
    let block_ms = block.map(|block| block.as_millis().to_string());
    let mut words = vec!["XREADGROUP", "GROUP", GROUP, &consumer, "COUNT", &count];
    if let Some(block_ms) = &block_ms {
        words.extend(["BLOCK", block_ms]);
    }
    words.extend(["STREAMS", key, ">"]);
    let reply = hand.client.call(key, &words).await?;
    let Some(streams) = reply.or_nil(|streams| streams.items::<1>())? else { return Ok(Vec::new()) };
    let [stream] = streams;
    let [_, read] = stream.items()?;
    entries(read)
}

async fn claim(hand: &mut Hand<Stream>, key: &str, idle_ms: &str, count: &str) -> Result<Entries, Failure> {
    let begun = hand.begin();
    let words = ["XAUTOCLAIM", key, GROUP, &consumer(hand), idle_ms, "0", "COUNT", count];
    let reply = hand.client.call(key, &words).await;
    // Where to go on, the entries, and since Redis 7 what was deleted.
    let claimed = reply.and_then(|reply| entries(reply.list(Ok)?.into_iter().nth(1).unwrap_or(Value::Nil)));
    hand.note(begun, key, &claimed, Action::Claim(claimed.clone().unwrap_or_default()));
    claimed
}

async fn acknowledge(hand: &mut Hand<Stream>, key: &str) {
    let Some(id) = hand.memory.get_mut(key).and_then(VecDeque::pop_front) else { return };
    let begun = hand.begin();
    let words = ["XACK", key, GROUP, &id.to_string()];
    let count = hand.client.call(key, &words).await.and_then(Value::number::<u8>);
    hand.note(begun, key, &count, Action::Ack(id, count == Ok(1)));
}

async fn read_all(hand: &mut Hand<Stream>, key: &str) -> Result<(), Failure> {
    let begun = hand.begin();
    let all = hand.client.call(key, &["XRANGE", key, "-", "+"]).await.and_then(entries);
    hand.note(begun, key, &all, Action::All(all.clone().unwrap_or_default()));
    all.map(|_| ())
}

fn consumer(hand: &Hand<Stream>) -> String {
    format!("consumer-{}", hand.number)
}

fn entries(reply: Value) -> Result<Entries, Failure> {
    reply.list(|entry| {
        let [at, fields] = entry.items()?;
        let [_, value] = fields.items()?;
        Ok((id(at)?, value.number()?))
    })
}

fn id(reply: Value) -> Result<Id, Failure> {
    let text = reply.text()?;
    let parse = || {
        let (ms, sequence) = text.split_once('-')?;
        Some(Id(ms.parse().ok()?, sequence.parse().ok()?))
    };
    parse().ok_or_else(|| Failure::Garbled(format!("no id: {text}")))
}
