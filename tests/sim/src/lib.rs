//! The whole of quoris in a deterministic simulator.
//!
//! One seed is one run: the network, the disks, the clocks, the scheduler and every random number follow from it, so
//! that whatever a run shows can be looked at again. The hosts run the very server that the product runs; clients
//! speak RESP to it over the simulated network.
//!
//! Reading order: [`plan`] (what a seed draws), [`run`] (its acts), [`cluster`] (nodes and faults), [`workload`] (clients),
//! [`history`], [`queues`] and [`deadlines`] (what they saw), [`clocks`], [`long_scripts`], [`observe`] (what replicas were seen to do), [`invariants`] (what must hold), [`env`] (the
//! simulated world).

pub mod client;
pub mod clocks;
pub mod cluster;
pub mod coverage;
pub mod deadlines;
pub mod env;
pub mod history;
pub mod invariants;
pub mod long_scripts;
pub mod observe;
pub mod plan;
pub mod queues;
pub mod run;
pub mod workload;
