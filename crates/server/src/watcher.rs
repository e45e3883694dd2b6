//! What the log's entries, and other nodes, mean to this node's clients beyond those who proposed them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use quoris_engine::events::KeyEvent;
use quoris_engine::machine::Expiry;
use quoris_engine::script::Budget;
use quoris_engine::value::Bounds;
use quoris_engine::{Stamp, command};
use quoris_raft::env::{Clock, Cpu};
use quoris_raft::group::Group;
use quoris_raft::node::Node;
use quoris_raft::types::{Effects, GroupId, META_GROUP};

use crate::acl_log::{AclLog, Context};
use crate::blocking::Blocked;
use crate::clients::Client;
use crate::config::{Config, EventsFrom, Settings};
use crate::latency::Latency;
use crate::lazyfree::LazyFree;
use crate::memory::Memory;
use crate::monitor::Monitors;
use crate::pause::Pause;
use crate::pubsub::{Message, PubSub};
use crate::replicas;
use crate::stats::Stats;
use crate::tracking::Tracking;
use crate::users::UserBook;

/// Hands the effects of entries on to whom they concern.
pub struct Watcher {
    /// Who may do what.
    pub users: Arc<UserBook>,
    /// Calls that were not allowed.
    pub acl_log: Arc<AclLog>,
    /// Clients whose calls have blocked.
    pub blocked: Arc<Blocked>,
    /// What the keys may take.
    pub memory: Arc<Memory>,
    /// Clients that listen.
    pub pubsub: Arc<PubSub>,
    /// Clients that cache.
    pub tracking: Arc<Tracking>,
    /// Which events are told of.
    pub settings: Arc<Settings>,
    /// What the time is.
    pub clock: Arc<dyn Clock>,
    /// Where garbage is freed.
    pub cpu: Arc<dyn Cpu>,
    /// What is freed there.
    pub lazyfree: Arc<LazyFree>,
    /// Spikes.
    pub latency: Arc<Latency>,
    /// CLIENT PAUSE.
    pub pause: Arc<Pause>,
    /// Calls, those of scripts included.
    pub stats: Arc<Stats>,
    /// Clients that see them.
    pub monitors: Arc<Monitors>,
    /// The node, once it has started.
    pub node: Arc<OnceLock<Weak<Node>>>,
}

impl Watcher {
    /// What scripts have published. This node's clients alone are told: the others' nodes apply the same entry.
    fn publish(&self, events: &[KeyEvent]) {
        for event in events {
            if let KeyEvent::Publish { channel, message, in_shard } = event {
                match in_shard {
                    true => self.pubsub.publish_in_shard(channel, message),
                    false => self.pubsub.publish(channel, message),
                };
            }
        }
    }

    /// What scripts have called, where their group is led: so that each call is counted once.
    fn called(&self, group: GroupId, events: &[KeyEvent]) {
        let mut calls = events.iter().filter_map(|event| match event {
            KeyEvent::Called { words, failed } => Some((words, *failed)),
            _ => None,
        });
        let Some(first) = calls.next().filter(|_| self.leads(group)) else { return };
        for (words, failed) in std::iter::once(first).chain(calls) {
            if let Ok(row) = command::resolve(words) {
                self.stats.ran(row.command, 0, failed, false);
            }
            if self.monitors.is_on() {
                let limit = self.settings.get().output_limits.pubsub;
                self.monitors.show("lua", words, self.clock.now_ms(), limit);
            }
        }
    }

    /// What scripts have called and may not, where their group is led.
    fn denied(&self, group: GroupId, events: &[KeyEvent]) {
        for event in events {
            if let KeyEvent::Denied { user, refused } = event
                && self.leads(group)
            {
                // Which client it was, no entry says.
                let client = Client::nobody(user.clone()).line();
                self.acl_log.refused(refused, Context::Lua, user, client);
            }
        }
    }

    fn renew_users(&self, group: GroupId) {
        if let Some(group) = self.group(group).filter(|group| group.id() == META_GROUP) {
            group.with_machine(|machine| self.users.renew(Some(machine)));
        }
    }

    /// Keyspace notifications.
    fn notify(&self, group: GroupId, events: &[KeyEvent]) {
        let settings = self.settings.get();
        let on = settings.notify_keyspace_events;
        if !on.is_on() || settings.keyspace_events_from == EventsFrom::Led && !self.leads(group) {
            return;
        }
        for event in events {
            if let KeyEvent::Notice(class, event, key) = event {
                for (channel, message) in on.messages(*class, event, key) {
                    self.pubsub.publish(&channel, &message);
                }
            }
        }
    }

    /// Client-side caching.
    fn invalidate(&self, events: &[KeyEvent]) {
        if !self.tracking.is_on() {
            return;
        }
        if events.iter().any(KeyEvent::is_read) {
            self.tracking.script_has_read();
        }
        self.tracking.happened(events);
    }

    /// Keys that were due are gone: counted where their group is led, so that each is counted once.
    fn expired(&self, group: GroupId, keys: usize, took: Option<Duration>) {
        if keys == 0 || !self.leads(group) {
            return;
        }
        self.stats.expired_keys.add(keys as u64);
        let (ms, threshold_ms) = (
            took.map_or(0, |took| took.as_millis() as u64),
            self.settings.get().latency_monitor_threshold_ms,
        );
        if threshold_ms > 0 && ms >= threshold_ms {
            self.latency.note("expire-cycle", ms, self.clock.now_ms());
        }
    }

    fn leads(&self, group: GroupId) -> bool {
        self.group(group).is_some_and(|group| group.is_leader())
    }

    fn has_replicas(&self, config: &Config, group: GroupId) -> bool {
        self.group(group).is_none_or(|group| replicas::are_enough(config, &group))
    }

    fn group(&self, id: GroupId) -> Option<Arc<Group>> {
        let node = self.node.get().and_then(Weak::upgrade)?;
        node.groups().iter().find(|group| group.id() == id).cloned()
    }
}

impl quoris_raft::types::Watcher for Watcher {
    fn applied(&self, group: GroupId, mut effects: Effects) {
        if !effects.events.is_empty() {
            self.publish(&effects.events);
            self.called(group, &effects.events);
            self.denied(group, &effects.events);
            self.notify(group, &effects.events);
            self.invalidate(&effects.events);
        }
        if effects.users {
            self.renew_users(group);
        }
        self.blocked.applied(group, &mut effects);
        self.expired(group, effects.expired, effects.expiry);
        if !effects.garbage.is_empty() {
            self.lazyfree.free(&*self.cpu, effects.garbage);
        }
    }

    fn replaced(&self, group: GroupId) {
        self.tracking.all_changed();
        self.renew_users(group);
        self.blocked.replaced(group);
    }

    fn expiry(&self) -> Expiry {
        if self.pause.holds(true) {
            Expiry::Later
        } else if self.memory.keep_due.load(Ordering::Relaxed) {
            Expiry::WhenRead
        } else {
            Expiry::AtOnce
        }
    }

    fn conditions(&self, group: GroupId) -> Stamp {
        let (config, default) = (self.settings.get(), Budget::default());
        let bounds = Some(config.bounds);
        // The default is what an entry means that says nothing.
        let unless = |value: u64, default: u64| if value == default { 0 } else { value };
        Stamp {
            script_instructions: unless(config.script_instructions, default.instructions),
            script_bytes: unless(config.script_memory, default.bytes as u64),
            // What was found short is so no more once there is no limit.
            out_of_memory: config.maxmemory > 0 && self.memory.is_short(),
            bounds: bounds.filter(|_| Bounds::of(bounds) != Bounds::default()),
            few_replicas: config.min_replicas_to_write > 0 && !self.has_replicas(&config, group),
            keep_due: self.expiry() != Expiry::AtOnce,
            ..Stamp::default()
        }
    }

    fn told(&self, notice: Bytes) {
        match Message::from_notice(&notice) {
            Some(message) => drop(self.pubsub.tell(&message)),
            None => tracing::debug!(
                bytes = notice.len(),
                "a peer's notice is of a kind this version does not know"
            ),
        }
    }
}
