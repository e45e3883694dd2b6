//! How entries reach every replica of a group and survive: consensus, disk, peers.
//!
//! Reading order: [`types`] (the words), [`group`] (what the server calls), `storage` (openraft's view of log and
//! machine), `network` and [`peer`] (the links between nodes), `service` (what a peer asks of us), [`node`].
//! Only `consensus`, `wire`, `storage`, `network`, `service`, `install`, `group`, `membership`, `vacancy` and `observe` name openraft; only [`env`] names the
//! operating system.

#![forbid(unsafe_code)]

pub mod audit;
mod catalog;
#[allow(missing_docs)] // openraft's words; documented there
mod consensus;
pub mod env;
mod founding;
pub mod group;
#[allow(missing_docs)] // openraft's words
mod install;
pub mod limits;
mod links;
pub mod log;
mod long_writes;
pub mod members;
mod membership;
pub mod moves;
#[allow(missing_docs)] // openraft's trait
mod network;
pub mod node;
pub mod observe;
pub mod pace;
pub mod peer;
mod pieces;
pub mod planted;
mod propose;
mod read_gate;
pub mod rebuild;
pub mod rejoin;
mod replication;
#[allow(missing_docs)]
mod service;
pub mod slot_map;
pub mod snapshot_store;
#[allow(missing_docs)]
mod standing;
#[allow(missing_docs)]
mod storage;
mod thrifty;
pub mod trust;
pub mod types;
mod upkeep;
mod vacancy;
#[allow(missing_docs)]
mod wire;

#[doc(hidden)]
pub use propose::combined;
