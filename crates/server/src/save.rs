//! SAVE, BGSAVE, BGREWRITEAOF and LASTSAVE: snapshots when somebody asks for one.
//!
//! Nothing waits for them to be safe: a write is in the log of a majority before it is acknowledged. A snapshot is what lets the
//! log shrink and what a restart begins with; a node makes them by itself, too, which these figures do not tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use quoris_engine::{CommandError, Reply};
use quoris_raft::node::Node;

use crate::server::Server;

/// What is known of the snapshots that were asked for.
#[derive(Default)]
pub struct Saves {
    running: AtomicBool,
    /// When the last one was done, in seconds since the Unix epoch; 0: none has been.
    last_s: AtomicU64,
    /// [`changes`] when it began.
    changes: AtomicU64,
}

impl Saves {
    /// Whether one is under way.
    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    /// When the last one was done, or the node started at `started_s`.
    pub fn last_s(&self, started_s: u64) -> u64 {
        match self.last_s.load(Ordering::Relaxed) {
            0 => started_s,
            last_s => last_s,
        }
    }

    /// Changes of keys since the last one.
    pub fn changes_since(&self, node: &Node) -> u64 {
        changes(node).saturating_sub(self.changes.load(Ordering::Relaxed))
    }
}

/// Changes of keys on this node since it started.
fn changes(node: &Node) -> u64 {
    node.groups().iter().map(|group| group.with_machine(|machine| machine.keyspace().changes())).sum()
}

/// SAVE: snapshots every group here. Nobody but this connection waits.
pub async fn save(server: &Arc<Server>) -> Reply {
    match begin(server) {
        Ok(()) => run(Arc::clone(server)).await,
        Err(error) => Reply::Error(error),
    }
}

/// BGSAVE and BGREWRITEAOF: [`save`] on a task of its own; the answer is `begun`.
pub fn save_aside(server: &Arc<Server>, begun: &'static str) -> Result<Reply, CommandError> {
    begin(server)?;
    tokio::spawn(run(Arc::clone(server)));
    Ok(Reply::Simple(begun))
}

fn begin(server: &Server) -> Result<(), CommandError> {
    match server.saves.running.swap(true, Ordering::AcqRel) {
        true => Err(CommandError::Text("ERR Background save already in progress")),
        false => Ok(()),
    }
}

async fn run(server: Arc<Server>) -> Reply {
    let saves = &server.saves;
    let began = changes(&server.node);
    let mut done = true;
    for group in server.node.groups() {
        done &= group.save().await;
    }
    if done {
        saves.changes.store(began, Ordering::Relaxed);
        saves.last_s.store(server.env.clock.now_ms() / 1000, Ordering::Relaxed);
    }
    saves.running.store(false, Ordering::Release);
    match done {
        true => Reply::OK,
        false => Reply::Error(CommandError::Text("ERR the node is stopping")),
    }
}
