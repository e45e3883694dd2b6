//! A disk in memory that behaves as badly as a real one may, from a seed.
//!
//! A plain module rather than a feature: it is small, and a feature would have the product's code built twice.
//! What it may do:
//!
//! - at a crash, every write since the file's last fsync survives whole, in part (sector by sector) or not at
//!   all, each by itself; so does every name created, changed or removed since the directory's last fsync;
//! - operations fail: the n-th, by chance, or when the disk is full; after a failed fsync the data is still read,
//!   and never gets written;
//! - the worker's fsync and offloaded jobs take time (tokio's, which a simulator owns).
//!
//! [`FakeDisk`] is the platters and outlives crashes; [`FakeDisk::mount`] is what a process sees of it until the
//! next crash. All is decided by the seed and the order of calls.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::BoxFuture;

use super::disk::{Disk, File, Worker};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// How a fake disk misbehaves; the default does only at a crash.
#[derive(Debug, Clone, Default)]
pub struct FakeDiskOptions {
    /// Bytes it holds; `None` for no limit.
    pub capacity: Option<u64>,
    /// How many of a million writes and fsyncs fail.
    pub failures_ppm: u32,
    /// How long the worker's fsync takes, in microseconds.
    pub sync_us: Range<u64>,
    /// How long an offloaded job takes, in microseconds.
    pub offload_us: Range<u64>,
}

/// The platters: what is left when the power goes. Cheap to clone, all clones are the same disk.
#[derive(Clone)]
pub struct FakeDisk {
    state: Arc<Mutex<State>>,
}

type InodeId = u64;

#[derive(Default)]
struct State {
    options: FakeDiskOptions,
    random: u64,
    /// Counts crashes; a mount of an earlier life is dead.
    life: u64,
    /// Names as processes see them, and as they are on the platters.
    names: BTreeMap<PathBuf, InodeId>,
    durable_names: BTreeMap<PathBuf, InodeId>,
    unsynced_names: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    inodes: BTreeMap<InodeId, Inode>,
    next_inode: InodeId,
    locks: BTreeSet<PathBuf>,
    /// Operations so far that change something or make it durable.
    ops: u64,
    power_fails_at: Option<u64>,
    /// What was being done when it failed, and to which file or directory.
    power_failed_in: Option<(&'static str, PathBuf)>,
    fails_at: Option<u64>,
    /// No file can grow.
    full: bool,
}

#[derive(Default, Clone)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Clone)]
enum NameChange {
    Link { path: PathBuf, inode: InodeId },
    Unlink { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, inode: InodeId },
}

impl NameChange {
    fn parent(&self) -> Option<&Path> {
        match self {
            NameChange::Link { path, .. } | NameChange::Unlink { path } => path.parent(),
            NameChange::Rename { to, .. } => to.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, InodeId>) {
        match self {
            NameChange::Link { path, inode } => drop(names.insert(path.clone(), *inode)),
            NameChange::Unlink { path } => drop(names.remove(path)),
            NameChange::Rename { from, to, inode } => {
                // Unless another file has taken the old name since.
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>, kept: impl Fn(usize) -> bool) {
        match self {
            Change::SetLen(len) => content.resize(*len, 0),
            Change::Write { offset, bytes } => {
                if content.len() < offset + bytes.len() {
                    content.resize(offset + bytes.len(), 0);
                }
                let mut at = 0;
                while at < bytes.len() {
                    let sector = (offset + at) / SECTOR;
                    let end = ((sector + 1) * SECTOR - offset).min(bytes.len());
                    if kept(sector) {
                        content[offset + at..offset + end].copy_from_slice(&bytes[at..end]);
                    }
                    at = end;
                }
            }
        }
    }
}

impl FakeDisk {
    /// An empty disk; its bad luck comes from `seed`.
    pub fn new(seed: u64, options: FakeDiskOptions) -> FakeDisk {
        let state = State { options, random: seed, ..State::default() };
        FakeDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// The disk as a process sees it, until the next crash.
    pub fn mount(&self) -> Arc<dyn Disk> {
        let life = self.lock().life;
        Arc::new(Mount { disk: self.clone(), life })
    }

    /// The power goes, and comes back: what was not durable may be lost, and all mounts are dead.
    pub fn crash(&self) {
        self.lock().crash();
    }

    /// The process dies and the power stays: all mounts are dead, and nothing is lost, nor made durable.
    pub fn kill(&self) {
        self.lock().end_life();
    }

    /// The process dies and the next one begins: like [`FakeDisk::kill`], but what the disk has been told to do, it will
    /// still do.
    pub fn hand_over(&self) {
        self.lock().end_process();
    }

    /// Replaces how it misbehaves.
    pub fn set_options(&self, options: FakeDiskOptions) {
        self.lock().options = options;
    }

    /// Operations so far that change something or make it durable.
    pub fn ops(&self) -> u64 {
        self.lock().ops
    }

    /// Lets the power fail during the operation after `ops` more: it and all later ones fail, until
    /// [`FakeDisk::crash`].
    pub fn fail_power_after(&self, ops: u64) {
        let mut state = self.lock();
        state.power_fails_at = Some(state.ops + ops);
    }

    /// Whether the power has failed, as [`FakeDisk::fail_power_after`] demanded.
    pub fn power_is_off(&self) -> bool {
        let state = self.lock();
        state.power_fails_at.is_some_and(|at| state.ops > at)
    }

    /// The operation during which the power has failed so, and the file or directory that it was about; remembered
    /// until it fails so again.
    pub fn power_failed_in(&self) -> Option<(&'static str, PathBuf)> {
        self.lock().power_failed_in.clone()
    }

    /// The disk is replaced by an empty one; all mounts are dead.
    pub fn wipe(&self) {
        let mut state = self.lock();
        let options = state.options.clone();
        *state =
            State { options, random: state.random, life: state.life + 1, ops: state.ops, ..State::default() };
    }

    /// Somebody else fills the disk (`true`), or makes room again: meanwhile no file can grow.
    pub fn fill(&self, full: bool) {
        self.lock().full = full;
    }

    /// Lets one operation fail, after `ops` more.
    pub fn fail_once_after(&self, ops: u64) {
        let mut state = self.lock();
        state.fails_at = Some(state.ops + ops);
    }

    /// The content of a file, as a process sees it.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        Some(state.inodes[state.names.get(path)?].live.clone())
    }

    /// All files, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        self.lock().names.keys().cloned().collect()
    }

    /// Flips bits of a byte behind everybody's back.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) {
        let mut state = self.lock();
        let inode = *state.names.get(path).expect("a file to damage");
        let inode = state.inodes.get_mut(&inode).expect("names point to inodes");
        for content in [&mut inode.live, &mut inode.durable] {
            if let Some(byte) = content.get_mut(offset as usize) {
                *byte ^= mask;
            }
        }
    }

    /// A disk with the same content, on which all is durable.
    pub fn fork(&self, seed: u64) -> FakeDisk {
        let from = self.lock();
        let settled = |inode: &Inode| Inode {
            live: inode.live.clone(),
            durable: inode.live.clone(),
            unsynced: Vec::new(),
        };
        let state = State {
            random: seed,
            names: from.names.clone(),
            durable_names: from.names.clone(),
            dirs: from.dirs.clone(),
            inodes: from.inodes.iter().map(|(id, inode)| (*id, settled(inode))).collect(),
            next_inode: from.next_inode,
            ..State::default()
        };
        FakeDisk { state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the disk's state panics")
    }
}

impl State {
    /// SplitMix64: small, and good enough for bad luck.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn micros(&mut self, range: &Range<u64>) -> Duration {
        let span = range.end.saturating_sub(range.start);
        let above = if span == 0 { 0 } else { self.random() % span };
        Duration::from_micros(range.start + above)
    }

    fn crash(&mut self) {
        let ids: Vec<_> = self.inodes.keys().copied().collect();
        for id in ids {
            let mut inode = self.inodes.remove(&id).expect("listed");
            for change in std::mem::take(&mut inode.unsynced) {
                let (fate, mask) = (self.random() % 3, self.random());
                match fate {
                    0 => {}
                    1 => change.apply(&mut inode.durable, |_| true),
                    _ => change.apply(&mut inode.durable, |sector| mask >> (sector % 64) & 1 == 1),
                }
            }
            inode.live = inode.durable.clone();
            self.inodes.insert(id, inode);
        }
        for change in std::mem::take(&mut self.unsynced_names) {
            if self.random().is_multiple_of(2) {
                change.apply(&mut self.durable_names);
            }
        }
        self.names = self.durable_names.clone();
        let named: BTreeSet<_> = self.names.values().copied().collect();
        self.inodes.retain(|id, _| named.contains(id));
        self.end_life();
    }

    fn end_process(&mut self) {
        self.locks.clear();
        self.life += 1;
    }

    fn end_life(&mut self) {
        self.end_process();
        self.power_fails_at = None;
        self.fails_at = None;
    }

    /// Counts an operation; `Err` if it fails. If the power fails during it, it has begun: `true`.
    fn begin(&mut self, what: &'static str, path: &Path) -> io::Result<bool> {
        let op = self.ops;
        self.ops += 1;
        match self.power_fails_at {
            Some(at) if op > at => return Err(io::Error::other("the power is off")),
            Some(at) if op == at => {
                self.power_failed_in = Some((what, path.to_path_buf()));
                return Ok(true);
            }
            _ => {}
        }
        let unlucky =
            self.options.failures_ppm > 0 && self.random() % 1_000_000 < self.options.failures_ppm.into();
        if self.fails_at == Some(op) || unlucky {
            return Err(io::Error::other(format!("injected failure of {what} {}", path.display())));
        }
        Ok(false)
    }

    fn used(&self) -> u64 {
        self.names.values().map(|id| self.inodes[id].live.len() as u64).sum()
    }
}

/// What a process sees of a disk.
struct Mount {
    disk: FakeDisk,
    life: u64,
}

impl Mount {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.lock();
        if state.life != self.life {
            return Err(io::Error::other("this process died in a crash"));
        }
        Ok(state)
    }

    fn change_names(&self, what: &'static str, path: &Path, change: NameChange) -> io::Result<()> {
        let mut state = self.state()?;
        let power_off = state.begin(what, path)?;
        change.apply(&mut state.names);
        state.unsynced_names.push(change);
        if power_off { Err(io::Error::other("the power went off")) } else { Ok(()) }
    }

    fn file(&self, path: &Path, inode: InodeId) -> Box<dyn File> {
        let mount = Mount { disk: self.disk.clone(), life: self.life };
        Box::new(FakeFile { mount, inode, path: path.to_path_buf() })
    }

    fn inode_of(&self, path: &Path) -> io::Result<InodeId> {
        let state = self.state()?;
        state.names.get(path).copied().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }
}

struct FakeFile {
    mount: Mount,
    inode: InodeId,
    path: PathBuf,
}

impl FakeFile {
    fn change(&self, what: &'static str, change: Change) -> io::Result<()> {
        let mut state = self.mount.state()?;
        let power_off = state.begin(what, &self.path)?;
        let len = state.inode(self.inode).live.len();
        let grown = match &change {
            Change::Write { offset, bytes } => (offset + bytes.len()).saturating_sub(len),
            Change::SetLen(new) => new.saturating_sub(len),
        };
        let has_room = |capacity| state.used() + grown as u64 <= capacity;
        if grown > 0 && (state.full || !state.options.capacity.is_none_or(has_room)) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "No space left on device"));
        }
        let inode = state.inode(self.inode);
        change.apply(&mut inode.live, |_| true);
        inode.unsynced.push(change);
        if power_off { Err(io::Error::other("the power went off")) } else { Ok(()) }
    }
}

impl State {
    fn inode(&mut self, id: InodeId) -> &mut Inode {
        self.inodes.get_mut(&id).expect("inodes live as long as their mount")
    }
}

impl File for FakeFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change("write", Change::Write { offset: offset as usize, bytes: bytes.to_vec() })
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.mount.state()?;
        let content = state.inode(self.inode).live.get(offset as usize..).unwrap_or_default();
        let read = content.len().min(buf.len());
        buf[..read].copy_from_slice(&content[..read]);
        Ok(read)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.mount.state()?;
        match state.begin("fsync", &self.path) {
            Ok(false) => {}
            Ok(true) => return Err(io::Error::other("the power went off")),
            Err(e) => {
                // As Linux does it: the pages count as clean now, and are still seen by readers.
                state.inode(self.inode).unsynced.clear();
                return Err(e);
            }
        }
        let inode = state.inode(self.inode);
        for change in std::mem::take(&mut inode.unsynced) {
            change.apply(&mut inode.durable, |_| true);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.mount.state()?.inode(self.inode).live.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change("set_len", Change::SetLen(len as usize))
    }
}

impl Disk for Mount {
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(self.file(path, self.inode_of(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let existing = self.state()?.names.get(path).copied();
        if let Some(inode) = existing {
            let file = self.file(path, inode);
            file.set_len(0)?;
            return Ok(file);
        }
        let inode = {
            let mut state = self.state()?;
            state.next_inode += 1;
            let inode = state.next_inode;
            state.inodes.insert(inode, Inode::default());
            inode
        };
        self.change_names("create", path, NameChange::Link { path: path.to_path_buf(), inode })?;
        Ok(self.file(path, inode))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.inode_of(from)?;
        let change = NameChange::Rename { from: from.to_path_buf(), to: to.to_path_buf(), inode };
        self.change_names("rename", from, change)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inode_of(path)?;
        self.change_names("remove", path, NameChange::Unlink { path: path.to_path_buf() })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state()?;
        let inside = |p: &&PathBuf| p.parent() == Some(path);
        let names: BTreeSet<_> =
            state.names.keys().filter(inside).chain(state.dirs.iter().filter(inside)).cloned().collect();
        Ok(names.into_iter().collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.state()?;
        Ok(state.names.contains_key(path) || state.dirs.contains(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state()?;
        state.dirs.extend(path.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state()?;
        if state.begin("fsync of directory", path)? {
            return Err(io::Error::other("the power went off"));
        }
        let State { unsynced_names, durable_names, .. } = &mut *state;
        unsynced_names.retain(|change| {
            let here = change.parent() == Some(path);
            if here {
                change.apply(durable_names);
            }
            !here
        });
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut state = self.state()?;
        if !state.locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mount = Mount { disk: self.disk.clone(), life: self.life };
        Ok(Box::new(Lock { mount, path: path.to_path_buf() }))
    }

    fn offload(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let delay = {
            let mut state = self.disk.lock();
            let range = state.options.offload_us.clone();
            state.micros(&range)
        };
        Box::pin(async move {
            pause(delay).await;
            job();
        })
    }

    fn spawn_worker(&self, _name: &str, mut worker: Box<dyn Worker>) -> io::Result<()> {
        let disk = self.disk.clone();
        tokio::spawn(async move {
            while worker.wait().await {
                worker.write();
                let delay = {
                    let mut state = disk.lock();
                    let range = state.options.sync_us.clone();
                    state.micros(&range)
                };
                pause(delay).await;
                worker.sync();
                worker.finish();
            }
        });
        Ok(())
    }
}

/// Lets time pass; none at all needs no timer.
async fn pause(delay: Duration) {
    if delay.is_zero() {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(delay).await;
    }
}

struct Lock {
    mount: Mount,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Ok(mut state) = self.mount.state() {
            state.locks.remove(&self.path);
        }
    }
}
