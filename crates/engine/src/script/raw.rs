//! Lua's C interface, where mlua's costs too much: `redis.call` and `redis.pcall`, the look at a script every thousand
//! instructions, and the way into a script and out of it again.
//!
//! This is the only place with unsafe code. It moves words, numbers and strings between Lua's stack and Rust, and knows nothing
//! of commands, keys or budgets. What is not plain (tables, errors, panics) it leaves to mlua.
//!
//! What a reviewer must check:
//!
//! 1. **Lua's errors are jumps** (`longjmp`) over every frame up to the last `lua_pcall`. So a function of Lua's that may raise
//!    one is called only from a C function ([`call`], [`pcall`], [`number_of`], [`look`]) whose frame has nothing to drop at that moment: what
//!    has, has run in a closure that is done, and has left a [`Next`], which is `Copy`. Or it is called while there is no limit
//!    of memory, when it cannot fail: mlua's allocator aborts rather than return null.
//! 2. **No panic reaches C.** The closures run in `catch_unwind`; what they catch, mlua raises as its own functions do.
//! 3. **The stack has room.** Lua gives a C function, and a hook, `LUA_MINSTACK` (20) free places beside its arguments. None of
//!    these takes more than four.
//! 4. **Pointers into Lua's strings** are used while the string lies on the stack, and nothing runs in between.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{c_int, c_uint};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use bytes::Bytes;
use mlua::ffi::{
    LUA_GCCOUNT, LUA_GCCOUNTB, LUA_MASKCOUNT, LUA_OK, LUA_REGISTRYINDEX, LUA_TBOOLEAN, LUA_TFUNCTION,
    LUA_TNIL, LUA_TNUMBER, LUA_TSTRING, lua_Debug, lua_State, lua_call, lua_createtable, lua_error, lua_gc,
    lua_gettop, lua_pcall, lua_pop, lua_pushboolean, lua_pushcclosure, lua_pushlightuserdata,
    lua_pushlstring_, lua_pushnil, lua_pushnumber, lua_pushvalue, lua_rawget_, lua_rawgeti_, lua_rawset,
    lua_remove, lua_sethook, lua_settop, lua_toboolean, lua_tocfunction, lua_tolstring, lua_tonumber,
    lua_touserdata, lua_type, lua_upvalueindex,
};
use mlua::{Function, Lua, RegistryKey, Table, Value};

use super::api::{SPENT, World};
use super::host::INSTRUCTIONS_PER_LOOK;

/// A word of a call, where it lies on Lua's stack.
pub enum Word<'a> {
    /// A string.
    Text(&'a [u8]),
    /// A number.
    Number(f64),
    /// Something else.
    Other,
}

/// The words of a call.
pub struct Words {
    state: *mut lua_State,
    count: c_int,
}

/// So many words cross the border to C at a time.
const SOME: usize = 8;

/// What `lua_words` tells of an argument: where its text lies; a number, if it has no text but a length; or neither.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawWord {
    text: *const u8,
    len: usize,
    number: f64,
}

impl Words {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Bytes that the state uses.
    pub fn used_bytes(&self) -> usize {
        // SAFETY: the state is alive.
        unsafe { used_bytes(self.state) }
    }

    /// Hands each to `take`, in their order, until that fails.
    pub fn each<E>(&self, mut take: impl FnMut(Word) -> Result<(), E>) -> Result<(), E> {
        let mut some = [RawWord { text: std::ptr::null(), len: 0, number: 0.0 }; SOME];
        for from in (0..self.count).step_by(SOME) {
            // SAFETY: there is room for so many. It raises no error.
            let known = unsafe { lua_words(self.state, from, some.as_mut_ptr(), SOME as c_int) };
            for word in &some[..known as usize] {
                take(match word {
                    RawWord { text, len: 0, .. } if text.is_null() => Word::Other,
                    RawWord { text, number, .. } if text.is_null() => Word::Number(*number),
                    // SAFETY: the function's arguments stay on its stack while `self` is borrowed: nobody else has the state
                    // meanwhile.
                    RawWord { text, len, .. } => {
                        Word::Text(unsafe { std::slice::from_raw_parts(*text, *len) })
                    }
                })?;
            }
        }
        Ok(())
    }
}

/// Bytes that `state` uses: what it holds without what it keeps of free memory.
///
/// # Safety
/// The state is alive.
unsafe fn used_bytes(state: *mut lua_State) -> usize {
    // SAFETY: these two do nothing but tell a number, of kilobytes and of what is left beside them.
    let (kilobytes, rest) = unsafe { (lua_gc(state, LUA_GCCOUNT, 0), lua_gc(state, LUA_GCCOUNTB, 0)) };
    ((kilobytes as usize) << 10) + rest as usize
}

/// The value at `place`.
///
/// # Safety
/// The place is there, and what is there stays there for `'a`.
unsafe fn word_at<'a>(state: *mut lua_State, place: c_int) -> Word<'a> {
    // SAFETY: neither function raises an error: the one that could, by turning a number into text, is asked for strings only.
    unsafe {
        match lua_type(state, place) {
            LUA_TSTRING => {
                let mut len = 0;
                let text = lua_tolstring(state, place, &mut len);
                // A string is never null, whatever its length.
                Word::Text(std::slice::from_raw_parts(text.cast(), len))
            }
            LUA_TNUMBER => Word::Number(lua_tonumber(state, place)),
            _ => Word::Other,
        }
    }
}

/// What a C function goes on with when all that must be dropped is gone.
#[derive(Clone, Copy)]
pub enum Next {
    /// Answers a number.
    Number(f64),
    /// Answers a truth value.
    Bool(bool),
    /// Answers the text that [`World::text`] keeps.
    Text,
    /// Answers a table that has this text as `ok`.
    Status,
    /// Answers a table that has `OK` as `ok`.
    Ok,
    /// Has [`World::hand_over`] answer by mlua.
    Other,
}

/// `redis.call` and `redis.pcall`, which ask `world`: a state must not outlive the world that is its own.
pub fn commands(lua: &Lua, world: &Rc<World>) -> mlua::Result<[Function; 2]> {
    lua.set_app_data(world.clone());
    let here: *const World = Rc::as_ptr(world);
    // SAFETY: what is pushed is a closure with three upvalues. The first points to the world, which the state's own data keeps
    // alive until the state is closed. Errors of these calls are mlua's to catch: the closure has nothing to drop.
    let make = |function| unsafe {
        lua.exec_raw((), move |state| {
            lua_pushlightuserdata(state, here.cast_mut().cast());
            push(state, b"ok");
            push(state, b"OK");
            lua_pushcclosure(state, function, 3);
        })
    };
    // SAFETY: as above; the key is an address of this program's, which nobody else uses.
    unsafe {
        lua.exec_raw::<()>((), move |state| {
            lua_pushlightuserdata(state, world_key());
            lua_pushlightuserdata(state, here.cast_mut().cast());
            lua_rawset(state, LUA_REGISTRYINDEX);
        })?;
    }
    Ok([make(call)?, make(pcall)?])
}

/// Where the registry has the world, for hooks: they have no upvalues.
fn world_key() -> *mut std::ffi::c_void {
    static KEY: u8 = 0;
    (&raw const KEY).cast_mut().cast()
}

/// Lua's `tonumber`, which is `original`, for what scripts read most: the digits of an integer. To Lua a string is a number by the
/// C library's `strtod`, which it asks twice.
pub fn tonumber(lua: &Lua, original: &Function) -> mlua::Result<Function> {
    // SAFETY: what is pushed is a closure whose upvalue is the original. Errors of these calls are mlua's to catch: the closure
    // has nothing to drop.
    unsafe { lua.exec_raw(original, |state| lua_pushcclosure(state, number_of, 1)) }
}

/// `tonumber`.
unsafe extern "C-unwind" fn number_of(state: *mut lua_State) -> c_int {
    // SAFETY: Lua calls this with its arguments on the stack and a place or two free. There is nothing to drop when the original
    // raises an error: it is called as Lua would have called it, in this frame, for it knows no upvalues of its own.
    unsafe {
        if lua_gettop(state) == 1
            && let Word::Text(text) = word_at(state, 1)
            && let Some(number) = short_integer(text)
        {
            lua_pushnumber(state, number);
            return 1;
        }
        match lua_tocfunction(state, lua_upvalueindex(1)) {
            Some(original) => original(state),
            None => 0,
        }
    }
}

/// Counts instructions of the script that runs on this thread, if one does.
pub fn count(instructions: u32) {
    // SAFETY: it adds to numbers of the state that this thread is in, if it is in one.
    unsafe { lua_charge(instructions as usize) };
}

/// The functions of prelude.lua that mark a table as one that nobody may change, and that count instructions.
pub fn marks(lua: &Lua) -> mlua::Result<[Function; 2]> {
    // SAFETY: what is pushed are functions without upvalues. Errors of these calls are mlua's to catch.
    let make = |function| unsafe { lua.exec_raw((), move |state| lua_pushcclosure(state, function, 0)) };
    Ok([make(lock)?, make(charge)?])
}

/// Marks its one argument, a table, and gives it back.
unsafe extern "C-unwind" fn lock(state: *mut lua_State) -> c_int {
    // SAFETY: prelude.lua alone calls it, with a table. It raises no error.
    unsafe { lua_setreadonly(state, 1, 1) };
    1
}

/// Counts as many instructions of the script as its argument says. If none is left, it ends with its next one.
unsafe extern "C-unwind" fn charge(state: *mut lua_State) -> c_int {
    /// More than any budget, of which a few sums still are a number.
    const MOST: f64 = (1u64 << 60) as f64;
    // SAFETY: neither raises an error: what is no number counts as none.
    unsafe { lua_charge(lua_tonumber(state, 1).min(MOST) as usize) };
    0
}

/// The number that `text` is, if it is one to fifteen digits, perhaps behind a minus: each such integer is a number of Lua's.
fn short_integer(text: &[u8]) -> Option<f64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if !(1..=15).contains(&digits.len()) {
        return None;
    }
    let mut number = 0u64;
    for digit in digits {
        number = number * 10 + u64::from(Some(digit.wrapping_sub(b'0')).filter(|digit| *digit < 10)?);
    }
    Some(if digits.len() < text.len() { -(number as f64) } else { number as f64 })
}

unsafe extern "C-unwind" fn call(state: *mut lua_State) -> c_int {
    // SAFETY: `commands` has made this function with its upvalue.
    unsafe { answer(state, true) }
}

unsafe extern "C-unwind" fn pcall(state: *mut lua_State) -> c_int {
    // SAFETY: `commands` has made this function with its upvalue.
    unsafe { answer(state, false) }
}

/// Runs the command that the arguments name, and pushes its reply. `raises`: an error is raised.
///
/// # Safety
/// Called by Lua, as a C function whose upvalues are those that `commands` gives it.
unsafe fn answer(state: *mut lua_State, raises: bool) -> c_int {
    // SAFETY: the upvalue points to a world that lives as long as the state (`commands`).
    let world: &World = unsafe { &*lua_touserdata(state, lua_upvalueindex(1)).cast() };
    // SAFETY: raises no error.
    let words = Words { state, count: unsafe { lua_gettop(state) } };
    let next = catch_unwind(AssertUnwindSafe(|| world.call(&words)));
    let next = next.unwrap_or_else(|panic| world.panicked(panic));
    // SAFETY: nothing is left to drop here: `world`, `words` and `next` are none of it. So these may raise errors, which the
    // script's `lua_pcall` catches. At most three places of the stack are taken.
    unsafe {
        match next {
            Next::Number(number) => lua_pushnumber(state, number),
            Next::Bool(truth) => lua_pushboolean(state, c_int::from(truth)),
            Next::Text => push_text(state, world),
            Next::Status => {
                lua_createtable(state, 0, 1);
                lua_pushvalue(state, lua_upvalueindex(2));
                push_text(state, world);
                lua_rawset(state, -3);
            }
            Next::Ok => {
                lua_createtable(state, 0, 1);
                lua_pushvalue(state, lua_upvalueindex(2));
                lua_pushvalue(state, lua_upvalueindex(3));
                lua_rawset(state, -3);
            }
            Next::Other => {
                // What mlua asks for in places counts together with the arguments, of which there may be as many as there are.
                lua_settop(state, 0);
                return Lua::entrypoint(state, |lua, (): ()| world.hand_over(lua, raises));
            }
        }
    }
    1
}

/// Pushes the text that the world keeps.
///
/// # Safety
/// May raise an error. A place of the stack is free.
unsafe fn push_text(state: *mut lua_State, world: &World) {
    let (text, len) = world.text();
    // SAFETY: the world keeps the text until the next call.
    unsafe { push(state, std::slice::from_raw_parts(text, len)) }
}

/// Pushes a copy of `text`.
///
/// # Safety
/// May raise an error. A place of the stack is free.
unsafe fn push(state: *mut lua_State, text: &[u8]) {
    // SAFETY: so many bytes are there.
    unsafe { lua_pushlstring_(state, text.as_ptr().cast(), text.len()) }
}

/// What Lua counts besides instructions (crates/lua-src).
#[repr(C)]
struct Work {
    /// Instructions that the hook has not been told of.
    owed: Cell<usize>,
    /// How many may be owed: beyond that, Lua begins nothing long.
    left: Cell<usize>,
    // The numbers of objects, strings and runs are Lua's own.
}

/// Objects that are older than a run have lower numbers than its own, whatever their number is.
const FIRST_OF_A_RUN: c_uint = 1 << 20;

unsafe extern "C" {
    /// `lua_Work *lua_work (lua_State *L)`
    fn lua_work(state: *mut lua_State) -> *const Work;
    /// `void lua_newrun (lua_State *L, unsigned int serial)`
    fn lua_newrun(state: *mut lua_State, serial: c_uint);
    /// `int lua_charge (size_t n)`
    fn lua_charge(instructions: usize) -> c_int;
    /// `void lua_setreadonly (lua_State *L, int idx, int readonly)`
    fn lua_setreadonly(state: *mut lua_State, place: c_int, readonly: c_int);
    /// `int lua_words (lua_State *L, int from, lua_Word *words, int most)`
    fn lua_words(state: *mut lua_State, from: c_int, words: *mut RawWord, most: c_int) -> c_int;
    /// `void lua_fill (lua_State *L, int from, const lua_Word *words, int n)`
    fn lua_fill(state: *mut lua_State, from: c_int, words: *const RawWord, count: c_int);
}

/// What `state` counts.
///
/// # Safety
/// The state is alive for `'a`.
unsafe fn work_of<'a>(state: *mut lua_State) -> &'a Work {
    // SAFETY: it is a part of the state, and of this thread alone. Lua writes to it only when it is called.
    unsafe { &*lua_work(state) }
}

/// What is owed, which is paid by that.
pub fn owed(lua: &Lua) -> u64 {
    // SAFETY: the state is alive, as `lua` is.
    lua.exec_raw_lua(|raw| unsafe { work_of(raw.state()) }.owed.take()) as u64
}

/// Lua's hook: has the host look at the script.
unsafe extern "C-unwind" fn look(state: *mut lua_State, _: *mut lua_Debug) {
    // SAFETY: `commands` has put the world there, which lives as long as the state. Neither call raises an error, as the
    // registry has no metatable.
    let world: &World = unsafe {
        lua_pushlightuserdata(state, world_key());
        lua_rawget_(state, LUA_REGISTRYINDEX);
        let world = lua_touserdata(state, -1).cast::<World>();
        lua_pop(state, 1);
        &*world
    };
    // SAFETY: Lua has called this with a state that is alive.
    let work = unsafe { work_of(state) };
    let looked = catch_unwind(AssertUnwindSafe(|| world.look(work.owed.take() as u64)));
    let left = looked.map_err(|panic| world.panicked(panic)).ok();
    work.left.set(left.unwrap_or(0) as usize);
    // SAFETY: nothing is left to drop here, so these may raise errors; a place of the stack is free.
    unsafe {
        match left {
            Some(1..) => {}
            Some(0) => {
                push(state, SPENT.as_bytes());
                lua_error(state);
            }
            None => {
                Lua::entrypoint(state, |lua, (): ()| world.hand_over(lua, true));
            }
        }
    }
}

/// The way into the scripts of one state, which it owns.
pub struct Entrance {
    lua: Lua,
    state: *mut lua_State,
    /// The functions of prelude.lua that it calls.
    begin: RegistryKey,
    xpcall: RegistryKey,
    located: RegistryKey,
    /// What scripts see, which is marked as one that nobody may change, and the names of the lists in there.
    globals: RegistryKey,
    names: [RegistryKey; 2],
    /// Chunks by their names.
    compiled: RegistryKey,
}

/// How a script has come back.
pub enum Returned<'a> {
    /// With this value.
    Plain(Plain<'a>),
    /// With another value, or an error that it did not catch: whether it came to its end, and the value or the error.
    Other(bool, Value),
    /// With an error beside it.
    Failed(mlua::Error),
}

/// A value that is no table.
pub enum Plain<'a> {
    /// A string.
    Text(&'a [u8]),
    /// A number.
    Number(f64),
    /// A truth value.
    Bool(bool),
    /// Nothing.
    Nil,
}

impl Entrance {
    /// The entrance of `lua`, in which nothing is running. `prelude`: what prelude.lua gives; `compiled`: chunks by their names.
    pub fn new(lua: &Lua, prelude: &Table, compiled: &Table) -> mlua::Result<Entrance> {
        let mut main = std::ptr::null_mut();
        // SAFETY: the closure has nothing to drop, and raises no error.
        unsafe { lua.exec_raw::<()>((), |state| main = state)? };
        let keep = |name: &str| lua.create_registry_value(prelude.get::<Function>(name)?);
        Ok(Entrance {
            state: main,
            begin: keep("begin")?,
            xpcall: keep("xpcall")?,
            located: keep("located")?,
            globals: lua.create_registry_value(prelude.get::<Table>("globals")?)?,
            names: [lua.create_registry_value("KEYS")?, lua.create_registry_value("ARGV")?],
            compiled: lua.create_registry_value(compiled)?,
            lua: lua.clone(),
        })
    }

    /// Makes ready to run the chunk `name` with KEYS and ARGV, while there is no limit of memory. Whether there is such a chunk.
    pub fn enter(&mut self, name: &str, keys: &[Bytes], args: &[Bytes]) -> bool {
        let state = self.state;
        // SAFETY: the state is alive, as `self.lua` is, and it is at rest: nobody else is using it. Without a limit of memory,
        // none of these calls can raise an error: strings and tables are made, and tables without metatables are read. Nine places
        // of the stack are taken at most, of the 20 that a state at rest has.
        unsafe {
            lua_settop(state, 0);
            lua_rawgeti_(state, LUA_REGISTRYINDEX, self.xpcall.id());
            lua_rawgeti_(state, LUA_REGISTRYINDEX, self.compiled.id());
            push(state, name.as_bytes());
            lua_rawget_(state, -2);
            lua_remove(state, -2);
            if lua_type(state, -1) != LUA_TFUNCTION {
                lua_settop(state, 0);
                return false;
            }
            lua_rawgeti_(state, LUA_REGISTRYINDEX, self.located.id());
            self.begin([Some(keys), Some(args)]);
        }
        true
    }

    /// Makes ready for code that has no lists of its own.
    pub fn enter_library(&mut self) {
        // SAFETY: as in `enter`.
        unsafe { self.begin([None, None]) }
    }

    /// Makes what scripts see as it is before any has run, with these lists for KEYS and ARGV.
    ///
    /// # Safety
    /// The state is at rest, and there is no limit of memory. Six places of its stack are free.
    unsafe fn begin(&mut self, lists: [Option<&[Bytes]>; 2]) {
        let state = self.state;
        // SAFETY: `begin` of prelude.lua sets a variable; what else is called, reads and writes tables. None of it can raise an
        // error without a limit of memory, while the mark is off.
        unsafe {
            lua_rawgeti_(state, LUA_REGISTRYINDEX, self.begin.id());
            lua_call(state, 0, 0);
            lua_rawgeti_(state, LUA_REGISTRYINDEX, self.globals.id());
            lua_setreadonly(state, -1, 0);
            for (name, list) in self.names.iter().zip(lists) {
                lua_rawgeti_(state, LUA_REGISTRYINDEX, name.id());
                match list {
                    Some(words) => push_list(state, words),
                    None => lua_pushnil(state),
                }
                lua_rawset(state, -3);
            }
            lua_setreadonly(state, -1, 1);
            lua_pop(state, 1);
        }
    }

    /// Has the host look at what runs now and then, and sooner when something long has been done. Set anew, so that Lua begins to
    /// count anew: what it has counted since its last look is another script's.
    pub fn watch(&mut self, left: u64) {
        // SAFETY: the state is alive and at rest. `look` keeps to what a hook may do.
        let work = unsafe {
            lua_sethook(self.state, Some(look), LUA_MASKCOUNT, INSTRUCTIONS_PER_LOOK as c_int);
            work_of(self.state)
        };
        work.owed.set(0);
        work.left.set(left as usize);
    }

    /// Ends the watch. What is still owed.
    pub fn unwatch(&mut self) -> u64 {
        // SAFETY: the state is alive and at rest.
        let work = unsafe { work_of(self.state) };
        work.left.set(usize::MAX);
        work.owed.take() as u64
    }

    /// Bytes that the state uses.
    pub fn used_bytes(&self) -> usize {
        // SAFETY: the state is alive.
        unsafe { used_bytes(self.state) }
    }

    /// Numbers what is made from now on as in any other run: tables hash functions and tables by these. And strings that are there
    /// count as made by this run when it first makes them.
    pub fn number_anew(&mut self) {
        // SAFETY: the state is alive and at rest.
        unsafe { lua_newrun(self.state, FIRST_OF_A_RUN) };
    }

    /// Runs what [`Entrance::enter`] has made ready.
    pub fn run(&mut self) -> Returned<'_> {
        let state = self.state;
        // SAFETY: `enter` has left a function and its two arguments, and nothing else. An error ends here. What comes back is
        // one value or two, and stays on the stack while the state is borrowed.
        unsafe {
            assert_eq!(lua_gettop(state), 3, "a script has been made ready");
            if lua_pcall(state, 2, 2, 0) != LUA_OK {
                return match self.pop() {
                    Ok(Value::Error(error)) => Returned::Failed(*error),
                    Ok(Value::String(text)) => Returned::Failed(failure_of(&text.to_string_lossy())),
                    Ok(_) => Returned::Failed(mlua::Error::runtime("an error without a text")),
                    Err(error) => Returned::Failed(error),
                };
            }
            if lua_toboolean(state, 1) != 0 {
                match (lua_type(state, 2), word_at(state, 2)) {
                    (_, Word::Text(text)) => return Returned::Plain(Plain::Text(text)),
                    (_, Word::Number(number)) => return Returned::Plain(Plain::Number(number)),
                    (LUA_TBOOLEAN, _) => return Returned::Plain(Plain::Bool(lua_toboolean(state, 2) != 0)),
                    (LUA_TNIL, _) => return Returned::Plain(Plain::Nil),
                    _ => {}
                }
            }
            let ended = lua_toboolean(state, 1) != 0;
            match self.pop() {
                Ok(value) => Returned::Other(ended, value),
                Err(error) => Returned::Failed(error),
            }
        }
    }

    /// Lets go of what the last run has left.
    pub fn leave(&mut self) {
        // SAFETY: the state is alive and at rest.
        unsafe { lua_settop(self.state, 0) }
    }

    /// A list of `words`, while there is no limit of memory.
    pub fn list(&mut self, words: &[Bytes]) -> mlua::Result<Table> {
        // SAFETY: as in `enter`.
        unsafe {
            lua_settop(self.state, 0);
            push_list(self.state, words);
        }
        match self.pop()? {
            Value::Table(list) => Ok(list),
            _ => unreachable!("it is a table"),
        }
    }

    /// The value on top of the stack, by mlua; the stack is empty then. If it is a panic that mlua has caught, that goes on.
    fn pop(&mut self) -> mlua::Result<Value> {
        // SAFETY: the state is at rest, and so the one that mlua works with, too. There is a value.
        let value = self.lua.exec_raw_lua(|raw| unsafe { raw.pop::<Value>() });
        // SAFETY: the state is alive.
        unsafe { lua_settop(self.state, 0) };
        value
    }
}

/// Pushes a list of `words`.
///
/// # Safety
/// There is no limit of memory, and a place of the stack is free.
unsafe fn push_list(state: *mut lua_State, words: &[Bytes]) {
    let count = c_int::try_from(words.len()).expect("a call has fewer words");
    // SAFETY: the list has room for all.
    unsafe { lua_createtable(state, count, 0) };
    let mut some = [RawWord { text: std::ptr::null(), len: 0, number: 0.0 }; SOME];
    for (words, from) in words.chunks(SOME).zip((0..).step_by(SOME)) {
        for (raw, word) in some.iter_mut().zip(words) {
            (raw.text, raw.len) = (word.as_ptr(), word.len());
        }
        // SAFETY: the list is on top of the stack, and so many words are there.
        unsafe { lua_fill(state, from, some.as_ptr(), words.len() as c_int) };
    }
}

/// What an error is that Lua gives as a text.
fn failure_of(text: &str) -> mlua::Error {
    match text {
        super::api::NO_MEMORY => mlua::Error::MemoryError(text.to_string()),
        other => mlua::Error::runtime(other),
    }
}

#[cfg(test)]
mod tests;
