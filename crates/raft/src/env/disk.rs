//! Files, as the log, the snapshots and the catalog need them: written at an offset, fsynced by name.
//!
//! All operations but [`Disk::offload`], [`Disk::offload_idle`] and [`Disk::spawn_worker`] block. Code that runs on the async
//! runtime reaches them through one of these; recovery at start calls them straight.

use std::io;
use std::path::{Path, PathBuf};

use futures::future::BoxFuture;

/// What a disk writes whole or not at all, in bytes.
pub const SECTOR: u64 = 512;

/// An open file.
pub trait File: Send + Sync {
    /// Writes all of `bytes` at `offset`, growing the file if need be.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Reads up to `buf.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Makes all that was written survive a power cut (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Cuts or grows (with zeros) the file to `len` bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A file system.
pub trait Disk: Send + Sync {
    /// A file in which the operating system tells of itself (`/proc`). A disk that is not a real one has none.
    fn read_system(&self, _: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// Like [`Disk::open`], for a file that is written in whole [`SECTOR`]s: a disk that can makes each write durable before
    /// it returns, so that [`File::sync`] has nothing left to do. An error of either leaves unknown what is on disk.
    fn open_durable(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.open(path)
    }

    /// Creates a file, or empties an existing one. Its name survives only after [`Disk::sync_dir`].
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// Like [`Disk::create`], for a file that is written in whole [`SECTOR`]s and read later, if ever: a disk that can
    /// leaves nothing in the page cache, so that [`File::sync`] finds little to do.
    fn create_uncached(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.create(path)
    }

    /// Renames, replacing the target. Survives only after [`Disk::sync_dir`] of the target's directory; between two directories,
    /// of both.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Survives only after [`Disk::sync_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The files and directories in `path`, sorted by name.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// Whether `path` exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Creates a directory and its parents, durably.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory survive a power cut.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Takes the directory for this process until the guard is dropped; `WouldBlock` if another one has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;

    /// Runs `job`, which may block, without stalling the caller's runtime; ready when it has run.
    fn offload(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;

    /// Like [`Disk::offload`], for a job that may wait for as long as others keep the processors busy, and changes no file.
    fn offload_idle(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.offload(job)
    }

    /// Starts `worker`, which owns the log's writes. On a real disk it gets a thread of its own.
    fn spawn_worker(&self, name: &str, worker: Box<dyn Worker>) -> io::Result<()>;
}

/// A loop in three steps, so that the simulator can let time pass, and a crash strike, between each two.
///
/// The driver calls `wait` for work, then `write`, then `sync`, then `finish`, and begins again; it ends when
/// `wait` returns `false`.
pub trait Worker: Send {
    /// Ready when there is work (`true`) or when there will never be any again (`false`).
    fn wait(&mut self) -> BoxFuture<'_, bool>;
    /// Takes all the work there is and writes it.
    fn write(&mut self);
    /// Makes it durable.
    fn sync(&mut self);
    /// Tells those who wait for it.
    fn finish(&mut self);
}
