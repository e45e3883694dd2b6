//! Clients whose calls have blocked, the answers that the log brings them, and how a blocked call ends without one.
//!
//! The machine knows waiters, the log serves them ([`quoris_engine::waiters`]); here each waiter of this node's own clients
//! has a channel on which its session waits. An answer may be applied before the session has heard that its call has
//! blocked: so the channel is made when the blocking itself is applied.
//!
//! Whoever stops waiting, for whatever reason, has the group forget the waiter by an entry of the log, and what that entry
//! says decides: forgotten, so nothing was done; or not there any more, so the answer has been given and is delivered.
//! A waiter that nobody waits for is never left behind: it would be given an element that nobody receives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use quoris_engine::command::{Command, Flags};
use quoris_engine::commands;
use quoris_engine::entry::Draft;
use quoris_engine::machine::BatchOutcome;
use quoris_engine::waiters::WaiterId;
use quoris_engine::{Batch, Call, CommandError, Reply};
use quoris_raft::group::{Group, Waiter};
use quoris_raft::planted::{Bug, is_planted};
use quoris_raft::types::{Effects, GroupId, NodeId, Refusal, WriteOutcome};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::clients::Client;
use crate::forward::{self, Patience, Relay};
use crate::limits;
use crate::moves;
use crate::resp::{Answer, Protocol};
use crate::route::{self, Place, Seat};
use crate::segment::Caller;
use crate::server::Server;

/// Why a call stops waiting although nothing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its time has run out, or CLIENT UNBLOCK has it answered as if.
    Timeout,
    /// It is to be answered with an error: CLIENT UNBLOCK … ERROR, or the node stops.
    Error,
    /// Its client has gone.
    Gone,
}

/// What ends a blocked call.
pub type End = oneshot::Sender<Ending>;

/// Where a call that may block hears that it is ended.
pub struct Endings {
    client: Arc<Client>,
    told: oneshot::Receiver<Ending>,
    ended: Option<Ending>,
}

impl Endings {
    /// Of a call that `client` has made.
    pub fn of(client: &Arc<Client>) -> Endings {
        let (end, told) = oneshot::channel();
        client.may_block(end);
        Endings { client: client.clone(), told, ended: None }
    }

    /// The call has come to block: others may see it, and end it.
    pub fn has_blocked(&self) {
        self.client.has_blocked();
    }

    /// Ready when the call is ended from outside, and ever after.
    pub async fn ended(&mut self) -> Ending {
        if let Some(ending) = self.ended {
            return ending;
        }
        // Without anybody who could end it, the client is gone.
        let ending = (&mut self.told).await.unwrap_or(Ending::Gone);
        *self.ended.insert(ending)
    }
}

/// The answer of a call that CLIENT UNBLOCK … ERROR ends.
pub const UNBLOCKED: CommandError = CommandError::Text("UNBLOCKED client unblocked via CLIENT UNBLOCK");

/// The blocked calls of this node's clients.
#[derive(Default)]
pub struct Blocked {
    calls: Mutex<BTreeMap<(GroupId, WaiterId), Channel>>,
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

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(GroupId, WaiterId), Channel>> {
        self.calls.lock().expect("no code panics while it holds this lock")
    }
}

/// Runs a call that may block, where its slot is led, until it has an answer or is ended.
pub async fn run(
    server: Arc<Server>,
    row: &'static Command,
    mut seat: Seat,
    call: Call,
    caller: Caller,
    mut endings: Endings,
) -> Answer {
    let mut patience = Patience::new(&server, caller.plain);
    let timeout = commands::timeout_ms(&call.args).map(Duration::from_millis);
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut moved = false;
    let answer = loop {
        let began = Instant::now();
        // Where it comes to block first its time is counted; of what has passed since, the next place knows nothing.
        let deadline = deadline.filter(|_| moved);
        let answer = match seat.place {
            Place::Here => Answer::Own(here(&server, &seat, &call, &caller, &mut endings, deadline).await),
            Place::At(node) => {
                let told = there(&server, &seat.group, node, caller.protocol, &call, &mut endings, deadline);
                told.await
            }
        };
        if began.elapsed() > write_timeout(&server) {
            // It has not looked for its place so long: it was blocked, and its slot has moved.
            patience = Patience::new(&server, caller.plain);
        }
        let next = match answer.is_misplaced() {
            true => patience.next(&server, seat.slot).await,
            false => None,
        };
        match next {
            Some(next) => (seat, moved) = (next, true),
            None => break forward::for_client(answer, caller.plain),
        }
    };
    let answer = match row.flags.contains(Flags::READONLY) && answer.is_unknown() {
        // What only looks has done nothing, whatever became of it.
        true => Answer::error(CommandError::Unblocked),
        false => answer,
    };
    // How long it waited is not how long it took.
    server.ran(&caller.client, row, Some(&call.args), 0, answer.is_error());
    answer
}

/// Runs the call in this node's replica.
async fn here(
    server: &Arc<Server>,
    seat: &Seat,
    call: &Call,
    caller: &Caller,
    endings: &mut Endings,
    deadline: Option<Instant>,
) -> Reply {
    let node = &server.node;
    let mut waiter =
        match seat.group.propose(Draft::of_each(std::slice::from_ref(call), caller.behalf.origin)) {
            Ok(waiter) => waiter,
            Err(refusal) => return Reply::Error(route::refused(node, refusal, Some(seat.slot))),
        };
    let outcome = waiter.wait(write_timeout(server)).await;
    if matches!(outcome, WriteOutcome::Unknown(_)) {
        tokio::spawn(disown_late(server.clone(), seat.group.clone(), waiter));
    }
    let reply = route::written(node, outcome, std::iter::once(Some(seat.slot))).remove(0);
    let Reply::Blocked { id, timeout_ms } = reply else { return route::reroute(node, reply) };
    let told = server.blocked.answer(seat.group.id(), id).expect("the machine has said that it blocks");
    endings.has_blocked();
    let waiting = Waiting { server, group: &seat.group, id, told };
    let ends = |ms| Instant::now().checked_add(Duration::from_millis(ms));
    let deadline = deadline.or_else(|| timeout_ms.and_then(ends));
    let answer = waiting.run(deadline, endings).await;
    if let Reply::Error(CommandError::WrongGroup { slot }) = answer {
        moves::settled(server, slot).await;
        if means_another_moment(call) && is_made_anew(caller) {
            return Reply::Error(CommandError::Unblocked);
        }
    }
    route::reroute(node, answer)
}

/// Whether a call of this client that belongs elsewhere is made anew there: by this node, or by the one whose relay it is.
fn is_made_anew(caller: &Caller) -> bool {
    caller.plain || caller.client.state().relay
}

/// Whether a call that has blocked would not be the same if it were made anew: one that asks for what comes from now on.
/// Only where it has blocked is it known that its moment has been; before, any moment is as good.
fn means_another_moment(call: &Call) -> bool {
    call.args.iter().any(|word| &word[..] == b"$")
}

/// A call that blocks in this node's replica.
struct Waiting<'a> {
    server: &'a Arc<Server>,
    group: &'a Arc<Group>,
    id: WaiterId,
    told: oneshot::Receiver<Reply>,
}

impl Waiting<'_> {
    async fn run(mut self, deadline: Option<Instant>, endings: &mut Endings) -> Reply {
        let ending = tokio::select! {
            biased;
            told = &mut self.told => return told.unwrap_or_else(|_| forgotten()),
            ending = endings.ended() => ending,
            () = at(deadline) => Ending::Timeout,
            () = deposed(self.server, self.group, self.server.node.id()) => {
                return self.give_up("the group's leader was lost while the call was blocked");
            }
        };
        let limit = Instant::now() + write_timeout(self.server);
        while Instant::now() < limit {
            match cancel(self.group, self.id).await {
                Ok(true) => {
                    self.server.blocked.forget(self.group.id(), self.id);
                    return match ending {
                        Ending::Error => Reply::Error(UNBLOCKED),
                        Ending::Timeout | Ending::Gone => Reply::NullArray,
                    };
                }
                // Its answer was applied before the cancellation, and so told before it was heard of.
                Ok(false) => return (&mut self.told).await.unwrap_or_else(|_| forgotten()),
                Err(_) => {}
            }
            let pause = Duration::from_millis(limits::BLOCKED_CHECK_MS);
            if let Ok(told) = tokio::time::timeout(pause, &mut self.told).await {
                return told.unwrap_or_else(|_| forgotten());
            }
        }
        self.give_up("the call could not be ended in time")
    }

    /// Answers that nothing is known, and has the waiter forgotten when that is possible.
    fn give_up(self, why: &'static str) -> Reply {
        self.server.blocked.forget(self.group.id(), self.id);
        tokio::spawn(disown(self.group.clone(), self.id));
        Reply::Error(CommandError::Unknown(why.to_string()))
    }
}

/// The channel of a call is given up by this module alone, and never while somebody waits on it.
fn forgotten() -> Reply {
    Reply::Error(CommandError::Unknown("the blocked call was forgotten".to_string()))
}

/// Has the group forget waiter `id`: whether it was still there.
async fn cancel(group: &Group, id: WaiterId) -> Result<bool, Option<Refusal>> {
    if is_planted(Bug::CancelNotLogged) {
        return Ok(true);
    }
    match group.write(Batch::cancel(id)).await {
        WriteOutcome::Applied(outcomes) => match outcomes.first() {
            Some(BatchOutcome::Ran(replies)) => Ok(replies.first() == Some(&Reply::Int(1))),
            _ => Ok(false),
        },
        WriteOutcome::Refused(refusal) => Err(Some(refusal)),
        WriteOutcome::Unknown(_) => Err(None),
    }
}

/// Has the group forget a waiter that nobody waits for any more, however long that takes. When another node leads, its
/// first entry has the waiter forgotten.
async fn disown(group: Arc<Group>, id: WaiterId) {
    while let Err(refusal) = cancel(&group, id).await {
        if matches!(refusal, Some(Refusal::NotLeader { .. } | Refusal::ShuttingDown)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(limits::BLOCKED_CHECK_MS)).await;
    }
}

/// Has a call forgotten that may still come to block after its client was told UNKNOWN.
async fn disown_late(server: Arc<Server>, group: Arc<Group>, mut waiter: Waiter) {
    // Its fate comes at last: applied, cut off by another leader, or with the end of the node.
    if let WriteOutcome::Applied(outcomes) = waiter.wait(Duration::MAX).await
        && let Some(BatchOutcome::Ran(replies)) = outcomes.first()
        && let Some(Reply::Blocked { id, .. }) = replies.first()
    {
        server.blocked.forget(group.id(), *id);
        disown(group, *id).await;
    }
}

/// Has node `to` run the call for a client of this one.
async fn there(
    server: &Arc<Server>,
    group: &Arc<Group>,
    to: NodeId,
    protocol: Protocol,
    call: &Call,
    endings: &mut Endings,
    deadline: Option<Instant>,
) -> Answer {
    let mut relay = match server.relays.to(server, to, protocol).await {
        Ok(relay) => relay,
        Err(error) => return forward::unreachable(to, &error),
    };
    if let Err(error) = relay.send(std::slice::from_ref(call)).await {
        return forward::lost(to, true, &error.to_string());
    }
    endings.has_blocked();
    let ending = tokio::select! {
        biased;
        reply = relay.reply() => return back(server, to, relay, reply),
        ending = endings.ended() => ending,
        () = at(deadline) => Ending::Timeout,
        () = deposed(server, group, to) => return forward::lost(to, true, "it no longer leads the group"),
    };
    if ending == Ending::Gone {
        // The other node sees the relay end, as if the client itself had gone.
        return Answer::Own(Reply::NullArray);
    }
    let how = if ending == Ending::Timeout { "TIMEOUT" } else { "ERROR" };
    let words = ["CLIENT".to_string(), "UNBLOCK".to_string(), relay.id.to_string(), how.to_string()];
    let unblock = Call::new(words);
    let limit = Instant::now() + server.patience();
    while Instant::now() < limit {
        // Whatever it answers: the call may not have come to block yet, and its own answer says what became of it.
        forward::ask(server, to, unblock.clone(), false).await;
        let pause = Duration::from_millis(limits::BLOCKED_CHECK_MS);
        if let Ok(reply) = tokio::time::timeout(pause, relay.reply()).await {
            return back(server, to, relay, reply);
        }
    }
    forward::lost(to, true, "no answer in time")
}

fn back(server: &Server, to: NodeId, relay: Relay, reply: std::io::Result<bytes::Bytes>) -> Answer {
    match reply {
        Ok(reply) => {
            server.relays.give_back(relay);
            Answer::Raw(reply)
        }
        Err(error) => forward::lost(to, true, &error.to_string()),
    }
}

/// Ready at `deadline`, if there is one.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Ready when `leader` has not led the group for so long that no answer of its is to be expected.
async fn deposed(server: &Server, group: &Group, leader: NodeId) {
    let limit = write_timeout(server);
    let mut leads_until = Instant::now();
    while leads_until.elapsed() < limit {
        tokio::time::sleep(Duration::from_millis(limits::BLOCKED_CHECK_MS)).await;
        let leads = match leader == server.node.id() {
            true => group.is_led_here(),
            false => group.leader_in_reach() == Some(leader),
        };
        if leads {
            leads_until = Instant::now();
        }
    }
}

fn write_timeout(server: &Server) -> Duration {
    Duration::from_millis(server.settings.get().write_timeout_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effects(blocked: &[WaiterId], served: &[WaiterId]) -> Effects {
        let served = served.iter().map(|id| (*id, Reply::OK)).collect();
        Effects { blocked: blocked.to_vec(), served, ..Effects::default() }
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
