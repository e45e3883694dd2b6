//! The data calls of a turn, run together by group.
//!
//! Consecutive calls for one group are one write (if any of them writes) or one read; runs for different groups are
//! under way together. The replies come out in the order of the calls.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use quoris_engine::command::Command;
use quoris_engine::entry::Draft;
use quoris_engine::{Batch, Call, Reply, SlotId};
use quoris_raft::env::offload::beside;
use quoris_raft::group::Group;
use quoris_raft::types::GroupId;
use tokio::time::Instant;

use crate::clients::Client;
use crate::forward::{self, Patience};
use crate::limits;
use crate::observe::{answer_of_use, asks_of_use};
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

/// Calls between two barriers, and the answers that are known already. Used again for the next ones, so that a small call asks for
/// no memory of its own here.
#[derive(Default)]
pub struct Segment {
    answers: Vec<Option<Answer>>,
    runs: Vec<Run>,
    /// What runs that are over have left.
    room: Vec<Calls>,
}

/// Calls, and what is known of each.
#[derive(Default)]
struct Calls {
    calls: Vec<Call>,
    asked: Vec<Asked>,
}

/// Calls for one group.
struct Run {
    group: Arc<Group>,
    id: GroupId,
    place: Place,
    write: bool,
    of: Calls,
}

/// What is known of a call.
struct Asked {
    row: &'static Command,
    slot: SlotId,
    /// Where its answer goes among the segment's.
    place: usize,
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
            let of = self.room.pop().unwrap_or_default();
            self.runs.push(Run { group: seat.group, id, place, write: false, of });
            self.runs.len() - 1
        });
        let run = &mut self.runs[at];
        run.write |= row.writes(&call.args);
        run.of.calls.push(call);
        run.of.asked.push(Asked { row, slot: seat.slot, place: self.answers.len() });
        self.answers.push(None);
    }

    /// The groups that are written to.
    pub fn written(&self) -> impl Iterator<Item = GroupId> {
        self.runs.iter().filter(|run| run.write).map(|run| run.id)
    }

    /// Answers all calls; the groups that have been written to beside those of [`Segment::written`].
    pub async fn run(&mut self, server: &Server, caller: &Caller) -> Vec<GroupId> {
        let mut moved_to = Vec::new();
        if self.runs.len() == 1
            && let Some(run) = self.runs.pop()
        {
            let ran = run.run(server, caller).await;
            self.place(ran, &mut moved_to);
        } else {
            let mut done = futures::stream::iter(std::mem::take(&mut self.runs))
                .map(|run| run.run(server, caller))
                .buffer_unordered(limits::GROUPS_AT_ONCE);
            while let Some(ran) = done.next().await {
                self.place(ran, &mut moved_to);
            }
        }
        moved_to
    }

    fn place(&mut self, ran: Ran, moved_to: &mut Vec<GroupId>) {
        let Ran { mut of, answers, moved_to: more } = ran;
        for (asked, answer) in of.asked.drain(..).zip(answers) {
            self.answers[asked.place] = Some(answer);
        }
        of.calls.clear();
        self.room.push(of);
        moved_to.extend(more);
    }

    /// The answers of [`Segment::run`], in the order of the calls; the segment is empty then.
    pub fn take_answers(&mut self) -> impl Iterator<Item = Answer> {
        self.answers.drain(..).map(|answer| answer.expect("every call has been answered"))
    }

    /// Whether one of them takes long to be encoded.
    pub fn has_long_answer(&self) -> bool {
        self.answers.iter().flatten().any(Answer::is_long)
    }

    /// Gives back what a long run of calls has taken.
    pub fn keep_little(&mut self) {
        let is_little = |room: &Calls| room.calls.capacity() <= limits::KEPT_CALLS;
        self.room.truncate(1);
        self.room.retain(is_little);
        if self.answers.capacity() > limits::KEPT_CALLS {
            self.answers = Vec::new();
        }
    }
}

/// What has become of a run.
struct Ran {
    /// The calls it had.
    of: Calls,
    answers: Vec<Answer>,
    /// The groups that calls have followed their slots to.
    moved_to: Vec<GroupId>,
}

impl Run {
    async fn run(self, server: &Server, caller: &Caller) -> Ran {
        let began = Instant::now();
        // For all at once: each looks where no cache has looked of late, and need not wait for the other.
        server.note_use(&caller.client, began, self.each());
        let mut moved_to = Vec::new();
        let mut answers = match caller.plain {
            true => self.wherever(server, caller, &mut moved_to).await,
            false => self.here(server, caller, &self.group, 0).await,
        };
        let usec = began.elapsed().as_micros() as u64 / self.of.calls.len() as u64;
        let config = server.settings.get();
        for ((row, words), answer) in self.each().zip(&mut answers) {
            if let Answer::Own(reply) = answer
                && asks_of_use(row)
            {
                *reply = answer_of_use(server, words, std::mem::replace(reply, Reply::Null));
            }
            server.ran_under(&config, &caller.client, row, Some(words), usec, answer.is_error());
        }
        Ran { of: self.of, answers, moved_to }
    }

    /// The calls, with their rows.
    fn each(&self) -> impl Iterator<Item = (&'static Command, &[Bytes])> {
        self.of.asked.iter().zip(&self.of.calls).map(|(asked, call)| (asked.row, &call.args[..]))
    }

    /// Runs the calls where the group is led, and looks for its leader if that changes, and for its slots' next group if they
    /// move.
    async fn wherever(&self, server: &Server, caller: &Caller, moved_to: &mut Vec<GroupId>) -> Vec<Answer> {
        let patience = Patience::new(server, true);
        let (mut group, mut place) = (self.group.clone(), self.place);
        let mut done = Vec::with_capacity(self.of.calls.len());
        loop {
            let from = done.len();
            let rest = &self.of.calls[from..];
            let got = match place {
                Place::Here => self.here(server, caller, &group, from).await,
                Place::At(node) => {
                    let (protocol, behalf) = (caller.protocol, &caller.behalf);
                    forward::forward_for(server, node, protocol, rest, self.write, behalf).await
                }
            };
            // Nothing is run again that another call of this client has overtaken.
            let settled = got.iter().rposition(|answer| !answer.is_misplaced()).map_or(0, |last| last + 1);
            let next = match self.of.asked.get(from + settled) {
                None => None,
                Some(asked) => patience.next(server, asked.slot).await,
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

    /// Runs the calls from the `from`th on in this node's replica of `group`.
    async fn here(&self, server: &Server, caller: &Caller, group: &Group, from: usize) -> Vec<Answer> {
        let (node, calls) = (&server.node, &self.of.calls[from..]);
        let slots = || self.of.asked[from..].iter().map(|asked| Some(asked.slot));
        // One that is not known to be short is alone in its run.
        let rehearsed = match calls {
            [call] if self.write => scripts::rehearse(server, group, call, &caller.behalf).await,
            _ => Ok(Duration::ZERO),
        };
        let slept = match rehearsed {
            Ok(slept) => slept,
            Err(refused) => return vec![Answer::Own(route::reroute(node, refused))],
        };
        let replies = if self.write {
            // Each call is a batch: only MULTI promises that nothing comes between two of them.
            let _writing = server.scripts.writing(calls);
            let draft = self.draft(server, from, &caller.behalf).await;
            route::written(node, group.write(draft).await, slots())
        } else {
            match group.read(calls).await {
                Ok(reads) => scripts::replies(server, reads, calls, &caller.behalf.rights).await,
                Err(refusal) => {
                    let refused = |slot| Reply::Error(route::refused(node, refusal.clone(), slot));
                    slots().map(refused).collect()
                }
            }
        };
        scripts::wait(slept).await;
        replies.into_iter().map(|reply| Answer::Own(route::reroute(node, reply))).collect()
    }

    /// The calls from the `from`th on as batches of their own; long ones are copied while other clients are served.
    async fn draft(&self, server: &Server, from: usize, behalf: &Behalf) -> Draft {
        let Behalf { origin, rights } = behalf;
        let (calls, asked) = (&self.of.calls[from..], &self.of.asked[from..]);
        if let Some(user) = rights
            && asked.iter().any(|asked| asked.row.runs_script())
        {
            let under = |row: &Command| Some(&**user).filter(|_| row.runs_script());
            let batch =
                |(call, asked): (&Call, &Asked)| Batch::of(vec![call.clone()]).under(under(asked.row));
            return calls.iter().zip(asked).map(|both| batch(both).by(*origin)).collect();
        }
        let bytes: usize = calls.iter().flat_map(|call| &call.args).map(Bytes::len).sum();
        if bytes <= limits::LONG_CALLS_BYTES {
            return Draft::of_each(calls, *origin);
        }
        let (calls, origin) = (calls.to_vec(), *origin);
        beside(&*server.env.cpu, move || Draft::of_each(&calls, origin)).await
    }
}
