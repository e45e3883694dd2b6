//! What the log's entries mean to this node's clients beyond those who proposed them.

use std::sync::Arc;

use quoris_raft::types::{Effects, GroupId};

use crate::blocking::Blocked;

/// Hands the effects of entries on to whom they concern.
#[derive(Default)]
pub struct Watcher {
    /// Clients whose calls have blocked.
    pub blocked: Arc<Blocked>,
}

impl quoris_raft::types::Watcher for Watcher {
    fn applied(&self, group: GroupId, mut effects: Effects) {
        self.blocked.applied(group, &mut effects);
    }

    fn replaced(&self, group: GroupId) {
        self.blocked.replaced(group);
    }
}
