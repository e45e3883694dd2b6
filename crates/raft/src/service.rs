//! What peers ask of this node: the other end of their links.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use futures::future::{self, Either};
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use openraft::errors::RaftError;
use openraft::raft::TransferLeaderRequest;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::consensus::{LogId, TypeConfig};
use crate::group::Group;
use crate::install::{Installed, Offered, install, offer};
use crate::limits;
use crate::log::SharedLog;
use crate::members::Members;
use crate::network::{parts, read_off, receive};
use crate::peer::REMOVED;
use crate::pieces::Pieces;
use crate::planted::{Bug, is_planted};
use crate::snapshot_store::SnapshotStore;
use crate::standing::Standing;
use crate::storage::stored_vote;
use crate::types::{GroupId, NodeId, Watcher};
use crate::wire;
use crate::wire::proto::{
    self, AppendRequest, Frame, OfferReply, Packet, SnapshotHead, SnapshotPart, SnapshotReply,
    SnapshotWanted, frame, peer_server::Peer,
};

/// Answers peers. Shared by all their streams.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    members: Members,
    groups: BTreeMap<GroupId, Arc<Group>>,
    snapshots: BTreeMap<GroupId, SnapshotStore>,
    log: SharedLog,
    standing: Arc<Standing>,
    watcher: Arc<dyn Watcher>,
}

impl Service {
    pub fn new(
        members: Members,
        groups: &[Arc<Group>],
        snapshots: BTreeMap<GroupId, SnapshotStore>,
        log: SharedLog,
        standing: Arc<Standing>,
        watcher: Arc<dyn Watcher>,
    ) -> Service {
        let groups = groups.iter().map(|group| (group.id(), Arc::clone(group))).collect();
        let inner = Inner { members, groups, snapshots, log, standing, watcher };
        Service { inner: Arc::new(inner) }
    }

    /// Answers one frame; what cannot be answered is refused, in words.
    async fn answer(&self, frame: Frame) -> Frame {
        let Frame { group, request, body } = frame;
        let body = match (body, self.inner.groups.get(&group)) {
            (Some(body), Some(group)) => self.answer_body(group, body).await,
            (Some(_), None) => Err(format!("it has no group {group}")),
            (None, _) => Err("the request is of an unknown kind".into()),
        };
        Frame { group, request, body: Some(body.unwrap_or_else(frame::Body::Refused)) }
    }

    async fn answer_body(&self, group: &Arc<Group>, body: frame::Body) -> Result<frame::Body, String> {
        let words = |error: &dyn std::fmt::Display| error.to_string();
        match body {
            frame::Body::Append(request) => {
                self.inner.standing.check_may_follow()?;
                self.check_has_room(&request)?;
                let mut request = wire::from_append_request(request).map_err(|error| words(&error))?;
                if let (Some(last), true) = (request.entries.last(), is_planted(Bug::ApplyBeforeCommit)) {
                    request.leader_commit = Some(last.log_id);
                }
                let (vote, commit) = (request.vote, request.leader_commit);
                let reply = group.raft.append_entries(request).await.map_err(|error| words(&error))?;
                self.inner.standing.leader_spoke(group.id(), &vote, commit.as_ref(), &reply);
                Ok(frame::Body::AppendReply(wire::append_reply(&reply)))
            }
            frame::Body::Vote(request) => {
                self.check_may_grant(group, request.leadership_transfer)?;
                let mut request = wire::from_vote_request(request);
                if is_planted(Bug::VoteForShorterLog) {
                    request.last_log_id = Some(LogId::new_term_index(u64::MAX, u64::MAX));
                }
                let reply = group.raft.vote(request).await.map_err(|error| words(&error))?;
                Ok(frame::Body::VoteReply(wire::vote_reply(&reply)))
            }
            frame::Body::PreVote(request) => {
                self.check_may_grant(group, request.leadership_transfer)?;
                let mut request = wire::from_vote_request(request);
                if is_planted(Bug::VoteForShorterLog) {
                    request.last_log_id = Some(LogId::new_term_index(u64::MAX, u64::MAX));
                }
                let reply = group.raft.pre_vote(request).await.map_err(|error| words(&error))?;
                Ok(frame::Body::VoteReply(wire::vote_reply(&reply)))
            }
            frame::Body::MayLead(_) => {
                let ready = self.check_may_lead(group).is_ok();
                Ok(frame::Body::MayLeadReply(proto::MayLeadReply { ready }))
            }
            frame::Body::Transfer(request) => {
                self.check_may_lead(group)?;
                let from = wire::from_vote(&request.from.unwrap_or_default());
                let last = request.last.as_ref().map(wire::from_log_id);
                let request = TransferLeaderRequest::new(from, request.to, last);
                let reply =
                    group.raft.handle_transfer_leader(request).await.map_err(|error| words(&error))?;
                Ok(frame::Body::TransferReply(proto::TransferReply { accepted: reply.is_ok() }))
            }
            frame::Body::Found(_) => {
                let ready = self.inner.standing.accept_founding(self.inner.groups.values()).await;
                Ok(frame::Body::FoundReply(proto::FoundReply { ready }))
            }
            frame::Body::Offer(head) => {
                self.inner.standing.check_may_follow()?;
                let reply = offered(group, head).await.map_err(|error| words(&error))?;
                Ok(frame::Body::OfferReply(reply))
            }
            frame::Body::Confirm(_) => {
                self.inner.standing.check_may_follow()?;
                let vote = stored_vote(&self.inner.log.group(group.id())).map_err(|error| words(&error))?;
                let term = vote.filter(|_| !is_planted(Bug::ConfirmBlindly)).map_or(0, |vote| vote.term);
                Ok(frame::Body::ConfirmReply(proto::ConfirmReply { term }))
            }
            frame::Body::Recall(_) => {
                let (vote, stored) = group.vote().await.map_err(|error| words(&error))?;
                Ok(frame::Body::RecallReply(proto::RecallReply {
                    vote: Some(wire::vote(&vote)),
                    membership_at: stored.log_id().as_ref().map(wire::log_id),
                    membership: Some(wire::membership(stored.membership())),
                }))
            }
            frame::Body::Members(proto::Members { topology }) => {
                self.inner.members.hear(&topology);
                Ok(frame::Body::MembersReply(proto::MembersReply {}))
            }
            frame::Body::Audit(_) => {
                let report = group.audit().await.map_err(|refusal| words(&refusal))?;
                let (index, digest, majority) = (report.index, report.digest, report.majority);
                Ok(frame::Body::AuditReply(proto::AuditReply { index, digest, majority }))
            }
            frame::Body::Audited(proto::Audited { index }) => {
                let digest = group.audited(index).await.ok_or("it has no audit of this index")?;
                Ok(frame::Body::AuditedReply(proto::AuditedReply { digest }))
            }
            frame::Body::Verdict(proto::Verdict { index, majority }) => {
                group.hear_verdict(index, majority);
                Ok(frame::Body::VerdictReply(proto::VerdictReply {}))
            }
            _ => Err("this is no request".into()),
        }
    }

    /// Refuses, in words, what only a replica that may lead may answer.
    fn check_may_lead(&self, group: &Group) -> Result<(), String> {
        self.inner.standing.check_may_vote()?;
        match group.difference() {
            None => Ok(()),
            Some(_) => Err("its replica differs from the others".into()),
        }
    }

    /// Refuses, in words, a vote that this replica may not give.
    fn check_may_grant(&self, group: &Group, takes_over: bool) -> Result<(), String> {
        self.inner.standing.check_may_vote()?;
        group.check_may_grant(takes_over)
    }

    /// Refuses, in words, entries that this node's log has no room for, as long as snapshots can make some: this
    /// follower then lags, as one whose disk is slow does. Entries that nothing can make room for are taken, or the
    /// group could stand still for good.
    fn check_has_room(&self, request: &AppendRequest) -> Result<(), String> {
        let refuse = !request.entries.is_empty()
            && self.inner.log.is_full()
            && self.inner.groups.values().any(|group| group.can_be_purged());
        match refuse {
            true => Err("its log is full".into()),
            false => Ok(()),
        }
    }

    /// Refuses who is of another cluster, who one of the two takes for somebody else (a node at an address that was another
    /// one's would answer in that one's name, and be counted twice), and who is no member: unless a group counts on it, whose
    /// log may be ahead of what is known here of the members.
    fn check_hello(&self, hello: &proto::Hello) -> Result<(), Status> {
        self.check_cluster(&hello.cluster_id)?;
        let proto::Hello { node_id, to, .. } = hello;
        if is_planted(Bug::HelloUnchecked) {
            return Ok(());
        }
        let ours = self.inner.members.me();
        if *to != ours {
            return Err(Status::permission_denied(format!("this is node {ours}, not node {to}")));
        }
        self.inner.members.hear(&hello.topology);
        match self.is_welcome(*node_id) {
            true => Ok(()),
            false => Err(self.refuse_stranger(*node_id)),
        }
    }

    /// Whether the node is a member, or a group counts on it all the same.
    fn is_welcome(&self, node_id: NodeId) -> bool {
        let is_member = self.inner.members.get().node(node_id).is_some();
        is_member
            || is_planted(Bug::HelloUnchecked)
            || self.inner.groups.values().any(|g| g.counts_on(node_id))
    }

    fn refuse_stranger(&self, node_id: NodeId) -> Status {
        // A newcomer cannot say on whom its groups count.
        if self.inner.members.get().has_removed(node_id) && self.inner.standing.is_voter() {
            let words = format!("node {node_id} was removed from the cluster");
            return Status::with_details(REMOVED, words, self.inner.members.tell());
        }
        let words = format!("no member of the cluster is node {node_id}: quoris ctl add-node makes it one");
        Status::permission_denied(words)
    }

    /// Ready when the node is welcome no longer: it is told why when it greets again.
    async fn until_unwelcome(&self, node_id: NodeId) {
        while self.is_welcome(node_id) {
            tokio::time::sleep(limits::MEMBERS_CHECK).await;
        }
    }

    /// Whether this node leads a group, founded long ago, whose log has an entry that is not committed.
    fn has_writes_under_way(&self) -> bool {
        const FOUNDED: u64 = 30;
        self.inner.groups.values().any(|group| {
            let position = group.position();
            position.is_leader && position.last_index > position.committed.max(FOUNDED)
        })
    }

    fn check_cluster(&self, theirs: &str) -> Result<(), Status> {
        let ours = self.inner.members.cluster_id();
        if theirs == ours {
            return Ok(());
        }
        Err(Status::permission_denied(format!("this node is of cluster '{ours}', not of '{theirs}'")))
    }
}

#[tonic::async_trait]
impl Peer for Service {
    type LinkStream = Pin<Box<dyn Stream<Item = Result<Packet, Status>> + Send>>;

    type FetchSnapshotStream = Pin<Box<dyn Stream<Item = Result<SnapshotPart, Status>> + Send>>;

    async fn link(&self, request: Request<Streaming<Packet>>) -> Result<Response<Self::LinkStream>, Status> {
        let mut inbound = request.into_inner();
        let first = inbound.message().await?;
        let hello = first.and_then(|packet| packet.hello);
        let hello = hello.ok_or_else(|| Status::invalid_argument("the first packet must be a hello"))?;
        if let Err(refused) = self.check_hello(&hello) {
            let reason = refused.message();
            tracing::info!(peer = hello.node_id, cluster = hello.cluster_id, reason, "refused a peer");
            return Err(refused);
        }
        let (outbound, frames) = mpsc::channel(limits::WAITING_FRAMES);
        let (service, peer) = (self.clone(), hello.node_id);
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = serve(service.clone(), inbound, outbound) => {}
                () = service.until_unwelcome(peer) => {}
            }
        });
        let first = Packet { hello: Some(self.inner.members.hello(hello.node_id)), frames: Vec::new() };
        let packets = ReceiverStream::new(frames)
            .ready_chunks(limits::FRAMES_PER_PACKET)
            .map(|frames| Ok(Packet { hello: None, frames }));
        Ok(Response::new(Box::pin(futures::stream::once(async { Ok(first) }).chain(packets))))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<SnapshotPart>>,
    ) -> Result<Response<SnapshotReply>, Status> {
        let mut parts = request.into_inner();
        let taken = self.take_snapshot(&mut parts).await;
        if taken.is_err() {
            // It was wanted when it was offered, so this is rare.
            read_off(&mut parts).await;
        }
        taken.map(Response::new)
    }

    async fn fetch_snapshot(
        &self,
        request: Request<SnapshotWanted>,
    ) -> Result<Response<Self::FetchSnapshotStream>, Status> {
        let SnapshotWanted { cluster_id, group: id, at_least } = request.into_inner();
        self.check_cluster(&cluster_id)?;
        let unknown = || Status::not_found(format!("it has no group {id}"));
        let group = self.inner.groups.get(&id).ok_or_else(unknown)?;
        let store = self.inner.snapshots.get(&id).ok_or_else(unknown)?;
        if !group.is_leader() || group.difference().is_some() {
            return Err(Status::failed_precondition("it does not lead the group"));
        }
        if !group.has_applied(at_least, limits::REBUILD_WAIT).await || !group.save().await {
            return Err(Status::unavailable("it is behind, or stopping"));
        }
        let snapshot = store.current().ok_or_else(|| Status::internal("it has no snapshot"))?;
        let head = SnapshotHead { cluster_id, group: id, ..SnapshotHead::default() };
        Ok(Response::new(Box::pin(parts(head, snapshot, || false).map(Ok))))
    }
}

impl Service {
    /// Takes the snapshot whose parts come, and says what the replica's vote is then.
    async fn take_snapshot(&self, parts: &mut Streaming<SnapshotPart>) -> Result<SnapshotReply, Status> {
        let head = parts.message().await?.and_then(|part| part.head);
        let head = head.ok_or_else(|| Status::invalid_argument("the first part must have a head"))?;
        self.check_cluster(&head.cluster_id)?;
        self.inner.standing.check_may_follow().map_err(Status::failed_precondition)?;
        let unknown = || Status::not_found(format!("it has no group {}", head.group));
        let group = self.inner.groups.get(&head.group).ok_or_else(unknown)?;
        let store = self.inner.snapshots.get(&head.group).ok_or_else(unknown)?;
        let snapshot = receive(parts, store).await?;
        let meta = wire::from_snapshot_meta(&head.meta.unwrap_or_default());
        let vote = wire::from_vote(&head.vote.unwrap_or_default());
        let snapshot = openraft::Snapshot { meta, snapshot };
        let vote = match install(&group.raft, vote, snapshot).await.map_err(internal)? {
            Installed::Whole => vote,
            Installed::NotNeeded => {
                group.snapshots_not_needed.fetch_add(1, Ordering::Relaxed);
                vote
            }
            Installed::Refused(newer) => newer,
        };
        Ok(SnapshotReply { vote: Some(wire::vote(&vote)) })
    }
}

/// What the replica of `group` says to the snapshot that `head` describes.
async fn offered(group: &Group, head: SnapshotHead) -> Result<OfferReply, RaftError<TypeConfig>> {
    let vote = wire::from_vote(&head.vote.unwrap_or_default());
    let last = wire::from_snapshot_meta(&head.meta.unwrap_or_default()).last_log_id;
    let vote = match offer(&group.raft, vote, last).await? {
        Offered::Wanted => return Ok(OfferReply { wanted: true, vote: None }),
        Offered::NotNeeded => {
            group.snapshots_not_needed.fetch_add(1, Ordering::Relaxed);
            vote
        }
        Offered::Refused(newer) => newer,
    };
    Ok(OfferReply { wanted: false, vote: Some(wire::vote(&vote)) })
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

/// Answers a stream's requests. They are begun in the order in which they were sent, for an append builds on the one
/// before, and answered as they get ready: one that waits for the disk delays no vote.
async fn serve(service: Service, mut inbound: Streaming<Packet>, outbound: mpsc::Sender<Frame>) {
    let (mut begun, mut pieces) = (FuturesUnordered::new(), Pieces::default());
    loop {
        let packet = tokio::select! {
            Some(answer) = begun.next() => {
                if outbound.send(answer).await.is_err() {
                    // The stream has ended; the peer asks again on the next one.
                    return;
                }
                continue;
            }
            packet = inbound.message() => packet,
        };
        let Ok(Some(packet)) = packet else { return };
        while is_planted(Bug::PeersWaitForClients) && service.has_writes_under_way() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for frame in packet.frames {
            let Some(frame) = pieces.take(frame) else {
                // Others may have been waiting while it was copied.
                tokio::task::yield_now().await;
                continue;
            };
            if let Some(frame::Body::Notices(told)) = frame.body {
                told.notices.into_iter().for_each(|notice| service.inner.watcher.told(notice));
                continue;
            }
            let mut answer = Box::pin(service.answer(frame));
            match futures::poll!(&mut answer) {
                Poll::Ready(answer) => begun.push(Either::Left(future::ready(answer))),
                Poll::Pending => begun.push(Either::Right(answer)),
            }
        }
    }
}
