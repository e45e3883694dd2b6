//! `quoris ctl`: asks a running node, as any client would.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use quoris_engine::{SLOT_COUNT, SlotId};
use quoris_raft::env::{Net, Stream};
use quoris_raft::types::{GroupId, NodeId};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::config::Member;
use crate::limits;
use crate::resp::encode_call;
use crate::status::{GroupRow, NodeStatus, Status};
use crate::verify::{Audit, Verified};

/// Why there is no answer. One line for the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// Nobody is there, or nobody answers.
    #[error("{addr}: {source}")]
    Io {
        /// Who was asked.
        addr: String,
        /// What went wrong.
        source: io::Error,
    },
    /// The node answered with an error.
    #[error("{addr}: {error}")]
    Refused {
        /// Who was asked.
        addr: String,
        /// What it said.
        error: String,
    },
}

/// Whom to ask, and how to be let in.
#[derive(Clone)]
pub struct Target<'a> {
    /// The way to nodes.
    pub net: &'a dyn Net,
    /// Whom to log in as; empty for the user `default`.
    pub user: &'a str,
    /// With which password; empty for none.
    pub password: &'a str,
}

impl Target<'_> {
    /// The status of the node at `addr`.
    pub async fn status(&self, addr: &str) -> Result<Status, CtlError> {
        self.json(addr, &["QUORIS", "STATUS"], limits::CTL_TIMEOUT_MS).await
    }

    /// What every node of the cluster that `addr` belongs to says of its replicas; with an audit of each group, if wanted.
    pub async fn verify(&self, addr: &str, audit: bool) -> Result<Verified, CtlError> {
        let first = self.status(addr).await?;
        let audits = match audit {
            true => Some(self.audits(&first).await),
            false => None,
        };
        let asked = first.nodes.iter().map(|node| async move {
            // Whoever does not answer is shown as such.
            (node.id, self.status(&node.client_addr).await.ok())
        });
        let statuses = futures::future::join_all(asked).await.into_iter().collect();
        Ok(Verified::of(statuses, audits.as_ref()))
    }

    async fn audits(&self, seen: &Status) -> BTreeMap<GroupId, Option<Audit>> {
        let addr =
            |id: NodeId| seen.nodes.iter().find(|node| node.id == id).map(|node| node.client_addr.as_str());
        let mut audits = BTreeMap::new();
        // One after the other: each reads the whole state of its group on every node.
        for group in &seen.groups {
            let audit = match group.leader.and_then(addr) {
                Some(leader) => {
                    let words = ["QUORIS", "AUDIT", &group.id.to_string()];
                    self.json(leader, &words, limits::CTL_AUDIT_TIMEOUT_MS).await.ok()
                }
                None => None,
            };
            audits.insert(group.id, audit);
        }
        audits
    }

    /// Has the node at `addr` rebuild its replica of `group`. What it says of that.
    pub async fn rebuild(&self, addr: &str, group: GroupId) -> Result<String, CtlError> {
        let words = ["QUORIS", "REBUILD", &group.to_string()];
        self.text(addr, &words, limits::CTL_AUDIT_TIMEOUT_MS).await
    }

    /// Has group `to` serve `slots`, a few at a time; `tell` is told how many do and how many are to. `addr` is any node of the
    /// cluster.
    pub async fn move_slots(
        &self,
        addr: &str,
        slots: &BTreeSet<SlotId>,
        to: GroupId,
        mut tell: impl FnMut(usize, usize),
    ) -> Result<(), MoveFailed> {
        let mut failures = 0;
        loop {
            let seen = self.status(addr).await?;
            let steps = steps(&seen, slots, to)?;
            let mut left = steps.iter().map(|step| step.slots.len()).sum::<usize>();
            tell(slots.len() - left, slots.len());
            if steps.is_empty() {
                return Ok(());
            }
            for step in steps {
                match self.move_step(&step, to).await {
                    Ok(()) => {
                        failures = 0;
                        left -= step.slots.len();
                        tell(slots.len() - left, slots.len());
                    }
                    // A leader that changes, or a cluster that cannot now: what has begun will end, and the rest is asked again.
                    Err(error) => {
                        failures += 1;
                        if failures > limits::CTL_MOVE_ATTEMPTS {
                            return Err(MoveFailed::Ctl(error));
                        }
                        tokio::time::sleep(Duration::from_millis(limits::CTL_MOVE_RETRY_MS)).await;
                        break;
                    }
                }
            }
        }
    }

    /// Makes `member` a member of the cluster that `addr` belongs to, or gives a member its addresses. What the cluster is then.
    pub async fn add_node(&self, addr: &str, member: &Member) -> Result<Status, CtlError> {
        let words = ["QUORIS", "ADDNODE", &member.id.to_string(), &member.client_addr, &member.peer_addr];
        self.text(addr, &words, limits::CTL_TIMEOUT_MS).await?;
        self.status(addr).await
    }

    /// Takes node `id` out of the cluster that `addr` belongs to, and waits until no group counts on it; `tell` is told how
    /// many still do.
    pub async fn remove_node(
        &self,
        addr: &str,
        id: NodeId,
        mut tell: impl FnMut(usize),
    ) -> Result<(), RemovalFailed> {
        let seen = self.status(addr).await?;
        self.text(addr, &["QUORIS", "REMOVENODE", &id.to_string()], limits::CTL_TIMEOUT_MS).await?;
        // Whoever stays knows how far it has got; the node that goes ends before it does.
        let stay = |node: &&NodeStatus| node.id != id;
        let others: Vec<&str> =
            seen.nodes.iter().filter(stay).map(|node| node.client_addr.as_str()).collect();
        let mut counting = Vec::new();
        for _ in 0..limits::CTL_REMOVAL_CHECKS {
            if let Some(now) = self.first_status(&others).await {
                let counts = |group: &&GroupRow| group.voters.contains(&id) || group.learners.contains(&id);
                counting = now.groups.iter().filter(counts).map(|group| group.id).collect();
                tell(counting.len());
                if counting.is_empty() {
                    return Ok(());
                }
            }
            tokio::time::sleep(Duration::from_millis(limits::CTL_MOVE_RETRY_MS)).await;
        }
        Err(RemovalFailed::Late { id, counting })
    }

    async fn first_status(&self, addrs: &[&str]) -> Option<Status> {
        for addr in addrs {
            if let Ok(status) = self.status(addr).await {
                return Some(status);
            }
        }
        None
    }

    async fn move_step(&self, step: &Step, to: GroupId) -> Result<(), CtlError> {
        let mut words = vec!["QUORIS".to_string(), "MOVE".to_string(), to.to_string()];
        words.extend(step.slots.iter().map(SlotId::to_string));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.text(&step.leader, &words, limits::CTL_TIMEOUT_MS).await.map(drop)
    }

    async fn json<T: DeserializeOwned>(
        &self,
        addr: &str,
        words: &[&str],
        limit_ms: u64,
    ) -> Result<T, CtlError> {
        let json = self.text(addr, words, limit_ms).await?;
        serde_json::from_str(&json).map_err(|error| CtlError::Io {
            addr: addr.to_string(),
            source: io::Error::new(io::ErrorKind::InvalidData, error),
        })
    }

    async fn text(&self, addr: &str, words: &[&str], limit_ms: u64) -> Result<String, CtlError> {
        let asked = tokio::time::timeout(Duration::from_millis(limit_ms), async {
            let mut stream = self.net.connect(addr).await?;
            let log_in: &[&str] = match (self.user, self.password) {
                ("", "") => &[],
                ("", password) => &["AUTH", password],
                (user, password) => &["AUTH", user, password],
            };
            if !log_in.is_empty()
                && let Err(error) = ask(&mut *stream, log_in).await?
            {
                return Ok(Err(error));
            }
            ask(&mut *stream, words).await
        });
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        let answer = asked.await.map_err(late).and_then(|answer| answer);
        let answer = answer.map_err(|source| CtlError::Io { addr: addr.to_string(), source })?;
        answer.map_err(|error| CtlError::Refused { addr: addr.to_string(), error })
    }
}

/// Why slots were not moved, or not all of them.
#[derive(Debug, thiserror::Error)]
pub enum MoveFailed {
    /// The last answer of many.
    #[error(transparent)]
    Ctl(#[from] CtlError),
    /// Nothing was asked for.
    #[error("there is no group {0}: see quoris ctl status")]
    NoGroup(GroupId),
}

/// Why a node is not known to be out of every group.
#[derive(Debug, thiserror::Error)]
pub enum RemovalFailed {
    /// It has not begun, or is not known to have.
    #[error(transparent)]
    Ctl(#[from] CtlError),
    /// It has begun, and will end when there are leaders with a quorum.
    #[error(
        "node {id} is no member any more, but groups {counting:?} still count on it, as they do while another member \
         does not vote: see quoris ctl status"
    )]
    Late {
        /// The node.
        id: NodeId,
        /// The groups.
        counting: Vec<GroupId>,
    },
}

/// Slots of one group, which are moved at once: calls for them wait meanwhile, so they are few.
struct Step {
    /// Where the group is led.
    leader: String,
    slots: Vec<SlotId>,
}

/// The steps that bring those of `slots` to group `to` which it does not serve.
fn steps(seen: &Status, slots: &BTreeSet<SlotId>, to: GroupId) -> Result<Vec<Step>, MoveFailed> {
    if seen.groups.iter().all(|group| group.id != to) {
        return Err(MoveFailed::NoGroup(to));
    }
    let addr = |id: NodeId| seen.nodes.iter().find(|node| node.id == id).map(|node| node.client_addr.clone());
    let mut steps = Vec::new();
    for group in seen.groups.iter().filter(|group| group.id != to) {
        let serves = |slot: &SlotId| {
            group.slots.iter().any(|[start, end]| (*start..=*end).contains(&u32::from(*slot)))
        };
        let here: Vec<SlotId> = slots.iter().copied().filter(serves).collect();
        // A group without a leader is asked for at the node that answers, which says so.
        let leader = group.leader.or(Some(seen.node_id)).and_then(addr).unwrap_or_default();
        let chunks = here.chunks(limits::CTL_MOVE_SLOTS);
        steps.extend(chunks.map(|slots| Step { leader: leader.clone(), slots: slots.to_vec() }));
    }
    Ok(steps)
}

/// Slots as people write them: numbers and ranges, with commas between (`0-99,7000`).
pub fn parse_slots(text: &str) -> Result<BTreeSet<SlotId>, String> {
    let mut slots = BTreeSet::new();
    for part in text.split(',').map(str::trim) {
        let (start, end) = part.split_once('-').unwrap_or((part, part));
        let slot = |text: &str| text.trim().parse::<SlotId>().ok().filter(|slot| *slot < SLOT_COUNT);
        match (slot(start), slot(end)) {
            (Some(start), Some(end)) if start <= end => slots.extend(start..=end),
            _ => {
                return Err(format!(
                    "{part:?} is neither a slot (0 to {}) nor a range of them",
                    SLOT_COUNT - 1
                ));
            }
        }
    }
    Ok(slots)
}

/// Sends a call and reads its reply: a line, a number or a bulk string, or an error line.
async fn ask(stream: &mut dyn Stream, words: &[&str]) -> io::Result<Result<String, String>> {
    let mut call = BytesMut::new();
    encode_call(words, &mut call);
    stream.write_all(&call).await?;
    let mut got = BytesMut::new();
    loop {
        if let Some(reply) = parse(&got)? {
            return Ok(reply);
        }
        if got.len() > limits::CTL_REPLY_BYTES {
            return Err(unexpected("an answer without end"));
        }
        if stream.read_buf(&mut got).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A whole reply at the front of `got`.
fn parse(got: &[u8]) -> io::Result<Option<Result<String, String>>> {
    let Some(end) = got.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let line = text(&got[1..end]);
    match got[0] {
        b'+' | b':' => Ok(Some(Ok(line))),
        b'-' => Ok(Some(Err(line))),
        b'$' => {
            let length: usize = line.parse().map_err(|_| unexpected("an answer of no length"))?;
            Ok(got.get(end + 2..).and_then(|rest| rest.get(..length)).map(|bytes| Ok(text(bytes))))
        }
        _ => Err(unexpected("not an answer of quoris")),
    }
}

fn unexpected(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_written_as_numbers_and_ranges() {
        assert_eq!(parse_slots("3, 5-7,16383"), Ok([3, 5, 6, 7, 16383].into()));
        for wrong in ["", "7-5", "16384", "a", "1,,2", "1-"] {
            assert!(parse_slots(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn replies_are_read_when_they_are_whole() {
        let read = |bytes: &[u8]| parse(bytes).expect("a reply or the start of one");
        assert_eq!(read(b"$5\r\nhel"), None);
        assert_eq!(read(b":1\r\n"), Some(Ok("1".to_string())));
        assert_eq!(read(b"$5\r\nhello\r\n"), Some(Ok("hello".to_string())));
        assert_eq!(read(b"-NOAUTH x\r\n"), Some(Err("NOAUTH x".to_string())));
        assert_eq!(read(b"+O"), None);
        assert!(parse(b"HTTP/1.1 400\r\n").is_err());
    }
}
