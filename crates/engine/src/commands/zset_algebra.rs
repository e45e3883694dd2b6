//! Sorted sets: unions, intersections and differences, of sets too.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, MoreKeys, Outcome, ReadContext, WriteContext};
use crate::commands::zset::{elements_reply, store};
use crate::error::CommandError;
use crate::keyspace::Keyspace;
use crate::reply::Reply;
use crate::value::set::Member;
use crate::value::zset::Element;
use crate::value::{SetValue, Value, ZsetValue, number};

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::read("zdiff", -3, Keys::counted(1), zdiff).doc(
        Chapter::SortedSet,
        "6.2.0",
        "O(L + (N-K)log(N)) worst case where L is the total number of elements in all the sets, N is the size of the first set, and K is the size of the result set.",
        "Returns the difference between multiple sorted sets.",
    ),
    Command::write("zdiffstore", -4, STORE_KEYS, zdiffstore).with(Flags::DENYOOM).doc(
        Chapter::SortedSet,
        "6.2.0",
        "O(L + (N-K)log(N)) worst case where L is the total number of elements in all the sets, N is the size of the first set, and K is the size of the result set.",
        "Stores the difference of multiple sorted sets in a key.",
    ),
    Command::read("zinter", -3, Keys::counted(1), zinter).doc(
        Chapter::SortedSet,
        "6.2.0",
        "O(N*K)+O(M*log(M)) worst case with N being the smallest input sorted set, K being the number of input sorted sets and M being the number of elements in the resulting sorted set.",
        "Returns the intersect of multiple sorted sets.",
    ),
    Command::read("zintercard", -3, Keys::counted(1), zintercard).doc(
        Chapter::SortedSet,
        "7.0.0",
        "O(N*K) worst case with N being the smallest input sorted set, K being the number of input sorted sets.",
        "Returns the number of members of the intersect of multiple sorted sets.",
    ),
    Command::write("zinterstore", -4, STORE_KEYS, zinterstore).with(Flags::DENYOOM).doc(
        Chapter::SortedSet,
        "2.0.0",
        "O(N*K)+O(M*log(M)) worst case with N being the smallest input sorted set, K being the number of input sorted sets and M being the number of elements in the resulting sorted set.",
        "Stores the intersect of multiple sorted sets in a key.",
    ),
    Command::read("zunion", -3, Keys::counted(1), zunion).doc(
        Chapter::SortedSet,
        "6.2.0",
        "O(N)+O(M*log(M)) with N being the sum of the sizes of the input sorted sets, and M being the number of elements in the resulting sorted set.",
        "Returns the union of multiple sorted sets.",
    ),
    Command::write("zunionstore", -4, STORE_KEYS, zunionstore).with(Flags::DENYOOM).doc(
        Chapter::SortedSet,
        "2.0.0",
        "O(N)+O(M log(M)) with N being the sum of the sizes of the input sorted sets, and M being the number of elements in the resulting sorted set.",
        "Stores the union of multiple sorted sets in a key.",
    ),
];

/// A destination, and as many keys as the word behind it says.
const STORE_KEYS: Keys = Keys::ONE.and(MoreKeys::Counted(2));

/// What can be an operand: members with scores.
trait Scored {
    fn len(&self) -> usize;
    fn score(&self, member: &[u8]) -> Option<f64>;
    fn elements(&self) -> Box<dyn Iterator<Item = (Member<'_>, f64)> + '_>;
}

impl Scored for ZsetValue {
    fn len(&self) -> usize {
        ZsetValue::len(self)
    }

    fn score(&self, member: &[u8]) -> Option<f64> {
        ZsetValue::score(self, member)
    }

    fn elements(&self) -> Box<dyn Iterator<Item = (Member<'_>, f64)> + '_> {
        Box::new(self.iter().map(|element| (Member::Borrowed(element.member), element.score)))
    }
}

/// A set's members have the score 1.
impl Scored for SetValue {
    fn len(&self) -> usize {
        SetValue::len(self)
    }

    fn score(&self, member: &[u8]) -> Option<f64> {
        self.contains(member).then_some(1.0)
    }

    fn elements(&self) -> Box<dyn Iterator<Item = (Member<'_>, f64)> + '_> {
        Box::new(self.iter().map(|member| (member, 1.0)))
    }
}

/// `value` as an operand, if its type can be one.
fn scored(value: &Value) -> Option<&dyn Scored> {
    match value {
        Value::Set(set) => Some(&**set),
        Value::Zset(zset) => Some(&**zset),
        _ => None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Inter,
    Diff,
}

#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, a: f64, b: f64) -> f64 {
        match self {
            Aggregate::Sum => or_zero(a + b),
            Aggregate::Min => {
                if b < a {
                    b
                } else {
                    a
                }
            }
            Aggregate::Max => {
                if b > a {
                    b
                } else {
                    a
                }
            }
        }
    }
}

/// What Redis makes of the sum of both infinities, and of an infinity that weighs nothing.
fn or_zero(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// What is asked for besides the operands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// The elements.
    Reply,
    /// To store them.
    Store,
    /// Only how many.
    Count,
}

struct Operand<'a> {
    /// `None`: the key is absent.
    scored: Option<&'a dyn Scored>,
    weight: f64,
}

impl<'a> Operand<'a> {
    fn len(&self) -> usize {
        self.scored.map_or(0, Scored::len)
    }

    fn elements(&self) -> impl Iterator<Item = (Member<'a>, f64)> {
        self.scored.into_iter().flat_map(Scored::elements)
    }

    fn score(&self, member: &[u8]) -> Option<f64> {
        self.scored.and_then(|scored| scored.score(member))
    }
}

/// A union, an intersection or a difference, as a call words it.
struct Query<'a> {
    operation: Operation,
    operands: Vec<Operand<'a>>,
    aggregate: Aggregate,
    with_scores: bool,
    /// 0: no limit.
    limit: usize,
}

impl<'a> Query<'a> {
    /// Word `at` is the number of keys. `name` is the command's.
    fn parse(
        keys: &'a Keyspace,
        args: Args,
        at: usize,
        operation: Operation,
        wanted: Wanted,
        name: &str,
    ) -> Result<Query<'a>, CommandError> {
        let count = args.int(at)?;
        if count < 1 {
            return Err(CommandError::Message(format!(
                "ERR at least 1 input key is needed for '{name}' command"
            )));
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > args.len() - at - 1 {
            return Err(CommandError::Syntax);
        }
        let operands =
            args.from(at + 1)[..count].iter().map(|key| operand(keys, key)).collect::<Result<_, _>>()?;
        let mut query =
            Query { operation, operands, aggregate: Aggregate::Sum, with_scores: false, limit: 0 };
        query.parse_options(args, at + 1 + count, wanted)?;
        Ok(query)
    }

    fn parse_options(&mut self, args: Args, first: usize, wanted: Wanted) -> Result<(), CommandError> {
        let has_weights = self.operation != Operation::Diff && wanted != Wanted::Count;
        let mut i = first;
        while i < args.len() {
            let left = args.len() - i;
            if has_weights && left > self.operands.len() && args.is(i, "weights") {
                for operand in &mut self.operands {
                    i += 1;
                    let not_float = CommandError::Text("ERR weight value is not a float");
                    operand.weight = args.float(i).map_err(|_| not_float)?;
                }
            } else if has_weights && left >= 2 && args.is(i, "aggregate") {
                i += 1;
                self.aggregate = match () {
                    () if args.is(i, "sum") => Aggregate::Sum,
                    () if args.is(i, "min") => Aggregate::Min,
                    () if args.is(i, "max") => Aggregate::Max,
                    () => return Err(CommandError::Syntax),
                };
            } else if wanted == Wanted::Reply && args.is(i, "withscores") {
                self.with_scores = true;
            } else if wanted == Wanted::Count && left >= 2 && args.is(i, "limit") {
                i += 1;
                let limit = number::parse_int(args.bytes(i)).and_then(|limit| usize::try_from(limit).ok());
                self.limit = limit.ok_or(CommandError::Text("ERR LIMIT can't be negative"))?;
            } else {
                return Err(CommandError::Syntax);
            }
            i += 1;
        }
        Ok(())
    }

    /// The elements of the result, in no particular order.
    fn run(mut self) -> Vec<(Member<'a>, f64)> {
        // Sums of floating point numbers depend on their order, and Redis begins with the shortest.
        if self.operation != Operation::Diff {
            self.operands.sort_by_key(Operand::len);
        }
        match self.operation {
            Operation::Union => self.union(),
            Operation::Inter => self.inter().collect(),
            Operation::Diff => self.diff(),
        }
    }

    fn union(&self) -> Vec<(Member<'a>, f64)> {
        let mut scores: BTreeMap<Member<'a>, f64> = BTreeMap::new();
        for operand in &self.operands {
            for (member, score) in operand.elements() {
                let score = or_zero(operand.weight * score);
                scores.entry(member).and_modify(|sum| *sum = self.aggregate.of(*sum, score)).or_insert(score);
            }
        }
        scores.into_iter().collect()
    }

    fn inter(&self) -> impl Iterator<Item = (Member<'a>, f64)> {
        let (shortest, others) = self.operands.split_first().expect("there is at least one operand");
        shortest.elements().filter_map(move |(member, score)| {
            let start = or_zero(shortest.weight * score);
            let score = others.iter().try_fold(start, |score, other| {
                Some(self.aggregate.of(score, other.score(&member)? * other.weight))
            });
            Some((member, score?))
        })
    }

    fn diff(&self) -> Vec<(Member<'a>, f64)> {
        let (first, others) = self.operands.split_first().expect("there is at least one operand");
        let in_others = |member: &[u8]| others.iter().any(|other| other.score(member).is_some());
        first.elements().filter(|(member, _)| !in_others(member)).collect()
    }

    fn count(mut self) -> usize {
        self.operands.sort_by_key(Operand::len);
        let limit = if self.limit == 0 { usize::MAX } else { self.limit };
        self.inter().take(limit).count()
    }
}

fn elements<'a>(result: &'a [(Member, f64)]) -> impl Iterator<Item = Element<'a>> {
    result.iter().map(|(member, score)| Element { member, score: *score })
}

fn operand<'a>(keys: &'a Keyspace, key: &Bytes) -> Result<Operand<'a>, CommandError> {
    let scored = match keys.get(key) {
        None => None,
        Some(object) => Some(scored(&object.value).ok_or(CommandError::WrongType)?),
    };
    Ok(Operand { scored, weight: 1.0 })
}

fn zunion(context: &mut ReadContext, args: Args) -> Outcome {
    read(context, args, Operation::Union, "zunion")
}

fn zinter(context: &mut ReadContext, args: Args) -> Outcome {
    read(context, args, Operation::Inter, "zinter")
}

fn zdiff(context: &mut ReadContext, args: Args) -> Outcome {
    read(context, args, Operation::Diff, "zdiff")
}

fn read(context: &ReadContext, args: Args, operation: Operation, name: &str) -> Outcome {
    let query = Query::parse(context.keys, args, 1, operation, Wanted::Reply, name)?;
    let with_scores = query.with_scores;
    let result = query.run();
    let mut elements: Vec<Element> = elements(&result).collect();
    elements.sort_unstable_by(Element::order);
    Ok(elements_reply(elements.into_iter(), with_scores))
}

fn zunionstore(context: &mut WriteContext, args: Args) -> Outcome {
    run_and_store(context, args, Operation::Union, "zunionstore")
}

fn zinterstore(context: &mut WriteContext, args: Args) -> Outcome {
    run_and_store(context, args, Operation::Inter, "zinterstore")
}

fn zdiffstore(context: &mut WriteContext, args: Args) -> Outcome {
    run_and_store(context, args, Operation::Diff, "zdiffstore")
}

fn run_and_store(
    context: &mut WriteContext,
    args: Args,
    operation: Operation,
    name: &'static str,
) -> Outcome {
    let query = Query::parse(context.keys, args, 2, operation, Wanted::Store, name)?;
    let result = ZsetValue::of(elements(&query.run()).collect(), context.keys.bounds());
    store(context, args.bytes(1), result, name)
}

fn zintercard(context: &mut ReadContext, args: Args) -> Outcome {
    let query = Query::parse(context.keys, args, 1, Operation::Inter, Wanted::Count, "zintercard")?;
    Ok(Reply::count(query.count()))
}
