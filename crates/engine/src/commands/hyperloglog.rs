//! HyperLogLogs. They are strings ([`crate::value::hyperloglog`]), and are told from others by their first bytes.
//!
//! PFCOUNT only reads: it answers the count that a value carries if that is up to date, and else counts, which is
//! cheaper than an entry that would keep the count. So counts are kept only by values that came from Redis.

use bytes::Bytes;

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, Outcome, ReadContext, WriteContext};
use crate::commands::string::{edit, store};
use crate::error::CommandError;
use crate::events::EventClass;
use crate::keyspace::Keyspace;
use crate::reply::Reply;
use crate::slot::NEVER;
use crate::value::StringValue;
use crate::value::hyperloglog::{self, Encoding, Hll, Invalid, Mark, REGISTERS, Run};

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::write("pfadd", -2, Keys::ONE, pfadd).with(Flags::DENYOOM).with(Flags::FAST).doc(
        Chapter::Hyperloglog,
        "2.8.9",
        "O(1) to add every element.",
        "Adds elements to a HyperLogLog key. Creates the key if it doesn't exist.",
    ),
    Command::read("pfcount", -2, Keys::ALL, pfcount).doc(
        Chapter::Hyperloglog,
        "2.8.9",
        "O(1) with a very small average constant time when called with a single key. O(N) with N being the number of \
         keys, and much bigger constant times, when called with multiple keys.",
        "Returns the approximated cardinality of the set(s) observed by the HyperLogLog key(s).",
    ),
    Command::write("pfdebug", 3, Keys::AFTER_SUBCOMMAND, pfdebug)
        .with(Flags::DENYOOM)
        .with(Flags::ADMIN)
        .doc(Chapter::Hyperloglog, "2.8.9", "N/A", "Internal commands for debugging HyperLogLog values."),
    Command::write("pfmerge", -2, Keys::ALL, pfmerge).with(Flags::DENYOOM).doc(
        Chapter::Hyperloglog,
        "2.8.9",
        "O(N) to merge N HyperLogLogs, but with high constant times.",
        "Merges one or more HyperLogLog values into a single key.",
    ),
    Command { flags: Flags::ADMIN, ..Command::read("pfselftest", 1, Keys::NONE, pfselftest) }.doc(
        Chapter::Hyperloglog,
        "2.8.9",
        "N/A",
        "An internal command for testing HyperLogLog values.",
    ),
];

fn error_of(invalid: Invalid) -> CommandError {
    CommandError::Text(match invalid {
        Invalid::Foreign => "WRONGTYPE Key is not a valid HyperLogLog string value.",
        Invalid::Corrupt => "INVALIDOBJ Corrupted HLL object detected",
    })
}

/// The HyperLogLog at `key`.
fn hll<'a>(keys: &'a Keyspace, key: &[u8]) -> Result<Option<Hll<'a>>, CommandError> {
    let string = keys.string(key)?.map(StringValue::as_bytes);
    string.map(|string| Hll::of(string).map_err(error_of)).transpose()
}

fn pfadd(context: &mut WriteContext, args: Args) -> Outcome {
    let key = args.bytes(1);
    let marks = args.from(2).iter().map(|element| Mark::of(element));
    let found = hll(context.keys, key)?;
    let is_new = found.is_none();
    if !is_new && !marks.clone().any(|mark| found.is_some_and(|hll| hll.is_raised_by(mark))) {
        return Ok(Reply::flag(false));
    }
    if is_new {
        store(context.keys, key, &hyperloglog::empty(), NEVER);
    }
    edit(context.keys, key, |hll| {
        for mark in marks {
            hyperloglog::raise(hll, mark);
        }
        hyperloglog::forget_count(hll);
    });
    context.keys.notify(EventClass::STRING, "pfadd", key);
    Ok(Reply::flag(true))
}

fn pfcount(context: &mut ReadContext, args: Args) -> Outcome {
    if args.len() > 2 {
        let union = union(context.keys, args.from(1))?;
        return Ok(Reply::Int(hyperloglog::count(&union.registers) as i64));
    }
    let Some(string) = context.keys.string(args.bytes(1))?.map(StringValue::as_bytes) else {
        return Ok(Reply::Int(0));
    };
    hyperloglog::encoding(string).map_err(error_of)?;
    let count = match hyperloglog::cached_count(string) {
        Some(count) => count,
        None => Hll::of(string).map_err(error_of)?.count(),
    };
    Ok(Reply::Int(count as i64))
}

struct Union {
    registers: Box<[u8; REGISTERS]>,
    any_dense: bool,
}

fn union(keys: &Keyspace, of: &[Bytes]) -> Result<Union, CommandError> {
    let mut union = Union { registers: Box::new([0; REGISTERS]), any_dense: false };
    for key in of {
        if let Some(hll) = hll(keys, key)? {
            union.any_dense |= hll.encoding() == Encoding::Dense;
            hll.merge_into(&mut union.registers);
        }
    }
    Ok(union)
}

fn pfmerge(context: &mut WriteContext, args: Args) -> Outcome {
    let key = args.bytes(1);
    let union = union(context.keys, args.from(1))?;
    let there = hll(context.keys, key)?;
    let is_new = there.is_none();
    let dense = match there {
        Some(hll) if union.any_dense && hll.encoding() == Encoding::Sparse => Some(hll.to_dense()),
        _ => None,
    };
    if is_new {
        let empty = hyperloglog::empty();
        let dense = union.any_dense.then(|| Hll::of(&empty).map(|hll| hll.to_dense()).map_err(error_of));
        store(context.keys, key, &dense.transpose()?.unwrap_or(empty), NEVER);
    }
    edit(context.keys, key, |hll| {
        if let Some(dense) = dense {
            *hll = dense;
        }
        for mark in Mark::of_registers(&union.registers) {
            hyperloglog::raise(hll, mark);
        }
        hyperloglog::forget_count(hll);
    });
    context.keys.notify(EventClass::STRING, "pfadd", key);
    Ok(Reply::OK)
}

fn pfdebug(context: &mut WriteContext, args: Args) -> Outcome {
    let key = args.bytes(2);
    let Some(hll) = hll(context.keys, key)? else {
        return Err(CommandError::Text("ERR The specified key does not exist"));
    };
    let is_sparse = hll.encoding() == Encoding::Sparse;
    if args.is(1, "getreg") {
        let dense = is_sparse.then(|| hll.to_dense());
        let mut registers = Box::new([0; REGISTERS]);
        hll.merge_into(&mut registers);
        dense.into_iter().for_each(|dense| edit(context.keys, key, |hll| *hll = dense));
        Ok(Reply::Array(registers.iter().map(|value| Reply::Int(i64::from(*value))).collect()))
    } else if args.is(1, "decode") {
        if !is_sparse {
            return Err(CommandError::Text("ERR HLL encoding is not sparse"));
        }
        let show = |run: Run| match run {
            Run { value: 0, len, is_long } => format!("{}:{len}", if is_long { 'Z' } else { 'z' }),
            Run { value, len, .. } => format!("v:{value},{len}"),
        };
        Ok(Reply::bulk(hll.runs().map(show).collect::<Vec<_>>().join(" ")))
    } else if args.is(1, "encoding") {
        Ok(Reply::Simple(if is_sparse { "sparse" } else { "dense" }))
    } else if args.is(1, "todense") {
        let dense = is_sparse.then(|| hll.to_dense());
        dense.into_iter().for_each(|dense| edit(context.keys, key, |hll| *hll = dense));
        Ok(Reply::flag(is_sparse))
    } else {
        let sub = String::from_utf8_lossy(args.bytes(1)).replace(['\r', '\n'], " ");
        Err(CommandError::Message(format!("ERR Unknown PFDEBUG subcommand '{sub}'")))
    }
}

/// Counts elements in both forms: they must agree with each other, and nearly with the truth.
fn pfselftest(context: &mut ReadContext, _: Args) -> Outcome {
    const ELEMENTS: u64 = 10_000;
    let (mut sparse, seed) = (hyperloglog::empty(), context.rng.next_u64());
    let mut dense = Hll::of(&sparse).map_err(error_of)?.to_dense();
    for n in 1..=ELEMENTS {
        let mark = Mark::of(&(n ^ seed).to_le_bytes());
        hyperloglog::raise(&mut sparse, mark);
        hyperloglog::raise(&mut dense, mark);
        if [1, 10, 100, 1_000, ELEMENTS].contains(&n) {
            let (of_sparse, of_dense) =
                (Hll::of(&sparse).map_err(error_of)?.count(), Hll::of(&dense).map_err(error_of)?.count());
            if of_sparse != of_dense {
                return Err(CommandError::Text("ERR TESTFAILED dense/sparse disagree"));
            }
            // Six standard errors of 1.04 / sqrt(16384).
            let most = (n as f64 * 6.0 * 1.04 / 128.0).ceil() as u64;
            if of_dense.abs_diff(n) > most {
                return Err(CommandError::Message(format!(
                    "ERR TESTFAILED Too big error. card:{n} abserr:{}",
                    of_dense.abs_diff(n)
                )));
            }
        }
    }
    Ok(Reply::OK)
}
