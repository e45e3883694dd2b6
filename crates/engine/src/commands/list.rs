//! Lists, one at a time. `list_move` has the commands that pop from one of several lists or move between two.

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, Outcome, ReadContext, WriteContext};
use crate::error::CommandError;
use crate::events::EventClass;
use crate::keyspace::{Edit, Keyspace};
use crate::reply::Reply;
use crate::value::ListValue;
use crate::value::list::Side;

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::read("lindex", 3, Keys::ONE, lindex).doc(
        Chapter::List,
        "1.0.0",
        "O(N) where N is the number of elements to traverse to get to the element at index. This makes asking for the first or the last element of the list O(1).",
        "Returns an element from a list by its index.",
    ),
    Command::write("linsert", 5, Keys::ONE, linsert).with(Flags::DENYOOM).doc(
        Chapter::List,
        "2.2.0",
        "O(N) where N is the number of elements to traverse before seeing the value pivot. This means that inserting somewhere on the left end on the list (head) can be considered O(1) and inserting somewhere on the right end (tail) is O(N).",
        "Inserts an element before or after another element in a list.",
    ),
    Command::read("llen", 2, Keys::ONE, llen).with(Flags::FAST).doc(
        Chapter::List,
        "1.0.0",
        "O(1)",
        "Returns the length of a list.",
    ),
    Command::write("lpop", -2, Keys::ONE, lpop).with(Flags::FAST).doc(
        Chapter::List,
        "1.0.0",
        "O(N) where N is the number of elements returned",
        "Returns and removes one or more elements from the beginning of a list. Deletes the list if the last element was popped.",
    ),
    Command::read("lpos", -3, Keys::ONE, lpos).doc(
        Chapter::List,
        "6.0.6",
        "O(N) where N is the number of elements in the list, for the average case. When searching for elements near the head or the tail of the list, or when the MAXLEN option is provided, the command may run in constant time.",
        "Returns the index of matching elements in a list.",
    ),
    Command::write("lpush", -3, Keys::ONE, lpush).with(Flags::DENYOOM.union(Flags::FAST)).doc(
        Chapter::List,
        "1.0.0",
        "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.",
        "Prepends one or more elements to a list. Creates the key if it doesn't exist.",
    ),
    Command::write("lpushx", -3, Keys::ONE, lpushx).with(Flags::DENYOOM.union(Flags::FAST)).doc(
        Chapter::List,
        "2.2.0",
        "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.",
        "Prepends one or more elements to a list only when the list exists.",
    ),
    Command::read("lrange", 4, Keys::ONE, lrange).doc(
        Chapter::List,
        "1.0.0",
        "O(S+N) where S is the distance of start offset from HEAD for small lists, from nearest end (HEAD or TAIL) for large lists; and N is the number of elements in the specified range.",
        "Returns a range of elements from a list.",
    ),
    Command::write("lrem", 4, Keys::ONE, lrem).doc(
        Chapter::List,
        "1.0.0",
        "O(N+M) where N is the length of the list and M is the number of elements removed.",
        "Removes elements from a list. Deletes the list if the last element was removed.",
    ),
    Command::write("lset", 4, Keys::ONE, lset).with(Flags::DENYOOM).doc(
        Chapter::List,
        "1.0.0",
        "O(N) where N is the length of the list. Setting either the first or the last element of the list is O(1).",
        "Sets the value of an element in a list by its index.",
    ),
    Command::write("ltrim", 4, Keys::ONE, ltrim).doc(
        Chapter::List,
        "1.0.0",
        "O(N) where N is the number of elements to be removed by the operation.",
        "Removes elements from both ends a list. Deletes the list if all elements were trimmed.",
    ),
    Command::write("rpop", -2, Keys::ONE, rpop).with(Flags::FAST).doc(
        Chapter::List,
        "1.0.0",
        "O(N) where N is the number of elements returned",
        "Returns and removes one or more elements from the end of a list. Deletes the list if the last element was popped.",
    ),
    Command::write("rpush", -3, Keys::ONE, rpush).with(Flags::DENYOOM.union(Flags::FAST)).doc(
        Chapter::List,
        "1.0.0",
        "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.",
        "Appends one or more elements to a list. Creates the key if it doesn't exist.",
    ),
    Command::write("rpushx", -3, Keys::ONE, rpushx).with(Flags::DENYOOM.union(Flags::FAST)).doc(
        Chapter::List,
        "2.2.0",
        "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.",
        "Appends one or more elements to a list only when the list exists.",
    ),
];

fn lpush(context: &mut WriteContext, args: Args) -> Outcome {
    push(context, args, Side::Left)
}

fn rpush(context: &mut WriteContext, args: Args) -> Outcome {
    push(context, args, Side::Right)
}

fn push(context: &mut WriteContext, args: Args, side: Side) -> Outcome {
    let key = args.bytes(1);
    let len = context.keys.edit(key, |list: &mut ListValue| {
        args.from(2).iter().for_each(|element| list.push(side, element));
        Edit::changed(list.len())
    })?;
    context.keys.notify(EventClass::LIST, pushed_event(side), key);
    Ok(Reply::count(len))
}

fn lpushx(context: &mut WriteContext, args: Args) -> Outcome {
    push_existing(context, args, Side::Left)
}

fn rpushx(context: &mut WriteContext, args: Args) -> Outcome {
    push_existing(context, args, Side::Right)
}

fn push_existing(context: &mut WriteContext, args: Args, side: Side) -> Outcome {
    match context.keys.collection::<ListValue>(args.bytes(1))? {
        Some(_) => push(context, args, side),
        None => Ok(Reply::Int(0)),
    }
}

/// What Redis calls a push at `side`.
pub(super) fn pushed_event(side: Side) -> &'static str {
    match side {
        Side::Left => "lpush",
        Side::Right => "rpush",
    }
}

/// What Redis calls a pop at `side`.
pub(super) fn popped_event(side: Side) -> &'static str {
    match side {
        Side::Left => "lpop",
        Side::Right => "rpop",
    }
}

/// Notes `event`, after which the list at `key` may be gone.
pub(super) fn notify_removal(keys: &mut Keyspace, event: &'static str, key: &[u8]) {
    keys.notify(EventClass::LIST, event, key);
    if !keys.contains(key) {
        keys.notify(EventClass::GENERIC, "del", key);
    }
}

fn lpop(context: &mut WriteContext, args: Args) -> Outcome {
    pop_one_or_count(context, args, Side::Left, "lpop")
}

fn rpop(context: &mut WriteContext, args: Args) -> Outcome {
    pop_one_or_count(context, args, Side::Right, "rpop")
}

fn pop_one_or_count(context: &mut WriteContext, args: Args, side: Side, name: &str) -> Outcome {
    let key = args.bytes(1);
    match args.len() {
        2 => {
            let popped = pop(context.keys, key, side, 1)?;
            Ok(popped.and_then(|mut elements| elements.pop()).unwrap_or(Reply::Null))
        }
        3 => {
            let count = args.count(2).ok_or(CommandError::NotPositive)?;
            Ok(pop(context.keys, key, side, count)?.map_or(Reply::NullArray, Reply::Array))
        }
        _ => Err(CommandError::WrongArity(name.to_string())),
    }
}

/// Pops up to `count` elements off the list at `key`, the one at the end first; `None` if the key is absent.
pub(super) fn pop(
    keys: &mut Keyspace,
    key: &[u8],
    side: Side,
    count: usize,
) -> Result<Option<Vec<Reply>>, CommandError> {
    let popped = keys.edit_existing(key, |list: &mut ListValue| {
        let range = list.end(side, count);
        let elements: Vec<Reply> = match side {
            Side::Left => list.range(range.clone()).map(Reply::bulk).collect(),
            Side::Right => list.range_rev(range.clone()).map(Reply::bulk).collect(),
        };
        list.remove(range.clone());
        Edit::new(elements, !range.is_empty())
    })?;
    if popped.as_ref().is_some_and(|elements| !elements.is_empty()) {
        notify_removal(keys, popped_event(side), key);
    }
    Ok(popped)
}

/// Where word `i`'s index points in a list of `len` elements: from the end if it is negative.
fn index(args: Args, i: usize, len: usize) -> Result<Option<usize>, CommandError> {
    let index = args.int(i)?;
    let index = if index < 0 { index + len as i64 } else { index };
    Ok(usize::try_from(index).ok().filter(|&index| index < len))
}

/// The indexes that `start` and `end` (inclusive, from the end if negative) enclose in a list of `len` elements.
fn clip(start: i64, end: i64, len: usize) -> std::ops::Range<usize> {
    let from_end = |index: i64| if index < 0 { index + len as i64 } else { index };
    let start = from_end(start).max(0) as usize;
    let end = usize::try_from(from_end(end).saturating_add(1)).unwrap_or(0).min(len);
    start.min(end)..end
}

fn llen(context: &mut ReadContext, args: Args) -> Outcome {
    let list = context.keys.collection::<ListValue>(args.bytes(1))?;
    Ok(Reply::count(list.map_or(0, ListValue::len)))
}

fn lindex(context: &mut ReadContext, args: Args) -> Outcome {
    let Some(list) = context.keys.collection::<ListValue>(args.bytes(1))? else { return Ok(Reply::Null) };
    let index = index(args, 2, list.len())?;
    Ok(index.and_then(|index| list.get(index)).map_or(Reply::Null, Reply::bulk))
}

fn lrange(context: &mut ReadContext, args: Args) -> Outcome {
    let (start, end) = (args.int(2)?, args.int(3)?);
    let list = context.keys.collection::<ListValue>(args.bytes(1))?;
    let elements = list.map(|list| list.range(clip(start, end, list.len())).map(Reply::bulk).collect());
    Ok(Reply::Array(elements.unwrap_or_default()))
}

fn lset(context: &mut WriteContext, args: Args) -> Outcome {
    let key = args.bytes(1);
    let Some(list) = context.keys.collection::<ListValue>(key)? else {
        return Err(CommandError::NoSuchKey);
    };
    let index = index(args, 2, list.len())?.ok_or(CommandError::IndexOutOfRange)?;
    context.keys.edit(key, |list: &mut ListValue| Edit::changed(list.replace(index, args.bytes(3))))?;
    context.keys.notify(EventClass::LIST, "lset", key);
    Ok(Reply::OK)
}

fn linsert(context: &mut WriteContext, args: Args) -> Outcome {
    let after = args.is(2, "after");
    if !after && !args.is(2, "before") {
        return Err(CommandError::Syntax);
    }
    let (key, pivot) = (args.bytes(1), args.bytes(3));
    let Some(list) = context.keys.collection::<ListValue>(key)? else { return Ok(Reply::Int(0)) };
    let Some(index) = list.iter().position(|element| element == pivot) else { return Ok(Reply::Int(-1)) };
    let len = context.keys.edit(key, |list: &mut ListValue| {
        list.insert(index + usize::from(after), args.bytes(4));
        Edit::changed(list.len())
    })?;
    context.keys.notify(EventClass::LIST, "linsert", key);
    Ok(Reply::count(len))
}

fn ltrim(context: &mut WriteContext, args: Args) -> Outcome {
    let (start, end) = (args.int(2)?, args.int(3)?);
    let key = args.bytes(1);
    let there = context.keys.edit_existing(key, |list: &mut ListValue| {
        let len = list.len();
        let kept = clip(start, end, len);
        list.remove(kept.end..len);
        list.remove(0..kept.start);
        Edit::new((), kept.len() < len)
    })?;
    // Redis tells of it even if there was nothing to trim.
    if there.is_some() {
        notify_removal(context.keys, "ltrim", key);
    }
    Ok(Reply::OK)
}

fn lrem(context: &mut WriteContext, args: Args) -> Outcome {
    let count = args.int(2)?;
    let (key, element) = (args.bytes(1), args.bytes(3));
    let Some(list) = context.keys.collection::<ListValue>(key)? else { return Ok(Reply::Int(0)) };
    let limit =
        if count == 0 { usize::MAX } else { usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX) };
    let len = list.len();
    // Highest index first, so that a removal moves none that is yet to come.
    let mut found: Vec<usize> = if count < 0 {
        let matching = list.range_rev(0..len).enumerate().filter(|(_, held)| held == element);
        matching.map(|(i, _)| len - 1 - i).take(limit).collect()
    } else {
        list.iter().enumerate().filter(|(_, held)| held == element).map(|(i, _)| i).take(limit).collect()
    };
    if count >= 0 {
        found.reverse();
    }
    if found.is_empty() {
        return Ok(Reply::Int(0));
    }
    context.keys.edit(key, |list: &mut ListValue| {
        found.iter().for_each(|&index| list.remove(index..index + 1));
        Edit::changed(())
    })?;
    notify_removal(context.keys, "lrem", key);
    Ok(Reply::count(found.len()))
}

/// LPOS's options.
struct Search {
    /// Which match comes first, from 1.
    rank: u64,
    from_end: bool,
    /// How many matches are wanted, if an array of them is.
    count: Option<usize>,
    /// How many elements to look at.
    max_len: usize,
}

impl Search {
    fn parse(args: Args) -> Result<Search, CommandError> {
        let unbounded = |n: usize| if n == 0 { usize::MAX } else { n };
        let mut search = Search { rank: 1, from_end: false, count: None, max_len: usize::MAX };
        for i in (3..args.len()).step_by(2) {
            if i + 1 == args.len() {
                return Err(CommandError::Syntax);
            } else if args.is(i, "rank") {
                let rank = args.int(i + 1)?;
                if rank == 0 {
                    return Err(CommandError::Text(
                        "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or \
                         use negative to start from the end of the list",
                    ));
                }
                (search.rank, search.from_end) = (rank.unsigned_abs(), rank < 0);
            } else if args.is(i, "count") {
                let count = args.count(i + 1).ok_or(CommandError::Text("ERR COUNT can't be negative"))?;
                search.count = Some(unbounded(count));
            } else if args.is(i, "maxlen") {
                let max = args.count(i + 1).ok_or(CommandError::Text("ERR MAXLEN can't be negative"))?;
                search.max_len = unbounded(max);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(search)
    }

    /// The indexes of the elements that are `element`.
    fn run(&self, list: &ListValue, element: &[u8]) -> Vec<Reply> {
        let len = list.len();
        let walk = if self.from_end { list.range_rev(0..len) } else { list.range(0..len) };
        let matching = walk.take(self.max_len).enumerate().filter(|(_, held)| *held == element);
        let skipped = usize::try_from(self.rank - 1).unwrap_or(usize::MAX);
        let place = |i: usize| if self.from_end { len - 1 - i } else { i };
        let wanted = self.count.unwrap_or(1);
        matching.skip(skipped).take(wanted).map(|(i, _)| Reply::count(place(i))).collect()
    }
}

fn lpos(context: &mut ReadContext, args: Args) -> Outcome {
    let search = Search::parse(args)?;
    let list = context.keys.collection::<ListValue>(args.bytes(1))?;
    let mut found = list.map(|list| search.run(list, args.bytes(2))).unwrap_or_default();
    Ok(match search.count {
        Some(_) => Reply::Array(found),
        None => found.pop().unwrap_or(Reply::Null),
    })
}
