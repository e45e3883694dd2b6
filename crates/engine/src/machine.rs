//! One group's state machine: committed entries in, replies out.

use std::sync::Arc;

use bytes::Bytes;

use crate::acl::{KnownUsers, User, Users};
use crate::args::Args;
use crate::command::{self, Command, Flags, ReadContext, Run, WriteContext};
use crate::commands;
use crate::digest::{Difference, Digest};
use crate::entry::decode::{Received, ReceivedBatch};
use crate::entry::{
    self, Batch, Call, Check, DecodeError, Entry, Genesis, Moves, Part, SlotRange, Stamp, Topology,
    UserState, Watch,
};
use crate::error::CommandError;
use crate::events::{EventClass, KeyEvent};
use crate::garbage::Garbage;
use crate::hash_slot::{SLOT_COUNT, SlotId, slot_of};
use crate::keyspace::Keyspace;
use crate::lookups::Lookups;
use crate::parts::{Parts, Taken};
use crate::reply::Reply;
use crate::rng::Rng;
use crate::script::{self, Budget, ReadOnly, Reads, Scripts};
use crate::value::Bounds;
use crate::waiters::WaiterId;

/// Slots whose changes since a snapshot are brought together with their tables, with each entry.
const SETTLED_PER_ENTRY: usize = 8;

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
    /// It came in parts, of which some were missing: no call ran.
    PartMissing,
}

/// What a read gives.
pub enum Read {
    /// Its reply.
    Reply(Reply),
    /// The script whose answer is the reply, to be run when the machine is let go of.
    Script(Box<ReadOnly>),
}

/// An entry's place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The term of the leader that made the entry.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

/// Why an entry cannot be applied. Nothing has changed, and nothing after it may be applied either.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Its bytes are none.
    #[error("entry {0} cannot be read: {1}")]
    NotAnEntry(u64, DecodeError),
    /// It is to be applied by rules that this build does not know.
    #[error(
        "entry {0} was written by a newer build of quoris (version {1} of its rules, this build knows {known}): \
         start that build or a later one",
        known = entry::VERSION
    )]
    NewerVersion(u64, u32),
}

/// What an entry gave, besides the new state.
#[derive(Debug, Default, PartialEq)]
pub struct Applied {
    /// One for each batch, or none at all if they are unwanted.
    pub outcomes: Vec<BatchOutcome>,
    /// Answers to calls that have blocked, in the order in which they were served.
    pub served: Vec<(WaiterId, Reply)>,
    /// What happened to keys, if somebody observes ([`Machine::observe`]).
    pub events: Vec<KeyEvent>,
    /// The entry had no batches: whatever time it took, due keys took.
    pub tick: bool,
    /// How many keys were removed because they were due.
    pub expired: usize,
    /// What is to be freed where nobody waits for it.
    pub garbage: Garbage,
    /// The entry wants the whole state, as it is now, to be digested.
    pub audit: bool,
    /// The group serves other slots than before.
    pub moved: bool,
    /// There are other users than before, or it is known now who there are.
    pub users: bool,
    /// There are other members than before, or it is known now who they are.
    pub members: bool,
}

/// When keys that are due are removed. They are absent either way, and until then they count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// By the next entry.
    #[default]
    AtOnce,
    /// When somebody reads them.
    WhenRead,
    /// Not now.
    Later,
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
    pub(crate) term: u64,
    pub(crate) digest: Digest,
    pub(crate) scripts: Scripts,
    pub(crate) users: KnownUsers,
    pub(crate) parts: Parts,
    lookups: Lookups,
    /// Room for the next entry.
    received: Received,
}

impl Machine {
    /// A machine that has applied nothing. `hash_seed` (any number) keeps clients from choosing colliding keys
    /// and has no influence on what the machine does.
    pub fn new(hash_seed: u64) -> Machine {
        Machine {
            keyspace: Keyspace::new(hash_seed),
            genesis: Genesis::default(),
            applied: 0,
            term: 0,
            digest: Digest::default(),
            scripts: Scripts::default(),
            users: KnownUsers::default(),
            parts: Parts::default(),
            lookups: Lookups::default(),
            received: Received::default(),
        }
    }

    /// The group's keys.
    pub fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// How the group was born; empty until its first entry was applied.
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The members, and the slots of each group at the founding, in the meta group.
    pub fn topology(&self) -> Option<&Topology> {
        self.genesis.topology.as_ref()
    }

    fn members_epoch(&self) -> u64 {
        self.topology().map_or(0, |topology| topology.epoch)
    }

    /// The index of the last entry applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Begins or ends the noting of [`KeyEvent`]s, for watchers on this node. Without influence on the state.
    pub fn observe(&mut self, observe: bool) {
        self.keyspace.observe(observe);
    }

    /// Whether events are noted.
    pub fn is_observed(&self) -> bool {
        self.keyspace.is_observed()
    }

    /// How many calls are blocked.
    pub fn blocked(&self) -> usize {
        self.keyspace.waiters.iter().count()
    }

    /// What a leader should publish of its replica, if there is anything that no check has covered.
    pub fn unchecked_digest(&self) -> Option<Check> {
        self.digest.unchecked()
    }

    /// The newest check that found this replica to be what its leader's was.
    pub fn verified(&self) -> Option<Check> {
        self.digest.verified()
    }

    /// What a check has found: this replica is not the leader's, and must not serve.
    pub fn difference(&self) -> Option<Difference> {
        self.digest.difference()
    }

    /// Forgets what a check has found: whole states were compared, and it was the leader that was wrong.
    pub fn forget_difference(&mut self) {
        self.digest.forget_difference();
    }

    /// [`Machine::apply`] of an encoded entry, whose bytes go into the running digest.
    ///
    /// # Errors
    /// If it is none, or one of a newer build.
    pub fn apply_bytes(
        &mut self,
        at: Position,
        bytes: Bytes,
        replies: Replies,
    ) -> Result<Applied, ApplyError> {
        let room = std::mem::take(&mut self.received);
        let received = room.decode_here(&bytes).map_err(|error| ApplyError::NotAnEntry(at.index, error))?;
        match received.entry.version {
            0..=entry::VERSION => {}
            newer => return Err(ApplyError::NewerVersion(at.index, newer)),
        }
        self.digest.note(&bytes);
        let applied = self.apply_received(at, &received, replies);
        self.received = received;
        self.received.clear();
        Ok(applied)
    }

    /// Applies the entry at `at`.
    ///
    /// # Panics
    /// If entries do not arrive in order: to go on would be to diverge.
    pub fn apply(&mut self, at: Position, entry: &Entry, replies: Replies) -> Applied {
        self.apply_received(at, &Received::from(entry.clone()), replies)
    }

    fn apply_received(&mut self, at: Position, received: &Received, replies: Replies) -> Applied {
        let entry = &received.entry;
        let mut applied = self.skip(at);
        let epoch = self.members_epoch();
        let stamp = entry.stamp.unwrap_or_default();
        self.keyspace.begin_entry(at.index, stamp.now_ms, Bounds::of(stamp.bounds));
        if !stamp.keep_due {
            self.keyspace.remove_due(DUE_PER_ENTRY);
        }
        if let Some(genesis) = &entry.genesis {
            self.found(genesis);
        }
        self.keyspace.prefetch(received.calls());
        let mut run = EntryRun::new(stamp, replies);
        self.serve_waiters(&mut run, &mut applied.served);
        for batch in received.batches() {
            match &batch.batch.part {
                None => self.apply_batch(&batch, &mut run, &mut applied),
                Some(part) => self.take_part(part, &mut run, &mut applied),
            }
        }
        applied.events = self.keyspace.take_events();
        applied.tick = received.batches().len() == 0;
        applied.expired = self.keyspace.take_expired();
        self.keyspace.settle(SETTLED_PER_ENTRY);
        applied.garbage = self.keyspace.take_garbage();
        applied.audit = entry.audit;
        applied.moved = self.keyspace.take_moved();
        applied.users = self.users.take_changed();
        applied.members = self.members_epoch() != epoch;
        self.end_digest(at, entry);
        applied
    }

    fn apply_batch(&mut self, batch: &ReceivedBatch, run: &mut EntryRun, applied: &mut Applied) {
        self.keyspace.origin = batch.batch.origin;
        let outcome = self.run_batch(batch, run);
        self.keyspace.origin = 0;
        if run.replies == Replies::Wanted {
            applied.outcomes.push(outcome);
        }
        self.serve_waiters(run, &mut applied.served);
    }

    /// A part of a write that comes in several; with the last, its batches are applied.
    fn take_part(&mut self, part: &Part, run: &mut EntryRun, applied: &mut Applied) {
        let received = match self.parts.take(part) {
            Taken::Begun => return run.note(applied, 1, || BatchOutcome::Ran(vec![Reply::OK])),
            // What is no batches is what nobody has proposed.
            Taken::Whole(bytes) => Received::decode(&bytes).ok(),
            Taken::NotNext => None,
        };
        let Some(received) = received else {
            return run.note(applied, part.batches as usize, || BatchOutcome::PartMissing);
        };
        self.keyspace.prefetch(received.calls());
        received.batches().for_each(|batch| self.apply_batch(&batch, run, applied));
    }

    fn end_digest(&mut self, at: Position, entry: &Entry) {
        self.digest.note(&(self.keyspace.len() as u64).to_le_bytes());
        self.digest.note(&(self.keyspace.expiring() as u64).to_le_bytes());
        self.digest.end_entry(at.index, entry.check.as_ref());
    }

    /// Marks an entry as applied that carries nothing for the machine (a new leader's blank entry, a membership).
    pub fn skip(&mut self, at: Position) -> Applied {
        assert!(at.index > self.applied, "entry {} after entry {}", at.index, self.applied);
        assert!(at.term >= self.term, "term {} after term {}", at.term, self.term);
        self.applied = at.index;
        let mut applied = Applied::default();
        if at.term > self.term {
            self.term = at.term;
            self.parts.forget();
            let unblocked = |id| (id, Reply::Error(CommandError::Unblocked));
            applied.served = self.keyspace.waiters.clear().into_iter().map(unblocked).collect();
        }
        applied
    }

    /// Answers calls that only read, at `now_ms`, each in turn.
    ///
    /// The caller has made sure that this replica is fresh enough for what it promises its clients.
    pub fn read(&self, calls: &[Call], now_ms: u64, seed: u64) -> Vec<Read> {
        let now_ms = now_ms.max(self.keyspace.now_ms());
        if calls.len() > 1 {
            self.keyspace.prefetch(calls.iter().map(|call| &call.args[..]));
        }
        let read = |(i, call): (usize, &Call)| match self.row_of(&call.args) {
            Ok(row) => match row.run_for(&call.args) {
                Run::Read(run) => {
                    let mut script = None;
                    let rng = Rng::for_call(seed, i as u64);
                    let mut context = self.read_context(now_ms, rng, Reads::Later(&mut script), None);
                    let reply = run(&mut context, Args(&call.args)).unwrap_or_else(Reply::Error);
                    self.lookups.note(&self.keyspace, row, Args(&call.args));
                    script.map_or(Read::Reply(reply), |script| Read::Script(Box::new(script)))
                }
                _ => unreachable!("the caller sends only reads here, not {}", row.name),
            },
            Err(error) => Read::Reply(Reply::Error(error)),
        };
        calls.iter().enumerate().map(read).collect()
    }

    /// The script that a call runs in the log, to be tried out beforehand; `None` if that does not come to run one.
    pub fn rehearsal(&self, call: &Call, seed: u64) -> Option<ReadOnly> {
        self.row_of(&call.args).ok()?;
        let run = commands::script::writing(&self.scripts, Args(&call.args))?;
        script::rehearsal(&self.keyspace, Rng::for_call(seed, 0), &run)
    }

    /// What a call answers that names no key although its command has keys: an error, whatever any replica holds.
    pub fn refuse(call: &Call) -> Reply {
        let mut run = EntryRun::new(Stamp::default(), Replies::Wanted);
        Machine::new(0).run_call(&call.args, &mut run, Replies::Wanted, Blocking::Never)
    }

    fn read_context<'a>(
        &'a self,
        now_ms: u64,
        rng: Rng,
        scripting: Reads<'a>,
        rights: Option<&'a Arc<User>>,
    ) -> ReadContext<'a> {
        let (keys, scripts, users) = (&self.keyspace, &self.scripts, Some(&**self.users.get()));
        ReadContext { keys, now_ms, rng, scripts, users, rights, scripting, in_script: false }
    }

    /// Who may do what, in the meta group.
    pub fn users(&self) -> &Arc<Users> {
        self.users.get()
    }

    /// How often calls have found the keys that they read here.
    pub fn lookups(&self) -> &Lookups {
        &self.lookups
    }

    /// The group's scripts and libraries.
    pub fn scripts(&self) -> &Scripts {
        &self.scripts
    }

    /// What must be applied before `calls` are read at `now_ms`, for none of them to meet a key whose deadline has passed
    /// but that the machine's clock has not reached: `None` if nothing, else the batches of an entry, which moves the clock.
    pub fn before_read(&self, calls: &[Call], now_ms: u64, expiry: Expiry) -> Option<Vec<Batch>> {
        let keys = &self.keyspace;
        if keys.next_deadline_ms().is_none_or(|at| at >= now_ms) {
            return None;
        }
        let (mut late, mut due) = (false, Vec::new());
        for call in calls {
            match command::resolve(&call.args) {
                Ok(row) if row.command.keys.any() => {
                    // DEBUG looks at what is there, due or not.
                    let looks_on = row.container.is_some_and(|container| container.name == "debug");
                    let removes = expiry == Expiry::WhenRead && !looks_on;
                    for key in row.command.keys.of(&call.args) {
                        late |= keys.is_due(key, now_ms);
                        if removes && keys.is_stored_and_due(key, now_ms) {
                            due.push(key.clone());
                        }
                    }
                }
                Ok(_) => late = true,
                Err(_) => {}
            }
        }
        match due.is_empty() {
            true => late.then(Vec::new),
            false => Some(vec![Batch::expire(due)]),
        }
    }

    fn found(&mut self, genesis: &Genesis) {
        // A group is founded once; a second proposal of the same founding changes nothing.
        if self.genesis.cluster_id.is_empty() {
            self.keyspace.found(slots(genesis));
            self.genesis = genesis.clone();
            self.users.set_changed();
        }
    }

    fn run_batch(&mut self, received: &ReceivedBatch, run: &mut EntryRun) -> BatchOutcome {
        let ReceivedBatch { batch, .. } = *received;
        if batch.cancel != 0 {
            return BatchOutcome::Ran(vec![Reply::flag(self.keyspace.waiters.remove(batch.cancel))]);
        }
        if !batch.evict.is_empty() {
            return BatchOutcome::Ran(vec![self.evict(&batch.evict)]);
        }
        if !batch.expire.is_empty() {
            return BatchOutcome::Ran(vec![self.expire(&batch.expire)]);
        }
        if let Some(moves) = &batch.moves {
            return BatchOutcome::Ran(vec![self.move_slots(moves)]);
        }
        let changed = |watch: &Watch| self.keyspace.version_of(&watch.key) != watch.version;
        if batch.watches.iter().any(changed) {
            return BatchOutcome::WatchFailed;
        }
        if batch.rights.is_some() || run.rights.is_some() {
            run.set_rights(batch);
        }
        let wanted = run.replies == Replies::Wanted;
        let mut answers = Vec::with_capacity(if wanted { received.calls().len() } else { 0 });
        for call in received.calls() {
            let answer = self.run_call(call, run, run.replies, Blocking::of(batch));
            if batch.tracked {
                self.note_read(call, batch.origin);
            }
            let answer = match answer {
                Reply::Block(block) => {
                    assert!(!batch.transaction, "no call of a transaction blocks");
                    let timeout_ms = block.timeout_ms;
                    Reply::Blocked { id: self.keyspace.waiters.add(*block), timeout_ms }
                }
                answer => answer,
            };
            if wanted {
                answers.push(answer);
            }
        }
        BatchOutcome::Ran(answers)
    }

    fn evict(&mut self, victims: &[Watch]) -> Reply {
        let mut evicted = 0;
        for victim in victims {
            let is_same = self.keyspace.version_of(&victim.key) == victim.version;
            if is_same && self.keyspace.remove(&victim.key).is_some() {
                self.keyspace.notify(EventClass::EVICTED, "evicted", &victim.key);
                evicted += 1;
            }
        }
        let reply = Reply::count(evicted);
        self.digest.note_reply(&reply);
        reply
    }

    fn expire(&mut self, keys: &[Bytes]) -> Reply {
        let reply = Reply::count(self.keyspace.remove_due_among(keys, DUE_PER_ENTRY));
        self.digest.note_reply(&reply);
        reply
    }

    /// A step of slots on their way to another group, or from one.
    fn move_slots(&mut self, moves: &Moves) -> Reply {
        let keys = &mut self.keyspace;
        let reply = match (&moves.leave, &moves.arrive) {
            (Some(leave), _) => Reply::count(keys.leave(leave.to, &leave.slots)),
            (None, Some(piece)) => match keys.arrive(piece) {
                Ok(taken) => Reply::flag(taken),
                Err(why) => Reply::Error(CommandError::Message(format!("ERR no piece of a slot: {why}"))),
            },
            (None, None) if !moves.seal.is_empty() => Reply::count(keys.seal(&moves.seal)),
            (None, None) => Reply::count(keys.forget(&moves.forget)),
        };
        self.digest.note_reply(&reply);
        reply
    }

    /// Notes which keys a call has read, if it is one that only reads. Of a script's, whoever waits for it knows.
    fn note_read(&mut self, words: &[Bytes], origin: u64) {
        if let Ok(row) = command::resolve(words)
            && row.command.flags.contains(Flags::READONLY)
            && !row.command.runs_script()
        {
            self.keyspace.read_by(origin, row.command.keys.of(words));
        }
    }

    /// Runs the calls again that wait for a key which has changed, until none has anything to answer.
    fn serve_waiters(&mut self, run: &mut EntryRun, served: &mut Vec<(WaiterId, Reply)>) {
        let gone = |(id, slot)| (id, Reply::Error(CommandError::WrongGroup { slot }));
        served.extend(self.keyspace.waiters.take_left().into_iter().map(gone));
        while let Some((key, waiters)) = self.keyspace.waiters.next_changed() {
            for id in waiters {
                let Some(waiter) = self.keyspace.waiters.get(id) else { continue };
                if !waiter.wants_absence && !self.keyspace.contains(&key) {
                    continue;
                }
                let call = waiter.call.clone().unwrap_or_default();
                // No call that blocks runs a script.
                run.rights = None;
                match self.run_call(&call.args, run, Replies::Wanted, Blocking::Woken) {
                    // A key that has come to hold another type is as good as absent to who waits for it.
                    Reply::Block(_) | Reply::Error(CommandError::WrongType) => {}
                    answer => {
                        self.keyspace.waiters.remove(id);
                        served.push((id, answer));
                    }
                }
            }
        }
    }

    fn run_call(
        &mut self,
        words: &[Bytes],
        run: &mut EntryRun,
        replies: Replies,
        blocking: Blocking,
    ) -> Reply {
        let rng = run.rng();
        let row = match self.row_of(words) {
            Ok(row) => row,
            Err(error) => return Reply::Error(error),
        };
        let args = Args(words);
        let outcome = match row.run_for(words) {
            Run::Write(handler) => {
                let mut context = WriteContext {
                    keys: &mut self.keyspace,
                    rng,
                    may_block: blocking != Blocking::Never,
                    woken: blocking == Blocking::Woken,
                    scripts: &mut self.scripts,
                    users: Some(&mut self.users),
                    genesis: Some(&mut self.genesis),
                    rights: run.rights.as_ref(),
                    budget: run.budget(),
                    in_script: false,
                };
                let reply = handler(&mut context, args).unwrap_or_else(Reply::Error);
                self.digest.note_reply(&reply);
                return reply;
            }
            Run::Read(_) if replies == Replies::Unwanted => return Reply::Null,
            Run::Read(handler) => {
                self.lookups.note(&self.keyspace, row, args);
                let scripting = Reads::Within(run.budget());
                let rights = run.rights.as_ref();
                handler(&mut self.read_context(self.keyspace.now_ms(), rng, scripting, rights), args)
            }
            Run::Session(_) | Run::Container | Run::ByWords(_) => {
                Err(CommandError::Text("ERR not a command for the log"))
            }
        };
        outcome.unwrap_or_else(Reply::Error)
    }

    /// The call's row, if the group serves its keys.
    fn row_of(&self, words: &[Bytes]) -> Result<&'static Command, CommandError> {
        let row = command::resolve(words)?.command;
        let is_served = |key: &Bytes| match slot_of(key) {
            slot if self.keyspace.owns(slot) => Ok(()),
            slot => Err(CommandError::WrongGroup { slot }),
        };
        match row.keys.only(words) {
            Some(key) => is_served(key)?,
            None => row.keys.of(words).try_for_each(is_served)?,
        }
        Ok(row)
    }
}

/// What a call does that finds nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blocking {
    /// It answers at once.
    Never,
    /// It may wait.
    May,
    /// It has waited, and may go on.
    Woken,
}

impl Blocking {
    fn of(batch: &Batch) -> Blocking {
        if batch.transaction { Blocking::Never } else { Blocking::May }
    }
}

/// What the calls of one entry share.
struct EntryRun {
    stamp: Stamp,
    /// How many calls have run.
    calls: u64,
    replies: Replies,
    /// Under whose rights the scripts of the batch run; `None`: under everybody's.
    rights: Option<Arc<User>>,
    /// The last ones that were given, and what they are.
    known_rights: Option<(UserState, Arc<User>)>,
}

impl EntryRun {
    fn new(stamp: Stamp, replies: Replies) -> EntryRun {
        EntryRun { stamp, calls: 0, replies, rights: None, known_rights: None }
    }

    /// `batch` begins, and it or the one before has fewer than all rights.
    #[cold]
    fn set_rights(&mut self, batch: &Batch) {
        self.rights = match (batch.rights.as_deref(), &self.known_rights) {
            (None, _) => None,
            (Some(state), Some((known, user))) if state == known => Some(Arc::clone(user)),
            (Some(state), _) => {
                let user = batch.user();
                self.known_rights = user.clone().map(|user| (state.clone(), user));
                user
            }
        };
    }

    /// What each script may use.
    fn budget(&self) -> Budget {
        let default = Budget::default();
        let instructions = match self.stamp.script_instructions {
            0 => default.instructions,
            set => set,
        };
        let bytes = match self.stamp.script_bytes {
            0 => default.bytes,
            set => set as usize,
        };
        let Stamp { out_of_memory, few_replicas, .. } = self.stamp;
        Budget { instructions, bytes, out_of_memory, few_replicas }
    }

    /// Notes so many outcomes, if they are wanted.
    fn note(&self, applied: &mut Applied, outcomes: usize, outcome: impl FnMut() -> BatchOutcome) {
        if self.replies == Replies::Wanted {
            applied.outcomes.extend(std::iter::repeat_with(outcome).take(outcomes));
        }
    }

    /// The generator of the next call.
    fn rng(&mut self) -> Rng {
        self.calls += 1;
        Rng::for_call(self.stamp.seed, self.calls)
    }
}

/// The slots that a founding gives to its group.
fn slots(genesis: &Genesis) -> impl Iterator<Item = SlotId> + '_ {
    let ids = |range: &SlotRange| range.start..=range.end.min(u32::from(SLOT_COUNT) - 1);
    genesis.slots.iter().flat_map(ids).map(|slot| slot as SlotId)
}
