//! What a client of quoris sees: RESP, sessions, routing, configuration, administration.
//!
//! Invariants: a reply other than an error leaves only when the group below has said *applied*; an error that says
//! "not done" never leaves for a write that may be in the log; the replies of a connection leave in the order of its
//! calls. Nothing here names a socket, a clock, a thread or a source of randomness: all come from the
//! [`Env`](quoris_raft::env::Env), so that the simulator runs this very code.
//!
//! Reading order: [`server`], [`listener`], [`connection`], [`resp`], [`session`], [`route`], [`segment`], [`transaction`],
//! [`blocking`], [`forward`], then [`verbs`].

#![forbid(unsafe_code)]

pub mod access;
pub mod acl_log;
pub mod blocking;
pub mod client_memory;
pub mod clients;
pub mod cluster;
pub mod config;
pub mod connection;
pub mod ctl;
pub mod forward;
pub mod gather;
pub mod latency;
pub mod lazyfree;
pub mod limits;
pub mod listener;
pub mod mail;
pub mod memory;
pub mod meta;
pub mod metrics;
pub mod migrate;
pub mod monitor;
pub mod moves;
pub mod observe;
pub mod outgoing;
pub mod pause;
pub mod process;
pub mod pubsub;
pub mod rates;
pub mod replicas;
pub mod reply_room;
pub mod resp;
pub mod route;
pub mod save;
pub mod scripts;
pub mod segment;
pub mod server;
pub mod session;
pub mod shutdown;
pub mod slowlog;
pub mod stats;
pub mod status;
pub mod tracking;
pub mod transaction;
pub mod users;
pub mod verbs;
pub mod verify;
pub mod wait;
pub mod watcher;

/// The version of quoris.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version of Redis whose commands and replies clients may count on.
pub use quoris_engine::REDIS_VERSION;
