//! Strings as a whole and their ranges. (`counter` has those that are numbers, `lcs` the comparison.)

use bytes::Bytes;

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, Outcome, ReadContext, WriteContext};
use crate::commands::expire::set_deadline;
use crate::error::CommandError;
use crate::events::EventClass;
use crate::keyspace::Keyspace;
use crate::reply::Reply;
use crate::slot::NEVER;
use crate::value::string::MAX_STRING_BYTES;
use crate::value::{StringValue, Value};

/// The key and value words of MSET and MSETNX.
const PAIRS: Keys = Keys::range(1, -1, 2);

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::write("append", 3, Keys::ONE, append).with(Flags::DENYOOM).with(Flags::FAST).doc(
        Chapter::String,
        "2.0.0",
        "O(1). The amortized time complexity is O(1) assuming the appended value is small and the already present \
         value is of any size, since the dynamic string library used by Redis will double the free space available \
         on every reallocation.",
        "Appends a string to the value of a key. Creates the key if it doesn't exist.",
    ),
    Command::read("get", 2, Keys::ONE, get).with(Flags::FAST).doc(
        Chapter::String,
        "1.0.0",
        "O(1)",
        "Returns the string value of a key.",
    ),
    Command::write("getdel", 2, Keys::ONE, getdel).with(Flags::FAST).doc(
        Chapter::String,
        "6.2.0",
        "O(1)",
        "Returns the string value of a key after deleting the key.",
    ),
    Command::write("getex", -2, Keys::ONE, getex).with(Flags::FAST).doc(
        Chapter::String,
        "6.2.0",
        "O(1)",
        "Returns the string value of a key after setting its expiration time.",
    ),
    Command::read("getrange", 4, Keys::ONE, getrange).doc(
        Chapter::String,
        "2.4.0",
        "O(N) where N is the length of the returned string. The complexity is ultimately determined by the returned \
         length, but because creating a substring from an existing string is very cheap, it can be considered O(1) \
         for small strings.",
        "Returns a substring of the string stored at a key.",
    ),
    Command::write("getset", 3, Keys::ONE, getset).with(Flags::DENYOOM).with(Flags::FAST).doc(
        Chapter::String,
        "1.0.0",
        "O(1)",
        "Returns the previous string value of a key after setting it to a new value.",
    ),
    Command::read("mget", -2, Keys::ALL, mget).with(Flags::FAST).doc(
        Chapter::String,
        "1.0.0",
        "O(N) where N is the number of keys to retrieve.",
        "Atomically returns the string values of one or more keys.",
    ),
    Command::write("mset", -3, PAIRS, mset).with(Flags::DENYOOM).doc(
        Chapter::String,
        "1.0.1",
        "O(N) where N is the number of keys to set.",
        "Atomically creates or modifies the string values of one or more keys.",
    ),
    Command::write("msetnx", -3, PAIRS, msetnx).with(Flags::DENYOOM).doc(
        Chapter::String,
        "1.0.1",
        "O(N) where N is the number of keys to set.",
        "Atomically modifies the string values of one or more keys only when all keys don't exist.",
    ),
    Command::write("psetex", 4, Keys::ONE, psetex).with(Flags::DENYOOM).doc(
        Chapter::String,
        "2.6.0",
        "O(1)",
        "Sets both string value and expiration time in milliseconds of a key. The key is created if it doesn't exist.",
    ),
    Command::write("set", -3, Keys::ONE, set).with(Flags::DENYOOM).doc(
        Chapter::String,
        "1.0.0",
        "O(1)",
        "Sets the string value of a key, ignoring its type. The key is created if it doesn't exist.",
    ),
    Command::write("setex", 4, Keys::ONE, setex).with(Flags::DENYOOM).doc(
        Chapter::String,
        "2.0.0",
        "O(1)",
        "Sets the string value and expiration time of a key. Creates the key if it doesn't exist.",
    ),
    Command::write("setnx", 3, Keys::ONE, setnx).with(Flags::DENYOOM).with(Flags::FAST).doc(
        Chapter::String,
        "1.0.0",
        "O(1)",
        "Set the string value of a key only when the key doesn't exist.",
    ),
    Command::write("setrange", 4, Keys::ONE, setrange).with(Flags::DENYOOM).doc(
        Chapter::String,
        "2.2.0",
        "O(1), not counting the time taken to copy the new string in place. Usually, this string is very small so \
         the amortized complexity is O(1). Otherwise, complexity is O(M) with M being the length of the value \
         argument.",
        "Overwrites a part of a string value with another by an offset. Creates the key if it doesn't exist.",
    ),
    Command::read("strlen", 2, Keys::ONE, strlen).with(Flags::FAST).doc(
        Chapter::String,
        "2.2.0",
        "O(1)",
        "Returns the length of a string value.",
    ),
    Command::read("substr", 4, Keys::ONE, getrange).doc(
        Chapter::String,
        "1.0.0",
        "O(N) where N is the length of the returned string. The complexity is ultimately determined by the returned \
         length, but because creating a substring from an existing string is very cheap, it can be considered O(1) \
         for small strings.",
        "Returns a substring from a string value.",
    ),
];

fn get(context: &mut ReadContext, args: Args) -> Outcome {
    value_of(context.keys, args.bytes(1))
}

fn mget(context: &mut ReadContext, args: Args) -> Outcome {
    // A key of another type has no string, which is no error here.
    let value = |key: &Bytes| value_of(context.keys, key).unwrap_or(Reply::Null);
    Ok(Reply::Array(args.from(1).iter().map(value).collect()))
}

fn strlen(context: &mut ReadContext, args: Args) -> Outcome {
    let string = context.keys.string(args.bytes(1))?;
    Ok(Reply::count(string.map_or(0, |string| string.as_bytes().len())))
}

fn getrange(context: &mut ReadContext, args: Args) -> Outcome {
    let (first, last) = (args.int(2)?, args.int(3)?);
    let string = context.keys.string(args.bytes(1))?.map_or(&[][..], StringValue::as_bytes);
    Ok(Reply::bulk(range(string, first, last)))
}

/// Bytes `first` to `last`, negative ones counted from the end. As in Redis, what lies before the start is moved to
/// the first byte, even for `last`, unless both are negative and in the wrong order.
fn range(string: &[u8], first: i64, last: i64) -> &[u8] {
    let len = string.len() as i64;
    if len == 0 || (first < 0 && last < 0 && first > last) {
        return &[];
    }
    let from_start = |i: i64| if i < 0 { i.saturating_add(len).max(0) } else { i };
    let (first, last) = (from_start(first), from_start(last).min(len - 1));
    if first > last { &[] } else { &string[first as usize..=last as usize] }
}

fn set(context: &mut WriteContext, args: Args) -> Outcome {
    let options = Options::parse(args, 3, Accepts::Set)?;
    let key = args.bytes(1);
    let deadline = options.deadline_ms(context.keys.now_ms(), "set")?;
    let earlier = if options.get { Some(value_of(context.keys, key)?) } else { None };
    let blocked = match options.only_if {
        OnlyIf::Any => false,
        OnlyIf::Absent => context.keys.contains(key),
        OnlyIf::Present => !context.keys.contains(key),
    };
    if !blocked {
        let kept = || context.keys.get(key).map_or(NEVER, |object| object.expire_ms);
        let expire_ms = if options.expiry == Expiry::Keep { kept() } else { deadline.unwrap_or(NEVER) };
        store_word(context.keys, key, args.bytes(2), expire_ms);
        context.keys.notify(EventClass::STRING, "set", key);
        if deadline.is_some() {
            context.keys.notify(EventClass::GENERIC, "expire", key);
        }
    }
    Ok(earlier.unwrap_or(if blocked { Reply::Null } else { Reply::OK }))
}

fn setex(context: &mut WriteContext, args: Args) -> Outcome {
    set_for(context, args, Unit::Seconds, "setex")
}

fn psetex(context: &mut WriteContext, args: Args) -> Outcome {
    set_for(context, args, Unit::Milliseconds, "psetex")
}

fn set_for(context: &mut WriteContext, args: Args, unit: Unit, command: &'static str) -> Outcome {
    let expire_ms = unit.deadline_ms(args.int(2)?, context.keys.now_ms(), command)?;
    store(context.keys, args.bytes(1), args.bytes(3), expire_ms);
    context.keys.notify(EventClass::STRING, "set", args.bytes(1));
    context.keys.notify(EventClass::GENERIC, "expire", args.bytes(1));
    Ok(Reply::OK)
}

fn setnx(context: &mut WriteContext, args: Args) -> Outcome {
    let absent = !context.keys.contains(args.bytes(1));
    if absent {
        store(context.keys, args.bytes(1), args.bytes(2), NEVER);
        context.keys.notify(EventClass::STRING, "set", args.bytes(1));
    }
    Ok(Reply::flag(absent))
}

fn getset(context: &mut WriteContext, args: Args) -> Outcome {
    let earlier = value_of(context.keys, args.bytes(1))?;
    store(context.keys, args.bytes(1), args.bytes(2), NEVER);
    context.keys.notify(EventClass::STRING, "set", args.bytes(1));
    Ok(earlier)
}

fn getdel(context: &mut WriteContext, args: Args) -> Outcome {
    let value = value_of(context.keys, args.bytes(1))?;
    if context.keys.discard(args.bytes(1)) {
        context.keys.notify(EventClass::GENERIC, "del", args.bytes(1));
    }
    Ok(value)
}

fn getex(context: &mut WriteContext, args: Args) -> Outcome {
    let options = Options::parse(args, 2, Accepts::Getex)?;
    let key = args.bytes(1);
    let value = value_of(context.keys, key)?;
    let Some(expire_ms) = context.keys.get(key).map(|object| object.expire_ms) else {
        // Not even an expiry that is not a number is an error then.
        return Ok(value);
    };
    let now_ms = context.keys.now_ms();
    let persist = (options.expiry == Expiry::Persist && expire_ms != NEVER).then_some(NEVER);
    if let Some(at) = options.deadline_ms(now_ms, "getex")?.or(persist) {
        set_deadline(context.keys, key, at);
        let event = match at {
            NEVER => "persist",
            at if at <= now_ms => "del",
            _ => "expire",
        };
        context.keys.notify(EventClass::GENERIC, event, key);
    }
    Ok(value)
}

fn append(context: &mut WriteContext, args: Args) -> Outcome {
    let (key, tail) = (args.bytes(1), args.bytes(2));
    let Some(len) = context.keys.string(key)?.map(|string| string.as_bytes().len()) else {
        store(context.keys, key, tail, NEVER);
        context.keys.notify(EventClass::STRING, "append", key);
        return Ok(Reply::count(tail.len()));
    };
    check_length(len, tail.len())?;
    edit(context.keys, key, |bytes| bytes.extend_from_slice(tail));
    context.keys.notify(EventClass::STRING, "append", key);
    Ok(Reply::count(len + tail.len()))
}

fn setrange(context: &mut WriteContext, args: Args) -> Outcome {
    let (key, patch) = (args.bytes(1), args.bytes(3));
    let offset = args.int(2)?;
    let offset = usize::try_from(offset).map_err(|_| CommandError::Text("ERR offset is out of range"))?;
    let len = context.keys.string(key)?.map(|string| string.as_bytes().len());
    if patch.is_empty() {
        return Ok(Reply::count(len.unwrap_or(0)));
    }
    check_length(offset, patch.len())?;
    if len.is_none() {
        store(context.keys, key, &[], NEVER);
    }
    let end = offset + patch.len();
    edit(context.keys, key, |bytes| {
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset..end].copy_from_slice(patch);
    });
    context.keys.notify(EventClass::STRING, "setrange", key);
    Ok(Reply::count(len.unwrap_or(0).max(end)))
}

fn mset(context: &mut WriteContext, args: Args) -> Outcome {
    store_pairs(context.keys, pairs(args, "mset")?);
    Ok(Reply::OK)
}

fn msetnx(context: &mut WriteContext, args: Args) -> Outcome {
    let pairs = pairs(args, "msetnx")?;
    let all_absent = pairs.iter().all(|pair| !context.keys.contains(&pair[0]));
    if all_absent {
        store_pairs(context.keys, pairs);
    }
    Ok(Reply::flag(all_absent))
}

fn pairs<'a>(args: Args<'a>, command: &str) -> Result<&'a [[Bytes; 2]], CommandError> {
    match args.from(1).as_chunks() {
        (pairs, []) => Ok(pairs),
        _ => Err(CommandError::WrongArity(command.to_string())),
    }
}

fn store_pairs(keys: &mut Keyspace, pairs: &[[Bytes; 2]]) {
    for [key, value] in pairs {
        store(keys, key, value, NEVER);
        keys.notify(EventClass::STRING, "set", key);
    }
}

/// The string at `key` as a reply.
fn value_of(keys: &Keyspace, key: &[u8]) -> Outcome {
    Ok(keys.string(key)?.map_or(Reply::Null, |string| Reply::Bulk(string.to_bytes())))
}

/// [`store`] for a word of the call: a long one is not copied.
fn store_word(keys: &mut Keyspace, key: &[u8], word: &Bytes, expire_ms: u64) {
    match StringValue::left(word) {
        Some(value) => keys.set(key, Value::String(value), expire_ms),
        None => store(keys, key, word, expire_ms),
    }
}

/// Sets `key` to a string; to one that has already expired, which removes it, if `expire_ms` has passed.
pub(super) fn store(keys: &mut Keyspace, key: &[u8], value: &[u8], expire_ms: u64) {
    if expire_ms < keys.now_ms() {
        keys.discard(key);
    } else {
        keys.set_string(key, value, expire_ms);
    }
}

/// Changes in place the string that the caller has found at `key`.
pub(super) fn edit(keys: &mut Keyspace, key: &[u8], change: impl FnOnce(&mut Vec<u8>)) {
    keys.update(key, |object| match &mut object.value {
        Value::String(string) => change(string.make_mut()),
        other => unreachable!("the caller found a string, not a {}", other.type_name()),
    });
}

/// Refuses a string of `len + more` bytes before memory is taken for it.
fn check_length(len: usize, more: usize) -> Result<(), CommandError> {
    match len.checked_add(more) {
        Some(sum) if sum <= MAX_STRING_BYTES => Ok(()),
        _ => Err(CommandError::StringTooLong),
    }
}

/// What an expiry is counted in, and from when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Seconds,
    Milliseconds,
    UnixSeconds,
    UnixMilliseconds,
}

impl Unit {
    /// The deadline in milliseconds since the Unix epoch. It may have passed.
    fn deadline_ms(self, amount: i64, now_ms: u64, command: &'static str) -> Result<u64, CommandError> {
        let amount_ms = match self {
            Unit::Seconds | Unit::UnixSeconds => amount.checked_mul(1000),
            Unit::Milliseconds | Unit::UnixMilliseconds => Some(amount),
        };
        let since_ms = match self {
            Unit::Seconds | Unit::Milliseconds => now_ms as i64,
            Unit::UnixSeconds | Unit::UnixMilliseconds => 0,
        };
        amount_ms
            .filter(|&ms| ms > 0)
            .and_then(|ms| ms.checked_add(since_ms))
            .map(|ms| ms as u64)
            .ok_or(CommandError::InvalidExpire(command))
    }
}

/// When SET writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnlyIf {
    Any,
    Absent,
    Present,
}

/// What becomes of the key's expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    /// Nothing was said: SET clears it, GETEX leaves it.
    Unsaid,
    Keep,
    Persist,
    /// Its amount is in the options' `amount`.
    In(Unit),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepts {
    Set,
    Getex,
}

/// The options of SET and GETEX.
struct Options<'a> {
    only_if: OnlyIf,
    get: bool,
    expiry: Expiry,
    args: Args<'a>,
    /// The word that says when, for [`Expiry::In`].
    amount: usize,
}

impl<'a> Options<'a> {
    /// The words from `first` on. An option may be repeated; two that contradict each other are a syntax error.
    fn parse(args: Args<'a>, first: usize, accepts: Accepts) -> Result<Options<'a>, CommandError> {
        let mut options =
            Options { only_if: OnlyIf::Any, get: false, expiry: Expiry::Unsaid, args, amount: 0 };
        let of_set = accepts == Accepts::Set;
        let mut i = first;
        while i < args.len() {
            let unit = [
                ("EX", Unit::Seconds),
                ("PX", Unit::Milliseconds),
                ("EXAT", Unit::UnixSeconds),
                ("PXAT", Unit::UnixMilliseconds),
            ]
            .into_iter()
            .find(|(name, _)| args.is(i, name));
            match unit {
                Some((_, unit)) if i + 1 < args.len() => {
                    options.expire(Expiry::In(unit))?;
                    i += 1;
                    options.amount = i;
                }
                None if of_set && args.is(i, "NX") => options.restrict(OnlyIf::Absent)?,
                None if of_set && args.is(i, "XX") => options.restrict(OnlyIf::Present)?,
                None if of_set && args.is(i, "GET") => options.get = true,
                None if of_set && args.is(i, "KEEPTTL") => options.expire(Expiry::Keep)?,
                None if !of_set && args.is(i, "PERSIST") => options.expire(Expiry::Persist)?,
                _ => return Err(CommandError::Syntax),
            }
            i += 1;
        }
        Ok(options)
    }

    fn restrict(&mut self, only_if: OnlyIf) -> Result<(), CommandError> {
        let earlier = std::mem::replace(&mut self.only_if, only_if);
        if earlier == OnlyIf::Any || earlier == only_if { Ok(()) } else { Err(CommandError::Syntax) }
    }

    fn expire(&mut self, expiry: Expiry) -> Result<(), CommandError> {
        let earlier = std::mem::replace(&mut self.expiry, expiry);
        if earlier == Expiry::Unsaid || earlier == expiry { Ok(()) } else { Err(CommandError::Syntax) }
    }

    /// The deadline that the options name, in milliseconds since the Unix epoch.
    fn deadline_ms(&self, now_ms: u64, command: &'static str) -> Result<Option<u64>, CommandError> {
        match self.expiry {
            Expiry::In(unit) => unit.deadline_ms(self.args.int(self.amount)?, now_ms, command).map(Some),
            _ => Ok(None),
        }
    }
}
