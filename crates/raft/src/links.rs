//! The links to all peers: to every member, and to whom a group still counts on after it was removed.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use quoris_engine::entry::Topology;

use crate::env::Env;
use crate::members::Members;
use crate::peer::Link;
use crate::types::NodeId;

/// The links, by the peers' numbers. Cheap to clone.
#[derive(Clone, Default)]
pub struct Links {
    all: Arc<RwLock<Arc<BTreeMap<NodeId, Link>>>>,
}

impl Links {
    /// The link to `peer`, if there is one.
    pub fn get(&self, peer: NodeId) -> Option<Link> {
        self.read(|all| all.get(&peer).cloned())
    }

    /// Whether the link to `peer` stands.
    pub fn is_up(&self, peer: NodeId) -> bool {
        self.read(|all| all.get(&peer).is_some_and(Link::is_up))
    }

    /// All of them, as they are now.
    pub fn all(&self) -> Arc<BTreeMap<NodeId, Link>> {
        Arc::clone(&self.all.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins links to members, and to whom was removed and is `needed`, that have none, or one to another address; ends all
    /// others. The new ones.
    pub fn follow(
        &self,
        env: &Env,
        members: &Members,
        topology: &Topology,
        needed: impl Fn(NodeId) -> bool,
    ) -> Vec<Link> {
        let old = self.all();
        let (mut all, mut begun) = (BTreeMap::new(), Vec::new());
        let still_needed = topology.removed.iter().filter(|info| needed(info.id));
        let wanted = topology.nodes.iter().chain(still_needed).filter(|info| info.id != members.me());
        for info in wanted {
            let kept = old.get(&info.id).filter(|link| link.addr() == info.peer_addr);
            let link = kept.cloned().unwrap_or_else(|| {
                let link = Link::start(env.clone(), members.clone(), info.id, info.peer_addr.clone());
                begun.push(link.clone());
                link
            });
            all.insert(info.id, link);
        }
        for (id, link) in &*old {
            if all.get(id).is_none_or(|now| now.addr() != link.addr()) {
                link.close();
            }
        }
        *self.all.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(all);
        begun
    }

    /// Ends all of them for good.
    pub fn close(&self) {
        self.all().values().for_each(Link::close);
    }

    fn read<R>(&self, look: impl FnOnce(&BTreeMap<NodeId, Link>) -> R) -> R {
        look(&self.all.read().unwrap_or_else(PoisonError::into_inner))
    }
}
