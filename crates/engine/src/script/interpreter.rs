//! One Lua state with everything that scripts see, and the code it has compiled. Never part of the state.

use bytes::Bytes;
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use mlua::chunk::ChunkMode;
use mlua::{Function, HookTriggers, Lua, LuaOptions, MultiValue, StdLib, Table, Value, VmState};

use super::host::{Host, INSTRUCTIONS_PER_LOOK, Over};
use super::library::{FunctionInfo, RegisterError};
use super::scripts::sha1_hex;
use super::{Code, Ending, Run, convert, lib, power};
use crate::REDIS_VERSION;
use crate::error::CommandError;
use crate::keyspace::Keyspace;
use crate::reply::Reply;

const PRELUDE: &str = include_str!("prelude.lua");

/// Compiled chunks that one interpreter keeps.
const COMPILED: usize = 1000;

/// An interpreter that holds more than this when a script has ended collects its garbage.
const GARBAGE_BYTES: usize = 512 << 10;

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
    eval: Function,
    fcall: Function,
    load: Function,
    env: Table,
    /// By the SHA-1 of their text, in hexadecimal digits.
    compiled: IndexMap<String, Function, FixedState>,
}

impl Interpreter {
    /// A new state, the same everywhere.
    pub fn new() -> Interpreter {
        Interpreter::try_new().expect("the prelude is sound, and there is memory to run it")
    }

    fn try_new() -> mlua::Result<Interpreter> {
        let libraries = StdLib::STRING | StdLib::TABLE | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::new().catch_rust_panics(false))?;
        let prelude = lua.load(PRELUDE).set_name("@quoris").set_mode(ChunkMode::Text).into_function()?;
        let api: Table = prelude.call((host_functions(&lua)?, lib::math(&lua)?, lib::all(&lua)?))?;
        let env: Table = api.get("env")?;
        lua.set_globals(env.clone())?;
        Ok(Interpreter {
            eval: api.get("eval")?,
            fcall: api.get("fcall")?,
            load: api.get("load")?,
            env,
            lua,
            compiled: IndexMap::default(),
        })
    }

    /// Bytes that it holds.
    pub fn used_bytes(&self) -> usize {
        self.lua.used_memory()
    }

    /// Runs a script in `host`; gives back the keys.
    pub fn run(&mut self, host: Host, run: &Run) -> (Keyspace, Ended) {
        // Before memory is limited: each allocation costs less then, and these are the same everywhere.
        let words = self.list(run.keys).and_then(|keys| Ok((keys, self.list(run.args)?)));
        let (host, ended) = self.within(host, |interpreter| {
            let (keys, args) = words?;
            interpreter.call(run, keys, args)
        });
        (host.into_keys(), ended)
    }

    /// Loads a library: the functions that it registers.
    pub fn load_library(&mut self, host: Host, code: &Bytes) -> Result<Vec<FunctionInfo>, CommandError> {
        let mut host = host;
        host.loading = Some(Vec::new());
        let (mut host, ended) =
            self.within(host, |interpreter| interpreter.register(code).map(|_| Ended::Value(Reply::OK)));
        match ended {
            Ended::Value(_) => Ok(host.loading.take().unwrap_or_default()),
            Ended::Error(error) => Err(error),
            _ => Err(CommandError::Text("ERR FUNCTION LOAD timeout")),
        }
    }

    /// Makes `host` the world of what `run` runs, within the host's budget.
    fn within(
        &mut self,
        host: Host,
        run: impl FnOnce(&mut Interpreter) -> Result<Ended, CommandError>,
    ) -> (Host, Ended) {
        let bytes = host.budget.bytes;
        self.lua.set_app_data(host);
        // The collector rests: else what a weak table still holds would depend on what the state has run before.
        self.lua.gc_stop();
        // Set anew, so that Lua begins to count anew: what it has counted since its last look is another script's.
        let hooked = watch_instructions(&self.lua).is_ok();
        assert!(hooked, "a hook can be set from outside of Lua");
        let limited = self.lua.set_memory_limit(self.used_bytes() + bytes).is_ok();
        assert!(limited, "a state of our own has a limit of its own");
        let ended = run(self).unwrap_or_else(Ended::Error);
        let host = self.lua.remove_app_data::<Host>().expect("nothing else takes it");
        let ended = match host.over {
            None => ended,
            Some(Over::Instructions) => Ended::OutOfInstructions,
            Some(Over::Memory) => Ended::OutOfMemory,
            Some(Over::Stopped(why)) => Ended::Stopped(why),
        };
        self.collect();
        (host, ended)
    }

    fn collect(&mut self) {
        let lifted = self.lua.set_memory_limit(0).is_ok();
        assert!(lifted, "a state of our own has a limit of its own");
        self.lua.gc_restart();
        if self.used_bytes() > GARBAGE_BYTES {
            // A finalizer could fail; there are none.
            let _ = self.lua.gc_collect();
        }
    }

    fn call(&mut self, run: &Run, keys: Table, args: Table) -> Result<Ended, CommandError> {
        let (ok, value): (bool, Value) = match &run.code {
            Code::Script { sha, body } => {
                let script = self.compile_script(sha, body)?;
                self.settle(self.eval.call((script, keys, args)))?
            }
            Code::Function { name, library } => {
                let callback = self.register(library)?.get(name).cloned();
                let callback = callback.ok_or(CommandError::Text("ERR Function not found"))?;
                self.settle(self.fcall.call((callback, keys, args)))?
            }
        };
        if !ok {
            return Ok(Ended::Error(uncaught(&value, run.code.name())));
        }
        let resp3 = self.lua.app_data_ref::<Host>().is_some_and(|host| host.resp3);
        Ok(Ended::Value(self.settle(convert::to_reply(&value, resp3))?))
    }

    /// Compiles a script. The error says where it is wrong.
    pub fn compile_script(&mut self, sha: &str, body: &Bytes) -> Result<Function, CommandError> {
        self.compile(sha, body, "@user_script").map_err(|text| {
            CommandError::Message(format!("ERR Error compiling script (new function): {text}"))
        })
    }

    /// Runs a library's code. Its locals begin anew each time: a library keeps nothing from one call to the next, for
    /// another replica would not know of it.
    fn register(&mut self, code: &Bytes) -> Result<IndexMap<String, Function, FixedState>, CommandError> {
        let chunk = self
            .compile(&sha1_hex(code), code, "@user_function")
            .map_err(|text| CommandError::Message(format!("ERR Error compiling function: {text}")))?;
        self.lua.set_app_data(Registering::default());
        let (ok, failure): (bool, Value) = self.settle(self.load.call(chunk))?;
        let registered = self.lua.remove_app_data::<Registering>().unwrap_or_default();
        if ok {
            return Ok(registered.callbacks);
        }
        let error = uncaught(&failure, "").to_string();
        Err(CommandError::Message(format!("ERR Error registering functions: {error}")))
    }

    /// The function that runs `text`, without its first line if that is a `#!` one.
    fn compile(&mut self, sha: &str, text: &Bytes, name: &str) -> Result<Function, String> {
        if let Some(function) = self.compiled.get(sha) {
            return Ok(function.clone());
        }
        let shebang = if text.starts_with(b"#!") {
            text.iter().position(|b| *b == b'\n').unwrap_or(text.len())
        } else {
            0
        };
        let source = power::by_libm(&text[shebang..]);
        let chunk = self.lua.load(&*source).set_name(name).set_mode(ChunkMode::Text);
        let function =
            chunk.set_environment(self.env.clone()).into_function().map_err(|error| match error {
                mlua::Error::SyntaxError { message, .. } => message,
                other => other.to_string(),
            })?;
        if self.compiled.len() >= COMPILED {
            self.compiled.clear();
        }
        self.compiled.insert(sha.to_string(), function.clone());
        Ok(function)
    }

    fn list(&self, words: &[Bytes]) -> Result<Table, CommandError> {
        let fill = || {
            let list = self.lua.create_table_with_capacity(words.len(), 0)?;
            for (i, word) in words.iter().enumerate() {
                list.raw_set(i + 1, self.lua.create_string(word)?)?;
            }
            Ok(list)
        };
        self.settle(fill())
    }

    /// What goes wrong outside of the script's own code is a lack of memory, or a fault of ours.
    fn settle<T>(&self, result: mlua::Result<T>) -> Result<T, CommandError> {
        result.map_err(|error| {
            if matches!(error, mlua::Error::MemoryError(_))
                && let Some(mut host) = self.lua.app_data_mut::<Host>()
            {
                host.run_out_of_memory();
            }
            CommandError::Message(format!("ERR Error running script: {}", first_line(&error.to_string())))
        })
    }
}

/// The functions that a library's code registers while it runs.
#[derive(Default)]
struct Registering {
    callbacks: IndexMap<String, Function, FixedState>,
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

/// Has the host look at the script now and then.
fn watch_instructions(lua: &Lua) -> mlua::Result<()> {
    let look = |lua: &Lua, _: &mlua::debug::Debug| match with(lua, Host::look) {
        true => Err(mlua::Error::runtime("the script has used up its budget")),
        false => Ok(VmState::Continue),
    };
    lua.set_global_hook(HookTriggers::new().every_nth_instruction(INSTRUCTIONS_PER_LOOK), look)
}

/// The functions of `host` in prelude.lua. They answer whether they succeeded, then the value or the error's text.
fn host_functions(lua: &Lua) -> mlua::Result<Table> {
    let host = lua.create_table()?;
    host.set("version", REDIS_VERSION)?;
    let number = REDIS_VERSION.split('.').fold(0, |sum, part| sum << 8 | part.parse().unwrap_or(0));
    host.set("version_num", number)?;
    host.set("call", lua.create_function(call)?)?;
    host.set("call_list", lua.create_function(call_list)?)?;
    host.set("look", lua.create_function(|lua, ()| Ok(with(lua, Host::look)))?)?;
    host.set("where", lua.create_function(locate)?)?;
    host.set("is_over", lua.create_function(|lua, ()| Ok(with(lua, |host| host.over.is_some())))?)?;
    let out_of_memory = |lua: &Lua, ()| {
        with(lua, Host::run_out_of_memory);
        Ok(())
    };
    host.set("out_of_memory", lua.create_function(out_of_memory)?)?;
    host.set(
        "by_libm",
        lua.create_function(|lua, text: mlua::LuaString| {
            lua.create_string(power::by_libm(&text.as_bytes()))
        })?,
    )?;
    host.set("sha1hex", lua.create_function(sha1hex)?)?;
    host.set("error_reply", lua.create_function(error_reply)?)?;
    host.set("status_reply", lua.create_function(status_reply)?)?;
    host.set("setresp", lua.create_function(setresp)?)?;
    host.set("set_repl", lua.create_function(set_repl)?)?;
    host.set("log", lua.create_function(log)?)?;
    host.set("acl_check_cmd", lua.create_function(acl_check_cmd)?)?;
    host.set("register_function", lua.create_function(register_function)?)?;
    Ok(host)
}

/// What a host function answers: whether it succeeded; the value, or what is wrong.
type Answer = mlua::Result<(bool, Value)>;

fn with<R: Default>(lua: &Lua, look: impl FnOnce(&mut Host) -> R) -> R {
    lua.app_data_mut::<Host>().map(|mut host| look(&mut host)).unwrap_or_default()
}

fn text(lua: &Lua, text: impl AsRef<[u8]>) -> mlua::Result<Value> {
    Ok(Value::String(lua.create_string(text)?))
}

fn refused(lua: &Lua, why: &str) -> Answer {
    Ok((false, text(lua, format!("ERR {why}"))?))
}

/// redis.call: the words are its arguments.
fn call(lua: &Lua, args: MultiValue) -> Answer {
    call_with(lua, args.into_iter().map(Ok))
}

/// redis.call of the first `len` elements of a table.
fn call_list(lua: &Lua, (list, len): (Table, usize)) -> Answer {
    call_with(lua, (0..len).map(|i| list.raw_get(i + 1)))
}

fn call_with(lua: &Lua, args: impl ExactSizeIterator<Item = mlua::Result<Value>>) -> Answer {
    let failed = |error: &str, quiet: bool| -> Answer {
        let table = lua.create_table()?;
        table.raw_set("err", error)?;
        if quiet {
            table.raw_set("ignore_error_stats_update", true)?;
        }
        Ok((false, Value::Table(table)))
    };
    if args.len() == 0 {
        return failed("ERR Please specify at least one argument for this redis.call() call", false);
    }
    let mut words = Vec::with_capacity(args.len());
    for arg in args {
        words.push(match arg? {
            Value::String(text) => Bytes::copy_from_slice(&text.as_bytes()),
            Value::Integer(n) => n.to_string().into(),
            Value::Number(n) => lib::format_number(n).into(),
            _ => return failed("ERR Lua redis lib command arguments must be strings or integers", false),
        });
    }
    let Some((reply, resp3)) = lua.app_data_mut::<Host>().map(|mut host| (host.call(&words), host.resp3))
    else {
        return failed("ERR redis.call/pcall can only be called inside a script invocation", false);
    };
    Ok((!reply.is_error(), convert::to_lua(lua, &reply, resp3)?))
}

/// Source and line of the innermost function of the script's own.
fn locate(lua: &Lua, (): ()) -> mlua::Result<(Option<String>, Option<usize>)> {
    for level in 1.. {
        let found = lua.inspect_stack(level, |debug| {
            let source = debug.source().source.map(|source| source.into_owned()).unwrap_or_default();
            (source.starts_with("@user_")).then(|| (source, debug.current_line()))
        });
        match found {
            None => break,
            Some(None) => {}
            Some(Some((source, line))) => return Ok((Some(source), line)),
        }
    }
    Ok((None, None))
}

fn sha1hex(lua: &Lua, args: MultiValue) -> Answer {
    if args.len() != 1 {
        return refused(lua, "wrong number of arguments");
    }
    let word = lua.coerce_string(args[0].clone())?;
    let digest =
        word.map_or_else(|| super::scripts::sha1_hex(b""), |word| super::scripts::sha1_hex(&word.as_bytes()));
    Ok((true, text(lua, digest)?))
}

fn error_reply(lua: &Lua, args: MultiValue) -> Answer {
    let table = lua.create_table()?;
    let error = match (args.len(), args.front()) {
        (1, Some(Value::String(text))) => {
            let text = text.to_string_lossy();
            let text = text.strip_prefix('-').unwrap_or(&text);
            // A single word is a message without a code.
            let (code, message) = text.split_once(' ').unwrap_or(("ERR", text));
            format!("{code} {}", message.trim_matches(['\r', '\n']))
        }
        _ => "ERR wrong number or type of arguments".to_string(),
    };
    table.raw_set("err", error)?;
    Ok((true, Value::Table(table)))
}

fn status_reply(lua: &Lua, args: MultiValue) -> Answer {
    let table = lua.create_table()?;
    match (args.len(), args.front()) {
        (1, Some(Value::String(text))) => table.raw_set("ok", text)?,
        _ => table.raw_set("err", "ERR wrong number or type of arguments")?,
    }
    Ok((true, Value::Table(table)))
}

fn setresp(lua: &Lua, args: MultiValue) -> Answer {
    if args.len() != 1 {
        return refused(lua, "redis.setresp() requires one argument.");
    }
    let version = convert::number_of(&args[0]);
    if version != 2.0 && version != 3.0 {
        return refused(lua, "RESP version must be 2 or 3.");
    }
    with(lua, |host| host.resp3 = version == 3.0);
    Ok((true, Value::Nil))
}

/// Scripts run on every replica: there is nothing to choose.
fn set_repl(lua: &Lua, args: MultiValue) -> Answer {
    if args.len() != 1 {
        return refused(lua, "redis.set_repl() requires one argument.");
    }
    match convert::number_of(&args[0]) {
        flags if (0.0..=3.0).contains(&flags) => Ok((true, Value::Nil)),
        _ => refused(
            lua,
            "Invalid replication flags. Please use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
        ),
    }
}

/// Checked and dropped: every replica runs the script, and none of them is the one to say so.
fn log(lua: &Lua, args: MultiValue) -> Answer {
    if args.len() < 2 {
        return refused(lua, "redis.log() requires two arguments or more.");
    }
    match &args[0] {
        Value::Integer(_) | Value::Number(_) => {}
        _ => return refused(lua, "First argument must be a number (log level)."),
    }
    match convert::number_of(&args[0]) {
        level if (0.0..=3.0).contains(&level) => Ok((true, Value::Nil)),
        _ => refused(lua, "Invalid log level."),
    }
}

/// There are no users with fewer rights than the script's caller: what exists is allowed.
fn acl_check_cmd(lua: &Lua, args: MultiValue) -> Answer {
    if args.is_empty() {
        return refused(lua, "Please specify at least one argument for this redis.acl_check_cmd() call");
    }
    let words: Vec<Bytes> = args
        .iter()
        .filter_map(|arg| lua.coerce_string(arg.clone()).ok().flatten())
        .map(|word| Bytes::copy_from_slice(&word.as_bytes()))
        .collect();
    match crate::command::resolve(&words) {
        Err(CommandError::UnknownCommand { .. } | CommandError::UnknownSubcommand { .. }) => {
            refused(lua, "ERR Invalid command passed to redis.acl_check_cmd()")
        }
        _ => Ok((true, Value::Boolean(true))),
    }
}

fn register_function(lua: &Lua, args: MultiValue) -> Answer {
    let Some(mut registering) = lua.app_data_mut::<Registering>() else {
        return refused(lua, "redis.register_function can only be called on FUNCTION LOAD command");
    };
    match super::library::registration(&args) {
        Ok((info, callback)) => {
            let known = registering.callbacks.insert(info.name.clone(), callback).is_some();
            if known {
                return refused(lua, "Function already exists in the library");
            }
            with(lua, |host| {
                if let Some(loading) = &mut host.loading {
                    loading.push(info);
                }
            });
            Ok((true, Value::Nil))
        }
        Err(RegisterError(why)) => refused(lua, &why),
    }
}
