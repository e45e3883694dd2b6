//! Getting a value back from a job that blocks.

use std::io;

use tokio::sync::oneshot;

use super::Disk;

/// Runs `job` where it may block and hands back what it returns.
pub async fn offload<T: Send + 'static>(
    disk: &dyn Disk,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (tell, mut told) = oneshot::channel();
    // The receiver outlives the job.
    disk.offload(Box::new(move || drop(tell.send(job())))).await;
    told.try_recv().map_err(io::Error::other)
}
