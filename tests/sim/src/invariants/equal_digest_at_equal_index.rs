//! Replicas that have applied the same entries are in the same state, whether they applied them one by one, installed
//! a snapshot, or started again.

use std::collections::BTreeMap;

use quoris_raft::types::{GroupId, NodeId};

use super::Verdict;

/// Every state that was seen.
#[derive(Default)]
pub struct EqualDigestAtEqualIndex {
    digests: BTreeMap<(GroupId, u64), (u32, NodeId)>,
    /// How often two replicas, or two lives of one, were compared.
    pub compared: u64,
}

impl EqualDigestAtEqualIndex {
    /// `node`'s replica of `group` has `digest` after it has applied `index`.
    pub fn applied(&mut self, group: GroupId, node: NodeId, index: u64, digest: u32) -> Verdict {
        match self.digests.get(&(group, index)) {
            None => {
                self.digests.insert((group, index), (digest, node));
                Ok(())
            }
            Some((first, _)) if *first == digest => {
                self.compared += 1;
                Ok(())
            }
            Some((first, other)) => Err(format!(
                "after entry {index} of group {group} node {node} has digest {digest:08x}, node {other} {first:08x}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_differs_is_found() {
        let mut invariant = EqualDigestAtEqualIndex::default();
        assert!(invariant.applied(0, 1, 7, 0xA).is_ok());
        assert!(invariant.applied(0, 2, 7, 0xA).is_ok());
        assert!(invariant.applied(0, 2, 8, 0xB).is_ok(), "another index");
        assert_eq!(invariant.compared, 1);
        assert!(invariant.applied(0, 3, 7, 0xB).is_err());
    }
}
