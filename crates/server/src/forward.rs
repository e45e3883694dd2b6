//! Calls of plain clients for slots that another node leads, taken there and their replies brought back.
//!
//! A *relay* is a connection to another node's client address, kept for the next call that goes there; a run of calls
//! has one to itself from its first byte to its last reply, so replies cannot cross. The node at the other end is told
//! that the connection is a relay, and never forwards its calls again: it answers them, or says that it cannot.
//!
//! Invariant: a write whose relay breaks after its first byte was sent is answered UNKNOWN and never sent again.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quoris_engine::acl;
use quoris_engine::{Call, CommandError, Reply, SlotId};
use quoris_raft::group::Group;
use quoris_raft::planted::{Bug, is_planted};
use quoris_raft::types::NodeId;
use tokio::time::Instant;

use crate::limits;
use crate::outgoing::Outgoing;
use crate::resp::reply;
use crate::resp::{Answer, Protocol, encode_call};
use crate::route::{Place, Seat};
use crate::scripts;
use crate::server::Server;
use crate::session::Behalf;

/// The relays that nobody uses now.
#[derive(Default)]
pub struct Relays {
    idle: Mutex<BTreeMap<(String, i64), Vec<Relay>>>,
}

/// A connection to another node, on behalf of this node's clients.
pub struct Relay {
    connection: Outgoing,
    addr: String,
    protocol: Protocol,
    /// Under which number the other node knows it as a client.
    pub id: i64,
}

impl Relays {
    /// A relay to node `to` that speaks `protocol`.
    pub async fn to(&self, server: &Server, to: NodeId, protocol: Protocol) -> io::Result<Relay> {
        let topology = server.node.topology();
        let addr = topology.info(to).map(|info| info.client_addr.clone());
        let addr = addr.ok_or(io::ErrorKind::AddrNotAvailable)?;
        while let Some(mut relay) = self.take(&addr, protocol) {
            if relay.connection.is_open() {
                return Ok(relay);
            }
        }
        let limit = Duration::from_millis(limits::RELAY_CONNECT_MS);
        tokio::time::timeout(limit, Relay::connect(server, addr, protocol)).await?
    }

    /// Keeps a relay whose replies have all been read.
    pub fn give_back(&self, relay: Relay) {
        let mut idle = self.lock();
        let kept = idle.entry((relay.addr.clone(), relay.protocol.number())).or_default();
        if kept.len() < limits::IDLE_RELAYS && relay.connection.is_quiet() {
            kept.push(relay);
        }
    }

    fn take(&self, addr: &str, protocol: Protocol) -> Option<Relay> {
        self.lock().get_mut(&(addr.to_string(), protocol.number()))?.pop()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, i64), Vec<Relay>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Relay {
    async fn connect(server: &Server, addr: String, protocol: Protocol) -> io::Result<Relay> {
        let stream = server.env.net.connect(&addr).await?;
        let mut relay = Relay { connection: Outgoing::over(stream), addr, protocol, id: 0 };
        let config = server.settings.keep();
        let known = server.users.get();
        let key = known.everywhere().relay_key();
        let mut greeting: Vec<Vec<&[u8]>> = Vec::new();
        if !config.requirepass.is_empty() {
            greeting.push(vec![b"AUTH", config.requirepass.as_bytes()]);
        }
        if !key.is_empty() {
            greeting.push(vec![b"AUTH", acl::RELAY, key]);
        }
        let log_ins = greeting.len();
        if protocol == Protocol::Resp3 {
            greeting.push(vec![b"HELLO", b"3"]);
        }
        greeting.push(vec![b"QUORIS", b"FORWARDED"]);
        let mut bytes = BytesMut::new();
        greeting.iter().for_each(|words| encode_call(words, &mut bytes));
        relay.connection.send(&bytes).await?;
        let mut last = Bytes::new();
        for (i, _) in greeting.iter().enumerate() {
            last = relay.reply().await?;
            // One of the log-ins may do, or none be needed: whether it may be a relay is what counts.
            if i >= log_ins && last.starts_with(b"-") {
                return Err(io::Error::other(String::from_utf8_lossy(&last).trim().to_string()));
            }
        }
        match reply::parse(&last) {
            Ok(Reply::Int(id)) => relay.id = id,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        Ok(relay)
    }

    /// Sends `calls`.
    pub async fn send(&mut self, calls: &[Call]) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        calls.iter().for_each(|call| encode_call(&call.args, &mut bytes));
        self.connection.send(&bytes).await
    }

    /// The next reply, as the other node encoded it. Once it has failed, the relay is of no use.
    pub async fn reply(&mut self) -> io::Result<Bytes> {
        self.connection.reply().await
    }
}

/// Has node `to` run `calls`: an answer for each. `write`: whether any of them writes.
pub async fn forward(
    server: &Server,
    to: NodeId,
    protocol: Protocol,
    calls: &[Call],
    write: bool,
) -> Vec<Answer> {
    let mut relay = match server.relays.to(server, to, protocol).await {
        Ok(relay) => relay,
        Err(error) => return vec![unreachable(to, &error); calls.len()],
    };
    // What a script does there is not seen here.
    server.tracking.script_has_read();
    let mut answers = Vec::with_capacity(calls.len());
    let asked = tokio::time::timeout(server.patience_for(calls), async {
        relay.send(calls).await?;
        for _ in calls {
            answers.push(Answer::Raw(relay.reply().await?));
        }
        Ok::<(), io::Error>(())
    });
    let failed = match asked.await {
        Ok(Ok(())) => {
            server.relays.give_back(relay);
            return answers;
        }
        Ok(Err(error)) => lost(to, write, &error.to_string()),
        Err(_) => lost(to, write, "no answer in time"),
    };
    answers.resize(calls.len(), failed);
    answers
}

/// [`forward`] for a client of whom the other node must know something: the relay says so for as long as the calls run.
pub async fn forward_for(
    server: &Server,
    to: NodeId,
    protocol: Protocol,
    calls: &[Call],
    write: bool,
    behalf: &Behalf,
) -> Vec<Answer> {
    let is_script = |call: &Call| {
        let words = call.args.get(3..).filter(|_| is_for_group(call)).unwrap_or(&call.args);
        scripts::is_script(words)
    };
    let has_script = behalf.rights.is_some() && calls.iter().any(is_script);
    if (behalf.origin == 0 || !write) && !has_script {
        return forward(server, to, protocol, calls, write).await;
    }
    let marked = [&[behalf.to_call()], calls, &[Behalf::default().to_call()]].concat();
    let mut answers = forward(server, to, protocol, &marked, write).await;
    answers.pop();
    answers.remove(0);
    answers
}

/// Whether it is QUORIS GROUP, behind which another call stands.
fn is_for_group(call: &Call) -> bool {
    let is = |i: usize, word: &[u8]| call.args.get(i).is_some_and(|arg| arg.eq_ignore_ascii_case(word));
    is(0, b"quoris") && is(1, b"group")
}

/// [`forward`] for one call whose reply this node is to understand.
pub async fn ask(server: &Server, to: NodeId, call: Call, write: bool) -> Reply {
    ask_for(server, to, call, write, &Behalf::default()).await
}

/// [`ask`] for a client, as by [`forward_for`].
pub async fn ask_for(server: &Server, to: NodeId, call: Call, write: bool, behalf: &Behalf) -> Reply {
    let mut answers = forward_for(server, to, Protocol::Resp2, &[call], write, behalf).await;
    match answers.pop() {
        Some(Answer::Own(reply)) => reply,
        Some(Answer::Raw(bytes)) => match reply::parse(&bytes) {
            // Its code tells what it is, wherever it is looked at next.
            Ok(Reply::Error(_)) | Err(_) => Reply::Error(error_of(&bytes)),
            Ok(reply) => reply,
        },
        Some(Answer::Many(_)) | None => unreachable!("one encoded answer for one call"),
    }
}

/// Another node's error, with what this node must tell apart told apart.
fn error_of(bytes: &[u8]) -> CommandError {
    let text = String::from_utf8_lossy(bytes);
    let line = text.trim_start_matches('-').trim_end();
    match line.split_once(' ') {
        Some(("UNKNOWN", why)) => CommandError::Unknown(why.to_string()),
        Some(("CLUSTERDOWN", why)) => CommandError::ClusterDown(why.to_string()),
        Some(("TRYAGAIN" | "MOVED", why)) => CommandError::TryAgain(why.to_string()),
        _ => CommandError::Message(line.to_string()),
    }
}

/// The answer when nothing was sent.
pub fn unreachable(to: NodeId, error: &io::Error) -> Answer {
    Answer::error(CommandError::TryAgain(format!("node {to} leads the slot and cannot be reached: {error}")))
}

/// The answer when the relay broke under a call.
pub fn lost(to: NodeId, write: bool, why: &str) -> Answer {
    let text = format!("lost node {to}, to which the call was forwarded: {why}");
    let unknown = write && !is_planted(Bug::ForwardLostIsRefused);
    Answer::error(if unknown { CommandError::Unknown(text) } else { CommandError::TryAgain(text) })
}

/// How long a plain client's call looks for the node that takes it.
pub struct Patience {
    /// None for a client that is told where to go.
    until: Option<Instant>,
}

impl Patience {
    /// For a call that begins now.
    pub fn new(server: &Server, plain: bool) -> Patience {
        let limit = Duration::from_millis(server.settings.get().write_timeout_ms);
        Patience { until: plain.then(|| Instant::now() + limit) }
    }

    /// Where to try next to run a call for `slot`, after an answer that [`Answer::is_misplaced`]; `None` if that answer is to
    /// stand.
    pub async fn next(&self, server: &Server, slot: SlotId) -> Option<Seat> {
        let until = self.until?;
        let slots = server.node.slots();
        slots.settled(slot, until.saturating_duration_since(Instant::now())).await;
        let group = server.node.group_of(slot).clone();
        let place = self.next_in(server, &group).await?;
        Some(Seat { group, place, slot })
    }

    /// The same for what concerns `group`, whichever slots it serves.
    pub async fn next_in(&self, server: &Server, group: &Arc<Group>) -> Option<Place> {
        let until = self.until.filter(|until| *until > Instant::now())?;
        // What this node or the other knows of the leader needs a moment to change.
        tokio::time::sleep(Duration::from_millis(limits::FORWARD_RETRY_MS)).await;
        match tokio::time::timeout_at(until, group.await_leader()).await {
            Ok(Ok(leader)) if leader == server.node.id() => Some(Place::Here),
            Ok(Ok(leader)) => Some(Place::At(leader)),
            Ok(Err(_)) | Err(_) => None,
        }
    }
}

/// What a client reads in the end: one that cannot follow MOVED is not sent away.
pub fn for_client(answer: Answer, plain: bool) -> Answer {
    match answer {
        answer if plain && answer.is_misplaced() => {
            let text = match &answer {
                Answer::Own(Reply::Error(error)) if !matches!(error, CommandError::Moved { .. }) => {
                    return answer;
                }
                Answer::Raw(bytes) if !bytes.starts_with(b"-MOVED") => return answer,
                _ => "the slot's leader is changing",
            };
            Answer::error(CommandError::TryAgain(text.to_string()))
        }
        answer => answer,
    }
}
