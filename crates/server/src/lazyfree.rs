//! Values that clients have had removed to be freed aside: dropped on a thread of their own, while the group goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quoris_engine::garbage::Garbage;
use quoris_raft::env::Cpu;

use crate::stats::Counter;

/// What is being freed, and what has been.
#[derive(Default)]
pub struct LazyFree {
    pending: AtomicU64,
    /// Objects that have been freed.
    pub freed: Counter,
}

impl LazyFree {
    /// Frees `garbage` without keeping anybody waiting.
    pub fn free(self: &Arc<LazyFree>, cpu: &dyn Cpu, garbage: Garbage) {
        let (this, objects) = (Arc::clone(self), garbage.objects() as u64);
        this.pending.fetch_add(objects, Ordering::Relaxed);
        tokio::spawn(cpu.run(Box::new(move || {
            drop(garbage);
            this.pending.fetch_sub(objects, Ordering::Relaxed);
            this.freed.add(objects);
        })));
    }

    /// Objects that have yet to be freed.
    pub fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }
}
