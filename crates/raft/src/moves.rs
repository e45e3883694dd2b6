//! Slots on their way from one group to another: who brings them there, and how a move begins.
//!
//! What a move is, the engine says (`keyspace/ownership.rs`): entries in the logs of two groups. Here is who writes them. The
//! leader of the old group has it give slots up, and seals them when that is applied in its own replica. The leader of
//! the new one reads their keys from *its own node's replica* of the old group, where they stand still, and writes them
//! into the new group's log; nothing is sent but what logs carry anyway. When the slots are served there, the leader of
//! the old group has it forget them.
//!
//! Nobody keeps a record of moves: what is left to do is seen in the machines, by whoever leads then. So a move that has
//! begun ends, whichever nodes die, as long as both groups have leaders.

use std::sync::{Arc, Weak};
use std::time::Duration;

use quoris_engine::entry::{Batch, SlotEpoch};
use quoris_engine::keyspace::Keyspace;
use quoris_engine::keyspace::ownership::Departure;
use quoris_engine::machine::BatchOutcome;
use quoris_engine::{Reply, SlotId};
use tokio::sync::watch;

use crate::group::Group;
use crate::limits;
use crate::node::Node;
use crate::planted::{Bug, is_planted};
use crate::slot_map::{Place, SlotMap};
use crate::types::{GroupId, Refusal, WriteOutcome};

/// Why slots were not moved, or are not known to be.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum MoveError {
    /// There is no such group.
    #[error("there is no group {0}")]
    NoGroup(GroupId),
    /// They have one group to leave.
    #[error("slots {0} and {1} are served by different groups: move those of one group at a time")]
    Apart(SlotId, SlotId),
    /// The old group has not given them up, and will not.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// They may be on their way, or not. To ask again is safe.
    #[error("whether they have begun to move is not known: {0}")]
    Unknown(&'static str),
    /// They are on their way, and will arrive when both groups have leaders.
    #[error("they are on their way still: {0} of them have yet to arrive")]
    UnderWay(usize),
}

impl Node {
    /// Moves those of `slots` that `to` does not serve to that group, from the one that serves them and that this node leads;
    /// ready when they are served there. How many have moved: those that moved away meanwhile, by another call, are not
    /// among them.
    ///
    /// Calls for these slots wait from here on until they have arrived, in this node at least.
    pub async fn move_slots(&self, slots: &[SlotId], to: GroupId) -> Result<usize, MoveError> {
        if self.groups().iter().all(|group| group.id() != to) {
            return Err(MoveError::NoGroup(to));
        }
        let places = slots.iter().map(|slot| (*slot, self.slots().place(*slot)));
        let places: Vec<(SlotId, Place)> = places.filter(|(_, place)| place.group != to).collect();
        let Some(&(first, Place { group: from, .. })) = places.first() else { return Ok(0) };
        if let Some((other, _)) = places.iter().find(|(_, place)| place.group != from) {
            return Err(MoveError::Apart(first, *other));
        }
        let group = self.group_of(first);
        if let Some(leader) = group.leader().filter(|leader| *leader != self.id()) {
            return Err(MoveError::Refused(Refusal::NotLeader { leader }));
        }
        let left = self.leave(group, &places, to).await?;
        self.arrival(&places, group.write_timeout()).await?;
        Ok(left)
    }

    /// Has `from` give up the slots for `to`, while calls for them wait. How many it has given up.
    async fn leave(&self, from: &Group, places: &[(SlotId, Place)], to: GroupId) -> Result<usize, MoveError> {
        // First: of what came before this, all is in the log before the slots are given up, or in the machine.
        let _held = Held::of(self.slots(), places);
        let slots =
            places.iter().map(|(slot, place)| SlotEpoch { slot: u32::from(*slot), epoch: place.epoch });
        match from.write(Batch::leave(to, slots.collect())).await {
            WriteOutcome::Applied(outcomes) => Ok(number_in(&outcomes)),
            WriteOutcome::Refused(refusal) => Err(MoveError::Refused(refusal)),
            WriteOutcome::Unknown(why) => Err(MoveError::Unknown(why)),
        }
    }

    /// Waits for slots that have been given up to be served again.
    async fn arrival(&self, places: &[(SlotId, Place)], limit: Duration) -> Result<(), MoveError> {
        let until = tokio::time::Instant::now() + limit;
        let mut missing = 0;
        for (slot, _) in places {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            missing += usize::from(!self.slots().settled(*slot, left).await);
        }
        if missing == 0 { Ok(()) } else { Err(MoveError::UnderWay(missing)) }
    }
}

/// Slots that calls do not get to, for as long as this lives.
struct Held<'a> {
    map: &'a SlotMap,
    places: Vec<(SlotId, Place)>,
}

impl Held<'_> {
    fn of<'a>(map: &'a SlotMap, places: &[(SlotId, Place)]) -> Held<'a> {
        let held = |(slot, place): &(SlotId, Place)| !place.is_moving() && map.hold(*slot, *place);
        Held { map, places: places.iter().copied().filter(held).collect() }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.places.iter().for_each(|(slot, place)| self.map.release(*slot, *place));
    }
}

/// The number that the only batch of an entry's share has answered.
fn number_in(outcomes: &[BatchOutcome]) -> usize {
    match outcomes {
        [BatchOutcome::Ran(replies)] if let [Reply::Int(number)] = replies[..] => number as usize,
        _ => 0,
    }
}

/// Lets slots arrive that are on their way to `group`, whenever this node leads it.
pub async fn keep_taking_in(node: Weak<Node>, group: Arc<Group>) {
    let mut rounds = Rounds::of(node);
    while let Some(node) = rounds.next(&group).await {
        take_in(&node, &group).await;
    }
}

/// Seals slots that have left `group`, and has it forget those that have arrived, whenever this node leads it.
pub async fn keep_letting_go(node: Weak<Node>, group: Arc<Group>) {
    let mut rounds = Rounds::of(node);
    while let Some(node) = rounds.next(&group).await {
        seal(&group).await;
        let_go(&node, &group).await;
    }
}

/// The moments at which there may be something to do.
struct Rounds {
    node: Weak<Node>,
    /// Until the node is gone.
    changes: Option<watch::Receiver<()>>,
}

impl Rounds {
    fn of(node: Weak<Node>) -> Rounds {
        let changes = node.upgrade().map(|node| node.slots().changes());
        Rounds { node, changes }
    }

    /// The node, when slots have come or gone anywhere, and now and then, for leaders change in between, if it leads `group`; `None`
    /// when it is gone.
    async fn next(&mut self, group: &Group) -> Option<Arc<Node>> {
        let changes = self.changes.as_mut()?;
        loop {
            if let Ok(Err(_)) = tokio::time::timeout(limits::MOVE_CHECK, changes.changed()).await {
                return None;
            }
            if group.is_led_here() && !group.trust.is_distrusted() {
                return self.node.upgrade();
            }
        }
    }
}

/// Writes the pieces of slots that are on their way to `to` into its log, until nothing is left or something fails: then the
/// next round goes on.
async fn take_in(node: &Node, to: &Group) {
    loop {
        let pieces = next_pieces(node, to);
        if pieces.is_empty() {
            return;
        }
        let sent = pieces.len();
        // A long value takes longer than a client would wait, and has to arrive all the same.
        let WriteOutcome::Applied(outcomes) = to.write_within(limits::MOVE_TIMEOUT, pieces).await else {
            return;
        };
        let error = outcomes.iter().find_map(|outcome| match outcome {
            BatchOutcome::Ran(replies) => replies.iter().find(|reply| reply.is_error()),
            BatchOutcome::WatchFailed | BatchOutcome::PartMissing => None,
        });
        if let Some(error) = error {
            tracing::error!(group = to.id(), sent, ?error, "slots that move here cannot be taken in");
            return;
        }
    }
}

/// The next pieces of slots that are on their way to `to`, in the order of groups and slots.
fn next_pieces(node: &Node, to: &Group) -> Vec<Batch> {
    let (mut pieces, mut bytes) = (Vec::new(), 0);
    let piece_bytes = node.config().limits.move_piece_bytes;
    // What a replica holds that differs from the others is not to be spread.
    let sources = node.groups().iter().filter(|from| from.id() != to.id() && !from.trust.is_distrusted());
    for from in sources {
        from.with_machine(|machine| {
            let keys = machine.keyspace();
            let taken = |left: &Departure| left.to == to.id() && left.sealed;
            for left in keys.ownership().leaving().filter(taken) {
                let mut at =
                    to.with_machine(|machine| machine.keyspace().ownership().awaits(left.slot, left.epoch));
                while let Some(position) = at
                    && bytes < limits::MOVE_BYTES
                    && let Some((mut piece, next)) = keys.piece(left.slot, position, piece_bytes)
                {
                    bytes += piece.objects.len() + PIECE_COST;
                    at = Some(next).filter(|_| !piece.last);
                    piece.last |= is_planted(Bug::ArrivedByHalf);
                    pieces.push(Batch::arrive(piece));
                }
            }
        });
    }
    pieces
}

/// What a piece takes besides its keys: many small slots are as good as a large one.
const PIECE_COST: usize = 1 << 10;

/// Has `from` seal what it has given up, now that its leader's replica, which is this one, has given it up.
async fn seal(from: &Group) {
    let unsealed =
        |keys: &Keyspace| -> Vec<_> { keys.ownership().leaving().filter(|left| !left.sealed).collect() };
    let left = from.with_machine(|machine| unsealed(machine.keyspace()));
    if !left.is_empty() {
        // Whatever becomes of it, the next round sees what is left.
        from.write(Batch::seal(left.iter().map(Departure::named).collect())).await;
    }
}

/// Has `from` forget the slots that have arrived where they went.
async fn let_go(node: &Node, from: &Group) {
    let departures: Vec<_> = from.with_machine(|machine| machine.keyspace().ownership().leaving().collect());
    let has_arrived = |slot, epoch, to: GroupId| {
        if is_planted(Bug::ForgottenEarly) {
            return true;
        }
        let target = node.groups().iter().find(|group| group.id() == to);
        // What is applied here is committed: it can be relied upon, however late this replica is.
        target.is_some_and(|group: &Arc<Group>| {
            group.with_machine(|machine| machine.keyspace().ownership().has_reached(slot, epoch))
        })
    };
    let arrived = departures.iter().filter(|left| has_arrived(left.slot, left.epoch, left.to));
    let arrived: Vec<_> = arrived.map(Departure::named).collect();
    if !arrived.is_empty() {
        // Whatever becomes of it, the next round sees what is left.
        from.write(Batch::forget(arrived)).await;
    }
}
