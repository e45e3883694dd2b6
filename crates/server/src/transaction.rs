//! MULTI, EXEC, WATCH: calls that are queued, and then run all together or not at all.
//!
//! The calls with keys of a transaction are one [`Batch`] of one log entry, so every replica runs all of them with nothing
//! in between, or none; if they only read, they are read at one moment. A watched key is remembered with its version, the
//! index of its last change, which is the same on every replica: so WATCH holds across leaders, and on whichever node
//! the client is connected to. Commands of the session (PING, CONFIG …) run in their place once the batch has run.
//!
//! Invariants: the keys of the calls and those watched share a slot; of a transaction whose fate is unknown the client is
//! told UNKNOWN, and nothing else of it runs.

use std::collections::BTreeMap;

use bytes::Bytes;
use quoris_engine::command::{self, Command, Gather, Resolved, Run, Verb};
use quoris_engine::entry::{Message, Watch};
use quoris_engine::hash_slot::slot_of;
use quoris_engine::machine::BatchOutcome;
use quoris_engine::{Batch, Call, CommandError, Reply, SlotId};
use quoris_raft::group::Group;
use quoris_raft::planted::{Bug, is_planted};
use quoris_raft::types::WriteOutcome;

use crate::acl_log::Context;
use crate::client_memory::Held;
use crate::forward::{self, Patience};
use crate::limits;
use crate::moves;
use crate::replicas;
use crate::resp::{Answer, reply};
use crate::route::{self, Place, Route};
use crate::scripts;
use crate::server::Server;
use crate::session::{Behalf, Session};

const ABORTED: CommandError =
    CommandError::Text("EXECABORT Transaction discarded because of previous errors.");
const TOO_LARGE: CommandError = CommandError::Text("ERR the transaction is too large");
const TOO_WIDE: CommandError =
    CommandError::Text("ERR a write over all keys cannot share a transaction with calls that have keys");

/// Calls that wait for EXEC.
#[derive(Default)]
pub struct Transaction {
    queued: Vec<Queued>,
    bytes: usize,
    /// Whether a call was refused: EXEC will run nothing.
    pub broken: bool,
    /// Whether any call has keys.
    keyed: bool,
    /// Whether any call writes over all keys.
    wide: bool,
}

/// A call that waits.
struct Queued {
    words: Vec<Bytes>,
    kind: Kind,
}

enum Kind {
    /// Part of the batch.
    Keyed(&'static Command),
    /// Run by the session.
    Verb(Resolved, Verb),
    /// Asked of every group.
    Gather(&'static Command),
    /// Allowed no longer: its answer.
    Denied(CommandError),
}

/// Watched keys and the versions they had.
pub type Watched = BTreeMap<Bytes, u64>;

/// What EXEC answers that may not run.
pub fn discarded(why: &CommandError) -> CommandError {
    CommandError::Message(format!("EXECABORT Transaction discarded because of: {why}"))
}

/// Whether a call that comes after MULTI waits for EXEC.
pub fn is_queued(route: &Route) -> bool {
    let at_once = [Verb::Exec, Verb::Discard, Verb::Multi, Verb::Watch, Verb::Quit, Verb::Reset];
    !matches!(route, Route::Session(_, verb) if at_once.contains(verb))
}

impl Transaction {
    /// Queues a call. A refusal breaks the transaction.
    pub fn queue(&mut self, route: Route, words: Vec<Bytes>) -> Result<(), CommandError> {
        let queued = self.admit(route, words);
        self.broken |= queued.is_err();
        if !self.broken {
            self.queued.extend(queued.ok());
            return Ok(());
        }
        // What will never run need not be kept.
        self.queued.clear();
        queued.map(|_| ())
    }

    fn admit(&mut self, route: Route, words: Vec<Bytes>) -> Result<Queued, CommandError> {
        let (row, kind) = match route {
            Route::Group(row, _) => (row, Kind::Keyed(row)),
            Route::Session(resolved, verb) => (resolved.command, Kind::Verb(resolved, verb)),
            Route::Gather(row) => (row, Kind::Gather(row)),
        };
        if row.flags.contains(command::Flags::NO_MULTI) {
            return Err(CommandError::Text("ERR Command not allowed inside a transaction"));
        }
        self.keyed |= matches!(kind, Kind::Keyed(_));
        // A call without keys of a command that has some will be refused: it writes nothing.
        let over_keys = !matches!(row.gather, Gather::None | Gather::Meta);
        self.wide |= matches!(kind, Kind::Gather(_)) && row.is_write() && over_keys;
        if self.keyed && self.wide {
            return Err(TOO_WIDE);
        }
        if self.queued.len() >= limits::QUEUED_CALLS || self.bytes >= limits::QUEUED_BYTES {
            return Err(TOO_LARGE);
        }
        self.bytes += words.iter().map(Bytes::len).sum::<usize>();
        Ok(Queued { words, kind })
    }

    /// The calls that are one batch.
    fn batch(&self) -> Vec<Call> {
        self.keyed_calls().map(|(_, words)| Call { args: words.to_vec() }).collect()
    }

    fn keyed_calls(&self) -> impl Iterator<Item = (&'static Command, &[Bytes])> {
        self.queued.iter().filter_map(|queued| match queued.kind {
            Kind::Keyed(row) => Some((row, &queued.words[..])),
            Kind::Verb(..) | Kind::Gather(_) | Kind::Denied(_) => None,
        })
    }

    /// Looks again whether each call is allowed: the user may have other rights than when they were queued.
    fn check_again(&mut self, session: &Session) {
        let Some(rights) = session.rights() else { return };
        for queued in &mut self.queued {
            let Some(row) = command::lookup(&queued.words) else { continue };
            let Err(error) = rights.check(row, &queued.words) else { continue };
            queued.kind = Kind::Denied(match error {
                CommandError::Denied(refused) => {
                    let (user, client) = (&session.user().name, session.client.line());
                    session.server.acl_log.refused(&refused, Context::Multi, user, client);
                    CommandError::Message(refused.since_queued())
                }
                other => other,
            });
        }
    }

    /// How many calls wait.
    pub fn count(&self) -> usize {
        self.queued.len()
    }

    /// Bytes of the calls that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether any call may need more memory.
    pub fn may_grow(&self) -> bool {
        self.keyed_calls().any(|(row, _)| row.flags.contains(command::Flags::DENYOOM))
    }

    /// Whether CLIENT PAUSE holds EXEC back together with writes.
    pub fn is_held_with_writes(&self, server: &Server) -> bool {
        self.queued.iter().any(|queued| {
            let row = match queued.kind {
                Kind::Keyed(row) | Kind::Gather(row) => row,
                Kind::Verb(resolved, _) => resolved.command,
                Kind::Denied(_) => return false,
            };
            server.is_held_with_writes(row, &queued.words)
        })
    }
}

/// What became of a batch.
enum Committed {
    /// It ran: an answer for each call.
    Ran(Vec<Answer>),
    /// A watched key has changed.
    Changed,
    /// The error that EXEC answers.
    Failed(Answer),
}

/// EXEC.
pub async fn exec(session: &mut Session) -> Answer {
    let Some(mut transaction) = session.transaction.take() else {
        return Answer::error(CommandError::Text("ERR EXEC without MULTI"));
    };
    let watched = std::mem::take(&mut session.watched);
    session.note_queued();
    if transaction.broken {
        session.caching_is_over();
        return Answer::error(ABORTED);
    }
    transaction.check_again(session);
    let calls = transaction.batch();
    let mode = session.tracking.filter(|mode| mode.notes_reads());
    // What a transaction reads that also writes is noted in the log's order, but for scripts.
    let tracked = mode.filter(|_| calls.iter().any(is_write)).map(|mode| mode.origin);
    for (row, words) in transaction.keyed_calls().filter(|(row, _)| tracked.is_none() || row.runs_script()) {
        session.note_reads(row, words);
    }
    session.caching_is_over();
    let committed = commit(session, calls, watched, tracked).await;
    session.scripts_have_run();
    let mut ran = match committed {
        Ok(Committed::Ran(answers)) => answers.into_iter(),
        Ok(Committed::Changed) => return Answer::Own(Reply::NullArray),
        Ok(Committed::Failed(answer)) => return answer,
        Err(error) => return Answer::error(error),
    };
    let mut answers = Vec::with_capacity(transaction.queued.len());
    for Queued { words, kind } in transaction.queued {
        answers.push(match kind {
            Kind::Keyed(row) => {
                let answer = ran.next().expect("an answer for each call");
                session.server.ran(&session.client, row, Some(&words), 0, answer.is_error());
                answer
            }
            Kind::Verb(resolved, verb) => Box::pin(session.run_queued_verb(resolved, verb, &words)).await,
            Kind::Gather(row) => Answer::Own(session.gather(row, words).await),
            Kind::Denied(error) => Answer::error(error),
        });
    }
    Answer::Many(answers)
}

/// Runs `calls` if no key of `watched` has changed; what they read is `tracked` for the client with that mark.
async fn commit(
    session: &mut Session,
    calls: Vec<Call>,
    watched: Watched,
    tracked: Option<u64>,
) -> Result<Committed, CommandError> {
    let mut by_slot: BTreeMap<SlotId, Vec<Watch>> = BTreeMap::new();
    for (key, version) in watched {
        by_slot.entry(slot_of(&key)).or_default().push(Watch { key, version });
    }
    let Some(slot) = slot_of_calls(&calls)? else {
        // Nothing is done at the moment at which the keys are looked at, so each slot may have its own.
        for (slot, watches) in by_slot {
            match run(session, slot, Batch::transaction(Vec::new(), watches)).await? {
                Committed::Ran(_) => {}
                other => return Ok(other),
            }
        }
        return Ok(Committed::Ran(Vec::new()));
    };
    let watches = by_slot.remove(&slot).unwrap_or_default();
    if !by_slot.is_empty() {
        return Err(CommandError::CrossSlot);
    }
    let Behalf { origin, rights } = session.caller().behalf;
    let has_script = rights.is_some() && calls.iter().any(|call| scripts::is_script(&call.args));
    let batch = Batch::transaction(calls, watches).by(tracked.unwrap_or(origin));
    let batch = batch.under(rights.as_deref().filter(|_| has_script));
    let batch = Batch { tracked: tracked.is_some(), ..batch };
    run(session, slot, batch).await
}

/// The slot of all calls' keys; `None` without calls.
fn slot_of_calls(calls: &[Call]) -> Result<Option<SlotId>, CommandError> {
    let mut keys = Vec::new();
    for call in calls {
        keys.extend(command::resolve(&call.args)?.command.keys.of(&call.args));
    }
    route::one_slot(keys.into_iter())
}

fn writes(batch: &Batch) -> bool {
    batch.calls.iter().any(is_write)
}

fn is_write(call: &Call) -> bool {
    command::resolve(&call.args).is_ok_and(|row| row.command.writes(&call.args))
}

/// Runs a batch whose keys are in `slot`, wherever that is led.
async fn run(session: &mut Session, slot: SlotId, batch: Batch) -> Result<Committed, CommandError> {
    let (server, caller) = (session.server.clone(), session.caller());
    let write = writes(&batch);
    // Replicas that may be stale are no place for a transaction.
    let access = route::Access { readonly: false, ..session.access() };
    moves::settled(&server, slot).await;
    let mut seat = route::seat(&server.node, slot, write, access)?;
    if write {
        session.written.insert(seat.group.id());
    }
    let patience = Patience::new(&server, caller.plain);
    loop {
        let committed = match seat.place {
            Place::Here => here(&server, &seat.group, slot, batch.clone()).await,
            Place::At(node) => {
                let words = [Bytes::from("QUORIS"), Bytes::from("TRANSACTION"), batch.encode_to_vec().into()];
                let answers =
                    forward::forward(&server, node, caller.protocol, &[Call::new(words)], write).await;
                committed_there(answers)
            }
        };
        match committed {
            Committed::Failed(answer) if answer.is_misplaced() => match patience.next(&server, slot).await {
                Some(next) => {
                    if write {
                        session.written.insert(next.group.id());
                    }
                    seat = next;
                }
                None => return Ok(Committed::Failed(forward::for_client(answer, caller.plain))),
            },
            committed => return Ok(committed),
        }
    }
}

/// What another node answered to QUORIS TRANSACTION.
fn committed_there(answers: Vec<Answer>) -> Committed {
    match answers.into_iter().next() {
        Some(Answer::Raw(bytes)) if bytes.starts_with(b"*-") || bytes.starts_with(b"_") => Committed::Changed,
        Some(Answer::Raw(bytes)) => match reply::elements(&bytes) {
            Some(elements) => Committed::Ran(elements.into_iter().map(Answer::Raw).collect()),
            None => Committed::Failed(Answer::Raw(bytes)),
        },
        Some(answer) => Committed::Failed(answer),
        None => unreachable!("an answer for each call"),
    }
}

/// Runs a batch in this node's replica.
async fn here(server: &Server, group: &Group, slot: SlotId, batch: Batch) -> Committed {
    let refused =
        |refusal| Committed::Failed(Answer::error(route::refused(&server.node, refusal, Some(slot))));
    let outcome = if writes(&batch) {
        let surely = |call: &Call| is_write(call) && !scripts::is_script(&call.args);
        if batch.calls.iter().any(surely)
            && let Err(error) = replicas::check(server, group).await
        {
            return Committed::Failed(Answer::error(discarded(&error)));
        }
        if batch.calls.iter().any(|call| scripts::is_script(&call.args) && !is_write(call)) {
            // What it calls is not noted, as it runs on this node alone.
            server.tracking.script_has_read();
        }
        let _writing = server.scripts.writing(&batch.calls);
        let watches = if is_planted(Bug::WatchIgnored) { Vec::new() } else { batch.watches };
        match group.write(Batch { watches, ..batch }).await {
            WriteOutcome::Applied(outcomes) => {
                outcomes.into_iter().next().expect("one outcome for each batch")
            }
            WriteOutcome::Refused(refusal) => return refused(refusal),
            WriteOutcome::Unknown(why) => {
                return Committed::Failed(Answer::error(CommandError::Unknown(why.to_string())));
            }
        }
    } else {
        match read(server, group, &batch).await {
            Ok(outcome) => outcome,
            Err(refusal) => return refused(refusal),
        }
    };
    match outcome {
        BatchOutcome::WatchFailed => Committed::Changed,
        BatchOutcome::PartMissing => unreachable!("the group has refused the write"),
        BatchOutcome::Ran(replies) => {
            let moved = |reply: &Reply| matches!(reply, Reply::Error(CommandError::WrongGroup { .. }));
            // All calls have one slot: if the group has lost it, none of them has run.
            match replies.iter().position(moved) {
                Some(at) => Committed::Failed(Answer::Own(route::reroute(&server.node, replies[at].clone()))),
                None => Committed::Ran(replies.into_iter().map(Answer::Own).collect()),
            }
        }
    }
}

/// Reads a batch that writes nothing, all of it and the watched keys' versions at one moment.
async fn read(
    server: &Server,
    group: &Group,
    batch: &Batch,
) -> Result<BatchOutcome, quoris_raft::types::Refusal> {
    let mut looked_at = batch.calls.clone();
    looked_at.extend(batch.watches.iter().map(|watch| exists(&watch.key)));
    group.ready_to_read(&looked_at).await?;
    let (now_ms, seed) = (server.env.clock.now_ms(), server.env.rng.next_u64());
    let reads = group.with_machine(|machine| {
        let changed = |watch: &Watch| machine.keyspace().version_of(&watch.key) != watch.version;
        (!batch.watches.iter().any(changed)).then(|| machine.read(&batch.calls, now_ms, seed))
    });
    Ok(match reads {
        None => BatchOutcome::WatchFailed,
        Some(reads) => BatchOutcome::Ran(scripts::replies(server, reads, &batch.calls, &batch.user()).await),
    })
}

/// A call that looks at `key`: whatever must be done before it is answered must be done before its version is.
fn exists(key: &Bytes) -> Call {
    Call::new([Bytes::from_static(b"EXISTS"), key.clone()])
}

/// WATCH. Of a key that is watched already the older version counts.
pub async fn watch(session: &mut Session, keys: &[Bytes]) -> Answer {
    if session.transaction.is_some() {
        return Answer::error(CommandError::Text("ERR WATCH inside MULTI is not allowed"));
    }
    if session.watched.len() + keys.len() > limits::WATCHED_KEYS {
        return Answer::error(CommandError::Text("ERR too many watched keys"));
    }
    match versions(session, keys).await {
        Ok(versions) => {
            let mut bytes = session.client.state().memory.watched;
            for (key, version) in keys.iter().zip(versions) {
                if !session.watched.contains_key(key) {
                    bytes += Held::of_names(std::iter::once(key));
                    session.watched.insert(key.clone(), version);
                }
            }
            session.client.state().memory.watched = bytes;
            Answer::Own(Reply::OK)
        }
        Err(error) => Answer::error(error),
    }
}

/// The versions of `keys`, which share a slot, wherever it is led.
async fn versions(session: &mut Session, keys: &[Bytes]) -> Result<Vec<u64>, CommandError> {
    let server = &session.server.clone();
    let access = route::Access { readonly: false, ..session.access() };
    let slot = route::one_slot(keys.iter())?.ok_or(CommandError::Syntax)?;
    moves::settled(server, slot).await;
    let mut place = route::seat(&server.node, slot, false, access)?.place;
    let patience = Patience::new(server, access.plain);
    loop {
        let reply = match place {
            Place::Here => versions_here(server, keys).await,
            Place::At(node) => {
                let words = [Bytes::from("QUORIS"), Bytes::from("VERSIONS")];
                let call = Call::new(words.into_iter().chain(keys.iter().cloned()));
                forward::ask(server, node, call, false).await
            }
        };
        let answer = match reply {
            Reply::Array(items) => return items.into_iter().map(version_in).collect(),
            Reply::Error(error) => Answer::error(error),
            _ => return Err(CommandError::TryAgain("another node's answer is not understood".to_string())),
        };
        let next = if answer.is_misplaced() { patience.next(server, slot).await } else { None };
        match (next, forward::for_client(answer, access.plain)) {
            (Some(next), _) => place = next.place,
            (None, Answer::Own(Reply::Error(error))) => return Err(error),
            (None, _) => unreachable!("the answer is an error of this node's"),
        }
    }
}

fn version_in(item: Reply) -> Result<u64, CommandError> {
    match item {
        Reply::Int(version) if version >= 0 => Ok(version as u64),
        _ => Err(CommandError::TryAgain("another node's answer is not understood".to_string())),
    }
}

/// The versions of `keys`, which share a slot, in this node's replica: an array of integers.
pub async fn versions_here(server: &Server, keys: &[Bytes]) -> Reply {
    let slot = match route::one_slot(keys.iter()) {
        Ok(Some(slot)) => slot,
        Ok(None) => return Reply::Array(Vec::new()),
        Err(error) => return Reply::Error(error),
    };
    let group = server.node.group_of(slot);
    let looked_at: Vec<Call> = keys.iter().map(exists).collect();
    if let Err(refusal) = group.ready_to_read(&looked_at).await {
        return Reply::Error(route::refused(&server.node, refusal, Some(slot)));
    }
    let versions = group.with_machine(|machine| {
        if !machine.keyspace().owns(slot) {
            return Reply::Error(CommandError::WrongGroup { slot });
        }
        let version = |key: &Bytes| Reply::Int(machine.keyspace().version_of(key) as i64);
        Reply::Array(keys.iter().map(version).collect())
    });
    route::reroute(&server.node, versions)
}

/// QUORIS TRANSACTION: a batch that another node sends for one of its clients. Whoever sends it, it is checked as if a
/// client had queued it here.
pub async fn for_relay(session: &mut Session, encoded: &Bytes) -> Answer {
    const INVALID: CommandError = CommandError::Text("ERR not a transaction");
    let Ok(batch) = Batch::decode(encoded.clone()) else { return Answer::error(INVALID) };
    let is_keyed = |call: &Call| {
        command::resolve(&call.args).is_ok_and(|row| {
            matches!(row.command.run_for(&call.args), Run::Read(_) | Run::Write(_))
                && row.command.keys.of(&call.args).next().is_some()
        })
    };
    let has_other_work = batch.cancel != 0 || !batch.evict.is_empty() || !batch.expire.is_empty();
    if has_other_work || !batch.transaction || !batch.calls.iter().all(is_keyed) {
        return Answer::error(INVALID);
    }
    let calls = slot_of_calls(&batch.calls);
    let watches = route::one_slot(batch.watches.iter().map(|watch| &watch.key));
    let slot = match (calls, watches) {
        (Ok(Some(calls)), Ok(watches)) if watches.is_none_or(|watches| watches == calls) => calls,
        (Ok(None), Ok(Some(watches))) => watches,
        (Ok(None), Ok(None)) => return Answer::Many(Vec::new()),
        (Ok(Some(_)), Ok(_)) => return Answer::error(CommandError::CrossSlot),
        (Err(error), _) | (_, Err(error)) => return Answer::error(error),
    };
    match run(session, slot, batch).await {
        Ok(Committed::Ran(answers)) => Answer::Many(answers),
        Ok(Committed::Changed) => Answer::Own(Reply::NullArray),
        Ok(Committed::Failed(answer)) => answer,
        Err(error) => Answer::error(error),
    }
}
