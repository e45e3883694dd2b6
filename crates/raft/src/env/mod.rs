//! The seams: everything of the outside world that a node touches. The product runs on the real ones
//! (`os`), the simulator on its own, and no code above can tell which.

pub mod disk;
mod durable;
pub mod fake_disk;
pub mod offload;
pub mod os;

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

pub use disk::Disk;

/// The outside world of one node.
#[derive(Clone)]
pub struct Env {
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Connections, of clients and of peers.
    pub net: Arc<dyn Net>,
    /// Long work.
    pub cpu: Arc<dyn Cpu>,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
}

/// Work that takes long and touches nothing but memory.
pub trait Cpu: Send + Sync {
    /// Runs `job` beside the tasks of the async runtime; ready when it is done.
    fn run(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;

    /// How many jobs can be done at once.
    fn threads(&self) -> usize;
}

/// Runs jobs as the tasks that they are asked for in, for worlds without threads.
pub struct InTask;

impl Cpu for InTask {
    fn run(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        Box::pin(async move { job() })
    }

    fn threads(&self) -> usize {
        1
    }
}

/// Wall-clock time; it may jump and drift. Durations are measured with tokio's monotonic clock, which the
/// simulator owns as well.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;
}

/// Random numbers that need not be the same on every replica (stamps' seeds, election timeouts, ids).
pub trait Rng: Send + Sync {
    /// The next number, uniform over all of `u64`.
    fn next_u64(&self) -> u64;
}

/// A connection's two directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Stream connections.
#[async_trait]
pub trait Net: Send + Sync {
    /// Listens on `addr` (`host:port`).
    async fn listen(&self, addr: &str) -> io::Result<Box<dyn Listener>>;
    /// Connects to `addr` (`host:port`).
    async fn connect(&self, addr: &str) -> io::Result<Box<dyn Stream>>;
}

/// A listening socket.
#[async_trait]
pub trait Listener: Send {
    /// The next connection and its peer's address.
    async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, String)>;
    /// The address it listens on.
    fn local_addr(&self) -> io::Result<String>;
}
