//! What a running script sees of the keyspace: redis.call and its checks.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::lib::JsonSettings;
use super::library::FunctionInfo;
use super::scripts::Scripts;
use super::{Budget, Ending, Reads, Run as ScriptRun, ScriptFlags, Stop, cost};
use crate::acl::User;
use crate::args::Args;
use crate::command::{self, Chapter, Command, Flags, ReadContext, Resolved, Run, Verb, WriteContext};
use crate::commands::{debug, generic, stream_read};
use crate::error::CommandError;
use crate::hash_slot::{SlotId, slot_of};
use crate::keyspace::Keyspace;
use crate::reply::Reply;
use crate::rng::Rng;

/// How often a script looks whether it is over, in instructions.
pub const INSTRUCTIONS_PER_LOOK: u32 = 1000;

/// Why a script must end, whatever it catches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// It has used up its instructions.
    Instructions,
    /// It has used up its memory.
    Memory,
    /// It was stopped.
    Stopped(Ending),
}

/// The world of one run.
pub struct Host {
    keys: Keyspace,
    /// For the commands it calls.
    rng: Rng,
    /// For math.random.
    pub random: Rng,
    pub budget: Budget,
    looks: u64,
    /// Instructions for work that Lua does not count.
    spent: u64,
    stop: Option<Stop>,
    pub over: Option<Over>,
    /// What the interpreter may hold, with what it held before; for whoever lifts the limit for a moment.
    pub bytes_limit: usize,
    may_write: bool,
    /// Whether it is refused what may need more memory: as in Redis, until it has written something.
    may_not_grow: bool,
    /// The slot that all keys must be in, once one is known.
    slot: Option<SlotId>,
    any_slot: bool,
    /// redis.setresp(3).
    pub resp3: bool,
    calls: u64,
    /// For how long it has asked to sleep, in milliseconds: whoever runs it has its caller wait.
    pub slept_ms: u64,
    /// What it has set of cjson.
    pub json: JsonSettings,
    /// The functions that a library registers while it is loaded.
    pub loading: Option<Vec<FunctionInfo>>,
    /// What stands in for the scripts' state within a script.
    no_scripts: Scripts,
    /// Under whose rights it calls commands; `None`: under everybody's.
    rights: Option<Arc<User>>,
    /// Room for the words of the next calls, and for how long each of them is.
    pub words: (BytesMut, Vec<usize>),
}

impl Host {
    /// For `run` on `keys`.
    pub fn new(keys: Keyspace, rng: Rng, budget: Budget, run: &ScriptRun, stop: Option<Stop>) -> Box<Host> {
        let mut host = Host::without_keys(rng, budget);
        host.keys = keys;
        host.stop = stop;
        host.prepare(run);
        host
    }

    /// For `run` on `keys`, which are gone until [`Host::give_back`]; in the room of an earlier host, if there is one.
    pub fn lent(
        keys: &mut Keyspace,
        room: Option<Box<Host>>,
        rng: Rng,
        budget: Budget,
        run: &ScriptRun,
    ) -> Box<Host> {
        let mut host = match room {
            Some(mut host) => {
                host.renew(rng, budget);
                host
            }
            None => Host::without_keys(rng, budget),
        };
        std::mem::swap(&mut host.keys, keys);
        host.prepare(run);
        host
    }

    /// Gives back the keys that [`Host::lent`] has taken.
    pub fn give_back(&mut self, keys: &mut Keyspace) {
        std::mem::swap(&mut self.keys, keys);
    }

    /// For the loading of a library, which calls no command.
    pub fn without_keys(rng: Rng, budget: Budget) -> Box<Host> {
        let mut host = Box::new(Host {
            keys: Keyspace::hollow(),
            random: rng.clone(),
            rng,
            budget,
            looks: 0,
            spent: 0,
            stop: None,
            over: None,
            bytes_limit: 0,
            may_write: false,
            may_not_grow: false,
            slot: None,
            any_slot: false,
            resp3: false,
            calls: 0,
            slept_ms: 0,
            json: JsonSettings::default(),
            loading: None,
            no_scripts: Scripts::default(),
            rights: None,
            words: Default::default(),
        });
        let rng = host.rng.clone();
        host.renew(rng, budget);
        host
    }

    /// Forgets the last run. Whatever a run changes is named here.
    fn renew(&mut self, mut rng: Rng, budget: Budget) {
        let Host {
            // What is kept: no script leaves anything in these.
            keys: _,
            no_scripts: _,
            words: _,
            rng: for_calls,
            random,
            budget: allowed,
            looks,
            spent,
            stop,
            over,
            bytes_limit,
            may_write,
            may_not_grow,
            slot,
            any_slot,
            resp3,
            calls,
            slept_ms,
            json,
            loading,
            rights,
        } = self;
        *random = Rng::for_call(rng.next_u64(), 0);
        (*for_calls, *allowed) = (rng, budget);
        (*looks, *spent, *calls, *slept_ms, *bytes_limit) = (0, 0, 0, 0, 0);
        (*stop, *over, *slot, *loading, *rights) = (None, None, None, None, None);
        (*may_write, *may_not_grow, *any_slot, *resp3) = (false, false, false, false);
        *json = JsonSettings::default();
    }

    fn prepare(&mut self, run: &ScriptRun) {
        self.may_write = run.may_write();
        self.may_not_grow = self.budget.out_of_memory && !run.flags.contains(ScriptFlags::ALLOW_OOM);
        self.slot = run.slot();
        self.any_slot = run.flags.intersects(ScriptFlags::COMPAT | ScriptFlags::ALLOW_CROSS_SLOT_KEYS);
    }

    /// The same, under the rights of `user`; `None`: under everybody's.
    pub fn under(mut self: Box<Host>, user: Option<Arc<User>>) -> Box<Host> {
        self.rights = user;
        self
    }

    /// Whether the script's user may make the call `words` of `row`.
    pub fn may_call(&self, row: Resolved, words: &[Bytes]) -> bool {
        self.rights.as_ref().is_none_or(|user| user.check(row, words).is_ok())
    }

    pub fn into_keys(self) -> Keyspace {
        self.keys
    }

    /// Called every [`INSTRUCTIONS_PER_LOOK`] instructions, with what Lua has counted besides. Whether the script must end.
    pub fn look(&mut self, owed: u64) -> bool {
        self.looks += 1;
        self.spend(owed)
    }

    /// Counts work that is done outside of Lua's instructions. Whether the script must end.
    pub fn spend(&mut self, instructions: u64) -> bool {
        self.spent = self.spent.saturating_add(instructions);
        if let Some(why) = self.stop.as_ref().and_then(Stop::why) {
            self.over.get_or_insert(Over::Stopped(why));
        }
        if self.used() > self.budget.instructions {
            self.over.get_or_insert(Over::Instructions);
        }
        self.over.is_some()
    }

    /// How many instructions are left.
    pub fn instructions_left(&self) -> u64 {
        self.budget.instructions.saturating_sub(self.used())
    }

    /// What may stop it.
    pub fn stop(&self) -> Option<Stop> {
        self.stop.clone()
    }

    fn used(&self) -> u64 {
        self.spent.saturating_add(self.looks * u64::from(INSTRUCTIONS_PER_LOOK))
    }

    /// There is no more memory that it may use.
    pub fn run_out_of_memory(&mut self) {
        self.over.get_or_insert(Over::Memory);
    }

    /// redis.call: the command's reply, an error included.
    pub fn call(&mut self, words: Vec<Bytes>) -> Reply {
        let reply = self.try_call(&words).unwrap_or_else(Reply::Error);
        self.saw(&reply);
        self.keys.called(words, reply.is_error());
        reply
    }

    /// Counts what it takes to hand a reply to the script.
    fn saw(&mut self, reply: &Reply) {
        self.spend(cost::of_reply(reply));
    }

    fn try_call(&mut self, words: &[Bytes]) -> Result<Reply, CommandError> {
        let row = self.permitted(words)?;
        self.check_slots(row, words)?;
        if self.spend(cost::of_call(row, words, &self.keys)) {
            return Err(CommandError::Text("ERR the script has used up its budget"));
        }
        self.calls += 1;
        let rng = Rng::for_call(self.rng.clone().next_u64(), self.calls);
        let args = Args(words);
        match row.run_for(words) {
            Run::Write(run) => {
                self.may_not_grow = false;
                let mut context = WriteContext {
                    keys: &mut self.keys,
                    rng,
                    may_block: false,
                    woken: false,
                    scripts: &mut self.no_scripts,
                    users: None,
                    genesis: None,
                    rights: None,
                    budget: self.budget,
                    in_script: true,
                };
                run(&mut context, args)
            }
            Run::Read(run) => {
                let now_ms = self.keys.now_ms();
                let scripting = Reads::Within(self.budget);
                let (keys, scripts) = (&self.keys, &self.no_scripts);
                let (users, rights) = (None, None);
                let in_script = true;
                run(
                    &mut ReadContext { keys, now_ms, rng, scripts, users, rights, scripting, in_script },
                    args,
                )
            }
            Run::Session(verb) => self.verb(verb, args),
            Run::Container | Run::ByWords(_) => Err(unknown()),
        }
    }

    /// The command's row, if scripts may call it.
    fn permitted(&mut self, words: &[Bytes]) -> Result<&'static Command, CommandError> {
        let resolved = match command::resolve(words) {
            Ok(resolved) => resolved,
            Err(CommandError::WrongArity(_)) => {
                return Err(CommandError::Text("ERR Wrong number of args calling Redis command from script"));
            }
            // Of a container that scripts may call nothing of, whatever it would do.
            Err(CommandError::UnknownSubcommand { .. }) if is_closed(&words[0]) => return Err(NOT_ALLOWED),
            Err(_) => return Err(unknown()),
        };
        let row = resolved.command;
        if is_denied(row) {
            return Err(NOT_ALLOWED);
        }
        if let Some(user) = &self.rights
            && let Err(denied) = user.check(resolved, words)
        {
            let refused = denied.of(resolved, words);
            let text = refused.in_script();
            self.keys.denied(&user.name, refused);
            return Err(CommandError::Text(text));
        }
        // The other ones that block are denied, or do not wait here.
        if row.flags.contains(Flags::BLOCKING)
            && row.chapter == Chapter::Stream
            && stream_read::asks_to_block(words)
        {
            let name = String::from_utf8_lossy(&words[0]);
            let text = format!("ERR {name} command is not allowed with BLOCK option from scripts");
            return Err(CommandError::Message(text));
        }
        let writes = row.writes(words);
        if (writes || is_publish(row)) && !self.may_write {
            return Err(CommandError::Text("ERR Write commands are not allowed from read-only scripts."));
        }
        if writes && self.budget.few_replicas {
            return Err(CommandError::FewReplicas);
        }
        if self.may_not_grow && row.flags.contains(Flags::DENYOOM) {
            return Err(CommandError::OutOfMemory);
        }
        Ok(row)
    }

    fn check_slots(&mut self, row: &Command, words: &[Bytes]) -> Result<(), CommandError> {
        let (slot, share) = match row.keys.only(words) {
            Some(key) => (slot_of(key), true),
            None => {
                let mut slots = row.keys.of(words).map(|key| slot_of(key));
                let Some(slot) = slots.next() else { return Ok(()) };
                (slot, slots.all(|other| other == slot))
            }
        };
        // However freely a script goes about, one call's keys share a slot, as anywhere.
        if !self.keys.owns(slot) || !share {
            return Err(CommandError::Text(
                "ERR Script attempted to access a non local key in a cluster node",
            ));
        }
        if !self.any_slot && *self.slot.get_or_insert(slot) != slot {
            return Err(CommandError::Text(
                "ERR Script attempted to access keys that do not hash to the same slot",
            ));
        }
        Ok(())
    }

    /// The few commands of the session that mean something inside a script.
    fn verb(&mut self, verb: Verb, args: Args) -> Result<Reply, CommandError> {
        match verb {
            Verb::DebugSleep => {
                let ms = (args.float(2)? * 1000.0) as u64;
                self.slept_ms = self.slept_ms.saturating_add(ms);
                self.spend(ms.saturating_mul(cost::MILLISECOND));
                Ok(Reply::OK)
            }
            Verb::DebugProtocol => debug::sample(args.bytes(2)),
            Verb::Ping if args.len() == 1 => Ok(Reply::Simple("PONG")),
            Verb::Ping if args.len() > 2 => Err(CommandError::WrongArity("ping".to_string())),
            Verb::Ping | Verb::Echo => Ok(Reply::Bulk(args.bytes(1).clone())),
            Verb::Select => generic::select(args),
            Verb::Time => {
                let now_ms = self.keys.now_ms();
                let (seconds, micros) = (now_ms / 1000, now_ms % 1000 * 1000);
                Ok(Reply::Array(vec![Reply::bulk(seconds.to_string()), Reply::bulk(micros.to_string())]))
            }
            Verb::Publish | Verb::Spublish => {
                self.keys.publish(args.bytes(1), args.bytes(2), verb == Verb::Spublish);
                // How many receive it differs from node to node, and the script goes on alike on all.
                Ok(Reply::Int(0))
            }
            _ => unreachable!("checked against SESSION_VERBS"),
        }
    }
}

const SESSION_VERBS: [Verb; 8] = [
    Verb::DebugProtocol,
    Verb::DebugSleep,
    Verb::Echo,
    Verb::Ping,
    Verb::Publish,
    Verb::Select,
    Verb::Spublish,
    Verb::Time,
];

const NOT_ALLOWED: CommandError = CommandError::Text("ERR This Redis command is not allowed from script");

fn is_publish(row: &Command) -> bool {
    matches!(row.run, Run::Session(Verb::Publish | Verb::Spublish))
}

/// Whether scripts may not call the command.
fn is_denied(row: &Command) -> bool {
    match row.run {
        Run::Session(verb) => !SESSION_VERBS.contains(&verb),
        _ => row.flags.contains(Flags::NOSCRIPT),
    }
}

/// Whether scripts may call no subcommand of the container.
fn is_closed(container: &[u8]) -> bool {
    command::find(container).is_some_and(|container| container.subcommands.iter().all(is_denied))
}

fn unknown() -> CommandError {
    CommandError::Text("ERR Unknown Redis command called from script")
}
