//! What clients do. Registers and lists have an oracle of their own ([`crate::history`]); calls made up from the command
//! table ([`table`]) are there so that replicas have more to differ in.

pub mod table;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use quoris_raft::env::Rng;

use crate::client::{Client, Outcome, Reply};
use crate::env::SeededRng;
use crate::history::{History, Kind};
use table::Table;

/// Keys of each kind that clients share; they fall into different slots and so into different groups.
const KEYS: u64 = 4;

/// What a run's clients share.
#[derive(Clone)]
pub struct Shared {
    /// What they saw.
    pub history: Rc<RefCell<History>>,
    /// The calls they make up.
    pub table: Rc<Table>,
    /// Whether they should end.
    pub over: Rc<Cell<bool>>,
}

/// Client `me`: a call every few milliseconds, until it is over.
pub async fn run(shared: Shared, nodes: Vec<String>, me: u64, seed: u64) {
    let rng = SeededRng::new(seed ^ (me << 32));
    let mut client = Client::new(nodes, me as usize);
    while !shared.over.get() {
        let choice = rng.next_u64();
        tokio::time::sleep(Duration::from_millis(1 + choice % 25)).await;
        if shared.over.get() {
            // The last reads are under way: no key may come up that they do not know.
            return;
        }
        let key = |kind| key(kind, rng.next_u64());
        // The first only reads: nobody else stays with a leader that has lost its quorum.
        let most = if me == 0 { 4 } else { 15 };
        match (choice >> 32) % (most + 1) {
            0..=3 => drop(read(&shared.history, &mut client, Kind::Register, &key(Kind::Register)).await),
            4 => drop(read(&shared.history, &mut client, Kind::List, &key(Kind::List)).await),
            5..=8 => write(&shared.history, &mut client, Kind::Register, &key(Kind::Register)).await,
            9..=11 => write(&shared.history, &mut client, Kind::List, &key(Kind::List)).await,
            _ => any(&shared, &mut client, &rng).await,
        }
    }
}

fn key(kind: Kind, choice: u64) -> String {
    let name = match kind {
        Kind::Register => "register",
        Kind::List => "list",
    };
    format!("{name}-{}", choice % KEYS)
}

async fn write(history: &RefCell<History>, client: &mut Client, kind: Kind, key: &str) {
    let value = history.borrow_mut().begin_write(kind, key);
    let outcome = match kind {
        Kind::Register => client.call(&[b"SET", key.as_bytes(), value.to_string().as_bytes()]).await,
        Kind::List => client.call(&[b"APPEND", key.as_bytes(), format!("{value},").as_bytes()]).await,
    };
    trace(|| format!("{kind:?} {key} << {value}"), &outcome);
    let applied = match outcome {
        Outcome::Ok(Reply::Error(_)) | Outcome::Refused(_) => Some(false),
        Outcome::Ok(_) => Some(true),
        Outcome::Unknown(_) => None,
    };
    history.borrow_mut().end_write(kind, key, value, applied);
}

/// Reads `key`; whether an answer came.
pub async fn read(history: &RefCell<History>, client: &mut Client, kind: Kind, key: &str) -> bool {
    let began = history.borrow_mut().begin_read();
    let outcome = client.call(&[b"GET", key.as_bytes()]).await;
    trace(|| format!("{kind:?} {key}"), &outcome);
    let text = match outcome {
        Outcome::Ok(Reply::Null) => Vec::new(),
        Outcome::Ok(Reply::Value(text)) => text,
        _ => return false,
    };
    let words = text.split(|byte| *byte == b',').filter(|word| !word.is_empty());
    // What is no number was never written: the oracle will say so.
    let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse().ok();
    let values = words.map(|word| number(word).unwrap_or(u64::MAX)).collect();
    history.borrow_mut().end_read(kind, key, began, values);
    true
}

/// Makes a call from the command table.
async fn any(shared: &Shared, client: &mut Client, rng: &SeededRng) {
    let words = shared.table.call(rng);
    let words: Vec<&[u8]> = words.iter().map(|word| &word[..]).collect();
    let outcome = client.call(&words).await;
    trace(
        || words.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" "),
        &outcome,
    );
}

fn trace(call: impl FnOnce() -> String, outcome: &Outcome) {
    crate::run::trace(|| {
        let mut outcome = format!("{outcome:?}");
        outcome.truncate(200);
        format!("{} -> {outcome}", call())
    });
}
