//! Whose data directory this is: one small checksummed file, replaced as a whole.
//!
//! It says which node of which cluster the directory belongs to, whether the node may vote (`standing`), which of its
//! replicas are not to be trusted (`trust`), and who the members are (`members`). It is
//! written aside, fsynced, renamed, and its directory fsynced, so that there is always a whole one; docs/decisions/0003
//! says why it is no embedded tree. The directory stays locked while the catalog is open, so that no two processes
//! write the same log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use prost::Message;
use quoris_engine::entry::Topology;

use crate::env::Disk;
use crate::env::offload::offload;
use crate::planted::{Bug, is_planted};
use crate::types::NodeId;
use crate::wire::proto::{Distrusted, Identity, Rejoin};

const FORMAT: u32 = 1;
const FILE: &str = "catalog";

/// Why a data directory cannot be used; one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Another process has it.
    #[error("data-dir {dir} is locked by a running node: stop it, or give this node a directory of its own")]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// It is another node's.
    #[error(
        "data-dir {dir} belongs to node {theirs}, not to node {ours}: give each node a directory of its own"
    )]
    OtherNode {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        theirs: NodeId,
        /// Who wants it.
        ours: NodeId,
    },
    /// It is another cluster's.
    #[error("data-dir {dir} belongs to cluster '{theirs}', not to '{ours}': correct cluster-id or data-dir")]
    OtherCluster {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        theirs: String,
        /// Who wants it.
        ours: String,
    },
    /// Written by a newer build.
    #[error("{file} has format {format}, newer than this build reads: start the newer build")]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its format.
        format: u32,
    },
    /// Its bytes are not what was written.
    #[error(
        "the catalog is damaged: {file} at offset 0: its checksum does not match. Restore it from the same disk, or \
         run quoris rejoin with this node's settings"
    )]
    Damaged {
        /// The file.
        file: PathBuf,
    },
    /// It may not be written, or is no directory.
    #[error(
        "data-dir {dir} cannot be written ({source}): give the user that runs the node write access, or another \
         data-dir"
    )]
    Unwritable {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It has files, but no catalog: taking it for a fresh one could make a node that has voted forget it.
    #[error(
        "data-dir {dir} holds {found} but no catalog: use an empty directory, or restore the lost catalog"
    )]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// A file in it.
        found: PathBuf,
    },
    /// The disk failed or is full.
    #[error("cannot use data-dir {dir}: {source}")]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// An open data directory's catalog.
pub struct Catalog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// As it is on disk.
    identity: Arc<Mutex<Identity>>,
    _lock: Box<dyn Send + Sync>,
}

impl Catalog {
    /// Locks `dir`, which is created if need be, and makes sure that it is this node's. Blocks.
    pub fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        node_id: NodeId,
        cluster_id: &str,
    ) -> Result<Catalog, CatalogError> {
        let failed = |source| unusable(dir, source);
        let lock = take(disk, dir)?;
        let own = fresh(node_id, cluster_id);
        let identity = match read(&**disk, dir)? {
            Some(identity) => check(dir, identity, &own)?,
            None => {
                refuse_foreign(&**disk, dir)?;
                write(&**disk, dir, &own).map_err(failed)?;
                own
            }
        };
        Ok(Catalog::new(disk, dir, identity, lock))
    }

    /// Like [`Catalog::open`], and whether there was a whole catalog or not: there is one then that says that the node does
    /// not vote, and that what it has is to be set aside, as number `set_aside` (`rejoin`).
    pub fn begin_rejoin(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        node_id: NodeId,
        cluster_id: &str,
        set_aside: u64,
    ) -> Result<Catalog, CatalogError> {
        let lock = take(disk, dir)?;
        let mut own = fresh(node_id, cluster_id);
        match read(&**disk, dir) {
            // Whom it is to ask has nothing to do with what it has forgotten.
            Ok(Some(identity)) => own.topology = check(dir, identity, &own)?.topology,
            Ok(None) => refuse_foreign(&**disk, dir)?,
            Err(CatalogError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
        let identity = Identity { set_aside, rejoin: Rejoin::SetsAside.into(), ..own };
        write(&**disk, dir, &identity).map_err(|source| unusable(dir, source))?;
        Ok(Catalog::new(disk, dir, identity, lock))
    }

    fn new(disk: &Arc<dyn Disk>, dir: &Path, identity: Identity, lock: Box<dyn Send + Sync>) -> Catalog {
        let identity = Arc::new(Mutex::new(identity));
        Catalog { disk: Arc::clone(disk), dir: dir.to_path_buf(), identity, _lock: lock }
    }

    /// What the node has is to be set aside, under this number, before anything else is done with it.
    pub fn sets_aside(&self) -> Option<u64> {
        self.read(|identity| (identity.rejoin() == Rejoin::SetsAside).then_some(identity.set_aside))
    }

    /// Records, durably, that it has been set aside. Blocks.
    pub fn has_set_aside(&self) -> io::Result<()> {
        let mut identity = self.identity.lock().expect("no code panics while it holds this lock");
        let changed = Identity { rejoin: Rejoin::Waits.into(), ..identity.clone() };
        write(&*self.disk, &self.dir, &changed)?;
        *identity = changed;
        Ok(())
    }

    /// Whether the node waits to vote again in a cluster that it was a part of before.
    pub fn rejoins(&self) -> bool {
        self.read(|identity| identity.rejoin() != Rejoin::Done)
    }

    /// Whether the node may vote.
    pub fn is_voter(&self) -> bool {
        self.read(|identity| identity.voter)
    }

    /// The replicas that are not to be trusted.
    pub fn distrusted(&self) -> Vec<Distrusted> {
        self.read(|identity| identity.distrusted.clone())
    }

    /// The newest that was known of the members, if that is newer than the founding.
    pub fn topology(&self) -> Option<Topology> {
        let bytes = self.read(|identity| identity.topology.clone());
        // Who wrote it wrote it whole: the catalog has a checksum.
        Topology::decode(bytes).ok().filter(|topology| topology.epoch > 0)
    }

    /// Records, durably, what is known of the members.
    pub async fn set_topology(&self, topology: &Topology) -> io::Result<()> {
        let bytes = topology.encode_to_vec().into();
        self.change(|identity| identity.topology = bytes).await
    }

    /// Whether the node was removed from the cluster, and no group counts on it.
    pub fn is_dismissed(&self) -> bool {
        self.read(|identity| identity.dismissed)
    }

    /// Records, durably, that it was.
    pub async fn set_dismissed(&self) -> io::Result<()> {
        self.change(|identity| identity.dismissed = true).await
    }

    /// Records, durably, that the node may vote.
    pub async fn set_voter(&self) -> io::Result<()> {
        let vote = |identity: &mut Identity| {
            identity.voter = true;
            identity.set_rejoin(Rejoin::Done);
        };
        self.change(vote).await
    }

    /// Records, durably, which replicas are not to be trusted.
    pub async fn set_distrusted(&self, distrusted: Vec<Distrusted>) -> io::Result<()> {
        self.change(|identity| identity.distrusted = distrusted).await
    }

    fn read<T>(&self, look: impl FnOnce(&Identity) -> T) -> T {
        look(&self.identity.lock().expect("no code panics while it holds this lock"))
    }

    async fn change(&self, change: impl FnOnce(&mut Identity) + Send + 'static) -> io::Result<()> {
        let (disk, dir, identity) = (Arc::clone(&self.disk), self.dir.clone(), Arc::clone(&self.identity));
        let write = move || {
            // Held while it is written, so that of two changes none is lost.
            let mut identity = identity.lock().expect("no code panics while it holds this lock");
            let mut changed = identity.clone();
            change(&mut changed);
            write(&*disk, &dir, &changed)?;
            *identity = changed;
            Ok(())
        };
        offload(&*self.disk, write).await?
    }
}

/// Locks the directory, which is created if need be.
fn take(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Box<dyn Send + Sync>, CatalogError> {
    let failed = |source| unusable(dir, source);
    disk.create_dir(dir).map_err(failed)?;
    let lock = disk.lock(dir).map_err(failed)?;
    // A catalog that a killed process has renamed may not be durable yet.
    disk.sync_dir(dir).map_err(failed)?;
    Ok(lock)
}

fn fresh(node_id: NodeId, cluster_id: &str) -> Identity {
    Identity { format: FORMAT, node_id, cluster_id: cluster_id.into(), ..Identity::default() }
}

fn unusable(dir: &Path, source: io::Error) -> CatalogError {
    let dir = dir.to_path_buf();
    match source.kind() {
        io::ErrorKind::WouldBlock => CatalogError::Locked { dir },
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::AlreadyExists => CatalogError::Unwritable { dir, source },
        _ => CatalogError::Io { dir, source },
    }
}

fn refuse_foreign(disk: &dyn Disk, dir: &Path) -> Result<(), CatalogError> {
    let no_data = ["lock", "catalog.tmp", "lost+found"];
    let files = disk.list(dir).map_err(|source| unusable(dir, source))?;
    let is_data =
        |path: &PathBuf| !path.file_name().is_some_and(|name| no_data.iter().any(|other| name == *other));
    match files.into_iter().find(is_data) {
        Some(found) => Err(CatalogError::Foreign { dir: dir.to_path_buf(), found }),
        None => Ok(()),
    }
}

fn check(dir: &Path, theirs: Identity, own: &Identity) -> Result<Identity, CatalogError> {
    let dir = dir.to_path_buf();
    if theirs.format > FORMAT {
        return Err(CatalogError::Newer { file: dir.join(FILE), format: theirs.format });
    }
    if theirs.cluster_id != own.cluster_id {
        return Err(CatalogError::OtherCluster {
            dir,
            theirs: theirs.cluster_id,
            ours: own.cluster_id.clone(),
        });
    }
    if theirs.node_id != own.node_id {
        return Err(CatalogError::OtherNode { dir, theirs: theirs.node_id, ours: own.node_id });
    }
    Ok(theirs)
}

/// The identity in `dir`: a CRC-32 (little endian), then the encoded message.
fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Identity>, CatalogError> {
    let file = dir.join(FILE);
    let failed = |source| unusable(dir, source);
    if !disk.exists(&file).map_err(failed)? {
        return Ok(None);
    }
    let handle = disk.open(&file).map_err(failed)?;
    let mut bytes = vec![0; handle.len().map_err(failed)? as usize];
    let read = handle.read_at(&mut bytes, 0).map_err(failed)?;
    let damaged = || CatalogError::Damaged { file: file.clone() };
    let (crc, body) = bytes[..read].split_first_chunk::<4>().ok_or_else(damaged)?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return Err(damaged());
    }
    Identity::decode(body).map(Some).map_err(|_| damaged())
}

fn write(disk: &dyn Disk, dir: &Path, identity: &Identity) -> io::Result<()> {
    let body = identity.encode_to_vec();
    let mut bytes = crc32fast::hash(&body).to_le_bytes().to_vec();
    bytes.extend(body);
    let aside = dir.join(format!("{FILE}.tmp"));
    let file = disk.create(&aside)?;
    file.write_at(&bytes, 0)?;
    if !is_planted(Bug::CatalogNotDurable) {
        file.sync()?;
    }
    disk.rename(&aside, &dir.join(FILE))?;
    disk.sync_dir(dir)
}

#[cfg(test)]
mod tests;
