//! Queues: producers push tokens that are never used twice, consumers wait for them (BLPOP, BRPOP, BLMOVE) with time-outs.

use std::time::Duration;

use quoris_raft::env::Rng;

use super::{Shared, trace};
use crate::client::{Client, ClientKind, Outcome, Reply};
use crate::coverage::Event;
use crate::env::SeededRng;
use crate::invariants::blocked_calls_are_answered::BOUND_MS;
use crate::queues::{Fate, Left, Take, Wait};
use crate::run;

/// Consumers wait somewhat longer than any answer may take, pauses of their node included.
const GIVE_UP_MS: u64 = BOUND_MS + 4_000;

/// What is left of a queue: its lists, separated by bars.
const LEFT: &[u8] = b"local t = {}; \
    for i, key in ipairs(KEYS) do t[i] = table.concat(redis.call('LRANGE', key, 0, -1), ',') end; \
    return table.concat(t, '|')";

/// The lists of a queue, which are in one slot: two to push to, one to which tokens are moved.
fn lists(queue: &str) -> [String; 3] {
    ["0", "1", "moved"].map(|list| format!("{{{queue}}}{list}"))
}

pub(super) fn queue(number: u64, shared: &Shared) -> String {
    format!("queue-{}", number % shared.load.queues)
}

/// Pushes a token or two, in one of the ways in which that can be done.
pub async fn push(shared: &Shared, client: &mut Client, number: u64) -> Outcome {
    const PUSH: &[u8] = b"return redis.call('LPUSH', KEYS[1], ARGV[1])";
    let name = queue(number >> 8, shared);
    let key = lists(&name)[(number >> 4) as usize % 2].clone().into_bytes();
    let tokens = shared.history.borrow_mut().begin_push(&name, 1 + u64::from(number.is_multiple_of(4)));
    let words: Vec<String> = tokens.iter().map(u64::to_string).collect();
    let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    let outcome = match (&words[..], (number >> 2) % 4) {
        ([one, two], _) => client.call(&[b"RPUSH", &key, one, two]).await,
        ([one], 0) => client.transaction(&[&[b"RPUSH", &key, one], &[b"LLEN", &key]]).await,
        ([one], 1) => client.call(&[b"EVAL", PUSH, b"1", &key, one]).await,
        _ => client.call(&[b"LPUSH", &key, words[0]]).await,
    };
    trace(|| format!("push {tokens:?} to {}", key.escape_ascii()), &outcome);
    let fate = match outcome {
        Outcome::Ok(Reply::Error(_)) | Outcome::Refused(_) => Fate::Refused,
        Outcome::Ok(_) => Fate::Answered(()),
        Outcome::Unknown(_) => Fate::Unknown,
    };
    shared.history.borrow_mut().end_push(&name, &tokens, fate);
    outcome
}

/// A consumer: waits for one token after the other, until it is over.
pub async fn consume(shared: Shared, nodes: Vec<String>, me: u64, seed: u64) {
    let rng = SeededRng::new(seed ^ (me << 40));
    let kind = if me.is_multiple_of(2) { ClientKind::Plain } else { ClientKind::OfCluster };
    let mut client = Client::new(nodes, me as usize, kind);
    loop {
        tokio::time::sleep(Duration::from_millis(1 + rng.next_u64() % shared.load.pause_ms)).await;
        if shared.over.get() {
            return;
        }
        take(&shared, &mut client, rng.next_u64()).await;
    }
}

/// Waits for one token.
async fn take(shared: &Shared, client: &mut Client, number: u64) {
    let name = queue(number >> 40, shared);
    let [first, second, moved] = lists(&name);
    let (first, second, moved) = (first.as_bytes(), second.as_bytes(), moved.as_bytes());
    // The end of a run waits for the longest.
    let timeout_ms = match (number >> 5) % 16 {
        0 => 400 + (number >> 9) % 1000,
        _ => 1 + (number >> 9) % 400,
    };
    let timeout = format!("{}.{:03}", timeout_ms / 1000, timeout_ms % 1000).into_bytes();
    let (kind, words): (Take, Vec<&[u8]>) = match (number >> 3) % 4 {
        0 => (Take::Pop, vec![b"BRPOP", second, first, &timeout]),
        1 => (Take::Move, vec![b"BLMOVE", first, moved, b"LEFT", b"RIGHT", &timeout]),
        _ => (Take::Pop, vec![b"BLPOP", first, second, &timeout]),
    };
    let (node, plain, began_ms) = (client.node(), client.is_plain(), run::now_ms());
    let outcome = client.wait(&words, Duration::from_millis(timeout_ms + GIVE_UP_MS)).await;
    trace(
        || words.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" "),
        &outcome,
    );
    let ended_ms = run::now_ms();
    let fate = fate(&outcome);
    let event = match (&outcome, fate) {
        (_, Fate::Answered(_)) if ended_ms - began_ms > timeout_ms / 2 => Some(Event::BlockedServed),
        (Outcome::Ok(Reply::Null), _) => Some(Event::BlockedTimedOut),
        (Outcome::Ok(Reply::Error(line)), _) if line.starts_with("UNBLOCKED") => Some(Event::BlockedDropped),
        (_, Fate::Unknown) => Some(Event::BlockedUnknown),
        _ => None,
    };
    event.into_iter().for_each(|event| shared.coverage.borrow_mut().count(event));
    let mut history = shared.history.borrow_mut();
    history.waits.push(Wait { node, plain, timeout_ms, began_ms, ended_ms });
    history.queues.entry(name).or_default().takes.push((kind, fate));
}

fn fate(outcome: &Outcome) -> Fate<u64> {
    // What is no token was never pushed: the oracle will say so.
    let token = |word: &[u8]| std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
    match outcome {
        Outcome::Ok(Reply::Value(word)) => Fate::Answered(token(word).unwrap_or(u64::MAX)),
        Outcome::Ok(Reply::Many(parts)) => match &parts[..] {
            [_, Reply::Value(word)] => Fate::Answered(token(word).unwrap_or(u64::MAX)),
            _ => Fate::Answered(u64::MAX),
        },
        Outcome::Ok(Reply::Null | Reply::Error(_)) | Outcome::Refused(_) => Fate::Refused,
        Outcome::Unknown(_) => Fate::Unknown,
    }
}

/// Notes what is left of queue `name`; whether an answer came.
pub async fn look(shared: &Shared, client: &mut Client, name: &str) -> bool {
    let [first, second, moved] = lists(name);
    let call: [&[u8]; 6] = [b"EVAL", LEFT, b"3", first.as_bytes(), second.as_bytes(), moved.as_bytes()];
    let outcome = client.call(&call).await;
    trace(|| format!("what is left of {name}"), &outcome);
    let Outcome::Ok(Reply::Value(text)) = outcome else { return false };
    let tokens = |list: &[u8]| -> Vec<u64> {
        let words = list.split(|byte| *byte == b',').filter(|word| !word.is_empty());
        words
            .map(|word| std::str::from_utf8(word).ok().and_then(|word| word.parse().ok()).unwrap_or(u64::MAX))
            .collect()
    };
    let lists: Vec<Vec<u64>> = text.split(|byte| *byte == b'|').map(tokens).collect();
    let [first, second, moved] = <[Vec<u64>; 3]>::try_from(lists).expect("three lists");
    let left = Left { pushed: [first, second].concat(), moved };
    shared.history.borrow_mut().queues.entry(name.to_owned()).or_default().left = Some(left);
    true
}
