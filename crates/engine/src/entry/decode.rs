//! An entry's bytes to what is applied, by hand where most bytes are: in the words of its calls.
//!
//! Every entry is decoded on every replica, and generated code takes a call of three words through some hundred steps that
//! serve fields it does not have. So batches, calls and words are read here while they come first among their siblings, as
//! they are written; at anything else the generated code takes over for the rest of the message, which means the same,
//! since a message's fields are merged in the order in which they come.
//!
//! Words are slices of the entry's bytes, never copies.

use std::ops::Range;

use bytes::Bytes;
use prost::Message;

use super::delimited::{BATCH_CALLS, CALL_ARGS, ENTRY_BATCHES, ENTRY_STAMP};
use super::{Batch, Call, DecodeError, Entry};

/// An entry as it is applied. The words of all calls stand in one row, so that a call takes no memory of its own.
#[derive(Default)]
pub(crate) struct Received {
    /// All but its batches.
    pub entry: Entry,
    /// What each has besides calls, if anything, and where its calls end among `calls`.
    batches: Vec<(Option<Box<Batch>>, usize)>,
    /// What a batch has that is nothing but calls.
    plain: Batch,
    /// Where each call's words end among `words`.
    calls: Vec<usize>,
    words: Vec<Bytes>,
}

/// What is kept of an entry with more words than these is no room for the next one.
const WORDS_KEPT: usize = 64 << 10;

/// A batch of [`Received`], and its calls.
pub(crate) struct ReceivedBatch<'a> {
    /// All but its calls.
    pub batch: &'a Batch,
    calls: Range<usize>,
    of: &'a Received,
}

impl Received {
    /// The entry in `bytes`, as [`Message::decode`] reads it.
    pub fn decode(bytes: &Bytes) -> Result<Received, DecodeError> {
        Received::default().decode_here(bytes)
    }

    /// [`Received::decode`] in the room of an entry that is done with.
    pub fn decode_here(mut self, bytes: &Bytes) -> Result<Received, DecodeError> {
        self.clear();
        let mut fields = Fields::of(bytes, 0, bytes.len());
        while let Some((key, from, to)) = fields.next([ENTRY_STAMP, ENTRY_BATCHES]) {
            match key {
                ENTRY_BATCHES => self.read_batch(bytes, from, to)?,
                // Twice is once with the fields of both.
                _ => self.entry.stamp.get_or_insert_default().merge(&bytes[from..to])?,
            }
        }
        fields.merge_rest(&mut self.entry)?;
        self.take_batches();
        Ok(self)
    }

    /// Lets go of all it has, which pins the entry's bytes, and keeps the room.
    pub fn clear(&mut self) {
        if self.words.len() > WORDS_KEPT {
            *self = Received::default();
        }
        self.entry = Entry::default();
        self.batches.clear();
        self.calls.clear();
        self.words.clear();
    }

    fn read_batch(&mut self, bytes: &Bytes, from: usize, to: usize) -> Result<(), DecodeError> {
        let mut fields = Fields::of(bytes, from, to);
        while let Some((_, from, to)) = fields.next([BATCH_CALLS]) {
            self.read_call(bytes, from, to)?;
        }
        let rest = fields.rest()?.map(Box::new);
        self.end_batch(rest);
        Ok(())
    }

    fn read_call(&mut self, bytes: &Bytes, from: usize, to: usize) -> Result<(), DecodeError> {
        let mut fields = Fields::of(bytes, from, to);
        while let Some((_, from, to)) = fields.next([CALL_ARGS]) {
            self.words.push(bytes.slice(from..to));
        }
        let rest = fields.rest()?;
        self.end_call(rest);
        Ok(())
    }

    /// Ends the call whose first words have been read.
    fn end_call(&mut self, rest: Option<Call>) {
        self.words.extend(rest.into_iter().flat_map(|call| call.args));
        self.calls.push(self.words.len());
    }

    /// Ends the batch whose first calls have been read.
    fn end_batch(&mut self, mut rest: Option<Box<Batch>>) {
        if let Some(rest) = &mut rest {
            rest.calls.drain(..).for_each(|call| self.end_call(Some(call)));
        }
        self.batches.push((rest, self.calls.len()));
    }

    fn take_batches(&mut self) {
        let batches = std::mem::take(&mut self.entry.batches);
        batches.into_iter().for_each(|batch| self.end_batch(Some(Box::new(batch))));
    }

    /// Its batches.
    pub fn batches(&self) -> impl ExactSizeIterator<Item = ReceivedBatch<'_>> {
        let mut from = 0;
        self.batches.iter().map(move |(rest, end)| {
            let calls = std::mem::replace(&mut from, *end)..*end;
            let batch = rest.as_deref().unwrap_or(&self.plain);
            ReceivedBatch { batch, calls, of: self }
        })
    }

    /// The words of each call of all batches.
    pub fn calls(&self) -> impl Iterator<Item = &[Bytes]> {
        (0..self.calls.len()).map(|call| self.words_of(call))
    }

    fn words_of(&self, call: usize) -> &[Bytes] {
        let from = if call == 0 { 0 } else { self.calls[call - 1] };
        &self.words[from..self.calls[call]]
    }
}

impl From<Entry> for Received {
    fn from(entry: Entry) -> Received {
        let mut received = Received { entry, ..Received::default() };
        received.take_batches();
        received
    }
}

impl<'a> ReceivedBatch<'a> {
    /// The words of each call.
    pub fn calls(&self) -> impl ExactSizeIterator<Item = &'a [Bytes]> + use<'a> {
        let of = self.of;
        self.calls.clone().map(move |call| of.words_of(call))
    }
}

/// The fields of a message that have not been read: `bytes[at..end]`.
struct Fields<'a> {
    bytes: &'a Bytes,
    at: usize,
    end: usize,
}

impl<'a> Fields<'a> {
    fn of(bytes: &'a Bytes, at: usize, end: usize) -> Fields<'a> {
        Fields { bytes, at, end }
    }

    /// The next field if it is one of `keys` and whole: its key, and from where to where its content reaches.
    fn next<const N: usize>(&mut self, keys: [u8; N]) -> Option<(u8, usize, usize)> {
        let rest = &self.bytes[self.at..self.end];
        let (key, rest) = rest.split_first().filter(|(key, _)| keys.contains(key))?;
        let (len, rest) = length(rest)?;
        if len > rest.len() {
            return None;
        }
        let from = self.end - rest.len();
        self.at = from + len;
        Some((*key, from, self.at))
    }

    /// What is left, as generated code reads it; none if nothing is.
    fn rest<M: Message + Default>(self) -> Result<Option<M>, DecodeError> {
        let mut message = (self.at < self.end).then(M::default);
        message.as_mut().map_or(Ok(()), |message| self.merge_rest(message))?;
        Ok(message)
    }

    /// Has generated code read what is left, if anything is.
    fn merge_rest(self, message: &mut impl Message) -> Result<(), DecodeError> {
        match self.at == self.end {
            true => Ok(()),
            false => message.merge(self.bytes.slice(self.at..self.end)),
        }
    }
}

/// A length of up to four bytes, and what follows it.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    const LONGEST: usize = 4;
    let mut len = 0;
    for (i, byte) in bytes.iter().enumerate().take(LONGEST) {
        len |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((len, &bytes[i + 1..]));
        }
    }
    None
}
