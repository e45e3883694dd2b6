//! Sorted sets: taking the lowest or the highest elements away, at once or as soon as there are any.

use bytes::Bytes;

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, Outcome, WriteContext};
use crate::commands::zset::notify_removal;
use crate::error::CommandError;
use crate::keyspace::Edit;
use crate::reply::Reply;
use crate::value::{ZsetValue, number};
use crate::waiters::Block;

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::write("bzmpop", -5, Keys::counted(2), bzmpop).with(Flags::BLOCKING).doc(
        Chapter::SortedSet,
        "7.0.0",
        "O(K) + O(M*log(N)) where K is the number of provided keys, N being the number of elements in the sorted set, and M being the number of elements popped.",
        "Removes and returns a member by score from one or more sorted sets. Blocks until a member is available otherwise. Deletes the sorted set if the last element was popped.",
    ),
    Command::write("bzpopmax", -3, Keys::range(1, -2, 1), bzpopmax)
        .with(Flags::BLOCKING.union(Flags::FAST).union(Flags::NOSCRIPT))
        .doc(
            Chapter::SortedSet,
            "5.0.0",
            "O(log(N)) with N being the number of elements in the sorted set.",
            "Removes and returns the member with the highest score from one or more sorted sets. Blocks until a member available otherwise. Deletes the sorted set if the last element was popped.",
        ),
    Command::write("bzpopmin", -3, Keys::range(1, -2, 1), bzpopmin)
        .with(Flags::BLOCKING.union(Flags::FAST).union(Flags::NOSCRIPT))
        .doc(
            Chapter::SortedSet,
            "5.0.0",
            "O(log(N)) with N being the number of elements in the sorted set.",
            "Removes and returns the member with the lowest score from one or more sorted sets. Blocks until a member is available otherwise. Deletes the sorted set if the last element was popped.",
        ),
    Command::write("zmpop", -4, Keys::counted(1), zmpop).doc(
        Chapter::SortedSet,
        "7.0.0",
        "O(K) + O(M*log(N)) where K is the number of provided keys, N being the number of elements in the sorted set, and M being the number of elements popped.",
        "Returns the highest- or lowest-scoring members from one or more sorted sets after removing them. Deletes the sorted set if the last member was popped.",
    ),
    Command::write("zpopmax", -2, Keys::ONE, zpopmax).with(Flags::FAST).doc(
        Chapter::SortedSet,
        "5.0.0",
        "O(log(N)*M) with N being the number of elements in the sorted set, and M being the number of elements popped.",
        "Returns the highest-scoring members from a sorted set after removing them. Deletes the sorted set if the last member was popped.",
    ),
    Command::write("zpopmin", -2, Keys::ONE, zpopmin).with(Flags::FAST).doc(
        Chapter::SortedSet,
        "5.0.0",
        "O(log(N)*M) with N being the number of elements in the sorted set, and M being the number of elements popped.",
        "Returns the lowest-scoring members from a sorted set after removing them. Deletes the sorted set if the last member was popped.",
    ),
];

/// Which end of a sorted set.
#[derive(Clone, Copy)]
enum End {
    Min,
    Max,
}

/// A member and its score, taken out.
type Popped = (Reply, Reply);

fn zpopmin(context: &mut WriteContext, args: Args) -> Outcome {
    pop_one_key(context, args, End::Min)
}

fn zpopmax(context: &mut WriteContext, args: Args) -> Outcome {
    pop_one_key(context, args, End::Max)
}

fn pop_one_key(context: &mut WriteContext, args: Args, end: End) -> Outcome {
    if args.len() > 3 {
        return Err(CommandError::Syntax);
    }
    let count = match args.len() {
        2 => None,
        _ => Some(count(args, 2, 0, "ERR value is out of range, must be positive")?),
    };
    let popped = pop(context, args.bytes(1), end, count.unwrap_or(1))?.unwrap_or_default();
    Ok(match count {
        None => Reply::Array(popped.into_iter().flat_map(<[Reply; 2]>::from).collect()),
        Some(_) => Reply::Pairs(popped),
    })
}

/// Word `i` as a count of at least `least`; `error` whatever is wrong with it.
fn count(args: Args, i: usize, least: i64, error: &'static str) -> Result<usize, CommandError> {
    let count = args.0.get(i).and_then(|word| number::parse_int(word)).filter(|&count| count >= least);
    count.map(|count| usize::try_from(count).unwrap_or(usize::MAX)).ok_or(CommandError::Text(error))
}

/// Takes up to `count` elements from an end of `key`, the outermost first; `None` if the key is absent.
fn pop(
    context: &mut WriteContext,
    key: &[u8],
    end: End,
    count: usize,
) -> Result<Option<Vec<Popped>>, CommandError> {
    let popped = context.keys.edit_existing(key, |zset: &mut ZsetValue| {
        let len = zset.len();
        let count = count.min(len);
        let positions = match end {
            End::Min => 0..count,
            End::Max => len - count..len,
        };
        let elements = zset.range(positions.clone());
        let mut popped: Vec<Popped> =
            elements.map(|element| (Reply::bulk(element.member), Reply::Double(element.score))).collect();
        if let End::Max = end {
            popped.reverse();
        }
        zset.remove_range(positions);
        Edit::new(popped, count > 0)
    })?;
    if popped.as_ref().is_some_and(|popped| !popped.is_empty()) {
        let event = match end {
            End::Min => "zpopmin",
            End::Max => "zpopmax",
        };
        notify_removal(context, event, key);
    }
    Ok(popped)
}

/// What ZMPOP and BZMPOP are told behind their number of keys.
struct ManyKeys<'a> {
    keys: &'a [Bytes],
    end: End,
    count: usize,
}

impl<'a> ManyKeys<'a> {
    /// Word `at` is the number of keys.
    fn parse(args: Args<'a>, at: usize) -> Result<ManyKeys<'a>, CommandError> {
        let key_count = count(args, at, 1, "ERR numkeys should be greater than 0")?;
        let end_at = (at + 1).saturating_add(key_count);
        let end = match () {
            () if args.is(end_at, "min") => End::Min,
            () if args.is(end_at, "max") => End::Max,
            () => return Err(CommandError::Syntax),
        };
        let count = match args.len() - end_at {
            1 => 1,
            // A number that is none is told of before a word too many.
            3.. if args.is(end_at + 1, "count") => {
                let count = count(args, end_at + 2, 1, "ERR count should be greater than 0")?;
                if args.len() == end_at + 3 { count } else { return Err(CommandError::Syntax) }
            }
            _ => return Err(CommandError::Syntax),
        };
        Ok(ManyKeys { keys: &args.from(at + 1)[..key_count], end, count })
    }

    /// The answer from the first key that is there.
    fn pop(&self, context: &mut WriteContext) -> Result<Option<Reply>, CommandError> {
        for key in self.keys {
            if let Some(popped) = pop(context, key, self.end, self.count)? {
                let elements =
                    popped.into_iter().map(|element| Reply::Array(<[Reply; 2]>::from(element).into()));
                return Ok(Some(Reply::Array(vec![Reply::bulk(key), Reply::Array(elements.collect())])));
            }
        }
        Ok(None)
    }
}

fn zmpop(context: &mut WriteContext, args: Args) -> Outcome {
    let many = ManyKeys::parse(args, 1)?;
    Ok(many.pop(context)?.unwrap_or(Reply::NullArray))
}

fn bzmpop(context: &mut WriteContext, args: Args) -> Outcome {
    let many = ManyKeys::parse(args, 2)?;
    let timeout_ms = args.timeout_ms(1)?;
    match many.pop(context)? {
        Some(reply) => Ok(reply),
        None => Ok(block(context, many.keys, args, timeout_ms)),
    }
}

fn bzpopmin(context: &mut WriteContext, args: Args) -> Outcome {
    pop_or_block(context, args, End::Min)
}

fn bzpopmax(context: &mut WriteContext, args: Args) -> Outcome {
    pop_or_block(context, args, End::Max)
}

fn pop_or_block(context: &mut WriteContext, args: Args, end: End) -> Outcome {
    let last = args.len() - 1;
    let timeout_ms = args.timeout_ms(last)?;
    let keys = &args.0[1..last];
    for key in keys {
        if let Some((member, score)) = pop(context, key, end, 1)?.and_then(|mut popped| popped.pop()) {
            return Ok(Reply::Array(vec![Reply::bulk(key), member, score]));
        }
    }
    Ok(block(context, keys, args, timeout_ms))
}

fn block(context: &WriteContext, keys: &[Bytes], args: Args, timeout_ms: Option<u64>) -> Reply {
    if !context.may_block {
        return Reply::NullArray;
    }
    let (keys, call) = (keys.to_vec(), args.0.to_vec());
    Reply::Block(Box::new(Block { keys, call, timeout_ms, wants_absence: false }))
}
