//! MIGRATE: keys go to another server, which may be Redis or another cluster of quoris, and are deleted here.
//!
//! No write is lost on the way. A key is dumped together with its version, and deleted by an entry of the log that says which
//! version it must still have: who wrote to it meanwhile keeps what was written, here. It is deleted only when the target has
//! said OK to this very key. Whatever else happens (an error, silence, a connection that breaks) leaves it here, and it may
//! be in both places: to ask again with REPLACE is what then helps.
//!
//! Nothing is sent twice. A RESTORE whose answer was lost may have been done, and clients of the target may have written to
//! the key since; so a connection that breaks under one is an error for whoever asked. And nothing is restored before the
//! target has taken AUTH and SELECT, lest keys land in a database that nobody meant.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quoris_engine::args::Args;
use quoris_engine::entry::{Draft, Watch};
use quoris_engine::machine::{BatchOutcome, Read};
use quoris_engine::{Batch, Call, CommandError, Machine, Reply, SlotId};
use quoris_raft::group::Group;
use quoris_raft::types::WriteOutcome;
use tokio::time::Instant;

use crate::forward::{self, Patience};
use crate::limits;
use crate::moves;
use crate::outgoing::Outgoing;
use crate::replicas;
use crate::resp::{Answer, encode_call};
use crate::route::{self, Access, Place};
use crate::server::Server;
use crate::session::Session;

const NOT_CONNECTED: CommandError = CommandError::Text("IOERR error or timeout connecting to the client");
const NOT_WRITTEN: CommandError = CommandError::Text("IOERR error or timeout writing to target instance");
const NOT_READ: CommandError = CommandError::Text("IOERR error or timeout reading to target instance");
const CHANGED: CommandError = CommandError::Text(
    "ERR a key has changed while it was migrated, and is not deleted here: the target has what it was before",
);

/// A call of MIGRATE, understood.
#[derive(Clone, Debug, PartialEq)]
struct Migration {
    target: TargetName,
    db: i64,
    /// What each step of the conversation may take.
    timeout: Duration,
    copy: bool,
    replace: bool,
    /// Each once.
    keys: Vec<Bytes>,
}

/// Whom a connection leads to, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct TargetName {
    addr: String,
    /// The words of AUTH, the command's name first; empty for none. A connection is for those who know them.
    auth: Vec<Bytes>,
}

/// A connection to a target.
struct Target {
    name: TargetName,
    /// The database that is selected.
    db: i64,
    connection: Outgoing,
    used: Instant,
}

/// The connections to targets that nobody uses now, kept for a moment.
#[derive(Default)]
pub struct Targets {
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    targets: Vec<Target>,
    /// Whether somebody closes them when their time is up.
    watched: bool,
}

/// A key as it was when it was read.
struct Dumped {
    key: Bytes,
    version: u64,
    /// 0: it does not expire.
    ttl_ms: u64,
    payload: Bytes,
}

/// What a target has said.
#[derive(Default)]
struct Said {
    /// The keys that it has taken, by their place.
    taken: Vec<usize>,
    /// The first thing that went wrong.
    error: Option<CommandError>,
    /// Whether the connection is of no more use.
    broken: bool,
}

/// MIGRATE.
pub async fn migrate(session: &mut Session, words: &[Bytes]) -> Answer {
    run(session, words).await.unwrap_or_else(Answer::error)
}

/// What a call of MIGRATE may take at its target; nothing for another one.
pub fn patience(words: &[Bytes]) -> Duration {
    if !words.first().is_some_and(|name| name.eq_ignore_ascii_case(b"migrate")) {
        return Duration::ZERO;
    }
    /// To connect, AUTH, SELECT, and to write.
    const STEPS: usize = 4;
    Migration::parse(words).map_or(Duration::ZERO, |migration| {
        let steps = u32::try_from(migration.keys.len() + STEPS).unwrap_or(u32::MAX);
        migration.timeout.saturating_mul(steps)
    })
}

/// Runs the call where its keys are led.
async fn run(session: &mut Session, words: &[Bytes]) -> Result<Answer, CommandError> {
    let migration = Migration::parse(words)?;
    let (server, caller) = (session.server.clone(), session.caller());
    let Some(slot) = route::one_slot(migration.keys.iter())? else { return Ok(Answer::Own(NO_KEY)) };
    let access = Access { readonly: false, ..session.access() };
    moves::settled(&server, slot).await;
    let mut seat = route::seat(&server.node, slot, true, access)?;
    session.written.insert(seat.group.id());
    let patience = Patience::new(&server, caller.plain);
    loop {
        let answer = match seat.place {
            Place::Here => {
                let reply = migration.here(&server, &seat.group, slot, caller.behalf.origin).await;
                Answer::Own(route::reroute(&server.node, reply.unwrap_or_else(Reply::Error)))
            }
            Place::At(node) => {
                let call = Call { args: words.to_vec() };
                forward::forward(&server, node, caller.protocol, &[call], true).await.remove(0)
            }
        };
        // Only what nothing was sent for says so.
        let next = match answer.is_misplaced() {
            true => patience.next(&server, slot).await,
            false => None,
        };
        match next {
            Some(next) => seat = next,
            None => return Ok(forward::for_client(answer, caller.plain)),
        }
    }
}

const NO_KEY: Reply = Reply::Simple("NOKEY");

impl Migration {
    /// `MIGRATE host port key|"" db timeout [COPY] [REPLACE] [AUTH password | AUTH2 user password] [KEYS key …]`.
    fn parse(words: &[Bytes]) -> Result<Migration, CommandError> {
        let args = Args(words);
        let (mut copy, mut replace) = (false, false);
        let (mut auth, mut keys) = (Vec::new(), vec![args.bytes(3).clone()]);
        let mut i = 6;
        while i < args.len() {
            let more = args.len() - i - 1;
            let secrets = match () {
                () if args.is(i, "copy") || args.is(i, "replace") => 0,
                () if args.is(i, "auth") && more >= 1 => 1,
                () if args.is(i, "auth2") && more >= 2 => 2,
                () if args.is(i, "keys") => {
                    if !args.bytes(3).is_empty() {
                        return Err(CommandError::Text(
                            "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
                        ));
                    }
                    keys = args.from(i + 1).to_vec();
                    break;
                }
                () => return Err(CommandError::Syntax),
            };
            copy |= args.is(i, "copy");
            replace |= args.is(i, "replace");
            if secrets > 0 {
                auth = vec![Bytes::from_static(b"AUTH")];
                auth.extend_from_slice(&words[i + 1..=i + secrets]);
            }
            i += 1 + secrets;
        }
        let (timeout_ms, db) = (args.int(5)?, args.int(4)?);
        let timeout_ms = u64::try_from(timeout_ms).ok().filter(|ms| *ms > 0).unwrap_or(DEFAULT_TIMEOUT_MS);
        let mut seen = BTreeSet::new();
        keys.retain(|key| seen.insert(key.clone()));
        Ok(Migration {
            target: TargetName { addr: addr_of(args.bytes(1), args.bytes(2)), auth },
            db,
            timeout: Duration::from_millis(timeout_ms),
            copy,
            replace,
            keys,
        })
    }

    /// Moves the keys, which this node leads, so many at a time as fit into memory easily.
    async fn here(
        &self,
        server: &Arc<Server>,
        group: &Group,
        slot: SlotId,
        origin: u64,
    ) -> Result<Reply, CommandError> {
        replicas::check(server, group).await?;
        let (mut rest, mut any) = (&self.keys[..], false);
        while !rest.is_empty() {
            let read = dump(server, group, slot, rest).await;
            let (portion, after) = read.map_err(|error| match any {
                false => error,
                true => CommandError::Message(format!("ERR some keys have been migrated; then: {error}")),
            })?;
            rest = after;
            if !portion.is_empty() {
                any = true;
                self.hand_on(server, group, &portion, origin).await?;
            }
        }
        Ok(if any { Reply::OK } else { NO_KEY })
    }

    /// Gives keys to the target, and deletes those that it has taken.
    async fn hand_on(
        &self,
        server: &Arc<Server>,
        group: &Group,
        portion: &[Dumped],
        origin: u64,
    ) -> Result<(), CommandError> {
        let mut target = self.connect(server).await?;
        let said = self.restore(&mut target, portion).await;
        if !said.broken {
            Targets::give_back(server, target);
        }
        if !self.copy && !said.taken.is_empty() {
            delete(group, said.taken.iter().map(|place| &portion[*place]), origin).await?;
        }
        said.error.map_or(Ok(()), Err)
    }

    async fn connect(&self, server: &Server) -> Result<Target, CommandError> {
        while let Some(mut target) = server.targets.take(&self.target) {
            if target.connection.is_open() {
                return Ok(target);
            }
        }
        match tokio::time::timeout(self.timeout, server.env.net.connect(&self.target.addr)).await {
            Ok(Ok(stream)) => Ok(Target {
                name: self.target.clone(),
                db: 0,
                connection: Outgoing::over(stream),
                used: Instant::now(),
            }),
            Ok(Err(_)) | Err(_) => Err(NOT_CONNECTED),
        }
    }

    /// Has the target take keys, and hears what becomes of each.
    async fn restore(&self, target: &mut Target, portion: &[Dumped]) -> Said {
        if let Err(error) = self.greet(target).await {
            return Said { error: Some(error), broken: true, ..Said::default() };
        }
        let mut calls = BytesMut::new();
        for dumped in portion {
            let ttl = dumped.ttl_ms.to_string();
            // What a slot that is moving into a node of Redis's takes without more ado.
            let mut words: Vec<&[u8]> = vec![b"RESTORE-ASKING", &dumped.key, ttl.as_bytes(), &dumped.payload];
            if self.replace {
                words.push(b"REPLACE");
            }
            encode_call(&words, &mut calls);
        }
        if let Err(error) = self.send(target, &calls).await {
            return Said { error: Some(error), broken: true, ..Said::default() };
        }
        let mut said = Said::default();
        for place in 0..portion.len() {
            match self.reply(target).await {
                Ok(Ok(())) => said.taken.push(place),
                Ok(Err(refused)) => drop(said.error.get_or_insert(refused)),
                Err(error) => {
                    said.error.get_or_insert(error);
                    said.broken = true;
                    break;
                }
            }
        }
        said
    }

    /// AUTH and SELECT, as far as they are needed, and the target's consent.
    async fn greet(&self, target: &mut Target) -> Result<(), CommandError> {
        if !self.target.auth.is_empty() {
            // Each time: the password may have changed.
            self.ask(target, &self.target.auth).await?;
        }
        if target.db != self.db {
            let words = [Bytes::from_static(b"SELECT"), self.db.to_string().into()];
            self.ask(target, &words).await?;
            target.db = self.db;
        }
        Ok(())
    }

    async fn ask(&self, target: &mut Target, words: &[Bytes]) -> Result<(), CommandError> {
        let mut call = BytesMut::new();
        encode_call(words, &mut call);
        self.send(target, &call).await?;
        self.reply(target).await?
    }

    async fn send(&self, target: &mut Target, calls: &[u8]) -> Result<(), CommandError> {
        for piece in calls.chunks(limits::MIGRATE_PIECE_BYTES) {
            match tokio::time::timeout(self.timeout, target.connection.send(piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(NOT_WRITTEN),
            }
        }
        Ok(())
    }

    /// Whether the target has done what came next; the outer error: that cannot be known.
    async fn reply(&self, target: &mut Target) -> Result<Result<(), CommandError>, CommandError> {
        match tokio::time::timeout(self.timeout, target.connection.reply()).await {
            Ok(Ok(reply)) if reply.starts_with(b"+") => Ok(Ok(())),
            Ok(Ok(reply)) if reply.starts_with(b"-") => {
                let line = String::from_utf8_lossy(&reply[1..]).trim_end().to_string();
                Ok(Err(CommandError::Message(format!("ERR Target instance replied with error: {line}"))))
            }
            Ok(Ok(_)) | Ok(Err(_)) | Err(_) => Err(NOT_READ),
        }
    }
}

/// As Redis has it for a timeout that is not positive.
const DEFAULT_TIMEOUT_MS: u64 = 1_000;

/// `host:port`, as the network takes it.
fn addr_of(host: &[u8], port: &[u8]) -> String {
    let (host, port) = (String::from_utf8_lossy(host), String::from_utf8_lossy(port));
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// Those of `keys` that are there, up to the size of a portion, and the keys behind them. The error is certain: nothing has
/// been done.
async fn dump<'k>(
    server: &Server,
    group: &Group,
    slot: SlotId,
    keys: &'k [Bytes],
) -> Result<(Vec<Dumped>, &'k [Bytes]), CommandError> {
    let looked_at: Vec<Call> = keys.iter().map(|key| call_of("EXISTS", key)).collect();
    let ready = group.ready_to_read(&looked_at).await;
    ready.map_err(|refusal| route::refused(&server.node, refusal, Some(slot)))?;
    let (now_ms, seed) = (server.env.clock.now_ms(), server.env.rng.next_u64());
    group.with_machine(|machine| {
        let (mut portion, mut bytes) = (Vec::new(), 0);
        for (i, key) in keys.iter().enumerate() {
            if bytes >= limits::MIGRATE_PORTION_BYTES {
                return Ok((portion, &keys[i..]));
            }
            if let Some(dumped) = dump_one(machine, key, now_ms, seed)? {
                bytes += dumped.key.len() + dumped.payload.len();
                portion.push(dumped);
            }
        }
        Ok((portion, &[][..]))
    })
}

/// `key` as `machine` has it; `None` if it has none.
fn dump_one(machine: &Machine, key: &Bytes, now_ms: u64, seed: u64) -> Result<Option<Dumped>, CommandError> {
    let calls = [call_of("DUMP", key), call_of("PEXPIRETIME", key)];
    let mut replies = machine.read(&calls, now_ms, seed).into_iter();
    let (payload, expires_ms) = match (replies.next(), replies.next()) {
        (Some(Read::Reply(Reply::Bulk(payload))), Some(Read::Reply(Reply::Int(at)))) => (payload, at),
        (Some(Read::Reply(Reply::Error(error))), _) | (_, Some(Read::Reply(Reply::Error(error)))) => {
            return Err(error);
        }
        _ => return Ok(None),
    };
    let ttl_ms = match u64::try_from(expires_ms) {
        Err(_) => 0,
        // Due by now.
        Ok(at) if at <= now_ms => return Ok(None),
        Ok(at) => at - now_ms,
    };
    let version = machine.keyspace().version_of(key);
    Ok(Some(Dumped { key: key.clone(), version, ttl_ms, payload }))
}

/// Deletes keys that a target has taken, each unless it has changed since it was dumped.
async fn delete(
    group: &Group,
    taken: impl Iterator<Item = &Dumped>,
    origin: u64,
) -> Result<(), CommandError> {
    let batch = |dumped: &Dumped| {
        let watch = Watch { key: dumped.key.clone(), version: dumped.version };
        Batch::transaction(vec![call_of("DEL", &dumped.key)], vec![watch]).by(origin)
    };
    match group.write(taken.map(batch).collect::<Draft>()).await {
        WriteOutcome::Applied(outcomes) => {
            let deleted = |outcome: &BatchOutcome| *outcome == BatchOutcome::Ran(vec![Reply::Int(1)]);
            if outcomes.iter().all(deleted) { Ok(()) } else { Err(CHANGED) }
        }
        WriteOutcome::Refused(refusal) => {
            let text = format!("ERR the target has the keys, and they are still here, too: {refusal}");
            Err(CommandError::Message(text))
        }
        WriteOutcome::Unknown(why) => {
            let text = format!("the target has the keys; whether they are deleted here is not known: {why}");
            Err(CommandError::Unknown(text))
        }
    }
}

fn call_of(name: &'static str, key: &Bytes) -> Call {
    Call::new([Bytes::from_static(name.as_bytes()), key.clone()])
}

impl Targets {
    /// How many are kept.
    pub fn len(&self) -> usize {
        self.lock().targets.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn take(&self, name: &TargetName) -> Option<Target> {
        let mut idle = self.lock();
        let at = idle.targets.iter().rposition(|target| target.name == *name)?;
        Some(idle.targets.remove(at))
    }

    /// Keeps a connection whose replies have all been read, for the next call.
    fn give_back(server: &Arc<Server>, mut target: Target) {
        target.used = Instant::now();
        let mut idle = server.targets.lock();
        if idle.targets.len() >= limits::IDLE_TARGETS {
            return;
        }
        idle.targets.push(target);
        if !std::mem::replace(&mut idle.watched, true) {
            tokio::spawn(release(Arc::downgrade(server)));
        }
    }

    /// Closes those that nobody has used for long. Whether any are left.
    fn release(&self) -> bool {
        let limit = Duration::from_millis(limits::TARGET_IDLE_MS);
        let mut idle = self.lock();
        idle.targets.retain(|target| target.used.elapsed() < limit);
        idle.watched = !idle.targets.is_empty();
        idle.watched
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections in time, until there are none.
async fn release(server: Weak<Server>) {
    loop {
        tokio::time::sleep(Duration::from_millis(limits::TARGET_CHECK_MS)).await;
        let Some(server) = server.upgrade() else { return };
        if !server.targets.release() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Migration, CommandError> {
        let word = |word: &str| Bytes::copy_from_slice(word.trim_matches('"').as_bytes());
        Migration::parse(&line.split(' ').map(word).collect::<Vec<_>>())
    }

    #[test]
    fn options_stand_in_any_order_and_keys_come_last() {
        let migration =
            parse("migrate ::1 7 \"\" 3 0 replace auth2 keys copy COPY keys a copy a").expect("valid");
        let words = |words: &[&'static str]| words.iter().copied().map(Bytes::from).collect::<Vec<_>>();
        assert_eq!(migration.target.addr, "[::1]:7");
        assert_eq!(migration.target.auth, words(&["AUTH", "keys", "copy"]));
        assert_eq!(migration.keys, words(&["a", "copy"]));
        assert_eq!((migration.db, migration.copy, migration.replace), (3, true, true));
        assert_eq!(migration.timeout, Duration::from_secs(1), "0 is Redis's default");
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_redis() {
        for wrong in ["auth", "auth2 x", "later"] {
            assert_eq!(parse(&format!("migrate h 1 k 0 1 {wrong}")), Err(CommandError::Syntax), "{wrong}");
        }
        assert_eq!(parse("migrate h 1 k 0 x"), Err(CommandError::NotInteger));
        let error = parse("migrate h 1 k 0 1 keys a").expect_err("two ways to name keys");
        assert!(error.to_string().ends_with("must be set to the empty string"), "{error}");
    }

    #[test]
    fn another_node_is_given_as_long_as_the_target_may_take() {
        let words =
            |line: &str| line.split(' ').map(|w| Bytes::copy_from_slice(w.as_bytes())).collect::<Vec<_>>();
        assert_eq!(patience(&words("migrate h 1 k 0 500")), Duration::from_millis(2_500));
        assert_eq!(patience(&words("get k")), Duration::ZERO);
    }
}
