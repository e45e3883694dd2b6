//! Strings as arrays of bits and of small integers. Bit 0 is the most significant one of the first byte.
//!
//! A string is one allocation: the first change of a long one that a snapshot shares copies it whole, once for each
//! snapshot.

use bytes::Bytes;

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, Outcome, ReadContext, WriteContext};
use crate::commands::bitfield::{self, Op, Within};
use crate::commands::string::{edit, store};
use crate::error::CommandError;
use crate::events::EventClass;
use crate::keyspace::Keyspace;
use crate::reply::Reply;
use crate::slot::NEVER;
use crate::value::string::MAX_STRING_BYTES;
use crate::value::{StringValue, bits, number};

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::read("bitcount", -2, Keys::ONE, bitcount).doc(
        Chapter::Bitmap,
        "2.6.0",
        "O(N)",
        "Counts the number of set bits (population counting) in a string.",
    ),
    Command::write("bitfield", -2, Keys::ONE, bitfield).with(Flags::DENYOOM).doc(
        Chapter::Bitmap,
        "3.2.0",
        "O(1) for each subcommand specified",
        "Performs arbitrary bitfield integer operations on strings.",
    ),
    Command::read("bitfield_ro", -2, Keys::ONE, bitfield_ro).with(Flags::FAST).doc(
        Chapter::Bitmap,
        "6.0.0",
        "O(1) for each subcommand specified",
        "Performs arbitrary read-only bitfield integer operations on strings.",
    ),
    Command::write("bitop", -4, Keys::range(2, -1, 1), bitop).with(Flags::DENYOOM).doc(
        Chapter::Bitmap,
        "2.6.0",
        "O(N)",
        "Performs bitwise operations on multiple strings, and stores the result.",
    ),
    Command::read("bitpos", -3, Keys::ONE, bitpos).doc(
        Chapter::Bitmap,
        "2.8.7",
        "O(N)",
        "Finds the first set (1) or clear (0) bit in a string.",
    ),
    Command::read("getbit", 3, Keys::ONE, getbit).with(Flags::FAST).doc(
        Chapter::Bitmap,
        "2.2.0",
        "O(1)",
        "Returns a bit value by offset.",
    ),
    Command::write("setbit", 4, Keys::ONE, setbit).with(Flags::DENYOOM).doc(
        Chapter::Bitmap,
        "2.2.0",
        "O(1)",
        "Sets or clears the bit at offset of the string value. Creates the key if it doesn't exist.",
    ),
];

const BAD_OFFSET: CommandError = CommandError::Text("ERR bit offset is not an integer or out of range");

/// A bit's offset, within the longest string that there can be.
pub(super) fn bit_offset(text: &[u8]) -> Result<u64, CommandError> {
    number::parse_int(text).and_then(in_a_string).ok_or(BAD_OFFSET)
}

/// As [`bit_offset`], or `#N`: the `N`th integer of `width` bits.
pub(super) fn bit_offset_of_nth(text: &[u8], width: u32) -> Result<u64, CommandError> {
    let Some(nth) = text.strip_prefix(b"#") else { return bit_offset(text) };
    let offset = number::parse_int(nth).and_then(|nth| nth.checked_mul(i64::from(width)));
    offset.and_then(in_a_string).ok_or(BAD_OFFSET)
}

fn in_a_string(offset: i64) -> Option<u64> {
    u64::try_from(offset).ok().filter(|offset| offset / 8 < MAX_STRING_BYTES as u64)
}

fn bytes_of<'a>(keys: &'a Keyspace, key: &[u8]) -> Result<Option<&'a [u8]>, CommandError> {
    Ok(keys.string(key)?.map(StringValue::as_bytes))
}

fn getbit(context: &mut ReadContext, args: Args) -> Outcome {
    let offset = bit_offset(args.bytes(2))?;
    let string = bytes_of(context.keys, args.bytes(1))?.unwrap_or_default();
    Ok(Reply::Int(bits::get(string, offset, 1) as i64))
}

fn setbit(context: &mut WriteContext, args: Args) -> Outcome {
    let (key, offset) = (args.bytes(1), bit_offset(args.bytes(2))?);
    let bit = match number::parse_int(args.bytes(3)) {
        Some(bit @ (0 | 1)) => bit as u64,
        _ => return Err(CommandError::Text("ERR bit is not an integer or out of range")),
    };
    let earlier = bits::get(bytes_of(context.keys, key)?.unwrap_or_default(), offset, 1);
    let grew = grow(context.keys, key, offset + 1)?;
    if earlier != bit {
        edit(context.keys, key, |string| bits::set(string, offset, 1, bit));
    }
    if grew || earlier != bit {
        context.keys.notify(EventClass::STRING, "setbit", key);
    }
    Ok(Reply::Int(earlier as i64))
}

/// Makes the string at `key`, or a new one, `end` bits long at least. Whether it was shorter.
fn grow(keys: &mut Keyspace, key: &[u8], end: u64) -> Result<bool, CommandError> {
    let len = end.div_ceil(8) as usize;
    let there = bytes_of(keys, key)?.map(<[u8]>::len);
    if there.is_some_and(|there| there >= len) {
        return Ok(false);
    }
    match there {
        None => store(keys, key, &vec![0; len], NEVER),
        Some(_) => edit(keys, key, |string| string.resize(len, 0)),
    }
    Ok(true)
}

fn bitcount(context: &mut ReadContext, args: Args) -> Outcome {
    let Some(string) = bytes_of(context.keys, args.bytes(1))? else { return Ok(Reply::Int(0)) };
    let range = match args.len() {
        2 => bits::BitRange::whole(string),
        4 | 5 => {
            let (first, last) = (args.int(2)?, args.int(3)?);
            if first < 0 && last < 0 && first > last {
                return Ok(Reply::Int(0));
            }
            range(string, first, last, in_bits(args, 4)?)
        }
        _ => return Err(CommandError::Syntax),
    };
    Ok(Reply::Int(range.map_or(0, |range| bits::count(string, range)) as i64))
}

fn bitpos(context: &mut ReadContext, args: Args) -> Outcome {
    let bit = match args.int(2)? {
        0 => false,
        1 => true,
        _ => return Err(CommandError::Text("ERR The bit argument must be 1 or 0.")),
    };
    let Some(string) = bytes_of(context.keys, args.bytes(1))? else {
        return Ok(Reply::Int(if bit { -1 } else { 0 }));
    };
    let range = match args.len() {
        3 => bits::BitRange::whole(string),
        4 => range(string, args.int(3)?, -1, false),
        5 | 6 => {
            let first = args.int(3)?;
            let in_bits = in_bits(args, 5)?;
            range(string, first, args.int(4)?, in_bits)
        }
        _ => return Err(CommandError::Syntax),
    };
    let found = range.and_then(|range| bits::find(string, range, bit));
    Ok(Reply::Int(match found {
        Some(offset) => offset as i64,
        // Without an end, the string goes on with clear bits.
        None if !bit && range.is_some() && args.len() < 5 => string.len() as i64 * 8,
        None => -1,
    }))
}

/// Whether word `i` says that a range counts bits. It may be absent.
fn in_bits(args: Args, i: usize) -> Result<bool, CommandError> {
    match args.len() <= i || args.is(i, "byte") {
        true => Ok(false),
        false if args.is(i, "bit") => Ok(true),
        false => Err(CommandError::Syntax),
    }
}

/// Bytes or bits `first` to `last`, negative ones counted from the end; `None` if there are none.
fn range(string: &[u8], first: i64, last: i64, in_bits: bool) -> Option<bits::BitRange> {
    let unit = if in_bits { 1 } else { 8 };
    let len = string.len() as i64 * 8 / unit;
    let from_start = |i: i64| if i < 0 { i.saturating_add(len).max(0) } else { i };
    let (first, last) = (from_start(first), from_start(last).min(len - 1));
    (first <= last)
        .then(|| bits::BitRange { first: (first * unit) as u64, last: (last * unit + unit - 1) as u64 })
}

fn bitop(context: &mut WriteContext, args: Args) -> Outcome {
    let (to, from) = (args.bytes(2), args.from(3));
    let combine: fn(u8, u8) -> u8 = match () {
        () if args.is(1, "and") => |a, b| a & b,
        () if args.is(1, "or") => |a, b| a | b,
        () if args.is(1, "xor") || args.is(1, "not") => |a, b| a ^ b,
        () => return Err(CommandError::Syntax),
    };
    let not = args.is(1, "not");
    if not && from.len() != 1 {
        return Err(CommandError::Text("ERR BITOP NOT must be called with a single source key."));
    }
    let result = combined(context.keys, from, not, combine)?;
    let len = result.len();
    if len > 0 {
        store(context.keys, to, &result, NEVER);
        context.keys.notify(EventClass::STRING, "set", to);
    } else if context.keys.discard(to) {
        context.keys.notify(EventClass::GENERIC, "del", to);
    }
    Ok(Reply::count(len))
}

/// The strings at `from`, as if all were as long as the longest; `not`: the first one's opposite.
fn combined(
    keys: &Keyspace,
    from: &[Bytes],
    not: bool,
    combine: fn(u8, u8) -> u8,
) -> Result<Vec<u8>, CommandError> {
    let read = |key: &Bytes| Ok(bytes_of(keys, key)?.unwrap_or_default());
    let strings = from.iter().map(read).collect::<Result<Vec<&[u8]>, CommandError>>()?;
    let longest = strings.iter().map(|string| string.len()).max().unwrap_or(0);
    let mut result = strings[0].to_vec();
    result.resize(longest, 0);
    if not {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
    for string in &strings[1..] {
        let (common, rest) = result.split_at_mut(string.len());
        common.iter_mut().zip(*string).for_each(|(to, byte)| *to = combine(*to, *byte));
        rest.iter_mut().for_each(|to| *to = combine(*to, 0));
    }
    Ok(result)
}

fn bitfield_ro(context: &mut ReadContext, args: Args) -> Outcome {
    let ops = bitfield::parse(args)?;
    let string = bytes_of(context.keys, args.bytes(1))?.unwrap_or_default();
    let get = |op: &Op| match op {
        Op::Get(field) => Ok(Reply::Int(field.read(string))),
        Op::Change(_) => Err(CommandError::Text("ERR BITFIELD_RO only supports the GET subcommand")),
    };
    Ok(Reply::Array(ops.iter().map(get).collect::<Result<_, _>>()?))
}

fn bitfield(context: &mut WriteContext, args: Args) -> Outcome {
    let (key, ops) = (args.bytes(1), bitfield::parse(args)?);
    let end = ops.iter().map(Op::writes_until).max().unwrap_or(0);
    if end > MAX_STRING_BYTES as u64 * 8 {
        return Err(BAD_OFFSET);
    }
    let is_new = bytes_of(context.keys, key)?.is_none() && end > 0;
    // A new string comes to be by one change, whatever is done to it.
    let mut fresh = is_new.then(|| vec![0; end.div_ceil(8) as usize]);
    // As in Redis, the string grows for operations that fail, too.
    let grew = is_new || end > 0 && grow(context.keys, key, end)?;
    let mut notify = false;
    let mut answers = Vec::with_capacity(ops.len());
    for op in &ops {
        let string = match &fresh {
            Some(fresh) => fresh,
            None => bytes_of(context.keys, key)?.unwrap_or_default(),
        };
        answers.push(match op {
            Op::Get(field) => Reply::Int(field.read(string)),
            Op::Change(change) => match change.apply(string) {
                Within { stored: None, .. } => Reply::Null,
                Within { stored: Some(stored), before, answer } => {
                    let (offset, width) = (change.field.offset, change.field.width);
                    match &mut fresh {
                        _ if stored == before => {}
                        Some(fresh) => bits::set(fresh, offset, width, stored),
                        None => edit(context.keys, key, |string| bits::set(string, offset, width, stored)),
                    }
                    notify |= grew || stored != before;
                    Reply::Int(answer)
                }
            },
        });
    }
    if let Some(fresh) = fresh {
        store(context.keys, key, &fresh, NEVER);
    }
    if notify {
        context.keys.notify(EventClass::STRING, "setbit", key);
    }
    Ok(Reply::Array(answers))
}
