//! Listpacks: Redis's compact sequences of strings and integers.
//!
//! Total length (four bytes), number of entries (two, or 65535 for "count them"), the entries, 0xff. An entry is its
//! encoding, its data, and the length of both, so that one can go backwards. All little-endian.

use bytes::Bytes;

use super::Corrupt;
use super::reader::Reader;
use crate::value::number;

const HEADER_BYTES: usize = 6;
const END: u8 = 0xff;
const UNCOUNTED: usize = 0xffff;

/// All entries; integers as text.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Bytes>, Corrupt> {
    let mut from = Reader::new(bytes);
    let (total, count) = (from.u32()? as usize, usize::from(from.u16()?));
    if total != bytes.len() || bytes.last() != Some(&END) {
        return Err(Corrupt);
    }
    let mut entries = Vec::new();
    while from.left() > 1 {
        let before = from.left();
        entries.push(entry(&mut from)?);
        let length = back_length(before - from.left());
        if from.take(length.len())? != length {
            return Err(Corrupt);
        }
    }
    let counted = count == UNCOUNTED || count == entries.len();
    if from.byte()? == END && counted { Ok(entries) } else { Err(Corrupt) }
}

/// Encoding and data of an entry.
fn entry(from: &mut Reader) -> Result<Bytes, Corrupt> {
    let first = from.byte()?;
    let string = |from: &mut Reader, len: usize| Ok(Bytes::copy_from_slice(from.take(len)?));
    let int = |int: i64| Ok(Bytes::from(int.to_string()));
    let low = |bits: u8| usize::from(first & ((1 << bits) - 1));
    match first {
        0x00..=0x7f => int(i64::from(first)),
        0x80..=0xbf => string(from, low(6)),
        0xc0..=0xdf => {
            let unsigned = (low(5) << 8 | usize::from(from.byte()?)) as i64;
            int(unsigned << 51 >> 51)
        }
        0xe0..=0xef => {
            let len = low(4) << 8 | usize::from(from.byte()?);
            string(from, len)
        }
        0xf0 => {
            let len = from.u32()? as usize;
            string(from, len)
        }
        0xf1 => int(from.int(2)?),
        0xf2 => int(from.int(3)?),
        0xf3 => int(from.int(4)?),
        0xf4 => int(from.int(8)?),
        _ => Err(Corrupt),
    }
}

/// An entry's length as it stands behind it: seven bits to a byte, the highest first, the top bit in all but the first.
fn back_length(len: usize) -> Vec<u8> {
    let bytes = match len {
        ..128 => 1,
        128..16_383 => 2,
        16_383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    };
    let byte = |i: usize| (len >> (7 * (bytes - 1 - i))) as u8 & 0x7f | if i > 0 { 0x80 } else { 0 };
    (0..bytes).map(byte).collect()
}

/// Makes a listpack.
pub(super) struct Builder {
    bytes: Vec<u8>,
    count: usize,
}

impl Builder {
    pub(super) fn new() -> Builder {
        Builder { bytes: vec![0; HEADER_BYTES], count: 0 }
    }

    /// Appends a string; an integer as such, as Redis does.
    pub(super) fn push(&mut self, string: &[u8]) {
        match number::parse_int(string) {
            Some(int) => self.push_int(int),
            None => {
                let len = string.len();
                let mut entry = match len {
                    ..64 => vec![0x80 | len as u8],
                    64..4096 => vec![0xe0 | (len >> 8) as u8, len as u8],
                    _ => [&[0xf0][..], &(len as u32).to_le_bytes()].concat(),
                };
                entry.extend_from_slice(string);
                self.append(&entry);
            }
        }
    }

    pub(super) fn push_int(&mut self, int: i64) {
        let bytes = int.to_le_bytes();
        let wide = |code: u8, width: usize| [&[code][..], &bytes[..width]].concat();
        let entry = match int {
            0..128 => vec![int as u8],
            -4096..4096 => vec![0xc0 | (int >> 8) as u8 & 0x1f, int as u8],
            -0x8000..0x8000 => wide(0xf1, 2),
            -0x80_0000..0x80_0000 => wide(0xf2, 3),
            -0x8000_0000..0x8000_0000 => wide(0xf3, 4),
            _ => wide(0xf4, 8),
        };
        self.append(&entry);
    }

    fn append(&mut self, entry: &[u8]) {
        self.bytes.extend_from_slice(entry);
        self.bytes.extend(back_length(entry.len()));
        self.count += 1;
    }

    /// The listpack.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.push(END);
        let total = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&total.to_le_bytes());
        self.bytes[4..HEADER_BYTES].copy_from_slice(&(self.count.min(UNCOUNTED) as u16).to_le_bytes());
        self.bytes
    }
}
