//! Transactions of appends and reads on lists: strictly serializable, after Elle (Kingsbury and Alvaro, VLDB 2020).
//!
//! Every appended value is different, so a read of a list tells which transactions wrote what is there, and in which order.
//! The crate `adya` infers their dependencies from that and from time, looks for cycles, and names them as Elle does: G0,
//! G1a, G1b, G1c, G-single, G2, lost update, and their `-realtime` kinds. Beside it stand two checks whose answers a person
//! understands at once: values from nowhere, and acknowledged values that are gone.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use adya::history::{History, Interner, Mop, OpType, ReadValue, Scalar};
use adya::{Opts, Valid, Workload};
use serde::Serialize;

use super::Anomaly;
use crate::history::{self, Time};
use crate::outcome::Outcome;

/// How long cycles of one tangle of transactions are looked for. Then one that was found stands for all.
const SEARCH_LIMIT: Duration = Duration::from_secs(10);
/// adya's name for reads of a list that do not continue each other.
const INCOMPATIBLE_ORDER: &str = "incompatible-order";
/// What adya says when it is not sure; the cycles that it did find are told by themselves.
const NO_ANOMALIES: [&str; 2] = ["empty-transaction-graph", "cycle-search-timeout"];

/// One call of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Call {
    /// A list and a value. Every value is appended once.
    Append(String, u64),
    /// A list and all that was seen there; `None` if nobody was told.
    Read(String, Option<Vec<u64>>),
}

/// Calls that take effect together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Action(pub Vec<Call>);

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(Call::to_string).collect();
        out.write_str(&texts.join(", "))
    }
}

impl fmt::Display for Call {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Call::Append(key, value) => write!(out, "append {value} to {key}"),
            Call::Read(key, None) => write!(out, "read {key}"),
            Call::Read(key, Some(values)) => write!(out, "read {key} = {}", brief(values)),
        }
    }
}

/// The end of a list, which is where transactions differ.
fn brief(values: &[u64]) -> String {
    const SHOWN: usize = 8;
    let texts: Vec<String> =
        values[values.len().saturating_sub(SHOWN)..].iter().map(u64::to_string).collect();
    match values.len() > SHOWN {
        true => format!("[… {}] ({})", texts.join(", "), values.len()),
        false => format!("[{}]", texts.join(", ")),
    }
}

type Op = history::Op<Action>;

/// What contradicts strict serializability. `ops` are sealed.
pub fn check(ops: &[Op]) -> Vec<Anomaly> {
    let writers = writers(ops);
    let mut anomalies: Vec<Anomaly> = ops.iter().filter_map(|op| phantom(op, &writers)).collect();
    anomalies.extend(lost(ops, &writers));
    anomalies.extend(cycles(ops));
    anomalies
}

type Writers<'a> = HashMap<(&'a str, u64), &'a Op>;

fn writers(ops: &[Op]) -> Writers<'_> {
    let mut writers = HashMap::new();
    for op in ops {
        for call in &op.action.0 {
            if let Call::Append(key, value) = call {
                let before = writers.insert((key.as_str(), *value), op);
                assert!(before.is_none(), "{value} is appended twice to {key}: a fault of the workload");
            }
        }
    }
    writers
}

/// The reads of a transaction that succeeded.
fn reads(op: &Op) -> impl Iterator<Item = (&str, &[u64])> {
    op.action.0.iter().filter_map(|call| match call {
        Call::Read(key, Some(values)) if op.is_ok() => Some((key.as_str(), values.as_slice())),
        _ => None,
    })
}

fn phantom(op: &Op, writers: &Writers) -> Option<Anomaly> {
    let unknown = |(key, values): (&str, &[u64])| {
        let value = values.iter().find(|value| !writers.contains_key(&(key, **value)))?;
        Some(Anomaly::new("phantom", format!("{value} in {key} was never appended"), [op]))
    };
    reads(op).find_map(unknown)
}

/// Acknowledged, and absent from the last read of the list.
fn lost(ops: &[Op], writers: &Writers) -> Vec<Anomaly> {
    let mut last = HashMap::<&str, (&Op, HashSet<u64>)>::new();
    for op in ops {
        last.extend(reads(op).map(|(key, values)| (key, (op, values.iter().copied().collect()))));
    }
    let mut lost: Vec<_> = writers
        .iter()
        .filter_map(|((key, value), writer)| {
            let (read, values) = last.get(key)?;
            (writer.until() < read.start && !values.contains(value)).then_some((*writer, *read, *key, *value))
        })
        .collect();
    lost.sort_by_key(|(writer, _, _, value)| (writer.index, *value));
    let anomaly = |(writer, read, key, value)| {
        let what = format!("{value} was acknowledged, and is absent from the last read of {key}");
        Anomaly::new("lost write", what, [writer, read])
    };
    lost.into_iter().map(anomaly).collect()
}

fn cycles(ops: &[Op]) -> Vec<Anomaly> {
    let models = vec!["strict-serializable".to_string()];
    let options = Opts { models, timeout: SEARCH_LIMIT, ..Opts::default() };
    let report = adya::check(&as_history(ops), Workload::ListAppend, &options);
    if report.valid == Valid::True {
        return Vec::new();
    }
    let kinds = report.anomalies.into_iter().filter(|(kind, _)| !NO_ANOMALIES.contains(&kind.as_str()));
    kinds.flat_map(|(_, anomalies)| anomalies).map(|anomaly| described(ops, &anomaly)).collect()
}

fn described(ops: &[Op], anomaly: &adya::Anomaly) -> Anomaly {
    if anomaly.kind == INCOMPATIBLE_ORDER {
        return incompatible(ops, anomaly);
    }
    let steps = anomaly.detail["steps"].as_array();
    let whys = steps.map(|steps| steps.iter().filter_map(|step| step["why"].as_str()).collect::<Vec<_>>());
    let what = whys.map_or_else(|| anomaly.explanation.clone(), |whys| whys.join("; "));
    let places = anomaly.ops.iter().filter_map(|index| ops.get(usize::try_from(*index).ok()?));
    Anomaly::new(&anomaly.kind, what, places)
}

/// Two reads of a list, neither of which is the beginning of the other. adya tells what was read, not by whom.
fn incompatible(ops: &[Op], anomaly: &adya::Anomaly) -> Anomaly {
    let key = anomaly.detail["key"].as_str().unwrap_or_default();
    let lists: Vec<Vec<u64>> = serde_json::from_value(anomaly.detail["values"].clone()).unwrap_or_default();
    let reader = |list: &Vec<u64>| ops.iter().find(|op| reads(op).any(|read| read == (key, list.as_slice())));
    let what = format!("no order of appends to {key} explains what was read there");
    Anomaly::new(INCOMPATIBLE_ORDER, what, lists.iter().filter_map(reader))
}

/// As adya takes it: a beginning and an end of each transaction, in the order of time. Each is a process of its own, so that
/// only time orders them. Its numbers of operations are ours.
fn as_history(ops: &[Op]) -> History {
    let mut names = Interner::default();
    // At the same moment beginnings come first: then both transactions may have been first.
    let mut events: Vec<(Time, bool, &Op)> =
        ops.iter().flat_map(|op| [(op.start, false, op), (op.end, true, op)]).collect();
    events.sort_by_key(|(time, is_end, op)| (*time, *is_end, op.index));
    let events = events.into_iter().map(|(time, is_end, op)| adya::history::Op {
        index: op.index as u64,
        kind: match (is_end, op.outcome) {
            (false, _) => OpType::Invoke,
            (true, Outcome::Ok) => OpType::Ok,
            (true, Outcome::Fail) => OpType::Fail,
            (true, Outcome::Info) => OpType::Info,
        },
        process: i64::try_from(op.index).ok(),
        value: op.action.0.iter().map(|call| as_mop(call, is_end && op.is_ok(), &mut names)).collect(),
        time: Some(time),
    });
    let events = events.collect();
    History::from_ops(events, names)
}

fn as_mop(call: &Call, is_seen: bool, names: &mut Interner) -> Mop {
    let number = |value: u64| Scalar::Int(i64::try_from(value).expect("values are counted"));
    match call {
        Call::Append(key, value) => {
            Mop::Append { key: names.intern(Scalar::Str(key.clone())), value: names.intern(number(*value)) }
        }
        Call::Read(key, seen) => {
            let key = names.intern(Scalar::Str(key.clone()));
            let value = match seen {
                Some(values) if is_seen => {
                    ReadValue::List(values.iter().map(|value| names.intern(number(*value))).collect())
                }
                _ => ReadValue::Nil,
            };
            Mop::Read { key, value }
        }
    }
}

#[cfg(test)]
mod tests;
