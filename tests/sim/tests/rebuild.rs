//! A replica that has lost an entry is found, serves no longer, is rebuilt, and is then what the others are: also if the
//! power fails within any operation of its disk meanwhile.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use quoris::status::Status;
use quoris::verify::Audit;
use quoris_raft::planted::{Bug, plant};
use quoris_sim::client::{Client, ClientKind, Outcome, Reply};
use quoris_sim::cluster::{CLIENTS, Cluster, client_addr};
use quoris_sim::plan::{Fault, Plan};

const NODES: u64 = 3;

/// What the operator has seen.
#[derive(Default)]
struct Seen {
    /// A replica that was found to differ.
    differs: Option<(u64, u32)>,
    rebuilds_asked: u32,
    /// The audit of its group, once all replicas are alike.
    audit: Option<Audit>,
}

type Shared = Rc<RefCell<Seen>>;

async fn ask(node: u64, words: &[&str]) -> Option<String> {
    let mut client = Client::new(vec![client_addr(node)], 0, ClientKind::OfCluster);
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    match client.call(&words).await {
        Outcome::Ok(Reply::Value(text)) => Some(String::from_utf8(text).expect("a text")),
        _ => None,
    }
}

/// Writes to every group until it is over.
async fn write(over: Rc<Cell<bool>>) {
    let mut client = Client::new((1..=NODES).map(client_addr).collect(), 0, ClientKind::Plain);
    for n in 0u64.. {
        if over.get() {
            return;
        }
        let (key, value) = (format!("key{}", n % 50), n.to_string());
        client.call(&[b"APPEND", key.as_bytes(), value.as_bytes()]).await;
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
}

/// Has replicas that differ rebuilt, until there are none and an audit says so, too.
async fn operate(seen: Shared) {
    while seen.borrow().audit.is_none() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let differing = differing().await;
        for (node, group) in &differing {
            seen.borrow_mut().differs = Some((*node, *group));
            // The leader may be the one that differs: whoever differed from it is trusted again before long.
            seen.borrow_mut().rebuilds_asked += 1;
            ask(*node, &["QUORIS", "REBUILD", &group.to_string()]).await;
        }
        let found = seen.borrow().differs;
        if let (true, Some((_, group))) = (differing.is_empty(), found) {
            let audit = audit(group).await;
            seen.borrow_mut().audit = audit.filter(all_alike);
        }
    }
}

async fn differing() -> Vec<(u64, u32)> {
    let mut found = Vec::new();
    for node in 1..=NODES {
        let Some(text) = ask(node, &["QUORIS", "STATUS"]).await else { continue };
        let status: Status = serde_json::from_str(&text).expect("a status");
        let differ = status.groups.iter().filter(|row| row.difference.is_some());
        found.extend(differ.map(|row| (node, row.id)));
    }
    found
}

async fn audit(group: u32) -> Option<Audit> {
    for leader in 1..=NODES {
        if let Some(text) = ask(leader, &["QUORIS", "AUDIT", &group.to_string()]).await {
            return Some(serde_json::from_str(&text).expect("an audit"));
        }
    }
    None
}

fn all_alike(audit: &Audit) -> bool {
    audit.majority.is_some() && audit.replicas.values().all(|digest| *digest == audit.majority)
}

/// One run. If `power_fails_after` is given, the power of a replica that is told to rebuild fails after so many operations of
/// its disk. How often a replica was told to.
fn run(seed: u64, power_fails_after: Option<u64>) -> u32 {
    plant(Bug::EntryLost);
    let plan = Plan { faults: Vec::new(), ..Plan::with_crash_point(seed, None) };
    let mut cluster = Cluster::new(&plan, seed, Rc::default());
    let (seen, over) = (Shared::default(), Rc::new(Cell::new(false)));
    let (operator, writer) = (Rc::clone(&seen), Rc::clone(&over));
    cluster.sim.client("operator", async move {
        operate(operator).await;
        Ok(())
    });
    cluster.sim.client(CLIENTS, async move {
        write(writer).await;
        Ok(())
    });
    let mut power = power_fails_after;
    for ms in 0..60_000 {
        cluster.step().expect("a simulation that runs");
        let differs = seen.borrow().differs;
        if let (Some((node, _)), Some(ops)) = (differs, power) {
            cluster.strike(Fault::PowerCutInOperation(node, ops));
            power = None;
        }
        if ms % 200 == 0 {
            cluster.strike(Fault::StartAll);
        }
        if seen.borrow().audit.is_some() {
            over.set(true);
            return seen.borrow().rebuilds_asked;
        }
    }
    panic!("{power_fails_after:?}: after a minute replicas differ still, {:?}", seen.borrow().differs);
}

#[test]
fn replicas_that_differ_are_rebuilt_whenever_the_power_fails() {
    let calm = run(2, None);
    assert!(calm >= 1, "nothing was rebuilt");
    let told: Vec<u32> = (0..120).map(|ops| run(2, Some(ops))).collect();
    println!("rebuilds asked for, by the operation in which the power failed: {told:?}");
    assert!(
        told.iter().filter(|told| **told > calm).count() > 10,
        "the power hardly ever failed meanwhile: {told:?}"
    );
}
