//! What a client of quoris sees: RESP, sessions, routing, configuration, administration.

pub mod config;
pub mod limits;
pub mod resp;
