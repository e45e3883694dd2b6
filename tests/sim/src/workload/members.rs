//! Somebody who adds nodes to the cluster and removes others while all go on.

use std::time::Duration;

use quoris_raft::env::Rng;

use super::{Shared, trace};
use crate::client::{Client, ClientKind, Outcome, Reply};
use crate::cluster::{client_addr, peer_addr};
use crate::coverage::Event;
use crate::env::SeededRng;

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
        if let Some(spare) = spares.last().copied().filter(|_| number % 2 == 0 || members.len() <= LEAST) {
            let words = ["QUORIS", "ADDNODE", &spare.to_string(), &client_addr(spare), &peer_addr(spare)];
            if let Outcome::Ok(Reply::Value(_)) = call(&shared, &mut client, &words).await {
                members.push(spare);
                spares.pop();
            }
        } else if members.len() > LEAST {
            let at = (number >> 8) as usize % members.len();
            let outcome =
                call(&shared, &mut client, &["QUORIS", "REMOVENODE", &members[at].to_string()]).await;
            if !matches!(outcome, Outcome::Refused(_) | Outcome::Ok(Reply::Error(_))) {
                members.remove(at);
            }
        }
    }
}

async fn call(shared: &Shared, client: &mut Client, words: &[&str]) -> Outcome {
    let bytes: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let outcome = client.call(&bytes).await;
    trace(|| words.join(" "), &outcome);
    if matches!(outcome, Outcome::Unknown(_)) {
        shared.coverage.borrow_mut().count(Event::MemberUnknown);
    }
    outcome
}
