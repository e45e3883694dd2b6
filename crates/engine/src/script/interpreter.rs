//! One Lua state with everything that scripts see, and the code it has compiled. Never part of the state.

use std::rc::Rc;

use bytes::Bytes;
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use mlua::chunk::ChunkMode;
use mlua::{Function, Lua, LuaOptions, StdLib, Table, Value};

use super::api::{NO_MEMORY, World};
use super::host::{Host, Over};
use super::library::FunctionInfo;
use super::raw::{Entrance, Returned};
use super::scripts::sha1_hex;
use super::{Code, Ending, Run, api, convert, lib, source};
use crate::error::CommandError;
use crate::reply::Reply;

const PRELUDE: &str = include_str!("prelude.lua");

/// Compiled chunks that one interpreter keeps.
const COMPILED: usize = 1000;

/// An interpreter that has come to hold so much more when a script has ended collects its garbage. Beyond what stays after that:
/// the code of many scripts alone may be more, and would have each of them collect in vain.
const GARBAGE_BYTES: usize = 256 << 10;

/// How a run ended.
#[derive(Debug, PartialEq)]
pub enum Ended {
    /// With this answer.
    Value(Reply),
    /// With an error that it did not catch.
    Error(CommandError),
    /// It needed more memory than it may use.
    OutOfMemory,
    /// It ran longer than it may.
    OutOfInstructions,
    /// It was stopped.
    Stopped(Ending),
}

impl Ended {
    /// What the client is told. Of the last three nothing has been done.
    pub fn into_reply(self, name: &str) -> Reply {
        let error = |text: String| Reply::Error(CommandError::Message(text));
        match self {
            Ended::Value(reply) => reply,
            Ended::Error(error) => Reply::Error(error),
            Ended::OutOfMemory => {
                error(format!("ERR script {name} needs more memory than it may use; its writes are undone"))
            }
            Ended::OutOfInstructions => {
                error(format!("ERR script {name} runs more instructions than it may; its writes are undone"))
            }
            Ended::Stopped(why) => {
                let why = match why {
                    Ending::ScriptKill => "Script killed by user with SCRIPT KILL.",
                    Ending::FunctionKill => "Script killed by user with FUNCTION KILL.",
                    Ending::Time => "it has run for as long as a script that only reads may",
                    Ending::Unwanted => "the node is shutting down",
                };
                error(format!("ERR Error running script, {name}: {why}"))
            }
        }
    }
}

/// A Lua state.
pub struct Interpreter {
    lua: Lua,
    entrance: Entrance,
    fcall: Function,
    load: Function,
    world: Rc<World>,
    /// What scripts see, and what the code of libraries does.
    globals: Table,
    library_globals: Table,
    /// Chunks by the SHA-1 of their text, in hexadecimal digits. Lua's own table, as Lua lends out few values at a time: how
    /// many arguments a call can take must not depend on what has been compiled.
    compiled: Table,
    /// How many of them.
    compiled_count: usize,
    /// What it used when garbage was last collected.
    kept_bytes: usize,
    /// The host of an earlier run, whose room the next one may use.
    pub room: Option<Box<Host>>,
}

impl Interpreter {
    /// A new state, the same everywhere.
    pub fn new() -> Interpreter {
        Interpreter::try_new().expect("the prelude is sound, and there is memory to run it")
    }

    fn try_new() -> mlua::Result<Interpreter> {
        let libraries = StdLib::STRING | StdLib::TABLE | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::new().catch_rust_panics(false))?;
        let world = Rc::<World>::default();
        let prelude = lua.load(PRELUDE).set_name("@quoris").set_mode(ChunkMode::Text).into_function()?;
        let api: Table = prelude.call((api::functions(&lua, &world)?, lib::math(&lua)?, lib::all(&lua)?))?;
        let globals: Table = api.get("globals")?;
        lua.set_globals(globals.clone())?;
        let compiled = lua.create_table()?;
        let entrance = Entrance::new(&lua, &api, &compiled)?;
        lua.gc_collect()?;
        // The collector rests: else what a weak table still holds would depend on what the state has run before.
        lua.gc_stop();
        let kept_bytes = entrance.used_bytes();
        Ok(Interpreter {
            entrance,
            fcall: api.get("fcall")?,
            load: api.get("load")?,
            globals,
            library_globals: api.get("library_globals")?,
            kept_bytes,
            lua,
            world,
            compiled,
            compiled_count: 0,
            room: None,
        })
    }

    /// Bytes that it holds.
    pub fn used_bytes(&self) -> usize {
        self.lua.used_memory()
    }

    /// Runs a script in `host`, which it gives back.
    pub fn run(&mut self, host: Box<Host>, run: &Run) -> (Box<Host>, Ended) {
        // Before memory is limited: what a script may use must not depend on whether it has been compiled before.
        match &run.code {
            Code::Script { sha, body } => {
                let ready = self.make_ready(sha, body, run);
                self.within(host, |interpreter| ready.and_then(|()| interpreter.call_script(sha)))
            }
            Code::Function { name, library } => {
                let made = self.compile_library(library);
                self.entrance.enter_library();
                self.entrance.number_anew();
                let made = made.and_then(|code| Ok((code, self.list(run.keys)?, self.list(run.args)?)));
                self.within(host, |interpreter| {
                    let (code, keys, args) = made?;
                    interpreter.call_function(name, code, keys, args)
                })
            }
        }
    }

    /// Loads a library: the functions that it registers.
    pub fn load_library(&mut self, host: Box<Host>, code: &Bytes) -> Result<Vec<FunctionInfo>, CommandError> {
        let mut host = host;
        host.loading = Some(Vec::new());
        let chunk = self.compile_library(code);
        self.entrance.enter_library();
        self.entrance.number_anew();
        let (mut host, ended) =
            self.within(host, |interpreter| interpreter.register(chunk?).map(|_| Ended::Value(Reply::OK)));
        match ended {
            Ended::Value(_) => Ok(host.loading.take().unwrap_or_default()),
            Ended::Error(error) => Err(error),
            _ => Err(CommandError::Text("ERR FUNCTION LOAD timeout")),
        }
    }

    /// Makes `host` the world of what `run` runs, within the host's budget.
    fn within(
        &mut self,
        mut host: Box<Host>,
        run: impl FnOnce(&mut Interpreter) -> Result<Ended, CommandError>,
    ) -> (Box<Host>, Ended) {
        let limit = self.used_bytes() + host.budget.bytes;
        host.bytes_limit = limit;
        self.entrance.watch(host.budget.instructions);
        self.world.begin(host);
        let limited = self.lua.set_memory_limit(limit).is_ok();
        assert!(limited, "a state of our own has a limit of its own");
        let ended = run(self).unwrap_or_else(Ended::Error);
        let mut host = self.world.end();
        host.spend(self.entrance.unwatch());
        let ended = match host.over {
            None => ended,
            Some(Over::Instructions) => Ended::OutOfInstructions,
            Some(Over::Memory) => Ended::OutOfMemory,
            Some(Over::Stopped(why)) => Ended::Stopped(why),
        };
        let lifted = self.lua.set_memory_limit(0).is_ok();
        assert!(lifted, "a state of our own has a limit of its own");
        self.entrance.leave();
        self.collect();
        (host, ended)
    }

    /// Collects garbage if there is enough of it, while nothing runs.
    fn collect(&mut self) {
        let used = self.entrance.used_bytes();
        if used > self.kept_bytes + GARBAGE_BYTES.max(self.kept_bytes / 2) {
            // A finalizer could fail; there are none.
            let _ = self.lua.gc_collect();
            // That has woken it.
            self.lua.gc_stop();
            self.kept_bytes = self.entrance.used_bytes();
        }
    }

    /// Compiles the script if it has not been yet, and hands it its lists.
    fn make_ready(&mut self, sha: &str, body: &Bytes, run: &Run) -> Result<(), CommandError> {
        self.entrance.number_anew();
        if !self.entrance.enter(sha, run.keys, run.args) {
            self.compile_script(sha, body)?;
            self.entrance.number_anew();
            assert!(self.entrance.enter(sha, run.keys, run.args), "it has just been compiled");
        }
        Ok(())
    }

    /// Runs the script that has been made ready.
    fn call_script(&mut self, sha: &str) -> Result<Ended, CommandError> {
        match self.entrance.run() {
            Returned::Plain(value) => {
                let used = self.lua.used_memory();
                reply(&self.world, used, |resp3, left| convert::plain_to_reply(&value, resp3, left))
                    .map(Ended::Value)
            }
            Returned::Other(ended, value) => self.answer(ended, &value, sha),
            Returned::Failed(error) => settle(&self.world, Err(error)),
        }
    }

    /// Runs a function of the library that `code` is.
    fn call_function(
        &mut self,
        name: &str,
        code: Function,
        keys: Table,
        args: Table,
    ) -> Result<Ended, CommandError> {
        let callback = self.register(code)?.get(name).cloned();
        let callback = callback.ok_or(CommandError::Text("ERR Function not found"))?;
        let (ended, value): (bool, Value) = settle(&self.world, self.fcall.call((callback, keys, args)))?;
        self.answer(ended, &value, name)
    }

    /// What comes of a value, or of what the script did not catch.
    fn answer(&self, ended: bool, value: &Value, name: &str) -> Result<Ended, CommandError> {
        if ended {
            let used = self.used_bytes();
            return reply(&self.world, used, |resp3, left| convert::to_reply(value, resp3, left))
                .map(Ended::Value);
        }
        // Lua calls no handler when memory is short.
        if matches!(value, Value::String(text) if text.as_bytes() == NO_MEMORY.as_bytes()) {
            self.world.with(Host::run_out_of_memory);
        }
        Ok(Ended::Error(uncaught(value, name)))
    }

    /// Compiles a script. The error says where it is wrong.
    pub fn compile_script(&mut self, sha: &str, body: &Bytes) -> Result<Function, CommandError> {
        self.chunk(sha, body, "@user_script", self.globals.clone()).map_err(|text| {
            CommandError::Message(format!("ERR Error compiling script (new function): {text}"))
        })
    }

    fn compile_library(&mut self, code: &Bytes) -> Result<Function, CommandError> {
        let chunk = self.chunk(&sha1_hex(code), code, "@user_function", self.library_globals.clone());
        chunk.map_err(|text| CommandError::Message(format!("ERR Error compiling function: {text}")))
    }

    /// Runs a library's code. Its locals begin anew each time: a library keeps nothing from one call to the next, for
    /// another replica would not know of it.
    fn register(&self, chunk: Function) -> Result<IndexMap<String, Function, FixedState>, CommandError> {
        self.lua.set_app_data(Registering::default());
        let (ok, failure): (bool, Value) = settle(&self.world, self.load.call(chunk))?;
        let registered = self.lua.remove_app_data::<Registering>().unwrap_or_default();
        if ok {
            return Ok(registered.callbacks);
        }
        let error = uncaught(&failure, "").to_string();
        Err(CommandError::Message(format!("ERR Error registering functions: {error}")))
    }

    /// The function that runs `text`, without its first line if that is a `#!` one.
    fn chunk(&mut self, sha: &str, text: &Bytes, name: &str, env: Table) -> Result<Function, String> {
        if let Ok(Some(function)) = self.compiled.raw_get(sha) {
            return Ok(function);
        }
        let shebang = if text.starts_with(b"#!") {
            text.iter().position(|b| *b == b'\n').unwrap_or(text.len())
        } else {
            0
        };
        let prepared = source::prepared(&text[shebang..]);
        let chunk = self.lua.load(&*prepared).set_name(name).set_mode(ChunkMode::Text);
        let function = chunk.set_environment(env).into_function().map_err(|error| match error {
            mlua::Error::SyntaxError { message, .. } => message,
            other => other.to_string(),
        })?;
        if self.compiled_count >= COMPILED {
            self.compiled.clear().map_err(|error| error.to_string())?;
            self.compiled_count = 0;
        }
        self.compiled.raw_set(sha, &function).map_err(|error| error.to_string())?;
        self.compiled_count += 1;
        self.collect();
        Ok(function)
    }

    fn list(&mut self, words: &[Bytes]) -> Result<Table, CommandError> {
        let list = self.entrance.list(words);
        settle(&self.world, list)
    }
}

/// What the client is told of a script's value, at the script's cost.
fn reply(
    world: &World,
    used_bytes: usize,
    make: impl FnOnce(bool, &mut convert::Left) -> mlua::Result<Reply>,
) -> Result<Reply, CommandError> {
    let terms = world.with(|host| {
        let bytes = host.bytes_limit.saturating_sub(used_bytes);
        (host.resp3, convert::Left { instructions: host.instructions_left(), bytes })
    });
    let (resp3, mut left) = terms.expect("a host is there while a script runs");
    let before = left.instructions;
    let reply = make(resp3, &mut left);
    // More than there is, if nothing is left: it has been cut off, or would be by the next value.
    let spent = before - left.instructions + u64::from(left.instructions == 0);
    world.with(|host| host.spend(spent));
    settle(world, reply)
}

/// What goes wrong outside of the script's own code is a lack of memory, or a fault of ours.
fn settle<T>(world: &World, result: mlua::Result<T>) -> Result<T, CommandError> {
    result.map_err(|error| {
        if matches!(error, mlua::Error::MemoryError(_)) {
            world.with(Host::run_out_of_memory);
        }
        CommandError::Message(format!("ERR Error running script: {}", first_line(&error.to_string())))
    })
}

/// The functions that a library's code registers while it runs.
#[derive(Default)]
pub struct Registering {
    /// By name.
    pub callbacks: IndexMap<String, Function, FixedState>,
}

/// An error that a script did not catch, as `located` of prelude.lua hands it over.
fn uncaught(failure: &Value, name: &str) -> CommandError {
    let Value::Table(failure) = failure else {
        return CommandError::Message(format!("ERR Error running script {name}"));
    };
    let field = |name: &str| failure.raw_get::<Option<mlua::LuaString>>(name).ok().flatten();
    let text = field("err").map_or_else(String::new, |text| text.to_string_lossy());
    let mut message = text;
    match field("source") {
        _ if name.is_empty() => {}
        Some(source) => {
            let line = failure.raw_get::<Value>("line").map(|line| convert::number_of(&line)).unwrap_or(0.0);
            message += &format!(" script: {name}, on {}:{line}.", source.to_string_lossy());
        }
        // A function that ends in a call (`return redis.call(…)`) has left the stack by then.
        None => message += &format!(" script: {name}"),
    }
    convert::error_of(&message)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
