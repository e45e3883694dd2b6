//! Calls to an entry's bytes, by hand where most bytes are: generated code works out the length of each word four times, once
//! for each message around it.
//!
//! The bytes are those that generated code writes.

use super::{Batch, Call, Message, Stamp, delimited};

/// Batches that wait to become part of an entry, as it will have them: who makes the entry need not look at their words, and who
/// has made the batches keeps them.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    bytes: Vec<u8>,
    batches: usize,
    calls: usize,
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
        Draft { bytes, batches: calls.len(), calls: calls.len() }
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

    fn push(&mut self, batch: &Batch) {
        put_head(&mut self.bytes, delimited::ENTRY_BATCHES, batch_length(batch));
        match is_calls_alone(batch) {
            true => batch.calls.iter().for_each(|call| put_call(&mut self.bytes, call)),
            false => self.bytes.extend_from_slice(&batch.encode_to_vec()),
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
    let mut out = Vec::with_capacity(field_length(stamp_bytes.len()) + size);
    put_field(&mut out, delimited::ENTRY_STAMP, &stamp_bytes);
    drafts.for_each(|draft| out.extend_from_slice(&draft.bytes));
    out
}

/// Whether it has nothing but calls.
fn is_calls_alone(batch: &Batch) -> bool {
    let Batch { calls: _, watches, transaction, cancel, origin, evict, tracked, expire, moves, rights } =
        batch;
    let is_marked = *transaction || *cancel != 0 || *origin != 0 || *tracked || moves.is_some();
    !is_marked && rights.is_none() && watches.is_empty() && evict.is_empty() && expire.is_empty()
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
