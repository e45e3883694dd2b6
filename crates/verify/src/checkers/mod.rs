//! Checkers: pure functions from a history to anomalies. None of them knows the system under test.

pub mod register;
#[cfg(test)]
mod search;
pub mod set;

use std::fmt::{self, Display};

use serde::Serialize;

use crate::history::Op;

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
