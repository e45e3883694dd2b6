//! How often calls that read found their keys: INFO's `keyspace_hits` and `keyspace_misses`.
//!
//! No state: nothing that a machine does depends on it, it is in no snapshot, and replicas differ in it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::args::Args;
use crate::command::{Chapter, Command, Flags};
use crate::keyspace::Keyspace;

/// Two counters that readers share. Relaxed: they order nothing.
#[derive(Debug, Default)]
pub struct Lookups {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Lookups {
    /// Counts the keys of a call that has read them; calls of scripts are not counted, nor what looks at memory.
    pub(crate) fn note(&self, keys: &Keyspace, row: &Command, args: Args) {
        if !row.flags.contains(Flags::READONLY) || row.chapter == Chapter::Server || row.runs_script() {
            return;
        }
        let (mut hits, mut misses) = (0, 0);
        for key in row.keys.of(args.0) {
            match keys.contains(key) {
                true => hits += 1,
                false => misses += 1,
            }
        }
        for (counter, n) in [(&self.hits, hits), (&self.misses, misses)] {
            if n > 0 {
                counter.fetch_add(n, Ordering::Relaxed);
            }
        }
    }

    /// Keys that were there, and keys that were not.
    pub fn figures(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    /// They begin again.
    pub fn reset(&self) {
        self.hits.store(0, Ordering::Relaxed);
        self.misses.store(0, Ordering::Relaxed);
    }
}
