//! Publish and subscribe. Confirmations are mail: they leave in one order with the messages they announce, whatever CLIENT REPLY
//! says.

use bytes::Bytes;
use quoris_engine::args::Args;
use quoris_engine::command::{Outcome, Resolved};
use quoris_engine::hash_slot::slot_of;
use quoris_engine::{CommandError, Reply};

use crate::pubsub::{Kind, Message};
use crate::route;
use crate::session::{Replies, Session};

pub(super) fn subscribe(session: &mut Session, args: Args, kind: Kind) -> Option<Reply> {
    if kind == Kind::Shard {
        if let Err(error) = served_here(session, args.from(1)) {
            return Some(Reply::Error(error));
        }
        session.client.state().plain = session.access().plain;
    }
    args.from(1).iter().for_each(|name| session.server.pubsub.subscribe(&session.client, kind, name));
    answered(session);
    None
}

pub(super) fn unsubscribe(session: &mut Session, args: Args, kind: Kind) -> Option<Reply> {
    let pubsub = &session.server.pubsub;
    match args.len() {
        1 => pubsub.unsubscribe_all(&session.client, kind),
        _ => args.from(1).iter().for_each(|name| pubsub.unsubscribe(&session.client, kind, name)),
    }
    answered(session);
    None
}

/// The confirmations were the reply that CLIENT REPLY SKIP was to skip.
fn answered(session: &mut Session) {
    if session.replies == Replies::SkipNext {
        session.replies = Replies::On;
    }
}

/// How many of this node's clients have received it, as in Redis Cluster.
pub(super) fn publish(session: &Session, args: Args) -> Outcome {
    Ok(tell_all(session, args, false))
}

/// The same in a shard.
pub(super) fn publish_in_shard(session: &Session, args: Args) -> Outcome {
    served_here(session, &args.0[1..2])?;
    Ok(tell_all(session, args, true))
}

fn tell_all(session: &Session, args: Args, in_shard: bool) -> Reply {
    let server = &session.server;
    let message = Message { in_shard, channel: args.bytes(1).clone(), content: args.bytes(2).clone() };
    let lost = server.node.tell_peers(&message.to_notice());
    server.pubsub.lost.add(lost as u64);
    server.stats.published.add(1);
    Reply::count(server.pubsub.tell(&message))
}

/// Whether this node takes calls for the one slot of `channels`: because it leads it, or because the client goes nowhere else.
fn served_here(session: &Session, channels: &[Bytes]) -> Result<(), CommandError> {
    let slot = slot_of(&channels[0]);
    if channels.iter().any(|channel| slot_of(channel) != slot) {
        return Err(CommandError::CrossSlot);
    }
    let node = &session.server.node;
    let group = node.group_of(slot);
    match session.access().plain || group.is_leader() {
        true => Ok(()),
        false => Err(route::elsewhere(node, group, slot)),
    }
}

pub(super) fn channels(session: &Session, resolved: Resolved, args: Args, kind: Kind) -> Outcome {
    if args.len() > 3 {
        return Err(CommandError::WrongArity(resolved.full_name()));
    }
    let pattern = args.from(2).first().map(|pattern| &pattern[..]);
    let channels = session.server.pubsub.channels(kind, pattern);
    Ok(Reply::Array(channels.into_iter().map(Reply::Bulk).collect()))
}

pub(super) fn subscribers(session: &Session, args: Args, kind: Kind) -> Reply {
    let count = |name: &Bytes| Reply::count(session.server.pubsub.subscribers(kind, name));
    Reply::Array(args.from(2).iter().flat_map(|name| [Reply::Bulk(name.clone()), count(name)]).collect())
}
