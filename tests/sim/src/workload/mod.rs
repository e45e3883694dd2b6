//! What clients do. Registers and lists ([`crate::history`]), queues ([`queues`]) and keys with deadlines ([`deadlines`]) have oracles of their own; scripts ([`scripts`]) and calls
//! made up from the command table ([`table`]) are there so that replicas have more to differ in.

pub mod deadlines;
pub mod members;
pub mod moves;
pub mod queues;
pub mod scripts;
pub mod table;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use quoris_raft::env::Rng;

use crate::client::{Client, ClientKind, Outcome, Reply};
use crate::coverage::{Coverage, Event};
use crate::env::SeededRng;
use crate::history::{History, Kind};
use crate::invariants::replies_answer_their_calls::{Expected, answers};
use crate::long_scripts::LongScripts;
use crate::plan::Load;
use table::Table;

/// What a run's clients share.
#[derive(Clone)]
pub struct Shared {
    /// What they saw.
    pub history: Rc<RefCell<History>>,
    /// The calls they make up.
    pub table: Arc<Table>,
    /// What they do, and how often.
    pub load: Rc<Load>,
    /// The scripts among them that take long.
    pub long_scripts: Rc<RefCell<LongScripts>>,
    /// What they reached.
    pub coverage: Rc<RefCell<Coverage>>,
    /// How long an instruction of a script takes, in microseconds.
    pub instruction_us: u64,
    /// Whether they should end.
    pub over: Rc<Cell<bool>>,
    /// How many have not ended.
    pub running: Rc<Cell<u64>>,
}

/// Client `me`: a call every few milliseconds, until it is over.
pub async fn run(shared: Shared, nodes: Vec<String>, me: u64, seed: u64) {
    let rng = SeededRng::new(seed ^ (me << 32));
    let kind = if me.is_multiple_of(2) { ClientKind::Plain } else { ClientKind::OfCluster };
    let mut client = Client::new(nodes, me as usize, kind);
    let load = Rc::clone(&shared.load);
    // The first only reads: nobody else stays with a leader that has lost its quorum.
    let shares = match me {
        0 => [load.reads, 0, 0, 0, 0, 0],
        _ => [load.reads, load.registers, load.lists, load.table, load.scripts, load.pushes],
    };
    while !shared.over.get() {
        tokio::time::sleep(Duration::from_millis(1 + rng.next_u64() % load.pause_ms)).await;
        if shared.over.get() {
            // The last reads are under way: no key may come up that they do not know.
            return;
        }
        let (mut ticket, number) = (rng.next_u64() % shares.iter().sum::<u64>(), rng.next_u64());
        let what = shares.iter().position(|share| {
            let hit = ticket < *share;
            ticket = ticket.saturating_sub(*share);
            hit
        });
        let outcome = match what.expect("a share is hit") {
            0 => {
                let kind = if number.is_multiple_of(4) { Kind::List } else { Kind::Register };
                read(&shared.history, &mut client, kind, &key(kind, number >> 2, &load)).await;
                continue;
            }
            1 => write(&shared, &mut client, Kind::Register, number).await,
            2 => write(&shared, &mut client, Kind::List, number).await,
            3 => any(&shared, &mut client, &rng).await,
            4 if number.is_multiple_of(8) => scripts::allow(&mut client, number >> 3).await,
            4 => script(&mut client, &rng).await,
            _ => queues::push(&shared, &mut client, number).await,
        };
        note(&mut shared.coverage.borrow_mut(), &outcome);
    }
}

fn key(kind: Kind, choice: u64, load: &Load) -> String {
    let name = match kind {
        Kind::Register => "register",
        Kind::List => "list",
    };
    format!("{name}-{}", choice % load.keys)
}

fn note(coverage: &mut Coverage, outcome: &Outcome) {
    match outcome {
        Outcome::Refused(line) if line.starts_with("MOVED") => coverage.count(Event::Moved),
        Outcome::Refused(line) if line.starts_with("a watched key") => coverage.count(Event::WatchFailed),
        Outcome::Refused(line) if line.contains("log is full") => coverage.count(Event::LogFull),
        Outcome::Unknown(line) if line.contains("forwarded") => coverage.count(Event::ForwardLost),
        _ => {}
    }
}

/// Writes to a key, in one of the ways in which that can be done.
async fn write(shared: &Shared, client: &mut Client, kind: Kind, number: u64) -> Outcome {
    let name = key(kind, number >> 3, &shared.load);
    let key = name.as_bytes();
    let value = shared.history.borrow_mut().begin_write(kind, &name);
    // Leading zeros change no number.
    let word = format!("{value:0>width$}", width = shared.load.ballast as usize);
    let (way, outcome) = match (kind, number % 8) {
        (Kind::Register, 0) => {
            ("transaction", client.transaction(&[&[b"SET", key, word.as_bytes()], &[b"GET", key]]).await)
        }
        (Kind::Register, _) => ("SET", client.call(&[b"SET", key, word.as_bytes()]).await),
        (Kind::List, way) => {
            let word = format!("{word},");
            let word = word.as_bytes();
            match way {
                0 | 1 => {
                    ("transaction", client.transaction(&[&[b"APPEND", key, word], &[b"GET", key]]).await)
                }
                2 | 3 => ("WATCH", client.append_watched(key, word).await),
                4 => ("EVAL", append_by_script(shared, client, &name, value, word, number >> 16).await),
                5 if shared.instruction_us > 0 => {
                    ("EVAL", append_by_script(shared, client, &name, value, word, number >> 16).await)
                }
                _ => ("APPEND", client.call(&[b"APPEND", key, word]).await),
            }
        }
    };
    trace(|| format!("{kind:?} {name} << {value} by {way}"), &outcome);
    if let Outcome::Ok(reply) = &outcome {
        let expected = match way {
            "SET" => Expected::Status,
            "APPEND" | "EVAL" => Expected::Number,
            _ => Expected::Many,
        };
        let call = format!("{way} {name} << {value}");
        shared.history.borrow_mut().strange.extend(answers(&call, expected, reply).err());
    }
    let applied = match outcome {
        Outcome::Ok(Reply::Error(_)) | Outcome::Refused(_) => Some(false),
        Outcome::Ok(_) => Some(true),
        Outcome::Unknown(_) => None,
    };
    let mut coverage = shared.coverage.borrow_mut();
    match (way, applied) {
        ("transaction", Some(true)) => coverage.count(Event::TransactionAcknowledged),
        ("transaction" | "WATCH", None) => coverage.count(Event::TransactionUnknown),
        ("WATCH", Some(true)) => coverage.count(Event::WatchHeld),
        ("EVAL", None) => coverage.count(Event::ScriptUnknown),
        ("EVAL", Some(false)) if scripts::is_overdrawn(&outcome) => coverage.count(Event::ScriptOverdrawn),
        _ => {}
    }
    shared.history.borrow_mut().end_write(kind, &name, value, applied);
    outcome
}

/// Appends `word`, which says `value`, by a script that may take long.
async fn append_by_script(
    shared: &Shared,
    client: &mut Client,
    name: &str,
    value: u64,
    word: &[u8],
    number: u64,
) -> Outcome {
    let script = scripts::Append::of(number, shared.instruction_us > 0);
    let takes_ms = script.rounds * shared.instruction_us / 1000;
    if takes_ms > 0 {
        shared.long_scripts.borrow_mut().begin(name, value, takes_ms);
    }
    let outcome = script.run(client, name.as_bytes(), word).await;
    if takes_ms > 0 {
        shared.long_scripts.borrow_mut().end(value, &outcome);
    }
    outcome
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
async fn any(shared: &Shared, client: &mut Client, rng: &SeededRng) -> Outcome {
    let words = shared.table.call(rng);
    let words: Vec<&[u8]> = words.iter().map(|word| &word[..]).collect();
    let outcome = client.call(&words).await;
    trace(
        || words.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" "),
        &outcome,
    );
    outcome
}

/// Runs a script that looks at what must not differ.
async fn script(client: &mut Client, rng: &SeededRng) -> Outcome {
    let (text, key) = scripts::script(rng);
    let outcome = client.call(&[b"EVAL", text.as_bytes(), b"1", key.as_bytes()]).await;
    trace(|| format!("{text} {key}"), &outcome);
    outcome
}

fn trace(call: impl FnOnce() -> String, outcome: &Outcome) {
    crate::run::trace(|| {
        let mut outcome = format!("{outcome:?}");
        outcome.truncate(200);
        format!("{} -> {outcome}", call())
    });
}
