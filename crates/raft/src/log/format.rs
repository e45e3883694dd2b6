//! The log's bytes: segment headers, batches, records. docs/internals/disk-format.md draws them.
//!
//! All integers are little-endian. Nothing here does I/O or keeps state.

use bytes::{Buf, Bytes};

/// Headers begin at multiples of this, and no header crosses one.
pub use crate::env::disk::SECTOR;

/// Format written by this build; a higher one is refused.
pub const VERSION: u32 = 1;

const SEGMENT_MAGIC: &[u8; 8] = b"quorisLG";
const SEGMENT_HEADER: usize = 48;
const BATCH_MAGIC: &[u8; 4] = b"qBat";
/// Bytes before a batch's records.
pub const BATCH_HEADER: usize = 40;
/// Bytes before a record's payload.
pub const RECORD_HEADER: usize = 17;

/// First sector of a segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The segment's number, one more than its predecessor's; the file is named after it.
    pub segment: u64,
    /// Sequence number of the first batch in it.
    pub first_batch: u64,
    /// Goes into every checksum in the segment, so that bytes of the file's former lives never pass.
    pub salt: u64,
    /// The file's length.
    pub len: u64,
}

/// Why a segment's first sector cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Not what was written.
    Invalid,
    /// Written by a newer build, in this format.
    Newer(u32),
}

impl SegmentHeader {
    /// The header's sector.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SECTOR as usize);
        out.extend_from_slice(SEGMENT_MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for field in [self.segment, self.first_batch, self.salt, self.len] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        let crc = crc32fast::hash(&out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out.resize(SECTOR as usize, 0);
        out
    }

    /// Reads a segment's first sector.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, HeaderError> {
        let Some(head) = bytes.get(..SEGMENT_HEADER) else { return Err(HeaderError::Invalid) };
        let mut plain = head.to_vec();
        plain[12..16].fill(0);
        if &head[..8] != SEGMENT_MAGIC || u32_at(head, 12) != crc32fast::hash(&plain) {
            return Err(HeaderError::Invalid);
        }
        match u32_at(head, 8) {
            VERSION => Ok(SegmentHeader {
                segment: u64_at(head, 16),
                first_batch: u64_at(head, 24),
                salt: u64_at(head, 32),
                len: u64_at(head, 40),
            }),
            newer => Err(HeaderError::Newer(newer)),
        }
    }
}

/// What precedes a batch's records. A batch is written by one write and made durable by one fsync before the
/// next is begun: so a header with sequence number `n` proves that every batch below `n` was durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchHeader {
    /// Running number over the whole log, from 1.
    pub seq: u64,
    /// The oldest segment the log still needs once this batch is durable.
    pub oldest: u64,
    /// Bytes of records; 0 makes it a *seal*, which only proves that its predecessors were durable, and which
    /// the next batch, of the same number, overwrites.
    pub body_len: u32,
    /// Checksum of the records.
    pub body_crc: u32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`, if it is one of the segment with this salt.
    pub fn decode(bytes: &[u8], salt: u64) -> Option<BatchHeader> {
        let head = bytes.get(..BATCH_HEADER)?;
        if &head[..4] != BATCH_MAGIC || u32_at(head, 4) != header_crc(head, salt) {
            return None;
        }
        Some(BatchHeader {
            seq: u64_at(head, 8),
            oldest: u64_at(head, 16),
            body_len: u32_at(head, 24),
            body_crc: u32_at(head, 28),
        })
    }

    /// Writes the header into the first bytes of `out`.
    pub fn encode_into(&self, out: &mut [u8], salt: u64) {
        out[..4].copy_from_slice(BATCH_MAGIC);
        out[8..16].copy_from_slice(&self.seq.to_le_bytes());
        out[16..24].copy_from_slice(&self.oldest.to_le_bytes());
        out[24..28].copy_from_slice(&self.body_len.to_le_bytes());
        out[28..32].copy_from_slice(&self.body_crc.to_le_bytes());
        out[32..BATCH_HEADER].fill(0);
        let crc = header_crc(&out[..BATCH_HEADER], salt);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
    }
}

fn header_crc(head: &[u8], salt: u64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&salt.to_le_bytes());
    crc.update(&head[8..]);
    crc.finalize()
}

/// Bytes a batch with so many bytes of records takes, padding included.
pub fn batch_len(body_len: usize) -> u64 {
    ((BATCH_HEADER + body_len) as u64).next_multiple_of(SECTOR)
}

/// A batch without records, as one sector.
pub fn seal(seq: u64, oldest: u64, salt: u64) -> Vec<u8> {
    let mut out = vec![0; SECTOR as usize];
    BatchHeader { seq, oldest, body_len: 0, body_crc: crc32fast::hash(&[]) }.encode_into(&mut out, salt);
    out
}

/// What a record does to its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Adds the entry `index`.
    Entry = 1,
    /// Drops the entries after `index`.
    TruncateAfter = 2,
    /// Drops all entries.
    Clear = 3,
    /// Drops the entries up to `index`; the payload says what they were.
    Purge = 4,
    /// Like `Clear`, then `Purge`.
    Reset = 5,
    /// Replaces the vote.
    Vote = 6,
    /// Replaces the committed position.
    Committed = 7,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        use Kind::*;
        [Entry, TruncateAfter, Clear, Purge, Reset, Vote, Committed].into_iter().find(|k| *k as u8 == byte)
    }
}

/// Bytes in two pieces, one behind the other: an entry's body is shared with everybody else who holds the entry, and only its
/// head is made for the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Payload {
    /// The first of them; none if all stand in the body, as of what was read from disk.
    pub head: Bytes,
    /// The others.
    pub body: Bytes,
}

impl From<Bytes> for Payload {
    fn from(body: Bytes) -> Payload {
        Payload { head: Bytes::new(), body }
    }
}

impl Payload {
    /// How many there are.
    pub fn size(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// All of them, one after another.
    pub fn into_buf(self) -> impl Buf {
        self.head.chain(self.body)
    }

    /// Their checksum (CRC-32).
    pub fn checksum(&self) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.head);
        crc.update(&self.body);
        crc.finalize()
    }
}

/// One change of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The group it changes.
    pub group: u32,
    /// What it does.
    pub kind: Kind,
    /// The log index it is about; 0 where there is none.
    pub index: u64,
    /// Opaque to the log.
    pub payload: Payload,
}

impl Record {
    /// Bytes the record takes in a batch.
    pub fn size(&self) -> usize {
        RECORD_HEADER + self.payload.size()
    }

    /// Appends the record to a batch's records.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.push(self.kind as u8);
        out.extend_from_slice(&self.group.to_le_bytes());
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&(self.payload.size() as u32).to_le_bytes());
        out.extend_from_slice(&self.payload.head);
        out.extend_from_slice(&self.payload.body);
    }
}

/// Reads a batch's records; yields each with its payload's position in `body`, `None` for bytes that are none.
pub fn records(body: &[u8]) -> impl Iterator<Item = Option<(Record, usize)>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= body.len() {
            return None;
        }
        let record = decode_record(body, at);
        at = record.as_ref().map_or(body.len(), |(record, payload)| payload + record.payload.size());
        Some(record)
    })
}

fn decode_record(body: &[u8], at: usize) -> Option<(Record, usize)> {
    let head = body.get(at..at + RECORD_HEADER)?;
    let payload = at + RECORD_HEADER;
    let bytes = body.get(payload..payload + u32_at(head, 13) as usize)?;
    let record = Record {
        kind: Kind::from_byte(head[0])?,
        group: u32_at(head, 1),
        index: u64_at(head, 5),
        payload: Bytes::copy_from_slice(bytes).into(),
    };
    Some((record, payload))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
