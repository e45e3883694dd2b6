//! Sorted sets: ranges by rank, by score and by name, to read, to count, to store and to remove.

use std::ops::Range;

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, Outcome, ReadContext, WriteContext};
use crate::commands::zset::{elements_reply, notify_removal, store};
use crate::error::CommandError;
use crate::keyspace::{Edit, Keyspace};
use crate::reply::Reply;
use crate::value::zset::{Element, Elements};
use crate::value::{self, ZsetValue, number};

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::read("zcount", 4, Keys::ONE, zcount).with(Flags::FAST).doc(
        Chapter::SortedSet,
        "2.0.0",
        "O(log(N)) with N being the number of elements in the sorted set.",
        "Returns the count of members in a sorted set that have scores within a range.",
    ),
    Command::read("zlexcount", 4, Keys::ONE, zlexcount).with(Flags::FAST).doc(
        Chapter::SortedSet,
        "2.8.9",
        "O(log(N)) with N being the number of elements in the sorted set.",
        "Returns the number of members in a sorted set within a lexicographical range.",
    ),
    Command::read("zrange", -4, Keys::ONE, zrange).doc(
        Chapter::SortedSet,
        "1.2.0",
        "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements returned.",
        "Returns members in a sorted set within a range of indexes.",
    ),
    Command::read("zrangebylex", -4, Keys::ONE, zrangebylex).doc(
        Chapter::SortedSet,
        "2.8.9",
        "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements being returned. If M is constant (e.g. always asking for the first 10 elements with LIMIT), you can consider it O(log(N)).",
        "Returns members in a sorted set within a lexicographical range.",
    ),
    Command::read("zrangebyscore", -4, Keys::ONE, zrangebyscore).doc(
        Chapter::SortedSet,
        "1.0.5",
        "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements being returned. If M is constant (e.g. always asking for the first 10 elements with LIMIT), you can consider it O(log(N)).",
        "Returns members in a sorted set within a range of scores.",
    ),
    Command::write("zrangestore", -5, Keys::TWO, zrangestore).with(Flags::DENYOOM).doc(
        Chapter::SortedSet,
        "6.2.0",
        "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements stored into the destination key.",
        "Stores a range of members from sorted set in a key.",
    ),
    Command::write("zremrangebylex", 4, Keys::ONE, zremrangebylex).doc(
        Chapter::SortedSet,
        "2.8.9",
        "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements removed by the operation.",
        "Removes members in a sorted set within a lexicographical range. Deletes the sorted set if all members were removed.",
    ),
    Command::write("zremrangebyrank", 4, Keys::ONE, zremrangebyrank).doc(
        Chapter::SortedSet,
        "2.0.0",
        "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements removed by the operation.",
        "Removes members in a sorted set within a range of indexes. Deletes the sorted set if all members were removed.",
    ),
    Command::write("zremrangebyscore", 4, Keys::ONE, zremrangebyscore).doc(
        Chapter::SortedSet,
        "1.2.0",
        "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements removed by the operation.",
        "Removes members in a sorted set within a range of scores. Deletes the sorted set if all members were removed.",
    ),
    Command::read("zrevrange", -4, Keys::ONE, zrevrange).doc(
        Chapter::SortedSet,
        "1.2.0",
        "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements returned.",
        "Returns members in a sorted set within a range of indexes in reverse order.",
    ),
    Command::read("zrevrangebylex", -4, Keys::ONE, zrevrangebylex).doc(
        Chapter::SortedSet,
        "2.8.9",
        "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements being returned. If M is constant (e.g. always asking for the first 10 elements with LIMIT), you can consider it O(log(N)).",
        "Returns members in a sorted set within a lexicographical range in reverse order.",
    ),
    Command::read("zrevrangebyscore", -4, Keys::ONE, zrevrangebyscore).doc(
        Chapter::SortedSet,
        "2.2.0",
        "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements being returned. If M is constant (e.g. always asking for the first 10 elements with LIMIT), you can consider it O(log(N)).",
        "Returns members in a sorted set within a range of scores in reverse order.",
    ),
];

/// What a range is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Name,
}

/// Which elements.
enum Bounds<'a> {
    /// From one rank to another, both included; negative ones count from the end.
    Rank(i64, i64),
    Score(ScoreBound, ScoreBound),
    Name(NameBound<'a>, NameBound<'a>),
}

#[derive(Clone, Copy)]
struct ScoreBound {
    score: f64,
    exclusive: bool,
}

#[derive(Clone, Copy)]
enum NameBound<'a> {
    /// `-`, below every name.
    Lowest,
    /// `+`, above every name.
    Highest,
    /// `[name`.
    Inclusive(&'a [u8]),
    /// `(name`.
    Exclusive(&'a [u8]),
}

impl ScoreBound {
    fn parse(word: &[u8]) -> Option<ScoreBound> {
        let (exclusive, score) = match word {
            [b'(', score @ ..] => (true, score),
            _ => (false, word),
        };
        Some(ScoreBound { score: number::parse_bound(score)?, exclusive })
    }

    /// Whether `score` is below all that this lower bound lets in.
    fn is_above(self, score: f64) -> bool {
        score < self.score || self.exclusive && score == self.score
    }

    /// Whether this upper bound lets `score` in.
    fn reaches(self, score: f64) -> bool {
        score < self.score || !self.exclusive && score == self.score
    }
}

impl<'a> NameBound<'a> {
    fn parse(word: &'a [u8]) -> Option<NameBound<'a>> {
        match word {
            [b'-'] => Some(NameBound::Lowest),
            [b'+'] => Some(NameBound::Highest),
            [b'[', name @ ..] => Some(NameBound::Inclusive(name)),
            [b'(', name @ ..] => Some(NameBound::Exclusive(name)),
            _ => None,
        }
    }

    /// Whether `name` is below all that this lower bound lets in.
    fn is_above(self, name: &[u8]) -> bool {
        match self {
            NameBound::Lowest => false,
            NameBound::Highest => true,
            NameBound::Inclusive(bound) => name < bound,
            NameBound::Exclusive(bound) => name <= bound,
        }
    }

    /// Whether this upper bound lets `name` in.
    fn reaches(self, name: &[u8]) -> bool {
        match self {
            NameBound::Lowest => false,
            NameBound::Highest => true,
            NameBound::Inclusive(bound) => name <= bound,
            NameBound::Exclusive(bound) => name < bound,
        }
    }
}

impl<'a> Bounds<'a> {
    /// The bounds of a range whose lower one is word `low` and whose upper one is word `high`.
    fn parse(by: By, args: Args<'a>, low: usize, high: usize) -> Result<Bounds<'a>, CommandError> {
        match by {
            By::Rank => Ok(Bounds::Rank(args.int(low)?, args.int(high)?)),
            By::Score => {
                let bounds = ScoreBound::parse(args.bytes(low)).zip(ScoreBound::parse(args.bytes(high)));
                let (low, high) = bounds.ok_or(CommandError::Text("ERR min or max is not a float"))?;
                Ok(Bounds::Score(low, high))
            }
            By::Name => {
                let bounds = NameBound::parse(args.bytes(low)).zip(NameBound::parse(args.bytes(high)));
                let error = CommandError::Text("ERR min or max not valid string range item");
                let (low, high) = bounds.ok_or(error)?;
                Ok(Bounds::Name(low, high))
            }
        }
    }

    /// The positions in `zset`; ranks are counted from the end if `reverse`.
    fn positions(&self, zset: &ZsetValue, reverse: bool) -> Range<usize> {
        match self {
            Bounds::Rank(start, end) => rank_positions(*start, *end, zset.len(), reverse),
            Bounds::Score(low, high) => {
                let start = zset.count_while(|element| low.is_above(element.score));
                start..zset.count_while(|element| high.reaches(element.score))
            }
            Bounds::Name(low, high) => name_positions(zset, *low, *high),
        }
    }
}

fn rank_positions(start: i64, end: i64, len: usize, reverse: bool) -> Range<usize> {
    let from_end = |rank: i64| if rank < 0 { rank.saturating_add(len as i64) } else { rank };
    let start = from_end(start).max(0) as usize;
    let end = (from_end(end).saturating_add(1).max(0) as usize).min(len);
    if start >= end {
        return 0..0;
    }
    if reverse { len - end..len - start } else { start..end }
}

/// A range of names makes sense only where all scores are equal, and then it is found by halves. In any other sorted
/// set the names are in no order: the first run of names within the bounds is meant, for want of something better, and
/// it has to be looked for from the start, because an answer must not depend on where a search happens to begin. As in
/// a small sorted set of Redis there is none unless the last name is not below the bounds and the first not above.
fn name_positions(zset: &ZsetValue, low: NameBound, high: NameBound) -> Range<usize> {
    let (below, within) =
        (|element: Element| low.is_above(element.member), |element: Element| high.reaches(element.member));
    let Some((first, last)) = zset.at(0).zip(zset.iter().next_back()) else { return 0..0 };
    if first.score == last.score {
        return zset.count_while(below)..zset.count_while(within);
    }
    if below(last) || !within(first) {
        return 0..0;
    }
    let start = zset.iter().take_while(|element| below(*element)).count();
    let len = zset.range(start..zset.len()).take_while(|element| within(*element)).count();
    start..start + len
}

/// A range as ZRANGE and its kin are told it.
struct Query<'a> {
    bounds: Bounds<'a>,
    reverse: bool,
    with_scores: bool,
    offset: i64,
    /// Negative: no limit.
    count: i64,
}

/// What the command's name already says of a range.
#[derive(Clone, Copy)]
enum Kind {
    /// ZRANGE, and ZRANGESTORE: the options say it.
    Any {
        to_store: bool,
    },
    Fixed {
        by: By,
        reverse: bool,
    },
}

impl<'a> Query<'a> {
    /// Words `first` and `first + 1` are the bounds, options follow.
    fn parse(args: Args<'a>, first: usize, kind: Kind) -> Result<Query<'a>, CommandError> {
        let (open, to_store) = match kind {
            Kind::Any { to_store } => (true, to_store),
            Kind::Fixed { .. } => (false, false),
        };
        let (mut by, mut reverse) = match kind {
            Kind::Any { .. } => (None, false),
            Kind::Fixed { by, reverse } => (Some(by), reverse),
        };
        let (mut with_scores, mut offset, mut count) = (false, 0, -1);
        let mut reverse_given = false;
        let mut i = first + 2;
        while i < args.len() {
            if !to_store && args.is(i, "withscores") {
                with_scores = true;
            } else if args.is(i, "limit") && i + 2 < args.len() {
                (offset, count) = (args.int(i + 1)?, args.int(i + 2)?);
                i += 2;
            } else if open && !reverse_given && args.is(i, "rev") {
                (reverse, reverse_given) = (true, true);
            } else if by.is_none() && args.is(i, "bylex") {
                by = Some(By::Name);
            } else if by.is_none() && args.is(i, "byscore") {
                by = Some(By::Score);
            } else {
                return Err(CommandError::Syntax);
            }
            i += 1;
        }
        let by = by.unwrap_or(By::Rank);
        if count != -1 && by == By::Rank {
            return Err(CommandError::Text(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if by == By::Rank {
            // As in Redis, a LIMIT without an end is let through here, and then means nothing.
            offset = 0;
        }
        if with_scores && by == By::Name {
            return Err(CommandError::Text(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        let (low, high) = if reverse && by != By::Rank { (first + 1, first) } else { (first, first + 1) };
        let bounds = Bounds::parse(by, args, low, high)?;
        Ok(Query { bounds, reverse, with_scores, offset, count })
    }

    /// The elements of `zset` that it asks for: upwards, to be read from the end if [`Query::reverse`].
    fn of<'z>(&self, zset: &'z ZsetValue) -> Elements<'z> {
        let Range { start, end } = self.bounds.positions(zset, self.reverse);
        let len = end.saturating_sub(start);
        let offset = usize::try_from(self.offset).unwrap_or(usize::MAX).min(len);
        let count = usize::try_from(self.count).unwrap_or(usize::MAX).min(len - offset);
        match self.reverse {
            true => zset.range(end.saturating_sub(offset + count)..end.saturating_sub(offset)),
            false => zset.range(start + offset..start + offset + count),
        }
    }

    /// Them as a sorted set. Redis knows beforehand how many a range of ranks has; others grow in their order.
    fn stored(&self, zset: &ZsetValue, bounds: &value::Bounds) -> ZsetValue {
        let found = self.of(zset);
        let elements: Vec<Element> = if self.reverse { found.rev().collect() } else { found.collect() };
        match self.bounds {
            Bounds::Rank(..) if elements.len() > bounds.zset_members => ZsetValue::of(elements, bounds),
            _ => ZsetValue::grown(elements, bounds),
        }
    }
}

fn zrange(context: &mut ReadContext, args: Args) -> Outcome {
    read_range(context.keys, args, Kind::Any { to_store: false })
}

fn zrevrange(context: &mut ReadContext, args: Args) -> Outcome {
    read_range(context.keys, args, Kind::Fixed { by: By::Rank, reverse: true })
}

fn zrangebyscore(context: &mut ReadContext, args: Args) -> Outcome {
    read_range(context.keys, args, Kind::Fixed { by: By::Score, reverse: false })
}

fn zrevrangebyscore(context: &mut ReadContext, args: Args) -> Outcome {
    read_range(context.keys, args, Kind::Fixed { by: By::Score, reverse: true })
}

fn zrangebylex(context: &mut ReadContext, args: Args) -> Outcome {
    read_range(context.keys, args, Kind::Fixed { by: By::Name, reverse: false })
}

fn zrevrangebylex(context: &mut ReadContext, args: Args) -> Outcome {
    read_range(context.keys, args, Kind::Fixed { by: By::Name, reverse: true })
}

fn read_range(keys: &Keyspace, args: Args, kind: Kind) -> Outcome {
    let query = Query::parse(args, 2, kind)?;
    let Some(zset) = keys.zset(args.bytes(1))? else { return Ok(Reply::Array(Vec::new())) };
    let elements = query.of(zset);
    Ok(match query.reverse {
        true => elements_reply(elements.rev(), query.with_scores),
        false => elements_reply(elements, query.with_scores),
    })
}

fn zrangestore(context: &mut WriteContext, args: Args) -> Outcome {
    let query = Query::parse(args, 3, Kind::Any { to_store: true })?;
    let zset = context.keys.zset(args.bytes(2))?;
    let bounds = context.keys.bounds();
    let range = zset.map(|zset| query.stored(zset, bounds)).unwrap_or_default();
    store(context, args.bytes(1), range, "zrangestore")
}

fn zcount(context: &mut ReadContext, args: Args) -> Outcome {
    count(context, args, By::Score)
}

fn zlexcount(context: &mut ReadContext, args: Args) -> Outcome {
    count(context, args, By::Name)
}

fn count(context: &ReadContext, args: Args, by: By) -> Outcome {
    let bounds = Bounds::parse(by, args, 2, 3)?;
    let zset = context.keys.zset(args.bytes(1))?;
    Ok(Reply::count(zset.map_or(0, |zset| bounds.positions(zset, false).len())))
}

fn zremrangebyrank(context: &mut WriteContext, args: Args) -> Outcome {
    remove_range(context, args, By::Rank, "zremrangebyrank")
}

fn zremrangebyscore(context: &mut WriteContext, args: Args) -> Outcome {
    remove_range(context, args, By::Score, "zremrangebyscore")
}

fn zremrangebylex(context: &mut WriteContext, args: Args) -> Outcome {
    remove_range(context, args, By::Name, "zremrangebylex")
}

fn remove_range(context: &mut WriteContext, args: Args, by: By, event: &'static str) -> Outcome {
    let bounds = Bounds::parse(by, args, 2, 3)?;
    let removed = context.keys.edit_existing(args.bytes(1), |zset: &mut ZsetValue| {
        let positions = bounds.positions(zset, false);
        let removed = positions.len();
        if removed > 0 {
            zset.remove_range(positions);
        }
        Edit::new(removed, removed > 0)
    })?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        notify_removal(context, event, args.bytes(1));
    }
    Ok(Reply::count(removed))
}
