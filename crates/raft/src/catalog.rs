//! The node's catalog: whose data directory this is, and which groups live in it.
//!
//! One small checksummed file, always replaced whole: written aside, fsynced, renamed, its directory fsynced.
//! docs/decisions/0003 says why it is no embedded tree. Opening it takes the directory for this process, so it
//! comes before anything else is touched.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::env::Disk;
use crate::env::offload::offload;
use crate::types::{GroupId, NodeId};

/// Most bytes of a cluster's name.
pub const MAX_CLUSTER_BYTES: usize = 255;

const MAGIC: &[u8; 8] = b"quorisCT";
const VERSION: u32 = 1;
const HEADER: usize = 20;

/// Why a data directory is refused. Each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// It belongs to another node.
    #[error("{dir} holds the data of node {found}, not of node {wanted}: check node-id and data-dir")]
    OtherNode {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        found: NodeId,
        /// Who wants it.
        wanted: NodeId,
    },
    /// It belongs to another cluster.
    #[error(
        "{dir} holds data of cluster {found:?}, not of {wanted:?}: check the cluster's name and data-dir"
    )]
    OtherCluster {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        found: String,
        /// Who wants it.
        wanted: String,
    },
    /// A running process has it.
    #[error("{dir} is in use by a running node: stop that one first, or give this one its own data-dir")]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// It may not be written.
    #[error(
        "{dir} cannot be written ({source}): give the user that runs the node write access, or another data-dir"
    )]
    Unwritable {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It has files, but no catalog.
    #[error("{dir} holds {found} but no catalog: it is no data directory of quoris, or its catalog was lost")]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// A file in it.
        found: PathBuf,
    },
    /// Written by a newer build.
    #[error("{file} has format {version}, newer than this build reads: start the newer build")]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its format.
        version: u32,
    },
    /// The file is not what was written.
    #[error("{file} is damaged: restore it, or wipe the node's data directory and let it join again")]
    Damaged {
        /// The file.
        file: PathBuf,
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

/// Whose data it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The node.
    pub node: NodeId,
    /// The cluster's name, at most [`MAX_CLUSTER_BYTES`].
    pub cluster: String,
}

/// An open catalog. The directory is this process's until it is dropped.
pub struct Catalog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    identity: Identity,
    groups: Arc<Mutex<Vec<GroupId>>>,
    _lock: Box<dyn Send + Sync>,
}

impl Catalog {
    /// Takes `dir` for `identity`, creating it if need be. Blocks.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, identity: Identity) -> Result<Catalog, CatalogError> {
        assert!(identity.cluster.len() <= MAX_CLUSTER_BYTES, "a cluster's name is at most 255 bytes");
        disk.create_dir(dir).map_err(|e| unusable(dir, e))?;
        let lock = disk.lock(dir).map_err(|e| unusable(dir, e))?;
        let path = dir.join("catalog");
        let groups = if disk.exists(&path).map_err(|e| unusable(dir, e))? {
            let (found, groups) = read(&*disk, &path)?;
            check(dir, found, &identity)?;
            // A rename this process sees may not be durable yet.
            disk.sync_dir(dir).map_err(|e| unusable(dir, e))?;
            groups
        } else {
            refuse_foreign(&*disk, dir)?;
            write(&*disk, dir, &encode(&identity, &[])).map_err(|e| unusable(dir, e))?;
            Vec::new()
        };
        Ok(Catalog {
            disk,
            dir: dir.to_path_buf(),
            identity,
            groups: Arc::new(Mutex::new(groups)),
            _lock: lock,
        })
    }

    /// Whose data it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The groups that live here. Once there is any, the log must exist
    /// ([`LogOptions::must_exist`](crate::log::LogOptions::must_exist)).
    pub fn groups(&self) -> Vec<GroupId> {
        self.groups.lock().expect("no holder of the groups panics").clone()
    }

    /// Replaces the list of groups, durably.
    pub async fn set_groups(&self, groups: Vec<GroupId>) -> Result<(), CatalogError> {
        let (disk, dir, shared) = (self.disk.clone(), self.dir.clone(), self.groups.clone());
        let bytes = encode(&self.identity, &groups);
        let replace = move || {
            // Held throughout: two that write at once would share the file that is written aside.
            let mut shared = shared.lock().expect("no holder of the groups panics");
            write(&*disk, &dir, &bytes).map(|()| *shared = groups)
        };
        let io = |source| CatalogError::Io { file: self.dir.join("catalog"), source };
        offload(&*self.disk, replace).await.map_err(io)?.map_err(io)
    }
}

fn unusable(dir: &Path, source: io::Error) -> CatalogError {
    let dir = dir.to_path_buf();
    match source.kind() {
        io::ErrorKind::WouldBlock => CatalogError::Locked { dir },
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::AlreadyExists => CatalogError::Unwritable { dir, source },
        _ => CatalogError::Io { file: dir, source },
    }
}

fn check(dir: &Path, found: Identity, wanted: &Identity) -> Result<(), CatalogError> {
    let dir = dir.to_path_buf();
    if found.cluster != wanted.cluster {
        return Err(CatalogError::OtherCluster { dir, found: found.cluster, wanted: wanted.cluster.clone() });
    }
    if found.node != wanted.node {
        return Err(CatalogError::OtherNode { dir, found: found.node, wanted: wanted.node });
    }
    Ok(())
}

/// A directory without a catalog must be a fresh one: else a lost catalog would be taken for a new node.
fn refuse_foreign(disk: &dyn Disk, dir: &Path) -> Result<(), CatalogError> {
    let ours_or_the_systems = ["lock", "catalog.tmp", "lost+found"];
    let files = disk.list(dir).map_err(|e| unusable(dir, e))?;
    let foreign =
        |path: &PathBuf| !path.file_name().is_some_and(|name| ours_or_the_systems.iter().any(|n| name == *n));
    match files.into_iter().find(foreign) {
        Some(found) => Err(CatalogError::Foreign { dir: dir.to_path_buf(), found }),
        None => Ok(()),
    }
}

fn encode(identity: &Identity, groups: &[GroupId]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&identity.node.to_le_bytes());
    body.push(identity.cluster.len() as u8);
    body.extend_from_slice(identity.cluster.as_bytes());
    groups.iter().for_each(|group| body.extend_from_slice(&group.to_le_bytes()));
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&out);
    crc.update(&body);
    out.extend_from_slice(&crc.finalize().to_le_bytes());
    out.extend_from_slice(&body);
    out
}

fn write(disk: &dyn Disk, dir: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = dir.join("catalog.tmp");
    let file = disk.create(&aside)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    disk.rename(&aside, &dir.join("catalog"))?;
    disk.sync_dir(dir)
}

fn read(disk: &dyn Disk, path: &Path) -> Result<(Identity, Vec<GroupId>), CatalogError> {
    let io = |source| CatalogError::Io { file: path.to_path_buf(), source };
    let file = disk.open(path).map_err(io)?;
    let mut bytes = vec![0; file.len().map_err(io)? as usize];
    let read = file.read_at(&mut bytes, 0).map_err(io)?;
    bytes.truncate(read);
    if let (Some(MAGIC), Some(version)) = (bytes.first_chunk(), bytes.get(8..12)) {
        let version = u32::from_le_bytes(version.try_into().expect("four bytes"));
        if version > VERSION {
            return Err(CatalogError::Newer { file: path.to_path_buf(), version });
        }
    }
    let decoded = decode(&bytes).filter(|(identity, groups)| encode(identity, groups) == bytes);
    decoded.ok_or_else(|| CatalogError::Damaged { file: path.to_path_buf() })
}

/// Takes the fields apart; the caller encodes them again and compares, which checks all the rest.
fn decode(bytes: &[u8]) -> Option<(Identity, Vec<GroupId>)> {
    let (node, rest) = bytes.get(HEADER..)?.split_first_chunk::<8>()?;
    let (len, rest) = rest.split_first()?;
    let (cluster, rest) = rest.split_at_checked(usize::from(*len))?;
    let cluster = String::from_utf8(cluster.to_vec()).ok()?;
    let groups = rest.chunks(4).map(|g| g.try_into().ok().map(u32::from_le_bytes)).collect::<Option<_>>()?;
    Some((Identity { node: u64::from_le_bytes(*node), cluster }, groups))
}

#[cfg(test)]
mod tests;
