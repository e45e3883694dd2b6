//! `cjson`: JSON as Lua CJSON 2.1 reads and writes it (its manual), with the defaults that Redis has.
//!
//! Its settings hold for one run of a script: in an interpreter that others use after it they would make replicas differ.

use std::rc::Rc;

use mlua::{Lua, MultiValue, Table, Value};

use super::maths::{format_general, number};
use super::{Meter, add, lua_error, metered, one};
use crate::script::api::World;
use crate::script::convert::{Key, number_of, ordered, ordered_keys};

/// What a script has set.
#[derive(Clone, Debug)]
pub struct Settings {
    sparse_convert: bool,
    sparse_ratio: usize,
    sparse_safe: usize,
    encode_depth: usize,
    decode_depth: usize,
    digits: usize,
    keep_buffer: bool,
    encode_invalid: Invalid,
    decode_invalid: bool,
}

/// One of the settings that are counts.
type Count = fn(&mut Settings) -> &mut usize;

/// What becomes of NaN and the infinities.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Invalid {
    Refuse,
    Write,
    Null,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_depth: 1000,
            decode_depth: 1000,
            digits: 14,
            keep_buffer: true,
            encode_invalid: Invalid::Refuse,
            decode_invalid: true,
        }
    }
}

/// The library.
pub fn library(lua: &Lua) -> mlua::Result<Table> {
    let json = lua.create_table()?;
    json.set("_NAME", "cjson")?;
    json.set("_VERSION", "2.1.0")?;
    json.set("null", Value::NULL)?;
    add(lua, &json, "encode", |lua, args| {
        let [value] = exactly(args)?;
        let mut out = Vec::new();
        let settings = settings(lua, |settings| settings.clone());
        metered(lua, |meter| encode(value, &settings, 0, &mut out, meter))?;
        one(lua, lua.create_string(&out).map_err(lua_error)?)
    })?;
    add(lua, &json, "decode", |lua, args| {
        let [text] = exactly(args)?;
        let text = lua.coerce_string(text.clone()).map_err(lua_error)?;
        let text = text.ok_or("bad argument #1 to 'decode' (string expected)")?.as_bytes().to_vec();
        let settings = settings(lua, |settings| settings.clone());
        let value = metered(lua, |meter| {
            let mut parser = Parser { lua, text: &text, at: 0, settings: &settings, meter };
            let value = parser.value(0)?;
            parser.end()?;
            Ok(value)
        })?;
        Ok(MultiValue::from_vec(vec![value]))
    })?;
    add(lua, &json, "encode_sparse_array", |lua, args| {
        settings(lua, |settings| {
            if let Some(value) = args.front() {
                settings.sparse_convert = truth(value, 1)?;
            }
            set_count(args, 1, 0, &mut settings.sparse_ratio)?;
            set_count(args, 2, 0, &mut settings.sparse_safe)?;
            let Settings { sparse_convert, sparse_ratio, sparse_safe, .. } = *settings;
            let number = |n: usize| Value::Number(n as f64);
            Ok(MultiValue::from_vec(vec![
                Value::Boolean(sparse_convert),
                number(sparse_ratio),
                number(sparse_safe),
            ]))
        })
    })?;
    let counts: [(&str, Count); 3] = [
        ("encode_max_depth", |settings| &mut settings.encode_depth),
        ("decode_max_depth", |settings| &mut settings.decode_depth),
        ("encode_number_precision", |settings| &mut settings.digits),
    ];
    for (name, field) in counts {
        add(lua, &json, name, move |lua, args| {
            let now = settings(lua, |settings| {
                let before = settings.digits;
                set_count(args, 0, 1, field(settings))?;
                if settings.digits > 14 {
                    settings.digits = before;
                    return Err("bad argument #1 to '?' (expected integer between 1 and 14)".to_string());
                }
                Ok(*field(settings))
            })?;
            one(lua, now as f64)
        })?;
    }
    add(lua, &json, "encode_keep_buffer", |lua, args| {
        let now = settings(lua, |settings| {
            if let Some(value) = args.front() {
                settings.keep_buffer = truth(value, 1)?;
            }
            Ok::<_, String>(settings.keep_buffer)
        })?;
        one(lua, now)
    })?;
    add(lua, &json, "encode_invalid_numbers", |lua, args| {
        let now = settings(lua, |settings| {
            match args.front() {
                None => {}
                Some(Value::String(word)) if word.as_bytes() == *b"null" => {
                    settings.encode_invalid = Invalid::Null;
                }
                Some(value) => {
                    let write = truth(value, 1)?;
                    settings.encode_invalid = if write { Invalid::Write } else { Invalid::Refuse };
                }
            }
            Ok::<_, String>(settings.encode_invalid)
        })?;
        match now {
            Invalid::Null => one(lua, "null"),
            other => one(lua, other == Invalid::Write),
        }
    })?;
    add(lua, &json, "decode_invalid_numbers", |lua, args| {
        let now = settings(lua, |settings| {
            if let Some(value) = args.front() {
                settings.decode_invalid = truth(value, 1)?;
            }
            Ok::<_, String>(settings.decode_invalid)
        })?;
        one(lua, now)
    })?;
    Ok(json)
}

fn settings<R>(lua: &Lua, look: impl FnOnce(&mut Settings) -> R) -> R {
    match lua.app_data_ref::<Rc<World>>() {
        Some(world) => world.ask(|host| match host {
            Some(host) => look(&mut host.json),
            None => look(&mut Settings::default()),
        }),
        None => look(&mut Settings::default()),
    }
}

fn exactly(args: &MultiValue) -> Result<[&Value; 1], String> {
    match args.front() {
        Some(value) if args.len() == 1 => Ok([value]),
        _ => Err("expected 1 argument".to_string()),
    }
}

fn truth(value: &Value, i: usize) -> Result<bool, String> {
    match value {
        Value::Boolean(value) => Ok(*value),
        Value::String(word) if word.as_bytes() == *b"on" => Ok(true),
        Value::String(word) if word.as_bytes() == *b"off" => Ok(false),
        _ => Err(format!("bad argument #{i} to '?' (boolean expected)")),
    }
}

/// Sets `place` to argument `i`, if it is there.
fn set_count(args: &MultiValue, i: usize, least: usize, place: &mut usize) -> Result<(), String> {
    if args.get(i).is_none_or(Value::is_nil) {
        return Ok(());
    }
    let count = number(args, i, "?")?;
    if count < least as f64 || count > f64::from(i32::MAX) {
        return Err(format!(
            "bad argument #{} to '?' (expected integer between {least} and {})",
            i + 1,
            i32::MAX
        ));
    }
    *place = count as usize;
    Ok(())
}

fn encode(
    value: &Value,
    settings: &Settings,
    depth: usize,
    out: &mut Vec<u8>,
    meter: &mut Meter,
) -> Result<(), String> {
    meter.value(out.len())?;
    match value {
        Value::Nil => out.extend_from_slice(b"null"),
        Value::LightUserData(pointer) if pointer.0.is_null() => out.extend_from_slice(b"null"),
        Value::Boolean(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Value::String(text) => encode_string(&text.as_bytes(), out),
        Value::Integer(_) | Value::Number(_) => encode_number(number_of(value), settings, out)?,
        Value::Table(table) => encode_table(table, settings, depth + 1, out, meter)?,
        other => return Err(format!("Cannot serialise {}: type not supported", other.type_name())),
    }
    Ok(())
}

fn encode_number(value: f64, settings: &Settings, out: &mut Vec<u8>) -> Result<(), String> {
    if !value.is_finite() {
        match settings.encode_invalid {
            Invalid::Refuse => return Err("Cannot serialise number: must not be NaN or Inf".to_string()),
            Invalid::Null => {
                out.extend_from_slice(b"null");
                return Ok(());
            }
            Invalid::Write => {}
        }
    }
    out.extend_from_slice(format_general(value, settings.digits).as_bytes());
    Ok(())
}

fn encode_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'/' => out.extend_from_slice(b"\\/"),
            8 => out.extend_from_slice(b"\\b"),
            9 => out.extend_from_slice(b"\\t"),
            10 => out.extend_from_slice(b"\\n"),
            12 => out.extend_from_slice(b"\\f"),
            13 => out.extend_from_slice(b"\\r"),
            0..32 | 127 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

fn encode_table(
    table: &Table,
    settings: &Settings,
    depth: usize,
    out: &mut Vec<u8>,
    meter: &mut Meter,
) -> Result<(), String> {
    if depth > settings.encode_depth {
        return Err(format!("Cannot serialise, excessive depth ({depth})"));
    }
    if let Some(len) = array_len(&ordered_keys(table).map_err(lua_error)?, settings)? {
        out.push(b'[');
        for i in 1..=len {
            if i > 1 {
                out.push(b',');
            }
            let item: Value = table.raw_get(i).map_err(lua_error)?;
            encode(&item, settings, depth, out, meter)?;
        }
        out.push(b']');
        return Ok(());
    }
    out.push(b'{');
    for (n, pair) in ordered(table).map_err(lua_error)?.enumerate() {
        let (key, value) = pair.map_err(lua_error)?;
        if n > 0 {
            out.push(b',');
        }
        match key {
            Key::Text(text) => encode_string(&text, out),
            Key::Number(number) => {
                out.push(b'"');
                encode_number(number, settings, out)?;
                out.push(b'"');
            }
            Key::Bool(_) => {
                return Err("Cannot serialise table: table key must be a number or string".to_string());
            }
        }
        out.push(b':');
        encode(&value, settings, depth, out, meter)?;
    }
    out.push(b'}');
    Ok(())
}

/// The length of the array that a table is; `None` if it is an object, as one without elements is.
fn array_len(keys: &[Key], settings: &Settings) -> Result<Option<usize>, String> {
    let index = |key: &Key| match key {
        Key::Number(n) => Some(*n).filter(|n| *n >= 1.0 && n.fract() == 0.0).map(|n| n as usize),
        _ => None,
    };
    let Some(indexes) = keys.iter().map(index).collect::<Option<Vec<usize>>>() else { return Ok(None) };
    let Some(len) = indexes.iter().copied().max() else { return Ok(None) };
    let sparse = settings.sparse_ratio > 0
        && len > indexes.len() * settings.sparse_ratio
        && len > settings.sparse_safe;
    match sparse {
        false => Ok(Some(len)),
        true if settings.sparse_convert => Ok(None),
        true => Err("Cannot serialise table: excessively sparse array".to_string()),
    }
}

struct Parser<'a> {
    lua: &'a Lua,
    text: &'a [u8],
    at: usize,
    settings: &'a Settings,
    meter: &'a mut Meter,
}

impl Parser<'_> {
    fn peek(&mut self) -> Option<u8> {
        while self.text.get(self.at).is_some_and(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn expected<T>(&mut self, what: &str) -> Result<T, String> {
        let found = match self.peek() {
            None => "T_END",
            Some(b'{') => "T_OBJ_BEGIN",
            Some(b'}') => "T_OBJ_END",
            Some(b'[') => "T_ARR_BEGIN",
            Some(b']') => "T_ARR_END",
            Some(b',') => "T_COMMA",
            Some(b':') => "T_COLON",
            Some(b'"') => "T_STRING",
            Some(_) => "invalid token",
        };
        Err(format!("Expected {what} but found {found} at character {}", self.at + 1))
    }

    fn end(&mut self) -> Result<(), String> {
        if self.peek().is_some() { self.expected("the end") } else { Ok(()) }
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        self.meter.value(0)?;
        match self.peek() {
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'"') => {
                let text = self.string()?;
                Ok(Value::String(self.lua.create_string(&text).map_err(lua_error)?))
            }
            _ => self.scalar(),
        }
    }

    fn check_depth(&self, depth: usize) -> Result<(), String> {
        if depth > self.settings.decode_depth {
            let at = self.at + 1;
            return Err(format!("Found too many nested data structures ({depth}) at character {at}"));
        }
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<Value, String> {
        self.check_depth(depth)?;
        self.at += 1;
        let table = self.lua.create_table().map_err(lua_error)?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Table(table));
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.expected("object key string");
            }
            let key = self.string()?;
            if self.peek() != Some(b':') {
                return self.expected("colon");
            }
            self.at += 1;
            let value = self.value(depth)?;
            let key = self.lua.create_string(&key).map_err(lua_error)?;
            table.raw_set(key, value).map_err(lua_error)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::Table(table));
                }
                _ => return self.expected("comma or object end"),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, String> {
        self.check_depth(depth)?;
        self.at += 1;
        let table = self.lua.create_table().map_err(lua_error)?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Table(table));
        }
        for i in 1.. {
            let value = self.value(depth)?;
            table.raw_set(i, value).map_err(lua_error)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    break;
                }
                _ => return self.expected("comma or array end"),
            }
        }
        Ok(Value::Table(table))
    }

    fn scalar(&mut self) -> Result<Value, String> {
        for (word, value) in
            [("true", Value::Boolean(true)), ("false", Value::Boolean(false)), ("null", Value::NULL)]
        {
            if self.text[self.at.min(self.text.len())..].starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(value);
            }
        }
        let rest = &self.text[self.at.min(self.text.len())..];
        let len =
            rest.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')).count();
        let text = std::str::from_utf8(&rest[..len]).unwrap_or_default();
        match parse_number(text, self.settings.decode_invalid) {
            Some(number) => {
                self.at += len;
                Ok(Value::Number(number))
            }
            None => self.expected("value"),
        }
    }

    fn string(&mut self) -> Result<Vec<u8>, String> {
        let began = self.at;
        self.at += 1;
        let mut out = Vec::new();
        loop {
            let Some(&byte) = self.text.get(self.at) else {
                return Err(format!(
                    "Expected value but found unexpected end of string at character {}",
                    began + 1
                ));
            };
            self.at += 1;
            match byte {
                b'"' => return Ok(out),
                b'\\' => self.escape(&mut out)?,
                _ => out.push(byte),
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        let invalid = format!("Expected value but found invalid escape code at character {}", self.at);
        let code = self.text.get(self.at).copied().ok_or_else(|| invalid.clone())?;
        self.at += 1;
        out.push(match code {
            b'"' | b'\\' | b'/' => code,
            b'b' => 8,
            b'f' => 12,
            b'n' => 10,
            b'r' => 13,
            b't' => 9,
            b'u' => {
                let text = self.code_point().and_then(char::from_u32);
                let text = text.ok_or_else(|| invalid.replace("escape code", "unicode escape code"))?;
                let mut utf8 = [0; 4];
                out.extend_from_slice(text.encode_utf8(&mut utf8).as_bytes());
                return Ok(());
            }
            _ => return Err(invalid),
        });
        Ok(())
    }

    fn code_point(&mut self) -> Option<u32> {
        let first = self.four_digits()?;
        if !(0xD800..0xDC00).contains(&first) {
            return Some(first);
        }
        if !self.text[self.at..].starts_with(b"\\u") {
            return None;
        }
        self.at += 2;
        let second = self.four_digits().filter(|low| (0xDC00..0xE000).contains(low))?;
        Some(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))
    }

    fn four_digits(&mut self) -> Option<u32> {
        let digits = std::str::from_utf8(self.text.get(self.at..self.at + 4)?).ok()?;
        let code =
            digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())??;
        self.at += 4;
        Some(code)
    }
}

fn parse_number(text: &str, invalid_too: bool) -> Option<f64> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    let lower = unsigned.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok().filter(|_| invalid_too).map(|n| sign * n as f64);
    }
    match lower.as_str() {
        "nan" if invalid_too => return Some(f64::NAN),
        "inf" | "infinity" if invalid_too => return Some(sign * f64::INFINITY),
        _ => {}
    }
    if !lower.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}
