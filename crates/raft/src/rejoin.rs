//! Setting aside what a stopped node has, so that it joins its cluster again: for a log, a snapshot or a catalog that is
//! damaged.
//!
//! What is left may lack what the node has acknowledged, and for whom it has voted. All groups share one log, so it is the
//! whole node that starts anew, as a *newcomer* ([`crate::standing`]): as if its disk had been wiped, but for two things. What
//! it had is kept, for people. And no cluster is founded with it: a node on an empty disk says yes to a founder, and if every
//! node of a cluster were told to rejoin, that would begin the cluster again, without its data, as if nothing had happened.
//!
//! 1. The catalog says that the node does not vote, and that what is here is to be set aside. With that it is decided.
//! 2. The files of the log and of the snapshots are moved to `set-aside/<number>`, and the directories fsynced.
//! 3. The catalog says that this is done.
//!
//! A crash before 1 is durable leaves the node as it was. After one that comes later, the next start goes on with 2 before
//! it looks at anything else. So no node ever starts with part of what it had.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::catalog::{Catalog, CatalogError};
use crate::env::Disk;
use crate::env::Env;
use crate::log::LogError;
use crate::node::{NodeConfig, StartError, open_log};
use crate::pace::Pace;
use crate::snapshot_store::{SnapshotStore, SnapshotStoreError};

/// What is moved.
const PARTS: [&str; 2] = ["log", "snapshots"];

/// Why nothing was set aside.
#[derive(Debug, thiserror::Error)]
pub enum RejoinError {
    /// There is no need to.
    #[error("log, snapshots and catalog in {0} are whole: nothing is set aside. Start the node")]
    Whole(PathBuf),
    /// It cannot be done, or would not help.
    #[error(transparent)]
    Refused(#[from] StartError),
}

/// Sets aside what the stopped node has, if any of it is damaged; where it is then.
///
/// # Errors
/// If nothing is wrong with it, or what is wrong is something else.
pub async fn rejoin(env: Env, config: &NodeConfig) -> Result<PathBuf, RejoinError> {
    match examine(&env, config).await {
        Ok(()) => return Err(RejoinError::Whole(config.data_dir.clone())),
        Err(error) if !is_damage(&error) => return Err(error.into()),
        Err(_) => {}
    }
    let (disk, dir) = (&env.disk, &config.data_dir);
    let failed = |source| StartError::from(CatalogError::Io { dir: dir.clone(), source });
    let number = (1..).find_map(|number| match disk.exists(&place(dir, number)) {
        Ok(true) => None,
        Ok(false) => Some(Ok(number)),
        Err(error) => Some(Err(error)),
    });
    let number = number.expect("there are more numbers than directories").map_err(failed)?;
    let catalog = Catalog::begin_rejoin(disk, dir, config.node_id, &config.cluster_id, number);
    finish(disk, dir, &catalog.map_err(StartError::from)?).map_err(StartError::from)?;
    Ok(place(dir, number))
}

/// Moves what is still to be set aside; nothing, in nearly every start. Blocks.
pub(crate) fn finish(disk: &Arc<dyn Disk>, dir: &Path, catalog: &Catalog) -> Result<(), CatalogError> {
    let Some(number) = catalog.sets_aside() else { return Ok(()) };
    let failed = |source| CatalogError::Io { dir: dir.to_path_buf(), source };
    for part in PARTS {
        let (from, to) = (dir.join(part), place(dir, number).join(part));
        if disk.exists(&from).map_err(failed)? {
            set_aside(&**disk, &from, &to).map_err(failed)?;
        }
    }
    catalog.has_set_aside().map_err(failed)?;
    tracing::warn!(to = %place(dir, number).display(), "set aside what this node had: it joins its cluster again");
    Ok(())
}

fn set_aside(disk: &dyn Disk, from: &Path, to: &Path) -> std::io::Result<()> {
    disk.create_dir(to)?;
    for file in disk.list(from)? {
        let name = file.file_name().expect("what a directory lists has a name");
        disk.rename(&file, &to.join(name))?;
    }
    disk.sync_dir(to)?;
    // Else a power cut could bring a file back, to a node that has begun anew.
    disk.sync_dir(from)
}

fn place(dir: &Path, number: u64) -> PathBuf {
    dir.join("set-aside").join(number.to_string())
}

/// Opens what a start would open.
async fn examine(env: &Env, config: &NodeConfig) -> Result<(), StartError> {
    let catalog = Catalog::open(&env.disk, &config.data_dir, config.node_id, &config.cluster_id)?;
    finish(&env.disk, &config.data_dir, &catalog)?;
    for id in 0..config.groups {
        let dir = config.data_dir.join("snapshots");
        SnapshotStore::open(Arc::clone(&env.disk), &dir, id, Pace::default())?;
    }
    let log = open_log(env, config, catalog.is_voter())?;
    // It was only looked at.
    log.close().await.map_err(|error| StartError::Group { group: 0, reason: error.to_string() })
}

/// A directory without a catalog is no damage: it may be anybody's.
fn is_damage(error: &StartError) -> bool {
    matches!(
        error,
        StartError::Catalog(CatalogError::Damaged { .. })
            | StartError::Log(LogError::Damaged { .. } | LogError::Missing { .. })
            | StartError::Snapshot(SnapshotStoreError::Damaged { .. })
    )
}
