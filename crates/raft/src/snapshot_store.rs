//! One group's snapshots on disk: a checksummed file for each generation.
//!
//! A snapshot is written aside, fsynced, renamed, and its directory fsynced; only then is it *current*, and only then
//! are older ones removed: at every moment there is a whole snapshot behind the purged log. The file's name carries
//! its generation; a name that ends in `.tmp` is nobody's and is removed at start.
//!
//! File: magic, then frames of `length: u32, crc32: u32, bytes` (little endian): first the meta, then the machine's
//! chunks, last an empty frame whose checksum is that of all before. What the bytes mean is unknown here.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::oneshot;

use crate::env::Disk;
use crate::env::disk::File;
use crate::types::GroupId;

const MAGIC: &[u8; 8] = b"QUORSNP1";
const FRAME_HEADER: usize = 8;

/// Bytes collected before they are written.
const WRITE_BYTES: usize = 1 << 20;

/// A frame longer than this is damage, not data: a chunk holds one object at most beyond its usual size.
const MAX_FRAME_BYTES: usize = 1 << 30;

/// Why the snapshots of a group cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotStoreError {
    /// Bytes that were durable are not what was written.
    #[error(
        "the snapshot is damaged: {file} at offset {offset}: {reason}. Restore the file from the same disk, or wipe \
         the node's data directory and let it join again"
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        reason: &'static str,
    },
    /// The disk failed or is full.
    #[error("cannot open the snapshots: {file}: {source}")]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl From<SnapshotStoreError> for io::Error {
    fn from(error: SnapshotStoreError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error.to_string())
    }
}

/// One group's snapshots. Cheap to clone.
#[derive(Clone)]
pub struct SnapshotStore {
    inner: Arc<Store>,
}

struct Store {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    group: GroupId,
    state: Mutex<State>,
}

struct State {
    current: Option<SnapshotFile>,
    next_generation: u64,
}

/// A whole snapshot. Cheap to clone; its file stays readable while any clone lives.
#[derive(Clone)]
pub struct SnapshotFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn File>,
    meta: Bytes,
}

impl SnapshotStore {
    /// Opens the snapshots of `group` in `dir`, removing leftovers, and verifies the newest. Blocks.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        group: GroupId,
    ) -> Result<SnapshotStore, SnapshotStoreError> {
        let failed = |file: &Path| {
            let file = file.to_path_buf();
            move |source| SnapshotStoreError::Io { file, source }
        };
        disk.create_dir(dir).map_err(failed(dir))?;
        let mut newest: Option<(u64, PathBuf)> = None;
        for path in disk.list(dir).map_err(failed(dir))? {
            let Some(name) = Name::parse(&path).filter(|name| name.group == group) else { continue };
            let stale = match (&newest, name.whole) {
                (_, false) => Some(path),
                (Some((generation, _)), true) if *generation > name.generation => Some(path),
                (_, true) => newest.replace((name.generation, path)).map(|(_, older)| older),
            };
            if let Some(stale) = stale {
                disk.remove(&stale).map_err(failed(&stale))?;
            }
        }
        let next_generation = newest.as_ref().map_or(1, |(generation, _)| generation + 1);
        let current = match newest {
            Some((_, path)) => Some(open_verified(&disk, path)?),
            None => None,
        };
        let state = Mutex::new(State { current, next_generation });
        Ok(SnapshotStore { inner: Arc::new(Store { disk, dir: dir.to_path_buf(), group, state }) })
    }

    /// The newest whole snapshot.
    pub fn current(&self) -> Option<SnapshotFile> {
        self.lock().current.clone()
    }

    /// Begins a snapshot that says `meta` of itself.
    pub async fn write(&self, meta: Bytes) -> io::Result<SnapshotWriter> {
        let mut writer = SnapshotWriter { raw: self.receive().await?, checksum: crc32fast::Hasher::new() };
        writer.raw.push(Bytes::from_static(MAGIC)).await?;
        writer.push(meta).await?;
        Ok(writer)
    }

    /// Begins a snapshot whose file comes from a peer.
    pub async fn receive(&self) -> io::Result<SnapshotReceiver> {
        let generation = {
            let mut state = self.lock();
            state.next_generation += 1;
            state.next_generation - 1
        };
        let name = Name { group: self.inner.group, generation, whole: false };
        let path = self.inner.dir.join(name.to_string());
        let (disk, at) = (Arc::clone(&self.inner.disk), path.clone());
        let file = offload(&self.inner.disk, move || disk.create(&at)).await?;
        Ok(SnapshotReceiver {
            store: self.clone(),
            path,
            file: Arc::from(file),
            waiting: BytesMut::new(),
            written: 0,
            finished: false,
        })
    }

    /// Makes a received snapshot the current one, durably; older ones go. Nothing happens if it is already.
    pub async fn adopt(&self, snapshot: SnapshotFile) -> io::Result<SnapshotFile> {
        let Some(name) = Name::parse(&snapshot.path).filter(|name| !name.whole) else { return Ok(snapshot) };
        let path = self.inner.dir.join(Name { whole: true, ..name }.to_string());
        let adopted = SnapshotFile { path: path.clone(), ..snapshot.clone() };
        let (disk, dir, from) = (Arc::clone(&self.inner.disk), self.inner.dir.clone(), snapshot.path);
        offload(&self.inner.disk, move || {
            disk.rename(&from, &path)?;
            disk.sync_dir(&dir)
        })
        .await?;
        let older = self.lock().current.replace(adopted.clone());
        if let Some(older) = older {
            let disk = Arc::clone(&self.inner.disk);
            // Not made durable: if it comes back after a crash, the next start removes it.
            offload(&self.inner.disk, move || disk.remove(&older.path)).await?;
        }
        Ok(adopted)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.inner.state.lock().expect("no code panics while it holds this lock")
    }
}

/// Writes a snapshot chunk by chunk.
pub struct SnapshotWriter {
    raw: SnapshotReceiver,
    checksum: crc32fast::Hasher,
}

impl SnapshotWriter {
    /// Adds a chunk. A chunk is never empty.
    pub async fn push(&mut self, chunk: Bytes) -> io::Result<()> {
        let crc = crc32fast::hash(&chunk);
        self.checksum.update(&crc.to_le_bytes());
        self.raw.push(frame_header(chunk.len(), crc)).await?;
        self.raw.push(chunk).await
    }

    /// Makes the snapshot durable and current.
    pub async fn finish(mut self) -> io::Result<SnapshotFile> {
        let crc = self.checksum.finalize();
        self.raw.push(frame_header(0, crc)).await?;
        let store = self.raw.store.clone();
        store.adopt(self.raw.finish().await?).await
    }
}

fn frame_header(len: usize, crc: u32) -> Bytes {
    let mut header = BytesMut::with_capacity(FRAME_HEADER);
    header.put_u32_le(len as u32);
    header.put_u32_le(crc);
    header.freeze()
}

/// Takes a snapshot's file piece by piece.
pub struct SnapshotReceiver {
    store: SnapshotStore,
    path: PathBuf,
    file: Arc<dyn File>,
    waiting: BytesMut,
    written: u64,
    finished: bool,
}

impl SnapshotReceiver {
    /// Adds the file's next bytes.
    pub async fn push(&mut self, bytes: Bytes) -> io::Result<()> {
        self.waiting.put_slice(&bytes);
        if self.waiting.len() >= WRITE_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Makes the file durable and verifies it, whole. It is not current before [`SnapshotStore::adopt`].
    pub async fn finish(mut self) -> io::Result<SnapshotFile> {
        self.flush().await?;
        let (disk, file, path) =
            (Arc::clone(&self.store.inner.disk), Arc::clone(&self.file), self.path.clone());
        let verified = offload(&self.store.inner.disk, move || {
            file.sync()?;
            Ok(open_verified(&disk, path)?)
        });
        let snapshot = verified.await?;
        self.finished = true;
        Ok(snapshot)
    }

    async fn flush(&mut self) -> io::Result<()> {
        let bytes = self.waiting.split().freeze();
        let (file, offset) = (Arc::clone(&self.file), self.written);
        self.written += bytes.len() as u64;
        offload(&self.store.inner.disk, move || file.write_at(&bytes, offset)).await
    }
}

impl Drop for SnapshotReceiver {
    /// What was begun and not finished goes; should that fail, the next start sees to it.
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.store.inner.disk.remove(&self.path);
        }
    }
}

impl SnapshotFile {
    /// What the snapshot says of itself.
    pub fn meta(&self) -> Bytes {
        self.meta.clone()
    }

    /// Its chunks.
    pub async fn reader(&self) -> io::Result<SnapshotReader> {
        let snapshot = self.clone();
        let frames = offload(&self.disk, move || {
            let mut frames = Frames::new(&*snapshot.file, &snapshot.path)?;
            frames.next()?;
            Ok(frames.offset)
        });
        Ok(SnapshotReader { offset: frames.await?, snapshot: self.clone() })
    }

    /// Up to `len` bytes of the file at `offset`; none at its end.
    pub async fn read_raw(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let file = Arc::clone(&self.file);
        offload(&self.disk, move || {
            let mut buf = vec![0; len];
            let read = file.read_at(&mut buf, offset)?;
            buf.truncate(read);
            Ok(Bytes::from(buf))
        })
        .await
    }
}

/// Reads a verified snapshot's chunks in order.
pub struct SnapshotReader {
    snapshot: SnapshotFile,
    offset: u64,
}

impl SnapshotReader {
    /// The next chunk, or `None` after the last.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let (snapshot, offset) = (self.snapshot.clone(), self.offset);
        let (chunk, offset) = offload(&self.snapshot.disk, move || {
            let mut frames = Frames { file: &*snapshot.file, path: &snapshot.path, offset, checksum: None };
            let chunk = frames.next()?;
            Ok((chunk, frames.offset))
        })
        .await?;
        self.offset = offset;
        Ok(chunk)
    }
}

/// Walks a file's frames, verifying each.
struct Frames<'a> {
    file: &'a dyn File,
    path: &'a Path,
    offset: u64,
    /// Of all frames so far, when the walk began at the first.
    checksum: Option<crc32fast::Hasher>,
}

impl<'a> Frames<'a> {
    fn new(file: &'a dyn File, path: &'a Path) -> Result<Frames<'a>, SnapshotStoreError> {
        let mut frames = Frames { file, path, offset: 0, checksum: Some(crc32fast::Hasher::new()) };
        if frames.read(MAGIC.len())? != MAGIC.as_slice() {
            frames.offset = 0;
            return Err(frames.damaged("it does not begin as a snapshot of this format does"));
        }
        Ok(frames)
    }

    /// The next frame's bytes; `None` at the closing one.
    fn next(&mut self) -> Result<Option<Bytes>, SnapshotStoreError> {
        let begin = self.offset;
        let header = self.read(FRAME_HEADER)?;
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (len, crc) = (word(0) as usize, word(4));
        if len == 0 {
            return match &self.checksum {
                Some(all) if all.clone().finalize() != crc => {
                    self.offset = begin;
                    Err(self.damaged("the closing checksum does not match"))
                }
                _ => Ok(None),
            };
        }
        if len > MAX_FRAME_BYTES {
            self.offset = begin;
            return Err(self.damaged("a chunk is impossibly long"));
        }
        let bytes = self.read(len)?;
        if crc32fast::hash(&bytes) != crc {
            self.offset = begin;
            return Err(self.damaged("a chunk's checksum does not match"));
        }
        if let Some(all) = &mut self.checksum {
            all.update(&crc.to_le_bytes());
        }
        Ok(Some(bytes.into()))
    }

    fn read(&mut self, len: usize) -> Result<Vec<u8>, SnapshotStoreError> {
        let mut buf = vec![0; len];
        let failed = |source| SnapshotStoreError::Io { file: self.path.to_path_buf(), source };
        let read = self.file.read_at(&mut buf, self.offset).map_err(failed)?;
        if read < len {
            return Err(self.damaged("it is cut short"));
        }
        self.offset += len as u64;
        Ok(buf)
    }

    fn damaged(&self, reason: &'static str) -> SnapshotStoreError {
        SnapshotStoreError::Damaged { file: self.path.to_path_buf(), offset: self.offset, reason }
    }
}

fn open_verified(disk: &Arc<dyn Disk>, path: PathBuf) -> Result<SnapshotFile, SnapshotStoreError> {
    let file = disk.open(&path).map_err(|source| SnapshotStoreError::Io { file: path.clone(), source })?;
    let mut frames = Frames::new(&*file, &path)?;
    let meta = frames.next()?.ok_or_else(|| frames.damaged("it has no meta"))?;
    while frames.next()?.is_some() {}
    Ok(SnapshotFile { disk: Arc::clone(disk), path, file: Arc::from(file), meta })
}

/// A snapshot file's name: `group-generation.snap`, and `.tmp` behind it until it is whole.
struct Name {
    group: GroupId,
    generation: u64,
    whole: bool,
}

impl Name {
    fn parse(path: &Path) -> Option<Name> {
        let name = path.file_name()?.to_str()?;
        let (name, whole) = match name.strip_suffix(".tmp") {
            Some(name) => (name, false),
            None => (name, true),
        };
        let (group, generation) = name.strip_suffix(".snap")?.split_once('-')?;
        Some(Name { group: group.parse().ok()?, generation: generation.parse().ok()?, whole })
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let suffix = if self.whole { "" } else { ".tmp" };
        write!(f, "{}-{:020}.snap{suffix}", self.group, self.generation)
    }
}

/// Runs blocking `job` where it may block.
async fn offload<R: Send + 'static>(
    disk: &Arc<dyn Disk>,
    job: impl FnOnce() -> io::Result<R> + Send + 'static,
) -> io::Result<R> {
    let (tell, told) = oneshot::channel();
    let run = Box::new(move || {
        // Who asked may have gone.
        let _ = tell.send(job());
    });
    disk.offload(run).await;
    told.await.unwrap_or_else(|_| Err(io::Error::other("the disk's thread is gone")))
}
