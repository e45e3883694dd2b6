//! Where a call runs, and what a client is told when it cannot run here.
//!
//! One visible order of checks: known, number of words, authenticated, allowed, one slot, led here (or nowhere yet). And one place where
//! what a group says becomes what a client reads.

use std::sync::Arc;

use bytes::Bytes;
use quoris_engine::acl::User;
use quoris_engine::command::{self, Command, Flags, Resolved, Run, Verb};
use quoris_engine::hash_slot::slot_of;
use quoris_engine::machine::BatchOutcome;
use quoris_engine::{CommandError, Reply, SlotId};
use quoris_raft::group::Group;
use quoris_raft::node::{Node, ReadMode};
use quoris_raft::types::{NodeId, Refusal, WriteOutcome};

use crate::cluster::is_founded;

/// What a session may do.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Whether it has authenticated, or need not.
    pub authenticated: bool,
    /// Whether it accepts reads of a replica (READONLY).
    pub readonly: bool,
    /// Whether it may run commands that are for debugging.
    pub debug: bool,
    /// Whether its calls are forwarded, rather than the client told where to go.
    pub plain: bool,
    /// Whether what it asks of all keys concerns those of other nodes, too.
    pub whole: bool,
}

/// Who runs a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// This node's replica.
    Here,
    /// Another node, on behalf of a client that does not go there itself.
    At(NodeId),
}

/// The group that a slot's calls are for, and where it is led.
pub struct Seat {
    /// The group.
    pub group: Arc<Group>,
    /// Where it is led.
    pub place: Place,
    /// The slot.
    pub slot: SlotId,
}

/// Where a call runs.
pub enum Route {
    /// In the session itself.
    Session(Resolved, Verb),
    /// In every group.
    Gather(&'static Command),
    /// In one group, whose slot all its keys have.
    Group(&'static Command, Seat),
}

/// What calls are checked against.
pub struct Rights<'a> {
    /// Whose they are.
    pub user: &'a User,
    /// Whether this node has been told by the meta group who the users are.
    pub is_told: bool,
}

impl Rights<'_> {
    /// Whether the user may make the call `words` of `row`.
    pub fn check(&self, row: Resolved, words: &[Bytes]) -> Result<(), CommandError> {
        if !self.is_told && !is_harmless(row.command) {
            return Err(CommandError::ClusterDown(
                "This node does not know the cluster's users yet".to_string(),
            ));
        }
        self.user.check(row, words).map_err(|denied| CommandError::Denied(denied.of(row, words)))
    }
}

/// Whether anybody may run the command on a node that has no data yet.
fn is_harmless(row: &Command) -> bool {
    let barred = Flags::ADMIN.union(Flags::BETWEEN_NODES).union(Flags::PUBSUB);
    match row.run {
        Run::Session(_) => !row.flags.intersects(barred) && !row.keys.any(),
        Run::Container => true,
        Run::Read(_) | Run::Write(_) | Run::ByWords(_) => false,
    }
}

/// Decides where `words` run. The error is certain: nothing has been done. `rights`: what they are checked against, unless
/// whoever calls may do everything.
pub fn route(
    node: &Node,
    words: &[Bytes],
    access: Access,
    rights: Option<Rights>,
) -> Result<Route, CommandError> {
    let resolved = command::resolve(words)?;
    let row = resolved.command;
    if !access.authenticated && !row.flags.contains(command::Flags::NO_AUTH) {
        return Err(CommandError::Text("NOAUTH Authentication required."));
    }
    if !access.debug && row.flags.contains(command::Flags::PROTECTED) {
        return Err(CommandError::Text(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from \
             a local connection, otherwise you need to set this option in the configuration file, and then restart the \
             server.",
        ));
    }
    if let Some(rights) = rights {
        rights.check(resolved, words)?;
    }
    match row.run {
        Run::Session(verb) => return Ok(Route::Session(resolved, verb)),
        Run::Container => return Err(CommandError::WrongArity(resolved.full_name())),
        Run::Read(_) | Run::Write(_) | Run::ByWords(_) => {}
    }
    match slot_of_keys(row, words)? {
        Some(slot) => Ok(Route::Group(row, seat(node, slot, row.writes(words), access)?)),
        None => Ok(Route::Gather(row)),
    }
}

/// The slot of all keys of a call; `None` if it has no keys.
pub fn slot_of_keys(row: &Command, words: &[Bytes]) -> Result<Option<SlotId>, CommandError> {
    one_slot(row.keys.of(words))
}

/// The slot that all `keys` share; `None` if there are none.
pub fn one_slot<'a>(keys: impl Iterator<Item = &'a Bytes>) -> Result<Option<SlotId>, CommandError> {
    let mut slots = keys.map(|key| slot_of(key));
    let Some(slot) = slots.next() else { return Ok(None) };
    match slots.all(|other| other == slot) {
        true => Ok(Some(slot)),
        false => Err(CommandError::CrossSlot),
    }
}

/// Where calls for `slot` run; `write`: whether any of them writes.
pub fn seat(node: &Node, slot: SlotId, write: bool, access: Access) -> Result<Seat, CommandError> {
    let group = node.group_of(slot);
    let place = match runs_here(node, group, write, access) {
        true => Place::Here,
        false => match group.leader_in_reach() {
            Some(leader) if access.plain => Place::At(leader),
            _ => return Err(elsewhere(node, group, slot)),
        },
    };
    Ok(Seat { group: group.clone(), place, slot })
}

/// Whether the call is one for the replica here: because it leads, because any replica will do, or because no other is
/// known to lead, in which case the group has the call wait for its next leader.
fn runs_here(node: &Node, group: &Group, write: bool, access: Access) -> bool {
    let local = !write && node.config().read_mode == ReadMode::Local;
    match group.leader_in_reach() {
        Some(leader) if leader == node.id() => true,
        // Local reads wait for nobody, and are only for those who asked for them.
        _ if local => access.readonly || group.is_leader(),
        Some(_) => false,
        None => true,
    }
}

/// The error for a slot that another node serves, or nobody.
pub fn elsewhere(node: &Node, group: &Group, slot: SlotId) -> CommandError {
    match group.leader().filter(|leader| *leader != node.id()) {
        Some(leader) => refused(node, Refusal::NotLeader { leader }, Some(slot)),
        None => not_served(),
    }
}

fn not_served() -> CommandError {
    CommandError::ClusterDown("Hash slot not served".to_string())
}

/// What a client is told of a group's refusal: always that nothing was done.
pub fn refused(node: &Node, refusal: Refusal, slot: Option<SlotId>) -> CommandError {
    let addr_of = |id| node.topology().info(id).map(|info| info.client_addr.clone());
    match (refusal, slot) {
        (Refusal::NotLeader { leader }, Some(slot)) => match addr_of(leader) {
            Some(addr) => CommandError::Moved { slot, addr },
            None => not_served(),
        },
        (Refusal::NotLeader { .. }, None) => CommandError::TryAgain("a group has a new leader".to_string()),
        (Refusal::NoQuorum, _) => CommandError::ClusterDown("The cluster is down".to_string()),
        (refusal @ (Refusal::Busy | Refusal::LogFull | Refusal::PartMissing), _) => {
            CommandError::TryAgain(refusal.to_string())
        }
        // Clients look for another node after CLUSTERDOWN: there will soon be one.
        (refusal @ (Refusal::Differs | Refusal::ShuttingDown), _) => {
            CommandError::ClusterDown(refusal.to_string())
        }
    }
}

/// The replies to the calls of a write, each of which was a batch of its own and concerned `slots` in turn.
pub fn written(
    node: &Node,
    outcome: WriteOutcome,
    slots: impl ExactSizeIterator<Item = Option<SlotId>>,
) -> Vec<Reply> {
    match outcome {
        WriteOutcome::Applied(outcomes) => {
            assert_eq!(outcomes.len(), slots.len(), "one outcome for each batch");
            outcomes.into_iter().map(only_reply).collect()
        }
        WriteOutcome::Refused(refusal) => {
            slots.map(|slot| Reply::Error(refused(node, refusal.clone(), slot))).collect()
        }
        WriteOutcome::Unknown(why) => {
            slots.map(|_| Reply::Error(CommandError::Unknown(why.to_string()))).collect()
        }
    }
}

/// The reply of a batch of one call that watches nothing.
fn only_reply(outcome: BatchOutcome) -> Reply {
    match outcome {
        BatchOutcome::Ran(replies) => {
            let mut replies = replies.into_iter();
            let reply = replies.next().expect("one reply for each call");
            assert!(replies.next().is_none(), "one reply for each call");
            reply
        }
        BatchOutcome::WatchFailed => Reply::NullArray,
        BatchOutcome::PartMissing => unreachable!("the group has refused the write"),
    }
}

/// Replaces the error of a slot that moved away while the call was under way by the way to its new group.
pub fn reroute(node: &Node, reply: Reply) -> Reply {
    match reply {
        Reply::Error(CommandError::WrongGroup { slot }) => {
            let group = node.group_of(slot);
            Reply::Error(match group.is_leader() {
                true if !is_founded(group) => not_served(),
                true => CommandError::TryAgain(format!("slot {slot} is moving")),
                false => elsewhere(node, group, slot),
            })
        }
        other => other,
    }
}
