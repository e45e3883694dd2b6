//! Who is a member in the end is what those who changed it were told: what was acknowledged has happened, and what was answered
//! as certainly not done has not.

use quoris_engine::entry::Topology;

use crate::history::{History, MemberChange};

/// Judges every change, by the members at the end.
pub fn check(history: &History, members: &Topology) -> Vec<String> {
    let done = |change: &MemberChange| match change.joins {
        true => members.node(change.node).is_some() || members.has_removed(change.node),
        false => members.has_removed(change.node),
    };
    let may_have = |change: &MemberChange| {
        let same = |other: &&MemberChange| other.node == change.node && other.joins == change.joins;
        history.members.iter().filter(same).any(|other| other.applied != Some(false))
    };
    let wrong = |change: &MemberChange| match change.applied {
        Some(true) if !done(change) => Some(format!("{change} was acknowledged, and is not to be seen")),
        Some(false) if done(change) && !may_have(change) => {
            Some(format!("{change} was refused, and is to be seen"))
        }
        _ => None,
    };
    history.members.iter().filter_map(wrong).collect()
}

#[cfg(test)]
mod tests {
    use quoris_engine::entry::NodeInfo;

    use super::*;

    fn history(changes: &[(u64, bool, Option<bool>)]) -> History {
        let change =
            |&(node, joins, applied): &(u64, bool, Option<bool>)| MemberChange { node, joins, applied };
        let mut history = History::default();
        history.members.extend(changes.iter().map(change));
        history
    }

    fn members(nodes: &[u64], removed: &[u64]) -> Topology {
        let node = |id: &u64| NodeInfo { id: *id, ..NodeInfo::default() };
        Topology {
            nodes: nodes.iter().map(node).collect(),
            removed: removed.iter().map(node).collect(),
            ..Topology::default()
        }
    }

    #[test]
    fn what_was_acknowledged_must_be_there_and_what_was_refused_must_not() {
        let now = members(&[1, 2, 4], &[3]);
        assert!(
            check(&history(&[(4, true, Some(true)), (3, false, Some(true)), (5, true, None)]), &now)
                .is_empty()
        );
        assert_eq!(check(&history(&[(5, true, Some(true))]), &now).len(), 1);
        assert_eq!(check(&history(&[(2, false, Some(true))]), &now).len(), 1);
        assert_eq!(check(&history(&[(3, false, Some(false))]), &now).len(), 1);
        assert!(check(&history(&[(3, false, Some(false)), (3, false, None)]), &now).is_empty());
        assert!(check(&history(&[(3, true, Some(true)), (2, false, Some(false))]), &now).is_empty());
    }
}
