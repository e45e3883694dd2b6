//! A replica that has lost an entry is found, serves no longer, is rebuilt, and is then what the others are: also if the
//! power fails within any operation of its disk meanwhile.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use quoris::status::Status;
use quoris::verify::Audit;
use quoris_raft::planted::{Bug, plant};
use quoris_sim::client::{Client, ClientKind, Outcome, Reply};
use quoris_sim::cluster::{Cluster, client_addr, client_host};
use quoris_sim::plan::{Fault, Plan};

const NODES: u64 = 3;

/// What the operator has seen.
#[derive(Default)]
struct Seen {
    /// The replica that was found to differ.
    differs: Option<(u64, u32)>,
    rebuilds_asked: u32,
    /// The audit of its group, once it differs no longer.
    audit: Option<Audit>,
}

type Shared = Rc<RefCell<Seen>>;

async fn ask(nodes: Vec<String>, first: u64, words: &[&str]) -> Option<String> {
    let mut client = Client::new(nodes, first as usize, ClientKind::OfCluster);
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    match client.call(&words).await {
        Outcome::Ok(Reply::Value(text)) => Some(String::from_utf8(text).expect("a text")),
        _ => None,
    }
}

async fn status(node: u64) -> Option<Status> {
    let text = ask(vec![client_addr(node)], 0, &["QUORIS", "STATUS"]).await?;
    Some(serde_json::from_str(&text).expect("a status"))
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

/// Looks for a replica that differs, has it rebuilt until it differs no longer, and has its group audited.
async fn operate(seen: Shared) {
    while seen.borrow().audit.is_none() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let found = seen.borrow().differs;
        match found {
            None => look_for_one_that_differs(&seen).await,
            Some((node, group)) => rebuild(&seen, node, group).await,
        }
    }
}

async fn look_for_one_that_differs(seen: &Shared) {
    for node in 1..=NODES {
        let Some(status) = status(node).await else { continue };
        if let Some(row) = status.groups.iter().find(|row| row.difference.is_some()) {
            seen.borrow_mut().differs = Some((node, row.id));
        }
    }
}

async fn rebuild(seen: &Shared, node: u64, group: u32) {
    let Some(status) = status(node).await else { return };
    let row = status.groups.iter().find(|row| row.id == group).expect("its groups");
    let group = group.to_string();
    if row.difference.is_some() {
        assert_ne!(row.leader, Some(node), "what differs does not lead for long");
        seen.borrow_mut().rebuilds_asked += 1;
        ask(vec![client_addr(node)], 0, &["QUORIS", "REBUILD", &group]).await;
        return;
    }
    for leader in 1..=NODES {
        let Some(text) = ask(vec![client_addr(leader)], 0, &["QUORIS", "AUDIT", &group]).await else { continue };
        let audit: Audit = serde_json::from_str(&text).expect("an audit");
        // Who is just starting does not answer.
        if audit.replicas.values().all(Option::is_some) {
            seen.borrow_mut().audit = Some(audit);
            return;
        }
    }
}

/// One run; the power fails within that operation of the replica's disk, counted from when it is first told to rebuild.
/// How often it was told.
fn run(seed: u64, power_fails_after: Option<u64>) -> u32 {
    plant(Bug::EntryLost);
    let plan = Plan { faults: Vec::new(), ..Plan::with_crash_point(seed, None) };
    let mut cluster = Cluster::new(&plan, seed, Rc::default());
    let (seen, over) = (Shared::default(), Rc::new(Cell::new(false)));
    let (operator, writer) = (Rc::clone(&seen), Rc::clone(&over));
    cluster.sim.client(client_host(0), async move {
        operate(operator).await;
        Ok(())
    });
    cluster.sim.client(client_host(1), async move {
        write(writer).await;
        Ok(())
    });
    cluster.sim.client(client_host(2), async { Ok(()) });
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
            let seen = seen.borrow();
            let audit = seen.audit.as_ref().expect("an audit");
            let same = |digest: &Option<String>| *digest == audit.majority;
            assert!(audit.majority.is_some() && audit.replicas.values().all(same), "{power_fails_after:?}: {audit:?}");
            return seen.rebuilds_asked;
        }
    }
    panic!("{power_fails_after:?}: after a minute {:?} differs still", seen.borrow().differs);
}

#[test]
fn a_replica_that_differs_is_rebuilt_whenever_the_power_fails() {
    assert!(run(1, None) >= 1, "it was not rebuilt by command");
    let mut again = 0;
    for ops in (0..60).step_by(3) {
        again += u32::from(run(2 + ops, Some(ops)) > 1);
    }
    assert!(again > 5, "the power hardly ever failed during a rebuild: {again}");
}
