//! Snapshots on disk: one checksummed file per group and log index.
//!
//! A snapshot is written aside, fsynced, renamed, and its directory fsynced; only then is it current, and only
//! then are older ones removed. So a half-written one is never seen, and there is always one to start from.
//! docs/internals/disk-format.md draws the file. Invariants:
//!
//! - a group's current snapshot never goes back to a lower index, whoever finishes last;
//! - what a reader hands out has matched its checksum;
//! - a file received from a peer is verified whole before it is adopted.
//!
//! The store must never know what is in a snapshot: `meta` and the data are the caller's.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};

use crate::env::Disk;
use crate::env::disk::File;
use crate::env::offload::offload;
use crate::types::GroupId;

/// Most bytes of data in a frame.
pub const MAX_FRAME_BYTES: usize = 1 << 20;
/// Most bytes of meta.
pub const MAX_META_BYTES: usize = 1 << 20;

const MAGIC: &[u8; 8] = b"quorisSN";
const VERSION: u32 = 1;
const HEADER: usize = 32;
const FRAME_HEADER: usize = 8;
/// Stands where the length of a frame would: the end.
const END: u32 = u32::MAX;
const TRAILER: usize = 24;

/// Why a snapshot cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file is not what was written.
    #[error(
        "the snapshot is damaged: {file} at offset {offset}: {reason}. This node cannot start from it: restore the \
         file, or wipe the node's data directory and let it join again"
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// Written by a newer build.
    #[error("{file} has format {version}, newer than this build reads: start the newer build")]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its format.
        version: u32,
    },
    /// The group has a newer snapshot already; this one was thrown away.
    #[error("group {group} already has a snapshot at index {index}")]
    Superseded {
        /// The group.
        group: GroupId,
        /// Index of the current snapshot.
        index: u64,
    },
    /// The disk failed or is full.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

type Result<T> = std::result::Result<T, SnapshotError>;

/// A durable snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The group.
    pub group: GroupId,
    /// Index of the last log entry in it.
    pub index: u64,
    /// The caller's description.
    pub meta: Bytes,
    /// Length of the file.
    pub file_bytes: u64,
    path: PathBuf,
}

/// All snapshots of a node. Cheap to clone.
#[derive(Clone)]
pub struct SnapshotStore {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    current: Mutex<BTreeMap<GroupId, SnapshotInfo>>,
    next_temp: AtomicU64,
}

impl SnapshotStore {
    /// Opens the snapshots in `dir`, and removes what was left half-written or has been replaced. Blocks.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<SnapshotStore> {
        let current = survey(&*disk, dir)?;
        let inner = Inner {
            disk,
            dir: dir.to_path_buf(),
            current: Mutex::new(current),
            next_temp: AtomicU64::new(0),
        };
        Ok(SnapshotStore { inner: Arc::new(inner) })
    }

    /// The group's newest snapshot.
    pub fn current(&self, group: GroupId) -> Option<SnapshotInfo> {
        self.inner.lock().get(&group).cloned()
    }

    /// Begins a snapshot of everything up to the entry `index`.
    pub async fn write(&self, group: GroupId, index: u64, meta: Bytes) -> Result<SnapshotWriter> {
        assert!(meta.len() <= MAX_META_BYTES, "a snapshot's meta has at most {MAX_META_BYTES} bytes");
        let header = Header { group, index, meta };
        let (bytes, salt) = header.encode();
        let mut temp = Temp::create(&self.inner).await?;
        temp.append(bytes.into()).await?;
        Ok(SnapshotWriter { temp, group, salt, frames: 0, total: 0, pending: BytesMut::new() })
    }

    /// Reads the group's newest snapshot; it stays readable while newer ones replace it.
    pub async fn read(&self, group: GroupId) -> Result<Option<SnapshotReader>> {
        let Some(file) = self.open_current(group).await? else { return Ok(None) };
        Ok(Some(SnapshotReader { store: self.inner.clone(), frames: Frames::start(&file.header), file }))
    }

    /// The group's newest snapshot as a file, to be streamed to a peer's [`SnapshotReceiver`].
    pub async fn send(&self, group: GroupId) -> Result<Option<SnapshotSender>> {
        let Some(file) = self.open_current(group).await? else { return Ok(None) };
        Ok(Some(SnapshotSender { store: self.inner.clone(), file, offset: 0 }))
    }

    /// Begins to receive a snapshot file of `group` from a peer.
    pub async fn receive(&self, group: GroupId) -> Result<SnapshotReceiver> {
        Ok(SnapshotReceiver { temp: Temp::create(&self.inner).await?, group })
    }

    async fn open_current(&self, group: GroupId) -> Result<Option<Arc<SnapshotFile>>> {
        let Some(info) = self.current(group) else { return Ok(None) };
        let disk = self.inner.disk.clone();
        let path = info.path.clone();
        self.inner.run(&info.path, move || SnapshotFile::open(&*disk, &path)).await.map(|f| Some(Arc::new(f)))
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<GroupId, SnapshotInfo>> {
        self.current.lock().expect("no holder of the snapshot list panics")
    }

    async fn run<T: Send + 'static>(
        &self,
        path: &Path,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        offload(&*self.disk, job).await.map_err(|e| failed(path, e))?
    }

    /// Makes the finished file at `temp` the group's current snapshot. Blocks.
    fn adopt(&self, temp: &Path, header: Header, file_bytes: u64) -> Result<SnapshotInfo> {
        let Header { group, index, meta } = header;
        // Held throughout, so that of two that finish together the newer one stays.
        let mut current = self.lock();
        let previous = current.get(&group).cloned();
        if let Some(newer) = previous.as_ref().filter(|previous| previous.index > index) {
            self.disk.remove(temp).map_err(|e| failed(temp, e))?;
            return Err(SnapshotError::Superseded { group, index: newer.index });
        }
        let path = self.dir.join(format!("{group:08x}-{index:016x}.snap"));
        self.disk.rename(temp, &path).map_err(|e| failed(temp, e))?;
        self.disk.sync_dir(&self.dir).map_err(|e| failed(&self.dir, e))?;
        let info = SnapshotInfo { group, index, meta, file_bytes, path };
        current.insert(group, info.clone());
        if let Some(previous) = previous.filter(|previous| previous.path != info.path) {
            self.disk.remove(&previous.path).map_err(|e| failed(&previous.path, e))?;
        }
        Ok(info)
    }
}

/// Finds each group's newest snapshot.
fn survey(disk: &dyn Disk, dir: &Path) -> Result<BTreeMap<GroupId, SnapshotInfo>> {
    let io = |source| failed(dir, source);
    disk.create_dir(dir).map_err(io)?;
    // The newest must be durable before older ones go.
    disk.sync_dir(dir).map_err(io)?;
    let mut current = BTreeMap::new();
    for path in disk.list(dir).map_err(io)? {
        match path.extension().and_then(|e| e.to_str()) {
            Some("tmp") => disk.remove(&path).map_err(io)?,
            Some("snap") => {
                let file = SnapshotFile::open(disk, &path)?;
                let Header { group, index, meta } = file.header;
                let info = SnapshotInfo { group, index, meta, file_bytes: file.len, path };
                // Sorted by name, so by group and index: a later one is newer.
                if let Some(older) = current.insert(group, info) {
                    disk.remove(&older.path).map_err(io)?;
                }
            }
            _ => {}
        }
    }
    Ok(current)
}

fn failed(file: &Path, source: io::Error) -> SnapshotError {
    SnapshotError::Io { file: file.to_path_buf(), source }
}

/// A file being made; removed if it is dropped before it is adopted.
struct Temp {
    store: Arc<Inner>,
    path: PathBuf,
    file: Arc<dyn File>,
    len: u64,
    adopted: bool,
}

impl Temp {
    async fn create(store: &Arc<Inner>) -> Result<Temp> {
        let number = store.next_temp.fetch_add(1, Ordering::Relaxed);
        let path = store.dir.join(format!("{number:016x}.tmp"));
        let (disk, name) = (store.disk.clone(), path.clone());
        let create = move || disk.create(&name).map_err(|e| failed(&name, e));
        let file = store.run(&path, create).await?;
        Ok(Temp { store: store.clone(), path, file: file.into(), len: 0, adopted: false })
    }

    async fn append(&mut self, bytes: Bytes) -> Result<()> {
        let (file, path, offset) = (self.file.clone(), self.path.clone(), self.len);
        self.len += bytes.len() as u64;
        let write = move || file.write_at(&bytes, offset).map_err(|e| failed(&path, e));
        self.store.run(&self.path, write).await
    }

    /// Fsyncs, checks all of it, and makes it current.
    async fn adopt(mut self, group: GroupId) -> Result<SnapshotInfo> {
        let (store, file, path) = (self.store.clone(), self.file.clone(), self.path.clone());
        let adopt = move || {
            file.sync().map_err(|e| failed(&path, e))?;
            let whole = SnapshotFile::open(&*store.disk, &path)?;
            let mut frames = Frames::start(&whole.header);
            while frames.next(&whole)?.is_some() {}
            if whole.header.group != group {
                return Err(whole.damaged(12, &format!("it is of group {}", whole.header.group)));
            }
            store.adopt(&path, whole.header, whole.len)
        };
        let adopted = self.store.run(&self.path, adopt).await;
        self.adopted = matches!(adopted, Ok(_) | Err(SnapshotError::Superseded { .. }));
        adopted
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.adopted {
            let (disk, path) = (self.store.disk.clone(), self.path.clone());
            // Best effort: what stays is removed at the next start.
            drop(self.store.disk.offload(Box::new(move || drop(disk.remove(&path)))));
        }
    }
}

/// Writes a snapshot; dropped before [`SnapshotWriter::finish`], it leaves nothing.
pub struct SnapshotWriter {
    temp: Temp,
    group: GroupId,
    salt: u32,
    frames: u64,
    total: u64,
    pending: BytesMut,
}

impl SnapshotWriter {
    /// Adds data; how it is cut into pieces does not matter.
    pub async fn append(&mut self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let room = MAX_FRAME_BYTES - self.pending.len();
            let (now, later) = data.split_at(room.min(data.len()));
            self.pending.extend_from_slice(now);
            data = later;
            if self.pending.len() == MAX_FRAME_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let data = self.pending.split();
        let mut frame = BytesMut::with_capacity(FRAME_HEADER + data.len());
        frame.extend_from_slice(&(data.len() as u32).to_le_bytes());
        frame.extend_from_slice(&frame_crc(self.salt, self.frames, &data).to_le_bytes());
        frame.extend_from_slice(&data);
        self.frames += 1;
        self.total += data.len() as u64;
        self.temp.append(frame.freeze()).await
    }

    /// Makes the snapshot durable and current.
    pub async fn finish(mut self) -> Result<SnapshotInfo> {
        if !self.pending.is_empty() {
            self.flush().await?;
        }
        let mut trailer = BytesMut::with_capacity(TRAILER);
        trailer.extend_from_slice(&END.to_le_bytes());
        trailer
            .extend_from_slice(&frame_crc(self.salt, self.frames, &self.total.to_le_bytes()).to_le_bytes());
        trailer.extend_from_slice(&self.frames.to_le_bytes());
        trailer.extend_from_slice(&self.total.to_le_bytes());
        self.temp.append(trailer.freeze()).await?;
        self.temp.adopt(self.group).await
    }
}

/// Reads a snapshot piece by piece, checking each.
pub struct SnapshotReader {
    store: Arc<Inner>,
    file: Arc<SnapshotFile>,
    frames: Frames,
}

impl SnapshotReader {
    /// What the snapshot's writer said of it.
    pub fn meta(&self) -> &Bytes {
        &self.file.header.meta
    }

    /// Index of the last log entry in it.
    pub fn index(&self) -> u64 {
        self.file.header.index
    }

    /// The next piece; `None` once the whole file has been verified.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let (file, mut frames) = (self.file.clone(), self.frames);
        let next = move || frames.next(&file).map(|data| (frames, data));
        let (frames, data) = self.store.run(&self.file.path, next).await?;
        self.frames = frames;
        Ok(data)
    }
}

/// Reads a snapshot's file as it is.
pub struct SnapshotSender {
    store: Arc<Inner>,
    file: Arc<SnapshotFile>,
    offset: u64,
}

impl SnapshotSender {
    /// What the snapshot's writer said of it.
    pub fn meta(&self) -> &Bytes {
        &self.file.header.meta
    }

    /// Length of the file.
    pub fn file_bytes(&self) -> u64 {
        self.file.len
    }

    /// The next bytes of the file, at most `max`; `None` at its end.
    pub async fn next(&mut self, max: usize) -> Result<Option<Bytes>> {
        let want = (self.file.len - self.offset).min(max as u64) as usize;
        if want == 0 {
            return Ok(None);
        }
        let (file, offset) = (self.file.clone(), self.offset);
        let read = move || file.read(offset, want).map(Bytes::from);
        let bytes = self.store.run(&self.file.path, read).await?;
        self.offset += want as u64;
        Ok(Some(bytes))
    }
}

/// Takes in a snapshot's file; dropped before [`SnapshotReceiver::finish`], it leaves nothing.
pub struct SnapshotReceiver {
    temp: Temp,
    group: GroupId,
}

impl SnapshotReceiver {
    /// Adds the file's next bytes.
    pub async fn append(&mut self, bytes: Bytes) -> Result<()> {
        self.temp.append(bytes).await
    }

    /// Verifies all of it and makes it the group's current snapshot.
    pub async fn finish(self) -> Result<SnapshotInfo> {
        self.temp.adopt(self.group).await
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
        out.extend_from_slice(&self.meta);
        let crc = crc32fast::hash(&out);
        out[28..32].copy_from_slice(&crc.to_le_bytes());
        (out, crc)
    }
}

/// An open snapshot whose header is whole.
struct SnapshotFile {
    path: PathBuf,
    file: Box<dyn File>,
    len: u64,
    header: Header,
}

impl SnapshotFile {
    fn open(disk: &dyn Disk, path: &Path) -> Result<SnapshotFile> {
        let io = |source| failed(path, source);
        let file = disk.open(path).map_err(io)?;
        let len = file.len().map_err(io)?;
        let header = Header { group: 0, index: 0, meta: Bytes::new() };
        let mut this = SnapshotFile { path: path.to_path_buf(), file, len, header };
        let head = this.read(0, HEADER)?;
        if &head[..8] != MAGIC {
            return Err(this.damaged(0, "it is not a snapshot"));
        }
        let version = u32_at(&head, 8);
        if version > VERSION {
            return Err(SnapshotError::Newer { file: path.to_path_buf(), version });
        }
        let meta_len = u32_at(&head, 24) as usize;
        if meta_len > MAX_META_BYTES {
            return Err(this.damaged(24, "the header's length of meta is impossible"));
        }
        let meta = this.read(HEADER as u64, meta_len)?.into();
        let header = Header { group: u32_at(&head, 12), index: u64_at(&head, 16), meta };
        if header.encode().0[..HEADER] != head {
            return Err(this.damaged(0, "the header does not match its checksum"));
        }
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

    fn damaged(&self, offset: u64, reason: &str) -> SnapshotError {
        SnapshotError::Damaged { file: self.path.clone(), offset, reason: reason.to_string() }
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

    fn next(&mut self, file: &SnapshotFile) -> Result<Option<Bytes>> {
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
        if frame_crc(self.salt, self.frames, &data) != crc {
            return Err(file.damaged(self.offset, "the frame does not match its checksum"));
        }
        self.offset += (FRAME_HEADER + data.len()) as u64;
        self.frames += 1;
        self.total += data.len() as u64;
        Ok(Some(data.into()))
    }

    fn end(&mut self, file: &SnapshotFile, crc: u32) -> Result<Option<Bytes>> {
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
