//! The file of the next segment, filled with zeros ahead of need by a worker of its own, so that no batch waits for them.
//!
//! It is filled at the pace of the log: twice as fast as the newest segment. All at once, the zeros of one segment would
//! hold up the device, and with it the log, for tens of milliseconds.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use futures::future::BoxFuture;
use tokio::sync::Notify;

use crate::env::Disk;
use crate::env::disk::{File, Worker};

/// Bytes of zeros that are written at once ahead of need: what the log writes meanwhile waits for them at the device.
const PIECE_AHEAD: u64 = 256 << 10;

/// The same when the log waits for the whole file.
const PIECE_IN_NEED: u64 = 1 << 20;

/// The next spare, shared by the log's writer, which wants it, and the worker that makes it.
pub struct NextSpare {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    len: u64,
    state: Mutex<State>,
    work: Notify,
}

#[derive(Default)]
struct State {
    making: Option<Zeros>,
    /// Whether the file is whole, and waits to be taken.
    made: bool,
    /// How many bytes of it the writer would like to see.
    wanted: u64,
    closed: bool,
}

impl State {
    fn wants_more(&self) -> bool {
        !self.made && self.making.as_ref().map_or(0, |zeros| zeros.filled) < self.wanted
    }
}

impl NextSpare {
    /// One of `len` bytes, in the log's directory.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path, len: u64) -> NextSpare {
        NextSpare { disk, path: dir.join("next.tmp"), len, state: Mutex::default(), work: Notify::new() }
    }

    /// The worker that makes it.
    pub fn worker(self: &Arc<NextSpare>) -> Box<dyn Worker> {
        Box::new(Maker(Arc::clone(self)))
    }

    /// Has `bytes` of it made, sooner or later. Its path, once, when it is whole: the caller renames it. Does not wait.
    pub fn want(&self, bytes: u64) -> Option<PathBuf> {
        // Who holds the lock makes a piece: there will be another time to ask.
        let mut state = self.state.try_lock().ok()?;
        if std::mem::take(&mut state.made) {
            state.wanted = 0;
            return Some(self.path.clone());
        }
        state.wanted = state.wanted.max(bytes);
        if state.wants_more() {
            self.work.notify_one();
        }
        None
    }

    /// Makes what is missing of it, now. Its path: the caller renames it.
    pub fn finish(&self) -> io::Result<PathBuf> {
        let mut state = self.lock();
        while !state.made {
            self.go_on(&mut state, PIECE_IN_NEED)?;
        }
        (state.made, state.wanted) = (false, 0);
        Ok(self.path.clone())
    }

    /// Lets the worker end.
    pub fn close(&self) {
        self.lock().closed = true;
        self.work.notify_one();
    }

    /// One more piece; on failure nothing of the file is left.
    fn go_on(&self, state: &mut State, piece: u64) -> io::Result<()> {
        let mut zeros = match state.making.take() {
            Some(zeros) => zeros,
            None => Zeros::begin(&*self.disk, &self.path, self.len)?,
        };
        zeros.fill(piece).map_err(|error| give_up(&*self.disk, &self.path, error))?;
        state.made = zeros.is_whole();
        if !state.made {
            state.making = Some(zeros);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }
}

struct Maker(Arc<NextSpare>);

impl Worker for Maker {
    fn wait(&mut self) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            loop {
                {
                    let state = self.0.lock();
                    if state.closed {
                        return false;
                    }
                    if state.wants_more() {
                        return true;
                    }
                }
                self.0.work.notified().await;
            }
        })
    }

    fn write(&mut self) {
        let mut state = self.0.lock();
        if self.0.go_on(&mut state, PIECE_AHEAD).is_err() {
            // It fails again when the file is needed, and counts then.
            state.wanted = 0;
        }
    }

    fn sync(&mut self) {}

    fn finish(&mut self) {}
}

/// A file that is being filled with zeros.
struct Zeros {
    file: Box<dyn File>,
    len: u64,
    filled: u64,
}

impl Zeros {
    fn begin(disk: &dyn Disk, path: &Path, len: u64) -> io::Result<Zeros> {
        Ok(Zeros { file: disk.create_uncached(path)?, len, filled: 0 })
    }

    fn fill(&mut self, most: u64) -> io::Result<()> {
        let piece = most.min(self.len - self.filled);
        self.file.write_at(&vec![0; piece as usize], self.filled)?;
        self.filled += piece;
        if self.is_whole() { self.file.sync() } else { Ok(()) }
    }

    fn is_whole(&self) -> bool {
        self.filled == self.len
    }
}

/// Makes a file of zeros, durable but for its name; on failure it leaves nothing behind.
pub fn make_zeroed(disk: &dyn Disk, path: &Path, len: u64) -> io::Result<()> {
    let mut zeros = Zeros::begin(disk, path, len)?;
    while !zeros.is_whole() {
        zeros.fill(PIECE_IN_NEED).map_err(|error| give_up(disk, path, error))?;
    }
    Ok(())
}

fn give_up(disk: &dyn Disk, path: &Path, error: io::Error) -> io::Error {
    // What was written is removed to give the room back; failing that, the next start removes it.
    let _ = disk.remove(path);
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::fake_disk::{FakeDisk, FakeDiskOptions};

    #[test]
    fn it_is_made_as_far_as_is_wanted_and_handed_over_once() {
        let disk = FakeDisk::new(1, FakeDiskOptions::default());
        let next = Arc::new(NextSpare::new(disk.mount(), Path::new("/log"), 3 * PIECE_AHEAD));
        let mut worker = next.worker();
        let filled = || next.lock().making.as_ref().map_or(0, |zeros| zeros.filled);
        let mut run = || {
            while next.lock().wants_more() {
                worker.write();
            }
        };
        assert_eq!(next.want(1), None);
        run();
        assert_eq!(filled(), PIECE_AHEAD);
        assert_eq!(next.want(u64::MAX), None);
        run();
        assert_eq!(next.want(u64::MAX), Some("/log/next.tmp".into()));
        assert_eq!(next.want(0), None, "once");
        assert_eq!(next.finish().expect("a good disk"), Path::new("/log/next.tmp"));
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let disk = FakeDisk::new(1, FakeDiskOptions::default());
        let next = Arc::new(NextSpare::new(disk.mount(), Path::new("/log"), 2 * PIECE_AHEAD));
        let mut worker = next.worker();
        assert_eq!(next.want(u64::MAX), None);
        worker.write();
        assert_eq!(disk.files(), [Path::new("/log/next.tmp")]);
        disk.fail_once_after(0);
        worker.write();
        assert!(disk.files().is_empty() && !next.lock().wants_more(), "until it is wanted again");
        disk.fail_once_after(0);
        assert!(next.finish().is_err(), "in need, it is told");
        assert!(next.finish().is_ok());
    }
}
