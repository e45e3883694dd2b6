//! What a client is sent without having asked just then: messages of its channels, invalidations, what MONITOR shows.
//!
//! Others post, the client's own connection takes. Nobody waits for a client: whoever does not read until its mail is over
//! `client-output-buffer-limit` is disconnected, and nobody else notices.
//!
//! Invariant: mail leaves in the order in which it was posted, and between the replies of two turns, never inside one reply.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use futures::task::AtomicWaker;
use quoris_engine::Reply;
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

/// One client's mail. An empty box costs the connection, which looks at every turn, no lock.
#[derive(Default)]
pub struct Mailbox {
    state: Mutex<State>,
    /// Whether there may be any.
    has_mail: AtomicBool,
    /// Whether `over_since` may be set.
    is_over: AtomicBool,
    /// Replies and mail that have left the box and not the node.
    unsent_bytes: AtomicUsize,
    /// What [`Mailbox::arrived`] waits for, and who waits.
    news: AtomicBool,
    connection: AtomicWaker,
}

#[derive(Default)]
struct State {
    mail: VecDeque<Mail>,
    bytes: usize,
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
        let fits = state.fits(self.unsent_bytes.load(Ordering::Relaxed), limit);
        self.is_over.store(state.over_since.is_some(), Ordering::Relaxed);
        self.has_mail.store(true, Ordering::Relaxed);
        drop(state);
        self.nudge();
        fits
    }

    /// Moves what waits to the end of `out`, as long as that is not too long. Whether there was anything.
    pub fn take(&self, protocol: Protocol, out: &mut BytesMut) -> bool {
        let mut any = false;
        if !self.has_mail.load(Ordering::Relaxed) {
            self.unsent_bytes.store(out.len(), Ordering::Relaxed);
            return any;
        }
        let mut state = self.lock();
        while out.len() < limits::OUTPUT_BYTES
            && let Some(mail) = state.mail.pop_front()
        {
            any = true;
            state.bytes -= mail.bytes();
            mail.encode(protocol, out);
        }
        self.has_mail.store(!state.mail.is_empty(), Ordering::Relaxed);
        self.unsent_bytes.store(out.len(), Ordering::Relaxed);
        any
    }

    /// Has [`Mailbox::arrived`] be ready though nothing was posted: there is other news for the connection.
    pub fn nudge(&self) {
        self.news.store(true, Ordering::Release);
        self.connection.wake();
    }

    /// Ready when something has been posted since it was last ready. For the connection alone: only the last who asks is woken.
    pub async fn arrived(&self) {
        poll_fn(|context| {
            // First: who posts after the look that follows finds somebody to wake.
            self.connection.register(context.waker());
            match self.news.swap(false, Ordering::Acquire) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// How many bytes of output the connection holds: they count against the limit.
    pub fn set_unsent(&self, bytes: usize) {
        self.unsent_bytes.store(bytes, Ordering::Relaxed);
        if bytes == 0 && self.is_over.load(Ordering::Relaxed) {
            let mut state = self.lock();
            if state.mail.is_empty() {
                state.over_since = None;
                self.is_over.store(false, Ordering::Relaxed);
            }
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
    fn fits(&mut self, unsent_bytes: usize, limit: OutputLimit) -> bool {
        let bytes = (self.bytes + unsent_bytes) as u64;
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
