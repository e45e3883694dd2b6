//! Commands without a key that concern every key (DBSIZE, KEYS, SCAN, RANDOMKEY, FLUSHALL): asked of each group
//! that this node leads, and the answers merged. A cluster client asks every node, so all groups answer.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use quoris_engine::args::Args;
use quoris_engine::command::{Command, Gather};
use quoris_engine::commands::scan::{Cursor, ScanOf, ScanOptions, scan, scan_reply};
use quoris_engine::digest::Digest;
use quoris_engine::{Batch, Call, CommandError, Reply, SlotId};
use quoris_raft::env::Env;
use quoris_raft::group::Group;
use quoris_raft::node::Node;

use crate::limits;
use crate::route;

/// Runs a call of `row` in the groups that this node leads.
pub async fn gather(node: &Node, env: &Env, row: &'static Command, words: Vec<Bytes>) -> Reply {
    let led: Vec<Arc<Group>> = node.groups().iter().filter(|group| group.is_leader()).cloned().collect();
    let call = Call { args: words };
    match row.gather {
        Gather::Scan => scan_led(node, &led, &call).await.unwrap_or_else(Reply::Error),
        Gather::Draw => draw(node, env, led, &call).await,
        // Commands that refuse whatever they are given: any replica knows.
        Gather::None => node.groups()[0].with_machine(|machine| first(machine.read(&[call], 0, 0))),
        Gather::Sum | Gather::Concat | Gather::Xor | Gather::AllOk => {
            let ask = |group: Arc<Group>| {
                let call = call.clone();
                async move { ask(node, &group, row, call).await }
            };
            let replies =
                futures::stream::iter(led).map(ask).buffered(limits::GROUPS_AT_ONCE).collect().await;
            merge(row.gather, replies)
        }
    }
}

async fn ask(node: &Node, group: &Group, row: &Command, call: Call) -> Reply {
    if row.is_write() {
        let outcome = group.write(vec![Batch::of(vec![call])]).await;
        return first(route::written(node, outcome, &[None]));
    }
    read(node, group, &call).await
}

async fn read(node: &Node, group: &Group, call: &Call) -> Reply {
    match group.read(std::slice::from_ref(call)).await {
        Ok(replies) => first(replies),
        Err(refusal) => Reply::Error(route::refused(node, refusal, None)),
    }
}

fn first(replies: Vec<Reply>) -> Reply {
    replies.into_iter().next().expect("one reply for each call")
}

/// One reply of many. Any error wins; of a write that some groups refused and others did, nothing is certain.
fn merge(gather: Gather, replies: Vec<Reply>) -> Reply {
    let done = replies.iter().filter(|reply| !reply.is_error()).count();
    if let Some(error) = replies.iter().find(|reply| reply.is_error()) {
        return match error {
            Reply::Error(error) if gather == Gather::AllOk && done > 0 => {
                Reply::Error(CommandError::Unknown(format!("done in some groups only; in another: {error}")))
            }
            error => error.clone(),
        };
    }
    match gather {
        Gather::Sum => {
            let number = |reply: &Reply| if let Reply::Int(number) = reply { *number } else { 0 };
            Reply::Int(replies.iter().map(number).sum())
        }
        Gather::Concat => {
            let items = |reply| if let Reply::Array(items) = reply { items } else { Vec::new() };
            Reply::Array(replies.into_iter().flat_map(items).collect())
        }
        Gather::Xor => {
            let digest =
                |reply: &Reply| if let Reply::Bulk(hex) = reply { Digest::from_hex(hex) } else { None };
            Reply::bulk(replies.iter().filter_map(digest).fold(Digest::default(), Digest::with).to_hex())
        }
        _ => Reply::OK,
    }
}

/// Asks the groups in an order in which each comes first as often as it has keys, until one has an answer.
async fn draw(node: &Node, env: &Env, mut led: Vec<Arc<Group>>, call: &Call) -> Reply {
    while !led.is_empty() {
        let sizes: Vec<u64> =
            led.iter().map(|group| group.with_machine(|machine| machine.keyspace().len()) as u64).collect();
        let total: u64 = sizes.iter().sum();
        let mut drawn = env.rng.next_u64().checked_rem(total).unwrap_or(0);
        let chosen = sizes.iter().position(|&size| {
            let here = drawn < size;
            drawn = drawn.saturating_sub(size);
            here
        });
        let group = led.swap_remove(chosen.unwrap_or(0));
        match read(node, &group, call).await {
            // All its keys are due.
            Reply::Null => {}
            reply => return reply,
        }
    }
    Reply::Null
}

/// SCAN over the slots of all groups in `led`, in ascending order: the cursor says where it stands, and is good on
/// whichever node leads the slot's group by then.
async fn scan_led(node: &Node, led: &[Arc<Group>], call: &Call) -> Result<Reply, CommandError> {
    let args = Args(&call.args);
    let mut cursor = Some(Cursor::parse(args.bytes(1))?);
    let mut options = ScanOptions::parse(args, 2, ScanOf::Keys)?;
    for group in led {
        let ready = group.ready_to_read(std::slice::from_ref(call)).await;
        ready.map_err(|refusal| route::refused(node, refusal, None))?;
    }
    let mut found = Vec::new();
    for (group, slots) in ranges(led) {
        let Some(at) = cursor.filter(|at| at.slot() <= *slots.end()) else { continue };
        if options.count == 0 {
            // The next range begins the next call.
            cursor = Some(if at.slot() < *slots.start() { Cursor::at_slot(*slots.start()) } else { at });
            return Ok(scan_reply(cursor, &found));
        }
        let end = *slots.end();
        let (next, keys) = group.with_machine(|machine| scan(machine.keyspace(), at, slots, &mut options));
        found.extend(keys);
        if next.is_some() {
            return Ok(scan_reply(next, &found));
        }
        cursor = (end < quoris_engine::SLOT_COUNT - 1).then(|| Cursor::at_slot(end + 1));
    }
    Ok(scan_reply(None, &found))
}

/// The slots that each group serves, in ascending order over all groups.
fn ranges(led: &[Arc<Group>]) -> Vec<(&Group, std::ops::RangeInclusive<SlotId>)> {
    let of = |group: &Arc<Group>| group.with_machine(|machine| machine.keyspace().owned().to_vec());
    let mut ranges: Vec<_> =
        led.iter().flat_map(|group| of(group).into_iter().map(move |slots| (&**group, slots))).collect();
    ranges.sort_by_key(|(_, slots)| *slots.start());
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_merged_by_kind() {
        let ints = vec![Reply::Int(2), Reply::Int(3)];
        assert_eq!(merge(Gather::Sum, ints), Reply::Int(5));
        assert_eq!(merge(Gather::Sum, Vec::new()), Reply::Int(0));
        let arrays = vec![Reply::Array(vec![Reply::bulk("a")]), Reply::Array(vec![Reply::bulk("b")])];
        assert_eq!(merge(Gather::Concat, arrays), Reply::Array(vec![Reply::bulk("a"), Reply::bulk("b")]));
        assert_eq!(merge(Gather::AllOk, vec![Reply::OK]), Reply::OK);
    }

    #[test]
    fn a_write_that_some_groups_did_is_not_called_refused() {
        let down = || Reply::Error(CommandError::ClusterDown("x".to_string()));
        assert_eq!(merge(Gather::AllOk, vec![down(), down()]), down());
        let Reply::Error(error) = merge(Gather::AllOk, vec![Reply::OK, down()]) else { panic!("an error") };
        assert!(error.to_string().starts_with("UNKNOWN "), "{error}");
        assert_eq!(merge(Gather::Sum, vec![Reply::Int(1), down()]), down());
    }
}
