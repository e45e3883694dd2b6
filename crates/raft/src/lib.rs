//! How entries reach every replica of a group and survive: consensus, disk, peers.
//!
//! Only `types`, `storage`, `network` and `group` name openraft; only [`env`] names the operating system.

pub mod catalog;
pub mod env;
pub mod log;
pub mod snapshot_store;
pub mod types;
