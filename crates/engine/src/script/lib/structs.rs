//! `struct`: packed binary records, as Roberto Ierusalimschy's library of that name (its manual), without native alignment
//! beyond what `!` asks for.

use mlua::{Lua, MultiValue, Table, Value};

use super::maths::number;
use super::{Meter, add, lua_error, metered, one};
use crate::script::cost;

/// The widest integer, in bytes.
const MAX_INT: usize = 32;

/// The largest `c` count and padding that a format may ask for.
const MAX_SIZE: usize = 512 << 20;

/// The library.
pub fn library(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    add(lua, &library, "pack", |lua, args| {
        let format = word(args, 0, "pack")?;
        let packed = metered(lua, |meter| pack(lua, &format, args, meter))?;
        one(lua, lua.create_string(&packed).map_err(lua_error)?)
    })?;
    add(lua, &library, "unpack", |lua, args| {
        let (format, data) = (word(args, 0, "unpack")?, word(args, 1, "unpack")?);
        let start = if args.len() > 2 { number(args, 2, "unpack")? } else { 1.0 };
        if start < 1.0 {
            return Err("bad argument #3 to 'unpack' (offset must be 1 or greater)".to_string());
        }
        metered(lua, |meter| unpack(lua, &format, &data, start as usize - 1, meter))
    })?;
    add(lua, &library, "size", |lua, args| {
        let mut total = 0;
        let text = word(args, 0, "size")?;
        let mut format = Format::new(&text);
        while let Some(item) = format.next(total)? {
            match item.kind {
                Kind::Text => {
                    return Err("bad argument #1 to 'size' (variable-size format in 'size')".to_string());
                }
                Kind::Chars(None) => {
                    return Err("bad argument #1 to 'size' (variable-length format in 'size')".to_string());
                }
                _ => total += item.padding + item.len(),
            }
        }
        one(lua, total as f64)
    })?;
    Ok(library)
}

fn word(args: &MultiValue, i: usize, function: &str) -> Result<Vec<u8>, String> {
    match args.get(i) {
        Some(Value::String(text)) => Ok(text.as_bytes().to_vec()),
        other => Err(format!(
            "bad argument #{} to '{function}' (string expected, got {})",
            i + 1,
            other.map_or("no value", Value::type_name)
        )),
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Pad,
    Signed(usize),
    Unsigned(usize),
    Single,
    Double,
    /// Ends with a zero byte.
    Text,
    /// So many bytes; `None`: as many as the last number says, or the whole string.
    Chars(Option<usize>),
}

struct Item {
    kind: Kind,
    /// Zero bytes in front.
    padding: usize,
    little: bool,
}

impl Item {
    fn len(&self) -> usize {
        match self.kind {
            Kind::Pad => 1,
            Kind::Signed(len) | Kind::Unsigned(len) => len,
            Kind::Single => 4,
            Kind::Double => 8,
            Kind::Chars(len) => len.unwrap_or(0),
            Kind::Text => 0,
        }
    }
}

struct Format<'a> {
    rest: &'a [u8],
    little: bool,
    align: usize,
}

impl<'a> Format<'a> {
    fn new(format: &'a [u8]) -> Format<'a> {
        Format { rest: format, little: true, align: 1 }
    }

    fn number(&mut self) -> Result<Option<usize>, String> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (text, rest) = self.rest.split_at(digits);
        self.rest = rest;
        if text.is_empty() {
            return Ok(None);
        }
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        number.filter(|n| *n <= MAX_SIZE).map(Some).ok_or_else(|| "integral size overflow".to_string())
    }

    fn int_len(&mut self, default: usize) -> Result<usize, String> {
        match self.number()?.unwrap_or(default) {
            len if len > MAX_INT => Err(format!("integral size {len} is larger than limit of {MAX_INT}")),
            len => Ok(len),
        }
    }

    /// The next item, at `offset` in the record.
    fn next(&mut self, offset: usize) -> Result<Option<Item>, String> {
        while let Some((&code, rest)) = self.rest.split_first() {
            self.rest = rest;
            let kind = match code {
                b' ' => continue,
                b'<' => {
                    self.little = true;
                    continue;
                }
                b'>' => {
                    self.little = false;
                    continue;
                }
                b'!' => {
                    self.align = self.number()?.unwrap_or(8);
                    if !self.align.is_power_of_two() {
                        return Err("alignment is not a power of 2".to_string());
                    }
                    continue;
                }
                b'x' => Kind::Pad,
                b'b' => Kind::Signed(1),
                b'B' => Kind::Unsigned(1),
                b'h' => Kind::Signed(2),
                b'H' => Kind::Unsigned(2),
                b'l' => Kind::Signed(8),
                b'L' | b'T' => Kind::Unsigned(8),
                b'i' => Kind::Signed(self.int_len(4)?),
                b'I' => Kind::Unsigned(self.int_len(4)?),
                b'f' => Kind::Single,
                b'd' | b'n' => Kind::Double,
                b's' => Kind::Text,
                b'c' => Kind::Chars(self.number()?.map_or(Some(1), |n| Some(n).filter(|n| *n > 0))),
                other => return Err(format!("invalid format option '{}'", other as char)),
            };
            let mut item = Item { kind, padding: 0, little: self.little };
            let aligned = !matches!(kind, Kind::Pad | Kind::Text | Kind::Chars(_));
            let align = item.len().min(self.align).max(1);
            if aligned && align > 1 {
                item.padding = (align - offset % align) % align;
            }
            return Ok(Some(item));
        }
        Ok(None)
    }
}

fn pack(lua: &Lua, format: &[u8], args: &MultiValue, meter: &mut Meter) -> Result<Vec<u8>, String> {
    let mut format = Format::new(format);
    let mut out = Vec::new();
    let mut arg = 1;
    while let Some(item) = format.next(out.len())? {
        meter.value(out.len())?;
        out.resize(out.len() + item.padding, 0);
        if let Kind::Pad = item.kind {
            out.push(0);
            continue;
        }
        let mut text = || -> Result<Vec<u8>, String> {
            let text = args.get(arg).and_then(|value| lua.coerce_string(value.clone()).ok().flatten());
            let text =
                text.ok_or_else(|| format!("bad argument #{} to 'pack' (string expected)", arg + 1))?;
            let text = text.as_bytes().to_vec();
            meter.count(cost::of_bytes(text.len()))?;
            Ok(text)
        };
        match item.kind {
            Kind::Signed(len) | Kind::Unsigned(len) => {
                put_int(&mut out, number(args, arg, "pack")?, len, item.little);
            }
            Kind::Single => put(&mut out, &(number(args, arg, "pack")? as f32).to_le_bytes(), item.little),
            Kind::Double => put(&mut out, &number(args, arg, "pack")?.to_le_bytes(), item.little),
            Kind::Text => {
                out.extend_from_slice(&text()?);
                out.push(0);
            }
            Kind::Chars(len) => {
                let text = text()?;
                let len = len.unwrap_or(text.len());
                if text.len() < len {
                    return Err(format!("bad argument #{} to 'pack' (string too short)", arg + 1));
                }
                out.extend_from_slice(&text[..len]);
            }
            Kind::Pad => {}
        }
        arg += 1;
    }
    Ok(out)
}

fn put(out: &mut Vec<u8>, little_endian: &[u8], little: bool) {
    if little {
        out.extend_from_slice(little_endian);
    } else {
        out.extend(little_endian.iter().rev());
    }
}

fn put_int(out: &mut Vec<u8>, value: f64, len: usize, little: bool) {
    let value = if value < 0.0 { value as i64 } else { value as u64 as i64 };
    let fill = if value < 0 { 0xff } else { 0 };
    let mut bytes = value.to_le_bytes().to_vec();
    bytes.resize(len.max(8), fill);
    put(out, &bytes[..len], little);
}

fn unpack(lua: &Lua, format: &[u8], data: &[u8], start: usize, meter: &mut Meter) -> super::Given {
    let mut format = Format::new(format);
    let mut at = start;
    let mut values: Vec<Value> = Vec::new();
    let short = || "bad argument #2 to 'unpack' (data string too short)".to_string();
    while let Some(item) = format.next(at)? {
        meter.value(0)?;
        at += item.padding;
        let mut len = item.len();
        if let Kind::Chars(None) = item.kind {
            let Some(count @ Value::Number(_)) = values.pop() else {
                return Err("format 'c0' needs a previous size".to_string());
            };
            len = crate::script::convert::number_of(&count).max(0.0) as usize;
        }
        if let Kind::Text = item.kind {
            let rest = data.get(at..).ok_or_else(short)?;
            len = rest.iter().position(|byte| *byte == 0).ok_or("unfinished string in data")?;
        }
        let end = at.checked_add(len).ok_or_else(short)?;
        let bytes = data.get(at..end).ok_or_else(short)?;
        meter.count(cost::of_bytes(len))?;
        at = end;
        match item.kind {
            Kind::Pad => {}
            Kind::Signed(_) => values.push(Value::Number(int(bytes, item.little) as i64 as f64)),
            Kind::Unsigned(len) => {
                let bits = 8 * len.clamp(1, 8) as u32;
                values.push(Value::Number((int(bytes, item.little) & (u64::MAX >> (64 - bits))) as f64));
            }
            Kind::Single => {
                values.push(Value::Number(f64::from(f32::from_bits(int(bytes, item.little) as u32))))
            }
            Kind::Double => values.push(Value::Number(f64::from_bits(int(bytes, item.little)))),
            Kind::Text | Kind::Chars(_) => {
                values.push(Value::String(lua.create_string(bytes).map_err(lua_error)?));
                if let Kind::Text = item.kind {
                    at += 1;
                }
            }
        }
    }
    values.push(Value::Number(at as f64 + 1.0));
    Ok(MultiValue::from_vec(values))
}

/// An integer of at most eight significant bytes, its sign extended.
fn int(bytes: &[u8], little: bool) -> u64 {
    let mut ordered: Vec<u8> = bytes.to_vec();
    if !little {
        ordered.reverse();
    }
    let negative = ordered.last().is_some_and(|high| *high & 0x80 != 0);
    let mut eight = if negative { [0xff; 8] } else { [0; 8] };
    for (place, byte) in eight.iter_mut().zip(&ordered) {
        *place = *byte;
    }
    u64::from_le_bytes(eight)
}
