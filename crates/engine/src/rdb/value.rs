//! From values to their content and back.

use std::sync::Arc;

use super::Content;
use crate::slot::NEVER;
use crate::value::hash::MAX_FIELD_DEADLINE_MS;
use crate::value::list::Side;
use crate::value::{HashValue, ListValue, Value};

impl Content {
    /// What `value` holds at `now_ms`.
    pub fn of(value: &Value, now_ms: u64) -> Content {
        let copy = bytes::Bytes::copy_from_slice;
        match value {
            Value::String(string) => Content::String(string.to_bytes()),
            Value::Hash(hash) => Content::Hash(
                hash.iter(now_ms)
                    .map(|field| (copy(field.name), copy(field.value), field.expire_ms))
                    .collect(),
            ),
            Value::List(list) => Content::List(list.iter().map(copy).collect()),
        }
    }

    /// A value that holds it; `None` if no value can: an element is there twice. `hash_seed`: see [`crate::Machine::new`].
    pub fn into_value(self, hash_seed: u64) -> Option<Value> {
        match self {
            Content::String(string) => Some(Value::string(&string)),
            Content::List(elements) => {
                let mut list = ListValue::new();
                elements.iter().for_each(|element| list.push(Side::Right, element));
                Some(Value::List(list))
            }
            Content::Hash(fields) => {
                let mut hash = HashValue::new(hash_seed);
                for (name, value, expire_ms) in &fields {
                    let possible = *expire_ms <= MAX_FIELD_DEADLINE_MS || *expire_ms == NEVER;
                    if !possible || !hash.put(name, value, *expire_ms, 0) {
                        return None;
                    }
                }
                Some(Value::Hash(Arc::new(hash)))
            }
            _ => None,
        }
    }
}
