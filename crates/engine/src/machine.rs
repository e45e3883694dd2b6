//! One group's state machine: committed entries in, replies out.

use std::ops::RangeInclusive;

use crate::args::Args;
use crate::command::{self, Command, ReadContext, Run, WriteContext};
use crate::entry::{Batch, Call, Entry, Genesis, Stamp, Topology};
use crate::error::CommandError;
use crate::hash_slot::{SlotId, slot_of};
use crate::keyspace::Keyspace;
use crate::reply::Reply;
use crate::rng::Rng;

/// At most so many due keys and fields are removed by one entry, so that none of them stalls the group; the rest
/// are absent all the same.
const DUE_PER_ENTRY: usize = 1000;

/// What became of a batch.
#[derive(Debug, PartialEq)]
pub enum BatchOutcome {
    /// It ran: one reply for each call.
    Ran(Vec<Reply>),
    /// A watched key had changed: no call ran.
    WatchFailed,
}

/// Whether an entry's replies are of use to anybody here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    /// The node that proposed the entry waits for them.
    Wanted,
    /// A replica that only follows: calls that merely read need not run.
    Unwanted,
}

/// The state of one group. [`Machine::apply`] is its only way to change.
pub struct Machine {
    pub(crate) keyspace: Keyspace,
    pub(crate) genesis: Genesis,
    pub(crate) applied: u64,
}

impl Machine {
    /// A machine that has applied nothing. `hash_seed` (any number) keeps clients from choosing colliding keys
    /// and has no influence on what the machine does.
    pub fn new(hash_seed: u64) -> Machine {
        Machine { keyspace: Keyspace::new(hash_seed), genesis: Genesis::default(), applied: 0 }
    }

    /// The group's keys.
    pub fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// How the group was born; empty until its first entry was applied.
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The slot map and the members, in the meta group.
    pub fn topology(&self) -> Option<&Topology> {
        self.genesis.topology.as_ref()
    }

    /// The index of the last entry applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Applies entry `index`. Returns one outcome for each batch, or none at all if they are unwanted.
    ///
    /// # Panics
    /// If entries do not arrive in order: to go on would be to diverge.
    pub fn apply(&mut self, index: u64, entry: &Entry, replies: Replies) -> Vec<BatchOutcome> {
        assert!(index > self.applied, "entry {index} after entry {}", self.applied);
        self.applied = index;
        let stamp = entry.stamp.unwrap_or_default();
        self.keyspace.begin_entry(index, stamp.now_ms);
        self.keyspace.remove_due(DUE_PER_ENTRY);
        if let Some(genesis) = &entry.genesis {
            self.found(genesis);
        }
        let mut call_number = 0;
        let mut outcomes =
            Vec::with_capacity(if replies == Replies::Wanted { entry.batches.len() } else { 0 });
        for batch in &entry.batches {
            let outcome = self.run_batch(batch, &stamp, &mut call_number, replies);
            if replies == Replies::Wanted {
                outcomes.push(outcome);
            }
        }
        outcomes
    }

    /// Marks an index as applied that carries nothing for the machine (a new leader's blank entry, a membership).
    pub fn skip(&mut self, index: u64) {
        assert!(index > self.applied, "entry {index} after entry {}", self.applied);
        self.applied = index;
    }

    /// Answers calls that only read, at `now_ms`, each in turn.
    ///
    /// The caller has made sure that this replica is fresh enough for what it promises its clients.
    pub fn read(&self, calls: &[Call], now_ms: u64, seed: u64) -> Vec<Reply> {
        let now_ms = now_ms.max(self.keyspace.now_ms());
        let read = |(i, call): (usize, &Call)| match self.row_of(call) {
            Ok(row) => match row.run {
                Run::Read(run) => {
                    let mut context =
                        ReadContext { keys: &self.keyspace, now_ms, rng: Rng::for_call(seed, i as u64) };
                    run(&mut context, Args(&call.args)).unwrap_or_else(Reply::Error)
                }
                _ => unreachable!("the caller sends only reads here, not {}", row.name),
            },
            Err(error) => Reply::Error(error),
        };
        calls.iter().enumerate().map(read).collect()
    }

    /// Whether a read of `calls` at `now_ms` would meet a key whose deadline has passed but that the machine's
    /// clock has not reached: then an entry must move the clock first.
    pub fn needs_tick(&self, calls: &[Call], now_ms: u64) -> bool {
        if self.keyspace.next_deadline_ms().is_none_or(|at| at > now_ms) {
            return false;
        }
        calls.iter().any(|call| match command::resolve(&call.args) {
            Ok(row) if row.command.keys.first > 0 => {
                row.command.keys.of(&call.args).any(|key| self.keyspace.is_due(key, now_ms))
            }
            Ok(_) => true,
            Err(_) => false,
        })
    }

    fn found(&mut self, genesis: &Genesis) {
        // A group is founded once; a second proposal of the same founding changes nothing.
        if self.genesis.cluster_id.is_empty() {
            self.keyspace.set_owned(ranges(genesis));
            self.genesis = genesis.clone();
        }
    }

    fn run_batch(
        &mut self,
        batch: &Batch,
        stamp: &Stamp,
        call_number: &mut u64,
        replies: Replies,
    ) -> BatchOutcome {
        let changed = |watch: &crate::entry::Watch| self.keyspace.version_of(&watch.key) != watch.version;
        if batch.watches.iter().any(changed) {
            return BatchOutcome::WatchFailed;
        }
        let mut answers = Vec::with_capacity(if replies == Replies::Wanted { batch.calls.len() } else { 0 });
        for call in &batch.calls {
            *call_number += 1;
            let rng = Rng::for_call(stamp.seed, *call_number);
            let answer = self.run_call(call, rng, replies);
            if replies == Replies::Wanted {
                answers.push(answer);
            }
        }
        BatchOutcome::Ran(answers)
    }

    fn run_call(&mut self, call: &Call, rng: Rng, replies: Replies) -> Reply {
        let row = match self.row_of(call) {
            Ok(row) => row,
            Err(error) => return Reply::Error(error),
        };
        let args = Args(&call.args);
        let outcome = match row.run {
            Run::Write(run) => run(&mut WriteContext { keys: &mut self.keyspace, rng }, args),
            Run::Read(_) if replies == Replies::Unwanted => return Reply::Null,
            Run::Read(run) => {
                let now_ms = self.keyspace.now_ms();
                run(&mut ReadContext { keys: &self.keyspace, now_ms, rng }, args)
            }
            Run::Session(_) | Run::Container => Err(CommandError::Text("ERR not a command for the log")),
        };
        outcome.unwrap_or_else(Reply::Error)
    }

    /// The call's row, if the group serves its keys.
    fn row_of(&self, call: &Call) -> Result<&'static Command, CommandError> {
        let row = command::resolve(&call.args)?.command;
        for key in row.keys.of(&call.args) {
            let slot = slot_of(key);
            if !self.keyspace.owns(slot) {
                return Err(CommandError::WrongGroup { slot });
            }
        }
        Ok(row)
    }
}

/// The slots that a founding gives to its group.
pub(crate) fn ranges(genesis: &Genesis) -> Vec<RangeInclusive<SlotId>> {
    genesis.slots.iter().map(|range| range.start as SlotId..=range.end as SlotId).collect()
}
