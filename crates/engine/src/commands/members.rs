//! QUORIS ADDNODE and REMOVENODE: the members, which are the meta group's state ([`crate::topology`]).

use bytes::Bytes;

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Gather, Keys, Outcome, WriteContext};
use crate::entry::{Genesis, NodeInfo};
use crate::error::CommandError;
use crate::reply::Reply;
use crate::topology::node_name;

/// QUORIS ADDNODE number client-address peer-address [...]: again for a member, to give it other addresses.
pub const ADD_NODE: Command = changing(
    "addnode",
    -5,
    add_node,
    "Makes a node a member of the cluster, or gives a member other addresses.",
);

/// QUORIS REMOVENODE number: 1, or 0 if it was removed before.
pub const REMOVE_NODE: Command =
    changing("removenode", 3, remove_node, "Takes a node out of the cluster, for good.");

const NO_CONTEXT: CommandError = CommandError::Text("ERR the members are not known here");

type Text = &'static str;

const fn changing(
    name: Text,
    arity: i32,
    run: fn(&mut WriteContext, Args) -> Outcome,
    summary: Text,
) -> Command {
    let row = Command::write(name, arity, Keys::NONE, run).gathered(Gather::Meta);
    let row = row.doc(Chapter::Server, "7.4.0", "O(G*N) with G groups and N nodes", summary);
    Command { flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::NO_MULTI), ..row }
}

fn add_node(context: &mut WriteContext, args: Args) -> Outcome {
    let genesis = founded(context)?;
    let words = args.from(2);
    if !words.len().is_multiple_of(3) {
        return Err(CommandError::Syntax);
    }
    let node = |i: usize| {
        let (id, client_addr, peer_addr) =
            (number(args, i)?, address(args.bytes(i + 1))?, address(args.bytes(i + 2))?);
        Ok(NodeInfo { id, name: node_name(&genesis.cluster_id, id), client_addr, peer_addr })
    };
    let nodes: Result<Vec<NodeInfo>, CommandError> = (2..args.len()).step_by(3).map(node).collect();
    genesis.topology.as_mut().ok_or(NO_CONTEXT)?.set_nodes(nodes?)?;
    Ok(Reply::OK)
}

fn remove_node(context: &mut WriteContext, args: Args) -> Outcome {
    let id = number(args, 2)?;
    let topology = founded(context)?.topology.as_mut().ok_or(NO_CONTEXT)?;
    Ok(Reply::flag(topology.remove_node(id)?))
}

fn founded<'a>(context: &'a mut WriteContext) -> Result<&'a mut Genesis, CommandError> {
    context.genesis.as_deref_mut().ok_or(NO_CONTEXT)
}

/// Word `i`, a node's number.
fn number(args: Args, i: usize) -> Result<u64, CommandError> {
    let number = args.int(i).ok().and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
    number.ok_or(CommandError::Text("ERR a node's number is 1 or more"))
}

/// host:port, of characters that no list of nodes ends with.
fn address(word: &Bytes) -> Result<String, CommandError> {
    let text = std::str::from_utf8(word).ok();
    let parts = text.and_then(|text| text.rsplit_once(':'));
    let is_host = |host: &str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic() && !b",@=".contains(&byte))
    };
    let whole = parts.filter(|(host, port)| is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0));
    whole.and(text).map(str::to_string).ok_or(CommandError::Text("ERR an address is host:port"))
}
