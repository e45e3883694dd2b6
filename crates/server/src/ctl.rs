//! `quoris ctl`: asks a running node, as any client would.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use quoris_raft::env::{Net, Stream};
use quoris_raft::types::{GroupId, NodeId};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::limits;
use crate::resp::encode_call;
use crate::status::Status;
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
    /// What nodes were given as `requirepass`; empty if nothing.
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
            if !self.password.is_empty()
                && let Err(error) = ask(&mut *stream, &["AUTH", self.password]).await?
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

/// Sends a call and reads its reply: a line or a bulk string, or an error line.
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
        b'+' => Ok(Some(Ok(line))),
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
    fn replies_are_read_when_they_are_whole() {
        let read = |bytes: &[u8]| parse(bytes).expect("a reply or the start of one");
        assert_eq!(read(b"$5\r\nhel"), None);
        assert_eq!(read(b"$5\r\nhello\r\n"), Some(Ok("hello".to_string())));
        assert_eq!(read(b"-NOAUTH x\r\n"), Some(Err("NOAUTH x".to_string())));
        assert_eq!(read(b"+O"), None);
        assert!(parse(b"HTTP/1.1 400\r\n").is_err());
    }
}
