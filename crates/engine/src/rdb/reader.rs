//! Reads the parts of a payload.
//!
//! Bounds: what a payload claims is never believed before the bytes are there, since every element takes at least one;
//! only compression makes more of fewer, and what it may make of one payload is [`MAX_UNPACKED_BYTES`] in all.

use bytes::Bytes;

use super::{Corrupt, listpack, lzf, ziplist};
use crate::value::number;
use crate::value::string::MAX_STRING_BYTES;

/// All compressed strings of a payload together, in bytes.
const MAX_UNPACKED_BYTES: usize = MAX_STRING_BYTES;

pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// How much may yet be unpacked.
    unpackable: usize,
}

/// What a length's first byte tells.
enum Length {
    Of(u64),
    /// A string in this encoding follows.
    Encoded(u8),
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes, unpackable: MAX_UNPACKED_BYTES }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Corrupt> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Corrupt)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Corrupt)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Corrupt> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, Corrupt> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Corrupt> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Corrupt> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(super) fn u64_be(&mut self) -> Result<u64, Corrupt> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A little-endian signed integer of `width` bytes, 1 to 8.
    pub(super) fn int(&mut self, width: usize) -> Result<i64, Corrupt> {
        let mut bytes = [0; 8];
        bytes[8 - width..].copy_from_slice(self.take(width)?);
        Ok(i64::from_le_bytes(bytes) >> (64 - 8 * width))
    }

    pub(super) fn double(&mut self) -> Result<f64, Corrupt> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// A number as text behind its length, as versions before 8 wrote scores.
    pub(super) fn text_double(&mut self) -> Result<f64, Corrupt> {
        match self.byte()? {
            253 => Err(Corrupt),
            254 => Ok(f64::INFINITY),
            255 => Ok(f64::NEG_INFINITY),
            len => number::parse_float(self.take(usize::from(len))?).ok_or(Corrupt),
        }
    }

    fn length(&mut self) -> Result<Length, Corrupt> {
        let first = self.byte()?;
        Ok(match (first >> 6, first & 0x3f) {
            (0, len) => Length::Of(u64::from(len)),
            (1, high) => Length::Of(u64::from(high) << 8 | u64::from(self.byte()?)),
            (2, 0) => Length::Of(u64::from(u32::from_be_bytes(self.array()?))),
            (2, 1) => Length::Of(self.u64_be()?),
            (3, encoding) => Length::Encoded(encoding),
            _ => return Err(Corrupt),
        })
    }

    /// A number in the format's length encoding.
    pub(super) fn len(&mut self) -> Result<u64, Corrupt> {
        match self.length()? {
            Length::Of(len) => Ok(len),
            Length::Encoded(_) => Err(Corrupt),
        }
    }

    /// As many items as the number at the head says.
    pub(super) fn each<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, Corrupt>,
    ) -> Result<Vec<T>, Corrupt> {
        let count = self.len()?;
        // Every item takes a byte at least.
        if count > self.left() as u64 {
            return Err(Corrupt);
        }
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    /// A string: plain, an integer, or compressed.
    pub(super) fn string(&mut self) -> Result<Bytes, Corrupt> {
        match self.length()? {
            Length::Of(len) if len <= MAX_STRING_BYTES as u64 => {
                Ok(Bytes::copy_from_slice(self.take(len as usize)?))
            }
            Length::Encoded(encoding @ 0..=2) => Ok(Bytes::from(self.int(1 << encoding)?.to_string())),
            Length::Encoded(3) => {
                let (packed, len) = (self.len()?, self.len()?);
                let packed = self.take(usize::try_from(packed).map_err(|_| Corrupt)?)?;
                let len = usize::try_from(len).map_err(|_| Corrupt)?;
                if len > MAX_STRING_BYTES {
                    return Err(Corrupt);
                }
                self.unpackable = self.unpackable.checked_sub(len).ok_or(Corrupt)?;
                Ok(Bytes::from(lzf::unpack(packed, len)?))
            }
            Length::Of(_) | Length::Encoded(_) => Err(Corrupt),
        }
    }

    /// The entries of a listpack that stands in a string.
    pub(super) fn listpack(&mut self) -> Result<Vec<Bytes>, Corrupt> {
        listpack::read(&self.string()?)
    }

    /// The entries of a ziplist that stands in a string.
    pub(super) fn ziplist(&mut self) -> Result<Vec<Bytes>, Corrupt> {
        ziplist::read(&self.string()?)
    }
}
