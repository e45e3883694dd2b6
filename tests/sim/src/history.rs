//! What clients saw, in the order in which they saw it.
//!
//! Two kinds of keys. A *register* is set to numbers that are never used twice, by any client, and read. A *list* is a
//! string to which clients append tokens that are never used twice; to read it is to see them all, in order. Moments are
//! counted, not measured: the simulator runs one thing at a time, so that the n-th event is before the n+1st.

use std::collections::BTreeMap;

use crate::deadlines::Deadlines;
use crate::queues::{self, Queue, Wait};

/// The n-th event.
pub type Moment = u64;

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was acknowledged at this moment.
    Acknowledged(Moment),
    /// It was answered as certainly not applied.
    Refused,
    /// It may have been applied, or may be yet.
    Unknown,
}

/// A number written to a register, or a token appended to a list.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// What; never 0.
    pub value: u64,
    /// When the client sent it.
    pub began: Moment,
    /// How it ended.
    pub fate: Fate,
}

/// A read of a register (one value, or none if it is empty) or of a list (all its tokens).
#[derive(Clone, Debug)]
pub struct Read {
    /// What was there.
    pub values: Vec<u64>,
    /// When the client asked.
    pub began: Moment,
    /// When it had the answer.
    pub ended: Moment,
}

/// All that happened to one key.
#[derive(Clone, Debug, Default)]
pub struct KeyHistory {
    /// In the order in which they began.
    pub writes: Vec<Write>,
    /// In the order in which they ended.
    pub reads: Vec<Read>,
}

impl KeyHistory {
    /// The write of `value`.
    pub fn write_of(&self, value: u64) -> Option<&Write> {
        self.writes.iter().find(|write| write.value == value)
    }
}

/// What a key is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SET and GET.
    Register,
    /// APPEND and GET.
    List,
}

/// A call that makes a node a member, or takes it out.
#[derive(Clone, Debug)]
pub struct MemberChange {
    /// The node.
    pub node: u64,
    /// Whether it was to join.
    pub joins: bool,
    /// Whether that was acknowledged, or answered as certainly not done; `None`: it may have been done, or may be yet.
    pub applied: Option<bool>,
}

impl std::fmt::Display for MemberChange {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "that node {} {}", self.node, if self.joins { "joins" } else { "leaves" })
    }
}

/// All that clients saw.
#[derive(Default, Debug)]
pub struct History {
    now: Moment,
    next_value: u64,
    /// Every key.
    pub keys: BTreeMap<(Kind, String), KeyHistory>,
    /// Every queue.
    pub queues: BTreeMap<String, Queue>,
    /// Keys with deadlines.
    pub deadlines: Deadlines,
    /// Calls that may have waited.
    pub waits: Vec<Wait>,
    /// Changes of the members.
    pub members: Vec<MemberChange>,
    /// Writes acknowledged, table calls included.
    pub acknowledged: u64,
    /// Writes of unknown fate.
    pub unknown: u64,
    /// Reads answered.
    pub reads: u64,
    /// Replies that do not answer their calls.
    pub strange: Vec<String>,
}

impl History {
    fn tick(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    /// A write begins; the value to write.
    pub fn begin_write(&mut self, kind: Kind, key: &str) -> u64 {
        let began = self.tick();
        self.next_value += 1;
        let value = self.next_value;
        let write = Write { value, began, fate: Fate::Unknown };
        self.keys.entry((kind, key.into())).or_default().writes.push(write);
        value
    }

    /// The write of `value` has ended: acknowledged, refused, or with its fate unknown.
    pub fn end_write(&mut self, kind: Kind, key: &str, value: u64, applied: Option<bool>) {
        let fate = match applied {
            Some(true) => Fate::Acknowledged(self.tick()),
            Some(false) => Fate::Refused,
            None => Fate::Unknown,
        };
        self.acknowledged += u64::from(applied == Some(true));
        self.unknown += u64::from(applied.is_none());
        let writes = &mut self.keys.entry((kind, key.into())).or_default().writes;
        let write = writes.iter_mut().rev().find(|write| write.value == value);
        write.expect("a write ends after it began").fate = fate;
    }

    /// A push of so many tokens to `queue` begins; the tokens.
    pub fn begin_push(&mut self, queue: &str, count: u64) -> Vec<u64> {
        let tokens: Vec<u64> = (1..=count).map(|i| self.next_value + i).collect();
        self.next_value += count;
        self.end_push(queue, &tokens, queues::Fate::Unknown);
        tokens
    }

    /// The push of `tokens` has ended.
    pub fn end_push(&mut self, queue: &str, tokens: &[u64], fate: queues::Fate<()>) {
        let queue = self.queues.entry(queue.into()).or_default();
        queue.pushes.extend(tokens.iter().map(|token| (*token, fate)));
    }

    /// A read begins.
    pub fn begin_read(&mut self) -> Moment {
        self.tick()
    }

    /// A read that began at `began` has shown `values`.
    pub fn end_read(&mut self, kind: Kind, key: &str, began: Moment, values: Vec<u64>) {
        self.reads += 1;
        let ended = self.tick();
        self.keys.entry((kind, key.into())).or_default().reads.push(Read { values, began, ended });
    }

    /// The keys of `kind`, with their histories.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = (&str, &KeyHistory)> {
        self.keys
            .iter()
            .filter(move |((of, _), _)| *of == kind)
            .map(|((_, key), history)| (key.as_str(), history))
    }
}
