//! What clients saw of queues: lists to which tokens that are never used twice are pushed, and calls that wait for them.
//!
//! A queue is the lists of one slot: those that tokens are pushed to, and one to which BLMOVE brings them.

use std::collections::BTreeMap;

/// What became of a push or of a call that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate<T> {
    /// Answered, with this.
    Answered(T),
    /// Certainly nothing was done.
    Refused,
    /// Something may have been done, or may be yet.
    Unknown,
}

/// How a call takes a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// BLPOP and BRPOP: it is gone.
    Pop,
    /// BLMOVE: it is in another list from then on.
    Move,
}

/// All that happened to one queue.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    /// The push of each token.
    pub pushes: BTreeMap<u64, Fate<()>>,
    /// The calls that waited for one, in the order in which they ended.
    pub takes: Vec<(Take, Fate<u64>)>,
    /// What was left at the end, when nobody took or pushed any longer; `None` if nobody has looked.
    pub left: Option<Left>,
}

/// What is left of a queue.
#[derive(Clone, Debug, Default)]
pub struct Left {
    /// In the lists that tokens are pushed to.
    pub pushed: Vec<u64>,
    /// In the one that BLMOVE brings them to.
    pub moved: Vec<u64>,
}

/// A call that may wait, until it was answered, its connection broke, or its client gave up. Moments in milliseconds.
#[derive(Clone, Debug)]
pub struct Wait {
    /// The node to which it was sent.
    pub node: u64,
    /// Whether that node may have forwarded it.
    pub plain: bool,
    /// How long it was to wait, in milliseconds.
    pub timeout_ms: u64,
    /// When it was sent.
    pub began_ms: u64,
    /// When it ended.
    pub ended_ms: u64,
}
