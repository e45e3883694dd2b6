//! Sorted sets: members and their scores. `zset_range` has what concerns ranges, `zset_algebra` unions and their
//! like, `zset_pop` what takes elements away and may block.

use bytes::Bytes;

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, Outcome, ReadContext, WriteContext};
use crate::commands::scan::{ScanOf, ScanOptions, parse_cursor};
use crate::error::CommandError;
use crate::events::EventClass;
use crate::keyspace::Edit;
use crate::reply::Reply;
use crate::slot::NEVER;
use crate::value::zset::Element;
use crate::value::{Collection, ZsetValue, number};

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::write("zadd", -4, Keys::ONE, zadd).with(Flags::DENYOOM.union(Flags::FAST)).doc(
        Chapter::SortedSet,
        "1.2.0",
        "O(log(N)) for each item added, where N is the number of elements in the sorted set.",
        "Adds one or more members to a sorted set, or updates their scores. Creates the key if it doesn't exist.",
    ),
    Command::read("zcard", 2, Keys::ONE, zcard).with(Flags::FAST).doc(
        Chapter::SortedSet,
        "1.2.0",
        "O(1)",
        "Returns the number of members in a sorted set.",
    ),
    Command::write("zincrby", 4, Keys::ONE, zincrby).with(Flags::DENYOOM.union(Flags::FAST)).doc(
        Chapter::SortedSet,
        "1.2.0",
        "O(log(N)) where N is the number of elements in the sorted set.",
        "Increments the score of a member in a sorted set.",
    ),
    Command::read("zmscore", -3, Keys::ONE, zmscore).with(Flags::FAST).doc(
        Chapter::SortedSet,
        "6.2.0",
        "O(N) where N is the number of members being requested.",
        "Returns the score of one or more members in a sorted set.",
    ),
    Command::read("zrandmember", -2, Keys::ONE, zrandmember).doc(
        Chapter::SortedSet,
        "6.2.0",
        "O(N) where N is the number of members returned",
        "Returns one or more random members from a sorted set.",
    ),
    Command::read("zrank", -3, Keys::ONE, zrank).with(Flags::FAST).doc(
        Chapter::SortedSet,
        "2.0.0",
        "O(log(N))",
        "Returns the index of a member in a sorted set ordered by ascending scores.",
    ),
    Command::write("zrem", -3, Keys::ONE, zrem).with(Flags::FAST).doc(
        Chapter::SortedSet,
        "1.2.0",
        "O(M*log(N)) with N being the number of elements in the sorted set and M the number of elements to be removed.",
        "Removes one or more members from a sorted set. Deletes the sorted set if all members were removed.",
    ),
    Command::read("zrevrank", -3, Keys::ONE, zrevrank).with(Flags::FAST).doc(
        Chapter::SortedSet,
        "2.0.0",
        "O(log(N))",
        "Returns the index of a member in a sorted set ordered by descending scores.",
    ),
    Command::read("zscan", -3, Keys::ONE, zscan).doc(
        Chapter::SortedSet,
        "2.8.0",
        "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
        "Iterates over members and scores of a sorted set.",
    ),
    Command::read("zscore", 3, Keys::ONE, zscore).with(Flags::FAST).doc(
        Chapter::SortedSet,
        "1.2.0",
        "O(1)",
        "Returns the score of a member in a sorted set.",
    ),
];

/// ZRANDMEMBER answers at most so many members when they may repeat: more than any sorted set needs, and no reply
/// outgrows the node.
const MAX_RANDOM_MEMBERS: u64 = 1 << 22;

/// How ZADD adds.
#[derive(Clone, Copy, Default)]
pub(super) struct AddOptions {
    /// Only members that are not there.
    pub absent: bool,
    /// Only members that are there.
    pub present: bool,
    /// Only to a higher score, if the member is there.
    pub greater: bool,
    /// Only to a lower score, if the member is there.
    pub less: bool,
    /// Answer how many were changed, not only how many are new.
    pub count_changed: bool,
    /// Add to the score the member has, and answer the sum.
    pub increment: bool,
}

fn zadd(context: &mut WriteContext, args: Args) -> Outcome {
    let mut options = AddOptions::default();
    let mut first = 2;
    while first < args.len() {
        let option = match () {
            () if args.is(first, "nx") => &mut options.absent,
            () if args.is(first, "xx") => &mut options.present,
            () if args.is(first, "gt") => &mut options.greater,
            () if args.is(first, "lt") => &mut options.less,
            () if args.is(first, "ch") => &mut options.count_changed,
            () if args.is(first, "incr") => &mut options.increment,
            () => break,
        };
        *option = true;
        first += 1;
    }
    let (pairs, odd) = args.from(first).as_chunks::<2>();
    if pairs.is_empty() || !odd.is_empty() {
        return Err(CommandError::Syntax);
    }
    if options.absent && options.present {
        return Err(CommandError::Text("ERR XX and NX options at the same time are not compatible"));
    }
    if options.absent && (options.greater || options.less) || options.greater && options.less {
        return Err(CommandError::Text("ERR GT, LT, and/or NX options at the same time are not compatible"));
    }
    if options.increment && pairs.len() > 1 {
        return Err(CommandError::Text("ERR INCR option supports a single increment-element pair"));
    }
    let element =
        |(i, [_, member]): (usize, &'_ [Bytes; 2])| Ok((args.float(first + 2 * i)?, member.clone()));
    let elements: Result<Vec<(f64, Bytes)>, CommandError> = pairs.iter().enumerate().map(element).collect();
    add(context, args.bytes(1), options, &elements?)
}

fn zincrby(context: &mut WriteContext, args: Args) -> Outcome {
    let options = AddOptions { increment: true, ..AddOptions::default() };
    add(context, args.bytes(1), options, &[(args.float(2)?, args.bytes(3).clone())])
}

/// ZADD's work, once its words are read.
pub(super) fn add(
    context: &mut WriteContext,
    key: &Bytes,
    options: AddOptions,
    elements: &[(f64, Bytes)],
) -> Outcome {
    let mut added = 0;
    let mut updated = 0;
    let mut last = None;
    let bounds = *context.keys.bounds();
    let result = context.keys.edit(key, |zset: &mut ZsetValue| {
        for (score, member) in elements {
            match score_to_set(zset.score(member), *score, options) {
                Err(error) => return Edit::unchanged(Err(error)),
                Ok(None) => {}
                Ok(Some(score)) => {
                    match zset.set(member, score, &bounds) {
                        None => added += 1,
                        Some(before) if before != score => updated += 1,
                        Some(_) => {}
                    }
                    last = Some(score);
                }
            }
        }
        Edit::new(Ok(()), added + updated > 0)
    })?;
    result?;
    if added + updated > 0 {
        let event = if options.increment { "zincr" } else { "zadd" };
        context.keys.notify(EventClass::ZSET, event, key);
    }
    Ok(match options.increment {
        true => last.map_or(Reply::Null, Reply::Double),
        false => Reply::count(if options.count_changed { added + updated } else { added }),
    })
}

/// The score a member is to get that has the score `held`; `None` if the options forbid it. Only an increment, which
/// is always alone, can fail.
fn score_to_set(held: Option<f64>, score: f64, options: AddOptions) -> Result<Option<f64>, CommandError> {
    let Some(held) = held else { return Ok(Some(score).filter(|_| !options.present)) };
    if options.absent {
        return Ok(None);
    }
    let score = if options.increment { held + score } else { score };
    if score.is_nan() {
        return Err(CommandError::Text("ERR resulting score is not a number (NaN)"));
    }
    let forbidden = options.less && score >= held || options.greater && score <= held;
    Ok(Some(score).filter(|_| !forbidden))
}

fn zrem(context: &mut WriteContext, args: Args) -> Outcome {
    let removed = context.keys.edit_existing(args.bytes(1), |zset: &mut ZsetValue| {
        let removed = args.from(2).iter().filter(|member| zset.remove(member).is_some()).count();
        Edit::new(removed, removed > 0)
    })?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        notify_removal(context, "zrem", args.bytes(1));
    }
    Ok(Reply::count(removed))
}

/// Notes that `event` took elements from `key`, and perhaps the last one.
pub(super) fn notify_removal(context: &mut WriteContext, event: &'static str, key: &[u8]) {
    context.keys.notify(EventClass::ZSET, event, key);
    if !context.keys.contains(key) {
        context.keys.notify(EventClass::GENERIC, "del", key);
    }
}

/// Stores `zset` at `key`, whatever it holds; nothing is left there if there are no elements.
pub(super) fn store(context: &mut WriteContext, key: &[u8], zset: ZsetValue, event: &'static str) -> Outcome {
    let len = zset.len();
    if len > 0 {
        context.keys.set(key, zset.into_value(), NEVER);
        context.keys.notify(EventClass::ZSET, event, key);
    } else if context.keys.discard(key) {
        context.keys.notify(EventClass::GENERIC, "del", key);
    }
    Ok(Reply::count(len))
}

fn zcard(context: &mut ReadContext, args: Args) -> Outcome {
    Ok(Reply::count(context.keys.zset(args.bytes(1))?.map_or(0, ZsetValue::len)))
}

fn zscore(context: &mut ReadContext, args: Args) -> Outcome {
    let score = context.keys.zset(args.bytes(1))?.and_then(|zset| zset.score(args.bytes(2)));
    Ok(score.map_or(Reply::Null, Reply::Double))
}

fn zmscore(context: &mut ReadContext, args: Args) -> Outcome {
    let zset = context.keys.zset(args.bytes(1))?;
    let score = |member: &Bytes| zset.and_then(|zset| zset.score(member));
    let scores = args.from(2).iter().map(|member| score(member).map_or(Reply::Null, Reply::Double));
    Ok(Reply::Array(scores.collect()))
}

fn zrank(context: &mut ReadContext, args: Args) -> Outcome {
    rank(context, args, "zrank", |rank, _| rank)
}

fn zrevrank(context: &mut ReadContext, args: Args) -> Outcome {
    rank(context, args, "zrevrank", |rank, len| len - 1 - rank)
}

/// `from`: which rank to answer, given the one from below and the number of members.
fn rank(context: &ReadContext, args: Args, name: &str, from: fn(usize, usize) -> usize) -> Outcome {
    let with_score = args.is(3, "withscore");
    if args.len() > 4 {
        return Err(CommandError::WrongArity(name.to_string()));
    }
    if args.len() == 4 && !with_score {
        return Err(CommandError::Syntax);
    }
    let zset = context.keys.zset(args.bytes(1))?;
    let found = zset.and_then(|zset| Some((zset.rank(args.bytes(2))?, zset.len())));
    Ok(match found {
        Some(((rank, score), len)) if with_score => {
            Reply::Array(vec![Reply::count(from(rank, len)), Reply::Double(score)])
        }
        Some(((rank, _), len)) => Reply::count(from(rank, len)),
        None if with_score => Reply::NullArray,
        None => Reply::Null,
    })
}

fn zrandmember(context: &mut ReadContext, args: Args) -> Outcome {
    if args.len() == 2 {
        let Some(zset) = context.keys.zset(args.bytes(1))? else { return Ok(Reply::Null) };
        let drawn = zset.at(context.rng.below(zset.len()));
        return Ok(drawn.map_or(Reply::Null, |element| Reply::bulk(element.member)));
    }
    let count = args.int(2)?;
    if count < -i64::MAX {
        return Err(CommandError::Text(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    let with_scores = args.is(3, "withscores");
    if args.len() > 4 || args.len() == 4 && !with_scores {
        return Err(CommandError::Syntax);
    }
    if with_scores && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(CommandError::OutOfRange);
    }
    let Some(zset) = context.keys.zset(args.bytes(1))? else { return Ok(Reply::Array(Vec::new())) };
    let drawn: Vec<Element> = if count < 0 {
        let count = count.unsigned_abs();
        if count > MAX_RANDOM_MEMBERS {
            return Err(CommandError::OutOfRange);
        }
        (0..count).filter_map(|_| zset.at(context.rng.below(zset.len()))).collect()
    } else {
        let positions = context.rng.distinct(count as u64, zset.len());
        positions.into_iter().filter_map(|i| zset.at(i)).collect()
    };
    Ok(elements_reply(drawn.into_iter(), with_scores))
}

/// Elements as most commands answer them: members, or pairs with their scores.
pub(super) fn elements_reply<'a>(elements: impl Iterator<Item = Element<'a>>, with_scores: bool) -> Reply {
    let member = |element: &Element| Reply::bulk(element.member);
    match with_scores {
        true => Reply::Pairs(elements.map(|e| (member(&e), Reply::Double(e.score))).collect()),
        false => Reply::Array(elements.map(|e| member(&e)).collect()),
    }
}

fn zscan(context: &mut ReadContext, args: Args) -> Outcome {
    let cursor = parse_cursor(args.bytes(2))?;
    let reply = |cursor: u64, words| Reply::Array(vec![Reply::bulk(cursor.to_string()), Reply::Array(words)]);
    let Some(zset) = context.keys.zset(args.bytes(1))? else { return Ok(reply(0, Vec::new())) };
    let options = ScanOptions::parse(args, 3, ScanOf::Elements)?;
    let (next, elements) = zset.scan(cursor, usize::try_from(options.count).unwrap_or(usize::MAX));
    let met = elements.into_iter().filter(|element| options.matches(element.member));
    let words = met.flat_map(|element| {
        [Reply::bulk(element.member), Reply::bulk(scanned_score(element.score, zset.is_small()))]
    });
    Ok(reply(next, words.collect()))
}

/// A score as ZSCAN words it: Redis shows a small sorted set's scores as they are stored, whole ones as integers.
fn scanned_score(score: f64, small: bool) -> String {
    const LARGEST_INTEGER: f64 = (i64::MAX / 2) as f64;
    match small && score.abs() <= LARGEST_INTEGER && libm::trunc(score) == score {
        true => (score as i64).to_string(),
        false => number::format_double(score),
    }
}
