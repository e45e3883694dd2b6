//! openraft's requests to peers, over the links.

use std::future::Future;
use std::time::Duration;

use futures::Stream;
use futures::future::{self, BoxFuture};
use futures::stream::BoxStream;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, VoteRequest,
    VoteResponse,
};
use openraft::{EmptyNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use tokio::sync::oneshot;
use tonic::{Status, Streaming};

use crate::consensus::{TypeConfig, Vote};
use crate::limits;
use crate::links::Links;
use crate::log::GroupLog;
use crate::peer::{Link, Sent};
use crate::pieces;
use crate::replication::{self, Said};
use crate::snapshot_store::{SnapshotFile, SnapshotStore};
use crate::storage::Snapshot;
use crate::thrifty::Thrifty;
use crate::types::{GroupId, NodeId};
use crate::wire::proto::{SnapshotPart, frame, peer_client::PeerClient};
use crate::wire::{self, proto};

/// Makes one group's view of the links.
pub struct Network {
    pub cluster_id: String,
    pub group: GroupId,
    pub links: Links,
    pub log: GroupLog,
    pub thrifty: Thrifty,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: NodeId, _: &EmptyNode) -> PeerNetwork {
        PeerNetwork {
            cluster_id: self.cluster_id.clone(),
            group: self.group,
            target,
            links: self.links.clone(),
            log: self.log.clone(),
            thrifty: self.thrifty.clone(),
        }
    }
}

/// One group's way to one peer.
pub struct PeerNetwork {
    cluster_id: String,
    group: GroupId,
    target: NodeId,
    /// Asked each time: the link to who has just become a member may begin later than this does.
    links: Links,
    log: GroupLog,
    thrifty: Thrifty,
}

impl PeerNetwork {
    /// The peer's number.
    pub fn target(&self) -> NodeId {
        self.target
    }

    /// Whom the group's leader asks first.
    pub fn thrifty(&self) -> &Thrifty {
        &self.thrifty
    }

    fn link(&self) -> Result<Link, Unreachable<TypeConfig>> {
        self.links.get(self.target).ok_or_else(|| self.unreachable())
    }

    fn unreachable(&self) -> Unreachable<TypeConfig> {
        Unreachable::from_string(format!("no link to node {}", self.target))
    }

    async fn send(&self, body: frame::Body) -> Result<Sent, RPCError<TypeConfig>> {
        let link = self.link()?;
        link.send(self.group, body).await.map_err(|_| self.unreachable().into())
    }

    async fn reply(&self, sent: Sent, ttl: Duration) -> Result<frame::Body, RPCError<TypeConfig>> {
        match tokio::time::timeout(ttl, sent.reply()).await {
            Ok(Ok(frame::Body::Refused(reason))) => {
                Err(Unreachable::from_string(format!("node {} refused: {reason}", self.target)).into())
            }
            Ok(Ok(body)) => Ok(body),
            Ok(Err(_)) => Err(self.unreachable().into()),
            Err(_) => Err(NetworkError::from_string(format!("node {} did not answer", self.target)).into()),
        }
    }

    async fn request(&self, body: frame::Body, ttl: Duration) -> Result<frame::Body, RPCError<TypeConfig>> {
        self.reply(self.send(body).await?, ttl).await
    }

    /// Puts an append on its way, behind those sent before.
    pub async fn send_append(
        &self,
        append: &AppendEntriesRequest<TypeConfig>,
    ) -> Result<Sent, RPCError<TypeConfig>> {
        if !pieces::is_long(append) {
            return self.send(frame::Body::Append(wire::append_request(append))).await;
        }
        let link = self.link()?;
        let (request, pieces) = pieces::cut(append);
        let sent = link.send_in_pieces(self.group, pieces, frame::Body::Append(request)).await;
        sent.map_err(|_| self.unreachable().into())
    }

    /// Fails if a stream of appends has come to entries that are purged, which is what one without entries means there
    /// (`LogStore::limited_get_log_entries`): openraft would send it again and again, and never notice that only a snapshot
    /// helps.
    pub fn check_goes_on(
        &self,
        append: &AppendEntriesRequest<TypeConfig>,
    ) -> Result<(), RPCError<TypeConfig>> {
        if append.entries.is_empty() && self.log.purged() > append.prev_log_id.map(|id| id.index) {
            let reason = format!("what node {} lacks is purged", self.target);
            return Err(NetworkError::from_string(reason).into());
        }
        Ok(())
    }

    /// What the peer says to it, within `ttl` from now.
    pub async fn append_reply(
        &self,
        sent: Sent,
        ttl: Duration,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.reply(sent, ttl).await? {
            frame::Body::AppendReply(reply) => {
                wire::from_append_reply(reply).map_err(|_| unexpected(self.target).into())
            }
            _ => Err(unexpected(self.target).into()),
        }
    }

    /// Offers the peer the snapshot that `head` describes: `None` if it is to be sent, else what stands instead of the
    /// answer to it.
    async fn offer(&self, head: proto::SnapshotHead) -> Result<Option<Vote>, RPCError<TypeConfig>> {
        match self.request(frame::Body::Offer(head), limits::OFFER_TIMEOUT).await? {
            frame::Body::OfferReply(proto::OfferReply { wanted: true, .. }) => Ok(None),
            frame::Body::OfferReply(reply) => Ok(Some(wire::from_vote(&reply.vote.unwrap_or_default()))),
            _ => Err(unexpected(self.target).into()),
        }
    }

    async fn ask_for_vote(
        &self,
        body: frame::Body,
        ttl: Duration,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.request(body, ttl).await? {
            frame::Body::VoteReply(reply) => Ok(wire::from_vote_reply(reply)),
            _ => Err(unexpected(self.target).into()),
        }
    }
}

fn unexpected(node: NodeId) -> NetworkError<TypeConfig> {
    NetworkError::from_string(format!("node {node} sent a reply of another kind"))
}

impl RaftNetworkV2<TypeConfig> for PeerNetwork {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.append_reply(self.send_append(&rpc).await?, option.hard_ttl()).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Said>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let said: BoxStream<'s, Said> = Box::pin(replication::pipeline(self, input, option.hard_ttl()));
        Box::pin(future::ready(Ok(said)))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_for_vote(frame::Body::Vote(wire::vote_request(&rpc)), option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_for_vote(frame::Body::PreVote(wire::vote_request(&rpc)), option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let channel = self.link()?.channel().ok_or_else(|| self.unreachable())?;
        let head = proto::SnapshotHead {
            cluster_id: self.cluster_id.clone(),
            group: self.group,
            vote: Some(wire::vote(&vote)),
            meta: Some(wire::snapshot_meta(&snapshot.meta)),
        };
        tokio::pin!(cancel);
        let offered = tokio::select! {
            biased;
            closed = &mut cancel => return Err(closed.into()),
            offered = self.offer(head.clone()) => offered?,
        };
        if let Some(vote) = offered {
            return Ok(SnapshotResponse::new(vote));
        }
        // Given up, it is ended in order and its answer read: a stream that is reset is remembered, on both sides, for a
        // second of real time (docs/internals/testing.md).
        let (wants, wanted) = oneshot::channel::<()>();
        let mut sending = tokio::spawn(async move {
            let parts = parts(head, snapshot.snapshot, move || wants.is_closed());
            PeerClient::new(channel).install_snapshot(parts).await
        });
        let reply = tokio::select! {
            biased;
            closed = &mut cancel => return Err(closed.into()),
            reply = &mut sending => reply,
        };
        drop(wanted);
        let lost = |error: &dyn std::fmt::Display| NetworkError::<TypeConfig>::from_string(error);
        let reply = reply.map_err(|error| lost(&error))?.map_err(|status| lost(&status.message()))?;
        Ok(SnapshotResponse::new(wire::from_vote(&reply.into_inner().vote.unwrap_or_default())))
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<openraft::raft::TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = frame::Body::Transfer(proto::TransferLeader {
            from: Some(wire::vote(req.from_leader())),
            to: *req.to_node_id(),
            last: req.last_log_id().map(wire::log_id),
        });
        match self.request(body, option.hard_ttl()).await? {
            frame::Body::TransferReply(_) => Ok(Ok(())),
            _ => Err(unexpected(self.target).into()),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        // A link that is down answers at once; asking again costs next to nothing.
        Some(Backoff::new(std::iter::repeat(Duration::from_millis(20))))
    }
}

/// The messages of one snapshot's transfer: its head, then its file piece by piece, as long as it is not `given_up` and can
/// be read.
pub fn parts(
    head: proto::SnapshotHead,
    file: SnapshotFile,
    given_up: impl Fn() -> bool + Send + 'static,
) -> impl futures::Stream<Item = SnapshotPart> + Send + 'static {
    let first = SnapshotPart { head: Some(head), ..SnapshotPart::default() };
    let rest = futures::stream::unfold((Some(file), 0u64, given_up), |(file, offset, given_up)| async move {
        let file = file?;
        let read = match given_up() {
            true => Ok(None),
            false => file.read_raw(offset, limits::SNAPSHOT_PART_BYTES).await.map(Some),
        };
        let bytes = read.unwrap_or_else(|error| {
            tracing::error!(%error, "cannot read the snapshot to send");
            None
        });
        let Some(bytes) = bytes else {
            let last = SnapshotPart { given_up: true, ..SnapshotPart::default() };
            return Some((last, (None, offset, given_up)));
        };
        let next = offset + bytes.len() as u64;
        let part = SnapshotPart { bytes, ..SnapshotPart::default() };
        (next > offset).then_some((part, (Some(file), next, given_up)))
    });
    futures::StreamExt::chain(futures::stream::once(async { first }), rest)
}

/// Takes the parts that follow a snapshot's head into `store`'s directory: the file, whole.
pub async fn receive(
    parts: &mut Streaming<SnapshotPart>,
    store: &SnapshotStore,
) -> Result<SnapshotFile, Status> {
    let internal = |error: std::io::Error| Status::internal(error.to_string());
    let mut receiver = store.receive().await.map_err(internal)?;
    while let Some(part) = parts.message().await? {
        if part.given_up {
            return Err(Status::cancelled("the rest of the snapshot does not come"));
        }
        receiver.push(part.bytes).await.map_err(internal)?;
    }
    receiver.finish().await.map_err(internal)
}

/// Reads what still comes of a snapshot that is not wanted, up to a limit: a stream that has come to its end is not reset.
pub async fn read_off(parts: &mut Streaming<SnapshotPart>) {
    let mut read = 0;
    while read < limits::UNWANTED_SNAPSHOT_BYTES {
        match parts.message().await {
            Ok(Some(part)) => read += part.bytes.len(),
            // Its end, or that of the link.
            Ok(None) | Err(_) => return,
        }
    }
}
