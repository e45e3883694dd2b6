//! Client-side caching (CLIENT TRACKING): which client has read which key, and the word to it when the key changes.
//!
//! Invariants: a key is noted *before* it is read (by a transaction that also writes: in its place in the log, so that the
//! client is not told of what the transaction did to the key before), and what is posted to a client while its calls run
//! leaves behind their replies: so whoever caches what it read is told of every later change, sometimes of an earlier one,
//! never of too few.
//! A client of which this node can no longer say that (its table is full, its replica was replaced, it has ceased to lead a
//! group) is told that the keys concerned, or all, are no longer good.
//!
//! A script reads the keys it declares only if it calls a command that reads. Before it runs it is taken to; if no script at
//! all has read on this node by the time it has its answer, its keys are struck out again.
//!
//! The events come from every group's replica on this node, led or not: a read that was forwarded is tracked all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quoris_engine::Reply;
use quoris_engine::events::KeyEvent;

use crate::clients::{Client, Clients};
use crate::config::Settings;
use crate::mail::Mail;
use crate::pubsub::bulk_str;
use crate::resp::Protocol;

/// Where clients that speak RESP2 hear of invalidations.
const CHANNEL: &str = "__redis__:invalidate";

/// What a client has asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// Which client is told; 0: itself.
    pub redirect: u64,
    /// Of all keys with its prefixes, read or not.
    pub bcast: bool,
    /// Only what is read right after CLIENT CACHING YES.
    pub optin: bool,
    /// All but what is read right after CLIENT CACHING NO.
    pub optout: bool,
    /// Not of its own changes.
    pub noloop: bool,
    /// CLIENT CACHING: concerns the next call alone.
    pub caching: bool,
    /// The mark of its own batches ([`quoris_engine::Batch::by`]), the same for as long as it tracks.
    pub origin: u64,
}

impl Mode {
    /// Whether what the next call reads is tracked.
    pub fn notes_reads(&self) -> bool {
        let wanted = if self.optin { self.caching } else { !(self.optout && self.caching) };
        wanted && !self.bcast
    }
}

/// The tracking clients of this node.
pub struct Tracking {
    settings: Arc<Settings>,
    clients: Arc<Clients>,
    /// How many there are: nothing else is looked at while it is 0.
    count: AtomicUsize,
    /// How often scripts are known to have read, or may have.
    script_reads: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    trackers: BTreeMap<u64, Tracker>,
    /// Who has read a key. Those who have left since are forgotten when the key changes.
    readers: BTreeMap<Bytes, BTreeSet<u64>>,
    /// Whose batches have which mark.
    origins: BTreeMap<u64, u64>,
    /// Who is told of all keys with a prefix.
    prefixes: BTreeMap<Bytes, BTreeSet<u64>>,
}

struct Tracker {
    client: Arc<Client>,
    mode: Mode,
    prefixes: BTreeSet<Bytes>,
    /// Whether the client that it redirects to is gone.
    broken: bool,
    /// Whether it may have cached anything since it was last told that nothing is good.
    has_read: bool,
    /// What it is noted to have read only because scripts of its declared it that have no answer yet.
    declared: BTreeSet<Bytes>,
    /// `script_reads` before they ran.
    reads_before: u64,
}

/// Figures for INFO.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrackingFigures {
    /// Clients.
    pub clients: usize,
    /// Keys that somebody has read.
    pub keys: usize,
    /// Readers of all keys.
    pub items: usize,
    /// Prefixes.
    pub prefixes: usize,
}

impl Tracking {
    /// Nobody tracks yet.
    pub fn new(settings: Arc<Settings>, clients: Arc<Clients>) -> Tracking {
        Tracking {
            settings,
            clients,
            count: AtomicUsize::new(0),
            script_reads: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// Whether anybody tracks.
    pub fn is_on(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// `client` begins to track, or changes how; `prefixes` are added to those it has.
    pub fn start(&self, client: &Arc<Client>, mode: Mode, prefixes: &[Bytes]) {
        let mut state = self.lock();
        state.origins.insert(mode.origin, client.id);
        let tracker = state.trackers.entry(client.id).or_insert_with(|| Tracker {
            client: client.clone(),
            mode,
            prefixes: BTreeSet::new(),
            broken: false,
            has_read: false,
            declared: BTreeSet::new(),
            reads_before: 0,
        });
        (tracker.mode, tracker.broken) = (mode, false);
        if mode.bcast {
            let all = [Bytes::new()];
            for prefix in if prefixes.is_empty() { &all } else { prefixes } {
                tracker.prefixes.insert(prefix.clone());
            }
            for prefix in tracker.prefixes.clone() {
                state.prefixes.entry(prefix).or_default().insert(client.id);
            }
        }
        self.count.store(state.trackers.len(), Ordering::Relaxed);
    }

    /// `client` tracks no longer. Whether it did.
    pub fn stop(&self, client: u64) -> bool {
        if !self.is_on() {
            return false;
        }
        let mut state = self.lock();
        let Some(tracker) = state.trackers.remove(&client) else { return false };
        for prefix in &tracker.prefixes {
            if let Some(clients) = state.prefixes.get_mut(prefix) {
                clients.remove(&client);
                if clients.is_empty() {
                    state.prefixes.remove(prefix);
                }
            }
        }
        state.origins.remove(&tracker.mode.origin);
        if state.trackers.is_empty() {
            state.readers.clear();
        }
        self.count.store(state.trackers.len(), Ordering::Relaxed);
        true
    }

    /// `client` is about to read `keys`.
    pub fn note_reads<'a>(&self, client: u64, keys: impl Iterator<Item = &'a Bytes>) {
        let mut state = self.lock();
        let State { trackers, readers, .. } = &mut *state;
        let Some(tracker) = trackers.get_mut(&client) else { return };
        tracker.has_read = true;
        for key in keys {
            tracker.declared.remove(key);
            readers.entry(key.clone()).or_default().insert(client);
        }
        self.fit(&mut state);
    }

    /// `client` is about to run a script that declares `keys`.
    pub fn note_script<'a>(&self, client: u64, keys: impl Iterator<Item = &'a Bytes>) {
        let mut state = self.lock();
        let State { trackers, readers, .. } = &mut *state;
        let Some(tracker) = trackers.get_mut(&client) else { return };
        if tracker.declared.is_empty() {
            tracker.reads_before = self.script_reads.load(Ordering::SeqCst);
        }
        tracker.has_read = true;
        for key in keys {
            if readers.entry(key.clone()).or_default().insert(client) {
                tracker.declared.insert(key.clone());
            }
        }
        self.fit(&mut state);
    }

    /// A script has called a command that reads, or may have where it is not seen. Before its answer leaves.
    pub fn script_has_read(&self) {
        self.script_reads.fetch_add(1, Ordering::SeqCst);
    }

    /// The scripts of `client` that [`Tracking::note_script`] was told of have their answers.
    pub fn scripts_have_run(&self, client: u64) {
        let mut state = self.lock();
        let State { trackers, readers, .. } = &mut *state;
        let Some(tracker) = trackers.get_mut(&client) else { return };
        let declared = std::mem::take(&mut tracker.declared);
        if self.script_reads.load(Ordering::SeqCst) != tracker.reads_before {
            return;
        }
        for key in declared {
            if let Some(clients) = readers.get_mut(&key) {
                clients.remove(&client);
                if clients.is_empty() {
                    readers.remove(&key);
                }
            }
        }
    }

    /// The table may have been given another size.
    pub fn settings_changed(&self) {
        if self.is_on() {
            self.fit(&mut self.lock());
        }
    }

    /// Holds the table within its size: of what is forgotten the readers are told.
    fn fit(&self, state: &mut State) {
        let most = self.settings.get().tracking_table_max_keys as usize;
        while most > 0 && state.readers.len() > most {
            let Some((key, readers)) = state.readers.pop_first() else { break };
            self.tell_readers(state, &key, &readers, 0);
        }
    }

    /// What happened in one entry, in order.
    pub fn happened(&self, events: &[KeyEvent]) {
        let mut state = self.lock();
        let mut broadcasts: BTreeMap<(u64, Bytes), BTreeSet<Bytes>> = BTreeMap::new();
        for event in events {
            match event {
                KeyEvent::Changed { key, origin } => {
                    if let Some(readers) = state.readers.remove(key) {
                        self.tell_readers(&mut state, key, &readers, *origin);
                    }
                    for (prefix, clients) in &state.prefixes {
                        if key.starts_with(prefix) {
                            let told = |id: &&u64| state.trackers.get(id).is_some_and(|t| !t.is_own(*origin));
                            for id in clients.iter().filter(told) {
                                broadcasts.entry((*id, prefix.clone())).or_default().insert(key.clone());
                            }
                        }
                    }
                }
                KeyEvent::AllChanged => self.forget_all(&mut state),
                KeyEvent::Read { key, origin } => self.has_read(&mut state, key, *origin),
                _ => {}
            }
        }
        for ((id, _), keys) in broadcasts {
            if let Some(tracker) = state.trackers.get_mut(&id) {
                self.tell(tracker, Reply::Array(keys.into_iter().map(Reply::Bulk).collect()));
            }
        }
    }

    /// A batch marked `origin` has read `key`: its client, if it is one of this node's, is told of what comes behind.
    fn has_read(&self, state: &mut State, key: &Bytes, origin: u64) {
        let Some(client) = state.origins.get(&origin).copied() else { return };
        let Some(tracker) = state.trackers.get_mut(&client) else { return };
        tracker.has_read = true;
        state.readers.entry(key.clone()).or_default().insert(client);
        self.fit(state);
    }

    /// No key is good any more.
    pub fn all_changed(&self) {
        if !self.is_on() {
            return;
        }
        self.forget_all(&mut self.lock());
    }

    fn forget_all(&self, state: &mut State) {
        state.readers.clear();
        for tracker in state.trackers.values_mut().filter(|tracker| tracker.mode.bcast || tracker.has_read) {
            tracker.has_read = false;
            self.tell(tracker, Reply::Null);
        }
    }

    /// What `client` tracks: whether its redirection is broken, and its prefixes. `None`: it does not track.
    pub fn look(&self, client: u64) -> Option<(bool, Vec<Bytes>)> {
        let state = self.lock();
        let tracker = state.trackers.get(&client)?;
        Some((tracker.broken, tracker.prefixes.iter().cloned().collect()))
    }

    /// Figures.
    pub fn figures(&self) -> TrackingFigures {
        let state = self.lock();
        TrackingFigures {
            clients: state.trackers.len(),
            keys: state.readers.len(),
            items: state.readers.values().map(BTreeSet::len).sum(),
            prefixes: state.prefixes.len(),
        }
    }

    fn tell_readers(&self, state: &mut State, key: &Bytes, readers: &BTreeSet<u64>, origin: u64) {
        for id in readers {
            // Who changed its mode, or left, has no use for what it once read.
            let Some(tracker) = state.trackers.get_mut(id).filter(|tracker| !tracker.mode.bcast) else {
                continue;
            };
            if !tracker.is_own(origin) {
                self.tell(tracker, Reply::Array(vec![Reply::Bulk(key.clone())]));
            }
        }
    }

    fn tell(&self, tracker: &mut Tracker, keys: Reply) {
        let limit = self.settings.get().output_limits.pubsub;
        let redirect = tracker.mode.redirect;
        let redirected = if redirect == 0 { None } else { self.clients.get(redirect) };
        if redirect != 0 && redirected.is_none() {
            tracker.broken = true;
            if tracker.client.state().protocol == Protocol::Resp3 {
                let push = vec![bulk_str("tracking-redir-broken"), Reply::Int(redirect as i64)];
                tracker.client.post(Mail::Push(push), limit);
            }
            return;
        }
        let to = redirected.as_ref().unwrap_or(&tracker.client);
        let (protocol, subscriptions) = {
            let state = to.state();
            (state.protocol, state.subscriptions)
        };
        if protocol == Protocol::Resp3 {
            to.post(Mail::Push(vec![bulk_str("invalidate"), keys]), limit);
        } else if redirect != 0 && subscriptions != [0; 3] {
            to.post(Mail::Push(vec![bulk_str("message"), bulk_str(CHANNEL), keys]), limit);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tracker {
    /// Whether a change by `origin` is its own, of which it does not want to be told.
    fn is_own(&self, origin: u64) -> bool {
        self.mode.noloop && origin == self.mode.origin
    }
}
