//! Raft's types as bytes, and back: the only place that knows both openraft's and `proto/raft.proto`'s.

use bytes::Bytes;
use openraft::entry::RaftEntry;
use openraft::vote::RaftVote;
use openraft::{EntryPayload, StoredMembership};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use crate::consensus::{Data, Entry, LogId, Membership, SnapshotMeta, TypeConfig, Vote};
use crate::log::Payload;

#[allow(missing_docs, clippy::all)]
pub mod proto {
    tonic::include_proto!("quoris.raft");
}

/// The field `normal` of `LogEntry` in proto/raft.proto.
const NORMAL_FIELD: u32 = 2;
const MOST_KEY_BYTES: usize = 1;
const MOST_VARINT_BYTES: usize = 10;
const SHARED_FROM_BYTES: usize = 4096;

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

/// An entry as it travels to peers.
fn message(entry: &Entry) -> proto::LogEntry {
    let payload = match &entry.payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(data) => Some(proto::log_entry::Payload::Normal(data.0.clone())),
        EntryPayload::Membership(it) => Some(proto::log_entry::Payload::Membership(membership(it))),
    };
    proto::LogEntry { id: Some(log_id(&entry.log_id)), payload }
}

/// An entry as it stands on disk: the same bytes. Those of many calls are shared and not copied; a few are, for they may be a
/// small part of a packet, which they would keep.
pub fn entry(entry: &Entry) -> Payload {
    let data = match &entry.payload {
        EntryPayload::Normal(data) if data.0.len() >= SHARED_FROM_BYTES => data,
        _ => return Bytes::from(message(entry).encode_to_vec()).into(),
    };
    let id = proto::LogEntry { id: Some(log_id(&entry.log_id)), payload: None };
    let mut head = Vec::with_capacity(id.encoded_len() + MOST_KEY_BYTES + MOST_VARINT_BYTES);
    id.encode_raw(&mut head);
    encode_key(NORMAL_FIELD, WireType::LengthDelimited, &mut head);
    encode_varint(data.0.len() as u64, &mut head);
    Payload { head: head.into(), body: data.0.clone() }
}

/// The entry that [`entry`] has made.
pub fn from_entry(payload: Payload) -> Result<Entry, WireError> {
    from_message(proto::LogEntry::decode(payload.into_buf()).map_err(|_| WireError("not a log entry"))?)
}

fn from_message(entry: proto::LogEntry) -> Result<Entry, WireError> {
    let id = from_log_id(entry.id.as_ref().ok_or(WireError("a log entry without its place"))?);
    let payload = match entry.payload {
        None => EntryPayload::Blank,
        Some(proto::log_entry::Payload::Normal(bytes)) => EntryPayload::Normal(Data(bytes)),
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
    proto::AppendRequest { entries: request.entries.iter().map(message).collect(), ..append_head(request) }
}

/// What stands in an append beside its entries.
pub fn append_head(request: &openraft::raft::AppendEntriesRequest<TypeConfig>) -> proto::AppendRequest {
    proto::AppendRequest {
        vote: Some(vote(&request.vote)),
        prev: request.prev_log_id.as_ref().map(log_id),
        commit: request.leader_commit.as_ref().map(log_id),
        ..proto::AppendRequest::default()
    }
}

pub fn from_append_request(
    request: proto::AppendRequest,
) -> Result<openraft::raft::AppendEntriesRequest<TypeConfig>, WireError> {
    Ok(openraft::raft::AppendEntriesRequest {
        vote: from_vote(&request.vote.unwrap_or_default()),
        prev_log_id: request.prev.as_ref().map(from_log_id),
        leader_commit: request.commit.as_ref().map(from_log_id),
        entries: request.entries.into_iter().map(from_message).collect::<Result<_, _>>()?,
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

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::*;

    fn normal(bytes: usize) -> Entry {
        let data = Data(vec![0xa5; bytes].into());
        <Entry as RaftEntry>::new(LogId::new_term_index(300, 70_000), EntryPayload::Normal(data))
    }

    #[test]
    fn an_entry_on_disk_has_the_bytes_of_its_message() {
        for bytes in [0, 1, SHARED_FROM_BYTES - 1, SHARED_FROM_BYTES, 200_000] {
            let (entry, message) = (entry(&normal(bytes)), message(&normal(bytes)).encode_to_vec());
            assert_eq!((entry.size(), entry.checksum()), (message.len(), crc32fast::hash(&message)));
            let mut buf = entry.clone().into_buf();
            assert_eq!(buf.copy_to_bytes(buf.remaining()), message);
            for payload in [entry, Bytes::from(message).into()] {
                assert_eq!(from_entry(payload).ok(), Some(normal(bytes)), "{bytes}");
            }
        }
    }

    #[test]
    fn many_bytes_are_shared_and_few_are_copied() {
        let shares = |bytes| {
            let entry = normal(bytes);
            let EntryPayload::Normal(data) = &entry.payload else { unreachable!("as it was made") };
            let payload = super::entry(&entry);
            let read = from_entry(payload.clone()).expect("an entry").payload;
            let EntryPayload::Normal(read) = &read else { unreachable!("as it was written") };
            (payload.body.as_ptr() == data.0.as_ptr(), read.0.as_ptr() == data.0.as_ptr())
        };
        assert_eq!(shares(SHARED_FROM_BYTES), (true, true));
        assert_eq!(shares(SHARED_FROM_BYTES - 1), (false, false));
    }
}
