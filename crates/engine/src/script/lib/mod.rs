//! The libraries that scripts find beside Lua's own: bit, cjson, cmsgpack, struct; and the parts of `math` that must not be
//! the platform's.
//!
//! Their functions answer whether they succeeded, then the values or the error's text; prelude.lua raises it.

mod bit;
mod cjson;
mod cmsgpack;
mod maths;
mod pattern;
mod structs;

use mlua::{IntoLuaMulti, Lua, MultiValue, Table, Value};

use super::api::{NO_MEMORY, SPENT};
use super::{api, cost, raw};

pub use cjson::Settings as JsonSettings;
pub use maths::{math, put_word};
pub use pattern::library as patterns;

/// What a library function gives: its values, or what is wrong.
type Given = Result<MultiValue, String>;

/// The libraries by name.
pub fn all(lua: &Lua) -> mlua::Result<Table> {
    let libraries = lua.create_table()?;
    libraries.set("bit", bit::library(lua)?)?;
    libraries.set("cjson", cjson::library(lua)?)?;
    libraries.set("cmsgpack", cmsgpack::library(lua)?)?;
    libraries.set("struct", structs::library(lua)?)?;
    Ok(libraries)
}

/// Adds `function` to `library`: it counts by what goes in and comes out.
fn add(
    lua: &Lua,
    library: &Table,
    name: &str,
    function: impl Fn(&Lua, &MultiValue) -> Given + Send + 'static,
) -> mlua::Result<()> {
    add_counted(lua, library, name, move |lua, args| {
        if !charge(lua, args) {
            return Err(SPENT.to_string());
        }
        let values = function(lua, args)?;
        charge(lua, &values);
        Ok(values)
    })
}

/// Adds a function that counts its work itself.
fn add_counted(
    lua: &Lua,
    library: &Table,
    name: &str,
    function: impl Fn(&Lua, &MultiValue) -> Given + Send + 'static,
) -> mlua::Result<()> {
    let function = lua.create_function(move |lua, args: MultiValue| {
        raw::count(cost::CROSSING);
        match function(lua, &args) {
            Ok(mut values) => {
                values.push_front(Value::Boolean(true));
                Ok(values)
            }
            Err(why) => (false, why).into_lua_multi(lua),
        }
    })?;
    library.set(name, function)
}

/// Counts values that go into a function, or come out of it, if they are many or long. Whether the script may go on.
fn charge(lua: &Lua, values: &MultiValue) -> bool {
    const FREE_BYTES: usize = 1000;
    const FREE_VALUES: usize = 50;
    let len = |value: &Value| value.as_string().map_or(0, |text| text.as_bytes().len());
    let bytes: usize = values.iter().map(len).sum();
    if bytes <= FREE_BYTES && values.len() <= FREE_VALUES {
        return true;
    }
    !api::with(lua, |host| host.spend(values.len() as u64 + cost::of_bytes(bytes)))
}

/// What a function of a library may do yet: it is bounded while it works, not only when it is done, as a table that holds
/// another one twice, and so on, is endless when it is written out.
pub struct Meter {
    left: u64,
    spent: u64,
    room: usize,
}

impl Meter {
    /// Counts a value, and that what is being written has grown to `written` bytes.
    pub fn value(&mut self, written: usize) -> Result<(), String> {
        self.count(cost::CODED)?;
        if written > self.room { Err(NO_MEMORY.to_string()) } else { Ok(()) }
    }

    /// Counts work.
    pub fn count(&mut self, instructions: u64) -> Result<(), String> {
        self.spent = self.spent.saturating_add(instructions);
        if self.spent > self.left { Err(SPENT.to_string()) } else { Ok(()) }
    }
}

/// Does `work` at the script's cost.
fn metered<T>(lua: &Lua, work: impl FnOnce(&mut Meter) -> Result<T, String>) -> Result<T, String> {
    let used = lua.used_memory();
    let (left, room) =
        api::with(lua, |host| (host.instructions_left(), host.bytes_limit.saturating_sub(used)));
    let mut meter = Meter { left, spent: 0, room };
    let done = work(&mut meter);
    api::with(lua, |host| host.spend(meter.spent));
    done
}

/// A failure of Lua itself, in a library's terms. A lack of memory must be recognised by the prelude.
fn lua_error(error: mlua::Error) -> String {
    match error {
        mlua::Error::MemoryError(_) | mlua::Error::StackError => NO_MEMORY.to_string(),
        mlua::Error::RuntimeError(text) => text,
        other => other.to_string(),
    }
}

/// One value.
fn one(lua: &Lua, value: impl mlua::IntoLua) -> Given {
    Ok(MultiValue::from_vec(vec![value.into_lua(lua).map_err(lua_error)?]))
}
