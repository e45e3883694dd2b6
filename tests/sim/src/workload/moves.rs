//! Somebody who moves slots from group to group while all others go on: those of the keys that have oracles, and some others.

use std::time::Duration;

use quoris_engine::SLOT_COUNT;
use quoris_engine::hash_slot::slot_of;
use quoris_raft::env::Rng;

use super::{Shared, key, trace};
use crate::client::{Client, ClientKind, Outcome, Reply};
use crate::coverage::Event;
use crate::env::SeededRng;
use crate::history::Kind;

/// Moves slots every now and then, until it is over.
pub async fn run(shared: Shared, nodes: Vec<String>, groups: u64, seed: u64) {
    let rng = SeededRng::new(seed ^ 0x6d6f_7665);
    let mut client = Client::new(nodes, 0, ClientKind::OfCluster);
    loop {
        tokio::time::sleep(Duration::from_millis(1 + rng.next_u64() % shared.load.moves_ms)).await;
        if shared.over.get() {
            return;
        }
        let slots: Vec<u16> = (0..=rng.next_u64() % 3).map(|_| slot(&shared, rng.next_u64())).collect();
        let to = rng.next_u64() % groups;
        move_slots(&shared, &mut client, &slots, to).await;
    }
}

/// Mostly the slot of a key that clients use.
fn slot(shared: &Shared, number: u64) -> u16 {
    let name = match number % 4 {
        0 => key(Kind::Register, number >> 8, &shared.load),
        1 => key(Kind::List, number >> 8, &shared.load),
        2 if shared.load.queues > 0 => super::queues::queue(number >> 8, shared),
        _ => return (number >> 8) as u16 % SLOT_COUNT,
    };
    slot_of(name.as_bytes())
}

async fn move_slots(shared: &Shared, client: &mut Client, slots: &[u16], to: u64) {
    let words: Vec<String> =
        std::iter::once(to).chain(slots.iter().copied().map(u64::from)).map(|n| n.to_string()).collect();
    let words: Vec<&[u8]> =
        [b"QUORIS".as_slice(), b"MOVE"].into_iter().chain(words.iter().map(String::as_bytes)).collect();
    let outcome = client.call(&words).await;
    trace(|| format!("move {slots:?} to {to}"), &outcome);
    let mut coverage = shared.coverage.borrow_mut();
    match &outcome {
        Outcome::Ok(Reply::Value(moved)) if moved[..] != *b"0" => coverage.count(Event::SlotsMoved),
        Outcome::Refused(line) if line.contains("on their way") => coverage.count(Event::SlotMoveLate),
        Outcome::Unknown(_) => coverage.count(Event::SlotMoveUnknown),
        _ => {}
    }
}
