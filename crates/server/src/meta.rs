//! Commands on what the meta group keeps for all nodes: the users (ACL) and the members (QUORIS ADDNODE and REMOVENODE).

use std::time::Duration;

use bytes::Bytes;
use quoris_engine::args::Args;
use quoris_engine::command::Command;
use quoris_engine::entry::Topology;
use quoris_engine::{Batch, Call, CommandError, Reply};
use quoris_raft::types::META_GROUP;

use crate::route::Access;
use crate::server::Server;
use crate::session::Behalf;
use crate::{gather, limits, route, users, wait};

/// Runs a call of `row`, wherever the meta group is led. When it has been answered, this node knows of what has changed.
pub async fn run(server: &Server, row: &'static Command, words: &[Bytes], access: Access) -> Reply {
    let words = match users::words_for_log(server, row, words).await {
        Ok(words) => words,
        Err(error) => return Reply::Error(error),
    };
    let reply = gather::gather(server, row, words, access, &Behalf::default()).await;
    if row.is_write() && !reply.is_error() && !server.meta_group().is_leader() {
        catch_up(server).await;
    }
    reply
}

/// Waits until this node has applied what the meta group's leader has; not for ever.
pub async fn catch_up(server: &Server) {
    if let Some((index, _)) = wait::ask(server, META_GROUP, 0).await {
        let limit = Duration::from_millis(limits::CATCH_UP_MS);
        server.meta_group().has_applied(index, limit).await;
    }
}

/// Until the members change for the first time, each node's settings say where the others are, and may have been changed since
/// the founding. From the first change on the meta group says it. So its leader, which this node is, has it say what the settings
/// do before anything else changes.
async fn take_over_addresses(server: &Server, row: &Command) -> Result<(), CommandError> {
    if !matches!(row.name, "addnode" | "removenode") {
        return Ok(());
    }
    let (group, settings) = (server.meta_group(), server.node.topology());
    let differs = |topology: &Topology| topology.epoch == settings.epoch && topology.nodes != settings.nodes;
    if !group.with_machine(|machine| machine.topology().is_some_and(differs)) {
        return Ok(());
    }
    let members = settings.nodes.iter();
    let triples =
        members.flat_map(|node| [node.id.to_string(), node.client_addr.clone(), node.peer_addr.clone()]);
    let words = ["QUORIS".to_string(), "ADDNODE".to_string()].into_iter().chain(triples);
    let outcome = group.write(Batch::of(vec![Call::new(words)])).await;
    match route::written(&server.node, outcome, std::iter::once(None)).swap_remove(0) {
        Reply::Error(error) => Err(error),
        _ => Ok(()),
    }
}

/// Whether the meta group's leader, which this node is, may propose a call: not to take a node out if a group would be left
/// without a quorum in reach. Who has joined and does not vote yet is no help.
pub async fn admit(server: &Server, row: &Command, call: &Call) -> Result<(), CommandError> {
    take_over_addresses(server, row).await?;
    let leaving = match row.name {
        "removenode" => Args(&call.args).int(2).ok().and_then(|id| u64::try_from(id).ok()),
        _ => None,
    };
    // Who would take out the last node is told so by whoever applies it.
    let Some(leaving) = leaving.filter(|_| server.node.topology().nodes.len() > 1) else { return Ok(()) };
    let node = &server.node;
    for group in node.groups() {
        let voters = group.status().voters;
        let others: Vec<u64> = voters.iter().copied().filter(|voter| *voter != leaving).collect();
        let in_reach = others.iter().filter(|voter| node.is_reachable(**voter)).count();
        if others.len() < voters.len() && 2 * in_reach <= others.len() {
            return Err(CommandError::Message(format!(
                "ERR without node {leaving} there would be no quorum in group {}: of {} other voters {in_reach} are in reach. \
                 Bring them back first, or remove first who is gone for good",
                group.id(),
                others.len()
            )));
        }
    }
    Ok(())
}
