//! `maxmemory`: which calls are refused for want of memory, and which keys go to make room.
//!
//! What counts is the keys' own content, summed over the node's groups ([`Keyspace::bytes`]): it is the same on every replica,
//! whatever their allocators do. The leader of a group chooses victims from its own knowledge of who used what
//! ([`crate::access`]) and proposes their removal; apply knows nothing of limits. So a call is refused, and a key chosen,
//! before anything enters the log.
//!
//! A node evicts from the groups that it leads alone, each in proportion to its share of what the node holds: the other
//! nodes hold the same keys, and their leaders do the same.
//!
//! Invariants: a key that has changed since it was chosen stays; a stream with consumer groups stays unless a setting
//! says otherwise.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quoris_engine::entry::Watch;
use quoris_engine::keyspace::{Keyspace, object_bytes};
use quoris_engine::machine::BatchOutcome;
use quoris_engine::rng::Rng;
use quoris_engine::slot::{NEVER, Object};
use quoris_engine::value::Value;
use quoris_engine::{Batch, Reply};
use quoris_raft::node::Node;
use quoris_raft::types::WriteOutcome;
use tokio::sync::Semaphore;

use crate::access::Access;
use crate::config::Config;
use crate::limits;
use crate::server::Server;
use crate::stats::Counter;

/// What `maxmemory-policy` takes.
pub const POLICIES: [&str; 8] = [
    "noeviction",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
];

/// What the server knows of its keys' memory.
pub struct Memory {
    /// Whether the last who looked found no room, and no way to make any.
    short: AtomicBool,
    /// Whether due keys are kept where this node leads (DEBUG SET-ACTIVE-EXPIRE 0).
    pub keep_due: AtomicBool,
    /// One at a time makes room.
    turn: Semaphore,
    /// Who used what, if the policy asks for it.
    pub access: Access,
    /// Keys evicted from groups that this node led.
    pub evicted: Counter,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory {
            short: AtomicBool::new(false),
            keep_due: AtomicBool::new(false),
            turn: Semaphore::new(1),
            access: Access::default(),
            evicted: Counter::default(),
        }
    }
}

impl Memory {
    /// Whether there is no room, and none can be made.
    pub fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }
}

/// What the node's keys take, in bytes.
pub fn used(node: &Node) -> u64 {
    /// A node without keys takes something, too: 1 byte of `maxmemory` is too little for anything.
    const EMPTY_BYTES: u64 = 16;
    let bytes = node.groups().iter().map(|group| group.with_machine(|m| m.keyspace().bytes() as u64));
    EMPTY_BYTES + bytes.sum::<u64>()
}

/// Evicts until the keys take no more than they may. Whether they do.
pub async fn make_room(server: &Server) -> bool {
    let config = server.settings.keep();
    let memory = &server.memory;
    let over = || config.maxmemory > 0 && used(&server.node) > config.maxmemory;
    let mut short = over();
    if short && config.maxmemory_policy != "noeviction" {
        // Never closed: acquiring cannot fail.
        let _turn = memory.turn.acquire().await;
        for _ in 0..limits::EVICTION_ROUNDS {
            short = over();
            if !short || !evict_some(server, &config).await {
                break;
            }
        }
        short = over();
    }
    memory.short.store(short, Ordering::Relaxed);
    !short
}

/// Makes room now and then: not only who calls here makes this node's groups grow, and the limit may be lowered.
pub async fn keep_room(server: Weak<Server>) {
    loop {
        tokio::time::sleep(Duration::from_millis(limits::EVICTION_INTERVAL_MS)).await;
        let Some(server) = server.upgrade() else { return };
        let config = server.settings.keep();
        let keys = server.node.groups().iter().map(|group| group.with_machine(|m| m.keyspace().len())).sum();
        server.memory.access.keep(follows_access(&config), keys);
        make_room(&server).await;
    }
}

fn follows_access(config: &Config) -> bool {
    config.maxmemory > 0 && ["-lru", "-lfu"].iter().any(|kind| config.maxmemory_policy.ends_with(kind))
}

/// Evicts up to so many keys of each group that is led here. False: nothing could be.
async fn evict_some(server: &Server, config: &Config) -> bool {
    let total = used(&server.node).max(1);
    let excess = total.saturating_sub(config.maxmemory);
    let mut any = false;
    for group in server.node.groups().iter().filter(|group| group.is_led_here()) {
        let mut rng = Rng::for_call(server.env.rng.next_u64(), 0);
        let victims = group.with_machine(|machine| {
            let keys = machine.keyspace();
            let share = (u128::from(excess) * keys.bytes() as u128 / u128::from(total)) as u64;
            choose(keys, share, config, &server.memory.access, &mut rng)
        });
        if victims.is_empty() {
            continue;
        }
        if let WriteOutcome::Applied(outcomes) = group.write(Batch::evict(victims)).await
            && let Some(BatchOutcome::Ran(replies)) = outcomes.first()
            && let Some(Reply::Int(evicted)) = replies.first()
        {
            server.memory.evicted.add(*evicted as u64);
            any |= *evicted > 0;
        }
    }
    any
}

/// Victims that together take more than `bytes`, or as many as one round takes.
fn choose(keys: &Keyspace, bytes: u64, config: &Config, access: &Access, rng: &mut Rng) -> Vec<Watch> {
    let may_go = |object: &Object| match &object.value {
        Value::Stream(stream) => config.evict_consumer_groups || !stream.has_groups(),
        _ => true,
    };
    let mut victims: BTreeMap<&[u8], u64> = BTreeMap::new();
    let mut freed = 0;
    let mut take = |key: &'_ [u8], object: &Object| {
        freed += object_bytes(key, object) as u64;
        freed > bytes
    };
    if config.maxmemory_policy == "volatile-ttl" {
        let volatile = keys.by_deadline().filter(|(_, object)| object.expire_ms != NEVER && may_go(object));
        for (key, object) in volatile.take(limits::EVICTED_AT_ONCE) {
            victims.insert(key, object.version);
            if take(key, object) {
                break;
            }
        }
    } else {
        let volatile = config.maxmemory_policy.starts_with("volatile");
        let samples = config.maxmemory_samples as usize;
        for _ in 0..limits::EVICTED_AT_ONCE {
            let around = keys.sample(rng, samples, volatile);
            let candidates = around.filter(|(key, object)| may_go(object) && !victims.contains_key(&key[..]));
            let worth = |key: &[u8]| match config.maxmemory_policy.as_str() {
                "allkeys-lru" | "volatile-lru" => access.used_last(key),
                "allkeys-lfu" | "volatile-lfu" => access.used_often(key),
                _ => 0,
            };
            let Some((key, object)) = candidates.min_by_key(|(key, _)| worth(key)) else { break };
            victims.insert(key, object.version);
            if take(key, object) {
                break;
            }
        }
    }
    let watch = |(key, version): (&[u8], u64)| Watch { key: key.to_vec().into(), version };
    victims.into_iter().map(watch).collect()
}
