//! Long appends, cut into pieces for the way to a peer and put together there.
//!
//! A link is one stream for all groups. An entry of 64 MB that went as one message would keep from it, for as long as its
//! bytes take to be copied and sent, the heartbeats of its group and everything of the others. In pieces, it lets them pass.
//!
//! Invariant: an append is begun with all of its entries or not at all.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use openraft::EntryPayload;
use openraft::raft::AppendEntriesRequest;
use prost::Message;

use crate::consensus::{Entry, TypeConfig};
use crate::limits;
use crate::log::Payload;
use crate::types::GroupId;
use crate::wire;
use crate::wire::proto::{AppendRequest, Frame, LogEntry, Piece, frame};

/// Whether an append is to go in pieces.
pub fn is_long(append: &AppendEntriesRequest<TypeConfig>) -> bool {
    len(append) > limits::PIECE_BYTES
}

/// How many bytes its entries have.
pub fn len(append: &AppendEntriesRequest<TypeConfig>) -> usize {
    let bytes = |entry: &Entry| match &entry.payload {
        EntryPayload::Normal(data) => data.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    append.entries.iter().map(bytes).sum()
}

/// The request without its entries, which says how long they are, and their pieces.
pub fn cut(
    append: &AppendEntriesRequest<TypeConfig>,
) -> (AppendRequest, impl Iterator<Item = Piece> + Send + use<>) {
    let payloads: Vec<Payload> = append.entries.iter().map(wire::entry).collect();
    let in_pieces: Vec<u64> = payloads.iter().map(|payload| payload.size() as u64).collect();
    let of = in_pieces.iter().sum();
    let bytes = payloads.into_iter().flat_map(|Payload { head, body }| [head, body]);
    let pieces = bytes.flat_map(move |mut bytes| {
        std::iter::from_fn(move || {
            let bytes = bytes.split_to(bytes.len().min(limits::PIECE_BYTES));
            (!bytes.is_empty()).then_some(Piece { bytes, of })
        })
    });
    (AppendRequest { in_pieces, ..wire::append_head(append) }, pieces)
}

/// What has come of appends in pieces: one for each group, for the next one begins when all of it is on its way.
#[derive(Default)]
pub struct Pieces {
    begun: BTreeMap<GroupId, (u64, BytesMut)>,
}

impl Pieces {
    /// The frame that has come, whole: with its entries, if it is an append whose pieces came before. `None` for a piece, and
    /// for an append that lacks some.
    pub fn take(&mut self, mut frame: Frame) -> Option<Frame> {
        let Frame { group, request, body } = &mut frame;
        match body {
            Some(frame::Body::Piece(piece)) => {
                self.add(*group, *request, piece);
                return None;
            }
            Some(frame::Body::Append(append)) if !append.in_pieces.is_empty() => {
                let (of, bytes) = self.begun.remove(group)?;
                append.entries = apart(bytes.freeze(), &append.in_pieces).filter(|_| of == *request)?;
            }
            _ => {}
        }
        Some(frame)
    }

    fn add(&mut self, group: GroupId, request: u64, piece: &Piece) {
        let room = (piece.of as usize).min(limits::PACKET_BYTES);
        let begin = || (request, BytesMut::with_capacity(room));
        let (of, bytes) = self.begun.entry(group).or_insert_with(begin);
        if *of != request {
            // The one before was given up.
            (*of, *bytes) = begin();
        }
        // Nobody honest sends more than was announced.
        if bytes.len() + piece.bytes.len() <= room {
            bytes.extend_from_slice(&piece.bytes);
        }
    }
}

/// The entries that make up `bytes`, if they have these lengths.
fn apart(mut bytes: Bytes, lengths: &[u64]) -> Option<Vec<LogEntry>> {
    if lengths.iter().try_fold(0u64, |sum, length| sum.checked_add(*length)) != Some(bytes.len() as u64) {
        return None;
    }
    lengths.iter().map(|length| LogEntry::decode(bytes.split_to(*length as usize)).ok()).collect()
}

#[cfg(test)]
mod tests {
    use openraft::entry::RaftEntry;

    use super::*;
    use crate::consensus::{Data, LogId, Vote};

    fn append(entries: &[usize]) -> AppendEntriesRequest<TypeConfig> {
        let entry = |(i, len): (usize, &usize)| {
            let data = Data(vec![i as u8; *len].into());
            Entry::new(LogId::new_term_index(1, i as u64 + 1), EntryPayload::Normal(data))
        };
        AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: None,
            leader_commit: None,
            entries: entries.iter().enumerate().map(entry).collect(),
        }
    }

    /// The frames in which an append of `group` goes.
    fn frames(group: GroupId, request: u64, append: &AppendEntriesRequest<TypeConfig>) -> Vec<Frame> {
        assert!(is_long(append));
        let (head, pieces) = cut(append);
        let bodies = pieces.map(frame::Body::Piece).chain([frame::Body::Append(head)]);
        bodies.map(|body| Frame { group, request, body: Some(body) }).collect()
    }

    #[test]
    fn appends_of_several_groups_are_put_together() {
        let long = append(&[3, limits::PIECE_BYTES * 2 + 1, 0, 5]);
        let other = append(&[limits::PIECE_BYTES + 7]);
        let (mut first, mut second) = (frames(1, 7, &long), frames(2, 8, &other));
        assert!(first.len() > 4 && second.len() >= 3);
        let mut pieces = Pieces::default();
        let mut whole = Vec::new();
        while !first.is_empty() || !second.is_empty() {
            for frames in [&mut first, &mut second] {
                whole.extend(
                    (!frames.is_empty()).then(|| frames.remove(0)).and_then(|frame| pieces.take(frame)),
                );
            }
        }
        let entries = |frame: Frame| match frame.body {
            Some(frame::Body::Append(append)) => {
                wire::from_append_request(append).expect("an append").entries
            }
            _ => unreachable!("only appends are whole"),
        };
        assert_eq!(whole.into_iter().map(entries).collect::<Vec<_>>(), [other.entries, long.entries]);
        assert!(pieces.begun.is_empty());
    }

    #[test]
    fn one_that_lacks_a_piece_is_not_begun() {
        let long = append(&[limits::PIECE_BYTES * 3]);
        let mut pieces = Pieces::default();
        let given_up = frames(1, 7, &long);
        assert!(given_up.into_iter().take(2).all(|frame| pieces.take(frame).is_none()));
        // The next one begins anew.
        let whole: Vec<Frame> =
            frames(1, 8, &long).into_iter().filter_map(|frame| pieces.take(frame)).collect();
        assert_eq!(whole.len(), 1);
        let lacking = frames(1, 9, &long).into_iter().skip(1);
        assert_eq!(lacking.filter_map(|frame| pieces.take(frame)).count(), 0);
    }
}
