//! openraft's requests to peers, over the links.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
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

use crate::consensus::{TypeConfig, Vote};
use crate::limits;
use crate::log::GroupLog;
use crate::peer::{Link, Sent};
use crate::replication::{self, Said};
use crate::snapshot_store::SnapshotFile;
use crate::storage::Snapshot;
use crate::types::{GroupId, NodeId};
use crate::wire::proto::{frame, peer_client::PeerClient};
use crate::wire::{self, proto};

/// The links to all peers.
pub type Links = Arc<BTreeMap<NodeId, Link>>;

/// Makes one group's view of the links.
pub struct Network {
    pub cluster_id: String,
    pub group: GroupId,
    pub links: Links,
    pub log: GroupLog,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: NodeId, _: &EmptyNode) -> PeerNetwork {
        PeerNetwork {
            cluster_id: self.cluster_id.clone(),
            group: self.group,
            target,
            link: self.links.get(&target).cloned(),
            log: self.log.clone(),
        }
    }
}

/// One group's way to one peer.
pub struct PeerNetwork {
    cluster_id: String,
    group: GroupId,
    target: NodeId,
    link: Option<Link>,
    log: GroupLog,
}

impl PeerNetwork {
    fn unreachable(&self) -> Unreachable<TypeConfig> {
        Unreachable::from_string(format!("no link to node {}", self.target))
    }

    async fn send(&self, body: frame::Body) -> Result<Sent, RPCError<TypeConfig>> {
        let link = self.link.as_ref().ok_or_else(|| self.unreachable())?;
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
        self.send(frame::Body::Append(wire::append_request(append))).await
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
        let channel = self.link.as_ref().and_then(Link::channel).ok_or_else(|| self.unreachable())?;
        let head = proto::SnapshotHead {
            cluster_id: self.cluster_id.clone(),
            group: self.group,
            vote: Some(wire::vote(&vote)),
            meta: Some(wire::snapshot_meta(&snapshot.meta)),
        };
        let mut client = PeerClient::new(channel);
        let sending = client.install_snapshot(parts(head, snapshot.snapshot));
        tokio::pin!(cancel);
        let reply = tokio::select! {
            biased;
            closed = &mut cancel => return Err(closed.into()),
            reply = sending => reply,
        };
        let reply = reply.map_err(|status| NetworkError::<TypeConfig>::from_string(status.message()))?;
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

/// The messages of one snapshot's transfer: its head, then its file piece by piece. A file that cannot be read ends
/// the stream early, which the receiver notices by the file's own checksums.
pub fn parts(
    head: proto::SnapshotHead,
    file: SnapshotFile,
) -> impl futures::Stream<Item = proto::SnapshotPart> + Send + 'static {
    let first = proto::SnapshotPart { head: Some(head), bytes: Default::default() };
    let rest = futures::stream::unfold((file, 0u64), |(file, offset)| async move {
        match file.read_raw(offset, limits::SNAPSHOT_PART_BYTES).await {
            Ok(bytes) if bytes.is_empty() => None,
            Ok(bytes) => {
                let next = offset + bytes.len() as u64;
                Some((proto::SnapshotPart { head: None, bytes }, (file, next)))
            }
            Err(error) => {
                tracing::error!(%error, "cannot read the snapshot to send");
                None
            }
        }
    });
    futures::StreamExt::chain(futures::stream::once(async { first }), rest)
}
