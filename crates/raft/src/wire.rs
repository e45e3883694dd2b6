//! Raft's types as bytes, and back: the only place that knows both openraft's and `proto/raft.proto`'s.

use bytes::Bytes;
use openraft::entry::RaftEntry;
use openraft::vote::RaftVote;
use openraft::{EntryPayload, StoredMembership};
use prost::Message;

use crate::consensus::{Data, Entry, LogId, Membership, SnapshotMeta, TypeConfig, Vote};
use crate::limits;

#[allow(missing_docs, clippy::all)]
pub mod proto {
    tonic::include_proto!("quoris.raft");
}

/// The bytes do not hold what they should: another format, or damage that no checksum covers.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WireError(pub &'static str);

impl From<WireError> for std::io::Error {
    fn from(error: WireError) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error.0)
    }
}

pub fn log_id(id: &LogId) -> proto::LogId {
    proto::LogId { term: id.leader_id.term, index: id.index }
}

pub fn from_log_id(id: &proto::LogId) -> LogId {
    LogId::new_term_index(id.term, id.index)
}

pub fn vote(vote: &Vote) -> proto::Vote {
    proto::Vote {
        term: vote.leader_id().term,
        node_id: vote.leader_id().voted_for,
        committed: RaftVote::is_committed(vote),
    }
}

pub fn from_vote(vote: &proto::Vote) -> Vote {
    match vote.committed {
        true => Vote::new_committed(vote.term, vote.node_id),
        false => Vote::new(vote.term, vote.node_id),
    }
}

pub fn membership(membership: &Membership) -> proto::Membership {
    let voters = |ids: &std::collections::BTreeSet<u64>| proto::Voters { ids: ids.iter().copied().collect() };
    proto::Membership {
        configs: membership.get_joint_config().iter().map(voters).collect(),
        nodes: membership.nodes().map(|(id, _)| *id).collect(),
    }
}

pub fn from_membership(membership: &proto::Membership) -> Membership {
    let configs = membership.configs.iter().map(|voters| voters.ids.iter().copied().collect()).collect();
    Membership::new_with_defaults(configs, membership.nodes.iter().copied())
}

/// An entry as it stands on disk and travels to peers.
pub fn entry(entry: &Entry) -> Bytes {
    if let EntryPayload::Normal(Data { logged: Some(logged), .. }) = &entry.payload {
        return logged.clone();
    }
    let payload = match &entry.payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(data) => Some(proto::log_entry::Payload::Normal(data.bytes.clone())),
        EntryPayload::Membership(it) => Some(proto::log_entry::Payload::Membership(membership(it))),
    };
    proto::LogEntry { id: Some(log_id(&entry.log_id)), payload }.encode_to_vec().into()
}

pub fn from_entry(bytes: Bytes) -> Result<Entry, WireError> {
    let logged = Some(&bytes).filter(|bytes| bytes.len() > limits::PIECE_BYTES).cloned();
    let entry = proto::LogEntry::decode(bytes).map_err(|_| WireError("not a log entry"))?;
    let id = from_log_id(entry.id.as_ref().ok_or(WireError("a log entry without its place"))?);
    let payload = match entry.payload {
        None => EntryPayload::Blank,
        Some(proto::log_entry::Payload::Normal(bytes)) => EntryPayload::Normal(Data { bytes, logged }),
        Some(proto::log_entry::Payload::Membership(it)) => EntryPayload::Membership(from_membership(&it)),
    };
    Ok(<Entry as RaftEntry>::new(id, payload))
}

pub fn snapshot_meta(meta: &SnapshotMeta) -> proto::SnapshotMeta {
    proto::SnapshotMeta {
        last: meta.last_log_id.as_ref().map(log_id),
        membership_at: meta.last_membership.log_id().as_ref().map(log_id),
        membership: Some(membership(meta.last_membership.membership())),
    }
}

pub fn from_snapshot_meta(meta: &proto::SnapshotMeta) -> SnapshotMeta {
    let stored = from_membership(&meta.membership.clone().unwrap_or_default());
    SnapshotMeta {
        last_log_id: meta.last.as_ref().map(from_log_id),
        last_membership: StoredMembership::new(meta.membership_at.as_ref().map(from_log_id), stored),
    }
}

pub fn append_request(request: &openraft::raft::AppendEntriesRequest<TypeConfig>) -> proto::AppendRequest {
    proto::AppendRequest {
        vote: Some(vote(&request.vote)),
        prev: request.prev_log_id.as_ref().map(log_id),
        commit: request.leader_commit.as_ref().map(log_id),
        entries: request.entries.iter().map(entry).collect(),
        in_pieces: Vec::new(),
    }
}

pub fn from_append_request(
    request: proto::AppendRequest,
) -> Result<openraft::raft::AppendEntriesRequest<TypeConfig>, WireError> {
    Ok(openraft::raft::AppendEntriesRequest {
        vote: from_vote(&request.vote.unwrap_or_default()),
        prev_log_id: request.prev.as_ref().map(from_log_id),
        leader_commit: request.commit.as_ref().map(from_log_id),
        entries: request.entries.into_iter().map(from_entry).collect::<Result<_, _>>()?,
    })
}

pub fn append_reply(reply: &openraft::raft::AppendEntriesResponse<TypeConfig>) -> proto::AppendReply {
    use openraft::raft::AppendEntriesResponse as Reply;
    use proto::append_reply::Result as Body;
    let result = match reply {
        Reply::Success => Body::Success(true),
        Reply::PartialSuccess(upto) => {
            Body::Partial(proto::PartialSuccess { upto: upto.as_ref().map(log_id) })
        }
        Reply::Conflict => Body::Conflict(true),
        Reply::HigherVote(it) => Body::HigherVote(vote(it)),
    };
    proto::AppendReply { result: Some(result) }
}

pub fn from_append_reply(
    reply: proto::AppendReply,
) -> Result<openraft::raft::AppendEntriesResponse<TypeConfig>, WireError> {
    use openraft::raft::AppendEntriesResponse as Reply;
    use proto::append_reply::Result as Body;
    Ok(match reply.result.ok_or(WireError("an append reply without a result"))? {
        Body::Success(_) => Reply::Success,
        Body::Partial(partial) => Reply::PartialSuccess(partial.upto.as_ref().map(from_log_id)),
        Body::Conflict(_) => Reply::Conflict,
        Body::HigherVote(it) => Reply::HigherVote(from_vote(&it)),
    })
}

pub fn vote_request(request: &openraft::raft::VoteRequest<TypeConfig>) -> proto::VoteRequest {
    proto::VoteRequest {
        vote: Some(vote(&request.vote)),
        last: request.last_log_id.as_ref().map(log_id),
        leadership_transfer: request.leadership_transfer,
    }
}

pub fn from_vote_request(request: proto::VoteRequest) -> openraft::raft::VoteRequest<TypeConfig> {
    let mut out = openraft::raft::VoteRequest::new(
        from_vote(&request.vote.unwrap_or_default()),
        request.last.as_ref().map(from_log_id),
    );
    out.leadership_transfer = request.leadership_transfer;
    out
}

pub fn vote_reply(reply: &openraft::raft::VoteResponse<TypeConfig>) -> proto::VoteReply {
    proto::VoteReply {
        vote: Some(vote(&reply.vote)),
        last: reply.last_log_id.as_ref().map(log_id),
        granted: reply.vote_granted,
    }
}

pub fn from_vote_reply(reply: proto::VoteReply) -> openraft::raft::VoteResponse<TypeConfig> {
    openraft::raft::VoteResponse::new(
        from_vote(&reply.vote.unwrap_or_default()),
        reply.last.as_ref().map(from_log_id),
        reply.granted,
    )
}
