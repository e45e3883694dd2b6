//! A write that is too long for one entry, put together from the parts that several entries bring.
//!
//! Other writes' entries come between them, and so nobody waits for all of it: neither for the disk, nor for the network, nor for
//! the copying, of which each part has its own share. The batches run when the last part has come, by that one's entry.
//!
//! There is one such write at a time. Its leader proposes the parts in order; one that is not the next is taken for nothing, for
//! then another write has begun, or another leader, and whoever proposed it is told so.

use bytes::Bytes;

use crate::entry::Part;

/// Room is made at once for so many times the first part at most: with parts of 128 KB for the longest word that a client may send,
/// and never for more than what somebody has taken the trouble to send deserves.
const ROOM: u64 = 4096;

/// What has come of it.
#[derive(Default)]
pub(crate) struct Parts {
    id: u64,
    total: u64,
    bytes: Vec<u8>,
}

/// What a part brings.
#[derive(Debug, PartialEq)]
pub(crate) enum Taken {
    /// There are more to come.
    Begun,
    /// The bytes of all parts: it was the last.
    Whole(Bytes),
    /// Nothing: it is not the next.
    NotNext,
}

impl Parts {
    /// Takes the next part.
    pub fn take(&mut self, part: &Part) -> Taken {
        if part.position == 0 {
            let bytes = Vec::with_capacity(part.total.min(ROOM * part.bytes.len() as u64) as usize);
            *self = Parts { id: part.id, total: part.total, bytes };
        }
        let come = (self.id, self.total, self.bytes.len() as u64);
        let left = part.total.saturating_sub(part.position);
        if come != (part.id, part.total, part.position) || part.bytes.len() as u64 > left {
            return Taken::NotNext;
        }
        self.bytes.extend_from_slice(&part.bytes);
        if (self.bytes.len() as u64) < self.total {
            return Taken::Begun;
        }
        Taken::Whole(std::mem::take(self).bytes.into())
    }

    /// Forgets what has come: no more will.
    pub fn forget(&mut self) {
        *self = Parts::default();
    }

    /// What has come, as one part; `None` if nothing has. This copies it.
    pub fn state(&self) -> Option<Part> {
        let Parts { id, total, bytes } = self;
        let part =
            || Part { id: *id, total: *total, bytes: Bytes::copy_from_slice(bytes), ..Part::default() };
        (!bytes.is_empty()).then(part)
    }

    /// Those of [`Parts::state`]; `None` if they are none that are begun.
    pub fn restored(state: Option<&Part>) -> Option<Parts> {
        let mut parts = Parts::default();
        match state.map(|begun| parts.take(begun)) {
            None | Some(Taken::Begun) => Some(parts),
            Some(Taken::Whole(_) | Taken::NotNext) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(id: u64, position: u64, bytes: &'static str) -> Part {
        Part { id, position, total: 6, batches: 1, bytes: bytes.into() }
    }

    #[test]
    fn parts_in_order_are_the_whole() {
        let mut parts = Parts::default();
        assert_eq!(parts.take(&part(1, 0, "ab")), Taken::Begun);
        assert_eq!(parts.take(&part(1, 2, "cd")), Taken::Begun);
        assert_eq!(parts.take(&part(1, 4, "ef")), Taken::Whole("abcdef".into()));
        assert_eq!(parts.take(&part(1, 4, "ef")), Taken::NotNext, "nothing is left of it");
    }

    #[test]
    fn only_the_next_one_is_taken() {
        let mut parts = Parts::default();
        assert_eq!(parts.take(&part(1, 2, "cd")), Taken::NotNext);
        assert_eq!(parts.take(&part(1, 0, "ab")), Taken::Begun);
        assert_eq!(parts.take(&part(1, 4, "ef")), Taken::NotNext);
        assert_eq!(parts.take(&part(2, 2, "cd")), Taken::NotNext);
        assert_eq!(parts.take(&part(1, 2, "cdefg")), Taken::NotNext, "more than there is");
        assert_eq!(parts.take(&part(1, 2, "cd")), Taken::Begun);
        assert_eq!(parts.take(&part(2, 0, "AB")), Taken::Begun, "another write begins");
        assert_eq!(parts.take(&part(1, 4, "ef")), Taken::NotNext);
    }

    #[test]
    fn a_snapshot_has_what_has_come() {
        let mut parts = Parts::default();
        assert_eq!(parts.state(), None);
        parts.take(&part(1, 0, "ab"));
        parts.take(&part(1, 2, "cd"));
        let mut restored = Parts::restored(parts.state().as_ref()).expect("parts");
        assert_eq!(restored.take(&part(1, 4, "ef")), Taken::Whole("abcdef".into()));
        assert!(Parts::restored(Some(&part(1, 2, "cd"))).is_none());
    }
}
