//! The seams on the real operating system. Only `main` and tests that want a real disk build these.
//!
//! Disk work never runs on the async runtime: jobs go to one disk thread per [`OsDisk`], those that may wait to another one, the
//! log's worker to a thread of its own, so that a slow fsync stalls neither the network nor another group's timers.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures::future::BoxFuture;
use rustix::fs::{FlockOperation, OFlags};
use thread_priority::ThreadPriority;
use thread_priority::unix::{
    NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::disk::{Disk, File, SECTOR, Worker};
use super::durable::Direct;
use super::{Clock, Cpu, Listener, Net, Rng, Stream};

/// Name of the file whose lock says that a process owns the directory.
const LOCK_FILE: &str = "lock";

type Job = Box<dyn FnOnce() + Send>;

/// The machine's file system.
pub struct OsDisk {
    jobs: mpsc::Sender<Job>,
    idle_jobs: mpsc::Sender<Job>,
}

impl OsDisk {
    /// Starts the disk's threads.
    pub fn new() -> io::Result<OsDisk> {
        Ok(OsDisk { jobs: start("disk", || ())?, idle_jobs: start("disk-idle", run_when_idle)? })
    }
}

/// A thread that does jobs one after the other, once it is made `ready`.
fn start(name: &str, ready: impl FnOnce() + Send + 'static) -> io::Result<mpsc::Sender<Job>> {
    let (jobs, queue) = mpsc::channel::<Job>();
    let run = move || {
        ready();
        queue.into_iter().for_each(|job| job());
    };
    thread::Builder::new().name(name.into()).spawn(run)?;
    Ok(jobs)
}

/// Has the calling thread run on processors that nobody else wants (`SCHED_IDLE`, sched(7)): who has something to do takes the place of
/// such a thread at once, and not only at the end of its slice, some 3 ms later.
fn run_when_idle() {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy) {
        // It works all the same, and others wait for it longer.
        tracing::debug!(?error, "snapshots are written at the same priority as all else");
    }
}

/// Hands a job to a thread; ready when it has run.
fn hand_over(jobs: &mpsc::Sender<Job>, job: Job) -> BoxFuture<'static, ()> {
    let (done, ready) = oneshot::channel();
    let sent = jobs.send(Box::new(move || {
        job();
        // The caller may have stopped waiting; the job has run all the same.
        let _ = done.send(());
    }));
    Box::pin(async move {
        assert!(sent.is_ok() && ready.await.is_ok(), "a disk thread is gone: a disk job panicked");
    })
}

struct OsFile(fs::File);

impl File for OsFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.0.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

/// A file that is written past the page cache. Reads go through it; the kernel keeps it true.
struct DirectFile {
    direct: Direct,
    cached: OsFile,
    /// Whether writes are durable when they return.
    durable: bool,
}

impl DirectFile {
    fn sync_if(&self, wanted: bool) -> io::Result<()> {
        if wanted { self.cached.sync() } else { Ok(()) }
    }
}

impl File for DirectFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.direct.takes(bytes, offset) {
            return self.direct.write_at(bytes, offset);
        }
        self.cached.write_at(bytes, offset)?;
        self.sync_if(self.durable)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.cached.read_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_if(!self.durable)
    }

    fn len(&self) -> io::Result<u64> {
        self.cached.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.cached.set_len(len)?;
        self.sync_if(self.durable)
    }
}

impl OsFile {
    fn open(path: &Path) -> io::Result<OsFile> {
        Ok(OsFile(fs::OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn create(path: &Path) -> io::Result<OsFile> {
        Ok(OsFile(fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?))
    }

    /// This file, written past the page cache if that can be.
    fn past_the_cache(self, path: &Path, flags: OFlags) -> io::Result<Box<dyn File>> {
        let durable = flags.contains(OFlags::DSYNC);
        Ok(match Direct::open(path, SECTOR, flags)? {
            Some(direct) => Box::new(DirectFile { direct, cached: self, durable }),
            None => Box::new(self),
        })
    }
}

impl Disk for OsDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(OsFile::open(path)?))
    }

    fn open_durable(&self, path: &Path) -> io::Result<Box<dyn File>> {
        OsFile::open(path)?.past_the_cache(path, OFlags::DSYNC)
    }

    fn read_system(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(OsFile::create(path)?))
    }

    fn create_uncached(&self, path: &Path) -> io::Result<Box<dyn File>> {
        OsFile::create(path)?.past_the_cache(path, OFlags::empty())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = fs::read_dir(path)?.map(|e| Ok(e?.path())).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)?;
        // Every parent's entry must be durable too; which of them are new is not worth finding out.
        path.canonicalize()?.ancestors().skip(1).take(path.components().count()).try_for_each(|dir| {
            match self.sync_dir(dir) {
                // A parent we may not open was there before us: only its owner could have created it.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                synced => synced,
            }
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let path = path.join(LOCK_FILE);
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        // flock is released by the kernel when the process dies, however it dies.
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }

    fn offload(&self, job: Job) -> BoxFuture<'static, ()> {
        hand_over(&self.jobs, job)
    }

    fn offload_idle(&self, job: Job) -> BoxFuture<'static, ()> {
        hand_over(&self.idle_jobs, job)
    }

    fn spawn_worker(&self, name: &str, mut worker: Box<dyn Worker>) -> io::Result<()> {
        let run = move || {
            while futures::executor::block_on(worker.wait()) {
                worker.write();
                worker.sync();
                worker.finish();
            }
        };
        thread::Builder::new().name(name.into()).spawn(run).map(drop)
    }
}

/// The machine's processors.
pub struct OsCpu;

impl Cpu for OsCpu {
    fn run(&self, job: Job) -> BoxFuture<'static, ()> {
        let done = tokio::task::spawn_blocking(job);
        Box::pin(async move {
            assert!(done.await.is_ok(), "a job has panicked");
        })
    }

    fn threads(&self) -> usize {
        thread::available_parallelism().map_or(1, usize::from)
    }
}

/// The machine's wall clock.
pub struct OsClock;

impl Clock for OsClock {
    fn now_ms(&self) -> u64 {
        // Before 1970 there is no time; the machine's own clock is the maximum it has seen anyway.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
    }
}

/// The machine's randomness.
pub struct OsRng;

impl Rng for OsRng {
    fn next_u64(&self) -> u64 {
        rand::random()
    }
}

/// The machine's TCP.
pub struct OsNet;

struct OsListener(TcpListener);

#[async_trait]
impl Net for OsNet {
    async fn listen(&self, addr: &str) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(OsListener(TcpListener::bind(addr).await?)))
    }

    async fn connect(&self, addr: &str) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

#[async_trait]
impl Listener for OsListener {
    async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, String)> {
        let (stream, peer) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        Ok((Box::new(stream), peer.to_string()))
    }

    fn local_addr(&self) -> io::Result<String> {
        Ok(self.0.local_addr()?.to_string())
    }
}
