//! `quoris verify`: is a running cluster what it promises to be, while its owner hurts it?
//!
//! Clients work on a cluster and note what they did and what they were told. Then a checker asks, for each workload,
//! whether *any* order of the operations explains it. This crate knows RESP and nothing of quoris: no code of it is used
//! here, so that no mistake can be on both sides; and what is run against quoris is run against Redis alike.
//!
//! Reading order: `outcome`, which everything rests on; `history`; `client`; `workloads` with one of them; its
//! checker in `checkers`; `runner`.

#![forbid(unsafe_code)]

mod checkers;
mod client;
mod connection;
mod gauge;
mod history;
mod outcome;
mod plan;
mod resp;
mod run;
mod runner;
mod target;
mod verdict;
mod workloads;

pub use plan::Plan;
pub use run::{Exit, run};
