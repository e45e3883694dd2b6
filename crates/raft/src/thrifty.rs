//! Whom a group's leader asks first. It needs the word of a quorum, no more: so an entry, and the question whether there is a
//! newer leader, go to as many followers at once as make one with itself. The others are sent an entry a moment later, together
//! with those that follow it ("thrifty", as in EPaxos: Moraru, Andersen, Kaminsky, SOSP 2013).
//!
//! An append costs who takes it as much as some twenty small calls, however few it holds; for who need not be quick these costs are
//! shared by all entries of that moment.
//!
//! Nobody is left out, and no rule of Raft's is touched, which says nothing about when a leader sends. As soon as one of those
//! asked first is late the others are asked, too. What it costs: the entry at which somebody falls silent is committed later by
//! [`limits::THRIFTY_LATE`] and a little; and the others are behind by [`limits::THRIFTY_HOLD`] at most.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use tokio::time::Instant;

use crate::consensus::TypeConfig;
use crate::limits;
use crate::types::{GroupId, NodeId};

/// Tells who votes.
pub type Metrics = WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>;

/// How quickly one group's followers answer this node, and whom it asks first. Cheap to clone.
#[derive(Clone)]
pub struct Thrifty {
    inner: Arc<Inner>,
}

struct Inner {
    group: GroupId,
    node_id: NodeId,
    is_on: bool,
    /// Not known before openraft runs.
    metrics: OnceLock<Metrics>,
    followers: Mutex<BTreeMap<NodeId, Follower>>,
    held: AtomicU64,
    called: AtomicU64,
}

/// What is known of a follower since it was reached last.
#[derive(Default)]
struct Follower {
    /// When the appends that it has not answered were sent, oldest first.
    unanswered: VecDeque<Instant>,
    /// How long its answers take, smoothed; none if it has given none.
    usual: Option<Duration>,
    /// Up to where it has what the leader has.
    index: u64,
}

impl Follower {
    fn answered(&mut self, index: u64, now: Instant) {
        let Some(sent) = self.unanswered.pop_front() else { return };
        let took = now - sent;
        self.usual = Some(self.usual.map_or(took, |usual| (usual * 15 + took) / 16));
        self.index = index;
    }

    fn is_late(&self, now: Instant) -> bool {
        self.unanswered.front().is_some_and(|sent| now - *sent > limits::THRIFTY_LATE)
    }
}

impl Thrifty {
    /// Of `group` on node `node_id`; if it is not on, all are asked at once.
    pub fn new(group: GroupId, node_id: NodeId, is_on: bool) -> Thrifty {
        let (followers, held, called) = (Mutex::default(), AtomicU64::new(0), AtomicU64::new(0));
        let metrics = OnceLock::new();
        Thrifty { inner: Arc::new(Inner { group, node_id, is_on, metrics, followers, held, called }) }
    }

    /// Learns from `metrics` who votes. Before it is called, all are asked at once.
    pub fn follow(&self, metrics: Metrics) {
        assert!(self.inner.metrics.set(metrics).is_ok(), "a group starts once");
    }

    /// An append with entries is on its way to `follower`.
    pub fn sent(&self, follower: NodeId) {
        self.followers().entry(follower).or_default().unanswered.push_back(Instant::now());
    }

    /// `follower` has taken the oldest append on its way, and with it all entries up to `index`.
    pub fn answered(&self, follower: NodeId, index: u64) {
        if let Some(follower) = self.followers().get_mut(&follower) {
            follower.answered(index, Instant::now());
        }
    }

    /// What `follower` has not answered will not be heard of: openraft begins a stream of appends anew, with each heartbeat.
    pub fn begins(&self, follower: NodeId) {
        if let Some(follower) = self.followers().get_mut(&follower) {
            follower.unanswered.clear();
        }
    }

    /// `follower` could not be asked, or has not answered: it is not among the first before it has answered again.
    pub fn failed(&self, follower: NodeId) {
        self.followers().remove(&follower);
    }

    /// Whether `follower` is to be asked now, with the others of a quorum; if not, when one of those is late.
    pub fn is_first(&self, follower: NodeId) -> bool {
        self.first().is_none_or(|first| first.contains(&follower))
    }

    /// Ready when `follower`, to which something was `sent` last, is to be sent what has come since.
    pub async fn turn_of(&self, follower: NodeId, sent: Instant) {
        let mut held = false;
        while !self.is_first(follower) {
            if sent.elapsed() >= limits::THRIFTY_HOLD {
                self.inner.held.fetch_add(u64::from(held), Ordering::Relaxed);
                return;
            }
            held = true;
            tokio::time::sleep(limits::THRIFTY_CHECK).await;
        }
        self.inner.called.fetch_add(u64::from(held), Ordering::Relaxed);
    }

    /// How often a follower was left without new entries for as long as it may be, and how often it was asked sooner, as it had
    /// come to be among the first: one of those was late, or slower.
    pub fn counts(&self) -> (u64, u64) {
        (self.inner.held.load(Ordering::Relaxed), self.inner.called.load(Ordering::Relaxed))
    }

    /// Those that make a quorum with this node and are asked first; none if all are to be asked.
    fn first(&self) -> Option<Vec<NodeId>> {
        if !self.inner.is_on {
            return None;
        }
        let membership = self.inner.metrics.get()?.borrow_watched().membership_config.clone();
        // While the membership changes, a quorum is one of two.
        let [voters] = &membership.membership().get_joint_config()[..] else { return None };
        pick(self.inner.group, self.inner.node_id, voters, &self.followers())
    }

    fn followers(&self) -> MutexGuard<'_, BTreeMap<NodeId, Follower>> {
        self.inner.followers.lock().expect("no code panics while it holds this lock")
    }
}

/// As many of `voters` as make a quorum with `leader`; none if too few of them answer in time and have about what the others have.
///
/// In the order in which they would stand for election ([`crate::node::Node::heirs`]), so that who stands first has all entries,
/// but for those that take twice as long as the quickest.
fn pick(
    group: GroupId,
    leader: NodeId,
    voters: &BTreeSet<NodeId>,
    followers: &BTreeMap<NodeId, Follower>,
) -> Option<Vec<NodeId>> {
    // A leader that has no vote itself would need one more.
    let needed = voters.contains(&leader).then_some(voters.len() / 2)?;
    let mut peers: Vec<NodeId> = voters.iter().copied().filter(|id| *id != leader).collect();
    let places = (group as usize).checked_rem(peers.len()).unwrap_or(0);
    peers.rotate_left(places);
    let (now, known) = (Instant::now(), |id| followers.get(&id).and_then(|f| Some((f, f.usual?))));
    let newest = peers.iter().filter_map(|id| known(*id)).map(|(follower, _)| follower.index).max()?;
    let fit = |follower: &Follower| !follower.is_late(now) && follower.index + limits::THRIFTY_LAG > newest;
    let usual = |id: NodeId| known(id).filter(|(follower, _)| fit(follower)).map(|(_, usual)| (id, usual));
    let mut fit: Vec<(NodeId, Duration)> = peers.into_iter().filter_map(usual).collect();
    let quickest = fit.iter().map(|(_, usual)| *usual).min()?;
    fit.sort_by_key(|(_, usual)| *usual > quickest * 2);
    (fit.len() >= needed).then(|| fit.into_iter().take(needed).map(|(id, _)| id).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use openraft::ServerState;
    use openraft::type_config::TypeConfigExt;

    use super::*;
    use crate::consensus::{Membership, StoredMembership, Vote};

    const MS: Duration = Duration::from_millis(1);

    /// Of group 0 on node 1, which leads these voters.
    fn thrifty(configs: Vec<BTreeSet<NodeId>>) -> Thrifty {
        let membership = Arc::new(StoredMembership::new(None, Membership::new_with_defaults(configs, [])));
        let metrics = RaftServerMetrics {
            id: 1,
            vote: Vote::new_committed(1, 1),
            state: ServerState::Leader,
            current_leader: Some(1),
            membership_config: membership.clone(),
            committed_membership_config: membership,
        };
        let thrifty = Thrifty::new(0, 1, true);
        thrifty.follow(TypeConfig::watch_channel(metrics).1);
        thrifty
    }

    /// It is sent an entry, and answers after so long.
    async fn append(thrifty: &Thrifty, follower: NodeId, took: Duration) {
        thrifty.sent(follower);
        tokio::time::sleep(took).await;
        thrifty.answered(follower, 1);
    }

    async fn known(voters: NodeId) -> Thrifty {
        let thrifty = thrifty(vec![(1..=voters).collect()]);
        for follower in 2..=voters {
            append(&thrifty, follower, limits::THRIFTY_LATE / 2).await;
        }
        thrifty
    }

    fn first(thrifty: &Thrifty, voters: NodeId) -> Vec<NodeId> {
        (2..=voters).filter(|id| thrifty.is_first(*id)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_quorum_is_asked_first_and_all_when_it_does_not_answer() {
        for (voters, quorum) in [(2, vec![2]), (3, vec![2]), (4, vec![2, 3]), (5, vec![2, 3])] {
            let thrifty = known(voters).await;
            assert_eq!(first(&thrifty, voters), quorum);
            assert!(!thrifty.is_first(9), "who does not vote is in no quorum");
        }
        let thrifty = known(3).await;
        thrifty.sent(2);
        assert_eq!(first(&thrifty, 3), [2]);
        tokio::time::sleep(limits::THRIFTY_LATE + MS).await;
        assert_eq!(first(&thrifty, 3), [3], "2 is late");
        thrifty.sent(3);
        tokio::time::sleep(limits::THRIFTY_LATE + MS).await;
        assert_eq!(first(&thrifty, 3), [2, 3], "both are");
        thrifty.answered(2, 2);
        thrifty.failed(2);
        thrifty.answered(3, 2);
        assert_eq!(first(&thrifty, 3), [3], "of 2 nothing is known");
    }

    #[tokio::test(start_paused = true)]
    async fn all_are_asked_while_members_change_or_nothing_is_known() {
        let changing = thrifty(vec![[1, 2, 3].into(), [1, 2, 4].into()]);
        append(&changing, 2, MS).await;
        assert!(changing.is_first(3));
        let without_a_vote = thrifty(vec![[2, 3, 4].into()]);
        append(&without_a_vote, 2, MS).await;
        assert!(without_a_vote.is_first(3));
        assert!(thrifty(vec![[1, 2, 3].into()]).is_first(3));
        assert!(Thrifty::new(0, 1, true).is_first(3));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slower_by_far_or_lags_is_not_asked_first() {
        let thrifty = known(3).await;
        for _ in 0..50 {
            thrifty.sent(3);
            thrifty.answered(3, 1);
        }
        assert_eq!(first(&thrifty, 3), [3]);
        thrifty.sent(2);
        thrifty.answered(2, limits::THRIFTY_LAG + 1);
        assert_eq!(first(&thrifty, 3), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn others_have_their_turn_after_a_moment_or_when_the_first_are_late() {
        let thrifty = known(3).await;
        let turn = async |follower| {
            let began = Instant::now();
            thrifty.turn_of(follower, began).await;
            began.elapsed()
        };
        assert_eq!(turn(2).await, Duration::ZERO);
        let held = turn(3).await;
        assert!(held >= limits::THRIFTY_HOLD && held <= limits::THRIFTY_HOLD + 2 * MS, "{held:?}");
        assert_eq!(thrifty.counts(), (1, 0));
        thrifty.sent(2);
        let held = turn(3).await;
        assert!(held > limits::THRIFTY_LATE && held <= limits::THRIFTY_LATE + 3 * MS, "{held:?}");
        assert_eq!(thrifty.counts(), (1, 1));
    }
}
