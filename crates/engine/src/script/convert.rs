//! Replies to Lua values and back, by Redis's rules for RESP2 and RESP3 (redis.io, "Lua API reference").

use mlua::{Lua, Result, Table, Value};

use super::cost;
use super::raw::Plain;
use crate::error::CommandError;
use crate::reply::Reply;
use crate::value::number::{format_decimal, format_double};

/// How deep a value that a script returns may be nested.
const MAX_DEPTH: usize = 1000;

/// What a script sees of a command's reply. `resp3`: after redis.setresp(3).
pub fn to_lua(lua: &Lua, reply: &Reply, resp3: bool) -> Result<Value> {
    let list = |items: &mut dyn Iterator<Item = &Reply>| -> Result<Value> {
        let table = lua.create_table()?;
        for (i, item) in items.enumerate() {
            table.raw_set(i + 1, to_lua(lua, item, resp3)?)?;
        }
        Ok(Value::Table(table))
    };
    match reply {
        Reply::Simple(text) => one_field(lua, "ok", text.as_bytes()),
        Reply::Status(text) => one_field(lua, "ok", text),
        Reply::Int(n) => Ok(Value::Number(*n as f64)),
        Reply::Bulk(bytes) => Ok(Value::String(lua.create_string(bytes)?)),
        Reply::Null | Reply::NullArray if resp3 => Ok(Value::Nil),
        Reply::Null | Reply::NullArray => Ok(Value::Boolean(false)),
        Reply::Array(items) | Reply::Push(items) => list(&mut items.iter()),
        Reply::Pairs(pairs) if resp3 => {
            let table = lua.create_table()?;
            for (i, (first, second)) in pairs.iter().enumerate() {
                let pair = [to_lua(lua, first, true)?, to_lua(lua, second, true)?];
                table.raw_set(i + 1, lua.create_sequence_from(pair)?)?;
            }
            Ok(Value::Table(table))
        }
        Reply::Map(pairs) | Reply::Named(pairs) if resp3 => {
            let map = lua.create_table()?;
            for (key, value) in pairs {
                map.raw_set(to_lua(lua, key, true)?, to_lua(lua, value, true)?)?;
            }
            wrapped(lua, "map", map)
        }
        Reply::Named(pairs) => {
            let table = lua.create_table()?;
            for (i, (first, second)) in pairs.iter().enumerate() {
                let pair = [to_lua(lua, first, false)?, to_lua(lua, second, false)?];
                table.raw_set(i + 1, lua.create_sequence_from(pair)?)?;
            }
            Ok(Value::Table(table))
        }
        Reply::Pairs(pairs) | Reply::Map(pairs) => list(&mut pairs.iter().flat_map(|(k, v)| [k, v])),
        Reply::Set(items) if resp3 => {
            let set = lua.create_table()?;
            for item in items {
                set.raw_set(to_lua(lua, item, true)?, true)?;
            }
            wrapped(lua, "set", set)
        }
        Reply::Set(items) => list(&mut items.iter()),
        Reply::Double(value) if resp3 => one_double(lua, *value),
        // What the reply's decimals say: small numbers have lost some.
        Reply::Decimal(value) if resp3 => one_double(lua, format_decimal(*value).parse().unwrap_or(*value)),
        Reply::Double(value) => Ok(Value::String(lua.create_string(format_double(*value))?)),
        Reply::Decimal(value) => Ok(Value::String(lua.create_string(format_decimal(*value))?)),
        Reply::Bool(value) if resp3 => Ok(Value::Boolean(*value)),
        Reply::Bool(true) => Ok(Value::Number(1.0)),
        Reply::Bool(false) => Ok(Value::Number(0.0)),
        Reply::BigNumber(digits) if resp3 => one_field(lua, "big_number", digits),
        Reply::BigNumber(digits) => Ok(Value::String(lua.create_string(digits)?)),
        Reply::Verbatim(format, text) if resp3 => {
            let table = lua.create_table()?;
            table.raw_set("format", *format)?;
            table.raw_set("string", lua.create_string(text)?)?;
            wrapped(lua, "verbatim_string", table)
        }
        Reply::Verbatim(_, text) => Ok(Value::String(lua.create_string(text)?)),
        Reply::Error(error) => one_field(lua, "err", error.to_string().as_bytes()),
        Reply::Attributed(_, reply) => to_lua(lua, reply, resp3),
        Reply::Block(_) | Reply::Blocked { .. } => unreachable!("no call of a script blocks"),
    }
}

fn one_field(lua: &Lua, name: &str, text: &[u8]) -> Result<Value> {
    let table = lua.create_table()?;
    table.raw_set(name, lua.create_string(text)?)?;
    Ok(Value::Table(table))
}

fn one_double(lua: &Lua, value: f64) -> Result<Value> {
    let table = lua.create_table()?;
    table.raw_set("double", value)?;
    Ok(Value::Table(table))
}

fn wrapped(lua: &Lua, name: &str, inner: Table) -> Result<Value> {
    let table = lua.create_table()?;
    table.raw_set(name, inner)?;
    Ok(Value::Table(table))
}

/// A table's keys in the order that scripts see (`pairs` of prelude.lua); an error if one has no place in an order. They are
/// copies: Lua lends out no more than about 8,000 of its own strings at a time, and a table may be larger.
pub fn ordered_keys(table: &Table) -> Result<Vec<Key>> {
    let mut keys = unordered_keys(table)?;
    keys.sort_by(Key::order);
    Ok(keys)
}

/// A table's keys in Lua's own order, which may depend on addresses if the table has ever held keys that are tables or functions.
pub fn unordered_keys(table: &Table) -> Result<Vec<Key>> {
    let mut keys = Vec::new();
    table.for_each(|key: Value, _: Value| {
        keys.push(Key::of(&key)?);
        Ok(())
    })?;
    Ok(keys)
}

/// The value that stands at `key`.
pub fn value_of(table: &Table, key: &Key) -> Result<Value> {
    match key {
        Key::Number(number) => table.raw_get(*number),
        Key::Text(text) => table.raw_get(text.clone()),
        Key::Bool(truth) => table.raw_get(*truth),
    }
}

/// A table in that order, one pair after the other.
pub fn ordered(table: &Table) -> Result<impl ExactSizeIterator<Item = Result<(Key, Value)>>> {
    let pair = |key: Key| {
        let value = value_of(table, &key)?;
        Ok((key, value))
    };
    Ok(ordered_keys(table)?.into_iter().map(pair))
}

/// A key of a table that has a place in an order.
pub enum Key {
    /// A number.
    Number(f64),
    /// A string.
    Text(mlua::BString),
    /// A truth value.
    Bool(bool),
}

impl Key {
    fn of(value: &Value) -> Result<Key> {
        match value {
            Value::Integer(_) | Value::Number(_) => Ok(Key::Number(number_of(value))),
            Value::String(text) => Ok(Key::Text(text.as_bytes().to_vec().into())),
            Value::Boolean(truth) => Ok(Key::Bool(*truth)),
            _ => Err(mlua::Error::runtime("Cannot serialise table: table key must be a number or string")),
        }
    }

    fn order(&self, other: &Key) -> std::cmp::Ordering {
        match (self, other) {
            (Key::Number(a), Key::Number(b)) => a.total_cmp(b),
            (Key::Text(a), Key::Text(b)) => a.cmp(b),
            (Key::Bool(a), Key::Bool(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Key::Number(_) => 0,
            Key::Text(_) => 1,
            Key::Bool(_) => 2,
        }
    }

    fn to_reply(&self, resp3: bool) -> Reply {
        match self {
            Key::Number(number) => Reply::Int(*number as i64),
            Key::Text(text) => Reply::bulk(text),
            Key::Bool(truth) if resp3 => Reply::Bool(*truth),
            Key::Bool(true) => Reply::Int(1),
            Key::Bool(false) => Reply::Null,
        }
    }
}

/// A Lua number, whichever way mlua hands it over; 0 for anything else.
pub fn number_of(value: &Value) -> f64 {
    match value {
        Value::Integer(n) => *n as f64,
        Value::Number(n) => *n,
        _ => 0.0,
    }
}

/// What a client gets of a script's value. `resp3`: after redis.setresp(3).
pub fn to_reply(value: &Value, resp3: bool, left: &mut Left) -> Result<Reply> {
    nested(value, resp3, 0, left)
}

/// The same of a value that is no table.
pub fn plain_to_reply(value: &Plain, resp3: bool, left: &mut Left) -> Result<Reply> {
    left.take(if let Plain::Text(text) = value { text.len() } else { 0 })?;
    Ok(match value {
        Plain::Text(text) => Reply::bulk(text),
        Plain::Number(n) => Reply::Int(cut(*n)),
        Plain::Bool(value) if resp3 => Reply::Bool(*value),
        Plain::Bool(true) => Reply::Int(1),
        Plain::Bool(false) | Plain::Nil => Reply::Null,
    })
}

/// How large a reply may be: a table that holds another one twice, and so on, is endless when it is written out.
pub struct Left {
    /// Instructions that may still be spent on it.
    pub instructions: u64,
    /// Bytes that its strings may take.
    pub bytes: usize,
}

impl Left {
    fn take(&mut self, bytes: usize) -> Result<()> {
        let cost = cost::VALUE + cost::of_bytes(bytes);
        self.bytes = self.bytes.checked_sub(bytes + size_of::<Reply>()).ok_or_else(no_memory)?;
        let left = self.instructions.checked_sub(cost);
        // Nothing is left then, either.
        self.instructions = left.unwrap_or(0);
        left.map(drop).ok_or_else(|| mlua::Error::runtime("the script has used up its budget"))
    }
}

fn no_memory() -> mlua::Error {
    mlua::Error::MemoryError("not enough memory".to_string())
}

fn nested(value: &Value, resp3: bool, depth: usize, left: &mut Left) -> Result<Reply> {
    if depth > MAX_DEPTH {
        return Ok(Reply::Error(CommandError::Text("ERR reached lua stack limit")));
    }
    left.take(value.as_string().map_or(0, |text| text.as_bytes().len()))?;
    Ok(match value {
        Value::String(text) => Reply::bulk(text.as_bytes()),
        Value::Integer(n) => Reply::Int(*n),
        Value::Number(n) => Reply::Int(cut(*n)),
        Value::Boolean(value) if resp3 => Reply::Bool(*value),
        Value::Boolean(true) => Reply::Int(1),
        Value::Table(table) => of_table(table, resp3, depth, left)?,
        _ => Reply::Null,
    })
}

fn of_table(table: &Table, resp3: bool, depth: usize, left: &mut Left) -> Result<Reply> {
    if let Value::String(text) = table.raw_get::<Value>("err")? {
        return Ok(Reply::Error(error_of(&text.to_string_lossy())));
    }
    if let Value::String(text) = table.raw_get::<Value>("ok")? {
        return Ok(Reply::Status(one_line(&text.as_bytes())));
    }
    let double = table.raw_get::<Value>("double")?;
    if matches!(double, Value::Integer(_) | Value::Number(_)) {
        return Ok(Reply::Double(number_of(&double)));
    }
    if let Value::String(digits) = table.raw_get::<Value>("big_number")? {
        return Ok(Reply::BigNumber(one_line(&digits.as_bytes())));
    }
    if let Value::Table(verbatim) = table.raw_get::<Value>("verbatim_string")?
        && let Value::String(text) = verbatim.raw_get::<Value>("string")?
        && let Value::String(format) = verbatim.raw_get::<Value>("format")?
    {
        let format = if format.as_bytes() == *b"mkd" { "mkd" } else { "txt" };
        return Ok(Reply::Verbatim(format, bytes::Bytes::copy_from_slice(&text.as_bytes())));
    }
    if let Value::Table(map) = table.raw_get::<Value>("map")? {
        let pair = |pair: Result<(Key, Value)>| {
            let (key, value) = pair?;
            Ok((key.to_reply(resp3), nested(&value, resp3, depth + 1, left)?))
        };
        return Ok(Reply::Map(ordered(&map)?.map(pair).collect::<Result<_>>()?));
    }
    if let Value::Table(set) = table.raw_get::<Value>("set")? {
        return Ok(Reply::Set(ordered_keys(&set)?.iter().map(|key| key.to_reply(resp3)).collect()));
    }
    let mut items = Vec::new();
    loop {
        match table.raw_get::<Value>(items.len() + 1)? {
            Value::Nil => break,
            item => items.push(nested(&item, resp3, depth + 1, left)?),
        }
    }
    Ok(Reply::Array(items))
}

/// `n` cut towards zero; what is no 64-bit integer then is the least of them, as Redis makes of it on x86.
fn cut(n: f64) -> i64 {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if (-BEYOND..BEYOND).contains(&n) { n as i64 } else { i64::MIN }
}

/// An error of a script's own making, with a code in front.
pub fn error_of(text: &str) -> CommandError {
    let text = text.trim_end_matches(['\r', '\n']);
    CommandError::Message(text.strip_prefix('-').unwrap_or(text).replace(['\r', '\n'], " "))
}

fn one_line(text: &[u8]) -> bytes::Bytes {
    text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }).collect()
}
