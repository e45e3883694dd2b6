//! Calls to an entry's bytes, by hand where most bytes are: generated code works out the length of each word four times, once
//! for each message around it.
//!
//! The bytes are those that generated code writes.

use bytes::Bytes;

use super::{Batch, Call, Message, Part, Stamp, WITH_PARTS, delimited};

/// Key and value of an entry's version.
const VERSION_BYTES: usize = 2;

/// Batches that wait to become part of an entry, as it will have them: who makes the entry need not look at their words, and who
/// has made the batches keeps them.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    bytes: Vec<u8>,
    batches: usize,
    calls: usize,
    /// The rules that an entry needs which has it.
    version: u32,
}

impl Draft {
    /// Each of `calls` as a batch of its own, written by `origin` ([`Batch::by`]).
    pub fn of_each(calls: &[Call], origin: u64) -> Draft {
        if origin != 0 {
            return calls.iter().map(|call| Batch::of(vec![call.clone()]).by(origin)).collect();
        }
        let lengths = calls.iter().map(|call| field_length(field_length(call_length(call))));
        let mut bytes = Vec::with_capacity(lengths.sum());
        for call in calls {
            put_head(&mut bytes, delimited::ENTRY_BATCHES, field_length(call_length(call)));
            put_call(&mut bytes, call);
        }
        Draft { bytes, batches: calls.len(), calls: calls.len(), version: 0 }
    }

    /// How many batches there are.
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// How many calls they have together.
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// How many bytes of an entry they take.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Its batches, cut into parts of at most so many bytes: drafts that are to be written in this order, each with one outcome, but
    /// for the last, which has those of the batches. `id` is a number that no other write in parts has.
    pub fn in_parts(self, id: u64, part_bytes: usize) -> impl Iterator<Item = Draft> + Send + use<> {
        let Draft { bytes, batches, calls, .. } = self;
        let bytes = Bytes::from(bytes);
        (0..bytes.len()).step_by(part_bytes.max(1)).map(move |from| {
            let to = bytes.len().min(from + part_bytes);
            let is_last = to == bytes.len();
            let batches = if is_last { batches } else { 1 };
            let (position, total) = (from as u64, bytes.len() as u64);
            let part = Part { id, position, total, batches: batches as u32, bytes: bytes.slice(from..to) };
            let draft = Draft::from(Batch { part: Some(Box::new(part)), ..Batch::default() });
            Draft { batches, calls: if is_last { calls } else { 0 }, version: WITH_PARTS, ..draft }
        })
    }

    /// Has what has come of a write in parts forgotten, for no more will come. It has no outcome.
    pub fn without_parts() -> Draft {
        // Of no bytes, and so whole at once.
        let draft = Draft::from(Batch { part: Some(Box::default()), ..Batch::default() });
        Draft { batches: 0, version: WITH_PARTS, ..draft }
    }

    fn push(&mut self, batch: &Batch) {
        let length = batch_length(batch);
        self.bytes.reserve(field_length(length));
        put_head(&mut self.bytes, delimited::ENTRY_BATCHES, length);
        match is_calls_alone(batch) {
            true => batch.calls.iter().for_each(|call| put_call(&mut self.bytes, call)),
            false => batch.encode(&mut self.bytes).expect("a vector has room"),
        }
        self.batches += 1;
        self.calls += batch.calls.len();
    }
}

impl FromIterator<Batch> for Draft {
    fn from_iter<I: IntoIterator<Item = Batch>>(batches: I) -> Draft {
        let mut draft = Draft::default();
        batches.into_iter().for_each(|batch| draft.push(&batch));
        draft
    }
}

impl From<Vec<Batch>> for Draft {
    fn from(batches: Vec<Batch>) -> Draft {
        batches.into_iter().collect()
    }
}

impl From<Batch> for Draft {
    fn from(batch: Batch) -> Draft {
        [batch].into_iter().collect()
    }
}

/// The bytes of an entry that has `stamp` and the batches of `drafts`, and nothing else.
pub fn encode<'a>(stamp: &Stamp, drafts: impl Iterator<Item = &'a Draft> + Clone) -> Vec<u8> {
    let stamp_bytes = stamp.encode_to_vec();
    let size: usize = drafts.clone().map(Draft::size).sum();
    let mut out = Vec::with_capacity(field_length(stamp_bytes.len()) + size + VERSION_BYTES);
    put_field(&mut out, delimited::ENTRY_STAMP, &stamp_bytes);
    let mut version = 0;
    for draft in drafts {
        out.extend_from_slice(&draft.bytes);
        version = version.max(draft.version);
    }
    if version > 0 {
        put_head(&mut out, delimited::ENTRY_VERSION, version as usize);
    }
    out
}

/// Whether it has nothing but calls.
fn is_calls_alone(batch: &Batch) -> bool {
    let Batch { calls: _, watches, transaction, cancel, origin, evict, tracked, expire, moves, rights, part } =
        batch;
    let is_marked = *transaction || *cancel != 0 || *origin != 0 || *tracked;
    let is_rare = moves.is_some() || rights.is_some() || part.is_some();
    !is_marked && !is_rare && watches.is_empty() && evict.is_empty() && expire.is_empty()
}

fn batch_length(batch: &Batch) -> usize {
    match is_calls_alone(batch) {
        true => batch.calls.iter().map(|call| field_length(call_length(call))).sum(),
        false => batch.encoded_len(),
    }
}

fn call_length(call: &Call) -> usize {
    call.args.iter().map(|word| field_length(word.len())).sum()
}

fn put_call(out: &mut Vec<u8>, call: &Call) {
    put_head(out, delimited::BATCH_CALLS, call_length(call));
    call.args.iter().for_each(|word| put_field(out, delimited::CALL_ARGS, word));
}

fn put_field(out: &mut Vec<u8>, key: u8, content: &[u8]) {
    put_head(out, key, content.len());
    out.extend_from_slice(content);
}

fn put_head(out: &mut Vec<u8>, key: u8, mut length: usize) {
    out.push(key);
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

/// Bytes of a field whose content has so many.
fn field_length(content: usize) -> usize {
    let digits = (usize::BITS - (content | 1).leading_zeros()).div_ceil(7);
    1 + digits as usize + content
}
