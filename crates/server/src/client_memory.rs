//! `maxmemory-clients`: what clients hold on this node beside its keys, and the bound of it.
//!
//! Each client counts for what its connection holds: buffers, calls that wait for EXEC, keys that it watches, what it
//! listens to. While there is a limit, whoever changes that has it counted again ([`crate::clients::Client::recount`]); when
//! all together reach the limit, those that hold most are disconnected ([`crate::clients::Clients::limit_to`]). A client that
//! said CLIENT NO-EVICT neither counts nor goes, and no more does another node that forwards calls of its own clients.
//!
//! Who is disconnected learns no lie: a call that has begun runs to its end, as for any client that leaves.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::stats::Counter;

/// A connection itself, about.
const CONNECTION_BYTES: usize = 2048;

/// A name that a client watches or listens to, beside its own bytes, about.
const NAME_BYTES: usize = 96;

/// What one client holds, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// What has arrived and is not a whole call yet.
    pub inbox: usize,
    /// Room for what arrives, `inbox` included.
    pub inbox_room: usize,
    /// The call that ran last, as RESP.
    pub call: usize,
    /// Calls that wait for EXEC.
    pub queued: usize,
    /// Replies that wait to be sent.
    pub output: usize,
    /// Room for replies, `output` included.
    pub output_room: usize,
    /// Room for replies that is kept while there are none.
    pub reply_room: usize,
    /// The most that replies have needed of late.
    pub reply_peak: usize,
    /// Names it watches.
    pub watched: usize,
    /// Channels and patterns it listens to.
    pub listens: usize,
    /// Prefixes it tracks.
    pub prefixes: usize,
}

impl Held {
    /// All of it.
    pub fn total(&self) -> usize {
        let buffers = self.inbox_room + self.call + self.output_room;
        CONNECTION_BYTES + buffers + self.queued + self.watched + self.listens + self.prefixes
    }

    /// What `names` take.
    pub fn of_names<'a>(names: impl Iterator<Item = &'a bytes::Bytes>) -> usize {
        names.map(|name| NAME_BYTES + name.len()).sum()
    }

    /// What `count` names take whose own bytes all who listen share.
    pub fn of_shared_names(count: usize) -> usize {
        count * NAME_BYTES
    }
}

/// What all clients hold together.
#[derive(Default)]
pub struct ClientMemory {
    counted: AtomicUsize,
    /// 0 for no limit.
    limit: AtomicU64,
    /// Clients that were disconnected for what they held.
    pub evictions: Counter,
}

impl ClientMemory {
    /// A client that counted for `before` bytes counts for `now`.
    pub fn recount(&self, before: usize, now: usize) {
        // Wraps, as the sum does that it is added to.
        self.counted.fetch_add(now.wrapping_sub(before), Ordering::AcqRel);
    }

    /// A client is disconnected that counted for `bytes`.
    pub fn evicted(&self, bytes: usize) {
        self.recount(bytes, 0);
        self.evictions.add(1);
    }

    /// Sets the limit.
    pub fn limit_to(&self, limit: Option<u64>) {
        self.limit.store(limit.unwrap_or(0), Ordering::Release);
    }

    /// Whether there is a limit: without one nobody counts.
    pub fn is_limited(&self) -> bool {
        self.limit.load(Ordering::Acquire) > 0
    }

    /// Whether clients hold as much as they may, or more.
    pub fn is_over(&self) -> bool {
        let limit = self.limit.load(Ordering::Acquire);
        limit > 0 && self.counted.load(Ordering::Acquire) as u64 >= limit
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clients::Clients;

    #[test]
    fn those_that_hold_most_go_until_the_rest_fits() {
        let clients = Arc::new(Clients::default());
        let places: Vec<_> =
            (0..4).map(|_| clients.enter("a:1".into(), "b:2".into(), 10).expect("a place")).collect();
        for (bytes, place) in [300_000, 100_000, 200_000, 900_000].into_iter().zip(&places) {
            place.client.state().memory.queued = bytes;
            place.client.state().no_evict = bytes == 900_000;
            place.client.recount();
        }
        clients.limit_to(Some(400_000));
        let killed = |place: &crate::clients::Place| place.client.is_killed();
        assert_eq!(places.iter().map(killed).collect::<Vec<_>>(), [true, false, false, false]);
        places[1].client.state().memory.queued = 250_000;
        places[1].client.recount();
        assert_eq!(places.iter().map(killed).collect::<Vec<_>>(), [true, true, false, false]);
        places[3].client.state().no_evict = false;
        places[3].client.recount();
        assert_eq!(places.iter().map(killed).collect::<Vec<_>>(), [true, true, false, true]);
        assert_eq!(clients.memory.evictions.get(), 3);
        drop(places);
        assert_eq!(clients.memory.counted.load(Ordering::Relaxed), 0);
    }
}
