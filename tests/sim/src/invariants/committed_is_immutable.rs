//! What one node knows to be committed at an index is what every node commits there, for ever.

use std::collections::BTreeMap;

use quoris_raft::observe::EntryId;
use quoris_raft::types::{GroupId, NodeId};

use super::Verdict;

/// Every entry that was seen committed.
#[derive(Default)]
pub struct CommittedIsImmutable {
    entries: BTreeMap<(GroupId, u64), (EntryId, NodeId)>,
}

impl CommittedIsImmutable {
    /// `node` knows that `entry` is committed.
    pub fn committed(&mut self, group: GroupId, node: NodeId, entry: &EntryId) -> Verdict {
        match self.entries.get(&(group, entry.index)) {
            None => {
                self.entries.insert((group, entry.index), (*entry, node));
                Ok(())
            }
            Some((first, _)) if first == entry => Ok(()),
            Some((first, other)) => Err(format!(
                "at index {} of group {group} node {node} has committed an entry of term {} ({:08x}), node {other} one \
                 of term {} ({:08x})",
                entry.index, entry.term, entry.checksum, first.term, first.checksum
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_entries_committed_at_one_index_are_found() {
        let mut invariant = CommittedIsImmutable::default();
        let entry = EntryId { index: 3, term: 1, checksum: 9 };
        assert!(invariant.committed(0, 1, &entry).is_ok());
        assert!(invariant.committed(0, 2, &entry).is_ok());
        assert!(invariant.committed(1, 2, &EntryId { term: 2, ..entry }).is_ok(), "another group");
        assert!(invariant.committed(0, 2, &EntryId { term: 2, ..entry }).is_err());
    }
}
