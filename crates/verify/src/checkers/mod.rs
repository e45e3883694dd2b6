//! Checkers: pure functions from a history to anomalies. None of them knows the system under test.

pub mod append;
pub mod bank;
pub mod counter;
pub mod lock;
pub mod pubsub;
pub mod queue;
pub mod register;
#[cfg(test)]
mod search;
pub mod set;
pub mod stream;

use std::fmt::{self, Display};

use serde::Serialize;

use crate::history::Op;

/// The kind of what was there and then was not. Whether it would have come back, nobody knows.
const LOST_OR_STALE: &str = "lost write or stale read";

/// Something that cannot have happened if the promise was kept, with the fewest operations that show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Anomaly {
    /// Its class.
    pub kind: String,
    /// What is wrong, in a sentence.
    pub what: String,
    /// The operations that show it, as lines.
    pub operations: Vec<String>,
}

impl Anomaly {
    /// Shown by `ops`.
    pub fn new<'a, A: Display + 'a>(
        kind: &str,
        what: impl Into<String>,
        ops: impl IntoIterator<Item = &'a Op<A>>,
    ) -> Anomaly {
        let operations = ops.into_iter().map(Op::to_string).collect();
        Anomaly { kind: kind.to_string(), what: what.into(), operations }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.kind, self.what)?;
        self.operations.iter().try_for_each(|line| write!(out, "\n    {line}"))
    }
}
