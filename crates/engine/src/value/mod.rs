//! What a key can hold.

pub mod hash;
pub mod long_double;
pub mod number;
pub mod string;

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::snapshot::{put_bytes, take_bytes};

pub use hash::HashValue;
pub use long_double::LongDouble;
pub use string::StringValue;

/// A key's value. Cloning is cheap: the contents are shared until one side changes them.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string.
    String(StringValue),
    /// A hash.
    Hash(Arc<HashValue>),
}

/// Each type's number in snapshots. Never reused, never changed.
mod tag {
    pub const STRING: u8 = 1;
    pub const HASH: u8 = 2;
}

impl Value {
    /// A string of a copy of `bytes`.
    pub fn string(bytes: &[u8]) -> Value {
        Value::String(StringValue::new(bytes))
    }

    /// The name that TYPE answers.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::String(_) => "string",
            Value::Hash(_) => "hash",
        }
    }

    /// Appends the value to a snapshot's chunk.
    pub(crate) fn put(&self, out: &mut BytesMut) {
        match self {
            Value::String(string) => {
                out.put_u8(tag::STRING);
                put_bytes(out, string.as_bytes());
            }
            Value::Hash(hash) => {
                out.put_u8(tag::HASH);
                hash.put(out);
            }
        }
    }

    /// Takes what [`Value::put`] wrote; `None` if it is cut short or of an unknown type.
    pub(crate) fn take(from: &mut Bytes) -> Option<Value> {
        match from.try_get_u8().ok()? {
            tag::STRING => Some(Value::string(&take_bytes(from)?)),
            tag::HASH => Some(Value::Hash(Arc::new(HashValue::take(from)?))),
            _ => None,
        }
    }
}
