//! Somebody who adds nodes to the cluster and removes others while all go on.

use std::time::Duration;

use quoris_raft::env::Rng;

use super::{Shared, trace};
use crate::client::{Client, ClientKind, Outcome, Reply};
use crate::cluster::{client_addr, peer_addr};
use crate::coverage::Event;
use crate::env::SeededRng;
use crate::history::MemberChange;

/// With fewer members nobody is removed: the faults leave a majority of that many.
const LEAST: usize = 3;

/// Changes the members every now and then, until it is over. At first these are nodes 1 to `founded`; up to `places` may join.
pub async fn run(shared: Shared, nodes: Vec<String>, founded: u64, places: u64, seed: u64) {
    let rng = SeededRng::new(seed ^ 0x6d65_6d62);
    let mut client = Client::new(nodes, 0, ClientKind::Plain);
    // What is not known to have come is not counted upon, and what may have gone has.
    let (mut members, mut spares): (Vec<u64>, Vec<u64>) =
        ((1..=founded).collect(), (founded + 1..=places).rev().collect());
    loop {
        tokio::time::sleep(Duration::from_millis(1 + rng.next_u64() % shared.load.members_ms)).await;
        if shared.over.get() {
            return;
        }
        let number = rng.next_u64();
        if let Some(spare) =
            spares.last().copied().filter(|_| number.is_multiple_of(2) || members.len() <= LEAST)
        {
            if change(&shared, &mut client, spare, true).await == Some(true) {
                members.push(spare);
                spares.pop();
            }
        } else if members.len() > LEAST {
            let at = (number >> 8) as usize % members.len();
            if change(&shared, &mut client, members[at], false).await != Some(false) {
                members.remove(at);
            }
        }
    }
}

/// Has a node join or leave. Whether that is done, if it is known.
async fn change(shared: &Shared, client: &mut Client, node: u64, joins: bool) -> Option<bool> {
    let (number, at, peers) = (node.to_string(), client_addr(node), peer_addr(node));
    let words = match joins {
        true => vec!["QUORIS", "ADDNODE", &number, &at, &peers],
        false => vec!["QUORIS", "REMOVENODE", &number],
    };
    let bytes: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    // If the run ends first, nobody knows.
    let place = {
        let mut history = shared.history.borrow_mut();
        history.members.push(MemberChange { node, joins, applied: None });
        history.members.len() - 1
    };
    let outcome = client.call(&bytes).await;
    trace(|| words.join(" "), &outcome);
    let applied = match outcome {
        Outcome::Ok(Reply::Error(_)) | Outcome::Refused(_) => Some(false),
        Outcome::Ok(_) => Some(true),
        Outcome::Unknown(_) => None,
    };
    if applied.is_none() {
        shared.coverage.borrow_mut().count(Event::MemberUnknown);
    }
    shared.history.borrow_mut().members[place].applied = applied;
    applied
}
