//! What clients did and were told: the only thing that checkers see.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde::Serialize;

use crate::outcome::Outcome;

/// Nanoseconds since the run began, of one clock for all clients.
pub type Time = i64;

/// The end of an operation that never ended.
pub const FOREVER: Time = Time::MAX;

/// One operation of one client, attempted once. `A` says what was attempted and, if it is ok, what was seen.
#[derive(Clone, Debug, Serialize)]
pub struct Op<A> {
    /// Its place in the order of starts.
    pub index: usize,
    /// Which client.
    pub client: usize,
    /// What it was about.
    pub key: Box<str>,
    /// What was done and seen.
    pub action: A,
    /// Taken before the first byte was sent.
    pub start: Time,
    /// Taken when the last one had come.
    pub end: Time,
    /// How it ended.
    pub outcome: Outcome,
    /// What the client was told instead of a reply of success.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Whether it was answered with something that is no reply to it: an anomaly by itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub garbled: bool,
}

impl<A> Op<A> {
    /// When it had certainly taken effect, if it did.
    pub fn until(&self) -> Time {
        if self.is_ok() { self.end } else { FOREVER }
    }

    /// Whether it succeeded.
    pub fn is_ok(&self) -> bool {
        self.outcome == Outcome::Ok
    }
}

impl<A: Display> Display for Op<A> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match self.outcome {
            Outcome::Info => "…".to_string(),
            _ => format!("{:.6}", seconds(self.end)),
        };
        let Op { index, client, key, action, outcome, error, .. } = self;
        let start = seconds(self.start);
        write!(out, "#{index} client {client} [{start:.6}, {end}] {key}: {action} -> {outcome}")?;
        if error.is_empty() { Ok(()) } else { write!(out, " ({error})") }
    }
}

/// As people read times.
pub fn seconds(time: Time) -> f64 {
    time as f64 / 1e9
}

/// Puts operations in the order of their starts, and numbers them.
pub fn seal<A>(ops: &mut [Op<A>]) {
    ops.sort_by_key(|op| op.start);
    ops.iter_mut().enumerate().for_each(|(index, op)| op.index = index);
}

/// Operations by key, in their order.
pub fn by_key<A>(ops: &[Op<A>]) -> BTreeMap<&str, Vec<&Op<A>>> {
    let mut groups = BTreeMap::<&str, Vec<_>>::new();
    for op in ops {
        groups.entry(&op.key).or_default().push(op);
    }
    groups
}
