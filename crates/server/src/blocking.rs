//! Clients whose calls have blocked, and the answers that the log brings them.
//!
//! The machine knows waiters, the log serves them ([`quoris_engine::waiters`]); here each waiter of this node's own clients
//! has a channel on which its session waits. An answer may be applied before the session has heard that its call has
//! blocked: so the channel is made when the blocking itself is applied.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use quoris_engine::waiters::WaiterId;
use quoris_engine::{CommandError, Reply};
use quoris_raft::types::{Effects, GroupId};
use tokio::sync::oneshot;

/// The blocked calls of this node's clients.
#[derive(Default)]
pub struct Blocked {
    calls: Mutex<HashMap<(GroupId, WaiterId), Channel>>,
}

/// Where a blocked call's answer goes in, until it does, and where it comes out, until its session takes it.
struct Channel {
    tell: Option<oneshot::Sender<Reply>>,
    told: Option<oneshot::Receiver<Reply>>,
}

impl Channel {
    fn new() -> Channel {
        let (tell, told) = oneshot::channel();
        Channel { tell: Some(tell), told: Some(told) }
    }

    fn send(&mut self, reply: Reply) {
        if let Some(tell) = self.tell.take() {
            // Whose session is gone needs no answer.
            let _ = tell.send(reply);
        }
    }

    fn is_done(&self) -> bool {
        self.tell.is_none() && self.told.is_none()
    }
}

impl Blocked {
    /// Takes in what an entry of `group` did.
    pub fn applied(&self, group: GroupId, effects: &mut Effects) {
        if effects.blocked.is_empty() && effects.served.is_empty() {
            return;
        }
        let mut calls = self.lock();
        calls.extend(effects.blocked.drain(..).map(|id| ((group, id), Channel::new())));
        for (id, reply) in effects.served.drain(..) {
            // Another node's clients are not among them.
            if let Some(channel) = calls.get_mut(&(group, id)) {
                channel.send(reply);
                if channel.is_done() {
                    calls.remove(&(group, id));
                }
            }
        }
    }

    /// The group's replica has been replaced: what became of its blocked calls cannot be said.
    pub fn replaced(&self, group: GroupId) {
        let unknown = || {
            let why = "the group's leader changed while the call was blocked";
            Reply::Error(CommandError::Unknown(why.to_string()))
        };
        self.lock().retain(|(of, _), channel| {
            if *of == group {
                channel.send(unknown());
            }
            !channel.is_done()
        });
    }

    /// Where the answer to call `id` arrives; `None` if no call of this node has blocked under it. To be taken once.
    pub fn answer(&self, group: GroupId, id: WaiterId) -> Option<oneshot::Receiver<Reply>> {
        let mut calls = self.lock();
        let channel = calls.get_mut(&(group, id))?;
        let told = channel.told.take();
        if channel.is_done() {
            calls.remove(&(group, id));
        }
        told
    }

    /// Nobody waits for call `id` any longer.
    pub fn forget(&self, group: GroupId, id: WaiterId) {
        self.lock().remove(&(group, id));
    }

    /// How many calls are blocked.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(GroupId, WaiterId), Channel>> {
        self.calls.lock().expect("no code panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effects(blocked: &[WaiterId], served: &[WaiterId]) -> Effects {
        let served = served.iter().map(|id| (*id, Reply::OK)).collect();
        Effects { blocked: blocked.to_vec(), served, events: Vec::new() }
    }

    #[test]
    fn an_answer_arrives_before_or_after_it_is_asked_for() {
        let blocked = Blocked::default();
        blocked.applied(0, &mut effects(&[1, 2], &[]));
        let mut first = blocked.answer(0, 1).expect("it has blocked");
        assert!(first.try_recv().is_err());
        blocked.applied(0, &mut effects(&[], &[1, 2, 9]));
        assert_eq!(first.try_recv(), Ok(Reply::OK));
        assert_eq!(blocked.answer(0, 2).expect("it has blocked").try_recv(), Ok(Reply::OK));
        assert!(blocked.answer(0, 2).is_none() && blocked.answer(1, 1).is_none());
        assert_eq!(blocked.count(), 0);
    }

    #[test]
    fn a_replaced_replica_leaves_nobody_waiting() {
        let blocked = Blocked::default();
        blocked.applied(0, &mut effects(&[1], &[]));
        blocked.applied(1, &mut effects(&[1], &[]));
        let mut of_0 = blocked.answer(0, 1).expect("it has blocked");
        blocked.replaced(0);
        assert!(matches!(of_0.try_recv(), Ok(Reply::Error(CommandError::Unknown(_)))));
        assert_eq!(blocked.count(), 1);
    }
}
