//! Streams in payloads: entries packed into listpacks, and consumer groups.
//!
//! A listpack begins with a master entry: how many entries live and are deleted, the names of the fields that most of
//! them have, 0. An entry is its flags, its id less the listpack's own (two integers), its fields (values only if the
//! names are the master's), and how many items it took.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::reader::Reader;
use super::writer::Writer;
use super::{Corrupt, listpack};
use crate::value::number;

/// Milliseconds and a sequence number.
pub type StreamId = (u64, u64);

/// A stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamContent {
    /// Ids, ascending, and fields in order.
    pub entries: Vec<(StreamId, Vec<(Bytes, Bytes)>)>,
    /// The highest id that was ever there.
    pub last_id: StreamId,
    /// The highest id that was deleted.
    pub max_deleted_id: StreamId,
    /// How many entries were ever added.
    pub entries_added: u64,
    /// Its consumer groups, each name once.
    pub groups: Vec<Group>,
}

/// A consumer group.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its name.
    pub name: Bytes,
    /// The last id it was given.
    pub last_id: StreamId,
    /// How many entries it has read, if that is known.
    pub entries_read: Option<u64>,
    /// Its consumers, each name once.
    pub consumers: Vec<Consumer>,
    /// What was delivered and not acknowledged, by ascending id.
    pub pending: Vec<Delivery>,
}

/// A consumer.
#[derive(Clone, Debug, PartialEq)]
pub struct Consumer {
    /// Its name.
    pub name: Bytes,
    /// When it last asked, in milliseconds since the Unix epoch.
    pub seen_ms: u64,
    /// When it was last given something, if that is known.
    pub active_ms: Option<u64>,
}

/// An entry in a consumer's hands.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The entry.
    pub id: StreamId,
    /// Whose it is: a position among the group's consumers.
    pub consumer: usize,
    /// When it was last delivered, in milliseconds since the Unix epoch.
    pub delivered_ms: u64,
    /// How often.
    pub count: u64,
}

/// Flags of an entry in a listpack.
const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;

/// What [`Group::entries_read`] is when it is not known.
const UNKNOWN: u64 = u64::MAX;

impl StreamContent {
    /// Reads what Redis 5 (`form` 1), 7.0 (2) or 7.2 (3) has written.
    pub(super) fn read(from: &mut Reader, form: u8) -> Result<StreamContent, Corrupt> {
        let mut stream = StreamContent::default();
        for node in from.each(|from| Ok((from.string()?, from.listpack()?)))? {
            let mut key = Reader::new(&node.0);
            let master = (key.u64_be()?, key.u64_be()?);
            let node = Node { words: node.1.into_iter(), master };
            if !key.is_at_end() || !node.read(&mut stream.entries)? {
                return Err(Corrupt);
            }
        }
        let length = from.len()?;
        stream.last_id = id(from)?;
        stream.entries_added = length;
        if form > 1 {
            let _first_id = id(from)?;
            stream.max_deleted_id = id(from)?;
            stream.entries_added = from.len()?;
        }
        stream.groups = from.each(|from| Group::read(from, form))?;
        if form == 1 {
            let mut groups = std::mem::take(&mut stream.groups);
            groups.iter_mut().for_each(|group| group.entries_read = stream.read_up_to(group.last_id));
            stream.groups = groups;
        }
        if length == stream.entries.len() as u64 && stream.is_in_order() { Ok(stream) } else { Err(Corrupt) }
    }

    /// How many entries a group has read that stands at `id`, which Redis before 7.0 did not write: as Redis 7.0 takes it,
    /// which is as if none had been deleted. `None`: that cannot be told.
    fn read_up_to(&self, id: StreamId) -> Option<u64> {
        match self.entries.first() {
            None => Some(0),
            Some(_) if id == self.last_id => Some(self.entries_added),
            Some((first, _)) if id == *first => Some(1),
            Some((first, _)) if id < *first => Some(0),
            Some(_) => None,
        }
    }

    /// Whether what must ascend does, and names are there once.
    fn is_in_order(&self) -> bool {
        let ids = self.entries.iter().map(|(id, _)| id);
        let mut names: Vec<&Bytes> = self.groups.iter().map(|group| &group.name).collect();
        names.sort();
        ids.clone().is_sorted_by(|a, b| a < b)
            && ids.clone().next().is_none_or(|first| *first > (0, 0))
            && ids.clone().next_back().is_none_or(|last| *last <= self.last_id)
            && names.is_sorted_by(|a, b| a < b)
    }

    /// Writes it as Redis 7.0 does.
    pub(super) fn write(&self, out: &mut Writer) {
        let nodes = nodes(&self.entries);
        out.each(&nodes, |out, node| {
            let (ms, sequence) = node[0].0;
            out.plain(&[ms.to_be_bytes(), sequence.to_be_bytes()].concat());
            out.plain(&packed(node));
        });
        out.len(self.entries.len() as u64);
        put_id(out, self.last_id);
        put_id(out, self.entries.first().map_or((0, 0), |(id, _)| *id));
        put_id(out, self.max_deleted_id);
        out.len(self.entries_added);
        out.each(&self.groups, |out, group| group.write(out));
    }
}

fn id(from: &mut Reader) -> Result<StreamId, Corrupt> {
    Ok((from.len()?, from.len()?))
}

fn put_id(out: &mut Writer, id: StreamId) {
    out.len(id.0);
    out.len(id.1);
}

/// An id as a radix tree's key.
fn raw_id(from: &mut Reader) -> Result<StreamId, Corrupt> {
    Ok((from.u64_be()?, from.u64_be()?))
}

fn put_raw_id(out: &mut Writer, id: StreamId) {
    out.raw(&id.0.to_be_bytes());
    out.raw(&id.1.to_be_bytes());
}

/// A listpack's words, being read.
struct Node {
    words: std::vec::IntoIter<Bytes>,
    master: StreamId,
}

impl Node {
    /// Appends its entries. Whether it was whole.
    fn read(mut self, entries: &mut Vec<(StreamId, Vec<(Bytes, Bytes)>)>) -> Result<bool, Corrupt> {
        let (live, deleted, master_fields) = (self.count()?, self.count()?, self.count()?);
        let master_names = self.strings(master_fields)?;
        if self.int()? != 0 {
            return Ok(false);
        }
        let before = entries.len();
        for _ in 0..live.checked_add(deleted).ok_or(Corrupt)? {
            let flags = self.int()?;
            let (ms, sequence) = (self.int()? as u64, self.int()? as u64);
            let id = (self.master.0.wrapping_add(ms), self.master.1.wrapping_add(sequence));
            let same = flags & SAME_FIELDS != 0;
            let (fields, items): (Vec<_>, _) = match same {
                true => {
                    let values = self.strings(master_fields)?;
                    let items = values.len() + 3;
                    (master_names.iter().cloned().zip(values).collect(), items)
                }
                false => {
                    let count = self.count()?;
                    let words = self.strings(count.checked_mul(2).ok_or(Corrupt)?)?;
                    let items = words.len() + 4;
                    (words.as_chunks().0.iter().map(|[n, v]| (n.clone(), v.clone())).collect(), items)
                }
            };
            if fields.is_empty() || self.count()? != items {
                return Ok(false);
            }
            if flags & DELETED == 0 {
                entries.push((id, fields));
            }
        }
        Ok(entries.len() - before == live && self.words.as_slice().is_empty())
    }

    fn int(&mut self) -> Result<i64, Corrupt> {
        self.words.next().and_then(|word| number::parse_int(&word)).ok_or(Corrupt)
    }

    fn count(&mut self) -> Result<usize, Corrupt> {
        usize::try_from(self.int()?).map_err(|_| Corrupt)
    }

    fn strings(&mut self, count: usize) -> Result<Vec<Bytes>, Corrupt> {
        if count > self.words.len() {
            return Err(Corrupt);
        }
        Ok(self.words.by_ref().take(count).collect())
    }
}

type Entry = (StreamId, Vec<(Bytes, Bytes)>);

/// Cuts entries into listpacks of about the size that Redis gives them.
fn nodes(entries: &[Entry]) -> Vec<&[Entry]> {
    const MAX_ENTRIES: usize = 100;
    const MAX_BYTES: usize = 4096;
    let mut nodes = Vec::new();
    let (mut first, mut bytes) = (0, 0);
    for (i, (_, fields)) in entries.iter().enumerate() {
        let more: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        if i > first && (i - first >= MAX_ENTRIES || bytes + more > MAX_BYTES) {
            nodes.push(&entries[first..i]);
            (first, bytes) = (i, 0);
        }
        bytes += more;
    }
    if first < entries.len() {
        nodes.push(&entries[first..]);
    }
    nodes
}

/// The listpack of a node's entries, the first of which gives its id and its names.
fn packed(node: &[Entry]) -> Vec<u8> {
    let (master, master_fields) = &node[0];
    let mut out = listpack::Builder::new();
    out.push_int(node.len() as i64);
    out.push_int(0);
    out.push_int(master_fields.len() as i64);
    master_fields.iter().for_each(|(name, _)| out.push(name));
    out.push_int(0);
    for (id, fields) in node {
        let same = fields.iter().map(|(name, _)| name).eq(master_fields.iter().map(|(name, _)| name));
        out.push_int(if same { SAME_FIELDS } else { 0 });
        out.push_int(id.0.wrapping_sub(master.0) as i64);
        out.push_int(id.1.wrapping_sub(master.1) as i64);
        if same {
            fields.iter().for_each(|(_, value)| out.push(value));
            out.push_int(fields.len() as i64 + 3);
        } else {
            out.push_int(fields.len() as i64);
            fields.iter().flat_map(|(name, value)| [name, value]).for_each(|word| out.push(word));
            out.push_int(fields.len() as i64 * 2 + 4);
        }
    }
    out.finish()
}

impl Group {
    fn read(from: &mut Reader, form: u8) -> Result<Group, Corrupt> {
        let (name, last_id) = (from.string()?, id(from)?);
        let entries_read = if form > 1 { Some(from.len()?).filter(|read| *read != UNKNOWN) } else { None };
        // Whose they are is told by the consumers.
        let nobody = usize::MAX;
        let pending = from.each(|from| {
            let (id, delivered_ms, count) = (raw_id(from)?, from.u64()?, from.len()?);
            Ok(Delivery { id, consumer: nobody, delivered_ms, count })
        })?;
        let mut group = Group { name, last_id, entries_read, consumers: Vec::new(), pending };
        if !group.pending.is_sorted_by(|a, b| a.id < b.id) {
            return Err(Corrupt);
        }
        let places: BTreeMap<StreamId, usize> =
            group.pending.iter().enumerate().map(|(i, pending)| (pending.id, i)).collect();
        for (consumer, ids) in from.each(|from| Consumer::read(from, form))? {
            for id in ids {
                let pending = places.get(&id).and_then(|i| group.pending.get_mut(*i));
                let free = pending.filter(|pending| pending.consumer == nobody).ok_or(Corrupt)?;
                free.consumer = group.consumers.len();
            }
            group.consumers.push(consumer);
        }
        let mut names: Vec<&Bytes> = group.consumers.iter().map(|consumer| &consumer.name).collect();
        names.sort();
        let owned = group.pending.iter().all(|pending| pending.consumer != nobody);
        if owned && names.is_sorted_by(|a, b| a < b) { Ok(group) } else { Err(Corrupt) }
    }

    fn write(&self, out: &mut Writer) {
        out.string(&self.name);
        put_id(out, self.last_id);
        out.len(self.entries_read.unwrap_or(UNKNOWN));
        out.each(&self.pending, |out, pending| {
            put_raw_id(out, pending.id);
            out.raw(&pending.delivered_ms.to_le_bytes());
            out.len(pending.count);
        });
        let mut owned: Vec<Vec<StreamId>> = vec![Vec::new(); self.consumers.len()];
        self.pending.iter().for_each(|pending| owned[pending.consumer].push(pending.id));
        let consumers: Vec<_> = self.consumers.iter().zip(owned).collect();
        out.each(&consumers, |out, (consumer, owned)| {
            out.string(&consumer.name);
            out.raw(&consumer.seen_ms.to_le_bytes());
            out.each(owned, |out, id| put_raw_id(out, *id));
        });
    }
}

impl Consumer {
    /// A consumer and the ids that it has.
    fn read(from: &mut Reader, form: u8) -> Result<(Consumer, Vec<StreamId>), Corrupt> {
        let (name, seen_ms) = (from.string()?, from.u64()?);
        // Never active is -1.
        let active_ms = if form > 2 { Some(from.u64()?).filter(|at| *at as i64 >= 0) } else { None };
        Ok((Consumer { name, seen_ms, active_ms }, from.each(raw_id)?))
    }
}
