//! Who the users are, as far as this node has applied the meta group's log, for the sessions to look at; and what a change of
//! them means to the clients that are connected.
//!
//! A session has its user at hand and looks at a number before each call: only when that has changed does it look here. A user
//! that is deleted takes its clients along, and a right to listen its listeners, as soon as this node applies the change.
//!
//! `requirepass` is a node's own: here the user `default` has that password besides those that it has everywhere.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use quoris_engine::acl::{self, Defaults, User, Users};
use quoris_engine::command::Command;
use quoris_engine::{CommandError, Machine};

use crate::clients::{Client, Clients};
use crate::config::Settings;
use crate::meta;
use crate::pubsub::PubSub;
use crate::server::Server;
use crate::verbs::acl::random_digits;

/// Hexadecimal digits of what nodes log in with at each other.
const RELAY_KEY_DIGITS: usize = 64;

/// What is known of users at one moment.
pub struct Known {
    users: Arc<Users>,
    /// `default`, as it is on this node.
    default_user: Arc<User>,
    /// Whether the meta group has told this node anything: before that, nobody can say what is allowed.
    pub is_told: bool,
    /// Which moment, counted.
    pub number: u64,
}

impl Known {
    /// The user of that name.
    pub fn get(&self, name: &[u8]) -> Option<&Arc<User>> {
        match name {
            acl::DEFAULT => Some(&self.default_user),
            name => self.users.get(name),
        }
    }

    /// The user that connections have at first.
    pub fn default_user(&self) -> &Arc<User> {
        &self.default_user
    }

    /// As they are on every node.
    pub fn everywhere(&self) -> &Arc<Users> {
        &self.users
    }

    /// Whether another node logs in with `key`.
    pub fn is_relay_key(&self, key: &[u8]) -> bool {
        let known = self.users.relay_key();
        !known.is_empty() && acl::same(known, key)
    }
}

/// The users, for all sessions.
pub struct UserBook {
    settings: Arc<Settings>,
    clients: Arc<Clients>,
    pubsub: Arc<PubSub>,
    known: RwLock<Arc<Known>>,
    /// That of `known`.
    number: AtomicU64,
    /// Held while it is renewed, so that the newest stands in the end.
    renewing: Mutex<()>,
}

impl UserBook {
    /// Nothing is known yet but the user that every cluster begins with.
    pub fn new(settings: Arc<Settings>, clients: Arc<Clients>, pubsub: Arc<PubSub>) -> UserBook {
        let known = Known::of(Arc::default(), false, 1, &settings);
        let (known, number, renewing) = (RwLock::new(Arc::new(known)), AtomicU64::new(1), Mutex::default());
        UserBook { settings, clients, pubsub, known, number, renewing }
    }

    /// What is known now.
    pub fn get(&self) -> Arc<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of what is known now.
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// Looks again: at the meta group's machine, whose lock the caller holds, or only at a setting that has changed.
    pub fn renew(&self, machine: Option<&Machine>) {
        let _renewing = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.get();
        let (users, is_told) = match machine {
            Some(machine) => (Arc::clone(machine.users()), !machine.genesis().cluster_id.is_empty()),
            None => (Arc::clone(&old.users), old.is_told),
        };
        let known = Arc::new(Known::of(users, is_told, old.number + 1, &self.settings));
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&known);
        self.number.store(known.number, Ordering::Release);
        self.part_with(&old.users, &known.users);
    }

    /// Closes the connections of users that are gone, and of those who listen to what they no longer may.
    fn part_with(&self, old: &Users, new: &Users) {
        let mut lost: BTreeMap<&Bytes, Option<&User>> = BTreeMap::new();
        for user in old.iter() {
            match new.get(&user.name) {
                None => drop(lost.insert(&user.name, None)),
                Some(now) if Arc::ptr_eq(user, now) || now.has_all_channels() => {}
                Some(now) => drop(lost.insert(&user.name, Some(now))),
            }
        }
        if lost.is_empty() {
            return;
        }
        for client in self.clients.all() {
            let name = client.state().user.clone();
            let must_go = match lost.get(&name) {
                None => false,
                Some(None) => true,
                Some(Some(user)) => self.listens_unduly(&client, user),
            };
            if must_go {
                tracing::info!(
                    client = client.id,
                    addr = client.addr,
                    "closing a client that has lost its rights"
                );
                client.kill();
            }
        }
    }

    fn listens_unduly(&self, client: &Client, user: &User) -> bool {
        let [channels, patterns, shards] = self.pubsub.names_of(client.id);
        channels.iter().chain(&shards).any(|name| !user.may_listen(name, false))
            || patterns.iter().any(|name| !user.may_listen(name, true))
    }
}

impl Known {
    fn of(users: Arc<Users>, is_told: bool, number: u64, settings: &Settings) -> Known {
        let own = &settings.get().requirepass;
        let default_user = match own.is_empty() {
            true => Arc::clone(users.default_user()),
            false => Arc::new(users.default_user().with_password(own.as_bytes())),
        };
        Known { users, default_user, is_told, number }
    }
}

/// The words of ACL SETUSER and its like as the log has them.
pub async fn words_for_log(
    server: &Server,
    row: &'static Command,
    words: &[Bytes],
) -> Result<Vec<Bytes>, CommandError> {
    match row.name {
        "setuser" => match prepared(server, words) {
            // What it stumbles over may have changed already.
            Err(_) if !server.meta_group().is_leader() => {
                meta::catch_up(server).await;
                prepared(server, words)
            }
            done => done,
        },
        _ => Ok(words.to_vec()),
    }
}

fn prepared(server: &Server, words: &[Bytes]) -> Result<Vec<Bytes>, CommandError> {
    let all_channels = server.settings.get().acl_pubsub_default == "allchannels";
    let known = server.users.get();
    let relay_key = || random_digits(server, RELAY_KEY_DIGITS);
    acl::prepared(words, known.everywhere(), Defaults { all_channels }, relay_key)
}
