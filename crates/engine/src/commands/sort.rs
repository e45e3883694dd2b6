//! SORT, over lists, sets and sorted sets.
//!
//! A cluster's node may hold none of the keys that BY and GET form, so Redis 7.0 refuses such patterns in cluster mode.
//! quoris serves those that can only form keys of the sorted key's own slot, because their hash tag comes before the `*`
//! (as Redis does from 7.4 on), and refuses the others with Redis 7.0's words.

use std::cmp::Ordering;
use std::ops::Range;

use bytes::Bytes;

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, MoreKeys, Outcome, ReadContext, WriteContext};
use crate::error::CommandError;
use crate::events::EventClass;
use crate::hash_slot::slot_of;
use crate::keyspace::Keyspace;
use crate::reply::Reply;
use crate::slot::NEVER;
use crate::value::{Collection, ListValue, Value, number};

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::write("sort", -2, Keys::ONE.and(MoreKeys::Found(destination)), sort).with(Flags::DENYOOM).doc(
        Chapter::Generic,
        "1.0.0",
        "O(N+M*log(M)) where N is the number of elements in the list or set to sort, and M the number of returned elements. When the elements are not sorted, complexity is O(N).",
        "Sorts the elements in a list, a set, or a sorted set, optionally storing the result.",
    ),
    // BY and GET may name keys of their own, which only the values tell.
    Command::read("sort_ro", -2, Keys::ONE.and(MoreKeys::Found(|_| Vec::new())), sort_ro).doc(
        Chapter::Generic,
        "7.0.0",
        "O(N+M*log(M)) where N is the number of elements in the list or set to sort, and M the number of returned elements. When the elements are not sorted, complexity is O(N).",
        "Returns the sorted elements of a list, a set, or a sorted set.",
    ),
];

/// The word that is STORE's key: the last one's, if there are several.
fn destination(words: &[Bytes]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut i = 2;
    while let Some(word) = words.get(i) {
        let is = |option: &str| word.eq_ignore_ascii_case(option.as_bytes());
        if is("limit") {
            i += 2;
        } else if is("by") || is("get") {
            i += 1;
        } else if is("store") && i + 1 < words.len() {
            i += 1;
            found = vec![i];
        }
        i += 1;
    }
    found
}

/// What SORT is asked to do.
#[derive(Default)]
struct Sort<'a> {
    /// Sorts by what this pattern names instead of the elements.
    by: Option<&'a [u8]>,
    /// Leaves the elements in the order they have.
    unsorted: bool,
    descending: bool,
    /// As text, not as numbers.
    alpha: bool,
    offset: i64,
    /// Negative: all.
    count: Option<i64>,
    /// What to answer for each element, if not the element.
    get: Vec<&'a [u8]>,
    store: Option<&'a Bytes>,
}

impl<'a> Sort<'a> {
    fn parse(args: Args<'a>, may_store: bool) -> Result<Sort<'a>, CommandError> {
        let mut sort = Sort::default();
        let mut i = 2;
        while i < args.len() {
            let left = args.len() - i - 1;
            i += match () {
                () if args.is(i, "asc") => {
                    sort.descending = false;
                    1
                }
                () if args.is(i, "desc") => {
                    sort.descending = true;
                    1
                }
                () if args.is(i, "alpha") => {
                    sort.alpha = true;
                    1
                }
                () if args.is(i, "limit") && left >= 2 => {
                    (sort.offset, sort.count) = (args.int(i + 1)?, Some(args.int(i + 2)?));
                    3
                }
                () if args.is(i, "store") && left >= 1 && may_store => {
                    sort.store = Some(args.bytes(i + 1));
                    2
                }
                () if args.is(i, "by") && left >= 1 => {
                    sort.set_by(args.bytes(1), args.bytes(i + 1))?;
                    2
                }
                () if args.is(i, "get") && left >= 1 => {
                    let pattern = args.bytes(i + 1);
                    if !forms_keys_of_slot(pattern, args.bytes(1)) {
                        return Err(CommandError::Text("ERR GET option of SORT denied in Cluster mode."));
                    }
                    sort.get.push(pattern);
                    2
                }
                () => return Err(CommandError::Syntax),
            };
        }
        Ok(sort)
    }

    fn set_by(&mut self, key: &[u8], pattern: &'a [u8]) -> Result<(), CommandError> {
        if !forms_keys_of_slot(pattern, key) {
            return Err(CommandError::Text("ERR BY option of SORT denied in Cluster mode."));
        }
        self.by = Some(pattern);
        // A pattern that names the same thing for every element orders none.
        self.unsorted |= !pattern.contains(&b'*');
        Ok(())
    }

    /// What is answered or stored: for each element it itself, or what each GET names.
    fn run(&self, keys: &Keyspace, key: &[u8], in_script: bool) -> Result<Vec<Option<Bytes>>, CommandError> {
        let held = elements(keys, key)?;
        let (mut elements, ordered) = (held.elements, held.ordered);
        let range = self.range(elements.len());
        // The order of a set is nobody's business: what is stored, or a script sees, is sorted all the same.
        let by_text = self.unsorted && !ordered && (self.store.is_some() || in_script);
        if by_text {
            elements.sort_by(|a, b| self.directed(self.text_order(Some(a), Some(b))));
        } else if !self.unsorted {
            elements = self.sorted(keys, elements)?;
        } else if ordered && self.descending {
            elements.reverse();
        }
        let answer = |element: &Bytes| match &self.get[..] {
            [] => vec![Some(element.clone())],
            patterns => patterns.iter().map(|pattern| lookup(keys, pattern, element)).collect(),
        };
        Ok(elements[range].iter().flat_map(answer).collect())
    }

    fn range(&self, len: usize) -> Range<usize> {
        let start = usize::try_from(self.offset.max(0)).unwrap_or(usize::MAX).min(len);
        let count = self.count.and_then(|count| usize::try_from(count).ok()).unwrap_or(len);
        start..start.saturating_add(count).min(len)
    }

    fn sorted(&self, keys: &Keyspace, elements: Vec<Bytes>) -> Result<Vec<Bytes>, CommandError> {
        let weight = |element: &Bytes| match self.by {
            Some(pattern) => lookup(keys, pattern, element),
            None => Some(element.clone()),
        };
        let weighed = elements.into_iter().map(|element| (weight(&element), element));
        if self.alpha {
            let mut weighed: Vec<(Option<Bytes>, Bytes)> = weighed.collect();
            weighed.sort_by(|(a, _), (b, _)| self.directed(self.text_order(a.as_deref(), b.as_deref())));
            return Ok(weighed.into_iter().map(|(_, element)| element).collect());
        }
        let mut scored = Vec::new();
        for (weight, element) in weighed {
            let score = weight.map_or(Some(0.0), |text| score(&text));
            scored.push((score.ok_or(NO_SCORE)?, element));
        }
        let order = |(a, x): &(f64, Bytes), (b, y): &(f64, Bytes)| {
            a.partial_cmp(b).unwrap_or(Ordering::Equal).then(x.cmp(y))
        };
        scored.sort_by(|a, b| self.directed(order(a, b)));
        Ok(scored.into_iter().map(|(_, element)| element).collect())
    }

    /// How texts are ordered: those that are shown end at a NUL byte, as C's do; what is equal up to there keeps its order.
    fn text_order(&self, a: Option<&[u8]>, b: Option<&[u8]>) -> Ordering {
        match self.store {
            Some(_) => a.cmp(&b),
            None => a.map(until_nul).cmp(&b.map(until_nul)),
        }
    }

    fn directed(&self, order: Ordering) -> Ordering {
        if self.descending { order.reverse() } else { order }
    }
}

fn until_nul(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|&byte| byte == 0);
    &text[..end.unwrap_or(text.len())]
}

const NO_SCORE: CommandError = CommandError::Text("ERR One or more scores can't be converted into double");

/// As `strtod` reads it, but for what is out of its range.
fn score(text: &[u8]) -> Option<f64> {
    number::parse_bound(text)
        .filter(|score| score.is_finite() || number::parse_float(text.trim_ascii_start()).is_some())
}

/// The elements of a collection, and whether their order means something.
struct Held {
    elements: Vec<Bytes>,
    ordered: bool,
}

fn elements(keys: &Keyspace, key: &[u8]) -> Result<Held, CommandError> {
    let (elements, ordered) = match keys.get(key).map(|object| &object.value) {
        None => (Vec::new(), true),
        Some(Value::List(list)) => (list.iter().map(Bytes::copy_from_slice).collect(), true),
        Some(Value::Set(set)) => (set.iter().map(|member| Bytes::copy_from_slice(&member)).collect(), false),
        Some(Value::Zset(zset)) => {
            (zset.iter().map(|element| Bytes::copy_from_slice(element.member)).collect(), true)
        }
        Some(_) => return Err(CommandError::WrongType),
    };
    Ok(Held { elements, ordered })
}

/// The `#` that stands for the element itself.
const ITSELF: &[u8] = b"#";

/// Whether every key that `pattern` can form is in `key`'s slot: its hash tag is complete before the `*`.
fn forms_keys_of_slot(pattern: &[u8], key: &[u8]) -> bool {
    let Some(star) = pattern.iter().position(|&b| b == b'*') else { return true };
    let before = &pattern[..star];
    let Some(open) = before.iter().position(|&b| b == b'{') else { return false };
    let close = before[open + 1..].iter().position(|&b| b == b'}');
    close.is_some_and(|len| len > 0) && slot_of(before) == slot_of(key)
}

/// What `pattern` names for `element`: the string at the key that it forms, or a field of the hash there
/// (`key->field`). Nothing without a `*`.
fn lookup(keys: &Keyspace, pattern: &[u8], element: &Bytes) -> Option<Bytes> {
    if pattern == ITSELF {
        return Some(element.clone());
    }
    let star = pattern.iter().position(|&b| b == b'*')?;
    let (before, after) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = after.windows(2).position(|two| two == b"->").filter(|at| at + 2 < after.len());
    let (after, field) = match arrow {
        Some(at) => (&after[..at], Some(&after[at + 2..])),
        None => (after, None),
    };
    let key = [before, element, after].concat();
    match (&keys.get(&key)?.value, field) {
        (Value::String(string), None) => Some(string.to_bytes()),
        (Value::Hash(hash), Some(field)) => {
            hash.get(field, keys.now_ms()).map(|field| Bytes::copy_from_slice(field.value))
        }
        _ => None,
    }
}

fn sort(context: &mut WriteContext, args: Args) -> Outcome {
    let sort = Sort::parse(args, true)?;
    let result = sort.run(context.keys, args.bytes(1), context.in_script)?;
    let Some(destination) = sort.store else { return Ok(shown(result)) };
    let len = result.len();
    if len > 0 {
        let list: ListValue = result.into_iter().map(Option::unwrap_or_default).collect();
        context.keys.set(destination, list.into_value(), NEVER);
        context.keys.notify(EventClass::LIST, "sortstore", destination);
    } else if context.keys.discard(destination) {
        context.keys.notify(EventClass::GENERIC, "del", destination);
    }
    Ok(Reply::count(len))
}

fn sort_ro(context: &mut ReadContext, args: Args) -> Outcome {
    Ok(shown(Sort::parse(args, false)?.run(context.keys, args.bytes(1), context.in_script)?))
}

fn shown(result: Vec<Option<Bytes>>) -> Reply {
    Reply::Array(result.into_iter().map(|value| value.map_or(Reply::Null, Reply::Bulk)).collect())
}
