//! Publish and subscribe: who of this node's clients listens to which channel, and the way of a message to them.
//!
//! A message published on any node reaches the subscribers of every node, at most once, and those of one publisher in their
//! order: the node tells its own subscribers and every peer ([`quoris_raft::node::Node::tell_peers`]), a peer tells its own. Nothing of this
//! is in the log, nothing survives a restart, and a node that cannot be reached misses what is said meanwhile, as in Redis.
//! A *shard* channel lives in its name's hash slot: a cluster's client publishes and subscribes to it at the node that leads the
//! slot, and when that node ceases to, its subscribers are told so and come back elsewhere. Every node has a replica of every slot,
//! so messages in shards reach every node as well; a plain client, which goes nowhere else, listens where it is and stays.
//!
//! It knows clients only by their numbers and mailboxes: neither sessions nor sockets.

pub mod notify;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use quoris_engine::hash_slot::slot_of;
use quoris_engine::{Reply, SlotId, glob};

use crate::clients::Client;
use crate::config::Settings;
use crate::mail::Mail;
use crate::resp::{DecodeLimits, Decoder, encode_call};
use crate::stats::Counter;

/// What a subscription names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A channel.
    Channel,
    /// A pattern that channels' names match.
    Pattern,
    /// A channel of one slot.
    Shard,
}

/// Redis's words for a kind: to begin, to end, and for a message.
struct Words {
    subscribe: &'static str,
    unsubscribe: &'static str,
    message: &'static str,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Channel, Kind::Pattern, Kind::Shard];

    fn words(self) -> Words {
        let (subscribe, unsubscribe, message) = match self {
            Kind::Channel => ("subscribe", "unsubscribe", "message"),
            Kind::Pattern => ("psubscribe", "punsubscribe", "pmessage"),
            Kind::Shard => ("ssubscribe", "sunsubscribe", "smessage"),
        };
        Words { subscribe, unsubscribe, message }
    }
}

/// All subscriptions of this node's clients.
pub struct PubSub {
    settings: Arc<Settings>,
    state: Mutex<State>,
    /// Messages that a peer could not be told of.
    pub lost: Counter,
}

type Subscribers = BTreeMap<u64, Arc<Client>>;

#[derive(Default)]
struct State {
    /// For each kind, who listens to what.
    subscribers: [BTreeMap<Bytes, Subscribers>; 3],
    /// For each client and kind, what it listens to.
    names: BTreeMap<u64, [BTreeSet<Bytes>; 3]>,
}

impl PubSub {
    /// Nobody listens yet.
    pub fn new(settings: Arc<Settings>) -> PubSub {
        PubSub { settings, state: Mutex::default(), lost: Counter::default() }
    }

    /// `client` listens to `name` from now on; it is told so before it hears anything.
    pub fn subscribe(&self, client: &Arc<Client>, kind: Kind, name: &Bytes) {
        let mut state = self.lock();
        state.names.entry(client.id).or_default()[kind as usize].insert(name.clone());
        self.confirm(&state, client, kind, kind.words().subscribe, Some(name));
        state.subscribers[kind as usize].entry(name.clone()).or_default().insert(client.id, client.clone());
    }

    /// `client` listens to `name` no longer, and is told so.
    pub fn unsubscribe(&self, client: &Arc<Client>, kind: Kind, name: &Bytes) {
        let mut state = self.lock();
        state.remove(client.id, kind, name);
        self.confirm(&state, client, kind, kind.words().unsubscribe, Some(name));
    }

    /// `client` listens to nothing of `kind` any longer, and is told so, of each or of nothing at all.
    pub fn unsubscribe_all(&self, client: &Arc<Client>, kind: Kind) {
        let names = self.lock().names.get(&client.id).map(|names| names[kind as usize].clone());
        let names = names.unwrap_or_default();
        names.iter().for_each(|name| self.unsubscribe(client, kind, name));
        if names.is_empty() {
            self.confirm(&self.lock(), client, kind, kind.words().unsubscribe, None);
        }
    }

    /// `client` is gone, or begins anew.
    pub fn forget(&self, client: &Client) {
        let mut state = self.lock();
        let Some(names) = state.names.remove(&client.id) else { return };
        for kind in Kind::ALL {
            names[kind as usize].iter().for_each(|name| state.remove_subscriber(client.id, kind, name));
        }
        client.set_subscriptions([0; 3]);
    }

    /// This node no longer leads the slots that `ceded` tells: who listens to a channel in them, and can, must look elsewhere.
    pub fn cede(&self, ceded: impl Fn(SlotId) -> bool) {
        let of = Kind::Shard as usize;
        let state = self.lock();
        let lost = state.subscribers[of].iter().filter(|(name, _)| ceded(slot_of(name)));
        let lost: Vec<_> = lost
            .flat_map(|(name, clients)| clients.values().map(|client| (name.clone(), client.clone())))
            .filter(|(_, client)| !client.state().plain)
            .collect();
        drop(state);
        lost.iter().for_each(|(name, client)| self.unsubscribe(client, Kind::Shard, name));
    }

    /// Hands a message to this node's subscribers. How many.
    pub fn tell(&self, message: &Message) -> usize {
        match message.in_shard {
            true => self.publish_in_shard(&message.channel, &message.content),
            false => self.publish(&message.channel, &message.content),
        }
    }

    /// Hands a message to this node's subscribers of `channel` and of patterns that it matches. How many.
    pub fn publish(&self, channel: &Bytes, message: &Bytes) -> usize {
        let state = self.lock();
        let bulk = |bytes: &Bytes| Reply::Bulk(bytes.clone());
        let mut receivers = 0;
        for client in state.subscribers_of(Kind::Channel, channel) {
            let message = vec![bulk_str(Kind::Channel.words().message), bulk(channel), bulk(message)];
            self.post(client, message);
            receivers += 1;
        }
        for (pattern, clients) in &state.subscribers[Kind::Pattern as usize] {
            if !glob::matches(pattern, channel) {
                continue;
            }
            for client in clients.values() {
                let word = bulk_str(Kind::Pattern.words().message);
                self.post(client, vec![word, bulk(pattern), bulk(channel), bulk(message)]);
                receivers += 1;
            }
        }
        receivers
    }

    /// Hands a message to the subscribers of a shard channel. How many.
    pub fn publish_in_shard(&self, channel: &Bytes, message: &Bytes) -> usize {
        let state = self.lock();
        let clients = state.subscribers_of(Kind::Shard, channel);
        let post = |client: &Arc<Client>| {
            let word = bulk_str(Kind::Shard.words().message);
            self.post(client, vec![word, Reply::Bulk(channel.clone()), Reply::Bulk(message.clone())]);
        };
        clients.map(post).count()
    }

    /// The channels that somebody listens to.
    pub fn channels(&self, kind: Kind, pattern: Option<&[u8]>) -> Vec<Bytes> {
        let state = self.lock();
        let wanted = |name: &&Bytes| pattern.is_none_or(|pattern| glob::matches(pattern, name));
        state.subscribers[kind as usize].keys().filter(wanted).cloned().collect()
    }

    /// How many channels or patterns somebody listens to.
    pub fn count(&self, kind: Kind) -> usize {
        self.lock().subscribers[kind as usize].len()
    }

    /// The channels, patterns and shard channels that `client` listens to.
    pub fn names_of(&self, client: u64) -> [BTreeSet<Bytes>; 3] {
        self.lock().names.get(&client).cloned().unwrap_or_default()
    }

    /// How many listen to `name`.
    pub fn subscribers(&self, kind: Kind, name: &[u8]) -> usize {
        self.lock().subscribers[kind as usize].get(name).map_or(0, BTreeMap::len)
    }

    /// How many clients listen to anything.
    pub fn clients(&self) -> usize {
        self.lock().names.len()
    }

    /// Tells `client` what it listens to now. Shard channels are counted by themselves.
    fn confirm(&self, state: &State, client: &Client, kind: Kind, word: &'static str, name: Option<&Bytes>) {
        let counts = state.counts(client.id);
        client.set_subscriptions(counts);
        let [channels, patterns, shards] = counts;
        let count = if kind == Kind::Shard { shards } else { channels + patterns };
        let name = name.map_or(Reply::Null, |name| Reply::Bulk(name.clone()));
        self.post(client, vec![bulk_str(word), name, Reply::count(count)]);
    }

    fn post(&self, client: &Client, push: Vec<Reply>) {
        client.post(Mail::Push(push), self.settings.get().output_limits.pubsub);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn subscribers_of(&self, kind: Kind, name: &[u8]) -> impl Iterator<Item = &Arc<Client>> {
        self.subscribers[kind as usize].get(name).into_iter().flat_map(BTreeMap::values)
    }

    fn counts(&self, client: u64) -> [usize; 3] {
        self.names.get(&client).map_or([0; 3], |names| names.each_ref().map(BTreeSet::len))
    }

    fn remove(&mut self, client: u64, kind: Kind, name: &Bytes) {
        if let Some(names) = self.names.get_mut(&client) {
            names[kind as usize].remove(name);
            if names.iter().all(BTreeSet::is_empty) {
                self.names.remove(&client);
            }
        }
        self.remove_subscriber(client, kind, name);
    }

    fn remove_subscriber(&mut self, client: u64, kind: Kind, name: &Bytes) {
        let subscribers = &mut self.subscribers[kind as usize];
        if let Some(clients) = subscribers.get_mut(name) {
            clients.remove(&client);
            if clients.is_empty() {
                subscribers.remove(name);
            }
        }
    }
}

pub(crate) fn bulk_str(word: &'static str) -> Reply {
    Reply::Bulk(Bytes::from_static(word.as_bytes()))
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Whether its channel is a shard's.
    pub in_shard: bool,
    /// Where it is published.
    pub channel: Bytes,
    /// What it says.
    pub content: Bytes,
}

impl Message {
    /// What a peer is told of it.
    pub fn to_notice(&self) -> Bytes {
        let word: &[u8] = if self.in_shard { b"SPUBLISH" } else { b"PUBLISH" };
        let mut notice = BytesMut::new();
        encode_call(&[word, &self.channel, &self.content], &mut notice);
        notice.freeze()
    }

    /// The message of a peer's notice; `None` if it is not one that this version knows.
    pub fn from_notice(notice: &Bytes) -> Option<Message> {
        let limits = DecodeLimits { bulk_bytes: i64::MAX, call_bytes: usize::MAX, authenticated: true };
        let call = Decoder::default().decode(&mut BytesMut::from(notice.as_ref()), &limits).ok()??;
        let [word, channel, content] = &call[..] else { return None };
        let in_shard = match word.as_ref() {
            b"PUBLISH" => false,
            b"SPUBLISH" => true,
            _ => return None,
        };
        Some(Message { in_shard, channel: channel.clone(), content: content.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_survives_its_way() {
        for in_shard in [false, true] {
            let (channel, content) = (Bytes::from_static(b"a\r\nb"), Bytes::from_static(b"\0"));
            let message = Message { in_shard, channel, content };
            assert_eq!(Message::from_notice(&message.to_notice()), Some(message));
        }
        assert_eq!(Message::from_notice(&Bytes::from_static(b"*1\r\n$3\r\nNEW\r\n")), None);
        assert_eq!(Message::from_notice(&Bytes::from_static(b"*1\r\n$3\r\nNE")), None);
    }
}
