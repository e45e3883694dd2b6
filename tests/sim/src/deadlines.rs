//! What clients saw of keys that are to be gone by themselves. Each key is written once, so that it lives once: it is absent, then
//! there, then gone for good. And a lock, taken by SET NX PX and left to its deadline.
//!
//! All of it is in one slot, and so in one group's log, whose clock decides. (Where a slot moves to another group, that group's
//! clock must not be behind, or what is gone comes back.) Every call went to the node that answered it.
//! Moments are in milliseconds of the simulation, deadlines in milliseconds since the Unix epoch.

use std::collections::BTreeMap;

use crate::queues::Fate;

/// A call that was answered: by whom and when.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The node.
    pub node: u64,
    /// When it was sent.
    pub began_ms: u64,
    /// When it was answered.
    pub ended_ms: u64,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// To be there for so many milliseconds, counted by the log's clock.
    For(u64),
    /// To be there until then.
    Until(u64),
}

/// All that was seen of one key.
#[derive(Clone, Debug)]
pub struct Key {
    /// How long it is to be there.
    pub life: Life,
    /// The call that wrote it.
    pub write: Span,
    /// What became of that, and the deadline if the answer told.
    pub fate: Fate<Option<u64>>,
    /// Each look at it, and the deadline that it showed; `None` if the key was absent.
    pub looks: Vec<(Span, Option<u64>)>,
}

/// What an attempt to take the lock came to.
#[derive(Clone, Copy, Debug)]
pub enum Attempt {
    /// It was taken.
    Taken {
        /// For so many milliseconds.
        for_ms: u64,
        /// The deadline.
        until_ms: u64,
    },
    /// It was held, with this deadline.
    Held(u64),
}

/// All that was seen.
#[derive(Clone, Debug, Default)]
pub struct Deadlines {
    /// Every key that was written, by its name.
    pub keys: BTreeMap<String, Key>,
    /// The names, in the order in which their writes began.
    pub names: Vec<String>,
    /// The answered attempts to take the lock.
    pub lock: Vec<(Span, Attempt)>,
}

impl Deadlines {
    /// A key's write begins; nothing is known of its fate.
    pub fn begin(&mut self, name: &str, life: Life, write: Span) {
        self.names.push(name.to_owned());
        self.keys.insert(name.to_owned(), Key { life, write, fate: Fate::Unknown, looks: Vec::new() });
    }

    /// The key whose write has begun.
    pub fn key(&mut self, name: &str) -> &mut Key {
        self.keys.get_mut(name).expect("a key whose write has begun")
    }
}
