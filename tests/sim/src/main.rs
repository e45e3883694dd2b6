//! `quoris-sim`: runs simulations from their seeds. Temporary joint.
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use quoris_engine::entry::NodeInfo;
use quoris_engine::{Batch, Call};
use quoris_raft::env::fake_disk::{FakeDisk, FakeDiskOptions};
use quoris_raft::node::{Limits, Node, NodeConfig, ReadMode, Timing};
use quoris_sim::env::{Machine, SeededRng};

fn main() {
    let seed: u64 = std::env::args().nth(1).map_or(1, |s| s.parse().unwrap());
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or("info".into()))
        .without_time()
        .with_ansi(false)
        .init();
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(Duration::from_secs(60))
        .tick_duration(Duration::from_millis(1))
        .build();
    let nodes: Vec<NodeInfo> = (1..=3)
        .map(|id| NodeInfo {
            id,
            name: format!("{id:040x}"),
            client_addr: format!("n{id}:7000"),
            peer_addr: format!("n{id}:17000"),
        })
        .collect();
    let mut machines = Vec::new();
    for id in 1..=3u64 {
        let machine = Machine {
            disk: FakeDisk::new(seed ^ id, FakeDiskOptions { sync_us: 100..2000, ..Default::default() }),
            skew_ms: Arc::new(AtomicI64::new(0)),
            rng: Arc::new(SeededRng::new(seed.wrapping_mul(31) ^ id)),
        };
        machines.push(machine.clone());
        let nodes = nodes.clone();
        sim.host(format!("n{id}"), move || {
            let machine = machine.clone();
            let config = NodeConfig {
                node_id: id,
                cluster_id: "sim".into(),
                peer_listen: format!("n{id}:17000"),
                data_dir: "/data".into(),
                initial_cluster: nodes.clone(),
                groups: 2,
                timing: Timing {
                    heartbeat_interval_ms: 60,
                    election_timeout_ms: 300,
                    write_timeout_ms: 3000,
                },
                limits: Limits {
                    log_segment_bytes: 64 << 10,
                    log_bytes: 1 << 20,
                    log_cache_bytes: 1 << 20,
                    snapshot_entries: 50,
                    entries_behind_snapshot: 10,
                },
                read_mode: ReadMode::ReadIndex,
            };
            async move {
                let node = Node::start(machine.env(), config).await?;
                for i in 0..2000u64 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    for g in node.groups() {
                        let key = format!("k{}", i % 7);
                        if node.group_of(quoris_engine::hash_slot::slot_of(key.as_bytes())).id() != g.id()
                            || !g.is_leader()
                        {
                            continue;
                        }
                        let call = Call::new([
                            b"set".to_vec(),
                            key.clone().into_bytes(),
                            format!("{id}-{i}").into_bytes(),
                        ]);
                        let out = g.write(vec![Batch::of(vec![call])]).await;
                        let get = g.read(&[Call::new([b"get".to_vec(), key.into_bytes()])]).await;
                        let at = turmoil::sim_elapsed().unwrap();
                        tracing::info!("{at:?} node {id} group {} write {out:?} read {get:?}", g.id());
                    }
                }
                Ok(())
            }
        });
    }
    let mut at = 0;
    while at < 10_000 {
        sim.step().unwrap();
        at += 1;
        if at == 3000 {
            tracing::info!("CRASH n1");
            sim.crash("n1");
            machines[0].disk.crash();
        }
        if at == 6000 {
            tracing::info!("BOUNCE n1");
            sim.bounce("n1");
        }
    }
}
