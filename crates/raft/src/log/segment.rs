//! Segment files: how they are made, named, recycled and let go.
//!
//! `<number>.log` is live; `<number>.spare`, which it was, and `<number>-new.spare`, which never was live, wait to become
//! the next one; `.tmp` is being made and is removed at start. A file gets a live name only when its header, and its name, are durable, so that damage to a live
//! file's header is damage and not a crash. Writing into zero-filled or recycled files lets fdatasync skip the
//! file system's journal, which halves its cost.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::LogOptions;
use super::format::{SECTOR, SegmentHeader};
use super::spare::{NextSpare, make_zeroed};
use crate::env::disk::{File, Worker};
use crate::env::{Disk, Rng};
use crate::planted::{Bug, is_planted};

/// A live segment. Readers share it; it is let go when the log alone holds it.
pub struct Segment {
    /// Its first sector.
    pub header: SegmentHeader,
    /// Its path.
    pub path: PathBuf,
    /// Its file.
    pub file: Box<dyn File>,
}

/// All files of a log.
pub struct Files {
    disk: Arc<dyn Disk>,
    rng: Arc<dyn Rng>,
    dir: PathBuf,
    segment_bytes: u64,
    max_spares: usize,
    newest: Option<Arc<Segment>>,
    live_bytes: u64,
    spares: Vec<PathBuf>,
    next: Arc<NextSpare>,
    /// Whether a name has changed that a power cut could still change back.
    names_dirty: bool,
}

impl Files {
    /// The files that recovery found.
    pub fn new(
        disk: Arc<dyn Disk>,
        rng: Arc<dyn Rng>,
        dir: &Path,
        options: &LogOptions,
        live: &VecDeque<Arc<Segment>>,
        spares: Vec<PathBuf>,
    ) -> Files {
        let segment_bytes = options.segment_len();
        let next = Arc::new(NextSpare::new(disk.clone(), dir, segment_bytes));
        Files {
            disk,
            rng,
            dir: dir.to_path_buf(),
            segment_bytes,
            max_spares: options.max_spares,
            newest: live.back().cloned(),
            live_bytes: live.iter().map(|segment| segment.header.len).sum(),
            spares,
            next,
            names_dirty: true,
        }
    }

    /// The segment being written.
    pub fn newest(&self) -> &Arc<Segment> {
        self.newest.as_ref().expect("recovery leaves a segment")
    }

    /// Bytes of the live segments.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Bytes of all files but the one that is being made.
    pub fn bytes(&self) -> u64 {
        self.live_bytes + self.spares.len() as u64 * self.segment_bytes
    }

    /// Begins the next segment, with room for a batch of `batch_len` bytes, durably.
    pub fn begin(&mut self, first_batch: u64, batch_len: u64) -> io::Result<Arc<Segment>> {
        let number = self.next_number();
        let needed = SECTOR + batch_len;
        // A spare that could turn back into a live segment must not be overwritten yet.
        self.sync_names()?;
        let (from, len) = if needed > self.segment_bytes {
            (self.make_larger(needed)?, needed)
        } else {
            let spare = self.spares.pop().map_or_else(|| self.next.finish(), Ok)?;
            (spare, self.segment_bytes)
        };
        let header = SegmentHeader { segment: number, first_batch, salt: self.rng.next_u64(), len };
        let file = self.disk.open_durable(&from)?;
        file.write_at(&header.encode(), 0)?;
        file.sync()?;
        let path = live_path(&self.dir, number);
        self.disk.rename(&from, &path)?;
        if !is_planted(Bug::SegmentNameNotDurable) {
            self.disk.sync_dir(&self.dir)?;
        }
        let segment = Arc::new(Segment { header, path, file });
        self.live_bytes += len;
        self.newest = Some(segment.clone());
        Ok(segment)
    }

    /// The worker that makes the next file.
    pub fn maker(&self) -> Box<dyn Worker> {
        self.next.worker()
    }

    /// Has the file to go on with made ahead of need: it is ready when the newest segment, filled up to `offset`, is half
    /// full.
    pub fn make_ahead(&mut self, offset: u64) -> io::Result<()> {
        if self.spares.is_empty()
            && let Some(made) = self.next.want(offset.saturating_mul(2))
        {
            // Its number will be a live segment's, which may be let go of while this one still waits.
            let spare = self.dir.join(format!("{:016x}-new.spare", self.next_number()));
            self.disk.rename(&made, &spare)?;
            self.spares.push(spare);
        }
        Ok(())
    }

    /// Makes a file that is longer than others.
    fn make_larger(&self, len: u64) -> io::Result<PathBuf> {
        let path = self.dir.join(format!("{:016x}.tmp", self.next_number()));
        make_zeroed(&*self.disk, &path, len)?;
        Ok(path)
    }

    /// Lets go of segments that nobody reads and no group needs, oldest first.
    pub fn release(&mut self, gone: Vec<Arc<Segment>>) -> io::Result<()> {
        for segment in gone {
            self.live_bytes -= segment.header.len;
            let spare = segment.path.with_extension("spare");
            let recycle = segment.header.len == self.segment_bytes && self.spares.len() < self.max_spares;
            self.names_dirty = true;
            if recycle {
                self.disk.rename(&segment.path, &spare)?;
                self.spares.push(spare);
            } else {
                self.disk.remove(&segment.path)?;
            }
        }
        Ok(())
    }

    fn next_number(&self) -> u64 {
        self.newest.as_ref().map_or(1, |newest| newest.header.segment + 1)
    }

    fn sync_names(&mut self) -> io::Result<()> {
        if self.names_dirty {
            self.disk.sync_dir(&self.dir)?;
            self.names_dirty = false;
        }
        Ok(())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.next.close();
    }
}

/// Path of the live segment `number`.
pub fn live_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.log"))
}

/// The number in the name of a live segment.
pub fn number_of(path: &Path) -> Option<u64> {
    u64::from_str_radix(path.file_stem()?.to_str()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::fake_disk::{FakeDisk, FakeDiskOptions};

    struct AnyRng;

    impl Rng for AnyRng {
        fn next_u64(&self) -> u64 {
            7
        }
    }

    #[test]
    fn no_two_spares_have_one_name() {
        let disk = FakeDisk::new(1, FakeDiskOptions::default());
        let options = LogOptions { segment_bytes: 2 * SECTOR, ..LogOptions::default() };
        let dir = Path::new("/log");
        let mut files =
            Files::new(disk.mount(), Arc::new(AnyRng), dir, &options, &VecDeque::new(), Vec::new());
        let begin = |files: &mut Files| files.begin(1, SECTOR).expect("a good disk");
        let mut oldest = begin(&mut files);
        // One that waits while files that were let go of are used before it, until its number's has been, too.
        let mut newest = begin(&mut files);
        let mut maker = files.maker();
        files.make_ahead(u64::MAX).expect("a good disk");
        maker.write();
        files.make_ahead(u64::MAX).expect("a good disk");
        assert_eq!(files.spares.len(), 1);
        for _ in 0..3 {
            files.release(vec![oldest]).expect("a good disk");
            oldest = newest;
            newest = begin(&mut files);
        }
        begin(&mut files);
        begin(&mut files);
        let number = |path: PathBuf| number_of(&path);
        let live: Vec<u64> = disk.files().into_iter().filter_map(number).collect();
        assert_eq!(live.len() as u64, newest.header.segment + 2 - 3, "{:?}", disk.files());
    }
}
