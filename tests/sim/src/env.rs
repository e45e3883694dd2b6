//! The outside world of a simulated node: turmoil's network, the fake disk, a clock that can be moved, a seeded source
//! of numbers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use quoris_raft::env::fake_disk::FakeDisk;
use quoris_raft::env::{Clock, Cpu, Env, InTask, Listener, Net, Rng, Stream};

/// The wall clock at the beginning of every simulation: 2026-01-01.
pub const BEGIN_MS: u64 = 1_767_225_600_000;

/// What of a node outlives its process: its disk, and how wrong its clock is.
#[derive(Clone)]
pub struct Machine {
    /// Its disk.
    pub disk: FakeDisk,
    /// How far its clock is ahead of the simulation's, in milliseconds.
    pub skew_ms: Arc<AtomicI64>,
    /// Its randomness.
    pub rng: Arc<SeededRng>,
    /// The longest time that a job beside its tasks takes, in milliseconds. Scripts are tried out so.
    pub job_ms: u64,
}

impl Machine {
    /// The world as a process on this machine sees it, until the machine crashes.
    pub fn env(&self) -> Env {
        Env {
            clock: Arc::new(SimClock { skew_ms: Arc::clone(&self.skew_ms) }),
            net: Arc::new(SimNet),
            cpu: match self.job_ms {
                0 => Arc::new(InTask),
                longest_ms => Arc::new(SlowCpu { longest_ms, rng: Arc::clone(&self.rng) }),
            },
            disk: self.disk.mount(),
            rng: Arc::clone(&self.rng) as Arc<dyn Rng>,
        }
    }
}

/// One processor, whose jobs take simulated time.
struct SlowCpu {
    longest_ms: u64,
    rng: Arc<SeededRng>,
}

impl Cpu for SlowCpu {
    fn run(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let takes = Duration::from_millis(1 + self.rng.next_u64() % self.longest_ms);
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            job();
        })
    }

    fn threads(&self) -> usize {
        1
    }
}

struct SimClock {
    skew_ms: Arc<AtomicI64>,
}

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        // Outside of the simulation (while a host is torn down) nobody reads the clock.
        let elapsed = turmoil::sim_elapsed().unwrap_or_default().as_millis() as u64;
        (BEGIN_MS + elapsed).saturating_add_signed(self.skew_ms.load(Ordering::Relaxed))
    }
}

/// SplitMix64.
pub struct SeededRng(AtomicU64);

impl SeededRng {
    /// Numbers that follow from `seed`.
    pub fn new(seed: u64) -> SeededRng {
        SeededRng(AtomicU64::new(seed))
    }
}

impl Rng for SeededRng {
    fn next_u64(&self) -> u64 {
        let state = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

struct SimNet;

#[async_trait]
impl Net for SimNet {
    async fn listen(&self, addr: &str) -> io::Result<Box<dyn Listener>> {
        let port = addr.rsplit_once(':').map_or("", |(_, port)| port);
        // A host of turmoil has one address: its own.
        let listener = turmoil::net::TcpListener::bind(format!("0.0.0.0:{port}")).await?;
        Ok(Box::new(SimListener(listener)))
    }

    async fn connect(&self, addr: &str) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(turmoil::net::TcpStream::connect(addr).await?))
    }
}

struct SimListener(turmoil::net::TcpListener);

#[async_trait]
impl Listener for SimListener {
    async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, String)> {
        let (stream, peer) = self.0.accept().await?;
        Ok((Box::new(stream), peer.to_string()))
    }

    fn local_addr(&self) -> io::Result<String> {
        Ok(self.0.local_addr()?.to_string())
    }
}
