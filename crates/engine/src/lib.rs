//! Everything the replicas of a group must agree on: entries in, replies out.
//!
//! [`Machine::apply`] is a pure function of (machine, entry). This crate has no clock, no randomness, no disk,
//! no network, no threads and no maps with a default hasher (`clippy.toml` forbids them): whatever an entry's
//! outcome depends on is in the entry's [`Stamp`] or in the machine's state.
//!
//! Reading order: [`entry`] (what arrives), [`command`] (one row per command), [`machine`] (apply), [`keyspace`]
//! and [`slot`] (state), [`waiters`] (calls that block), `commands/` (the handlers), [`snapshot`].

pub mod acl;
pub mod args;
pub(crate) mod births;
pub mod command;
pub mod commands;
pub mod digest;
pub mod entry;
pub mod error;
pub mod events;
pub mod fingerprint;
pub mod garbage;
pub mod geohash;
pub mod glob;
pub mod hash_slot;
pub mod key;
pub mod key_flags;
pub mod keyspace;
pub mod lookups;
pub mod machine;
mod parts;
mod prefetch;
pub mod rdb;
pub mod reply;
pub mod rng;
pub mod script;
pub mod slot;
pub(crate) mod slots;
pub mod snapshot;
pub mod topology;
pub mod value;
pub mod waiters;

/// The version of Redis whose commands and replies clients may count on.
pub const REDIS_VERSION: &str = "7.4.0";

pub use entry::{Batch, Call, Entry, Stamp};
pub use error::CommandError;
pub use hash_slot::{SLOT_COUNT, SlotId};
pub use machine::{Applied, Machine, Position};
pub use reply::Reply;
