//! Commands without a key that concern every key (DBSIZE, KEYS, SCAN, RANDOMKEY, FLUSHALL): asked of groups one by one,
//! and the answers merged.
//!
//! A cluster's client asks every node, so each answers for the groups that it leads. A plain client asks one node; where the
//! setting `forward` is `all` that node answers for all groups: the others' leaders are asked on its behalf. A group without a
//! leader would be in nobody's answer: it is waited for, and missed aloud.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use quoris_engine::args::Args;
use quoris_engine::command::{self, Chapter, Command, Gather, Run};
use quoris_engine::commands::scan::{Cursor, ScanOf, ScanOptions, scan, scan_reply};
use quoris_engine::fingerprint::Fingerprint;
use quoris_engine::{Batch, Call, CommandError, Machine, Reply, SLOT_COUNT, SlotId};
use quoris_raft::group::Group;
use quoris_raft::node::Node;
use quoris_raft::types::META_GROUP;

use crate::forward::{self, Patience};
use crate::limits;
use crate::meta;
use crate::moves;
use crate::replicas;
use crate::resp::Answer;
use crate::route::{self, Access, Place, Seat};
use crate::scripts;
use crate::server::Server;
use crate::session::Behalf;
use crate::verbs::acl::tells_passwords;

/// Runs a call of `row` in the groups that this node leads, or in all groups.
pub async fn gather(
    server: &Server,
    row: &'static Command,
    words: Vec<Bytes>,
    access: Access,
    behalf: &Behalf,
) -> Reply {
    let node = &server.node;
    if row.gather == Gather::Meta {
        return in_meta_group(server, row, Call { args: words }, behalf).await;
    }
    // Scripts and libraries are the same in every group, whoever brings them; and what clears the keys may do so twice.
    let wide = match row.gather {
        _ if access.whole || row.chapter == Chapter::Scripting => true,
        Gather::AllOk => access.plain,
        _ => false,
    };
    // What is on its way between two groups would be in neither's answer.
    moves::all_settled(server).await;
    let mut asked = Vec::new();
    for group in node.groups().iter().filter(|_| row.gather != Gather::None) {
        match group.await_leader().await {
            Ok(leader) if wide || leader == node.id() => asked.push((group.clone(), place(node, leader))),
            Ok(_) => {}
            Err(refusal) => return Reply::Error(route::refused(node, refusal, None)),
        }
    }
    let call = Call { args: words };
    match row.gather {
        Gather::Scan if asked.iter().any(|(_, place)| *place != Place::Here) => {
            scan_everywhere(server, &call).await.unwrap_or_else(Reply::Error)
        }
        Gather::Scan => {
            let led: Vec<_> = asked.into_iter().map(|(group, _)| group).collect();
            scan_led(node, &led, &call).await.unwrap_or_else(Reply::Error)
        }
        Gather::Draw => draw(server, asked, &call).await,
        Gather::None => Machine::refuse(&call),
        Gather::Any => {
            let here = asked.iter().position(|(_, place)| *place == Place::Here).unwrap_or(0);
            let (group, place) = asked.swap_remove(here);
            ask(server, &group, place, row, call, wide, behalf).await
        }
        Gather::Meta => unreachable!("that is one group, and has been asked"),
        Gather::Sum | Gather::Concat | Gather::Xor | Gather::AllOk | Gather::Same | Gather::Running => {
            let ask = |(group, place): (Arc<Group>, Place)| {
                let call = call.clone();
                async move { ask(server, &group, place, row, call, wide, behalf).await }
            };
            let replies =
                futures::stream::iter(asked).map(ask).buffered(limits::GROUPS_AT_ONCE).collect().await;
            match row.gather {
                Gather::Running => server.scripts.shown_in(merge(Gather::Same, replies)),
                how => merge(how, replies),
            }
        }
    }
}

async fn in_meta_group(server: &Server, row: &'static Command, call: Call, behalf: &Behalf) -> Reply {
    let group = server.meta_group();
    match group.await_leader().await {
        Ok(leader) => ask(server, group, place(&server.node, leader), row, call, true, behalf).await,
        Err(refusal) => Reply::Error(route::refused(&server.node, refusal, None)),
    }
}

fn place(node: &Node, leader: u64) -> Place {
    if leader == node.id() { Place::Here } else { Place::At(leader) }
}

/// QUORIS GROUP: runs a command over all keys in one group that this node leads.
pub async fn in_group(server: &Server, words: &[Bytes], behalf: &Behalf) -> Reply {
    let node = &server.node;
    let number = Args(words).int(2).ok();
    let call = Call { args: words[3..].to_vec() };
    let row = match command::resolve(&call.args) {
        Ok(resolved) => resolved.command,
        Err(error) => return Reply::Error(error),
    };
    let group = node.groups().iter().find(|group| number == Some(i64::from(group.id())));
    let group = group.filter(|group| row.gather != Gather::Meta || group.id() == META_GROUP);
    if row.gather == Gather::Meta && tells_passwords(&call.args) {
        return Reply::Error(CommandError::Syntax);
    }
    let (Some(group), Run::Read(_) | Run::Write(_), false) =
        (group, row.run_for(&call.args), row.gather == Gather::None)
    else {
        return Reply::Error(CommandError::Syntax);
    };
    match row.gather {
        Gather::Scan => scan_row(node, group, &call).await.unwrap_or_else(Reply::Error),
        _ => ask(server, group, Place::Here, row, call, false, behalf).await,
    }
}

/// Asks one group, wherever it is led; `plain`: also if that changes.
async fn ask(
    server: &Server,
    group: &Arc<Group>,
    mut place: Place,
    row: &Command,
    call: Call,
    plain: bool,
    behalf: &Behalf,
) -> Reply {
    let patience = Patience::new(server, plain);
    loop {
        let reply = match place {
            Place::Here if row.writes(&call.args) => {
                // What SCRIPT and ACL change is no key.
                let of_script = row.runs_script() || call.args[0].eq_ignore_ascii_case(b"script");
                if !of_script
                    && row.gather != Gather::Meta
                    && let Err(error) = replicas::check(server, group).await
                {
                    return Reply::Error(error);
                }
                if row.gather == Gather::Meta
                    && let Err(refused) = meta::admit(server, row, &call).await
                {
                    return Reply::Error(refused);
                }
                let slept = match scripts::rehearse(server, group, &call, behalf).await {
                    Ok(slept) => slept,
                    Err(refused) => return refused,
                };
                if call.args[0].eq_ignore_ascii_case(b"function") {
                    server.scripts.functions_have_changed();
                }
                let _writing = server.scripts.writing(std::slice::from_ref(&call));
                let rights = behalf.rights.as_deref().filter(|_| row.runs_script());
                let outcome = group.write(Batch::of(vec![call.clone()]).under(rights)).await;
                scripts::wait(slept).await;
                first(route::written(&server.node, outcome, std::iter::once(None)))
            }
            Place::Here => read(server, group, &call, behalf).await,
            Place::At(leader) => {
                let head = ["QUORIS".to_string(), "GROUP".to_string(), group.id().to_string()];
                let words = head.into_iter().map(Bytes::from).chain(call.args.iter().cloned());
                forward::ask_for(server, leader, Call::new(words), row.writes(&call.args), behalf).await
            }
        };
        let misplaced = Answer::Own(reply.clone()).is_misplaced();
        match if misplaced { patience.next_in(server, group).await } else { None } {
            Some(next) => place = next,
            None => return reply,
        }
    }
}

async fn read(server: &Server, group: &Group, call: &Call, behalf: &Behalf) -> Reply {
    let calls = std::slice::from_ref(call);
    match group.read(calls).await {
        Ok(reads) => first(scripts::replies(server, reads, calls, &behalf.rights).await),
        Err(refusal) => Reply::Error(route::refused(&server.node, refusal, None)),
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
            Reply::Error(error) if matches!(gather, Gather::AllOk | Gather::Same) && done > 0 => {
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
        Gather::Same => replies.into_iter().next().unwrap_or(Reply::Null),
        Gather::Xor => {
            let one = |reply: &Reply| match reply {
                Reply::Bulk(hex) => Fingerprint::from_hex(hex),
                _ => None,
            };
            let all = replies.iter().filter_map(one).fold(Fingerprint::default(), Fingerprint::with);
            Reply::bulk(all.to_hex())
        }
        _ => Reply::OK,
    }
}

/// Asks the groups in an order in which each comes first as often as it has keys, until one has an answer.
async fn draw(server: &Server, mut asked: Vec<(Arc<Group>, Place)>, call: &Call) -> Reply {
    let row = command::find(&call.args[0]).expect("the caller has looked it up");
    while !asked.is_empty() {
        // Every node has a replica; how fresh it is does not matter to the odds.
        let size = |group: &Group| group.with_machine(|machine| machine.keyspace().len()) as u64;
        let sizes: Vec<u64> = asked.iter().map(|(group, _)| size(group)).collect();
        let total: u64 = sizes.iter().sum();
        let mut drawn = server.env.rng.next_u64().checked_rem(total).unwrap_or(0);
        let chosen = sizes.iter().position(|&size| {
            let here = drawn < size;
            drawn = drawn.saturating_sub(size);
            here
        });
        let (group, place) = asked.swap_remove(chosen.unwrap_or(0));
        let plain = place != Place::Here;
        match ask(server, &group, place, row, call.clone(), plain, &Behalf::default()).await {
            // All its keys are due.
            Reply::Null => {}
            reply => return reply,
        }
    }
    Reply::Null
}

/// SCAN for a plain client: each call goes to the group that serves the cursor's slot, and goes on to the end of the slots in a
/// row that this group serves.
async fn scan_everywhere(server: &Server, call: &Call) -> Result<Reply, CommandError> {
    let node = &server.node;
    let slot = Cursor::parse(&call.args[1])?.slot();
    let group = node.group_of(slot).clone();
    let leader = group.await_leader().await.map_err(|refusal| route::refused(node, refusal, None))?;
    let (mut seat, patience) =
        (Seat { place: place(node, leader), group, slot }, Patience::new(server, true));
    loop {
        let reply = match seat.place {
            Place::Here => scan_row(node, &seat.group, call).await.unwrap_or_else(Reply::Error),
            Place::At(leader) => {
                let head = ["QUORIS".to_string(), "GROUP".to_string(), seat.group.id().to_string()];
                let words = head.into_iter().map(Bytes::from).chain(call.args.iter().cloned());
                forward::ask(server, leader, Call::new(words), false).await
            }
        };
        let misplaced = Answer::Own(reply.clone()).is_misplaced();
        match if misplaced { patience.next(server, slot).await } else { None } {
            Some(next) => seat = next,
            None => return Ok(reply),
        }
    }
}

/// SCAN over the slots in a row that `group` serves around the cursor's: the cursor then stands behind them, whoever serves
/// what comes there.
async fn scan_row(node: &Node, group: &Group, call: &Call) -> Result<Reply, CommandError> {
    let args = Args(&call.args);
    let at = Cursor::parse(args.bytes(1))?;
    let mut options = ScanOptions::parse(args, 2, ScanOf::Keys)?;
    let ready = group.ready_to_read(std::slice::from_ref(call)).await;
    ready.map_err(|refusal| route::refused(node, refusal, None))?;
    group.with_machine(|machine| {
        let keys = machine.keyspace();
        let row = keys.owned().iter().find(|slots| slots.contains(&at.slot())).cloned();
        let row = row.ok_or(CommandError::WrongGroup { slot: at.slot() })?;
        let behind = (*row.end() < SLOT_COUNT - 1).then(|| Cursor::at_slot(row.end() + 1));
        let (next, found) = scan(keys, at, row, &mut options);
        Ok(scan_reply(next.or(behind), &found))
    })
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
        cursor = (end < SLOT_COUNT - 1).then(|| Cursor::at_slot(end + 1));
    }
    Ok(scan_reply(None, &found))
}

/// The slots that each group serves, in ascending order over all groups.
fn ranges(led: &[Arc<Group>]) -> Vec<(&Group, RangeInclusive<SlotId>)> {
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
