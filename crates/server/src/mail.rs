//! What a client is sent without having asked just then: messages of its channels, invalidations, what MONITOR shows.
//!
//! Others post, the client's own connection takes. Nobody waits for a client: whoever does not read until its mail is over
//! `client-output-buffer-limit` is disconnected, and nobody else notices.
//!
//! Invariant: mail leaves in the order in which it was posted, and between the replies of two turns, never inside one reply.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use quoris_engine::Reply;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::limits;
use crate::resp::{Protocol, encode};

/// One piece.
#[derive(Clone, Debug, PartialEq)]
pub enum Mail {
    /// A push (in RESP2: an array).
    Push(Vec<Reply>),
    /// A line of text without line breaks, as a simple string.
    Line(String),
}

impl Mail {
    /// About how many bytes it takes, encoded.
    fn bytes(&self) -> usize {
        match self {
            Mail::Push(items) => items.iter().map(bytes_of).sum(),
            Mail::Line(line) => line.len(),
        }
    }

    fn encode(self, protocol: Protocol, out: &mut BytesMut) {
        match self {
            Mail::Push(items) => encode(&Reply::Push(items), protocol, out),
            Mail::Line(line) => {
                out.put_u8(b'+');
                out.put_slice(line.as_bytes());
                out.put_slice(b"\r\n");
            }
        }
    }
}

fn bytes_of(reply: &Reply) -> usize {
    const HEADER: usize = 16;
    HEADER
        + match reply {
            Reply::Bulk(bytes) => bytes.len(),
            Reply::Array(items) => items.iter().map(bytes_of).sum(),
            _ => 0,
        }
}

/// How much output may wait for a client, one class of `client-output-buffer-limit`. 0: without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimit {
    /// Above this the client is disconnected at once.
    pub hard_bytes: u64,
    /// Above this it is after `soft_s`.
    pub soft_bytes: u64,
    /// Seconds.
    pub soft_s: u64,
}

/// One client's mail.
#[derive(Default)]
pub struct Mailbox {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    mail: VecDeque<Mail>,
    bytes: usize,
    /// Replies and mail that have left the box and not the node.
    unsent_bytes: usize,
    /// Since when more waits than the soft limit allows.
    over_since: Option<Instant>,
}

impl Mailbox {
    /// Puts `mail` in. False: the client has more unread than `limit` allows.
    #[must_use]
    pub fn post(&self, mail: Mail, limit: OutputLimit) -> bool {
        let mut state = self.lock();
        state.bytes += mail.bytes();
        state.mail.push_back(mail);
        let fits = state.fits(limit);
        drop(state);
        self.arrived.notify_one();
        fits
    }

    /// Moves what waits to the end of `out`, as long as that is not too long. Whether there was anything.
    pub fn take(&self, protocol: Protocol, out: &mut BytesMut) -> bool {
        let mut state = self.lock();
        let mut any = false;
        while out.len() < limits::OUTPUT_BYTES
            && let Some(mail) = state.mail.pop_front()
        {
            any = true;
            state.bytes -= mail.bytes();
            mail.encode(protocol, out);
        }
        state.unsent_bytes = out.len();
        any
    }

    /// Has [`Mailbox::arrived`] be ready though nothing was posted: there is other news for the connection.
    pub fn nudge(&self) {
        self.arrived.notify_one();
    }

    /// Ready when something has been posted since it was last ready.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// How many bytes of output the connection holds: they count against the limit.
    pub fn set_unsent(&self, bytes: usize) {
        let mut state = self.lock();
        state.unsent_bytes = bytes;
        if bytes == 0 && state.mail.is_empty() {
            state.over_since = None;
        }
    }

    /// Pieces and bytes that wait.
    pub fn waiting(&self) -> (usize, usize) {
        let state = self.lock();
        (state.mail.len(), state.bytes)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fits(&mut self, limit: OutputLimit) -> bool {
        let bytes = (self.bytes + self.unsent_bytes) as u64;
        if bytes > limits::MAIL_BYTES || limit.hard_bytes > 0 && bytes > limit.hard_bytes {
            return false;
        }
        if limit.soft_bytes == 0 || bytes <= limit.soft_bytes {
            self.over_since = None;
            return true;
        }
        let since = *self.over_since.get_or_insert_with(Instant::now);
        since.elapsed() <= Duration::from_secs(limit.soft_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: OutputLimit = OutputLimit { hard_bytes: 100, soft_bytes: 50, soft_s: 1 };

    fn line(bytes: usize) -> Mail {
        Mail::Line("x".repeat(bytes))
    }

    #[tokio::test]
    async fn who_does_not_read_is_over_its_limit() {
        let mailbox = Mailbox::default();
        assert!(mailbox.post(line(60), LIMIT));
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert!(!mailbox.post(line(1), LIMIT), "soft");
        let mut out = BytesMut::new();
        assert!(mailbox.take(Protocol::Resp2, &mut out));
        mailbox.set_unsent(0);
        assert!(mailbox.post(line(100), LIMIT) && !mailbox.post(line(1), LIMIT), "hard");
    }

    #[test]
    fn mail_leaves_in_order_and_in_the_protocol_of_its_client() {
        let mailbox = Mailbox::default();
        assert!(mailbox.post(Mail::Push(vec![Reply::bulk("a")]), LIMIT) && mailbox.post(line(1), LIMIT));
        let mut out = BytesMut::new();
        assert!(mailbox.take(Protocol::Resp3, &mut out) && !mailbox.take(Protocol::Resp3, &mut out));
        assert_eq!(out, ">1\r\n$1\r\na\r\n+x\r\n");
        assert_eq!(mailbox.waiting(), (0, 0));
    }
}
