//! Hashes. `hash_expire` has the commands that concern their fields' expiry.

use bytes::Bytes;

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, Outcome, ReadContext, WriteContext};
use crate::commands::scan::{ScanOf, ScanOptions, parse_cursor};
use crate::error::CommandError;
use crate::events::EventClass;
use crate::keyspace::Edit;
use crate::reply::Reply;
use crate::rng::Rng;
use crate::slot::NEVER;
use crate::value::hash::Field;
use crate::value::{HashValue, LongDouble, number};

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::write("hdel", -3, Keys::ONE, hdel).with(Flags::FAST).doc(
        Chapter::Hash,
        "2.0.0",
        "O(N) where N is the number of fields to be removed.",
        "Deletes one or more fields and their values from a hash. Deletes the hash if no fields remain.",
    ),
    Command::read("hexists", 3, Keys::ONE, hexists).with(Flags::FAST).doc(
        Chapter::Hash,
        "2.0.0",
        "O(1)",
        "Determines whether a field exists in a hash.",
    ),
    Command::read("hget", 3, Keys::ONE, hget).with(Flags::FAST).doc(
        Chapter::Hash,
        "2.0.0",
        "O(1)",
        "Returns the value of a field in a hash.",
    ),
    Command::read("hgetall", 2, Keys::ONE, hgetall).doc(
        Chapter::Hash,
        "2.0.0",
        "O(N) where N is the size of the hash.",
        "Returns all fields and values in a hash.",
    ),
    Command::write("hincrby", 4, Keys::ONE, hincrby).with(Flags::DENYOOM.union(Flags::FAST)).doc(
        Chapter::Hash,
        "2.0.0",
        "O(1)",
        "Increments the integer value of a field in a hash by a number. Uses 0 as initial value if the field doesn't exist.",
    ),
    Command::write("hincrbyfloat", 4, Keys::ONE, hincrbyfloat).with(Flags::DENYOOM.union(Flags::FAST)).doc(
        Chapter::Hash,
        "2.6.0",
        "O(1)",
        "Increments the floating point value of a field by a number. Uses 0 as initial value if the field doesn't exist.",
    ),
    Command::read("hkeys", 2, Keys::ONE, hkeys).doc(
        Chapter::Hash,
        "2.0.0",
        "O(N) where N is the size of the hash.",
        "Returns all fields in a hash.",
    ),
    Command::read("hlen", 2, Keys::ONE, hlen).with(Flags::FAST).doc(
        Chapter::Hash,
        "2.0.0",
        "O(1)",
        "Returns the number of fields in a hash.",
    ),
    Command::read("hmget", -3, Keys::ONE, hmget).with(Flags::FAST).doc(
        Chapter::Hash,
        "2.0.0",
        "O(N) where N is the number of fields being requested.",
        "Returns the values of all fields in a hash.",
    ),
    Command::write("hmset", -4, Keys::ONE, hmset).with(Flags::DENYOOM.union(Flags::FAST)).doc(
        Chapter::Hash,
        "2.0.0",
        "O(N) where N is the number of fields being set.",
        "Sets the values of multiple fields.",
    ),
    Command::read("hrandfield", -2, Keys::ONE, hrandfield).doc(
        Chapter::Hash,
        "6.2.0",
        "O(N) where N is the number of fields returned",
        "Returns one or more random fields from a hash.",
    ),
    Command::read("hscan", -3, Keys::ONE, hscan).doc(
        Chapter::Hash,
        "2.8.0",
        "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
        "Iterates over fields and values of a hash.",
    ),
    Command::write("hset", -4, Keys::ONE, hset).with(Flags::DENYOOM.union(Flags::FAST)).doc(
        Chapter::Hash,
        "2.0.0",
        "O(1) for each field/value pair added, so O(N) to add N field/value pairs when the command is called with multiple field/value pairs.",
        "Creates or modifies the value of a field in a hash.",
    ),
    Command::write("hsetnx", 4, Keys::ONE, hsetnx).with(Flags::DENYOOM.union(Flags::FAST)).doc(
        Chapter::Hash,
        "2.0.0",
        "O(1)",
        "Sets the value of a field in a hash only when the field doesn't exist.",
    ),
    Command::read("hstrlen", 3, Keys::ONE, hstrlen).with(Flags::FAST).doc(
        Chapter::Hash,
        "3.2.0",
        "O(1)",
        "Returns the length of the value of a field.",
    ),
    Command::read("hvals", 2, Keys::ONE, hvals).doc(
        Chapter::Hash,
        "2.0.0",
        "O(N) where N is the size of the hash.",
        "Returns all values in a hash.",
    ),
];

/// HRANDFIELD answers at most so many fields when they may repeat: more than any hash needs, and no reply outgrows
/// the node.
const MAX_RANDOM_FIELDS: u64 = 1 << 22;

fn hset(context: &mut WriteContext, args: Args) -> Outcome {
    set_pairs(context, args, "hset").map(Reply::count)
}

fn hmset(context: &mut WriteContext, args: Args) -> Outcome {
    set_pairs(context, args, "hmset").map(|_| Reply::OK)
}

/// How many fields are new.
fn set_pairs(context: &mut WriteContext, args: Args, name: &str) -> Result<usize, CommandError> {
    let (pairs, odd) = args.from(2).as_chunks::<2>();
    if !odd.is_empty() {
        return Err(CommandError::WrongArity(name.to_string()));
    }
    let (now_ms, bounds) = (context.keys.now_ms(), *context.keys.bounds());
    let new = context.keys.edit(args.bytes(1), |hash: &mut HashValue| {
        Edit::changed(pairs.iter().filter(|[name, value]| hash.set(name, value, now_ms, &bounds)).count())
    })?;
    context.keys.notify(EventClass::HASH, "hset", args.bytes(1));
    Ok(new)
}

fn hsetnx(context: &mut WriteContext, args: Args) -> Outcome {
    let (now_ms, bounds) = (context.keys.now_ms(), *context.keys.bounds());
    let absent = context.keys.edit(args.bytes(1), |hash: &mut HashValue| {
        let absent = hash.get(args.bytes(2), now_ms).is_none();
        if absent {
            hash.set(args.bytes(2), args.bytes(3), now_ms, &bounds);
        }
        Edit::new(absent, absent)
    })?;
    if absent {
        context.keys.notify(EventClass::HASH, "hset", args.bytes(1));
    }
    Ok(Reply::flag(absent))
}

fn hdel(context: &mut WriteContext, args: Args) -> Outcome {
    let now_ms = context.keys.now_ms();
    let removed = context.keys.edit_existing(args.bytes(1), |hash: &mut HashValue| {
        let removed = args.from(2).iter().filter(|name| hash.remove(name, now_ms)).count();
        Edit::new(removed, removed > 0)
    })?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        notify_removed(context, args.bytes(1), "hdel");
    }
    Ok(Reply::count(removed))
}

/// Tells that fields of `key` are gone, and the key itself if they were the last.
pub(super) fn notify_removed(context: &mut WriteContext, key: &[u8], event: &'static str) {
    context.keys.notify(EventClass::HASH, event, key);
    if !context.keys.contains(key) {
        context.keys.notify(EventClass::GENERIC, "del", key);
    }
}

fn hincrby(context: &mut WriteContext, args: Args) -> Outcome {
    let increment = args.int(3)?;
    increment_field(context, args, "hincrby", |held| {
        let before = held.map_or(Some(0), number::parse_int).ok_or(CommandError::HashNotInteger)?;
        let after = before.checked_add(increment).ok_or(CommandError::Overflow)?;
        Ok((after.to_string(), Reply::Int(after)))
    })
}

fn hincrbyfloat(context: &mut WriteContext, args: Args) -> Outcome {
    let increment = LongDouble::parse(args.bytes(3)).ok_or(CommandError::NotFloat)?;
    if increment == LongDouble::Infinite {
        return Err(CommandError::NotFinite);
    }
    increment_field(context, args, "hincrbyfloat", |held| {
        let before = LongDouble::parse(held.unwrap_or(b"0")).ok_or(CommandError::HashNotFloat)?;
        let after = before.checked_add(&increment).ok_or(CommandError::NanOrInfinity)?.to_string();
        Ok((after.clone(), Reply::bulk(after)))
    })
}

/// Puts in word 2's field what `step` makes of its value; the field keeps its deadline.
fn increment_field(
    context: &mut WriteContext,
    args: Args,
    event: &'static str,
    step: impl FnOnce(Option<&[u8]>) -> Result<(String, Reply), CommandError>,
) -> Outcome {
    let (now_ms, bounds) = (context.keys.now_ms(), *context.keys.bounds());
    let reply = context.keys.edit(args.bytes(1), |hash: &mut HashValue| {
        let field = hash.get(args.bytes(2), now_ms);
        let expire_ms = field.map_or(NEVER, |field| field.expire_ms);
        match step(field.map(|field| field.value)) {
            Ok((text, reply)) => {
                hash.put(args.bytes(2), text.as_bytes(), expire_ms, now_ms, &bounds);
                Edit::changed(Ok(reply))
            }
            Err(error) => Edit::unchanged(Err(error)),
        }
    })??;
    context.keys.notify(EventClass::HASH, event, args.bytes(1));
    Ok(reply)
}

fn hget(context: &mut ReadContext, args: Args) -> Outcome {
    Ok(field(context, args)?.map_or(Reply::Null, |field| Reply::bulk(field.value)))
}

fn hexists(context: &mut ReadContext, args: Args) -> Outcome {
    Ok(Reply::flag(field(context, args)?.is_some()))
}

fn hstrlen(context: &mut ReadContext, args: Args) -> Outcome {
    Ok(Reply::count(field(context, args)?.map_or(0, |field| field.value.len())))
}

/// Word 2's field of the hash at word 1.
fn field<'a>(context: &ReadContext<'a>, args: Args) -> Result<Option<Field<'a>>, CommandError> {
    let now_ms = context.keys.now_ms();
    Ok(context.keys.hash(args.bytes(1))?.and_then(|hash| hash.get(args.bytes(2), now_ms)))
}

fn hmget(context: &mut ReadContext, args: Args) -> Outcome {
    let hash = context.keys.hash(args.bytes(1))?;
    Ok(values(hash, args.from(2), context.keys.now_ms()))
}

/// The values of fields, null for those that are not there.
pub(super) fn values(hash: Option<&HashValue>, names: &[Bytes], now_ms: u64) -> Reply {
    let value =
        |name: &Bytes| hash.and_then(|hash| hash.get(name, now_ms)).map(|field| Reply::bulk(field.value));
    Reply::Array(names.iter().map(|name| value(name).unwrap_or(Reply::Null)).collect())
}

fn hlen(context: &mut ReadContext, args: Args) -> Outcome {
    let now_ms = context.keys.now_ms();
    Ok(Reply::count(context.keys.hash(args.bytes(1))?.map_or(0, |hash| hash.len(now_ms))))
}

fn hgetall(context: &mut ReadContext, args: Args) -> Outcome {
    all(context, args, |field| (Reply::bulk(field.name), Reply::bulk(field.value))).map(Reply::Map)
}

fn hkeys(context: &mut ReadContext, args: Args) -> Outcome {
    all(context, args, |field| Reply::bulk(field.name)).map(Reply::Array)
}

fn hvals(context: &mut ReadContext, args: Args) -> Outcome {
    all(context, args, |field| Reply::bulk(field.value)).map(Reply::Array)
}

fn all<T>(context: &ReadContext, args: Args, show: impl Fn(Field) -> T) -> Result<Vec<T>, CommandError> {
    let hash = context.keys.hash(args.bytes(1))?;
    Ok(hash.into_iter().flat_map(|hash| hash.iter(context.keys.now_ms())).map(show).collect())
}

fn hrandfield(context: &mut ReadContext, args: Args) -> Outcome {
    let now_ms = context.keys.now_ms();
    if args.len() == 2 {
        let Some(hash) = context.keys.hash(args.bytes(1))? else { return Ok(Reply::Null) };
        return Ok(Draw::new(hash, now_ms)
            .one(&mut context.rng)
            .map_or(Reply::Null, |f| Reply::bulk(f.name)));
    }
    let count = args.int(2)?;
    if count < -i64::MAX {
        return Err(CommandError::Text(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    let with_values = args.is(3, "withvalues");
    if args.len() > 4 || args.len() == 4 && !with_values {
        return Err(CommandError::Syntax);
    }
    if with_values && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(CommandError::OutOfRange);
    }
    let Some(hash) = context.keys.hash(args.bytes(1))? else { return Ok(Reply::Array(Vec::new())) };
    let draw = Draw::new(hash, now_ms);
    let drawn = if count < 0 {
        draw.repeated(count.unsigned_abs(), &mut context.rng)?
    } else {
        draw.distinct(count as u64, &mut context.rng)
    };
    Ok(if with_values {
        Reply::Pairs(drawn.iter().map(|f| (Reply::bulk(f.name), Reply::bulk(f.value))).collect())
    } else {
        Reply::Array(drawn.iter().map(|f| Reply::bulk(f.name)).collect())
    })
}

/// Draws from a hash's fields: by position while none is due, else from a list of those that are left.
struct Draw<'a> {
    hash: &'a HashValue,
    now_ms: u64,
    listed: Option<Vec<Field<'a>>>,
}

impl<'a> Draw<'a> {
    fn new(hash: &'a HashValue, now_ms: u64) -> Draw<'a> {
        let by_position = !hash.is_small() && hash.next_deadline_ms() >= now_ms;
        let listed = (!by_position).then(|| hash.iter(now_ms).collect());
        Draw { hash, now_ms, listed }
    }

    fn len(&self) -> usize {
        self.listed.as_ref().map_or(self.hash.positions(), Vec::len)
    }

    fn at(&self, i: usize) -> Option<Field<'a>> {
        match &self.listed {
            Some(listed) => listed.get(i).copied(),
            None => self.hash.at(i, self.now_ms),
        }
    }

    fn one(&self, rng: &mut Rng) -> Option<Field<'a>> {
        if self.len() == 0 { None } else { self.at(rng.below(self.len())) }
    }

    fn repeated(&self, count: u64, rng: &mut Rng) -> Result<Vec<Field<'a>>, CommandError> {
        if count > MAX_RANDOM_FIELDS {
            return Err(CommandError::OutOfRange);
        }
        Ok((0..count).filter_map(|_| self.one(rng)).collect())
    }

    /// In order.
    fn distinct(&self, count: u64, rng: &mut Rng) -> Vec<Field<'a>> {
        rng.distinct(count, self.len()).into_iter().filter_map(|i| self.at(i)).collect()
    }
}

fn hscan(context: &mut ReadContext, args: Args) -> Outcome {
    let cursor = parse_cursor(args.bytes(2))?;
    let Some(hash) = context.keys.hash(args.bytes(1))? else { return Ok(hscan_reply(0, Vec::new())) };
    let options = ScanOptions::parse(args, 3, ScanOf::Fields)?;
    let count = usize::try_from(options.count).unwrap_or(usize::MAX);
    let (next, fields) = hash.scan(cursor, count, context.keys.now_ms());
    let mut words = Vec::new();
    for field in fields.into_iter().filter(|field| options.matches(field.name)) {
        words.push(Reply::bulk(field.name));
        if !options.no_values {
            words.push(Reply::bulk(field.value));
        }
    }
    Ok(hscan_reply(next, words))
}

fn hscan_reply(cursor: u64, words: Vec<Reply>) -> Reply {
    Reply::Array(vec![Reply::bulk(cursor.to_string()), Reply::Array(words)])
}
