//! From values to their content and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Consumer, Content, Delivery, Group, StreamContent};
use crate::slot::NEVER;
use crate::value::hash::MAX_FIELD_DEADLINE_MS;
use crate::value::list::Side;
use crate::value::stream::{self, StreamId};
use crate::value::zset::Element;
use crate::value::{Bounds, HashValue, ListValue, SetValue, StreamValue, Value, ZsetValue};

impl Content {
    /// What `value` holds at `now_ms`.
    pub fn of(value: &Value, now_ms: u64) -> Content {
        let copy = Bytes::copy_from_slice;
        match value {
            Value::String(string) => Content::String(string.to_bytes()),
            Value::Hash(hash) => Content::Hash(
                hash.iter(now_ms)
                    .map(|field| (copy(field.name), copy(field.value), field.expire_ms))
                    .collect(),
            ),
            Value::List(list) => Content::List(list.iter().map(copy).collect()),
            Value::Set(set) => Content::Set(set.iter().map(|member| copy(&member)).collect()),
            Value::Zset(zset) => {
                Content::Zset(zset.iter().map(|element| (copy(element.member), element.score)).collect())
            }
            Value::Stream(stream) => Content::Stream(Box::new(of_stream(stream))),
        }
    }

    /// A value that holds it; `None` if no value can: an element is there twice.
    pub fn into_value(self, bounds: &Bounds) -> Option<Value> {
        match self {
            Content::String(string) => Some(Value::string(&string)),
            Content::List(elements) => {
                let mut list = ListValue::new();
                elements.iter().for_each(|element| list.push(Side::Right, element));
                Some(Value::List(list))
            }
            Content::Hash(fields) => {
                let mut hash = HashValue::new();
                for (name, value, expire_ms) in &fields {
                    let possible = *expire_ms <= MAX_FIELD_DEADLINE_MS || *expire_ms == NEVER;
                    if !possible || !hash.put(name, value, *expire_ms, 0, bounds) {
                        return None;
                    }
                }
                Some(Value::Hash(Arc::new(hash)))
            }
            Content::Zset(elements) => {
                let elements = elements.iter().map(|(member, score)| Element { member, score: *score });
                Some(Value::Zset(Arc::new(ZsetValue::try_of(elements.collect(), bounds)?)))
            }
            Content::Stream(content) => Some(Value::Stream(Arc::new(into_stream(&content, bounds)))),
            Content::Set(members) => {
                let mut set = SetValue::new();
                members.iter().all(|member| set.add(member, bounds)).then(|| Value::Set(Arc::new(set)))
            }
        }
    }
}

fn of_stream(stream: &StreamValue) -> StreamContent {
    let copy = Bytes::copy_from_slice;
    let counters = stream.counters();
    let raw = |id: StreamId| (id.ms, id.seq);
    let entries = stream.range(StreamId::MIN, StreamId::MAX);
    StreamContent {
        entries: entries
            .map(|entry| {
                (raw(entry.id), entry.fields().map(|(name, value)| (copy(name), copy(value))).collect())
            })
            .collect(),
        last_id: raw(counters.last_id),
        max_deleted_id: raw(counters.max_deleted_id),
        entries_added: counters.entries_added,
        groups: stream.groups().map(|(name, group)| of_group(name, group)).collect(),
    }
}

fn of_group(name: &[u8], group: &stream::Group) -> Group {
    let places: BTreeMap<&stream::Name, usize> =
        group.consumers().enumerate().map(|(place, (name, _))| (name, place)).collect();
    Group {
        name: Bytes::copy_from_slice(name),
        last_id: (group.last_id.ms, group.last_id.seq),
        entries_read: group.entries_read,
        consumers: group
            .consumers()
            .map(|(name, consumer)| Consumer {
                name: Bytes::copy_from_slice(name),
                seen_ms: consumer.seen_ms,
                active_ms: None,
            })
            .collect(),
        pending: group
            .pending_from(StreamId::MIN)
            .map(|(id, pending)| Delivery {
                id: (id.ms, id.seq),
                consumer: places[&pending.consumer],
                delivered_ms: pending.delivered_ms,
                count: pending.deliveries,
            })
            .collect(),
    }
}

/// The content's ids ascend and its names are there once: the reader has seen to it.
fn into_stream(content: &StreamContent, bounds: &Bounds) -> StreamValue {
    let id = |(ms, seq)| StreamId { ms, seq };
    let mut stream = StreamValue::default();
    for (at, fields) in &content.entries {
        let fields: Vec<[Bytes; 2]> =
            fields.iter().map(|(name, value)| [name.clone(), value.clone()]).collect();
        stream.append(id(*at), &fields, bounds);
    }
    stream.set_last_id(id(content.last_id));
    stream.set_max_deleted_id(id(content.max_deleted_id));
    stream.set_entries_added(content.entries_added);
    for group in &content.groups {
        let mut made = stream::Group::new(id(group.last_id), group.entries_read);
        for consumer in &group.consumers {
            made.create_consumer(&consumer.name, consumer.seen_ms);
        }
        for delivery in &group.pending {
            let consumer = &group.consumers[delivery.consumer].name;
            made.deliver(id(delivery.id), consumer, delivery.delivered_ms, delivery.count);
        }
        stream.create_group(&group.name, made);
    }
    stream
}
