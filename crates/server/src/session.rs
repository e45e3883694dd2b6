//! One client's conversation: its calls in, their replies out, in order.
//!
//! Consecutive calls for one group are one write (if any of them writes) or one read; runs for different groups are
//! under way together. Commands that the session runs itself, and those that concern every group, are barriers:
//! what came before has its reply before they run.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use quoris_engine::args::Args;
use quoris_engine::command::{self, Command, Resolved, Verb};
use quoris_engine::{Batch, Call, Reply, SlotId};
use quoris_raft::group::Group;
use quoris_raft::types::GroupId;
use tokio::time::Instant;

use crate::clients::Client;
use crate::limits;
use crate::resp::decode::DecodeLimits;
use crate::resp::{Protocol, encode};
use crate::route::{self, Access, Route};
use crate::server::Server;
use crate::{gather, verbs};

/// Whether replies are sent (CLIENT REPLY).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    /// All.
    On,
    /// None.
    Off,
    /// Not the next one.
    SkipNext,
}

/// The state of a conversation.
pub struct Session {
    /// The node's server.
    pub server: Arc<Server>,
    /// What others see of the client.
    pub client: Arc<Client>,
    /// The version of RESP it speaks.
    pub protocol: Protocol,
    /// Whether it has given the password.
    pub authenticated: bool,
    /// READONLY.
    pub readonly: bool,
    /// CLIENT REPLY.
    pub replies: Replies,
    /// Whether the connection is to be closed when the replies so far are sent.
    pub closing: bool,
}

impl Session {
    /// A conversation with a client that has just connected.
    pub fn new(server: Arc<Server>, client: Arc<Client>) -> Session {
        let authenticated = server.settings.get().requirepass.is_empty();
        Session {
            server,
            client,
            protocol: Protocol::Resp2,
            authenticated,
            readonly: false,
            replies: Replies::On,
            closing: false,
        }
    }

    /// What it may do now. A password that is no longer required need not be given.
    pub fn access(&self) -> Access {
        let config = self.server.settings.get();
        let authenticated = self.authenticated || config.requirepass.is_empty();
        let debug = match config.enable_debug_command.as_str() {
            "local" => self.client.is_local(),
            value => value == "yes",
        };
        Access { authenticated, readonly: self.readonly, debug }
    }

    /// What it may send now.
    pub fn decode_limits(&self) -> DecodeLimits {
        let config = self.server.settings.get();
        DecodeLimits {
            bulk_bytes: config.proto_max_bulk_len as i64,
            call_bytes: config.client_query_buffer_limit as usize,
            authenticated: self.access().authenticated,
        }
    }

    /// Runs `calls` and appends their replies to `out`.
    pub async fn run(&mut self, calls: Vec<Vec<Bytes>>, out: &mut BytesMut) {
        let mut segment = Segment::default();
        let mut last = None;
        for words in calls {
            if self.closing {
                break;
            }
            match route::route(&self.server.node, &words, self.access()) {
                Ok(Route::Group { row, group, slot }) => {
                    last = Some(Resolved { command: row, container: None });
                    segment.add(row, group, slot, Call { args: words });
                }
                Ok(Route::Session(resolved, verb)) => {
                    self.finish(std::mem::take(&mut segment), out).await;
                    last = None;
                    self.used(resolved);
                    let reply = match verb {
                        Verb::DebugSleep => Some(verbs::debug::sleep(Args(&words)).await),
                        verb => verbs::run(self, resolved, verb, &words),
                    };
                    let failed = reply.as_ref().is_some_and(Reply::is_error);
                    self.server.stats.ran(resolved.command, 0, failed);
                    if let Some(reply) = reply {
                        self.send(&reply, out);
                    }
                }
                Ok(Route::Gather(row)) => {
                    self.finish(std::mem::take(&mut segment), out).await;
                    last = None;
                    self.used(Resolved { command: row, container: None });
                    let reply = self.gather(row, words).await;
                    self.send(&reply, out);
                }
                Err(error) => {
                    self.server.stats.refused(words.first().and_then(|name| command::find(name)));
                    segment.answer(Reply::Error(error));
                }
            }
        }
        if let Some(last) = last {
            self.used(last);
        }
        self.finish(segment, out).await;
    }

    async fn gather(&self, row: &'static Command, words: Vec<Bytes>) -> Reply {
        let began = Instant::now();
        let reply = gather::gather(&self.server.node, &self.server.env, row, words).await;
        self.server.stats.ran(row, began.elapsed().as_micros() as u64, reply.is_error());
        reply
    }

    /// Runs what has been collected and sends its replies.
    async fn finish(&mut self, segment: Segment, out: &mut BytesMut) {
        for reply in segment.run(&self.server).await {
            self.send(&reply, out);
        }
    }

    /// Encodes a reply, if the client wants any.
    fn send(&mut self, reply: &Reply, out: &mut BytesMut) {
        match self.replies {
            Replies::On => encode(reply, self.protocol, out),
            Replies::Off => {}
            Replies::SkipNext => self.replies = Replies::On,
        }
    }

    /// Notes what others see in CLIENT LIST.
    fn used(&self, resolved: Resolved) {
        let mut state = self.client.state();
        state.last = Some(resolved);
        state.active = Instant::now();
    }
}

/// Calls between two barriers, and the replies that are known already.
#[derive(Default)]
struct Segment {
    replies: Vec<Option<Reply>>,
    runs: Vec<Run>,
}

/// Calls for one group.
struct Run {
    group: Arc<Group>,
    id: GroupId,
    write: bool,
    calls: Vec<Call>,
    slots: Vec<Option<SlotId>>,
    rows: Vec<&'static Command>,
    /// Where each call's reply goes among the segment's.
    places: Vec<usize>,
}

impl Segment {
    fn answer(&mut self, reply: Reply) {
        self.replies.push(Some(reply));
    }

    fn add(&mut self, row: &'static Command, group: Arc<Group>, slot: SlotId, call: Call) {
        let id = group.id();
        let found = self.runs.iter().position(|run| run.id == id);
        let at = found.unwrap_or_else(|| {
            self.runs.push(Run::new(group));
            self.runs.len() - 1
        });
        let run = &mut self.runs[at];
        run.write |= row.is_write();
        run.calls.push(call);
        run.slots.push(Some(slot));
        run.rows.push(row);
        run.places.push(self.replies.len());
        self.replies.push(None);
    }

    /// All replies, in the order of the calls.
    async fn run(mut self, server: &Server) -> Vec<Reply> {
        let place = |replies: &mut Vec<Option<Reply>>, (places, got): (Vec<usize>, Vec<Reply>)| {
            for (place, reply) in places.into_iter().zip(got) {
                replies[place] = Some(reply);
            }
        };
        if self.runs.len() == 1
            && let Some(run) = self.runs.pop()
        {
            place(&mut self.replies, run.run(server).await);
        } else {
            let mut done = futures::stream::iter(self.runs)
                .map(|run| run.run(server))
                .buffer_unordered(limits::GROUPS_AT_ONCE);
            while let Some(answered) = done.next().await {
                place(&mut self.replies, answered);
            }
        }
        self.replies.into_iter().map(|reply| reply.expect("every call has been answered")).collect()
    }
}

impl Run {
    fn new(group: Arc<Group>) -> Run {
        let id = group.id();
        let (calls, slots, rows, places) = Default::default();
        Run { group, id, write: false, calls, slots, rows, places }
    }

    /// The replies, and where they go.
    async fn run(self, server: &Server) -> (Vec<usize>, Vec<Reply>) {
        let began = Instant::now();
        let node = &server.node;
        let replies = if self.write {
            // Each call is a batch: only MULTI promises that nothing comes between two of them.
            let batches = self.calls.into_iter().map(|call| Batch::of(vec![call])).collect();
            route::written(node, self.group.write(batches).await, &self.slots)
        } else {
            match self.group.read(&self.calls).await {
                Ok(replies) => replies,
                Err(refusal) => {
                    let refused = |slot| Reply::Error(route::refused(node, refusal.clone(), slot));
                    self.slots.iter().copied().map(refused).collect()
                }
            }
        };
        let usec = began.elapsed().as_micros() as u64 / self.rows.len() as u64;
        let replies: Vec<Reply> = replies.into_iter().map(|reply| route::reroute(node, reply)).collect();
        for (row, reply) in self.rows.iter().zip(&replies) {
            server.stats.ran(row, usec, reply.is_error());
        }
        (self.places, replies)
    }
}
