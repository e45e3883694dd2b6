//! Getting a value back from a job that blocks or takes long.

use std::io;

use tokio::sync::oneshot;

use super::{Cpu, Disk};

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

/// Like [`offload`], by [`Disk::offload_idle`].
pub async fn offload_idle<T: Send + 'static>(
    disk: &dyn Disk,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (tell, mut told) = oneshot::channel();
    // The receiver outlives the job.
    disk.offload_idle(Box::new(move || drop(tell.send(job())))).await;
    told.try_recv().map_err(io::Error::other)
}

/// Runs `job`, which takes long and touches nothing but memory, beside the runtime's tasks and hands back what it returns.
pub async fn beside<T: Send + 'static>(cpu: &dyn Cpu, job: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, mut told) = oneshot::channel();
    // The receiver outlives the job.
    cpu.run(Box::new(move || drop(tell.send(job())))).await;
    told.try_recv().expect("the job has run")
}
