//! Long appends, cut into pieces for the way to a peer and put together there.
//!
//! A link is one stream for all groups. An entry of 64 MB that went as one message would keep from it, for as long as its
//! bytes take to be copied and sent, the heartbeats of its group and everything of the others. In pieces, it lets them pass.
//!
//! Invariant: an append is begun with all of its entries or not at all.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use crate::limits;
use crate::types::GroupId;
use crate::wire::proto::{AppendRequest, Frame, Piece, frame};

/// Takes the entries out of `request`, which says how long they are: its pieces.
pub fn cut(request: &mut AppendRequest) -> impl Iterator<Item = Piece> + Send + use<> {
    let entries = std::mem::take(&mut request.entries);
    request.in_pieces = entries.iter().map(|entry| entry.len() as u64).collect();
    let of = request.in_pieces.iter().sum();
    entries.into_iter().flat_map(move |mut entry| {
        std::iter::from_fn(move || {
            let bytes = entry.split_to(entry.len().min(limits::PIECE_BYTES));
            (!bytes.is_empty()).then_some(Piece { bytes, of })
        })
    })
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
fn apart(mut bytes: Bytes, lengths: &[u64]) -> Option<Vec<Bytes>> {
    if lengths.iter().try_fold(0u64, |sum, length| sum.checked_add(*length)) != Some(bytes.len() as u64) {
        return None;
    }
    Some(lengths.iter().map(|length| bytes.split_to(*length as usize)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(entries: &[usize]) -> AppendRequest {
        let entry = |(i, len): (usize, &usize)| Bytes::from(vec![i as u8; *len]);
        AppendRequest { entries: entries.iter().enumerate().map(entry).collect(), ..AppendRequest::default() }
    }

    /// The frames in which an append of `group` goes.
    fn frames(group: GroupId, request: u64, mut append: AppendRequest) -> Vec<Frame> {
        let pieces: Vec<Piece> = cut(&mut append).collect();
        let bodies = pieces.into_iter().map(frame::Body::Piece).chain([frame::Body::Append(append)]);
        bodies.map(|body| Frame { group, request, body: Some(body) }).collect()
    }

    #[test]
    fn appends_of_several_groups_are_put_together() {
        let long = append(&[3, limits::PIECE_BYTES * 2 + 1, 0, 5]);
        let other = append(&[limits::PIECE_BYTES + 7]);
        let (mut first, mut second) = (frames(1, 7, long.clone()), frames(2, 8, other.clone()));
        assert!(first.len() > 4 && second.len() == 3);
        let mut pieces = Pieces::default();
        let mut whole = Vec::new();
        while !first.is_empty() || !second.is_empty() {
            for frames in [&mut first, &mut second] {
                whole.extend(
                    (!frames.is_empty()).then(|| frames.remove(0)).and_then(|frame| pieces.take(frame)),
                );
            }
        }
        let entries = |frame: &Frame| match &frame.body {
            Some(frame::Body::Append(append)) => append.entries.clone(),
            _ => unreachable!("only appends are whole"),
        };
        assert_eq!(whole.iter().map(entries).collect::<Vec<_>>(), [other.entries, long.entries]);
        assert!(pieces.begun.is_empty());
    }

    #[test]
    fn one_that_lacks_a_piece_is_not_begun() {
        let long = append(&[limits::PIECE_BYTES * 3]);
        let mut pieces = Pieces::default();
        let given_up = frames(1, 7, long.clone());
        assert!(given_up.into_iter().take(2).all(|frame| pieces.take(frame).is_none()));
        // The next one begins anew.
        let whole: Vec<Frame> =
            frames(1, 8, long.clone()).into_iter().filter_map(|f| pieces.take(f)).collect();
        assert_eq!(whole.len(), 1);
        let lacking = frames(1, 9, long).into_iter().skip(1);
        assert_eq!(lacking.filter_map(|frame| pieces.take(frame)).count(), 0);
    }
}
