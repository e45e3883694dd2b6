//! The data calls of a turn, run together by group.
//!
//! Consecutive calls for one group are one write (if any of them writes) or one read; runs for different groups are
//! under way together. The replies come out in the order of the calls.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use quoris_engine::command::Command;
use quoris_engine::{Batch, Call, Reply, SlotId};
use quoris_raft::group::Group;
use quoris_raft::types::GroupId;
use tokio::time::Instant;

use crate::clients::Client;
use crate::forward::{self, Patience};
use crate::limits;
use crate::observe::AskedOfUse;
use crate::resp::{Answer, Protocol};
use crate::route::{self, Place, Seat};
use crate::scripts;
use crate::server::Server;
use crate::session::Behalf;

/// For whom calls run.
#[derive(Clone)]
pub struct Caller {
    /// The client.
    pub client: Arc<Client>,
    /// What it speaks.
    pub protocol: Protocol,
    /// Whether its calls are taken to wherever they belong.
    pub plain: bool,
    /// The mark of its writes, if it does not want to be told of them, and under whose rights its scripts run.
    pub behalf: Behalf,
}

/// Calls between two barriers, and the answers that are known already.
#[derive(Default)]
pub struct Segment {
    answers: Vec<Option<Answer>>,
    runs: Vec<Run>,
}

/// Calls for one group.
struct Run {
    group: Arc<Group>,
    id: GroupId,
    place: Place,
    write: bool,
    calls: Vec<Call>,
    slots: Vec<Option<SlotId>>,
    rows: Vec<&'static Command>,
    /// Where each call's answer goes among the segment's.
    places: Vec<usize>,
}

impl Segment {
    /// Whether it holds no call.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// Answers a call without running it.
    pub fn answer(&mut self, answer: Answer) {
        self.answers.push(Some(answer));
    }

    /// Adds a call.
    pub fn add(&mut self, row: &'static Command, seat: Seat, call: Call) {
        let (id, place) = (seat.group.id(), seat.place);
        let found = self.runs.iter().position(|run| run.id == id);
        let at = found.unwrap_or_else(|| {
            self.runs.push(Run::new(seat.group, place));
            self.runs.len() - 1
        });
        let run = &mut self.runs[at];
        run.write |= row.writes(&call.args);
        run.calls.push(call);
        run.slots.push(Some(seat.slot));
        run.rows.push(row);
        run.places.push(self.answers.len());
        self.answers.push(None);
    }

    /// The groups that are written to.
    pub fn written(&self) -> impl Iterator<Item = GroupId> {
        self.runs.iter().filter(|run| run.write).map(|run| run.id)
    }

    /// All answers, in the order of the calls, and the groups that have been written to beside those of [`Segment::written`].
    pub async fn run(mut self, server: &Server, caller: &Caller) -> (Vec<Answer>, Vec<GroupId>) {
        let mut moved_to = Vec::new();
        let mut place = |answers: &mut Vec<Option<Answer>>, ran: Ran| {
            for (place, answer) in ran.places.into_iter().zip(ran.answers) {
                answers[place] = Some(answer);
            }
            moved_to.extend(ran.moved_to);
        };
        if self.runs.len() == 1
            && let Some(run) = self.runs.pop()
        {
            place(&mut self.answers, run.run(server, caller).await);
        } else {
            let mut done = futures::stream::iter(self.runs)
                .map(|run| run.run(server, caller))
                .buffer_unordered(limits::GROUPS_AT_ONCE);
            while let Some(answered) = done.next().await {
                place(&mut self.answers, answered);
            }
        }
        let answers = self.answers.into_iter().map(|answer| answer.expect("every call has been answered"));
        (answers.collect(), moved_to)
    }
}

/// What has become of a run.
struct Ran {
    /// Where each answer goes.
    places: Vec<usize>,
    answers: Vec<Answer>,
    /// The groups that calls have followed their slots to.
    moved_to: Vec<GroupId>,
}

impl Run {
    fn new(group: Arc<Group>, place: Place) -> Run {
        let id = group.id();
        let (calls, slots, rows, places) = Default::default();
        Run { group, id, place, write: false, calls, slots, rows, places }
    }

    async fn run(mut self, server: &Server, caller: &Caller) -> Ran {
        // For all at once: each looks where no cache has looked of late, and need not wait for the other.
        let calls = self.rows.iter().zip(&self.calls);
        server.note_use(&caller.client, calls.map(|(row, call)| (*row, &call.args[..])));
        let asked = AskedOfUse::among(&self.rows, &self.calls);
        let began = Instant::now();
        let mut moved_to = Vec::new();
        let mut answers = match caller.plain {
            true => self.wherever(server, caller, &mut moved_to).await,
            false => {
                let kept = server.kept(&self.calls);
                let calls = std::mem::replace(&mut self.calls, kept);
                self.here(server, caller, &self.group, calls, 0).await
            }
        };
        for asked in &asked {
            if let Answer::Own(reply) = &mut answers[asked.at] {
                *reply = asked.answer(server, std::mem::replace(reply, Reply::Null));
            }
        }
        let usec = began.elapsed().as_micros() as u64 / self.rows.len() as u64;
        let config = server.settings.get();
        for (i, (row, answer)) in self.rows.iter().zip(&answers).enumerate() {
            let words = self.calls.get(i).map(|call| &call.args[..]);
            server.ran_under(&config, &caller.client, row, words, usec, answer.is_error());
        }
        Ran { places: self.places, answers, moved_to }
    }

    /// Runs the calls where the group is led, and looks for its leader if that changes, and for its slots' next group if they
    /// move.
    async fn wherever(&self, server: &Server, caller: &Caller, moved_to: &mut Vec<GroupId>) -> Vec<Answer> {
        let patience = Patience::new(server, true);
        let (mut group, mut place) = (self.group.clone(), self.place);
        let mut done = Vec::with_capacity(self.calls.len());
        loop {
            let from = done.len();
            let rest = &self.calls[from..];
            let got = match place {
                Place::Here => self.here(server, caller, &group, rest.to_vec(), from).await,
                Place::At(node) => {
                    let (protocol, behalf) = (caller.protocol, &caller.behalf);
                    forward::forward_for(server, node, protocol, rest, self.write, behalf).await
                }
            };
            // Nothing is run again that another call of this client has overtaken.
            let settled = got.iter().rposition(|answer| !answer.is_misplaced()).map_or(0, |last| last + 1);
            let next = match self.slots.get(from + settled) {
                None | Some(None) => None,
                Some(Some(slot)) => patience.next(server, *slot).await,
            };
            let keep = if next.is_some() { settled } else { got.len() };
            done.extend(got.into_iter().take(keep).map(|answer| forward::for_client(answer, true)));
            match next {
                Some(next) => {
                    if next.group.id() != group.id() {
                        moved_to.push(next.group.id());
                    }
                    (group, place) = (next.group, next.place);
                }
                None => return done,
            }
        }
    }

    /// Runs `calls`, which are those from the `from`th on, in this node's replica of `group`.
    async fn here(
        &self,
        server: &Server,
        caller: &Caller,
        group: &Group,
        calls: Vec<Call>,
        from: usize,
    ) -> Vec<Answer> {
        let node = &server.node;
        let slots = &self.slots[from..];
        // One that is not known to be short is alone in its run.
        let rehearsed = match &calls[..] {
            [call] if self.write => scripts::rehearse(server, group, call, &caller.behalf).await,
            _ => Ok(Duration::ZERO),
        };
        let slept = match rehearsed {
            Ok(slept) => slept,
            Err(refused) => return vec![Answer::Own(route::reroute(node, refused))],
        };
        let replies = if self.write {
            // Each call is a batch: only MULTI promises that nothing comes between two of them.
            let _writing = server.scripts.writing(&calls);
            let Behalf { origin, rights } = &caller.behalf;
            let batch = |(call, row): (Call, &&Command)| {
                let rights = rights.as_deref().filter(|_| row.runs_script());
                Batch::of(vec![call]).by(*origin).under(rights)
            };
            let batches = calls.into_iter().zip(&self.rows[from..]).map(batch).collect();
            route::written(node, group.write(batches).await, slots)
        } else {
            match group.read(&calls).await {
                Ok(reads) => scripts::replies(server, reads, &calls, &caller.behalf.rights).await,
                Err(refusal) => {
                    let refused = |slot| Reply::Error(route::refused(node, refusal.clone(), slot));
                    slots.iter().copied().map(refused).collect()
                }
            }
        };
        scripts::wait(slept).await;
        replies.into_iter().map(|reply| Answer::Own(route::reroute(node, reply))).collect()
    }
}
