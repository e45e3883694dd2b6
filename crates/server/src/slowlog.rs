//! SLOWLOG: the latest calls that took long.
//!
//! A call's time is what its client waited for this node: from routing to the reply, the majority's fsync included. Redis counts
//! execution alone; here a write that waits for a slow disk or a slow peer shows, which is what an operator looks for.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::clients::Client;
use crate::limits;
use crate::monitor::redacted;

/// A call that took long.
#[derive(Clone, Debug)]
pub struct SlowCall {
    /// 0, 1, 2, …: never reused while the process lives.
    pub id: u64,
    /// When it ended, in seconds since the Unix epoch.
    pub at_s: u64,
    /// How long it took.
    pub usec: u64,
    /// Its words, clipped.
    pub words: Vec<Bytes>,
    /// The client's address.
    pub addr: String,
    /// The client's name.
    pub name: String,
}

/// The latest of them, newest first.
#[derive(Default)]
pub struct SlowLog {
    calls: Mutex<VecDeque<SlowCall>>,
    next_id: AtomicU64,
}

impl SlowLog {
    /// Notes a call, and forgets the oldest beyond `most`.
    pub fn note(&self, client: &Client, words: &[Bytes], usec: u64, now_ms: u64, most: usize) {
        let call = SlowCall {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            at_s: now_ms / 1000,
            usec,
            words: clipped(&redacted(words)),
            addr: client.addr.clone(),
            name: client.state().name.clone(),
        };
        let mut calls = self.lock();
        calls.push_front(call);
        calls.truncate(most);
    }

    /// The newest `count`; `None`: all.
    pub fn newest(&self, count: Option<usize>) -> Vec<SlowCall> {
        let calls = self.lock();
        calls.iter().take(count.unwrap_or(calls.len())).cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all.
    pub fn reset(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<SlowCall>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As Redis clips: at most 32 words of at most 128 bytes, and the rest counted.
fn clipped(words: &[Bytes]) -> Vec<Bytes> {
    let (most_words, most_bytes) = limits::SLOWLOG_CLIP;
    let clip = |word: &Bytes| match word.len().checked_sub(most_bytes) {
        None | Some(0) => Bytes::copy_from_slice(word),
        Some(more) => {
            let tail = format!("... ({more} more bytes)");
            Bytes::from([&word[..most_bytes], tail.as_bytes()].concat())
        }
    };
    if words.len() <= most_words {
        return words.iter().map(clip).collect();
    }
    let more = words.len() - most_words + 1;
    let tail = Bytes::from(format!("... ({more} more arguments)"));
    words[..most_words - 1].iter().map(clip).chain([tail]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_calls_are_clipped_as_redis_does() {
        let many: Vec<Bytes> = (0..40).map(|n| Bytes::from(n.to_string())).collect();
        let shown = clipped(&many);
        assert_eq!((shown.len(), &shown[31][..]), (32, &b"... (9 more arguments)"[..]));
        let long = clipped(&[Bytes::from(vec![b'A'; 130])]);
        assert_eq!(long[0], Bytes::from("A".repeat(128) + "... (2 more bytes)"));
    }
}
