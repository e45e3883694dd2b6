//! One group's snapshots on disk: one checksummed file per log index.
//!
//! A snapshot is written aside, fsynced, verified whole, renamed, and its directory fsynced; only then is it
//! *current*, and only then are older ones removed. So a half-written one is never seen, and there is always a whole
//! one behind the purged log. docs/internals/disk-format.md draws the file. Invariants:
//!
//! - the current snapshot never goes back to a lower index, whoever finishes last: the log behind it is gone;
//! - what a reader hands out has matched its checksum;
//! - chunks come back as they were pushed.
//!
//! The store must never know what is in a snapshot: `meta` and the chunks are the caller's.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};

use crate::env::Disk;
use crate::env::disk::File;
use crate::env::offload::offload;
use crate::limits;
use crate::pace::Pace;
use crate::planted::{Bug, is_planted};
use crate::types::GroupId;

/// A frame longer than this is damage, not data: a chunk holds one object at most beyond its usual size.
pub const MAX_FRAME_BYTES: usize = 1 << 30;
/// Most bytes of meta.
pub const MAX_META_BYTES: usize = 1 << 20;

const WRITE_BYTES: usize = limits::SNAPSHOT_WRITE_BYTES;
const MAGIC: &[u8; 8] = b"quorisSN";
const VERSION: u32 = 1;
const HEADER: usize = 32;
const FRAME_HEADER: usize = 8;
/// Stands where the length of a frame would: the end.
const END: u32 = u32::MAX;
const TRAILER: usize = 24;

/// Why the snapshots of a group cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotStoreError {
    /// Bytes that were durable are not what was written.
    #[error(
        "the snapshot is damaged: {file} at offset {offset}: {reason}. Restore the file from the same disk, or run \
         quoris rejoin with this node's settings"
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        reason: &'static str,
    },
    /// Written by a newer build.
    #[error("{file} has format {version}, newer than this build reads: start the newer build")]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its format.
        version: u32,
    },
    /// The disk failed or is full.
    #[error("cannot use the snapshots: {file}: {source}")]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl From<SnapshotStoreError> for io::Error {
    fn from(error: SnapshotStoreError) -> io::Error {
        let kind = match &error {
            SnapshotStoreError::Io { source, .. } => source.kind(),
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error.to_string())
    }
}

type Result<T> = std::result::Result<T, SnapshotStoreError>;

/// One group's snapshots. Cheap to clone.
#[derive(Clone)]
pub struct SnapshotStore {
    inner: Arc<Store>,
}

struct Store {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    group: GroupId,
    pace: Pace,
    state: Mutex<State>,
}

struct State {
    current: Option<SnapshotFile>,
    next_temp: u64,
}

/// A whole, verified snapshot. Cheap to clone; it stays readable while any clone lives, also when it is replaced.
#[derive(Clone)]
pub struct SnapshotFile {
    disk: Arc<dyn Disk>,
    file: Arc<SourceFile>,
    /// Until it is adopted.
    temp: Option<Arc<Temp>>,
}

impl SnapshotStore {
    /// Opens the snapshots of `group` in `dir`, verifies the newest, and removes the others. Blocks.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, group: GroupId, pace: Pace) -> Result<SnapshotStore> {
        let current = survey(&disk, dir, group)?;
        let state = Mutex::new(State { current, next_temp: 0 });
        Ok(SnapshotStore { inner: Arc::new(Store { disk, dir: dir.to_path_buf(), group, pace, state }) })
    }

    /// The newest whole snapshot.
    pub fn current(&self) -> Option<SnapshotFile> {
        self.inner.lock().current.clone()
    }

    /// Begins a snapshot of everything up to the entry `index`, which says `meta` of itself.
    pub async fn write(&self, index: u64, meta: Bytes) -> io::Result<SnapshotWriter> {
        assert!(meta.len() <= MAX_META_BYTES, "a snapshot's meta has at most {MAX_META_BYTES} bytes");
        let (header, salt) = Header { group: self.inner.group, index, meta }.encode();
        let mut raw = self.begin(self.inner.pace.clone()).await?;
        raw.push(header.into()).await?;
        Ok(SnapshotWriter { raw, salt, frames: 0, total: 0 })
    }

    /// Begins a snapshot whose file comes from a peer, as fast as it comes: whoever needs one is behind.
    pub async fn receive(&self) -> io::Result<SnapshotReceiver> {
        self.begin(Pace::default()).await
    }

    async fn begin(&self, pace: Pace) -> io::Result<SnapshotReceiver> {
        let number = {
            let mut state = self.inner.lock();
            state.next_temp += 1;
            state.next_temp
        };
        let path = self.inner.dir.join(format!("{:08x}-{number:016x}.tmp", self.inner.group));
        let temp = Temp { disk: self.inner.disk.clone(), path: path.clone(), kept: AtomicBool::new(false) };
        let disk = self.inner.disk.clone();
        let file = offload(&*self.inner.disk, move || disk.create_uncached(&path)).await??;
        let store = self.inner.clone();
        Ok(SnapshotReceiver {
            store,
            temp: Arc::new(temp),
            file: file.into(),
            pace,
            waiting: BytesMut::new(),
            written: 0,
            since_rest: 0,
        })
    }

    /// Runs `job`, which takes long, where the store's own work is done.
    pub async fn beside<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        offload(&*self.inner.disk, job).await
    }

    /// Runs `job`, a part of the making of a snapshot, at its pace.
    pub async fn at_pace<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        self.inner.pace.run(&*self.inner.disk, job).await
    }

    /// Makes a received snapshot the current one, durably; older ones go. Answers what is current then: the same
    /// snapshot, unless a newer one was there before.
    pub async fn adopt(&self, snapshot: SnapshotFile) -> io::Result<SnapshotFile> {
        let store = self.inner.clone();
        let (adopted, older) = offload(&*self.inner.disk, move || store.adopt(snapshot)).await??;
        if let Some(older) = older {
            offload(&*self.inner.disk, move || older.remove()).await??;
        }
        Ok(adopted)
    }
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    /// Reads a file to its end.
    async fn verify(&self, file: &Arc<SourceFile>, pace: &Pace) -> io::Result<()> {
        let mut frames = Frames::start(&file.header);
        while !frames.ended {
            let (file, before) = (file.clone(), frames.offset);
            let some = move || {
                while !frames.ended && frames.offset - before < WRITE_BYTES as u64 {
                    frames.next(&file)?;
                }
                Ok::<_, SnapshotStoreError>(frames)
            };
            frames = pace.run(&*self.disk, some).await??;
        }
        Ok(())
    }

    /// What is current then, and what it has replaced.
    fn adopt(&self, snapshot: SnapshotFile) -> Result<(SnapshotFile, Option<SnapshotFile>)> {
        let Some(temp) = &snapshot.temp else { return Ok((snapshot, None)) };
        // Held throughout, so that of two that finish together the newer one stays.
        let mut state = self.lock();
        let index = snapshot.index();
        if let Some(newer) = state.current.as_ref().filter(|current| current.index() > index) {
            return Ok((newer.clone(), None));
        }
        let path = self.dir.join(format!("{:08x}-{index:016x}.snap", self.group));
        self.disk.rename(&temp.path, &path).map_err(|e| failed(&temp.path, e))?;
        temp.kept.store(true, Ordering::Relaxed);
        if !is_planted(Bug::PurgeBeforeSnapshotDurable) {
            self.disk.sync_dir(&self.dir).map_err(|e| failed(&self.dir, e))?;
        }
        let adopted = open_verified(&self.disk, &path, Verify::Header)?;
        let older = state.current.replace(adopted.clone());
        Ok((adopted, older.filter(|older| older.file.path != path)))
    }
}

/// Finds the newest snapshot, and removes the others.
fn survey(disk: &Arc<dyn Disk>, dir: &Path, group: GroupId) -> Result<Option<SnapshotFile>> {
    let io = |source| failed(dir, source);
    disk.create_dir(dir).map_err(io)?;
    // The newest one's name must be durable, and the file whole, before older ones go.
    disk.sync_dir(dir).map_err(io)?;
    let prefix = format!("{group:08x}-");
    let ours = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&prefix));
    let (mut whole, mut others) = (Vec::new(), Vec::new());
    for path in disk.list(dir).map_err(io)?.into_iter().filter(ours) {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("snap") => whole.push(path),
            Some("tmp") => others.push(path),
            _ => {}
        }
    }
    // Sorted by name, which is by index.
    let newest = whole.pop().map(|path| open_verified(disk, &path, Verify::All)).transpose()?;
    if let Some(newest) = newest.as_ref().filter(|newest| newest.file.header.group != group) {
        return Err(newest.file.damaged(12, "it is another group's"));
    }
    others.extend(whole);
    for path in others {
        disk.remove(&path).map_err(io)?;
    }
    Ok(newest)
}

#[derive(PartialEq, Eq)]
enum Verify {
    Header,
    All,
}

fn open_verified(disk: &Arc<dyn Disk>, path: &Path, verify: Verify) -> Result<SnapshotFile> {
    let file = SourceFile::open(&**disk, path)?;
    if verify == Verify::All {
        let mut frames = Frames::start(&file.header);
        while frames.next(&file)?.is_some() {}
    }
    Ok(SnapshotFile { disk: disk.clone(), file: Arc::new(file), temp: None })
}

/// Gives a file's bytes back to the file system little by little: all at once, the log would wait for that, too.
fn give_back(file: &dyn File) -> io::Result<()> {
    let mut len = file.len()?;
    while len > limits::FREED_BYTES {
        len -= limits::FREED_BYTES;
        file.set_len(len)?;
        file.sync()?;
    }
    Ok(())
}

fn failed(file: &Path, source: io::Error) -> SnapshotStoreError {
    SnapshotStoreError::Io { file: file.to_path_buf(), source }
}

/// The file of a snapshot that is not yet current; removed with its last handle.
struct Temp {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    kept: AtomicBool,
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Relaxed) {
            let (disk, path) = (self.disk.clone(), std::mem::take(&mut self.path));
            // Best effort: what stays is removed at the next start.
            let remove = move || disk.open(&path).and_then(|file| give_back(&*file)).and(disk.remove(&path));
            drop(self.disk.offload(Box::new(move || drop(remove()))));
        }
    }
}

/// Writes a snapshot chunk by chunk; dropped before it is finished, it leaves nothing.
pub struct SnapshotWriter {
    raw: SnapshotReceiver,
    salt: u32,
    frames: u64,
    total: u64,
}

impl SnapshotWriter {
    /// Adds a chunk.
    pub async fn push(&mut self, chunk: Bytes) -> io::Result<()> {
        assert!(chunk.len() <= MAX_FRAME_BYTES, "a chunk has at most {MAX_FRAME_BYTES} bytes");
        let (salt, number, bytes) = (self.salt, self.frames, chunk.clone());
        let crc = move || frame_crc(salt, number, &bytes);
        let crc = match chunk.len() > limits::BESIDE_BYTES {
            true => self.raw.pace.run(&*self.raw.store.disk, crc).await?,
            false => crc(),
        };
        let mut frame = BytesMut::with_capacity(FRAME_HEADER);
        frame.extend_from_slice(&(chunk.len() as u32).to_le_bytes());
        frame.extend_from_slice(&crc.to_le_bytes());
        self.frames += 1;
        self.total += chunk.len() as u64;
        self.raw.push(frame.freeze()).await?;
        self.raw.push(chunk).await
    }

    /// Makes the snapshot durable and current; answers what [`SnapshotStore::adopt`] does.
    pub async fn finish(mut self) -> io::Result<SnapshotFile> {
        let mut trailer = BytesMut::with_capacity(TRAILER);
        trailer.extend_from_slice(&END.to_le_bytes());
        trailer
            .extend_from_slice(&frame_crc(self.salt, self.frames, &self.total.to_le_bytes()).to_le_bytes());
        trailer.extend_from_slice(&self.frames.to_le_bytes());
        trailer.extend_from_slice(&self.total.to_le_bytes());
        self.raw.push(trailer.freeze()).await?;
        let store = SnapshotStore { inner: self.raw.store.clone() };
        store.adopt(self.raw.finish().await?).await
    }
}

/// Takes a snapshot's file piece by piece; dropped before it is finished, it leaves nothing.
pub struct SnapshotReceiver {
    store: Arc<Store>,
    temp: Arc<Temp>,
    file: Arc<dyn File>,
    pace: Pace,
    /// What does not make a whole piece yet.
    waiting: BytesMut,
    written: u64,
    since_rest: usize,
}

impl SnapshotReceiver {
    /// Adds the file's next bytes.
    pub async fn push(&mut self, mut bytes: Bytes) -> io::Result<()> {
        while self.waiting.len() + bytes.len() >= WRITE_BYTES {
            let begun = bytes.split_to(WRITE_BYTES - self.waiting.len());
            if self.waiting.is_empty() {
                self.write(begun).await?;
            } else {
                self.waiting.extend_from_slice(&begun);
                self.write_waiting().await?;
            }
        }
        self.waiting.extend_from_slice(&bytes);
        Ok(())
    }

    /// Makes the file durable and verifies it, whole. It is not current before [`SnapshotStore::adopt`].
    pub async fn finish(mut self) -> io::Result<SnapshotFile> {
        self.write_waiting().await?;
        let Self { store, temp, file, pace, .. } = self;
        let (disk, path) = (store.disk.clone(), temp.path.clone());
        let open = move || {
            if !is_planted(Bug::PurgeBeforeSnapshotDurable) {
                file.sync().map_err(|e| failed(&path, e))?;
            }
            SourceFile::open(&*disk, &path)
        };
        let file = Arc::new(offload(&*store.disk, open).await??);
        store.verify(&file, &pace).await?;
        if file.header.group != store.group {
            return Err(file.damaged(12, "it is another group's").into());
        }
        Ok(SnapshotFile { disk: store.disk.clone(), file, temp: Some(temp) })
    }

    async fn write_waiting(&mut self) -> io::Result<()> {
        let bytes = self.waiting.split().freeze();
        self.write(bytes).await
    }

    async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        let (file, offset) = (self.file.clone(), self.written);
        self.written += bytes.len() as u64;
        self.since_rest += bytes.len();
        offload(&*self.store.disk, move || file.write_at(&bytes, offset)).await??;
        self.pace.rest(&mut self.since_rest).await;
        Ok(())
    }
}

impl SnapshotFile {
    /// Whether it has been adopted; else it has just been received.
    pub fn is_current(&self) -> bool {
        self.temp.is_none()
    }

    /// What the snapshot says of itself.
    pub fn meta(&self) -> Bytes {
        self.file.header.meta.clone()
    }

    /// Removes the file. Not durably: if it comes back after a crash, the next start removes it.
    fn remove(self) -> Result<()> {
        let SourceFile { path, file, .. } = &*self.file;
        self.disk.remove(path).map_err(|e| failed(path, e))?;
        // While somebody else reads it, the file has its bytes.
        if Arc::strong_count(&self.file) == 1 {
            give_back(&**file).map_err(|e| failed(path, e))?;
        }
        Ok(())
    }

    /// Index of the last log entry in it.
    pub fn index(&self) -> u64 {
        self.file.header.index
    }

    /// Its chunks, from the first.
    pub fn reader(&self) -> SnapshotReader {
        SnapshotReader { snapshot: self.clone(), frames: Frames::start(&self.file.header) }
    }

    /// Up to `len` bytes of the file at `offset`; none at its end.
    pub async fn read_raw(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let file = self.file.clone();
        let read = move || {
            let mut bytes = vec![0; len];
            let read = file.file.read_at(&mut bytes, offset)?;
            bytes.truncate(read);
            Ok(Bytes::from(bytes))
        };
        offload(&*self.disk, read).await?
    }
}

/// Reads a snapshot's chunks in order, checking each once more.
pub struct SnapshotReader {
    snapshot: SnapshotFile,
    frames: Frames,
}

impl SnapshotReader {
    /// The next chunk; `None` once the end has been verified, too.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let (file, mut frames) = (self.snapshot.file.clone(), self.frames);
        let next = move || frames.next(&file).map(|chunk| (frames, chunk));
        let (frames, chunk) = offload(&*self.snapshot.disk, next).await??;
        self.frames = frames;
        Ok(chunk)
    }
}

struct Header {
    group: GroupId,
    index: u64,
    meta: Bytes,
}

impl Header {
    /// The header's bytes, and its checksum, which goes into that of every frame.
    fn encode(&self) -> (Vec<u8>, u32) {
        let mut out = Vec::with_capacity(HEADER + self.meta.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.group.to_le_bytes());
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&(self.meta.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        let crc = header_crc(&out, &self.meta);
        out[28..32].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&self.meta);
        (out, crc)
    }
}

/// The checksum of a header, whatever stands in its place, and of meta.
fn header_crc(head: &[u8], meta: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head[..28]);
    crc.update(&[0; 4]);
    crc.update(meta);
    crc.finalize()
}

/// An open snapshot whose header is whole.
struct SourceFile {
    path: PathBuf,
    file: Box<dyn File>,
    len: u64,
    header: Header,
}

impl SourceFile {
    fn open(disk: &dyn Disk, path: &Path) -> Result<SourceFile> {
        let io = |source| failed(path, source);
        let file = disk.open(path).map_err(io)?;
        let len = file.len().map_err(io)?;
        let header = Header { group: 0, index: 0, meta: Bytes::new() };
        let mut this = SourceFile { path: path.to_path_buf(), file, len, header };
        let head = this.read(0, HEADER)?;
        if &head[..8] != MAGIC {
            return Err(this.damaged(0, "it is not a snapshot"));
        }
        let meta_len = u32_at(&head, 24) as usize;
        if meta_len > MAX_META_BYTES {
            return Err(this.damaged(24, "the header's length of meta is impossible"));
        }
        let meta = Bytes::from(this.read(HEADER as u64, meta_len)?);
        // Before anything is believed, the version too: a flipped bit must not pass for a newer build's file.
        if u32_at(&head, 28) != header_crc(&head, &meta) {
            return Err(this.damaged(0, "the header does not match its checksum"));
        }
        let version = u32_at(&head, 8);
        if version > VERSION {
            return Err(SnapshotStoreError::Newer { file: path.to_path_buf(), version });
        }
        let header = Header { group: u32_at(&head, 12), index: u64_at(&head, 16), meta };
        this.header = header;
        Ok(this)
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        match self.file.read_at(&mut bytes, offset) {
            Ok(read) if read == len => Ok(bytes),
            Ok(_) => Err(self.damaged(offset, "the file ends too early")),
            Err(e) => Err(failed(&self.path, e)),
        }
    }

    fn damaged(&self, offset: u64, reason: &'static str) -> SnapshotStoreError {
        SnapshotStoreError::Damaged { file: self.path.clone(), offset, reason }
    }
}

/// How far a snapshot has been read.
#[derive(Clone, Copy)]
struct Frames {
    salt: u32,
    offset: u64,
    frames: u64,
    total: u64,
    ended: bool,
}

impl Frames {
    fn start(header: &Header) -> Frames {
        let (bytes, salt) = header.encode();
        Frames { salt, offset: bytes.len() as u64, frames: 0, total: 0, ended: false }
    }

    fn next(&mut self, file: &SourceFile) -> Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        let head = file.read(self.offset, FRAME_HEADER)?;
        let (len, crc) = (u32_at(&head, 0), u32_at(&head, 4));
        if len == END {
            return self.end(file, crc);
        }
        if len as usize > MAX_FRAME_BYTES {
            return Err(file.damaged(self.offset, "the frame's length is impossible"));
        }
        let data = file.read(self.offset + FRAME_HEADER as u64, len as usize)?;
        if frame_crc(self.salt, self.frames, &data) != crc && !is_planted(Bug::DamageUnnoticed) {
            return Err(file.damaged(self.offset, "the frame does not match its checksum"));
        }
        self.offset += (FRAME_HEADER + data.len()) as u64;
        self.frames += 1;
        self.total += data.len() as u64;
        Ok(Some(data.into()))
    }

    fn end(&mut self, file: &SourceFile, crc: u32) -> Result<Option<Bytes>> {
        let trailer = file.read(self.offset, TRAILER)?;
        let told = (u64_at(&trailer, 8), u64_at(&trailer, 16));
        let good = told == (self.frames, self.total)
            && crc == frame_crc(self.salt, self.frames, &self.total.to_le_bytes())
            && self.offset + TRAILER as u64 == file.len;
        if !good {
            return Err(file.damaged(self.offset, "the end does not match what came before it"));
        }
        self.ended = true;
        Ok(None)
    }
}

/// A frame's checksum: it also covers which snapshot and which frame it is.
fn frame_crc(salt: u32, number: u64, data: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&salt.to_le_bytes());
    crc.update(&number.to_le_bytes());
    crc.update(data);
    crc.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests;
