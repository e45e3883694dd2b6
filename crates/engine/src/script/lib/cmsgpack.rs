//! `cmsgpack`: MessagePack as lua-cmsgpack 0.4 packs and unpacks it (msgpack.org, the specification).

use mlua::{Lua, MultiValue, Table, Value};

use super::maths::number;
use super::{Given, Meter, add, lua_error, metered, one};
use crate::script::convert::{Key, number_of, ordered_keys, unordered_keys, value_of};
use crate::script::cost::CODED;

/// Tables that are nested deeper are packed as nil.
const MAX_DEPTH: usize = 16;

const MISSING: &str = "Missing bytes in input.";
const BAD: &str = "Bad data format in input.";

/// The library.
pub fn library(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    library.set("_NAME", "cmsgpack")?;
    library.set("_VERSION", "lua-cmsgpack 0.4.0")?;
    add(lua, &library, "pack", |lua, args| {
        if args.is_empty() {
            return Err("bad argument #0 to 'pack' (MessagePack pack needs input.)".to_string());
        }
        let mut out = Vec::new();
        metered(lua, |meter| args.iter().try_for_each(|value| pack(lua, value, 0, &mut out, meter)))?;
        one(lua, lua.create_string(&out).map_err(lua_error)?)
    })?;
    add(lua, &library, "unpack", |lua, args| unpack(lua, args, usize::MAX, 0, false))?;
    add(lua, &library, "unpack_one", |lua, args| {
        let offset = if args.len() > 1 { number(args, 1, "unpack_one")? } else { 0.0 };
        unpack(lua, args, 1, checked(offset)?, true)
    })?;
    add(lua, &library, "unpack_limit", |lua, args| {
        let limit = number(args, 1, "unpack_limit")?;
        let offset = if args.len() > 2 { number(args, 2, "unpack_limit")? } else { 0.0 };
        unpack(lua, args, checked(limit)?, checked(offset)?, true)
    })?;
    Ok(library)
}

fn checked(number: f64) -> Result<usize, String> {
    if number < 0.0 {
        return Err(format!("Invalid request to unpack with offset of {number} and limit of {number}."));
    }
    Ok(number as usize)
}

fn pack(lua: &Lua, value: &Value, depth: usize, out: &mut Vec<u8>, meter: &mut Meter) -> Result<(), String> {
    meter.value(out.len())?;
    match value {
        Value::String(text) => pack_string(&text.as_bytes(), out),
        Value::Boolean(value) => pack_bool(*value, out),
        Value::Integer(_) | Value::Number(_) => pack_number(number_of(value), out),
        Value::Table(table) if depth < MAX_DEPTH => pack_table(lua, table, depth, out, meter)?,
        _ => out.push(0xc0),
    }
    Ok(())
}

fn pack_bool(value: bool, out: &mut Vec<u8>) {
    out.push(if value { 0xc3 } else { 0xc2 });
}

fn pack_number(value: f64, out: &mut Vec<u8>) {
    const INT_END: f64 = 9_223_372_036_854_775_808.0;
    if value.trunc() == value && (-INT_END..INT_END).contains(&value) {
        return pack_int(value as i64, out);
    }
    let single = value as f32;
    if f64::from(single) == value {
        out.push(0xca);
        out.extend_from_slice(&single.to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

fn pack_int(value: i64, out: &mut Vec<u8>) {
    match value {
        0..=127 => out.push(value as u8),
        128..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
        0x100..=0xffff => put(out, 0xcd, &(value as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => put(out, 0xce, &(value as u32).to_be_bytes()),
        0x1_0000_0000.. => put(out, 0xcf, &(value as u64).to_be_bytes()),
        -32..0 => out.push(value as u8),
        -128..-32 => out.extend_from_slice(&[0xd0, value as u8]),
        -32768..-128 => put(out, 0xd1, &(value as i16).to_be_bytes()),
        -2_147_483_648..-32768 => put(out, 0xd2, &(value as i32).to_be_bytes()),
        _ => put(out, 0xd3, &value.to_be_bytes()),
    }
}

fn put(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    out.push(kind);
    out.extend_from_slice(bytes);
}

fn pack_string(text: &[u8], out: &mut Vec<u8>) {
    match text.len() {
        len @ 0..32 => out.push(0xa0 | len as u8),
        len @ 32..=0xff => out.extend_from_slice(&[0xd9, len as u8]),
        len @ 0x100..=0xffff => put(out, 0xda, &(len as u16).to_be_bytes()),
        len => put(out, 0xdb, &(len as u32).to_be_bytes()),
    }
    out.extend_from_slice(text);
}

fn pack_table(
    lua: &Lua,
    table: &Table,
    depth: usize,
    out: &mut Vec<u8>,
    meter: &mut Meter,
) -> Result<(), String> {
    let mut keys = ordered_keys(table).map_err(lua_error)?;
    let is_array =
        keys.iter().enumerate().all(|(i, key)| matches!(key, Key::Number(n) if *n == (i + 1) as f64));
    let len = keys.len();
    match (is_array, len) {
        (true, 0..16) => out.push(0x90 | len as u8),
        (true, 16..=0xffff) => put(out, 0xdc, &(len as u16).to_be_bytes()),
        (true, _) => put(out, 0xdd, &(len as u32).to_be_bytes()),
        (false, 0..16) => out.push(0x80 | len as u8),
        (false, 16..=0xffff) => put(out, 0xde, &(len as u16).to_be_bytes()),
        (false, _) => put(out, 0xdf, &(len as u32).to_be_bytes()),
    }
    if !is_array {
        meter.count(CODED * len as u64)?;
        keys = hashed(lua, keys).map_err(lua_error)?;
    }
    for key in keys {
        let value: Value = value_of(table, &key).map_err(lua_error)?;
        match key {
            _ if is_array => {}
            Key::Number(number) => pack_number(number, out),
            Key::Text(text) => pack_string(&text, out),
            Key::Bool(truth) => pack_bool(truth, out),
        }
        pack(lua, &value, depth + 1, out, meter)?;
    }
    Ok(())
}

/// `keys` in the order that Lua's own table gives them, as lua-cmsgpack writes them: that of a new table, to which they are
/// added in order. So it is the same on every replica, whatever the script's table has been through.
fn hashed(lua: &Lua, keys: Vec<Key>) -> mlua::Result<Vec<Key>> {
    let table = lua.create_table()?;
    for key in &keys {
        match key {
            Key::Number(number) => table.raw_set(*number, true)?,
            Key::Text(text) => table.raw_set(text.clone(), true)?,
            Key::Bool(truth) => table.raw_set(*truth, true)?,
        }
    }
    unordered_keys(&table)
}

/// Up to `limit` values from `offset` on; in front of them, if `tell`, where the next one begins, or -1 at the end.
fn unpack(lua: &Lua, args: &MultiValue, limit: usize, offset: usize, tell: bool) -> Given {
    let Some(Value::String(text)) = args.front() else {
        return Err("bad argument #1 to 'unpack' (string expected)".to_string());
    };
    let text = text.as_bytes().to_vec();
    if offset > text.len() {
        return Err(format!("Start offset {offset} greater than input length {}.", text.len()));
    }
    // Without a limit, 0 stands for all.
    let limit = if limit == 0 { usize::MAX } else { limit };
    let (values, left) = metered(lua, |meter| {
        let mut reader = Reader { lua, rest: &text[offset..], meter };
        let mut values = Vec::new();
        while !reader.rest.is_empty() && values.len() < limit {
            values.push(reader.value(0)?);
        }
        Ok((values, reader.rest.len()))
    })?;
    let mut given = MultiValue::from_vec(values);
    if tell {
        let next = if left == 0 { -1.0 } else { (text.len() - left) as f64 };
        given.push_front(Value::Number(next));
    }
    Ok(given)
}

struct Reader<'a> {
    lua: &'a Lua,
    rest: &'a [u8],
    meter: &'a mut Meter,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(MISSING)?;
        self.rest = rest;
        Ok(taken)
    }

    /// An unsigned number of `len` bytes.
    fn unsigned(&mut self, len: usize) -> Result<u64, String> {
        Ok(self.take(len)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        // Deeper than anything that pack makes, and no deeper than the stack.
        const DEEPEST: usize = 200;
        if depth > DEEPEST {
            return Err(BAD.to_string());
        }
        self.meter.value(0)?;
        let kind = self.take(1)?[0];
        let signed =
            |value: u64, bits: u32| Value::Number(((value << (64 - bits)) as i64 >> (64 - bits)) as f64);
        match kind {
            0..=0x7f => Ok(Value::Number(f64::from(kind))),
            0xe0.. => Ok(Value::Number(f64::from(kind as i8))),
            0x80..=0x8f => self.map(usize::from(kind & 15), depth),
            0x90..=0x9f => self.array(usize::from(kind & 15), depth),
            0xa0..=0xbf => self.string(usize::from(kind & 31)),
            0xc0 => Ok(Value::Nil),
            0xc2 => Ok(Value::Boolean(false)),
            0xc3 => Ok(Value::Boolean(true)),
            0xca => Ok(Value::Number(f64::from(f32::from_bits(self.unsigned(4)? as u32)))),
            0xcb => Ok(Value::Number(f64::from_bits(self.unsigned(8)?))),
            0xcc..=0xcf => Ok(Value::Number(self.unsigned(1 << (kind - 0xcc))? as f64)),
            0xd0..=0xd3 => {
                let len = 1 << (kind - 0xd0);
                Ok(signed(self.unsigned(len)?, 8 * len as u32))
            }
            0xc4..=0xc6 => {
                let len = self.unsigned(1 << (kind - 0xc4))?;
                self.string(len as usize)
            }
            0xd9..=0xdb => {
                let len = self.unsigned(1 << (kind - 0xd9))?;
                self.string(len as usize)
            }
            0xdc | 0xdd => {
                let len = self.unsigned(if kind == 0xdc { 2 } else { 4 })?;
                self.array(len as usize, depth)
            }
            0xde | 0xdf => {
                let len = self.unsigned(if kind == 0xde { 2 } else { 4 })?;
                self.map(len as usize, depth)
            }
            _ => Err(BAD.to_string()),
        }
    }

    fn string(&mut self, len: usize) -> Result<Value, String> {
        let text = self.take(len)?;
        Ok(Value::String(self.lua.create_string(text).map_err(lua_error)?))
    }

    fn array(&mut self, len: usize, depth: usize) -> Result<Value, String> {
        let table = self.lua.create_table().map_err(lua_error)?;
        for i in 1..=len {
            let value = self.value(depth + 1)?;
            table.raw_set(i, value).map_err(lua_error)?;
        }
        Ok(Value::Table(table))
    }

    fn map(&mut self, len: usize, depth: usize) -> Result<Value, String> {
        let table = self.lua.create_table().map_err(lua_error)?;
        for _ in 0..len {
            let (key, value) = (self.value(depth + 1)?, self.value(depth + 1)?);
            if key.is_nil() || number_of(&key).is_nan() {
                return Err(BAD.to_string());
            }
            table.raw_set(key, value).map_err(lua_error)?;
        }
        Ok(Value::Table(table))
    }
}
