//! How much room for replies a connection keeps between calls.
//!
//! As in Redis: as much as the largest reply has taken of late, within bounds. So a busy connection need not ask for memory
//! for each reply, and thousands of idle ones hold next to none. A larger reply takes what it takes until it is sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use crate::limits;

/// After how long a connection's largest reply is forgotten; the same for all. DEBUG REPLYBUFFER changes it.
pub struct PeakLife {
    ms: AtomicU64,
}

impl Default for PeakLife {
    fn default() -> PeakLife {
        PeakLife { ms: AtomicU64::new(limits::REPLY_PEAK_MS) }
    }
}

impl PeakLife {
    /// Sets it; `None`: never.
    pub fn set(&self, ms: Option<u64>) {
        self.ms.store(ms.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What it is by default again.
    pub fn reset(&self) {
        self.set(Some(limits::REPLY_PEAK_MS));
    }

    fn get(&self) -> Option<Duration> {
        Some(self.ms.load(Ordering::Relaxed)).filter(|ms| *ms < u64::MAX).map(Duration::from_millis)
    }
}

/// One connection's room.
pub struct ReplyRoom {
    /// What is kept while there is nothing to send, in bytes.
    kept: usize,
    /// The most that has waited to be sent since `since`.
    peak: usize,
    since: Instant,
    /// What the buffer has come to take.
    taken: usize,
}

impl ReplyRoom {
    /// That of a new connection.
    pub fn new() -> ReplyRoom {
        let (least, _) = limits::REPLY_ROOM_BYTES;
        ReplyRoom { kept: least, peak: 0, since: Instant::now(), taken: 0 }
    }

    /// What is kept, and the most that was needed of late.
    pub fn figures(&self) -> (usize, usize) {
        (self.kept, self.peak)
    }

    /// Takes note of what waits in `out`.
    pub fn note(&mut self, out: &BytesMut) {
        self.taken = self.taken.max(out.capacity());
        self.peak = self.peak.max(out.len());
        self.kept = self.kept.max(fitting(self.peak));
    }

    /// When the room may become smaller, if it can.
    pub fn shrinks_at(&self, life: &PeakLife) -> Option<Instant> {
        let (least, _) = limits::REPLY_ROOM_BYTES;
        life.get().filter(|_| self.kept > least).map(|life| self.since + life)
    }

    /// Gives back what `out` takes beyond the room, if there is nothing to send.
    pub fn fit(&mut self, out: &mut BytesMut, life: &PeakLife) {
        if !out.is_empty() {
            return;
        }
        if life.get().is_some_and(|life| self.since.elapsed() >= life) {
            self.kept = fitting(self.peak);
            (self.peak, self.since) = (0, Instant::now());
        }
        if self.taken > self.kept {
            *out = BytesMut::with_capacity(self.kept);
            self.taken = self.kept;
        }
    }
}

impl Default for ReplyRoom {
    fn default() -> ReplyRoom {
        ReplyRoom::new()
    }
}

/// The room that `bytes` need, within bounds.
fn fitting(bytes: usize) -> usize {
    let (least, most) = limits::REPLY_ROOM_BYTES;
    bytes.clamp(least, most).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_grows_with_replies_and_shrinks_with_rest() {
        let (mut room, life, mut out) = (ReplyRoom::new(), PeakLife::default(), BytesMut::new());
        assert_eq!((room.figures(), room.shrinks_at(&life)), ((1024, 0), None));
        out.extend_from_slice(&[b'x'; 40_000]);
        room.note(&out);
        room.fit(&mut out, &life);
        assert!(out.capacity() >= 40_000, "nothing is given back that is to be sent");
        out.clear();
        room.fit(&mut out, &life);
        assert_eq!((room.figures(), out.capacity()), ((16_384, 40_000), 16_384));
        life.set(None);
        tokio::time::sleep(Duration::from_millis(20)).await;
        room.fit(&mut out, &life);
        assert_eq!(room.figures(), (16_384, 40_000));
        life.set(Some(20));
        // The peak of the time that ends here still counts.
        room.fit(&mut out, &life);
        assert_eq!(room.figures(), (16_384, 0));
        tokio::time::sleep_until(room.shrinks_at(&life).expect("it has grown")).await;
        room.fit(&mut out, &life);
        assert_eq!((room.figures(), out.capacity()), ((1024, 0), 1024));
    }
}
