//! Keys with deadlines, and a lock: keepers write keys that are to be gone soon, by any of the ways in which that can be asked for,
//! and look at what they and others have written last.

use std::time::Duration;

use quoris_raft::env::Rng;

use super::{Shared, trace};
use crate::client::{Client, ClientKind, Outcome, Reply};
use crate::coverage::Event;
use crate::deadlines::{Attempt, Life, Span};
use crate::env::{BEGIN_MS, SeededRng};
use crate::queues::Fate;
use crate::run;

/// Keepers look at so many of the keys that were written last.
const LOOKED_AT: u64 = 6;

/// Longest time between two calls of a keeper, in milliseconds.
const PAUSE_MS: u64 = 60;

const LOCK: &[u8] = b"{deadlines}lock";

/// What PEXPIRETIME answers for an absent key, and HPEXPIRETIME for an absent field.
const ABSENT: i64 = -2;

/// A keeper: one call after the other, until it is over. It is a client of the cluster, so that it knows who has answered.
pub async fn keep(shared: Shared, nodes: Vec<String>, me: u64, seed: u64) {
    let rng = SeededRng::new(seed ^ (me + 1).rotate_left(48));
    let mut client = Client::new(nodes, me as usize, ClientKind::OfCluster);
    loop {
        tokio::time::sleep(Duration::from_millis(1 + rng.next_u64() % PAUSE_MS)).await;
        if shared.over.get() {
            return;
        }
        let number = rng.next_u64();
        match number % 8 {
            0 | 1 => write(&shared, &mut client, number >> 3).await,
            2 => lock(&shared, &mut client, number >> 3).await,
            _ => look(&shared, &mut client, number >> 3).await,
        }
    }
}

/// How a call ended that was sent at `began_ms` to `node`.
fn span(node: u64, began_ms: u64) -> Span {
    Span { node, began_ms, ended_ms: run::now_ms() }
}

/// Mostly so short that the end is seen, at times so long that leaders change meanwhile.
fn life_ms(number: u64) -> u64 {
    1 + number / 4 % [100, 300, 300, 3000][number as usize % 4]
}

async fn write(shared: &Shared, client: &mut Client, number: u64) {
    let (way, ms) = (number % 5, life_ms(number >> 3));
    let (node, began_ms) = (client.node(), run::now_ms());
    let life = if way == 3 { Life::Until(BEGIN_MS + began_ms + ms) } else { Life::For(ms) };
    let name = {
        let deadlines = &mut shared.history.borrow_mut().deadlines;
        let kind = if way == 4 { "hash" } else { "string" };
        let name = format!("{{deadlines}}{kind}-{}", deadlines.names.len());
        deadlines.begin(&name, life, span(node, began_ms));
        name
    };
    let (key, ms) = (name.as_bytes(), ms.to_string().into_bytes());
    let set: &[&[u8]] = &[b"SET", key, b"1"];
    let told: &[&[u8]] = &[b"PEXPIRETIME", key];
    let outcome = match (way, life) {
        (0, _) => client.call(&[b"SET", key, b"1", b"PX", &ms]).await,
        (1, _) => client.transaction(&[&[b"SET", key, b"1", b"PX", &ms], told]).await,
        (2, _) => client.transaction(&[set, &[b"PEXPIRE", key, &ms], told]).await,
        (_, Life::Until(at_ms)) => {
            let at_ms = at_ms.to_string().into_bytes();
            client.transaction(&[set, &[b"PEXPIREAT", key, &at_ms], told]).await
        }
        _ => {
            let expire: &[&[u8]] = &[b"HPEXPIRE", key, &ms, b"FIELDS", b"1", b"f"];
            let told: &[&[u8]] = &[b"HPEXPIRETIME", key, b"FIELDS", b"1", b"f"];
            client.transaction(&[&[b"HSET", key, b"f", b"1"], expire, told]).await
        }
    };
    trace(|| format!("{name} << {life:?} by way {way}"), &outcome);
    let span = span(node, began_ms);
    let history = &mut *shared.history.borrow_mut();
    let key = history.deadlines.key(&name);
    key.write = span;
    match &outcome {
        Outcome::Unknown(_) => {}
        Outcome::Refused(_) | Outcome::Ok(Reply::Error(_)) => key.fate = Fate::Refused,
        Outcome::Ok(_) if way == 0 => key.fate = Fate::Answered(None),
        Outcome::Ok(reply) => match last_number(reply) {
            // What was to be there until a moment that has passed never is.
            Some(ABSENT) => {
                key.fate = Fate::Answered(None);
                key.looks.push((span, None));
            }
            Some(at_ms) if at_ms >= 0 => key.fate = Fate::Answered(Some(at_ms as u64)),
            _ => history.strange.push(format!("{name} was written, and answered with {reply:?}")),
        },
    }
}

async fn look(shared: &Shared, client: &mut Client, number: u64) {
    let name = {
        let names = &shared.history.borrow().deadlines.names;
        let back = (number >> 2) % LOOKED_AT.min(names.len() as u64).max(1);
        let Some(name) = names.iter().rev().nth(back as usize) else { return };
        name.clone()
    };
    let key = name.as_bytes();
    let (node, began_ms) = (client.node(), run::now_ms());
    let outcome = match (name.contains("hash"), number % 4) {
        (true, _) => client.call(&[b"HPEXPIRETIME", key, b"FIELDS", b"1", b"f"]).await,
        (false, 0) => client.transaction(&[&[b"GET", key], &[b"PEXPIRETIME", key]]).await,
        (false, _) => client.call(&[b"PEXPIRETIME", key]).await,
    };
    trace(|| name.clone(), &outcome);
    let Outcome::Ok(reply) = outcome else { return };
    let history = &mut *shared.history.borrow_mut();
    let key = history.deadlines.key(&name);
    match last_number(&reply) {
        Some(ABSENT) => {
            if matches!(key.fate, Fate::Answered(_)) {
                shared.coverage.borrow_mut().count(Event::DeadlinePassed);
            }
            key.looks.push((span(node, began_ms), None));
        }
        Some(at_ms) if at_ms >= 0 => key.looks.push((span(node, began_ms), Some(at_ms as u64))),
        _ => history.strange.push(format!("a look at {name} was answered with {reply:?}")),
    }
}

async fn lock(shared: &Shared, client: &mut Client, number: u64) {
    let for_ms = life_ms(number);
    let (node, began_ms) = (client.node(), run::now_ms());
    let ms = for_ms.to_string().into_bytes();
    let set: &[&[u8]] = &[b"SET", LOCK, b"1", b"NX", b"PX", &ms];
    let outcome = client.transaction(&[set, &[b"PEXPIRETIME", LOCK]]).await;
    trace(|| format!("lock for {for_ms} ms"), &outcome);
    let Outcome::Ok(reply) = outcome else { return };
    let taken = matches!(&reply, Reply::Many(parts) if parts[0] != Reply::Null);
    let attempt = match (last_number(&reply), taken) {
        (Some(at_ms @ 0..), true) => Attempt::Taken { for_ms, until_ms: at_ms as u64 },
        (Some(at_ms @ 0..), false) => Attempt::Held(at_ms as u64),
        _ => {
            let wrong = format!("an attempt to take the lock was answered with {reply:?}");
            return shared.history.borrow_mut().strange.push(wrong);
        }
    };
    if !taken {
        shared.coverage.borrow_mut().count(Event::LockHeld);
    }
    shared.history.borrow_mut().deadlines.lock.push((span(node, began_ms), attempt));
}

/// The number that a reply is, or ends with.
fn last_number(reply: &Reply) -> Option<i64> {
    match reply {
        Reply::Value(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        Reply::Many(parts) => last_number(parts.last()?),
        Reply::Null | Reply::Error(_) => None,
    }
}
