//! Slots that move from group to group, as clients and operators meet them: QUORIS MOVE, and calls that wait meanwhile.
//!
//! The moving itself is `raft`'s. Here a call for a slot that no group serves waits for its next group, as calls wait for a
//! group's next leader.

use std::time::Duration;

use bytes::Bytes;
use quoris_engine::args::Args;
use quoris_engine::{CommandError, Reply, SlotId};
use quoris_raft::moves::MoveError;
use quoris_raft::types::GroupId;

use crate::route;
use crate::server::Server;
use crate::verbs;

/// QUORIS MOVE group slot [slot ...]: has another group serve slots of one that this node leads.
pub async fn move_slots(server: &Server, words: &[Bytes]) -> Reply {
    let (to, slots) = match wanted(Args(words)) {
        Ok(wanted) => wanted,
        Err(error) => return Reply::Error(error),
    };
    let node = &server.node;
    match node.move_slots(&slots, to).await {
        Ok(moved) => Reply::bulk(moved.to_string()),
        Err(MoveError::Refused(refusal)) => {
            Reply::Error(route::refused(node, refusal, slots.first().copied()))
        }
        Err(error @ MoveError::Unknown(_)) => Reply::Error(CommandError::Unknown(error.to_string())),
        Err(error @ MoveError::UnderWay(_)) => Reply::Error(CommandError::TryAgain(error.to_string())),
        Err(error) => Reply::Error(CommandError::Message(format!("ERR {error}"))),
    }
}

fn wanted(args: Args) -> Result<(GroupId, Vec<SlotId>), CommandError> {
    let to = GroupId::try_from(args.int(2)?).map_err(|_| CommandError::Text("ERR there is no such group"))?;
    let slots = (3..args.len()).map(|i| verbs::slot(args, i, "ERR Invalid slot"));
    Ok((to, slots.collect::<Result<_, _>>()?))
}

/// Ready when `slot` has a group, or has been without one for so long that the call may as well be told.
pub async fn settled(server: &Server, slot: SlotId) {
    server.node.slots().settled(slot, patience(server)).await;
}

/// Ready when every slot has a group, or nobody should wait for that any longer.
pub async fn all_settled(server: &Server) {
    server.node.slots().all_settled(patience(server)).await;
}

fn patience(server: &Server) -> Duration {
    Duration::from_millis(server.settings.get().write_timeout_ms)
}
