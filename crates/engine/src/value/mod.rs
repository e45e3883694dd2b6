//! What a key can hold.

pub mod bits;
pub mod bounds;
pub mod by_name;
pub mod hash;
pub mod hyperloglog;
pub mod list;
pub mod long_double;
pub mod number;
pub mod set;
pub mod stream;
pub mod string;
pub mod tree;
pub mod zset;

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::slot::NEVER;
use crate::snapshot::{put_bytes, take_bytes};

pub use bounds::Bounds;
pub use by_name::ByName;
pub use hash::HashValue;
pub use list::ListValue;
pub use long_double::LongDouble;
pub use set::SetValue;
pub use stream::StreamValue;
pub use string::StringValue;
pub use tree::Tree;
pub use zset::ZsetValue;

/// A key's value. Cloning is cheap: the contents are shared until one side changes them.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string.
    String(StringValue),
    /// A hash.
    Hash(Arc<HashValue>),
    /// A list.
    List(ListValue),
    /// A set.
    Set(Arc<SetValue>),
    /// A sorted set.
    Zset(Arc<ZsetValue>),
    /// A stream.
    Stream(Arc<StreamValue>),
}

/// A type whose values come into being with their first element and are gone with their last.
pub trait Collection: Sized {
    /// A value without elements.
    fn empty() -> Self;
    /// The collection in `value`, if it is of this type.
    fn of(value: &Value) -> Option<&Self>;
    /// The collection in `value`, to change, if it is of this type.
    fn of_mut(value: &mut Value) -> Option<&mut Self>;
    /// As a key's value.
    fn into_value(self) -> Value;
}

impl Collection for HashValue {
    fn empty() -> HashValue {
        HashValue::new()
    }

    fn of(value: &Value) -> Option<&HashValue> {
        match value {
            Value::Hash(hash) => Some(hash),
            _ => None,
        }
    }

    fn of_mut(value: &mut Value) -> Option<&mut HashValue> {
        match value {
            Value::Hash(hash) => Some(Arc::make_mut(hash)),
            _ => None,
        }
    }

    fn into_value(self) -> Value {
        Value::Hash(Arc::new(self))
    }
}

impl Collection for ListValue {
    fn empty() -> ListValue {
        ListValue::new()
    }

    fn of(value: &Value) -> Option<&ListValue> {
        match value {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    fn of_mut(value: &mut Value) -> Option<&mut ListValue> {
        match value {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    fn into_value(self) -> Value {
        Value::List(self)
    }
}

impl Collection for SetValue {
    fn empty() -> SetValue {
        SetValue::new()
    }

    fn of(value: &Value) -> Option<&SetValue> {
        match value {
            Value::Set(set) => Some(set),
            _ => None,
        }
    }

    fn of_mut(value: &mut Value) -> Option<&mut SetValue> {
        match value {
            Value::Set(set) => Some(Arc::make_mut(set)),
            _ => None,
        }
    }

    fn into_value(self) -> Value {
        Value::Set(Arc::new(self))
    }
}

impl Collection for ZsetValue {
    fn empty() -> ZsetValue {
        ZsetValue::new()
    }

    fn of(value: &Value) -> Option<&ZsetValue> {
        match value {
            Value::Zset(zset) => Some(zset),
            _ => None,
        }
    }

    fn of_mut(value: &mut Value) -> Option<&mut ZsetValue> {
        match value {
            Value::Zset(zset) => Some(Arc::make_mut(zset)),
            _ => None,
        }
    }

    fn into_value(self) -> Value {
        Value::Zset(Arc::new(self))
    }
}

impl Collection for StreamValue {
    fn empty() -> StreamValue {
        StreamValue::default()
    }

    fn of(value: &Value) -> Option<&StreamValue> {
        match value {
            Value::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    fn of_mut(value: &mut Value) -> Option<&mut StreamValue> {
        match value {
            Value::Stream(stream) => Some(Arc::make_mut(stream)),
            _ => None,
        }
    }

    fn into_value(self) -> Value {
        Value::Stream(Arc::new(self))
    }
}

/// Each type's number in snapshots. Never reused, never changed.
mod tag {
    pub const STRING: u8 = 1;
    pub const HASH: u8 = 2;
    pub const LIST: u8 = 3;
    pub const SET: u8 = 4;
    pub const ZSET: u8 = 5;
    pub const STREAM: u8 = 6;
    /// A string that has been changed in place.
    pub const GROWN_STRING: u8 = 7;
}

impl Value {
    /// Some byte of what it holds, whichever, so that the processor has it at hand.
    pub(crate) fn peek(&self) -> usize {
        match self {
            Value::String(string) => string.as_bytes().first().copied().unwrap_or_default().into(),
            Value::Hash(hash) => Arc::strong_count(hash),
            Value::List(_) => 0,
            Value::Set(set) => Arc::strong_count(set),
            Value::Zset(zset) => Arc::strong_count(zset),
            Value::Stream(stream) => Arc::strong_count(stream),
        }
    }

    /// A string of a copy of `bytes`.
    pub fn string(bytes: &[u8]) -> Value {
        Value::String(StringValue::new(bytes))
    }

    /// Makes it a string of a copy of `bytes`, where the old one stands if that has the same length.
    pub(crate) fn replace_string(&mut self, bytes: &[u8]) {
        match self {
            Value::String(string) => string.replace(bytes),
            other => *other = Value::string(bytes),
        }
    }

    /// The name that TYPE answers.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::String(_) => "string",
            Value::Hash(_) => "hash",
            Value::List(_) => "list",
            Value::Set(_) => "set",
            Value::Zset(_) => "zset",
            Value::Stream(_) => "stream",
        }
    }

    /// The name that OBJECT ENCODING answers.
    pub fn encoding(&self) -> &'static str {
        /// Redis's longest string that shares an allocation with its header.
        const EMBEDDED_BYTES: usize = 44;
        match self {
            Value::String(string) if string.is_grown() => "raw",
            Value::String(string) if number::parse_int(string.as_bytes()).is_some() => "int",
            Value::String(string) if string.as_bytes().len() <= EMBEDDED_BYTES => "embstr",
            Value::String(_) => "raw",
            Value::Hash(hash) => hash.encoding(),
            // Redis 7.0 has one form for lists, whatever their length.
            Value::List(_) => "quicklist",
            Value::Set(set) => set.encoding(),
            Value::Zset(zset) => zset.encoding(),
            Value::Stream(_) => "stream",
        }
    }

    /// About what it takes in memory besides the object it stands in, in bytes. Looked up, not counted: a write asks for
    /// it before and after. A function of what the value holds, so that replicas agree.
    pub fn bytes(&self) -> usize {
        match self {
            Value::String(string) => string.bytes(),
            Value::Hash(hash) => hash.bytes(),
            Value::List(list) => list.bytes(),
            Value::Set(set) => set.bytes(),
            Value::Zset(zset) => zset.bytes(),
            Value::Stream(stream) => stream.bytes(),
        }
    }

    /// In how many pieces it is freed, about, as Redis's value would be: its elements, unless it is in a compact form.
    pub fn pieces(&self) -> usize {
        /// A node of Redis's lists.
        const NODE_BYTES: usize = 8192;
        match self {
            Value::Hash(hash) if !hash.is_small() => hash.positions(),
            Value::List(list) => list.bytes() / NODE_BYTES,
            Value::Set(set) if set.encoding() == "hashtable" => set.len(),
            Value::Zset(zset) if !zset.is_small() => zset.len(),
            Value::Stream(stream) => stream.pieces(),
            Value::String(_) | Value::Hash(_) | Value::Set(_) | Value::Zset(_) => 1,
        }
    }

    /// The earliest deadline of its parts (a hash's fields), past ones included; [`NEVER`] if none expires.
    pub fn next_deadline_ms(&self) -> u64 {
        match self {
            Value::String(_) | Value::List(_) | Value::Set(_) | Value::Zset(_) | Value::Stream(_) => NEVER,
            Value::Hash(hash) => hash.next_deadline_ms(),
        }
    }

    /// Whether nothing of it is left at `now_ms`: the key is absent then. A string without
    /// bytes is still there, and so is a stream without entries.
    pub fn is_empty(&self, now_ms: u64) -> bool {
        match self {
            Value::String(_) | Value::Stream(_) => false,
            Value::Hash(hash) => hash.is_empty(now_ms),
            Value::List(list) => list.is_empty(),
            Value::Set(set) => set.is_empty(),
            Value::Zset(zset) => zset.is_empty(),
        }
    }

    /// Removes parts that are due, at most `limit`. How many.
    pub(crate) fn remove_due(&mut self, now_ms: u64, limit: usize) -> usize {
        match self {
            Value::String(_) | Value::List(_) | Value::Set(_) | Value::Zset(_) | Value::Stream(_) => 0,
            Value::Hash(hash) => Arc::make_mut(hash).remove_due(now_ms, limit),
        }
    }

    /// From now on notes what its changes replace, so that they can be taken back. Whether it can: those can of which a clone
    /// is cheap, but makes the next change dear.
    pub(crate) fn note_changes(&mut self) -> bool {
        match self {
            Value::Hash(hash) => Arc::make_mut(hash).note_changes(),
            Value::Zset(zset) => Arc::make_mut(zset).note_changes(),
            Value::String(_) | Value::List(_) | Value::Set(_) | Value::Stream(_) => false,
        }
    }

    /// How many changes it has noted; `None` if it notes none.
    pub(crate) fn changes(&self) -> Option<usize> {
        match self {
            Value::Hash(hash) => hash.changes(),
            Value::Zset(zset) => zset.changes(),
            Value::String(_) | Value::List(_) | Value::Set(_) | Value::Stream(_) => None,
        }
    }

    /// Notes changes no more: they stay.
    pub(crate) fn forget_changes(&mut self) {
        if self.changes().is_none() {
            return;
        }
        match self {
            Value::Hash(hash) => Arc::make_mut(hash).forget_changes(),
            Value::Zset(zset) => Arc::make_mut(zset).forget_changes(),
            Value::String(_) | Value::List(_) | Value::Set(_) | Value::Stream(_) => {}
        }
    }

    /// Holds again what it held at [`Value::note_changes`], and notes no more.
    pub(crate) fn take_back_changes(&mut self) {
        match self {
            Value::Hash(hash) => Arc::make_mut(hash).take_back_changes(),
            Value::Zset(zset) => Arc::make_mut(zset).take_back_changes(),
            Value::String(_) | Value::List(_) | Value::Set(_) | Value::Stream(_) => {}
        }
    }

    /// Appends the value to a snapshot's chunk.
    pub(crate) fn put(&self, out: &mut BytesMut) {
        match self {
            Value::String(string) => {
                out.put_u8(if string.is_grown() { tag::GROWN_STRING } else { tag::STRING });
                put_bytes(out, string.as_bytes());
            }
            Value::Hash(hash) => {
                out.put_u8(tag::HASH);
                hash.put_snapshot(out);
            }
            Value::List(list) => {
                out.put_u8(tag::LIST);
                list.put_snapshot(out);
            }
            Value::Set(set) => {
                out.put_u8(tag::SET);
                set.put_snapshot(out);
            }
            Value::Zset(zset) => {
                out.put_u8(tag::ZSET);
                zset.put_snapshot(out);
            }
            Value::Stream(stream) => {
                out.put_u8(tag::STREAM);
                stream.put_snapshot(out);
            }
        }
    }

    /// Takes what [`Value::put`] wrote; `None` if it is cut short or of an unknown type.
    pub(crate) fn take(from: &mut Bytes) -> Option<Value> {
        match from.try_get_u8().ok()? {
            tag::STRING => Some(Value::string(&take_bytes(from)?)),
            tag::GROWN_STRING => {
                let mut string = StringValue::new(&take_bytes(from)?);
                string.make_mut();
                Some(Value::String(string))
            }
            tag::HASH => Some(Value::Hash(Arc::new(HashValue::take_snapshot(from)?))),
            tag::LIST => Some(Value::List(ListValue::take_snapshot(from)?)),
            tag::SET => Some(Value::Set(Arc::new(SetValue::take_snapshot(from)?))),
            tag::ZSET => Some(Value::Zset(Arc::new(ZsetValue::take_snapshot(from)?))),
            tag::STREAM => Some(Value::Stream(Arc::new(StreamValue::take_snapshot(from)?))),
            _ => None,
        }
    }
}
