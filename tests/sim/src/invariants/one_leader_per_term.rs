//! In each term of a group at most one node leads.

use std::collections::BTreeMap;

use quoris_raft::types::{GroupId, NodeId};

/// Who was seen to lead in which term.
#[derive(Default)]
pub struct OneLeaderPerTerm {
    leaders: BTreeMap<(GroupId, u64), NodeId>,
}

impl OneLeaderPerTerm {
    /// `node` leads `group` in `term`. Whether that is news.
    pub fn leads(&mut self, group: GroupId, term: u64, node: NodeId) -> Result<bool, String> {
        match self.leaders.insert((group, term), node) {
            None => Ok(true),
            Some(known) if known == node => Ok(false),
            Some(other) => Err(format!("nodes {other} and {node} both led group {group} in term {term}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_leaders_in_a_term_are_found() {
        let mut invariant = OneLeaderPerTerm::default();
        assert_eq!(invariant.leads(0, 1, 1), Ok(true));
        assert_eq!(invariant.leads(0, 1, 1), Ok(false));
        assert_eq!(invariant.leads(1, 1, 2), Ok(true), "another group");
        assert_eq!(invariant.leads(0, 2, 2), Ok(true), "another term");
        assert!(invariant.leads(0, 1, 2).is_err());
    }
}
