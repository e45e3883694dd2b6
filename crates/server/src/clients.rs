//! The clients that are connected, for CLIENT LIST, CLIENT KILL and `maxclients`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quoris_engine::command::Resolved;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::blocking::{End, Ending};
use crate::resp::Protocol;

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
    killed: watch::Sender<bool>,
    /// What ends its blocked call, while it has one that nobody has ended.
    blocked: Mutex<Option<End>>,
}

/// What changes while a client is connected.
#[derive(Clone)]
pub struct ClientState {
    /// CLIENT SETNAME.
    pub name: String,
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
    /// Bytes that have arrived and are not a whole call yet.
    pub query_bytes: usize,
    /// Bytes of replies that wait for the client.
    pub output_bytes: usize,
}

impl Client {
    /// A client without a place among the others; [`Clients::enter`] makes those that have one.
    fn new(id: u64, addr: String, laddr: String) -> Client {
        let now = Instant::now();
        let state = ClientState {
            name: String::new(),
            lib_name: String::new(),
            lib_ver: String::new(),
            no_evict: false,
            no_touch: false,
            readonly: false,
            protocol: Protocol::Resp2,
            last: None,
            active: now,
            query_bytes: 0,
            output_bytes: 0,
        };
        let (state, killed) = (Mutex::new(state), watch::Sender::new(false));
        Client { id, addr, laddr, since: now, state, killed, blocked: Mutex::default() }
    }

    /// What changes. Held for moments only.
    pub fn state(&self) -> MutexGuard<'_, ClientState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has its connection closed.
    pub fn kill(&self) {
        self.killed.send_replace(true);
    }

    /// Turns true when the client is killed.
    pub fn killed(&self) -> watch::Receiver<bool> {
        self.killed.subscribe()
    }

    /// Its call has blocked, and this ends it; or it no longer does.
    pub fn set_blocked(&self, end: Option<End>) {
        *self.blocked_call() = end;
    }

    /// Whether its call is blocked.
    pub fn is_blocked(&self) -> bool {
        self.blocked_call().is_some()
    }

    /// Ends its blocked call; false if it has none.
    pub fn unblock(&self, ending: Ending) -> bool {
        let end = self.blocked_call().take();
        end.is_some_and(|end| end.send(ending).is_ok())
    }

    fn blocked_call(&self) -> MutexGuard<'_, Option<End>> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its line in CLIENT LIST. Figures that quoris does not have (file descriptors, event flags) are left out.
    pub fn line(&self) -> String {
        let state = self.state().clone();
        let (age, idle) = (self.since.elapsed().as_secs(), state.active.elapsed().as_secs());
        let mut flags = String::new();
        for (flag, set) in
            [('b', self.is_blocked()), ('r', state.readonly), ('e', state.no_evict), ('T', state.no_touch)]
        {
            if set {
                flags.push(flag);
            }
        }
        let flags = if flags.is_empty() { "N" } else { &flags };
        let cmd = state.last.map_or("NULL".to_string(), |last| last.full_name());
        let mut line = String::new();
        write!(
            line,
            "id={} addr={} laddr={} name={} age={age} idle={idle} flags={flags} db=0 sub=0 psub=0 ssub=0 multi=-1 \
             qbuf={} omem={} cmd={cmd} user=default redir=-1 resp={} lib-name={} lib-ver={}",
            self.id,
            self.addr,
            self.laddr,
            state.name,
            state.query_bytes,
            state.output_bytes,
            state.protocol.number(),
            state.lib_name,
            state.lib_ver,
        )
        .expect("a string takes all that is written");
        line
    }
}

/// All of them.
#[derive(Default)]
pub struct Clients {
    connected: Mutex<BTreeMap<u64, Arc<Client>>>,
    last_id: AtomicU64,
}

impl Clients {
    /// A place for a client, unless there are `limit` already. It is given back when the [`Place`] is dropped.
    pub fn enter(self: &Arc<Clients>, addr: String, laddr: String, limit: u64) -> Option<Place> {
        let mut connected = self.lock();
        if connected.len() as u64 >= limit {
            return None;
        }
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Arc::new(Client::new(id, addr, laddr));
        connected.insert(id, client.clone());
        Some(Place { clients: self.clone(), client })
    }

    /// Those connected now, in the order they came.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.lock().values().cloned().collect()
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
