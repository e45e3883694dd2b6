//! Strings: immutable and compact until a command changes one in place.

use std::sync::Arc;

use bytes::Bytes;

/// The longest string, in bytes (Redis's default `proto-max-bulk-len`).
pub const MAX_STRING_BYTES: usize = 512 * 1024 * 1024;

/// A string value. SET stores it at its exact size; APPEND, SETRANGE and SETBIT turn it into a growable one, so
/// that building a string piece by piece costs no copy for each piece.
#[derive(Clone, Debug)]
pub struct StringValue(Repr);

#[derive(Clone, Debug)]
enum Repr {
    Exact(Arc<[u8]>),
    Growable(Arc<Vec<u8>>),
}

/// From this size on, a reply shares the value instead of copying it.
const SHARE_BYTES: usize = 4096;

impl StringValue {
    /// A string of `bytes`, copied: a value never pins the entry it came in.
    pub fn new(bytes: &[u8]) -> StringValue {
        StringValue(Repr::Exact(Arc::from(bytes)))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Exact(bytes) => bytes,
            Repr::Growable(bytes) => bytes,
        }
    }

    /// The bytes as a reply's.
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Repr::Exact(bytes) if bytes.len() >= SHARE_BYTES => Bytes::from_owner(Arc::clone(bytes)),
            _ => Bytes::copy_from_slice(self.as_bytes()),
        }
    }

    /// The bytes, to change in place. The caller keeps them within [`MAX_STRING_BYTES`].
    pub fn make_mut(&mut self) -> &mut Vec<u8> {
        if let Repr::Exact(bytes) = &self.0 {
            self.0 = Repr::Growable(Arc::new(bytes.to_vec()));
        }
        match &mut self.0 {
            Repr::Growable(bytes) => Arc::make_mut(bytes),
            Repr::Exact(_) => unreachable!("made growable above"),
        }
    }
}
