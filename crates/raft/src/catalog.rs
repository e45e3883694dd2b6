//! Whose data directory this is: one small checksummed file, replaced as a whole.
//!
//! It says which node of which cluster the directory belongs to and whether the node may vote (`standing`). The
//! directory stays locked while the catalog is open, so that no two processes write the same log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use tokio::sync::oneshot;

use crate::env::Disk;
use crate::types::NodeId;
use crate::wire::proto::Identity;

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
         wipe the node's data directory and let it join again"
    )]
    Damaged {
        /// The file.
        file: PathBuf,
    },
    /// The disk failed, is full, or may not be written.
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
    identity: Identity,
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
        let failed = |source| CatalogError::Io { dir: dir.to_path_buf(), source };
        disk.create_dir(dir).map_err(failed)?;
        let lock = disk.lock(dir).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => CatalogError::Locked { dir: dir.to_path_buf() },
            _ => failed(source),
        })?;
        let own = Identity { format: FORMAT, node_id, cluster_id: cluster_id.into(), voter: false };
        let identity = match read(&**disk, dir)? {
            Some(identity) => check(dir, identity, &own)?,
            None => {
                write(&**disk, dir, &own).map_err(failed)?;
                own
            }
        };
        Ok(Catalog { disk: Arc::clone(disk), dir: dir.to_path_buf(), identity, _lock: lock })
    }

    /// Whether the node may vote.
    pub fn is_voter(&self) -> bool {
        self.identity.voter
    }

    /// Records, durably, that the node may vote.
    pub async fn set_voter(&self) -> io::Result<()> {
        let identity = Identity { voter: true, ..self.identity.clone() };
        let (disk, dir) = (Arc::clone(&self.disk), self.dir.clone());
        let (tell, told) = oneshot::channel();
        let job = Box::new(move || drop(tell.send(write(&*disk, &dir, &identity))));
        self.disk.offload(job).await;
        told.await.unwrap_or_else(|_| Err(io::Error::other("the disk's thread is gone")))
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
    let failed = |source| CatalogError::Io { dir: dir.to_path_buf(), source };
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
    file.sync()?;
    disk.rename(&aside, &dir.join(FILE))?;
    disk.sync_dir(dir)
}
