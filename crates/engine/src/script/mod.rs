//! Lua scripts and function libraries: the same effects and the same answer on every replica.
//!
//! A script's text travels in the log and runs once on each replica, inside apply. So nothing it can see may differ between
//! them: no clock but the entry's stamp, no randomness but its seed, no order that comes from addresses (`prelude.lua`),
//! no platform's maths, no collector that runs while it does.
//!
//! **Bounds are deterministic.** A script has a budget of instructions, counted by Lua, and of memory. Memory is measured
//! twice: interpreters are shared by many scripts, and what they already hold differs between replicas, so a script that
//! needs more than [`SMALL_BYTES`] there is undone and begun again in a new interpreter, whose history is the same
//! everywhere; only there is it held to its budget. A script that exceeds a budget is undone ([`Keyspace`]'s undo) and
//! answered with an error.
//!
//! What is known of scripts ([`Scripts`]) is state: it is in snapshots, and EVALSHA finds it after a failover. Interpreters and
//! compiled code are not.

mod api;
mod convert;
mod cost;
mod host;
mod interpreter;
mod lib;
pub mod library;
mod pool;
mod raw;
pub mod scripts;
mod source;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;

use crate::acl::{Refused, User};
use crate::command::{ReadContext, WriteContext};
use crate::error::CommandError;
use crate::events::KeyEvent;
use crate::hash_slot::{SlotId, slot_of};
use crate::keyspace::Keyspace;
use crate::reply::Reply;
use crate::rng::Rng;

use host::Host;
use interpreter::{Ended, Interpreter};
pub use scripts::Scripts;

/// What a script may allocate in an interpreter that others have used, in bytes.
const SMALL_BYTES: usize = 16 << 20;

bitflags::bitflags! {
    /// What a script declares in its first line (`#!lua flags=…`), or a function when it is registered.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct ScriptFlags: u32 {
        /// It writes nothing.
        const NO_WRITES = 1;
        /// It may run although memory is short.
        const ALLOW_OOM = 1 << 1;
        /// It may run on a node that cannot reach the leader. Without effect here.
        const ALLOW_STALE = 1 << 2;
        /// It does not run in a cluster.
        const NO_CLUSTER = 1 << 3;
        /// It may touch keys of several slots, as long as its group serves them.
        const ALLOW_CROSS_SLOT_KEYS = 1 << 4;
        /// quoris's own: an error in its middle undoes what it has written.
        const ATOMIC = 1 << 5;
        /// It has no first line of that kind: Redis's older rules hold.
        const COMPAT = 1 << 6;
    }
}

/// The flags and their names.
pub const FLAG_NAMES: [(&str, ScriptFlags); 6] = [
    ("no-writes", ScriptFlags::NO_WRITES),
    ("allow-oom", ScriptFlags::ALLOW_OOM),
    ("allow-stale", ScriptFlags::ALLOW_STALE),
    ("no-cluster", ScriptFlags::NO_CLUSTER),
    ("allow-cross-slot-keys", ScriptFlags::ALLOW_CROSS_SLOT_KEYS),
    ("atomic", ScriptFlags::ATOMIC),
];

/// How much a script may use. Travels in the log ([`crate::entry::Stamp`]), so that it is the same on every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Lua instructions.
    pub instructions: u64,
    /// Bytes that it may allocate in all.
    pub bytes: usize,
    /// Whether the keys may take no more memory than they do.
    pub out_of_memory: bool,
    /// Whether there are too few replicas to write.
    pub few_replicas: bool,
}

impl Default for Budget {
    /// About half a second, and 256 MB. What an entry means whose stamp says nothing: never to be changed.
    fn default() -> Budget {
        Budget { instructions: 50_000_000, bytes: 256 << 20, out_of_memory: false, few_replicas: false }
    }
}

/// Ends a script that only reads: it runs on one node alone, so a person or a clock may.
#[derive(Clone, Default, Debug)]
pub struct Stop(Arc<AtomicU8>);

/// Why a script that only reads is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// SCRIPT KILL.
    ScriptKill = 1,
    /// FUNCTION KILL.
    FunctionKill,
    /// It has run for as long as it may.
    Time,
    /// Nobody waits for it any more, or the node is going down.
    Unwanted,
}

impl Stop {
    /// Ends the script as soon as it looks. The first reason is the one that is told.
    pub fn stop(&self, why: Ending) {
        // A reason that is there already stays.
        let _ = self.0.compare_exchange(0, why as u8, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn why(&self) -> Option<Ending> {
        let all = [Ending::ScriptKill, Ending::FunctionKill, Ending::Time, Ending::Unwanted];
        let set = self.0.load(Ordering::Relaxed);
        all.into_iter().find(|why| *why as u8 == set)
    }
}

/// The code that a call runs.
#[derive(Clone, Debug)]
pub enum Code {
    /// A script.
    Script {
        /// Its SHA-1 in hexadecimal digits: its name in errors.
        sha: String,
        /// Its text.
        body: Bytes,
    },
    /// A function of a library.
    Function {
        /// Its name.
        name: String,
        /// The library's text.
        library: Bytes,
    },
}

impl Code {
    fn name(&self) -> &str {
        match self {
            Code::Script { sha, .. } => sha,
            Code::Function { name, .. } => name,
        }
    }
}

/// A script about to run.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// What is run.
    pub code: Code,
    /// What it declared.
    pub flags: ScriptFlags,
    /// KEYS.
    pub keys: &'a [Bytes],
    /// ARGV.
    pub args: &'a [Bytes],
    /// Whether the command allows no writes (EVAL_RO), whatever the script declares.
    pub read_only: bool,
}

impl Run<'_> {
    fn may_write(&self) -> bool {
        !self.read_only && !self.flags.contains(ScriptFlags::NO_WRITES)
    }

    /// The slot that the declared keys are in.
    fn slot(&self) -> Option<SlotId> {
        self.keys.first().map(|key| slot_of(key))
    }

    fn check(&self) -> Result<(), CommandError> {
        if self.read_only && !self.flags.intersects(ScriptFlags::NO_WRITES | ScriptFlags::COMPAT) {
            return Err(CommandError::Text(
                "ERR Can not execute a script with write flag using *_ro command.",
            ));
        }
        if self.flags.contains(ScriptFlags::NO_CLUSTER) {
            return Err(CommandError::Text("ERR Can not run script on cluster, 'no-cluster' flag is set."));
        }
        Ok(())
    }

    /// A script that declares what it does says so of writing and of its need for memory, too.
    fn check_conditions(&self, budget: Budget) -> Result<(), CommandError> {
        if budget.few_replicas && !self.flags.intersects(ScriptFlags::COMPAT | ScriptFlags::NO_WRITES) {
            return Err(CommandError::FewReplicas);
        }
        const MAY_RUN: ScriptFlags =
            ScriptFlags::COMPAT.union(ScriptFlags::ALLOW_OOM).union(ScriptFlags::NO_WRITES);
        match budget.out_of_memory && !self.flags.intersects(MAY_RUN) {
            true => Err(CommandError::Text(
                "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
            )),
            false => Ok(()),
        }
    }
}

/// Runs a script that may write, inside apply.
pub fn run(context: &mut WriteContext, run: &Run) -> Reply {
    if let Err(error) = run.check().and_then(|()| run.check_conditions(context.budget)) {
        return Reply::Error(error);
    }
    let mut interpreter = pool::take();
    let (rng, budget, rights) = (context.rng.clone(), context.budget, context.rights.cloned());
    let mut attempt = Attempt { keys: context.keys, rng, budget, rights, run };
    let mut ended = attempt.make(&mut interpreter, SMALL_BYTES.min(budget.bytes / 8));
    if ended == Ended::OutOfMemory {
        // What others have left in that interpreter must not decide.
        ended = attempt.make(&mut Interpreter::new(), budget.bytes);
    } else {
        pool::give_back(interpreter);
    }
    ended.into_reply(run.code.name())
}

/// Where scripts run that a read calls.
pub enum Reads<'a> {
    /// At once, within this budget: other calls of the same batch write.
    Within(Budget),
    /// Here, once whoever reads has let go of the keys.
    Later(&'a mut Option<ReadOnly>),
}

/// Runs a script that only reads, or leaves it to be run later; then the reply means nothing.
pub fn read(context: &mut ReadContext, run: &Run) -> Reply {
    if let Err(error) = run.check() {
        return Reply::Error(error);
    }
    let rights = context.rights.cloned();
    let script = ReadOnly::new(context.keys, context.rng.clone(), run, false).under(rights);
    match &mut context.scripting {
        Reads::Within(budget) => script.run(*budget, None).0.into_reply(script.name()),
        Reads::Later(place) => {
            **place = Some(script);
            Reply::Null
        }
    }
}

/// A script that may write, to be tried out on the keys as they are: what it writes is lost. `None`: it would not begin.
pub fn rehearsal(keys: &Keyspace, rng: Rng, run: &Run) -> Option<ReadOnly> {
    run.check().ok()?;
    Some(ReadOnly::new(keys, rng, run, true))
}

/// A script that leaves no trace, with a view of the keys that stays as it is: nothing waits for its end, and it may be run
/// again.
pub struct ReadOnly {
    code: Code,
    flags: ScriptFlags,
    keys: Vec<Bytes>,
    args: Vec<Bytes>,
    view: Keyspace,
    rng: Rng,
    /// Whether it may write to its view.
    writes: bool,
    /// Under whose rights it runs; `None`: under everybody's.
    rights: Option<Arc<User>>,
}

impl ReadOnly {
    fn new(keys: &Keyspace, rng: Rng, run: &Run, writes: bool) -> ReadOnly {
        ReadOnly {
            code: run.code.clone(),
            flags: run.flags,
            keys: run.keys.to_vec(),
            args: run.args.to_vec(),
            view: keys.view(),
            rng,
            writes,
            rights: None,
        }
    }

    /// The same, under the rights of `user`; `None`: under everybody's.
    pub fn under(self, user: Option<Arc<User>>) -> ReadOnly {
        ReadOnly { rights: user, ..self }
    }

    /// The script's SHA-1, or the function's name.
    pub fn name(&self) -> &str {
        self.code.name()
    }

    /// Whether it is a function of a library.
    pub fn is_function(&self) -> bool {
        matches!(self.code, Code::Function { .. })
    }

    /// Its answer; `None` if it needs more instructions than `budget` has.
    pub fn answer(&self, budget: Budget, stop: Option<Stop>) -> Option<Answered> {
        match self.run(budget, stop) {
            (Ended::OutOfInstructions, _) => None,
            (ended, traces) => {
                let stopped = matches!(ended, Ended::Stopped(_));
                let Traces { has_read, slept_ms, denied } = traces;
                Some(Answered { reply: ended.into_reply(self.name()), has_read, stopped, slept_ms, denied })
            }
        }
    }

    /// The reply to one that needs more instructions than it may.
    pub fn too_long(&self) -> Reply {
        Ended::OutOfInstructions.into_reply(self.name())
    }

    /// How it ended, and what else of it matters.
    fn run(&self, budget: Budget, stop: Option<Stop>) -> (Ended, Traces) {
        let run = Run {
            code: self.code.clone(),
            flags: self.flags,
            keys: &self.keys,
            args: &self.args,
            read_only: !self.writes,
        };
        let mut interpreter = pool::take();
        let host =
            Host::new(self.view.view(), self.rng.clone(), budget, &run, stop).under(self.rights.clone());
        let (host, ended) = interpreter.run(host, &run);
        let slept_ms = host.slept_ms;
        if ended != Ended::OutOfMemory {
            pool::give_back(interpreter);
        }
        let (mut has_read, mut denied) = (false, None);
        for event in host.into_keys().take_events() {
            has_read |= event.is_read();
            if let KeyEvent::Denied { refused, .. } = event {
                denied = Some(refused);
            }
        }
        (ended, Traces { has_read, slept_ms, denied })
    }
}

/// What is known of a run besides how it ended.
struct Traces {
    has_read: bool,
    slept_ms: u64,
    denied: Option<Refused>,
}

/// What a script that leaves no trace gave.
#[derive(Debug, PartialEq)]
pub struct Answered {
    /// Its reply.
    pub reply: Reply,
    /// Whether it has called a command that reads keys.
    pub has_read: bool,
    /// Whether it was ended from outside.
    pub stopped: bool,
    /// For how long it has called DEBUG SLEEP: its caller is to wait as long. It goes over no time itself, for while it runs in
    /// the log nothing else does.
    pub slept_ms: u64,
    /// The last thing that it called without the right to.
    pub denied: Option<Refused>,
}

/// One run of a script, which may have to be made again.
struct Attempt<'a> {
    keys: &'a mut Keyspace,
    rng: Rng,
    budget: Budget,
    rights: Option<Arc<User>>,
    run: &'a Run<'a>,
}

impl Attempt<'_> {
    /// Runs the script within `bytes` of memory. If it comes to no good end, it leaves no trace.
    fn make(&mut self, interpreter: &mut Interpreter, bytes: usize) -> Ended {
        self.keys.begin_undo();
        let budget = Budget { bytes, ..self.budget };
        let host = Host::lent(self.keys, interpreter.room.take(), self.rng.clone(), budget, self.run);
        let (mut host, ended) = interpreter.run(host.under(self.rights.clone()), self.run);
        host.give_back(self.keys);
        interpreter.room = Some(host);
        let undone = match &ended {
            Ended::Value(_) => false,
            Ended::Error(_) => self.run.flags.contains(ScriptFlags::ATOMIC),
            Ended::OutOfMemory | Ended::OutOfInstructions | Ended::Stopped(_) => true,
        };
        if undone {
            self.keys.roll_back();
        } else {
            self.keys.keep();
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(interpreter: &mut Interpreter, body: &'static str, instructions: u64) -> Ended {
        ended_within(interpreter, body, Budget { instructions, ..Budget::default() })
    }

    fn ended_within(interpreter: &mut Interpreter, body: &'static str, budget: Budget) -> Ended {
        ran(interpreter, body, budget).1
    }

    fn ran(interpreter: &mut Interpreter, body: &'static str, budget: Budget) -> (Box<Host>, Ended) {
        let (keys, args) = (&[][..], &[][..]);
        let code = Code::Script { sha: scripts::sha1_hex(body.as_bytes()), body: Bytes::from(body) };
        let run = Run { code, flags: ScriptFlags::COMPAT, keys, args, read_only: false };
        let host = Host::new(Keyspace::new(1), Rng::for_call(1, 1), budget, &run, None);
        interpreter.run(host, &run)
    }

    /// How many instructions a script takes that comes to its end.
    fn counted(interpreter: &mut Interpreter, body: String) -> u64 {
        let (host, ended) = ran(interpreter, Box::leak(body.clone().into_boxed_str()), Budget::default());
        assert_eq!(ended, Ended::Value(Reply::Null), "{body}");
        Budget::default().instructions - host.instructions_left()
    }

    /// What an interpreter has run before must not decide whether a script keeps to its budget.
    #[test]
    fn instructions_are_counted_anew_for_each_script() {
        const SCRIPT: &str = "local n = 0 for i = 1, 495 do n = n + 1 end return n";
        let fits =
            |interpreter: &mut Interpreter| ended(interpreter, SCRIPT, 999) == Ended::Value(Reply::Int(495));
        let expected = fits(&mut Interpreter::new());
        let mut used = Interpreter::new();
        for n in [1, 7, 300, 450] {
            let before = format!("for i = 1, {n} do end");
            ended(&mut used, Box::leak(before.into_boxed_str()), 10_000);
            assert_eq!(fits(&mut used), expected);
        }
    }

    #[test]
    fn coroutines_do_not_escape_the_budget() {
        const SCRIPT: &str = "while true do coroutine.wrap(function() for i = 1, 300 do end end)() end";
        assert_eq!(ended(&mut Interpreter::new(), SCRIPT, 1_000_000), Ended::OutOfInstructions);
        const CAUGHT: &str = "while true do pcall(coroutine.wrap(function() for i = 1, 300 do end end)) end";
        assert_eq!(ended(&mut Interpreter::new(), CAUGHT, 1_000_000), Ended::OutOfInstructions);
    }

    /// However long one of them would take.
    #[test]
    fn instructions_that_take_long_count_as_many() {
        const SCRIPTS: [&str; 12] = [
            "return string.find(string.rep('a', 5000), string.rep('a*', 30) .. 'b')",
            "return pcall(string.match, string.rep('(', 20000), '.-.-.-b')",
            "for w in string.gmatch(string.rep('x', 100000), '(.*)(.*)(.*)y') do end",
            "return string.gsub(string.rep('a', 30000), '.*.*b', '')",
            "local s = string.rep('a', 30000) return pcall(s.gsub, s, '.*.*b', function() end)",
            "local s = string.rep('a', 100000) while true do s:find('b', 1, true) end",
            "return pcall(string.rep, '', 2000000000)",
            "local t = {} for i = 1, 10000 do t[i] = i end for i = 1, 100 do table.sort(t) end",
            "local t = {} for i = 1, 10000 do t[i] = i end for i = 1, 1000 do table.insert(t, 1, 1) end",
            "local t = {} for i = 1, 10000 do t[i] = i end for i = 1, 1000 do table.remove(t, 1) end",
            "local t = {} for i = 1, 10000 do t[i] = i end for i = 1, 1000 do table.concat(t) end",
            "local t = {} for i = 1, 7000 do t[i] = i end for i = 1, 1000 do unpack(t) end",
        ];
        let mut interpreter = Interpreter::new();
        for script in SCRIPTS {
            assert_eq!(ended(&mut interpreter, script, 1_000_000), Ended::OutOfInstructions, "{script}");
        }
    }

    /// What Lua itself does by size, in a hundred rounds: at least so many instructions more than in none, and at most three times
    /// as many.
    #[test]
    fn what_lua_does_by_size_counts_by_size() {
        const LONG: &str =
            "local a = string.rep('x', 1000000) local b, n = a .. 'b', string.rep('1', 100000)";
        const LISTED: &str = "local t = {} for i = 1, 100000 do t[i] = i end";
        const HASHED: &str = "local t = {} for i = 1, 65536 do t[-i] = i end";
        const CLASHING: &str = "local t = {} local function k(i) return 2 ^ 52 + i * 2 ^ 32 + 2 ^ 31 - i end for i = 1, 1000 do t[k(i)] = i end";
        const SCRIPTS: [(&str, &str, u64); 19] = [
            (LONG, "local c = a < b", 7_800),
            (LONG, "local c = b <= a", 7_800),
            (LONG, "pcall(function() return a > b end)", 7_800),
            (LONG, "coroutine.wrap(function() return a > b end)()", 7_800),
            (LONG, "table.sort({a, b})", 7_800),
            (LONG, "local c = n + 1", 25_000),
            (LONG, "local c = -n", 25_000),
            (LONG, "for i = n, 1 do end", 25_000),
            (LONG, "local c = math.floor(n)", 25_000),
            (LONG, "local c = tonumber(n, 2)", 25_000),
            (LONG, "local c = a .. b", 125_000),
            (LISTED, "t['k' .. r] = r t['k' .. r - 1] = nil", 4_000),
            (LISTED, "local c = {unpack(t, 1, 7000)}", 1_750),
            (LISTED, "(function(...) return select('#', ...) end)(unpack(t, 1, 7000))", 3_500),
            (
                "local t = {} for i = 1, 100000 do t[i] = i end for i = 1, 100000 do t[i] = nil end",
                "next(t)",
                12_500,
            ),
            (HASHED, "t[-r] = nil t[-65536 - r] = r", 262_144),
            ("local t = {} for i = 1, 32768 do t[-i] = i end", "table.maxn(t)", 131_072),
            (CLASHING, "local c = t[k(1001)]", 900),
            ("local a = string.rep(' ', 100000)", "local f = loadstring(a)", 100_000),
        ];
        let mut interpreter = Interpreter::new();
        for (head, body, least) in SCRIPTS {
            let mut run =
                |rounds| counted(&mut interpreter, format!("{head} for r = 1, {rounds} do {body} end"));
            let more = run(100) - run(0);
            let counts = (100 * least..300 * least + 10_000).contains(&more);
            assert!(counts, "{body}: {more} more instructions");
        }
    }

    /// What ends early, or is short, costs no more than it is.
    #[test]
    fn what_is_short_counts_as_one_instruction() {
        const HEAD: &str =
            "local a, b, c, d = 'word', 'work', string.rep('a', 100000), string.rep('b', 100000)";
        for body in
            ["local e = a < b", "local e = c < d", "local e = c == d", "local e = '12' + 1", "local e = #c"]
        {
            let run = |rounds| {
                let script = format!("{HEAD} for r = 1, {rounds} do {body} end");
                counted(&mut Interpreter::new(), script)
            };
            assert!(run(100_000) - run(0) <= 900_000, "{body}");
        }
    }

    /// Objects lie elsewhere in each process, and in each interpreter by what it has run.
    #[test]
    fn where_objects_lie_does_not_count() {
        const SCRIPT: &str = "local t, keys = {}, {} for i = 1, 30000 do
            local key = i % 3 == 0 and {} or i % 3 == 1 and function() end or coroutine.create(function() end)
            t[key], keys[i] = i, key
            if i > 1500 then t[keys[i - 1500]] = nil end
        end";
        let expected = counted(&mut Interpreter::new(), SCRIPT.to_string());
        for n in [1, 100, 5000] {
            let mut used = Interpreter::new();
            counted(&mut used, format!("local t = {{}} for i = 1, {n} do t[i] = {{function() end}} end"));
            assert_eq!(counted(&mut used, SCRIPT.to_string()), expected);
        }
    }

    /// A run that makes many pays for each, whatever earlier ones have left.
    #[test]
    fn many_strings_and_objects_count() {
        const SCRIPT: &str = "for i = 1, 30000 do local s = i .. 'x' end";
        let mut interpreter = Interpreter::new();
        let expected = counted(&mut interpreter, SCRIPT.to_string());
        assert!(expected > 1_500_000, "{expected}");
        // Few enough to stay there, and then as many runs as Lua tells from one another, more or less.
        for runs in (0..2).chain(250..260) {
            counted(&mut interpreter, "for i = 1, 3000 do local s = i .. 'x' end".to_string());
            for _ in 0..runs {
                counted(&mut interpreter, "local a".to_string());
            }
            assert_eq!(counted(&mut interpreter, SCRIPT.to_string()), expected, "{runs}");
        }
        let few = "for i = 1, 9000 do local t = {} end";
        assert!(counted(&mut interpreter, few.to_string()) < 100_000);
        let many = "for i = 1, 30000 do local t = {} end";
        assert!(counted(&mut interpreter, many.to_string()) > 300_000);
        let few = "for i = 1, 30000 do local s = i % 5000 .. 'x' end";
        assert!(counted(&mut interpreter, few.to_string()) < 500_000);
    }

    /// What all scripts see is changed by none of them, by whatever way.
    #[test]
    fn locked_tables_keep_what_they_hold() {
        const CHANGES: [&str; 10] = [
            "t.x = 1",
            "t[1] = 1",
            "rawset(t, 'x', 1)",
            "setmetatable(t, {})",
            "table.insert(t, 1)",
            "table.insert(t, 1, 1)",
            "table.sort(t, function() t[1] = 1 end) t.x = nil",
            "redis.call, t[1] = 1, 1",
            "coroutine.wrap(function() t[1] = 1 end)()",
            "setfenv(function() x = 1 end, t)()",
        ];
        let mut interpreter = Interpreter::new();
        for table in
            ["_G", "redis", "math", "string", "cjson", "coroutine", "getmetatable('')", "getmetatable(redis)"]
        {
            for change in CHANGES {
                let script = format!(
                    "local t = {table} local ok, why = pcall(function() {change} end)
                    if ok or not why:find('Attempt to modify a readonly table$') then return why or 'changed' end
                    if rawget(t, 1) or rawget(t, 'x') then return 'there' end
                    return type(redis.call)"
                );
                let kept = ended(&mut interpreter, Box::leak(script.into_boxed_str()), 1_000_000);
                assert_eq!(kept, Ended::Value(Reply::bulk("function")), "{table}: {change}");
            }
        }
    }

    /// Strings are found by a hash that leaves out most of a long one, until too many share a place.
    #[test]
    fn strings_that_share_a_place_are_found() {
        const SCRIPT: &str = "local t, s = {}, 'x%02dx%02dx%02dx' .. string.rep('yyx', 18)
            local function make(n) return s:format(n % 100, n / 100 % 100, n / 10000 % 100) end
            for n = 1, 3000 do t[n] = make(n) end
            for n = 1, 3000 do if t[n] ~= make(n) or #t[n] ~= 64 then return n end end";
        let mut interpreter = Interpreter::new();
        for _ in 0..3 {
            counted(&mut interpreter, SCRIPT.to_string());
        }
    }

    /// However large what they work on is, or what comes of it.
    #[test]
    fn what_is_done_by_size_counts_by_size() {
        const LONG: &str = "local a = string.rep('1', 100000) ";
        const MANY: &str = "local t = {} for i = 1, 7000 do t[i] = i end ";
        // One that holds the last one twice, and so on.
        const TWICE: &str = "local t = {} for i = 1, 15 do t = {t, t, t, t} end ";
        const SCRIPTS: [(&str, &str); 22] = [
            (LONG, "while true do local b = a .. 'y' end"),
            (LONG, "local f = loadstring('local a = ... return a .. a') while true do f(a) end"),
            (LONG, "local b = a .. 'b' while a < b do end"),
            (LONG, "while true do local b = a + 1 end"),
            (LONG, "while true do local b = a:sub(2) end"),
            (LONG, "while true do local b = a:upper() end"),
            (LONG, "while true do local b = string.format('%s', a) end"),
            (LONG, "while true do local b = {a:byte(1, 7000)} end"),
            (LONG, "while true do local b = redis.sha1hex(a) end"),
            (LONG, "while true do local b = redis.call('echo', a) end"),
            (LONG, "while true do local b = struct.pack('s', a) end"),
            (LONG, "while true do local b = struct.unpack('c100000', a) end"),
            (LONG, "while true do local b = cmsgpack.pack(a) end"),
            (LONG, "while true do local b = cjson.encode(a) end"),
            (MANY, "local s = cjson.encode(t) while true do local b = cjson.decode(s) end"),
            (MANY, "local s = cmsgpack.pack(t) while true do local b = cmsgpack.unpack(s) end"),
            (MANY, "while true do local b = bit.bor(unpack(t)) end"),
            (MANY, "local function f(...) return f(...) end return f(unpack(t))"),
            (TWICE, "return cjson.encode(t)"),
            (TWICE, "return cmsgpack.pack(t)"),
            (TWICE, "return t"),
            ("", "while true do redis.call('ping') end"),
        ];
        let mut interpreter = Interpreter::new();
        for (head, body) in SCRIPTS {
            let script: &'static str = Box::leak(format!("{head}{body}").into_boxed_str());
            assert_eq!(ended(&mut interpreter, script, 100_000), Ended::OutOfInstructions, "{script}");
        }
    }

    #[test]
    fn arithmetic_with_digits_counts_by_how_many_there_are() {
        const SUM: &str = "for i = 1, 1000 do local ok, b = pcall(function() return a + 1 end) end return 1";
        let run = |text: &str| {
            let script: &'static str = Box::leak(format!("local a = {text} {SUM}").into_boxed_str());
            ended(&mut Interpreter::new(), script, 1_000_000)
        };
        assert_eq!(run("string.rep('1', 60000)"), Ended::OutOfInstructions);
        assert_eq!(run("string.rep('1', 60000):sub(2)"), Ended::OutOfInstructions);
        assert_eq!(run("'1' .. string.rep('z', 6000)"), Ended::Value(Reply::Int(1)));
    }

    /// A string may be a word many times over, or an element of the answer.
    #[test]
    fn what_lies_outside_of_lua_counts_as_memory() {
        let budget = Budget { bytes: 4 << 20, ..Budget::default() };
        for script in [
            "local t = {} for i = 1, 5000 do t[i] = string.rep('x', 10000) end return redis.pcall('mset', unpack(t))",
            "local t = {} for i = 1, 5000 do t[i] = string.rep('x', 10000) end return t",
            "local t = {} for i = 1, 5000 do t[i] = string.rep('x', 10000) end return cjson.encode(t)",
        ] {
            assert_eq!(ended_within(&mut Interpreter::new(), script, budget), Ended::OutOfMemory, "{script}");
        }
    }

    #[test]
    fn a_function_may_give_back_many_values() {
        const SCRIPT: &str =
            "local t = {} for i = 1, 7000 do t[i] = i end return select('#', pcall(unpack, t))";
        assert_eq!(ended(&mut Interpreter::new(), SCRIPT, 1_000_000), Ended::Value(Reply::Int(7001)));
    }

    /// Memory is measured a second time only if its lack is noticed. So no script may catch it, however little there is.
    #[test]
    fn a_lack_of_memory_cannot_be_caught() {
        const SCRIPTS: [&str; 7] = [
            "local s = string.rep('x=1 ', 5000) local f, e = loadstring(s) return e or 'good'",
            "local s = '[' .. string.rep('1,', 5000) .. '1]' local ok, e = pcall(cjson.decode, s) return ok and 'good' or e",
            "local t = {} for i = 1, 3000 do t[i] = i end local ok, e = pcall(cmsgpack.pack, unpack(t)) return ok and 'good' or e",
            "local ok, e = pcall(string.rep, 'x', 300000) return ok and 'good' or e",
            "local c = coroutine.create(function() return #string.rep('x', 300000) end) local ok, e = coroutine.resume(c) return ok and 'good' or e",
            "local ok, e = pcall(redis.call, 'ping', string.rep('x', 100000)) return ok and 'good' or e",
            "local ok, e = pcall(string.gsub, string.rep('x', 100000), 'x', 'yy') return ok and 'good' or e",
        ];
        for script in SCRIPTS {
            let mut short = 0;
            for bytes in (1..120).map(|n| n * 7919) {
                match ended_within(&mut Interpreter::new(), script, Budget { bytes, ..Budget::default() }) {
                    Ended::OutOfMemory => short += 1,
                    Ended::Value(Reply::Bulk(good)) if good == "good" => {}
                    other => panic!("{script} with {bytes}: {other:?}"),
                }
            }
            assert!((1..119).contains(&short), "{script}: {short}");
        }
    }
}
