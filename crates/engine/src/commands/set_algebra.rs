//! Sets: unions, intersections and differences of several.

use bytes::Bytes;

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, Outcome, ReadContext, WriteContext};
use crate::error::CommandError;
use crate::events::EventClass;
use crate::keyspace::Keyspace;
use crate::reply::Reply;
use crate::slot::NEVER;
use crate::value::set::Member;
use crate::value::{Collection, SetValue};

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::read("sdiff", -2, Keys::ALL, sdiff).doc(
        Chapter::Set,
        "1.0.0",
        "O(N) where N is the total number of elements in all given sets.",
        "Returns the difference of multiple sets.",
    ),
    Command::write("sdiffstore", -3, Keys::ALL, sdiffstore).with(Flags::DENYOOM).doc(
        Chapter::Set,
        "1.0.0",
        "O(N) where N is the total number of elements in all given sets.",
        "Stores the difference of multiple sets in a key.",
    ),
    Command::read("sinter", -2, Keys::ALL, sinter).doc(
        Chapter::Set,
        "1.0.0",
        "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.",
        "Returns the intersect of multiple sets.",
    ),
    Command::read("sintercard", -3, Keys::counted(1), sintercard).doc(
        Chapter::Set,
        "7.0.0",
        "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.",
        "Returns the number of members of the intersect of multiple sets.",
    ),
    Command::write("sinterstore", -3, Keys::ALL, sinterstore).with(Flags::DENYOOM).doc(
        Chapter::Set,
        "1.0.0",
        "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.",
        "Stores the intersect of multiple sets in a key.",
    ),
    Command::read("sunion", -2, Keys::ALL, sunion).doc(
        Chapter::Set,
        "1.0.0",
        "O(N) where N is the total number of elements in all given sets.",
        "Returns the union of multiple sets.",
    ),
    Command::write("sunionstore", -3, Keys::ALL, sunionstore).with(Flags::DENYOOM).doc(
        Chapter::Set,
        "1.0.0",
        "O(N) where N is the total number of elements in all given sets.",
        "Stores the union of multiple sets in a key.",
    ),
];

/// The sets at `names`, `None` for those that are absent; `WrongType` if one holds something else.
fn sets<'a>(keys: &'a Keyspace, names: &[Bytes]) -> Result<Vec<Option<&'a SetValue>>, CommandError> {
    names.iter().map(|name| keys.collection(name)).collect()
}

fn union(keys: &Keyspace, names: &[Bytes]) -> Result<SetValue, CommandError> {
    Ok(SetValue::of(sets(keys, names)?.into_iter().flatten().flat_map(SetValue::iter), keys.bounds()))
}

fn difference(keys: &Keyspace, names: &[Bytes]) -> Result<SetValue, CommandError> {
    let sets = sets(keys, names)?;
    let Some((Some(first), others)) = sets.split_first() else { return Ok(SetValue::new()) };
    let elsewhere = |member: &Member| others.iter().flatten().any(|other| other.contains(member));
    Ok(SetValue::of(first.iter().filter(|member| !elsewhere(member)), keys.bounds()))
}

/// The members that are in all sets, found by a walk over the smallest.
fn common<'a>(keys: &'a Keyspace, names: &[Bytes]) -> Result<impl Iterator<Item = Member<'a>>, CommandError> {
    let sets = sets(keys, names)?;
    // None at all if one of them is absent.
    let mut sets: Vec<&SetValue> = sets.into_iter().collect::<Option<_>>().unwrap_or_default();
    sets.sort_by_key(|set| set.len());
    let members = sets.first().map(|smallest| smallest.iter());
    Ok(members
        .into_iter()
        .flatten()
        .filter(move |member| sets.iter().skip(1).all(|set| set.contains(member))))
}

fn intersection(keys: &Keyspace, names: &[Bytes]) -> Result<SetValue, CommandError> {
    Ok(SetValue::of(common(keys, names)?, keys.bounds()))
}

type Combine = fn(&Keyspace, &[Bytes]) -> Result<SetValue, CommandError>;

fn shown(context: &ReadContext, args: Args, combine: Combine) -> Outcome {
    Ok(Reply::Set(combine(context.keys, args.from(1))?.iter().map(Reply::bulk).collect()))
}

/// Stores what the sets at words 2 and on make at word 1, whatever is there.
fn stored(context: &mut WriteContext, args: Args, combine: Combine, event: &'static str) -> Outcome {
    let destination = args.bytes(1);
    let set = combine(context.keys, args.from(2))?;
    let len = set.len();
    if len > 0 {
        context.keys.set(destination, set.into_value(), NEVER);
        context.keys.notify(EventClass::SET, event, destination);
    } else if context.keys.discard(destination) {
        context.keys.notify(EventClass::GENERIC, "del", destination);
    }
    Ok(Reply::count(len))
}

fn sdiff(context: &mut ReadContext, args: Args) -> Outcome {
    shown(context, args, difference)
}

fn sinter(context: &mut ReadContext, args: Args) -> Outcome {
    shown(context, args, intersection)
}

fn sunion(context: &mut ReadContext, args: Args) -> Outcome {
    shown(context, args, union)
}

fn sdiffstore(context: &mut WriteContext, args: Args) -> Outcome {
    stored(context, args, difference, "sdiffstore")
}

fn sinterstore(context: &mut WriteContext, args: Args) -> Outcome {
    stored(context, args, intersection, "sinterstore")
}

fn sunionstore(context: &mut WriteContext, args: Args) -> Outcome {
    stored(context, args, union, "sunionstore")
}

fn sintercard(context: &mut ReadContext, args: Args) -> Outcome {
    const NO_NUMKEYS: CommandError = CommandError::Text("ERR numkeys should be greater than 0");
    let numkeys = args.count(1).filter(|&n| n > 0).ok_or(NO_NUMKEYS)?;
    if numkeys > args.len() - 2 {
        return Err(CommandError::Text("ERR Number of keys can't be greater than number of args"));
    }
    let mut limit = usize::MAX;
    for i in (2 + numkeys..args.len()).step_by(2) {
        if !args.is(i, "limit") || i + 1 == args.len() {
            return Err(CommandError::Syntax);
        }
        limit = match args.count(i + 1).ok_or(CommandError::Text("ERR LIMIT can't be negative"))? {
            0 => usize::MAX,
            limit => limit,
        };
    }
    Ok(Reply::count(common(context.keys, &args.from(2)[..numkeys])?.take(limit).count()))
}
