//! Sets, one or two at a time. `set_algebra` has the commands that combine several.

use bytes::Bytes;

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, Outcome, ReadContext, WriteContext};
use crate::commands::scan::{ScanOf, ScanOptions, parse_cursor};
use crate::error::CommandError;
use crate::events::EventClass;
use crate::keyspace::{Edit, Keyspace};
use crate::reply::Reply;
use crate::rng::Rng;
use crate::value::SetValue;

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::write("sadd", -3, Keys::ONE, sadd).with(Flags::DENYOOM.union(Flags::FAST)).doc(
        Chapter::Set,
        "1.0.0",
        "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.",
        "Adds one or more members to a set. Creates the key if it doesn't exist.",
    ),
    Command::read("scard", 2, Keys::ONE, scard).with(Flags::FAST).doc(
        Chapter::Set,
        "1.0.0",
        "O(1)",
        "Returns the number of members in a set.",
    ),
    Command::read("sismember", 3, Keys::ONE, sismember).with(Flags::FAST).doc(
        Chapter::Set,
        "1.0.0",
        "O(1)",
        "Determines whether a member belongs to a set.",
    ),
    Command::read("smembers", 2, Keys::ONE, smembers).doc(
        Chapter::Set,
        "1.0.0",
        "O(N) where N is the set cardinality.",
        "Returns all members of a set.",
    ),
    Command::read("smismember", -3, Keys::ONE, smismember).with(Flags::FAST).doc(
        Chapter::Set,
        "6.2.0",
        "O(N) where N is the number of elements being checked for membership",
        "Determines whether multiple members belong to a set.",
    ),
    Command::write("smove", 4, Keys::TWO, smove).with(Flags::FAST).doc(
        Chapter::Set,
        "1.0.0",
        "O(1)",
        "Moves a member from one set to another.",
    ),
    Command::write("spop", -2, Keys::ONE, spop).with(Flags::FAST).doc(
        Chapter::Set,
        "1.0.0",
        "Without the count argument O(1), otherwise O(N) where N is the value of the passed count.",
        "Returns one or more random members from a set after removing them. Deletes the set if the last member was popped.",
    ),
    Command::read("srandmember", -2, Keys::ONE, srandmember).doc(
        Chapter::Set,
        "1.0.0",
        "Without the count argument O(1), otherwise O(N) where N is the absolute value of the passed count.",
        "Get one or multiple random members from a set",
    ),
    Command::write("srem", -3, Keys::ONE, srem).with(Flags::FAST).doc(
        Chapter::Set,
        "1.0.0",
        "O(N) where N is the number of members to be removed.",
        "Removes one or more members from a set. Deletes the set if the last member was removed.",
    ),
    Command::read("sscan", -3, Keys::ONE, sscan).doc(
        Chapter::Set,
        "2.8.0",
        "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
        "Iterates over members of a set.",
    ),
];

/// SRANDMEMBER answers at most so many members when they may repeat: no reply outgrows the node.
const MAX_RANDOM_MEMBERS: u64 = 1 << 22;

fn sadd(context: &mut WriteContext, args: Args) -> Outcome {
    let key = args.bytes(1);
    let bounds = *context.keys.bounds();
    let added = context.keys.edit(key, |set: &mut SetValue| {
        let added = args.from(2).iter().filter(|member| set.add(member, &bounds)).count();
        Edit::new(added, added > 0)
    })?;
    if added > 0 {
        context.keys.notify(EventClass::SET, "sadd", key);
    }
    Ok(Reply::count(added))
}

fn srem(context: &mut WriteContext, args: Args) -> Outcome {
    let key = args.bytes(1);
    let removed = context.keys.edit_existing(key, |set: &mut SetValue| {
        let removed = args.from(2).iter().filter(|member| set.remove(member)).count();
        Edit::new(removed, removed > 0)
    })?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        notify_removal(context.keys, "srem", key);
    }
    Ok(Reply::count(removed))
}

/// Notes `event`, after which the set at `key` may be gone.
fn notify_removal(keys: &mut Keyspace, event: &'static str, key: &[u8]) {
    keys.notify(EventClass::SET, event, key);
    if !keys.contains(key) {
        keys.notify(EventClass::GENERIC, "del", key);
    }
}

fn smove(context: &mut WriteContext, args: Args) -> Outcome {
    let (from, to, member) = (args.bytes(1), args.bytes(2), args.bytes(3));
    let Some(source) = set(context.keys, from)? else { return Ok(Reply::flag(false)) };
    let there = source.contains(member);
    let new = set(context.keys, to)?.is_none_or(|destination| !destination.contains(member));
    if from == to || !there {
        return Ok(Reply::flag(there));
    }
    context.keys.edit(from, |set: &mut SetValue| Edit::changed(set.remove(member)))?;
    notify_removal(context.keys, "srem", from);
    if new {
        let bounds = *context.keys.bounds();
        context.keys.edit(to, |set: &mut SetValue| Edit::changed(set.add(member, &bounds)))?;
        context.keys.notify(EventClass::SET, "sadd", to);
    }
    Ok(Reply::flag(true))
}

fn set<'a>(keys: &'a Keyspace, key: &[u8]) -> Result<Option<&'a SetValue>, CommandError> {
    keys.collection(key)
}

fn scard(context: &mut ReadContext, args: Args) -> Outcome {
    Ok(Reply::count(set(context.keys, args.bytes(1))?.map_or(0, SetValue::len)))
}

fn sismember(context: &mut ReadContext, args: Args) -> Outcome {
    let set = set(context.keys, args.bytes(1))?;
    Ok(Reply::flag(set.is_some_and(|set| set.contains(args.bytes(2)))))
}

fn smismember(context: &mut ReadContext, args: Args) -> Outcome {
    let set = set(context.keys, args.bytes(1))?;
    let answer = |member: &Bytes| Reply::flag(set.is_some_and(|set| set.contains(member)));
    Ok(Reply::Array(args.from(2).iter().map(answer).collect()))
}

fn smembers(context: &mut ReadContext, args: Args) -> Outcome {
    let set = set(context.keys, args.bytes(1))?;
    Ok(Reply::Set(set.into_iter().flat_map(SetValue::iter).map(Reply::bulk).collect()))
}

fn spop(context: &mut WriteContext, args: Args) -> Outcome {
    let key = args.bytes(1);
    let count = match args.len() {
        2 => 1,
        3 => args.count(2).ok_or(CommandError::NotPositive)?,
        _ => return Err(CommandError::Syntax),
    };
    let rng = &mut context.rng;
    let popped = context.keys.edit_existing(key, |set: &mut SetValue| {
        let popped = drawn(set, count as u64, rng);
        for member in &popped {
            set.remove(member);
        }
        Edit::new(popped.clone(), !popped.is_empty())
    })?;
    let popped = popped.unwrap_or_default();
    if !popped.is_empty() {
        notify_removal(context.keys, "spop", key);
    }
    let mut members = popped.into_iter().map(Reply::Bulk);
    Ok(match args.len() {
        2 => members.next().unwrap_or(Reply::Null),
        _ => Reply::Set(members.collect()),
    })
}

/// `count` different members at random, or all if there are no more.
fn drawn(set: &SetValue, count: u64, rng: &mut Rng) -> Vec<Bytes> {
    let copied = |member: &[u8]| Bytes::copy_from_slice(member);
    if count >= set.len() as u64 {
        return set.iter().map(|member| copied(&member)).collect();
    }
    let positions = rng.distinct(count, set.len());
    positions.into_iter().filter_map(|position| set.at(position)).map(|member| copied(&member)).collect()
}

fn srandmember(context: &mut ReadContext, args: Args) -> Outcome {
    if args.len() == 2 {
        let set = set(context.keys, args.bytes(1))?;
        return Ok(set.and_then(|set| one(set, &mut context.rng)).unwrap_or(Reply::Null));
    }
    if args.len() > 3 {
        return Err(CommandError::Syntax);
    }
    let count = args.int(2)?;
    if count < -i64::MAX {
        return Err(CommandError::Text(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    let Some(set) = set(context.keys, args.bytes(1))? else { return Ok(Reply::Array(Vec::new())) };
    let (rng, wanted) = (&mut context.rng, count.unsigned_abs());
    if count >= 0 {
        return Ok(Reply::Array(drawn(set, wanted, rng).into_iter().map(Reply::Bulk).collect()));
    }
    if wanted > MAX_RANDOM_MEMBERS {
        return Err(CommandError::OutOfRange);
    }
    Ok(Reply::Array((0..wanted).filter_map(|_| one(set, rng)).collect()))
}

/// A member at random.
fn one(set: &SetValue, rng: &mut Rng) -> Option<Reply> {
    set.at(rng.below(set.len())).map(Reply::bulk)
}

fn sscan(context: &mut ReadContext, args: Args) -> Outcome {
    let cursor = parse_cursor(args.bytes(2))?;
    let reply =
        |cursor: u64, members| Reply::Array(vec![Reply::bulk(cursor.to_string()), Reply::Array(members)]);
    let Some(set) = set(context.keys, args.bytes(1))? else { return Ok(reply(0, Vec::new())) };
    let options = ScanOptions::parse(args, 3, ScanOf::Elements)?;
    let (next, members) = set.scan(cursor, usize::try_from(options.count).unwrap_or(usize::MAX));
    let met = members.into_iter().filter(|member| options.matches(member));
    Ok(reply(next, met.map(Reply::bulk).collect()))
}
