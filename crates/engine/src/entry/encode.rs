//! Calls to an entry's bytes, by hand where most bytes are: generated code works out the length of each word four times, once
//! for each message around it.
//!
//! The bytes are those that generated code writes.

use super::{Batch, Call, Message, Stamp, delimited};

/// The bytes of an entry that has `stamp` and `batches`, and nothing else.
pub fn encode<'a>(stamp: &Stamp, batches: impl Iterator<Item = &'a Batch> + Clone) -> Vec<u8> {
    let stamp_bytes = stamp.encode_to_vec();
    let lengths = batches.clone().map(|batch| field_length(batch_length(batch)));
    let mut out = Vec::with_capacity(field_length(stamp_bytes.len()) + lengths.sum::<usize>());
    put_field(&mut out, delimited::ENTRY_STAMP, &stamp_bytes);
    for batch in batches {
        put_head(&mut out, delimited::ENTRY_BATCHES, batch_length(batch));
        match is_calls_alone(batch) {
            true => batch.calls.iter().for_each(|call| put_call(&mut out, call)),
            false => out.extend_from_slice(&batch.encode_to_vec()),
        }
    }
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
