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

pub use cjson::Settings as JsonSettings;
pub use maths::{format_number, math};
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

/// Adds `function` to `library`.
fn add(
    lua: &Lua,
    library: &Table,
    name: &str,
    function: impl Fn(&Lua, &MultiValue) -> Given + Send + 'static,
) -> mlua::Result<()> {
    let function = lua.create_function(move |lua, args: MultiValue| match function(lua, &args) {
        Ok(mut values) => {
            values.push_front(Value::Boolean(true));
            Ok(values)
        }
        Err(why) => (false, why).into_lua_multi(lua),
    })?;
    library.set(name, function)
}

/// What Lua calls a lack of memory, and prelude.lua recognises.
const NO_MEMORY: &str = "not enough memory";

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
