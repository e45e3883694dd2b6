//! What clients do: each writes keys of its own and reads everybody's.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use quoris_raft::env::Rng;

use crate::client::{Client, Outcome, Reply};
use crate::env::SeededRng;
use crate::history::History;

/// Keys that each client writes; they fall into different slots and so into different groups.
const KEYS_PER_CLIENT: u64 = 3;

/// What the run's clients share.
pub type Shared = Rc<RefCell<History>>;

/// Client `me` of `clients`: a call every few milliseconds, for ever.
pub async fn run(history: Shared, nodes: Vec<String>, me: u64, clients: u64, seed: u64) {
    let rng = SeededRng::new(seed ^ (me << 32));
    let mut client = Client::new(nodes, me as usize);
    loop {
        let choice = rng.next_u64();
        tokio::time::sleep(Duration::from_millis(5 + choice % 40)).await;
        if choice.is_multiple_of(3) {
            let owner = rng.next_u64() % clients;
            read(&history, &mut client, &key(owner, rng.next_u64())).await;
        } else {
            write(&history, &mut client, &key(me, rng.next_u64())).await;
        }
    }
}

fn key(owner: u64, choice: u64) -> String {
    format!("key-{owner}-{}", choice % KEYS_PER_CLIENT)
}

async fn write(history: &Shared, client: &mut Client, key: &str) {
    let number = history.borrow_mut().begin_write(key);
    let outcome = client.call(&["SET", key, &number.to_string()]).await;
    trace(&format!("SET {key} {number}"), &outcome);
    let mut history = history.borrow_mut();
    match outcome {
        Outcome::Ok(_) => history.acknowledge(key, number),
        Outcome::NotApplied(_) => history.refuse(key, number),
        Outcome::Unknown(_) => history.lose_track(),
    }
}

/// Reads `key`; whether an answer came.
pub async fn read(history: &Shared, client: &mut Client, key: &str) -> bool {
    let floor = history.borrow().begin_read(key);
    let outcome = client.call(&["GET", key]).await;
    trace(&format!("GET {key}"), &outcome);
    let number = match outcome {
        Outcome::Ok(Reply::Null) => 0,
        Outcome::Ok(Reply::Value(text)) => text.parse().unwrap_or(u64::MAX),
        _ => return false,
    };
    history.borrow_mut().end_read(key, floor, number);
    true
}

fn trace(call: &str, outcome: &Outcome) {
    crate::run::trace(|| format!("{call} -> {outcome:?}"));
}
