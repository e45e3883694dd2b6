//! A client that knows what became of each call: one attempt, one of three outcomes, nothing sent twice.
//!
//! *Cluster* clients go to the leader themselves; *plain* ones stay with one node, which forwards their calls if it can.
//! Both go where MOVED and ASK send them, within the same attempt: who answers so has done nothing.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::time::{sleep, timeout};

use crate::connection::Connection;
use crate::outcome::{Failure, word};
use crate::resp::Value;
use crate::target::{Target, redirection, slot_of};

/// How often one attempt may be sent elsewhere.
const REDIRECTIONS: usize = 5;
const PAUSE_AFTER_FAILED_CONNECT: Duration = Duration::from_millis(20);

/// The name of every key that was used, to be deleted at the end.
pub type UsedKeys = Rc<RefCell<BTreeSet<String>>>;

/// One client's hold of the cluster.
pub struct Client {
    target: Rc<Target>,
    rng: StdRng,
    plain: bool,
    patience: Duration,
    /// Where it goes when it knows of no better place.
    home: String,
    places: HashMap<u16, String>,
    connections: HashMap<String, Connection>,
    prefix: Rc<str>,
    used: UsedKeys,
}

impl Client {
    /// Connects when it is needed. Every word that begins with `prefix` is taken for a key.
    pub fn new(
        target: Rc<Target>,
        number: usize,
        patience: Duration,
        rng: StdRng,
        prefix: Rc<str>,
        used: UsedKeys,
    ) -> Client {
        let home = target.addrs[number % target.addrs.len()].clone();
        let plain = number % 2 == 1;
        let (places, connections) = (HashMap::new(), HashMap::new());
        Client { target, rng, plain, patience, home, places, connections, prefix, used }
    }

    /// The reply to one command on `key`.
    pub async fn call(&mut self, key: &str, words: &[&str]) -> Result<Value, Failure> {
        Ok(self.exchange(key, &[words]).await?.remove(0))
    }

    /// The replies of `calls` between MULTI and EXEC, sent at once; `None` if a watch refused it.
    pub async fn transaction(&mut self, key: &str, calls: &[&[&str]]) -> Result<Option<Vec<Value>>, Failure> {
        let calls = [&[&["MULTI"][..]], calls, &[&["EXEC"][..]]].concat();
        let executed = self.exchange(key, &calls).await?.pop();
        executed.unwrap_or(Value::Nil).or_nil(|replies| replies.list(Ok))
    }

    /// Sends calls at once, to where `key` is, and reads all their replies. The last one decides what became of them.
    pub async fn exchange(&mut self, key: &str, calls: &[&[&str]]) -> Result<Vec<Value>, Failure> {
        let slot = slot_of(key);
        let mut asking = None;
        let mut attempts_left = REDIRECTIONS;
        loop {
            let addr = asking.clone().unwrap_or_else(|| self.place_of(slot));
            let replies = self.exchange_at(&addr, calls, asking.is_some()).await?;
            let Some(Value::Error(error)) = replies.last() else { return Ok(replies) };
            // A transaction that could not be queued names the reason in the replies before EXEC's.
            let errors = || replies.iter().filter_map(as_error);
            let elsewhere = errors().find(|error| matches!(word(error), "MOVED" | "ASK"));
            let failure = Failure::of_reply(error.clone());
            match elsewhere.filter(|_| attempts_left > 0 && matches!(failure, Failure::NotApplied(_))) {
                Some(error) => {
                    asking = self.redirect(error, &addr).filter(|_| word(error) == "ASK");
                    attempts_left -= 1;
                }
                None => {
                    if errors().any(|error| matches!(word(error), "READONLY" | "MASTERDOWN" | "LOADING")) {
                        self.forsake(&addr);
                    }
                    return Err(failure);
                }
            }
        }
    }

    async fn exchange_at(
        &mut self,
        addr: &str,
        calls: &[&[&str]],
        asking: bool,
    ) -> Result<Vec<Value>, Failure> {
        let calls = if asking { [&[&["ASKING"][..]], calls].concat() } else { calls.to_vec() };
        let mut replies = self.send(addr, &calls).await?;
        replies.drain(..usize::from(asking));
        Ok(replies)
    }

    /// Sends calls to one node, and reads their replies, errors among them.
    pub async fn send(&mut self, addr: &str, calls: &[&[&str]]) -> Result<Vec<Value>, Failure> {
        self.remember(calls);
        let patience = self.patience;
        let connection = self.connection(addr).await?;
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no reply in time");
        match timeout(patience, connection.exchange(calls)).await.map_err(late).flatten() {
            Ok(replies) => Ok(replies),
            Err(error) => {
                self.forsake(addr);
                Err(Failure::Unknown(format!("connection: {error}")))
            }
        }
    }

    /// Where the key is believed to be.
    pub fn place_of(&self, slot: u16) -> String {
        self.places.get(&slot).unwrap_or(&self.home).clone()
    }

    /// An open connection to `addr`. Nothing was sent if there is none.
    pub async fn connection(&mut self, addr: &str) -> Result<&mut Connection, Failure> {
        if !self.connections.contains_key(addr) {
            match self.connect(addr).await {
                Ok(connection) => {
                    self.connections.insert(addr.to_string(), connection);
                }
                Err(error) => {
                    self.forsake(addr);
                    sleep(PAUSE_AFTER_FAILED_CONNECT).await;
                    return Err(Failure::NotApplied(format!("connect: {error}")));
                }
            }
        }
        Ok(self.connections.get_mut(addr).expect("it is there now"))
    }

    async fn connect(&self, addr: &str) -> io::Result<Connection> {
        let mut connection = self.target.connect(addr, self.patience).await?;
        if !self.plain && self.target.is_cluster {
            // quoris forwards the calls of those who do not ask for the cluster.
            let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
            timeout(self.patience, connection.exchange(&[&["CLUSTER", "MYID"]])).await.map_err(late)??;
        }
        Ok(connection)
    }

    /// Learns from MOVED, and says where an error sends its call.
    pub fn redirect(&mut self, error: &str, asked: &str) -> Option<String> {
        let (slot, addr) = redirection(error, asked)?;
        if word(error) == "MOVED" {
            self.places.insert(slot, addr.clone());
        }
        Some(addr)
    }

    /// After a failure: drops the connection, and looks elsewhere for what was there.
    pub fn forsake(&mut self, addr: &str) {
        self.connections.remove(addr);
        self.places.retain(|_, place| place != addr);
        if self.home == addr {
            let others: Vec<&String> = self.target.addrs.iter().filter(|other| *other != addr).collect();
            if let Some(other) = others.choose(&mut self.rng) {
                self.home = (*other).clone();
            }
        }
    }

    /// What all keys begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Drops a connection, in whatever state it is.
    pub fn disconnect(&mut self, addr: &str) {
        self.connections.remove(addr);
    }

    /// A node, any of them.
    pub fn any_node(&mut self) -> String {
        self.target.addrs[self.rng.random_range(0..self.target.addrs.len())].clone()
    }

    /// Calls on keys of any slots, sent at once to where `key` is; each reply stands for itself.
    pub async fn pipeline(&mut self, key: &str, calls: &[&[&str]]) -> Result<Vec<Value>, Failure> {
        let addr = self.place_of(slot_of(key));
        self.send(&addr, calls).await
    }

    /// This end's port of the connection over which calls on `key` go.
    pub async fn port_towards(&mut self, key: &str) -> Result<u16, Failure> {
        let addr = self.place_of(slot_of(key));
        let port = self.connection(&addr).await?.local_port();
        port.map_err(|error| Failure::NotApplied(format!("connection: {error}")))
    }

    /// A connection of the caller's own on which `words`, which have no end of replies, were sent.
    pub async fn subscription(&self, addr: &str, words: &[&str]) -> Result<Connection, Failure> {
        let not_done = |error: io::Error| Failure::NotApplied(format!("connect: {error}"));
        let mut connection = self.target.connect(addr, self.patience).await.map_err(not_done)?;
        self.remember(&[words]);
        connection.send(&[words]).await.map_err(not_done)?;
        Ok(connection)
    }

    fn remember(&self, calls: &[&[&str]]) {
        let mut used = self.used.borrow_mut();
        for word in calls.iter().flat_map(|words| words.iter()) {
            if word.starts_with(&*self.prefix) && !used.contains(*word) {
                used.insert((*word).to_string());
            }
        }
    }
}

fn as_error(value: &Value) -> Option<&String> {
    match value {
        Value::Error(error) => Some(error),
        _ => None,
    }
}
