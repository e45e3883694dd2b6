//! The clients that are connected, for CLIENT LIST, CLIENT KILL and `maxclients`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use quoris_engine::acl;
use quoris_engine::command::Resolved;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::blocking::{End, Ending};
use crate::client_memory::{ClientMemory, Held};
use crate::mail::{Mail, Mailbox, OutputLimit};
use crate::resp::Protocol;
use crate::tracking::Mode;

/// One connected client, as others see it.
pub struct Client {
    /// Its number: grows with each connection, never reused while the process lives.
    pub id: u64,
    /// Its address.
    pub addr: String,
    /// The address it connected to.
    pub laddr: String,
    since: Instant,
    state: Mutex<ClientState>,
    /// What it is sent without having asked just then.
    pub mail: Mailbox,
    killed: AtomicBool,
    /// Its call that may block, until that is answered or ended.
    waiting: Mutex<Option<Waiting>>,
    /// The others.
    clients: Weak<Clients>,
}

/// A call that may block.
struct Waiting {
    end: End,
    blocked: bool,
}

/// What changes while a client is connected.
#[derive(Clone)]
pub struct ClientState {
    /// CLIENT SETNAME.
    pub name: String,
    /// Its user's name.
    pub user: Bytes,
    /// CLIENT SETINFO lib-name.
    pub lib_name: String,
    /// CLIENT SETINFO lib-ver.
    pub lib_ver: String,
    /// CLIENT NO-EVICT.
    pub no_evict: bool,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// READONLY.
    pub readonly: bool,
    /// HELLO.
    pub protocol: Protocol,
    /// The command that ran last.
    pub last: Option<Resolved>,
    /// When that was.
    pub active: Instant,
    /// How many channels, patterns and shard channels it listens to.
    pub subscriptions: [usize; 3],
    /// Whether CLIENT PAUSE holds its call.
    pub held: bool,
    /// CLIENT TRACKING.
    pub tracking: Option<Mode>,
    /// MONITOR.
    pub monitor: bool,
    /// How many calls wait for EXEC, since MULTI.
    pub queued: Option<usize>,
    /// Another node, on behalf of its own clients.
    pub relay: bool,
    /// Whether it knew nothing of the cluster when it last subscribed to a shard channel.
    pub plain: bool,
    /// What it holds.
    pub memory: Held,
    /// As much of that as counts against `maxmemory-clients`, when it was last looked at.
    pub counted: usize,
}

impl ClientState {
    /// Whether it may be disconnected for what it holds.
    fn is_evictable(&self) -> bool {
        !self.no_evict && !self.relay
    }
}

impl Client {
    /// A client without a place among the others; [`Clients::enter`] makes those that have one.
    fn new(id: u64, addr: String, laddr: String, clients: Weak<Clients>) -> Client {
        let now = Instant::now();
        let state = ClientState {
            name: String::new(),
            user: Bytes::from_static(acl::DEFAULT),
            lib_name: String::new(),
            lib_ver: String::new(),
            no_evict: false,
            no_touch: false,
            readonly: false,
            protocol: Protocol::Resp2,
            last: None,
            active: now,
            subscriptions: [0; 3],
            held: false,
            tracking: None,
            monitor: false,
            queued: None,
            relay: false,
            plain: false,
            memory: Held::default(),
            counted: 0,
        };
        let (mail, killed) = (Mailbox::default(), AtomicBool::new(false));
        let (state, waiting) = (Mutex::new(state), Mutex::default());
        Client { id, addr, laddr, since: now, state, mail, killed, waiting, clients }
    }

    /// One that is not connected, for where a client's line is to be shown and only its user is known.
    pub fn nobody(user: Bytes) -> Client {
        let client = Client::new(0, String::new(), String::new(), Weak::new());
        client.state().user = user;
        client
    }

    /// What changes. Held for moments only.
    pub fn state(&self) -> MutexGuard<'_, ClientState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is on this machine.
    pub fn is_local(&self) -> bool {
        self.addr.parse::<std::net::SocketAddr>().is_ok_and(|addr| addr.ip().is_loopback())
    }

    /// Has its connection closed.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.mail.nudge();
    }

    /// Whether it is about to be gone.
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Everything that it holds on this node, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.state().memory.total() + self.mail.waiting().1
    }

    /// What it holds has changed: it counts anew against `maxmemory-clients`, and whoever holds most goes if that is too much.
    pub fn recount(&self) {
        if let Some(clients) = self.clients.upgrade().filter(|clients| clients.memory.is_limited()) {
            self.count(&clients);
            clients.fit();
        }
    }

    fn count(&self, clients: &Clients) {
        let mail_bytes = self.mail.waiting().1;
        let mut state = self.state();
        let counts = state.is_evictable() && !self.is_killed();
        let bytes = if counts { state.memory.total() + mail_bytes } else { 0 };
        clients.memory.recount(state.counted, bytes);
        state.counted = bytes;
    }

    /// Sends it `mail`; disconnects it if it does not read what it is sent.
    pub fn post(&self, mail: Mail, limit: OutputLimit) {
        let fits = self.mail.post(mail, limit);
        self.recount();
        if !fits && !self.is_killed() {
            tracing::warn!(
                client = self.id,
                addr = self.addr,
                "closing a client that does not read its messages"
            );
            self.kill();
        }
    }

    /// Notes how many channels, patterns and shard channels it listens to.
    pub fn set_subscriptions(&self, counts: [usize; 3]) {
        self.state().subscriptions = counts;
    }

    /// When it connected.
    pub fn age_s(&self) -> u64 {
        self.since.elapsed().as_secs()
    }

    /// It has made a call that may block; `end` ends it.
    pub fn may_block(&self, end: End) {
        *self.waiting() = Some(Waiting { end, blocked: false });
    }

    /// That call has come to block.
    pub fn has_blocked(&self) {
        if let Some(waiting) = &mut *self.waiting() {
            waiting.blocked = true;
        }
    }

    /// That call has its answer.
    pub fn is_answered(&self) {
        *self.waiting() = None;
    }

    /// Whether its call is blocked, or held by CLIENT PAUSE.
    pub fn is_blocked(&self) -> bool {
        // One lock after the other.
        let held = self.state().held;
        held || self.waiting().as_ref().is_some_and(|waiting| waiting.blocked)
    }

    /// Ends its blocked call (CLIENT UNBLOCK); false if it has none.
    pub fn unblock(&self, ending: Ending) -> bool {
        let mut waiting = self.waiting();
        let ended =
            if waiting.as_ref().is_some_and(|waiting| waiting.blocked) { waiting.take() } else { None };
        ended.is_some_and(|waiting| waiting.end.send(ending).is_ok())
    }

    /// Ends its call as soon as it blocks, or at once.
    pub fn end(&self, ending: Ending) {
        if let Some(waiting) = self.waiting().take() {
            // A call that has its answer needs no end.
            let _ = waiting.end.send(ending);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its line in CLIENT LIST. What a field of Redis's means to its own file descriptors and databases alone is -1 or 0.
    pub fn line(&self) -> String {
        let state = self.state().clone();
        let (age, idle) = (self.since.elapsed().as_secs(), state.active.elapsed().as_secs());
        let mut flags = String::new();
        let [channels, patterns, shards] = state.subscriptions;
        let tracking = state.tracking.unwrap_or_default();
        for (flag, set) in [
            ('O', state.monitor),
            ('P', channels + patterns + shards > 0),
            ('x', state.queued.is_some()),
            ('b', self.is_blocked()),
            ('t', state.tracking.is_some()),
            ('B', tracking.bcast),
            ('r', state.readonly),
            ('e', state.no_evict),
            ('T', state.no_touch),
        ] {
            if set {
                flags.push(flag);
            }
        }
        let flags = if flags.is_empty() { "N" } else { &flags };
        let cmd = state.last.map_or("NULL".to_string(), |last| last.full_name());
        let (pieces, mail_bytes) = self.mail.waiting();
        let redirect = state.tracking.map_or(-1, |mode| mode.redirect as i64);
        let queued = state.queued.map_or(-1, |calls| calls as i64);
        let held = state.memory;
        let total = held.total() + mail_bytes;
        let mut line = String::new();
        write!(
            line,
            "id={} addr={} laddr={} fd=-1 name={} age={age} idle={idle} flags={flags} db=0 sub={channels} \
             psub={patterns} ssub={shards} multi={queued} qbuf={} qbuf-free={} argv-mem={} multi-mem={} rbs={} rbp={} obl={} \
             oll={pieces} omem={mail_bytes} tot-mem={total} events=r cmd={cmd} user={} redir={redirect} resp={} \
             lib-name={} lib-ver={}",
            self.id,
            self.addr,
            self.laddr,
            state.name,
            held.inbox + held.call,
            held.inbox_room - held.inbox,
            held.call,
            held.queued,
            held.reply_room,
            held.reply_peak,
            held.output,
            String::from_utf8_lossy(&state.user),
            state.protocol.number(),
            state.lib_name,
            state.lib_ver,
        )
        .expect("a string takes all that is written");
        line
    }
}

/// All of them.
pub struct Clients {
    connected: Mutex<BTreeMap<u64, Arc<Client>>>,
    last_id: AtomicU64,
    stopping: AtomicBool,
    /// Whose connection may be closed.
    closing: Semaphore,
    /// What they hold together.
    pub memory: ClientMemory,
}

impl Default for Clients {
    fn default() -> Clients {
        Clients {
            connected: Mutex::default(),
            last_id: AtomicU64::default(),
            stopping: AtomicBool::default(),
            closing: Semaphore::new(1),
            memory: ClientMemory::default(),
        }
    }
}

impl Clients {
    /// A place for a client, unless there are `limit` already. It is given back when the [`Place`] is dropped.
    pub fn enter(self: &Arc<Clients>, addr: String, laddr: String, limit: u64) -> Option<Place> {
        let mut connected = self.lock();
        if connected.len() as u64 >= limit {
            return None;
        }
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Arc::new(Client::new(id, addr, laddr, Arc::downgrade(self)));
        connected.insert(id, client.clone());
        Some(Place { clients: self.clone(), client })
    }

    /// Those connected now, in the order they came.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.lock().values().cloned().collect()
    }

    /// A turn to close a connection, until it is dropped, with everybody else's turn before it: of ten thousand that are closed
    /// at once, each takes the kernel some 15 µs.
    pub async fn turn_to_close(&self) -> Option<SemaphorePermit<'_>> {
        let turn = self.closing.acquire().await.ok();
        tokio::task::yield_now().await;
        turn
    }

    /// Has every connection end with the calls that it has begun.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.all().iter().for_each(|client| client.mail.nudge());
    }

    /// Whether [`Clients::stop`] has been called.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Sets `maxmemory-clients`, in bytes.
    pub fn limit_to(&self, limit: Option<u64>) {
        // Without a limit nobody has counted.
        self.all().iter().for_each(|client| client.count(self));
        self.memory.limit_to(limit);
        self.fit();
    }

    /// Disconnects those that hold most until all together hold less than `maxmemory-clients`.
    fn fit(&self) {
        while self.memory.is_over() {
            // One lock after the other.
            let by_bytes = self.all().into_iter().map(|client| {
                let counted = client.state().counted;
                (counted, client)
            });
            let Some((bytes, client)) =
                by_bytes.max_by_key(|(bytes, _)| *bytes).filter(|(bytes, _)| *bytes > 0)
            else {
                return;
            };
            tracing::warn!(
                client = client.id,
                addr = client.addr,
                bytes,
                "closing the client that holds most"
            );
            client.kill();
            let counted = std::mem::take(&mut client.state().counted);
            self.memory.evicted(counted);
        }
    }

    /// The one with number `id`.
    pub fn get(&self, id: u64) -> Option<Arc<Client>> {
        self.lock().get(&id).cloned()
    }

    /// How many are connected now.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's place among the connected.
pub struct Place {
    clients: Arc<Clients>,
    /// The client.
    pub client: Arc<Client>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.clients.lock().remove(&self.client.id);
        self.client.kill();
        self.client.count(&self.clients);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_are_limited_and_given_back() {
        let clients = Arc::new(Clients::default());
        let enter = || clients.enter("a:1".into(), "b:2".into(), 2);
        let (first, second) = (enter().expect("a place"), enter().expect("a place"));
        assert!(enter().is_none());
        drop(first);
        assert_eq!(clients.all().iter().map(|client| client.id).collect::<Vec<_>>(), [second.client.id]);
        assert_eq!(enter().expect("a place").client.id, 3);
    }
}
