//! Hashes.

use bytes::{Bytes, BytesMut};

/// A hash value.
#[derive(Clone, Debug, Default)]
pub struct HashValue {}

impl HashValue {
    pub(crate) fn put(&self, _out: &mut BytesMut) {}

    pub(crate) fn take(_from: &mut Bytes) -> Option<HashValue> {
        Some(HashValue {})
    }
}
