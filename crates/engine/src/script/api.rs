//! What prelude.lua makes `redis.*` of: functions that ask the host.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use mlua::{Lua, MultiValue, Table, Value};

use super::host::Host;
use super::interpreter::Registering;
use super::library::RegisterError;
use super::raw::{self, Next, Word, Words};
use super::{convert, cost, lib, source};
use crate::REDIS_VERSION;
use crate::error::CommandError;
use crate::reply::Reply;

/// What a script that is at its end gets for an error. It cannot catch it.
pub const SPENT: &str = "the script has used up its budget";

/// What Lua calls a lack of memory, and prelude.lua recognises.
pub const NO_MEMORY: &str = "not enough memory";

/// Where a state's functions find the host of the run that is under way, if one is.
#[derive(Default)]
pub struct World {
    host: RefCell<Option<Box<Host>>>,
    /// The last reply to a call, while it is handed to Lua.
    reply: RefCell<Option<Handed>>,
    /// A panic that is on its way through Lua.
    panic: RefCell<Option<Box<dyn Any + Send>>>,
}

/// A reply, and how it is to be handed over.
struct Handed {
    reply: Reply,
    resp3: bool,
}

/// The functions of `host` in prelude.lua. They answer whether they succeeded, then the value or the error's text.
pub fn functions(lua: &Lua, world: &Rc<World>) -> mlua::Result<Table> {
    let host = lua.create_table()?;
    host.set("version", REDIS_VERSION)?;
    let number = REDIS_VERSION.split('.').fold(0, |sum, part| sum << 8 | part.parse().unwrap_or(0));
    host.set("version_num", number)?;
    let [call, pcall] = raw::commands(lua, world)?;
    host.set("call", call)?;
    host.set("pcall", pcall)?;
    let [lock, charge] = raw::marks(lua)?;
    host.set("lock", lock)?;
    host.set("charge", charge)?;
    host.set("tonumber", lua.create_function(|lua, original| raw::tonumber(lua, &original))?)?;
    host.set("raised", lua.create_function(raised)?)?;
    let look = |lua: &Lua, ()| {
        let owed = raw::owed(lua);
        Ok(with(lua, |host| host.look(owed)))
    };
    host.set("look", lua.create_function(look)?)?;
    host.set("where", lua.create_function(locate)?)?;
    host.set("must_end", lua.create_function(|lua, ()| Ok(must_end(lua)))?)?;
    host.set("patterns", lib::patterns(lua)?)?;
    let out_of_memory = |lua: &Lua, ()| {
        with(lua, Host::run_out_of_memory);
        Ok(())
    };
    host.set("out_of_memory", lua.create_function(out_of_memory)?)?;
    host.set(
        "prepared",
        lua.create_function(|lua, text: mlua::LuaString| {
            lua.create_string(source::prepared(&text.as_bytes()))
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

/// Asks the host; the default if there is none.
pub fn with<R: Default>(lua: &Lua, look: impl FnOnce(&mut Host) -> R) -> R {
    lua.app_data_ref::<Rc<World>>().and_then(|world| world.with(look)).unwrap_or_default()
}

fn text(lua: &Lua, text: impl AsRef<[u8]>) -> mlua::Result<Value> {
    Ok(Value::String(lua.create_string(text)?))
}

fn refused(lua: &Lua, why: &str) -> Answer {
    Ok((false, text(lua, format!("ERR {why}"))?))
}

/// An error that redis.call raises. Lua sees an opaque value, of which `raised` makes what scripts see.
#[derive(Debug)]
struct Raised(CommandError);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Raised {}

impl World {
    /// Puts the host of a run in its place.
    pub fn begin(&self, host: Box<Host>) {
        self.host.replace(Some(host));
    }

    /// The host of the run that has ended.
    pub fn end(&self) -> Box<Host> {
        self.reply.replace(None);
        self.host.take().expect("nothing else takes it")
    }

    /// Asks the host, if there is one.
    pub fn with<R>(&self, look: impl FnOnce(&mut Host) -> R) -> Option<R> {
        self.ask(|host| host.map(look))
    }

    /// Asks, whether or not there is a host.
    pub fn ask<R>(&self, look: impl FnOnce(Option<&mut Host>) -> R) -> R {
        look(self.host.borrow_mut().as_deref_mut())
    }

    /// Called every [`super::host::INSTRUCTIONS_PER_LOOK`] instructions, with what Lua has counted besides. How many are left: with
    /// none the script must end.
    pub fn look(&self, owed: u64) -> u64 {
        let look = |host: &mut Host| if host.look(owed) { 0 } else { host.instructions_left().max(1) };
        self.with(look).unwrap_or(u64::MAX)
    }

    /// Runs the command that `words` call, and says how its reply is handed over.
    pub fn call(&self, words: &Words) -> Next {
        const NO_SCRIPT: &str = "ERR redis.call/pcall can only be called inside a script invocation";
        let made = self.with(|host| {
            let reply = match words_of(words, host) {
                Ok(words) => host.call(words),
                Err(error) => {
                    if error == CommandError::OutOfMemory {
                        host.run_out_of_memory();
                    }
                    Reply::Error(error)
                }
            };
            Handed { reply, resp3: host.resp3 }
        });
        let none = || Handed { reply: Reply::Error(CommandError::Text(NO_SCRIPT)), resp3: false };
        let handed = made.unwrap_or_else(none);
        let next = match &handed.reply {
            Reply::Int(n) => return Next::Number(*n as f64),
            Reply::Null if !handed.resp3 => return Next::Bool(false),
            Reply::Bulk(_) => Next::Text,
            Reply::Simple("OK") => return Next::Ok,
            Reply::Simple(_) | Reply::Status(_) => Next::Status,
            _ => Next::Other,
        };
        self.reply.replace(Some(handed));
        next
    }

    /// Where the text of the last reply lies, and how long it is: there until the next call.
    pub fn text(&self) -> (*const u8, usize) {
        let handed = self.reply.borrow();
        let text: &[u8] = match handed.as_ref().map(|handed| &handed.reply) {
            Some(Reply::Bulk(text) | Reply::Status(text)) => text,
            Some(Reply::Simple(text)) => text.as_bytes(),
            _ => b"",
        };
        (text.as_ptr(), text.len())
    }

    /// The last reply as a value of Lua's; or the panic that is on its way. `raises`: an error is raised.
    pub fn hand_over(&self, lua: &Lua, raises: bool) -> mlua::Result<Value> {
        if let Some(panic) = self.panic.take() {
            std::panic::resume_unwind(panic);
        }
        match self.reply.take() {
            Some(Handed { reply: Reply::Error(error), .. }) if raises => {
                Err(mlua::Error::external(Raised(error)))
            }
            Some(Handed { reply, resp3 }) => convert::to_lua(lua, &reply, resp3),
            None => Ok(Value::Nil),
        }
    }

    /// Keeps a panic until [`World::hand_over`] lets it go on.
    pub fn panicked(&self, panic: Box<dyn Any + Send>) -> Next {
        self.panic.replace(Some(panic));
        Next::Other
    }
}

/// So much memory is taken at once for the words of several calls.
const BYTES_OF_SEVERAL: usize = 512;

/// The words of a call, side by side in memory that calls share: nobody keeps them beyond the call's events. One string may be a
/// word many times over, so they count as memory of the script.
fn words_of(words: &Words, host: &mut Host) -> Result<Vec<Bytes>, CommandError> {
    const NONE: &str = "ERR Please specify at least one argument for this redis lib call";
    if words.count() == 0 {
        return Err(CommandError::Text(NONE));
    }
    let (mut text, mut lens) = std::mem::take(&mut host.words);
    let gathered = gather(words, host.bytes_limit, &mut text, &mut lens);
    let mut all = text.split().freeze();
    if all.len() > BYTES_OF_SEVERAL {
        // What is left belongs to a large piece of memory, which must not stay for its sake.
        text = BytesMut::new();
    }
    let made = gathered.map(|()| lens.iter().map(|len| all.split_to(*len)).collect());
    host.words = (text, lens);
    made
}

/// Puts the words one behind the other into `text`, and says in `lens` how long each is.
fn gather(
    words: &Words,
    bytes_limit: usize,
    text: &mut BytesMut,
    lens: &mut Vec<usize>,
) -> Result<(), CommandError> {
    const OTHER: &str = "ERR Lua redis lib command arguments must be strings or integers";
    /// What the words of one call may take in any case.
    const FREE_BYTES: usize = 4096;
    const USUAL_BYTES: usize = 160;
    if text.capacity() < USUAL_BYTES {
        *text = BytesMut::with_capacity(BYTES_OF_SEVERAL);
    }
    lens.clear();
    words.each(|word| {
        let before = text.len();
        match word {
            Word::Text(word) => text.extend_from_slice(word),
            Word::Number(number) => lib::put_word(number, text),
            Word::Other => return Err(CommandError::Text(OTHER)),
        }
        lens.push(text.len() - before);
        if text.len() > FREE_BYTES && text.len() > bytes_limit.saturating_sub(words.used_bytes()) {
            return Err(CommandError::OutOfMemory);
        }
        Ok(())
    })
}

/// Asked at each error: whether the script is at its end, whatever it catches.
///
/// Not every lack of memory is told as one: where a stack cannot grow, Lua says that there are too many values. As a stack grows
/// to at most twice its size or by what a C function may ask for, an error means nothing else only while as much is left.
fn must_end(lua: &Lua) -> bool {
    const ASKED_BYTES: usize = 256 << 10;
    let (used, owed) = (lua.used_memory(), raw::owed(lua));
    with(lua, |host| {
        host.spend(owed);
        if 2 * used + ASKED_BYTES > host.bytes_limit {
            host.run_out_of_memory();
        }
        host.over.is_some()
    })
}

/// What a script sees of an error that Rust has raised: redis.call's table, or nil if it is another.
fn raised(lua: &Lua, failure: Value) -> mlua::Result<Value> {
    let Value::Error(failure) = failure else { return Ok(Value::Nil) };
    if lacks_memory(&failure) {
        with(lua, Host::run_out_of_memory);
    }
    match raised_in(&failure) {
        Some(Raised(error)) => convert::to_lua(lua, &Reply::Error(error.clone()), false),
        None => Ok(Value::Nil),
    }
}

fn raised_in(failure: &mlua::Error) -> Option<&Raised> {
    match failure {
        mlua::Error::CallbackError { cause, .. } => raised_in(cause),
        mlua::Error::ExternalError(error) => error.downcast_ref(),
        _ => None,
    }
}

/// Whether Lua has failed for want of memory, or of places for what it lends to Rust: that too depends on what is left.
fn lacks_memory(failure: &mlua::Error) -> bool {
    match failure {
        mlua::Error::CallbackError { cause, .. } => lacks_memory(cause),
        mlua::Error::MemoryError(_) | mlua::Error::StackError => true,
        _ => false,
    }
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
    let len = word.as_ref().map_or(0, |word| word.as_bytes().len());
    with(lua, |host| host.spend(cost::of_bytes(len) * 4));
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

/// Whether the script's user may make a call.
fn acl_check_cmd(lua: &Lua, args: MultiValue) -> Answer {
    if args.is_empty() {
        return refused(lua, "Please specify at least one argument for this redis.acl_check_cmd() call");
    }
    let words: Vec<Bytes> = args
        .iter()
        .filter_map(|arg| lua.coerce_string(arg.clone()).ok().flatten())
        .map(|word| Bytes::copy_from_slice(&word.as_bytes()))
        .collect();
    let Some(row) = crate::command::lookup(&words) else {
        return refused(lua, "Invalid command passed to redis.acl_check_cmd()");
    };
    Ok((true, Value::Boolean(with(lua, |host| host.may_call(row, &words)))))
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
