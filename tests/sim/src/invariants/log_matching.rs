//! Two logs that have an entry of the same index and term are equal up to there.
//!
//! Said without a moment in time: an index and a term name one entry for ever, on whatever node it is seen, and the
//! entry before it is always the same one.

use std::collections::BTreeMap;

use quoris_raft::observe::EntryId;
use quoris_raft::types::{GroupId, NodeId};

use super::Verdict;

/// What was seen of an entry.
struct Seen {
    checksum: u32,
    /// Term of the entry before it; unknown where that one had been purged.
    before: Option<u64>,
    node: NodeId,
}

/// Every entry that was seen in any log.
#[derive(Default)]
pub struct LogMatching {
    entries: BTreeMap<(GroupId, u64, u64), Seen>,
}

impl LogMatching {
    /// `node`'s log of `group` has `entry`, and `before` in front of it.
    pub fn has(
        &mut self,
        group: GroupId,
        node: NodeId,
        before: Option<&EntryId>,
        entry: &EntryId,
    ) -> Verdict {
        let EntryId { index, term, checksum } = *entry;
        let before = before.map(|entry| entry.term);
        let name = format_args!("entry {index} of term {term} of group {group}");
        let Some(seen) = self.entries.get_mut(&(group, index, term)) else {
            self.entries.insert((group, index, term), Seen { checksum, before, node });
            return Ok(());
        };
        if seen.checksum != checksum {
            return Err(format!("{name} has other bytes on node {node} than on node {}", seen.node));
        }
        if let (Some(was), Some(is)) = (seen.before, before)
            && was != is
        {
            return Err(format!(
                "{name} follows an entry of term {is} on node {node}, of term {was} elsewhere"
            ));
        }
        seen.before = seen.before.or(before);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64, checksum: u32) -> EntryId {
        EntryId { index, term, checksum }
    }

    #[test]
    fn another_content_and_another_past_are_found() {
        let mut invariant = LogMatching::default();
        assert!(invariant.has(0, 1, Some(&entry(1, 1, 5)), &entry(2, 2, 7)).is_ok());
        assert!(invariant.has(0, 2, None, &entry(2, 2, 7)).is_ok(), "its predecessor was purged");
        assert!(invariant.has(0, 2, None, &entry(2, 3, 8)).is_ok(), "another term, another entry");
        assert!(invariant.has(0, 2, None, &entry(2, 2, 8)).is_err());
        assert!(invariant.has(0, 3, Some(&entry(1, 2, 6)), &entry(2, 2, 7)).is_err());
    }
}
