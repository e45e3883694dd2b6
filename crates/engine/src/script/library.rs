//! Function libraries: their first line, what they register, and FUNCTION DUMP's payload.

use mlua::{Function, MultiValue, Table, Value};

use bytes::Bytes;

use super::convert::{Key, ordered};
use super::{FLAG_NAMES, ScriptFlags};
use crate::entry::{FunctionState, LibraryState};
use crate::error::CommandError;

/// A function of a library.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionInfo {
    /// Its name, as it was registered.
    pub name: String,
    /// What it says of itself.
    pub description: Option<Bytes>,
    /// What it declared.
    pub flags: ScriptFlags,
}

/// A library.
#[derive(Clone, Debug, PartialEq)]
pub struct Library {
    /// Its name.
    pub name: String,
    /// Its text, first line included.
    pub code: Bytes,
    /// Its functions in the order of their names.
    pub functions: Vec<FunctionInfo>,
}

impl From<&Library> for LibraryState {
    fn from(library: &Library) -> LibraryState {
        let state = |function: &FunctionInfo| FunctionState {
            name: function.name.clone(),
            description: function.description.clone(),
            flags: function.flags.bits(),
        };
        LibraryState {
            code: library.code.clone(),
            functions: library.functions.iter().map(state).collect(),
            name: library.name.clone(),
        }
    }
}

impl From<LibraryState> for Library {
    fn from(state: LibraryState) -> Library {
        let function = |function: FunctionState| FunctionInfo {
            name: function.name,
            description: function.description,
            flags: ScriptFlags::from_bits_truncate(function.flags),
        };
        let functions = state.functions.into_iter().map(function).collect();
        Library { name: state.name, code: state.code, functions }
    }
}

/// Why a function cannot be registered, in Redis's words.
pub struct RegisterError(pub String);

fn error<T>(why: &str) -> Result<T, RegisterError> {
    Err(RegisterError(why.to_string()))
}

const NAME_RULE: &str = "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long";

/// Whether a library or a function may be called so.
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// The name in a library's first line, `#!lua name=…`.
pub fn name_of(code: &[u8]) -> Result<String, CommandError> {
    let fail = |text: String| Err(CommandError::Message(format!("ERR {text}")));
    let Some(rest) = code.strip_prefix(b"#!") else { return fail("Missing library metadata".to_string()) };
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
        return fail("Invalid library metadata".to_string());
    };
    let line = String::from_utf8_lossy(&rest[..end]);
    let engine_end = line.find(' ').unwrap_or(line.len());
    let engine = &line[..engine_end];
    if !engine.eq_ignore_ascii_case("lua") {
        return fail(format!("Engine '{engine}' not found"));
    }
    let mut name = None;
    for word in line[engine_end..].split_ascii_whitespace() {
        let Some(value) = word.strip_prefix("name=") else {
            return fail(format!("Invalid metadata value given: {word}"));
        };
        if name.is_some() {
            return fail("Invalid metadata value, name argument was given multiple times".to_string());
        }
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
        name = Some(value.to_string());
    }
    match name {
        None => fail("Library name was not given".to_string()),
        Some(name) if !is_name(name.as_bytes()) => fail(NAME_RULE.to_string()),
        Some(name) => Ok(name),
    }
}

/// The flags of a script's first line, `#!lua flags=…`; COMPAT if it has none.
pub fn script_flags(body: &[u8]) -> Result<ScriptFlags, CommandError> {
    let fail = |text: String| Err(CommandError::Message(format!("ERR {text}")));
    if !body.starts_with(b"#!") {
        return Ok(ScriptFlags::COMPAT);
    }
    let Some(end) = body.iter().position(|byte| *byte == b'\n') else {
        return fail("Invalid script shebang".to_string());
    };
    // What most scripts begin with.
    if body[..end] == *b"#!lua" {
        return Ok(ScriptFlags::empty());
    }
    let line = String::from_utf8_lossy(&body[..end]).into_owned();
    let mut words = line.split_ascii_whitespace();
    match words.next() {
        Some("#!lua") => {}
        other => return fail(format!("Unexpected engine in script shebang: {}", other.unwrap_or_default())),
    }
    let mut flags = ScriptFlags::empty();
    for word in words {
        let Some(names) = word.strip_prefix("flags=") else {
            return fail(format!("Unknown lua shebang option: {word}"));
        };
        for name in names.split(',').filter(|name| !name.is_empty()) {
            match flag_of(name) {
                Some(flag) => flags |= flag,
                None => return fail(format!("Unexpected flag in script shebang: {name}")),
            }
        }
    }
    Ok(flags)
}

fn flag_of(name: &str) -> Option<ScriptFlags> {
    FLAG_NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, flag)| *flag)
}

/// What redis.register_function was called with.
pub fn registration(args: &MultiValue) -> Result<(FunctionInfo, Function), RegisterError> {
    match args.len() {
        1 => match &args[0] {
            Value::Table(table) => named(table),
            _ => error(
                "calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).",
            ),
        },
        2 => positional(&args[0], &args[1]),
        _ => error("wrong number of arguments to redis.register_function"),
    }
}

fn positional(name: &Value, callback: &Value) -> Result<(FunctionInfo, Function), RegisterError> {
    let Value::String(name) = name else {
        return error("first argument to redis.register_function must be a string");
    };
    let Value::Function(callback) = callback else {
        return error("second argument to redis.register_function must be a function");
    };
    let info = FunctionInfo {
        name: checked_name(&name.as_bytes())?,
        description: None,
        flags: ScriptFlags::empty(),
    };
    Ok((info, callback.clone()))
}

fn named(table: &Table) -> Result<(FunctionInfo, Function), RegisterError> {
    let (mut name, mut callback, mut description, mut flags) = (None, None, None, ScriptFlags::empty());
    let refused = |e: mlua::Error| RegisterError(e.to_string());
    for pair in ordered(table).map_err(refused)? {
        let (Key::Text(key), value) = pair.map_err(refused)? else {
            return error("named argument key given to redis.register_function is not a string");
        };
        match (String::from_utf8_lossy(&key).to_ascii_lowercase().as_str(), value) {
            ("function_name", Value::String(text)) => name = Some(checked_name(&text.as_bytes())?),
            ("function_name", _) => {
                return error("function_name argument given to redis.register_function must be a string");
            }
            ("description", Value::String(text)) => {
                description = Some(Bytes::copy_from_slice(&text.as_bytes()));
            }
            ("description", _) => {
                return error("description argument given to redis.register_function must be a string");
            }
            ("callback", Value::Function(function)) => callback = Some(function),
            ("callback", _) => {
                return error("callback argument given to redis.register_function must be a function");
            }
            ("flags", Value::Table(names)) => flags = flags_of(&names)?,
            ("flags", _) => {
                return error(
                    "flags argument to redis.register_function must be a table representing function flags",
                );
            }
            _ => return error("unknown argument given to redis.register_function"),
        }
    }
    let Some(name) = name else {
        return error("redis.register_function must get a function name argument");
    };
    let Some(callback) = callback else {
        return error("redis.register_function must get a callback argument");
    };
    Ok((FunctionInfo { name, description, flags }, callback))
}

fn flags_of(names: &Table) -> Result<ScriptFlags, RegisterError> {
    let mut flags = ScriptFlags::empty();
    for i in 1.. {
        match names.raw_get::<Value>(i) {
            Ok(Value::Nil) => break,
            Ok(Value::String(name)) if flag_of(&name.to_string_lossy()).is_some() => {
                flags |= flag_of(&name.to_string_lossy()).unwrap_or_default();
            }
            _ => return error("unknown flag given"),
        }
    }
    Ok(flags)
}

fn checked_name(name: &[u8]) -> Result<String, RegisterError> {
    if is_name(name) { Ok(String::from_utf8_lossy(name).into_owned()) } else { error(NAME_RULE) }
}
