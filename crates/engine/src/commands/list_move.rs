//! Lists: commands that pop from the first of several that has elements, or move an element from one to another; each
//! also in a form that blocks until there is one.

use bytes::Bytes;

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, MoreKeys, Outcome, WriteContext};
use crate::commands::list::{notify_removal, pop, popped_event, pushed_event};
use crate::error::CommandError;
use crate::events::EventClass;
use crate::keyspace::Edit;
use crate::reply::Reply;
use crate::value::ListValue;
use crate::value::list::Side;
use crate::waiters::Block;

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::write("blmove", 6, Keys::TWO, blmove).with(BLOCKING.union(Flags::DENYOOM).union(Flags::NOSCRIPT)).doc(
        Chapter::List,
        "6.2.0",
        "O(1)",
        "Pops an element from a list, pushes it to another list and returns it. Blocks until an element is available otherwise. Deletes the list if the last element was moved.",
    ),
    Command::write("blmpop", -5, Keys::counted(2), blmpop).with(BLOCKING).doc(
        Chapter::List,
        "7.0.0",
        "O(N+M) where N is the number of provided keys and M is the number of elements returned.",
        "Pops the first element from one of multiple lists. Blocks until an element is available otherwise. Deletes the list if the last element was popped.",
    ),
    Command::write("blpop", -3, ALL_BUT_LAST, blpop).with(BLOCKING.union(Flags::NOSCRIPT)).doc(
        Chapter::List,
        "2.0.0",
        "O(N) where N is the number of provided keys.",
        "Removes and returns the first element in a list. Blocks until an element is available otherwise. Deletes the list if the last element was popped.",
    ),
    Command::write("brpop", -3, ALL_BUT_LAST, brpop).with(BLOCKING.union(Flags::NOSCRIPT)).doc(
        Chapter::List,
        "2.0.0",
        "O(N) where N is the number of provided keys.",
        "Removes and returns the last element in a list. Blocks until an element is available otherwise. Deletes the list if the last element was popped.",
    ),
    Command::write("brpoplpush", 4, Keys::TWO, brpoplpush)
        .with(BLOCKING.union(Flags::DENYOOM).union(Flags::NOSCRIPT))
        .doc(
            Chapter::List,
            "2.2.0",
            "O(1)",
            "Pops an element from a list, pushes it to another list and returns it. Block until an element is available otherwise. Deletes the list if the last element was popped.",
        ),
    Command::write("lmove", 5, Keys::TWO, lmove).with(Flags::DENYOOM).doc(
        Chapter::List,
        "6.2.0",
        "O(1)",
        "Returns an element after popping it from one list and pushing it to another. Deletes the list if the last element was moved.",
    ),
    Command::write("lmpop", -4, Keys::counted(1), lmpop).doc(
        Chapter::List,
        "7.0.0",
        "O(N+M) where N is the number of provided keys and M is the number of elements returned.",
        "Returns multiple elements from a list after removing them. Deletes the list if the last element was popped.",
    ),
    Command::write("rpoplpush", 3, Keys::TWO, rpoplpush).with(Flags::DENYOOM).doc(
        Chapter::List,
        "1.2.0",
        "O(1)",
        "Returns the last element of a list after removing and pushing it to another list. Deletes the list if the last element was popped.",
    ),
];

const BLOCKING: Flags = Flags::BLOCKING;

/// The keys of BLPOP and BRPOP, whose last word is the time-out.
const ALL_BUT_LAST: Keys = Keys { first: 1, last: -2, step: 1, more: MoreKeys::None };

fn blpop(context: &mut WriteContext, args: Args) -> Outcome {
    blocking_pop(context, args, Side::Left)
}

fn brpop(context: &mut WriteContext, args: Args) -> Outcome {
    blocking_pop(context, args, Side::Right)
}

fn blocking_pop(context: &mut WriteContext, args: Args, side: Side) -> Outcome {
    let last = args.len() - 1;
    let timeout_ms = args.timeout_ms(last)?;
    let keys = &args.from(1)[..last - 1];
    match pop_first(context, keys, side, 1)? {
        Some((key, elements)) => {
            Ok(Reply::Array(std::iter::once(Reply::Bulk(key)).chain(elements).collect()))
        }
        None => Ok(wait(context, keys, args, timeout_ms, Reply::NullArray)),
    }
}

fn lmpop(context: &mut WriteContext, args: Args) -> Outcome {
    let pops = Pops::parse(args, 1)?;
    let popped = pop_first(context, pops.keys, pops.side, pops.count)?;
    Ok(popped.map_or(Reply::NullArray, keyed))
}

fn blmpop(context: &mut WriteContext, args: Args) -> Outcome {
    let pops = Pops::parse(args, 2)?;
    let timeout_ms = args.timeout_ms(1)?;
    match pop_first(context, pops.keys, pops.side, pops.count)? {
        Some(popped) => Ok(keyed(popped)),
        None => Ok(wait(context, pops.keys, args, timeout_ms, Reply::NullArray)),
    }
}

/// What LMPOP answers: the key, and an array of elements.
fn keyed((key, elements): (Bytes, Vec<Reply>)) -> Reply {
    Reply::Array(vec![Reply::Bulk(key), Reply::Array(elements)])
}

/// What LMPOP is to do.
struct Pops<'a> {
    keys: &'a [Bytes],
    side: Side,
    count: usize,
}

impl<'a> Pops<'a> {
    /// Reads the words from the number of keys on.
    fn parse(args: Args<'a>, numkeys: usize) -> Result<Pops<'a>, CommandError> {
        let positive = |i: usize| args.count(i).filter(|&n| n > 0);
        let keys = positive(numkeys).ok_or(CommandError::Text("ERR numkeys should be greater than 0"))?;
        let first = numkeys + 1;
        if keys >= args.len() - first {
            return Err(CommandError::Syntax);
        }
        let side = side(args, first + keys)?;
        let options = first + keys + 1;
        let count = match args.from(options) {
            [] => 1,
            // A number that is none is told of before a word too many.
            [option, _, more @ ..] if option.eq_ignore_ascii_case(b"count") => {
                let count = positive(options + 1);
                let count = count.ok_or(CommandError::Text("ERR count should be greater than 0"))?;
                if more.is_empty() { count } else { return Err(CommandError::Syntax) }
            }
            _ => return Err(CommandError::Syntax),
        };
        Ok(Pops { keys: &args.from(first)[..keys], side, count })
    }
}

/// Word `i`: `LEFT` or `RIGHT`.
fn side(args: Args, i: usize) -> Result<Side, CommandError> {
    match () {
        () if args.is(i, "left") => Ok(Side::Left),
        () if args.is(i, "right") => Ok(Side::Right),
        () => Err(CommandError::Syntax),
    }
}

/// Pops up to `count` elements off the first of `keys` that is there: its name and the elements.
fn pop_first(
    context: &mut WriteContext,
    keys: &[Bytes],
    side: Side,
    count: usize,
) -> Result<Option<(Bytes, Vec<Reply>)>, CommandError> {
    for key in keys {
        match pop(context.keys, key, side, count) {
            Ok(None) => {}
            Ok(Some(elements)) => return Ok(Some((key.clone(), elements))),
            // Who has waited waits on for a list.
            Err(CommandError::WrongType) if context.woken => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Waits for `keys`; where that is not possible, answers at once what there is to say when time is up.
fn wait(
    context: &WriteContext,
    keys: &[Bytes],
    args: Args,
    timeout_ms: Option<u64>,
    at_timeout: Reply,
) -> Reply {
    if !context.may_block {
        return at_timeout;
    }
    let (keys, call) = (keys.to_vec(), args.0.to_vec());
    Reply::Block(Box::new(Block { keys, call, timeout_ms, wants_absence: false }))
}

fn lmove(context: &mut WriteContext, args: Args) -> Outcome {
    let (from, to) = (side(args, 3)?, side(args, 4)?);
    Ok(shift(context, args, from, to)?.map_or(Reply::Null, Reply::Bulk))
}

fn rpoplpush(context: &mut WriteContext, args: Args) -> Outcome {
    Ok(shift(context, args, Side::Right, Side::Left)?.map_or(Reply::Null, Reply::Bulk))
}

fn blmove(context: &mut WriteContext, args: Args) -> Outcome {
    let (from, to) = (side(args, 3)?, side(args, 4)?);
    let timeout_ms = args.timeout_ms(5)?;
    blocking_shift(context, args, from, to, timeout_ms)
}

fn brpoplpush(context: &mut WriteContext, args: Args) -> Outcome {
    let timeout_ms = args.timeout_ms(3)?;
    blocking_shift(context, args, Side::Right, Side::Left, timeout_ms)
}

fn blocking_shift(
    context: &mut WriteContext,
    args: Args,
    from: Side,
    to: Side,
    timeout_ms: Option<u64>,
) -> Outcome {
    match shift(context, args, from, to)? {
        Some(element) => Ok(Reply::Bulk(element)),
        None => Ok(wait(context, &args.from(1)[..1], args, timeout_ms, Reply::Null)),
    }
}

/// Moves an element from the list at word 1 to the one at word 2; `None` if there is no such list.
fn shift(
    context: &mut WriteContext,
    args: Args,
    from: Side,
    to: Side,
) -> Result<Option<Bytes>, CommandError> {
    let (source, destination) = (args.bytes(1), args.bytes(2));
    match context.keys.collection::<ListValue>(source) {
        Ok(Some(_)) => {}
        Ok(None) => return Ok(None),
        Err(CommandError::WrongType) if context.woken => return Ok(None),
        Err(error) => return Err(error),
    }
    // Not WrongType, for which a blocked call waits on: Redis ends it.
    context.keys.collection::<ListValue>(destination).map_err(|_| CommandError::WrongDestinationType)?;
    let take = |list: &mut ListValue| {
        let range = list.end(from, 1);
        let element = list.get(range.start).map(Bytes::copy_from_slice).unwrap_or_default();
        list.remove(range);
        element
    };
    // A list that turns in itself is never empty in between: it keeps its expiry.
    let element = if source == destination {
        context.keys.edit(source, |list: &mut ListValue| {
            let element = take(list);
            list.push(to, &element);
            Edit::changed(element)
        })?
    } else {
        let element = context.keys.edit(source, |list: &mut ListValue| Edit::changed(take(list)))?;
        context.keys.edit(destination, |list: &mut ListValue| {
            list.push(to, &element);
            Edit::changed(())
        })?;
        element
    };
    context.keys.notify(EventClass::LIST, pushed_event(to), destination);
    notify_removal(context.keys, popped_event(from), source);
    Ok(Some(element))
}
