//! Lua's patterns (Lua 5.1 manual, 5.4.1), matched here so that their cost is counted: a match takes as many steps as it needs,
//! and some need more than there will ever be time for. A step costs what an instruction costs.
//!
//! prelude.lua makes `string.find`, `match`, `gmatch` and `gsub` of what is here.

mod compiled;
mod matcher;

use std::ops::Range;

use mlua::{Lua, LuaString, MultiValue, Table, Value};

use super::maths::number;
use super::{Given, NO_MEMORY, add_counted, lua_error};
use crate::script::api;
use compiled::items;
use matcher::{Capture, Failure, Matcher, Steps};

/// The functions.
pub fn library(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    add_counted(lua, &library, "find", find)?;
    add_counted(lua, &library, "match", first_match)?;
    add_counted(lua, &library, "words", words)?;
    add_counted(lua, &library, "step", step)?;
    add_counted(lua, &library, "substitute", substitute)?;
    Ok(library)
}

/// Argument `i` (from 0), a text, or a number as one.
fn text(lua: &Lua, args: &MultiValue, i: usize, function: &str) -> Result<LuaString, String> {
    let bad = |got: &str| format!("bad argument #{} to '{function}' (string expected, got {got})", i + 1);
    match args.get(i) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value @ (Value::Integer(_) | Value::Number(_))) => {
            lua.coerce_string(value.clone()).map_err(lua_error)?.ok_or_else(|| bad("number"))
        }
        Some(value) => Err(bad(value.type_name())),
        None => Err(bad("no value")),
    }
}

/// Argument `i` as an integer, if it is there.
fn integer(args: &MultiValue, i: usize, function: &str) -> Result<Option<i64>, String> {
    match args.get(i) {
        None | Some(Value::Nil) => Ok(None),
        Some(_) => number(args, i, function).map(|number| Some(number as i64)),
    }
}

/// Does what takes steps, at the cost of the script.
fn counted<T>(lua: &Lua, run: impl FnOnce(&mut Steps) -> Result<T, Failure>) -> Result<T, String> {
    let (left, stop) = api::with(lua, |host| (host.instructions_left(), host.stop()));
    let mut steps = Steps::new(left, stop);
    let done = run(&mut steps);
    let spent = match &done {
        // Also if it was stopped: it is over.
        Err(Failure::Spent) => left.saturating_add(1),
        _ => left - steps.left(),
    };
    api::with(lua, |host| host.spend(spent));
    done.map_err(|failure| match failure {
        Failure::Wrong(wrong) => wrong.to_string(),
        Failure::Spent => "the script has used up its budget".to_string(),
    })
}

/// Where a match may begin: from `from` on, or there alone if the pattern is anchored; and the pattern without its anchor.
fn starts<'a>(text: &[u8], pattern: &'a [u8], from: usize) -> (Range<usize>, &'a [u8]) {
    match pattern.strip_prefix(b"^") {
        Some(rest) => (from..from + 1, rest),
        None => (from..text.len() + 1, pattern),
    }
}

/// Where a script asks to begin: from 1 upwards, or from the end if negative.
fn beginning(asked: Option<i64>, len: usize) -> usize {
    let from = match asked.unwrap_or(1) {
        back if back < 0 => (back.saturating_add(len as i64)).max(0),
        ahead => (ahead - 1).max(0),
    };
    usize::try_from(from).unwrap_or(usize::MAX).min(len)
}

/// A match, and what it has captured.
type Found = Option<(Range<usize>, Vec<Capture>)>;

/// What of a match is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// All captures, the whole if there are none.
    All,
    /// The first of those.
    First,
    /// All captures, nothing if there are none.
    Captures,
}

fn search(
    steps: &mut Steps,
    text: &[u8],
    pattern: &[u8],
    starts: Range<usize>,
    asked: Asked,
) -> Result<Found, Failure> {
    steps.take(pattern.len())?;
    let items = items(pattern);
    let mut matcher = Matcher::new(text, &items, steps);
    let Some(found) = matcher.first(starts)? else { return Ok(None) };
    let captures = match asked {
        Asked::Captures if !matcher.captures_something() => Vec::new(),
        Asked::First => vec![matcher.one(0, &found)?],
        Asked::All | Asked::Captures => matcher.captured(&found)?,
    };
    Ok(Some((found, captures)))
}

fn find(lua: &Lua, args: &MultiValue) -> Given {
    const SPECIAL: &[u8] = b"^$*+?.([%-";
    let (text, pattern) = (text(lua, args, 0, "find")?, text(lua, args, 1, "find")?);
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let from = beginning(integer(args, 2, "find")?, text.len());
    let asked = args.get(3).is_some_and(|plain| !matches!(plain, Value::Nil | Value::Boolean(false)));
    // As it is a text of C's, it ends with the first zero.
    let special = |byte: &u8| SPECIAL.contains(byte);
    if asked || !pattern.iter().take_while(|byte| **byte != 0).any(special) {
        let found = counted(lua, |steps| plain(steps, &text[from..], &pattern))?;
        return Ok(found.map_or_else(nothing, |at| numbers(from + at, from + at + pattern.len())));
    }
    let (starts, pattern) = starts(&text, &pattern, from);
    let found = counted(lua, |steps| search(steps, &text, pattern, starts, Asked::Captures))?;
    let Some((found, captures)) = found else { return Ok(nothing()) };
    let mut values = numbers(found.start, found.end);
    for capture in captures {
        values.push_back(value(lua, &text, capture)?);
    }
    Ok(values)
}

fn first_match(lua: &Lua, args: &MultiValue) -> Given {
    let (text, pattern) = (text(lua, args, 0, "match")?, text(lua, args, 1, "match")?);
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let from = beginning(integer(args, 2, "match")?, text.len());
    let (starts, pattern) = starts(&text, &pattern, from);
    match counted(lua, |steps| search(steps, &text, pattern, starts, Asked::All))? {
        Some((_, captures)) => captures.into_iter().map(|capture| value(lua, &text, capture)).collect(),
        None => Ok(nothing()),
    }
}

/// The text, the pattern and the most matches of a walk, for the function named by the first argument.
fn words(lua: &Lua, args: &MultiValue) -> Given {
    let mut args = args.clone();
    let Some(Value::String(function)) = args.pop_front() else { return Err("no function".to_string()) };
    let function = function.to_string_lossy();
    let (text, pattern) = (text(lua, &args, 0, &function)?, text(lua, &args, 1, &function)?);
    let most = integer(&args, 3, &function)?.map_or(Value::Nil, |most| Value::Number(most as f64));
    Ok([Value::String(text), Value::String(pattern), most].into_iter().collect())
}

/// The next match of a walk, at or after a place (from 0): where it begins and ends, and what it has captured. Then
/// come whether a `^` anchors the pattern, and whether the first capture will do.
fn step(lua: &Lua, args: &MultiValue) -> Given {
    let (text, pattern) = (text(lua, args, 0, "gsub")?, text(lua, args, 1, "gsub")?);
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let from = integer(args, 2, "gsub")?.map_or(0, |from| from.max(0) as usize);
    let flag = |i: usize| matches!(args.get(i), Some(Value::Boolean(true)));
    let (starts, pattern) = match flag(3) {
        true => starts(&text, &pattern, from),
        false => (from..text.len() + 1, &pattern[..]),
    };
    let asked = if flag(4) { Asked::First } else { Asked::All };
    let found = counted(lua, |steps| search(steps, &text, pattern, starts, asked))?;
    let Some((found, captures)) = found else { return Ok(nothing()) };
    let mut values: MultiValue =
        [found.start, found.end].into_iter().map(|place| Value::Number(place as f64)).collect();
    for capture in captures {
        values.push_back(value(lua, &text, capture)?);
    }
    Ok(values)
}

/// gsub with a text in the place of each match.
fn substitute(lua: &Lua, args: &MultiValue) -> Given {
    let (text, pattern) = (self::text(lua, args, 0, "gsub")?, self::text(lua, args, 1, "gsub")?);
    let most = integer(args, 3, "gsub")?;
    let Ok(by) = self::text(lua, args, 2, "gsub") else {
        return Err("bad argument #3 to 'gsub' (string/function/table expected)".to_string());
    };
    let (text, pattern, by) = (text.as_bytes(), pattern.as_bytes(), by.as_bytes());
    let most = most.unwrap_or(text.len() as i64 + 1);
    let room = api::with(lua, |host| host.bytes_limit.saturating_sub(lua.used_memory()));
    let done = counted(lua, |steps| all_substituted(steps, &text, &pattern, &by, most, room))?;
    let (out, count) = done.ok_or_else(|| NO_MEMORY.to_string())?;
    let out = lua.create_string(out).map_err(lua_error)?;
    Ok([Value::String(out), Value::Number(count as f64)].into_iter().collect())
}

/// `None` if the outcome takes more than `room`.
fn all_substituted(
    steps: &mut Steps,
    text: &[u8],
    pattern: &[u8],
    by: &[u8],
    most: i64,
    room: usize,
) -> Result<Option<(Vec<u8>, i64)>, Failure> {
    steps.take(pattern.len() + by.len())?;
    let (anchored, items) = match pattern.strip_prefix(b"^") {
        Some(rest) => (true, items(rest)),
        None => (false, items(pattern)),
    };
    let (mut out, mut at, mut count) = (Vec::new(), 0, 0);
    while count < most {
        let last = if anchored { at } else { text.len() };
        let mut matcher = Matcher::new(text, &items, steps);
        let Some(found) = matcher.first(at..last + 1)? else { break };
        count += 1;
        out.extend_from_slice(&text[at..found.start]);
        put(&mut out, text, &matcher, &found, by)?;
        at = found.end;
        if found.is_empty() {
            let Some(next) = text.get(at) else { break };
            out.push(*next);
            at += 1;
        }
        if out.len() > room {
            return Ok(None);
        }
        steps.take(by.len() / 16)?;
        if anchored {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
    steps.take(text.len() / 16)?;
    Ok(Some((out, count)))
}

/// Puts what stands for a match, in which `%1` is what was captured first.
fn put(
    out: &mut Vec<u8>,
    text: &[u8],
    matcher: &Matcher,
    found: &Range<usize>,
    by: &[u8],
) -> Result<(), Failure> {
    let mut bytes = by.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        // Past its end, C finds a zero.
        match bytes.next().unwrap_or(0) {
            b'0' => out.extend_from_slice(&text[found.clone()]),
            digit @ b'1'..=b'9' => match matcher.one(usize::from(digit - b'1'), found)? {
                Capture::Position(at) => out.extend_from_slice((at + 1).to_string().as_bytes()),
                Capture::Text(start, end) => out.extend_from_slice(&text[start..end]),
                Capture::Open(_) => return Err(Failure::Wrong("unfinished capture")),
            },
            other => out.push(other),
        }
    }
    Ok(())
}

/// Where `sought` is first.
fn plain(steps: &mut Steps, text: &[u8], sought: &[u8]) -> Result<Option<usize>, Failure> {
    let Some((first, rest)) = sought.split_first() else { return Ok(Some(0)) };
    let mut from = 0;
    while let Some(distance) = text[from..].iter().position(|byte| byte == first) {
        from += distance + 1;
        let same = text[from..].iter().zip(rest).take_while(|(a, b)| a == b).count();
        steps.take(1 + (distance + same) / 4)?;
        if same == rest.len() {
            return Ok(Some(from - 1));
        }
    }
    steps.take((text.len() - from) / 4)?;
    Ok(None)
}

fn value(lua: &Lua, text: &[u8], capture: Capture) -> Result<Value, String> {
    match capture {
        Capture::Position(at) => Ok(Value::Number((at + 1) as f64)),
        Capture::Text(start, end) => {
            lua.create_string(&text[start..end]).map(Value::String).map_err(lua_error)
        }
        Capture::Open(_) => Err("unfinished capture".to_string()),
    }
}

fn nothing() -> MultiValue {
    MultiValue::from_vec(vec![Value::Nil])
}

/// A place as scripts see it: from 1, its end included.
fn numbers(start: usize, end: usize) -> MultiValue {
    [start + 1, end].into_iter().map(|place| Value::Number(place as f64)).collect()
}

#[cfg(test)]
mod tests;
