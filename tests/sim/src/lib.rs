//! The whole of quoris in a deterministic simulator.
//!
//! One seed is one run: the network, the disks, the clocks, the scheduler and every random number follow from it, so
//! that whatever a run shows can be looked at again.

pub mod env;
