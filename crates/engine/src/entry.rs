//! The log entry's types, generated from `proto/entry.proto`, and how they are built.

use std::sync::Arc;

use crate::acl::User;

pub(crate) mod decode;
mod encode;
#[cfg(test)]
mod tests;

#[allow(missing_docs, clippy::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/quoris.entry.rs"));
}

pub use encode::{Draft, encode};
pub use generated::{
    Arrive, Batch, Bounds, Call, Check, Entry, Genesis, GroupInfo, Leave, Moves, NodeInfo, Part, SlotEpoch,
    SlotRange, Stamp, Topology, UserState, Waiter, Watch,
};
pub(crate) use generated::{
    Function as FunctionState, Holding, Leaving as LeavingState, Library as LibraryState, MachineState,
};
pub use prost::{DecodeError, Message};

/// The newest rules for what an entry does that this build knows ([`Entry::version`]).
pub const VERSION: u32 = WITH_PARTS;

/// The rules by which writes come in parts: nothing else is different.
const WITH_PARTS: u32 = 1;

/// Keys of fields, with the wire type of bytes and messages, as `entry.proto` numbers them.
mod delimited {
    pub const ENTRY_STAMP: u8 = field(1);
    pub const ENTRY_BATCHES: u8 = field(2);
    /// Of a number.
    pub const ENTRY_VERSION: u8 = 6 << 3;
    pub const BATCH_CALLS: u8 = field(1);
    pub const CALL_ARGS: u8 = field(1);

    const fn field(number: u8) -> u8 {
        number << 3 | 2
    }
}

impl Call {
    /// A call of `args`, the command's name first.
    pub fn new<I, A>(args: I) -> Call
    where
        I: IntoIterator<Item = A>,
        A: Into<bytes::Bytes>,
    {
        Call { args: args.into_iter().map(Into::into).collect() }
    }
}

impl Batch {
    /// A batch without preconditions.
    pub fn of(calls: Vec<Call>) -> Batch {
        Batch { calls, ..Batch::default() }
    }

    /// A transaction: `calls` run if no watched key has changed.
    pub fn transaction(calls: Vec<Call>, watches: Vec<Watch>) -> Batch {
        Batch { calls, watches, transaction: true, ..Batch::default() }
    }

    /// Written by `origin`, who knows of its own changes ([`crate::events::KeyEvent::Changed`]).
    pub fn by(self, origin: u64) -> Batch {
        Batch { origin, ..self }
    }

    /// Its scripts run under the rights of `user`; `None`: under everybody's.
    pub fn under(self, user: Option<&User>) -> Batch {
        let state =
            |user: &User| Box::new(UserState { name: user.name.clone(), rules: user.describe_rights() });
        Batch { rights: user.map(state), ..self }
    }

    /// Under whose rights its scripts run; `None`: under everybody's. Rules that are none give no rights.
    pub fn user(&self) -> Option<Arc<User>> {
        let user = |state: &UserState| User::described(&state.name, &state.rules);
        let state = self.rights.as_deref()?;
        Some(Arc::new(user(state).unwrap_or_else(|| User::new(&state.name))))
    }

    /// Evicts keys that still have the version beside them. The reply is how many those were.
    pub fn evict(victims: Vec<Watch>) -> Batch {
        Batch { evict: victims, ..Batch::default() }
    }

    /// Removes those of `keys` that are due, or what is due of them. The reply is how many keys and fields went.
    pub fn expire(keys: Vec<bytes::Bytes>) -> Batch {
        Batch { expire: keys, ..Batch::default() }
    }

    /// Gives up those of `slots` that the group serves in the epoch beside them, to group `to`. The reply is how many.
    pub fn leave(to: u32, slots: Vec<SlotEpoch>) -> Batch {
        Batch::moving(Moves { leave: Some(Leave { to, slots }), ..Moves::default() })
    }

    /// Lets slots be taken that have been given up for these epochs, for the proposer, who leads the group, has seen that they
    /// are. The reply is how many.
    pub fn seal(slots: Vec<SlotEpoch>) -> Batch {
        Batch::moving(Moves { seal: slots, ..Moves::default() })
    }

    /// Takes a piece of a slot that comes from another group. The reply is 1, or 0 for one that is not the next.
    pub fn arrive(piece: Arrive) -> Batch {
        Batch::moving(Moves { arrive: Some(piece), ..Moves::default() })
    }

    /// Drops what is kept of slots that have arrived in these epochs. The reply is how many.
    pub fn forget(slots: Vec<SlotEpoch>) -> Batch {
        Batch::moving(Moves { forget: slots, ..Moves::default() })
    }

    fn moving(moves: Moves) -> Batch {
        Batch { moves: Some(Box::new(moves)), ..Batch::default() }
    }

    /// Forgets a blocked call.
    pub fn cancel(waiter: crate::waiters::WaiterId) -> Batch {
        Batch { cancel: waiter, ..Batch::default() }
    }
}
