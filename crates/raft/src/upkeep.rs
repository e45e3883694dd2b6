//! What a node does by itself, beside serving: taking peers' connections, founding, keeping leaders where they
//! belong, noticing that a peer has died, keeping the log within its bounds.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::join_all;
use openraft::EmptyNode;
use prost::Message;
use quoris_engine::entry::{Entry, Genesis, NodeInfo, Stamp, Topology};

use crate::consensus::Vote;
use crate::env::{Listener, Stream};
use crate::group::Group;
use crate::limits;
use crate::membership::Accounts;
use crate::node::Node;
use crate::peer::{Link, LinkState};
use crate::planted::{Bug, is_planted};
use crate::service::Service;
use crate::types::{GroupId, NodeId};
use crate::wire;
use crate::wire::proto::peer_server::PeerServer;
use crate::wire::proto::{self, Found, Recall, RecallReply, frame};

/// Answers every peer that connects.
pub async fn serve_peers(listener: Box<dyn Listener>, service: Service) {
    let service = PeerServer::new(service)
        .max_decoding_message_size(limits::PACKET_BYTES)
        .max_encoding_message_size(limits::PACKET_BYTES);
    let incoming = futures::stream::unfold(listener, |mut listener| async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some((Ok::<_, std::io::Error>(Incoming(stream)), listener)),
                // A peer that went away while it connected, or too many open files: neither ends the service.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a peer's connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    let (interval, silence) = limits::KEEPALIVE;
    let served = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(interval))
        .http2_keepalive_timeout(Some(silence))
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        .add_service(service)
        .serve_with_incoming(incoming)
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "no longer listening for peers");
    }
}

/// Begins the cluster if this node is its founder and every node is empty; then, and whenever a group this node leads
/// has not been born, proposes its genesis; and brings a newcomer to follow and to vote.
pub async fn found(node: Weak<Node>) {
    let mut founded = false;
    for round in 1u64.. {
        tokio::time::sleep(limits::TICK_INTERVAL).await;
        let Some(node) = node.upgrade() else { return };
        if !founded && node.is_founder() && may_found(&node, round) {
            founded = try_to_found(&node).await;
        }
        if !node.standing.may_follow() {
            recall_votes(&node).await;
        }
        node.standing.review(node.groups(), &node.log).await;
        node.groups().iter().for_each(Group::appeal);
        for group in node.groups() {
            if group.is_leader() && group.with_machine(|machine| machine.genesis().cluster_id.is_empty()) {
                let entry = genesis(&node, group);
                // If it fails, the next round proposes it again: a second birth changes nothing.
                group.write_entry(entry).await;
            }
        }
    }
}

/// Whether the cluster may not exist already, as far as this node has heard. One without peers has nobody to ask: it may have begun
/// alone, have been joined by others since, and have lost its disk. So it waits until those would have greeted it.
fn may_found(node: &Node, round: u64) -> bool {
    node.topology().epoch <= 1 && (!node.links.all().is_empty() || round >= limits::TICKS_ALONE)
}

/// Asks every peer; begins all groups if all are empty. False: to be tried again.
async fn try_to_found(node: &Node) -> bool {
    if !node.is_voter() && !agreed_to_found(node).await {
        return node.standing.has_joined(node.groups()).await;
    }
    // A founder that votes has been through this before, and may have died in the middle of what follows.
    let members: BTreeMap<NodeId, EmptyNode> =
        node.topology().nodes.iter().map(|info| (info.id, EmptyNode {})).collect();
    for group in node.groups() {
        if !group.is_blank().await {
            continue;
        }
        match group.raft.initialize(members.clone()).await {
            Ok(()) => tracing::info!(group = group.id(), "founded"),
            Err(error) => tracing::warn!(group = group.id(), %error, "cannot begin the group"),
        }
    }
    true
}

/// Whether every node is empty and votes from now on.
async fn agreed_to_found(node: &Node) -> bool {
    for link in node.links.all().values() {
        let asked = link.request(0, frame::Body::Found(Found {}));
        match tokio::time::timeout(limits::CONNECT_TIMEOUT, asked).await {
            Ok(Ok(frame::Body::FoundReply(reply))) if reply.ready => {}
            Ok(Ok(frame::Body::FoundReply(_))) => {
                tracing::debug!(peer = link.peer(), "the peer is not empty: the cluster exists already");
                return false;
            }
            _ => return false,
        }
    }
    node.standing.accept_founding(node.groups()).await
}

/// Asks every peer for its vote in every group, and adopts the newest of each; then this newcomer may follow leaders.
/// If a peer does not answer, or somebody names a voter that this node cannot ask, the next round asks again.
async fn recall_votes(node: &Node) {
    let epoch = node.topology().epoch;
    let mut newest = Vec::new();
    for group in node.groups() {
        let Some(vote) = newest_vote(node, group).await else { return };
        newest.push(vote);
    }
    if node.topology().epoch > epoch {
        // There may be others to ask.
        return;
    }
    for (group, newest) in node.groups().iter().zip(newest) {
        if newest.leader_id().term > 0
            && let Err(error) = group.adopt_vote(newest).await
        {
            tracing::warn!(group = group.id(), %error, "cannot adopt the peers' vote");
            return;
        }
    }
    node.standing.has_recalled();
    // From here on its own logs say.
    node.named.lock().expect("no code panics while it holds this lock").clear();
}

/// The newest vote of any other node in `group`; `None` if somebody has not been heard: a member, or one on whom the group
/// still counts.
async fn newest_vote(node: &Node, group: &Group) -> Option<Vote> {
    let (mut newest, mut accounts) = (Vote::new(0, 0), Accounts::default());
    let members = node.topology();
    for peer in node.links.all().keys() {
        match recalled(group, *peer).await {
            Some(reply) => {
                accounts.add(*peer, &reply);
                let vote = wire::from_vote(&reply.vote.unwrap_or_default());
                if vote.leader_id().term > newest.leader_id().term {
                    newest = vote;
                }
            }
            None if members.node(*peer).is_some() => return None,
            None => {}
        }
    }
    let missing: Vec<NodeId> = accounts.missing().filter(|voter| *voter != node.id()).collect();
    // There will be links to them by the next round, if anybody knows where they are.
    node.named.lock().expect("no code panics while it holds this lock").extend(&missing);
    missing.is_empty().then_some(newest)
}

/// What `peer` has voted in `group`, and says of its membership.
async fn recalled(group: &Group, peer: NodeId) -> Option<RecallReply> {
    match group.ask_peer(peer, frame::Body::Recall(Recall {}), limits::CONNECT_TIMEOUT).await {
        Some(frame::Body::RecallReply(reply)) => Some(reply),
        _ => None,
    }
}

fn genesis(node: &Node, group: &Arc<Group>) -> Entry {
    let topology = node.topology();
    let mut slots = topology.groups.iter().find(|info| info.id == group.id()).map(|info| info.slots.clone());
    if let (Some(slots), true) = (&mut slots, is_planted(Bug::SlotOwnedTwice)) {
        slots.iter_mut().for_each(|range| range.start = range.start.saturating_sub(1));
    }
    let genesis = Genesis {
        cluster_id: node.config().cluster_id.clone(),
        group: group.id(),
        slots: slots.unwrap_or_default(),
        topology: (group.id() == 0).then(|| (*topology).clone()),
    };
    let stamp = Stamp { now_ms: node.env.clock.now_ms(), seed: node.env.rng.next_u64(), ..Stamp::default() };
    Entry { stamp: Some(stamp), genesis: Some(genesis), ..Entry::default() }
}

/// Hands each group that this node leads without being its preferred leader to that node, once it is reachable and
/// has been for a while. One group at a time: a hand-over costs its writers a round trip or two.
pub async fn keep_leaders_spread(node: Weak<Node>) {
    const PATIENCE_ROUNDS: u32 = 3;
    let mut steady = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let Some(node) = node.upgrade() else { return };
        resign_what_is_distrusted(&node).await;
        let members = node.topology();
        // While its members change, a group has enough to do.
        let misplaced = node.groups().iter().filter(|group| group.has_settled(&members)).find_map(|group| {
            let preferred = node.preferred_leader(group.id())?;
            let movable =
                group.is_leader() && preferred != node.id() && node.heirs(group.id()).contains(&preferred);
            (movable && group.is_caught_up(preferred)).then_some((group, preferred))
        });
        steady = if misplaced.is_some() { steady + 1 } else { 0 };
        if let (Some((group, preferred)), true) = (misplaced, steady >= PATIENCE_ROUNDS) {
            // A node that is going down, or may not lead, is asked again later.
            if node.hand_over_to(group, preferred).await {
                tracing::info!(group = group.id(), to = preferred, "handing over to the preferred leader");
            }
            steady = 0;
        }
    }
}

/// Hands over the groups that this node leads with a replica that is not to be trusted.
async fn resign_what_is_distrusted(node: &Node) {
    for group in node.groups().iter().filter(|group| group.is_leader() && group.trust.is_distrusted()) {
        let heirs = node.heirs(group.id()).into_iter().filter(|heir| *heir != node.id());
        for heir in heirs {
            if node.hand_over_to(group, heir).await {
                tracing::warn!(
                    group = group.id(),
                    to = heir,
                    "handing over: the replica here differs from the others"
                );
                break;
            }
        }
    }
}

/// Keeps the links those to the members, and remembers who they are over restarts.
pub async fn keep_links(node: Weak<Node>) {
    let Some(mut changes) = node.upgrade().map(|node| node.members().changes()) else { return };
    let (mut recorded, mut told) = (0, BTreeMap::new());
    loop {
        // Also without news: a group may have stopped to count on who is no member, or to count on this node.
        if let Ok(Err(_)) = tokio::time::timeout(limits::MEMBERS_CHECK, changes.changed()).await {
            return;
        }
        let Some(node) = node.upgrade() else { return };
        node.follow_members();
        let topology = node.topology();
        // Epoch 1 is what the settings say.
        if topology.epoch > recorded.max(1) {
            match node.standing.record_members(&topology).await {
                Ok(()) => recorded = topology.epoch,
                Err(error) => tracing::error!(%error, "cannot record who the members are"),
            }
        }
        tell_peers(&node, &topology, &mut told).await;
        if node.members().am_removed() && has_been_let_go(&node).await {
            node.members().dismiss();
        }
    }
}

/// Tells those peers who the members are that have not been `told` of this epoch, or a later one. At their hello they are told,
/// too: this is for links that stand. A node may be taken out of the meta group before its log says that it was removed.
async fn tell_peers(node: &Node, topology: &Topology, told: &mut BTreeMap<NodeId, u64>) {
    let links = node.links.all();
    let late = |id: &&NodeId| told.get(id).is_none_or(|epoch| *epoch < topology.epoch);
    let tell = |id: &NodeId| {
        let (id, link) = (*id, links[id].clone());
        let news = proto::Members { topology: topology.encode_to_vec().into() };
        async move {
            let asked = link.request(0, frame::Body::Members(news));
            let answer = tokio::time::timeout(limits::CONNECT_TIMEOUT, asked).await;
            matches!(answer, Ok(Ok(frame::Body::MembersReply(_)))).then_some(id)
        }
    };
    let heard = join_all(links.keys().filter(late).filter(|id| links[*id].is_up()).map(tell)).await;
    told.extend(heard.into_iter().flatten().map(|id| (id, topology.epoch)));
}

/// Remembers that this node has been dismissed; then it stops.
pub async fn leave(node: Weak<Node>) {
    let Some(members) = node.upgrade().map(|node| node.members().clone()) else { return };
    members.dismissed().await;
    let Some(node) = node.upgrade() else { return };
    if let Err(error) = node.standing.record_dismissal().await {
        tracing::error!(%error, "cannot record that this node was removed from the cluster");
    }
    node.has_left.send_replace(true);
}

/// Whether no group counts any more on this node, which was removed.
async fn has_been_let_go(node: &Node) -> bool {
    let members = node.topology();
    let unwanted = |info: &&NodeInfo| node.links.get(info.id).is_some_and(|link| link.is_unwanted());
    if 2 * members.nodes.iter().filter(unwanted).count() > members.nodes.len() {
        return true;
    }
    for group in node.groups() {
        let mut accounts = Accounts::default();
        for peer in node.links.all().keys() {
            if let Some(reply) = recalled(group, *peer).await {
                accounts.add(*peer, &reply);
            }
        }
        if !accounts.have_dropped(node.id()) {
            return false;
        }
    }
    true
}

/// When the peer's process dies, its groups need a leader at once. The survivors stand in turn, so that their votes do
/// not split.
pub async fn watch_for_death(node: Weak<Node>, link: Link) {
    let mut state = link.watch();
    while state.wait_for(|state| *state == LinkState::Refused).await.is_ok() {
        let Some(node) = node.upgrade() else { return };
        tracing::info!(peer = link.peer(), "the peer's process has died");
        take_over(&node, link.peer()).await;
        drop(node);
        if state.changed().await.is_err() {
            return;
        }
    }
}

async fn take_over(node: &Node, dead: NodeId) {
    if !node.is_voter() {
        return;
    }
    let led_by_it = node.groups().iter().filter(|group| group.leader() == Some(dead));
    let orphans: Vec<(&Arc<Group>, Vec<NodeId>)> = led_by_it.map(|g| (g, node.heirs(g.id()))).collect();
    let most = orphans.iter().map(|(_, heirs)| heirs.len()).max().unwrap_or(0);
    for place in 0..most {
        for (group, heirs) in &orphans {
            if heirs.get(place) == Some(&node.id()) {
                group.take_over_from(dead).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(node.config().timing.heartbeat_interval_ms * 2)).await;
    }
}

/// Snapshots the groups that pin most of the log, when the log is larger than it should be.
pub async fn keep_log_bounded(node: Weak<Node>) {
    let (calm, busy) = limits::LOG_CHECK_INTERVALS;
    let mut pause = calm;
    loop {
        tokio::time::sleep(pause).await;
        let Some(node) = node.upgrade() else { return };
        node.log.seal();
        let usage = node.log.usage();
        // Half of the bound: there must be room for what arrives while snapshots are written.
        let half = usage.max_bytes / 2;
        if usage.bytes_live <= half {
            pause = calm;
            continue;
        }
        pause = busy;
        let most = usage.held.first().map_or(0, |(_, bytes)| *bytes);
        // When it is full, all of them: the one that pins most may be behind, and be sent nothing more as long as
        // another could make room (`Service::check_has_room`).
        let full = node.log.is_full();
        let chosen = |(_, bytes): &&(GroupId, u64)| full || *bytes == most || *bytes > half;
        for (id, _) in usage.held.iter().filter(chosen) {
            if let Some(group) = node.groups().iter().find(|group| group.id() == *id) {
                group.snapshot_and_purge().await;
            }
        }
    }
}

/// A peer's connection, as tonic wants it.
struct Incoming(Box<dyn Stream>);

impl tonic::transport::server::Connected for Incoming {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl tokio::io::AsyncRead for Incoming {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl tokio::io::AsyncWrite for Incoming {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
