//! How eagerly snapshots are written, so that whoever waits for the log and for a processor feels little of it.
//!
//! Writing one takes a processor and the disk, for gigabytes many seconds. So its work is done on processors that nobody else
//! wants, and the disk is left alone between two pieces. But when the log fills meanwhile, or nobody ever lets it have a processor,
//! that it goes on is what counts.
//!
//! What changes files is not done there: who waits for a processor within such a call may hold the file system's journal, and the
//! log would wait with it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::time::Instant;

use crate::env::Disk;
use crate::env::offload::{offload, offload_idle};
use crate::limits;
use crate::log::SharedLog;

/// Where the work for a snapshot is done, and when.
#[derive(Clone, Default)]
pub struct Pace {
    /// Whose room counts; `None`: there is nobody to be kept waiting.
    log: Option<SharedLog>,
    /// For so many jobs it need not give way.
    pressed: Arc<AtomicU32>,
}

impl Pace {
    /// As the log's room allows.
    pub fn of(log: SharedLog) -> Pace {
        Pace { log: Some(log), pressed: Arc::default() }
    }

    /// Runs `job`, a part of the work for a snapshot that writes nothing.
    pub async fn run<T: Send + 'static>(
        &self,
        disk: &dyn Disk,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        if !self.gives_way() {
            return offload(disk, job).await;
        }
        let began = Instant::now();
        let done = offload_idle(disk, job).await;
        if began.elapsed() > limits::SNAPSHOT_STARVED {
            self.pressed.store(limits::SNAPSHOT_JOBS_PRESSED, Ordering::Relaxed);
        }
        done
    }

    /// Leaves the disk to others for a moment, once in so many `bytes` of work.
    pub async fn rest(&self, bytes: &mut usize) {
        if *bytes < limits::SNAPSHOT_TURN_BYTES {
            return;
        }
        *bytes = 0;
        if self.has_room() {
            tokio::time::sleep(limits::SNAPSHOT_REST).await;
        }
    }

    fn gives_way(&self) -> bool {
        let one_less = |jobs: u32| jobs.checked_sub(1);
        let pressed = self.pressed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok();
        !pressed && self.has_room()
    }

    /// Whether there is a log, and it is not about to be full.
    fn has_room(&self) -> bool {
        let usage = self.log.as_ref().map(SharedLog::usage);
        usage.is_some_and(|usage| usage.bytes_live <= usage.max_bytes / 4 * 3)
    }
}
