//! Ziplists: what listpacks were before Redis 7.
//!
//! Total length and where the last entry is (four bytes each), number of entries (two, or 65535 for "count them"), the
//! entries, 0xff. An entry is the length of the one before, its encoding and its data. Little-endian but for the lengths
//! of strings.

use bytes::Bytes;

use super::Corrupt;
use super::reader::Reader;

const HEADER_BYTES: usize = 10;
const END: u8 = 0xff;
const LONG: u8 = 0xfe;
const UNCOUNTED: usize = 0xffff;

/// All entries; integers as text.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Bytes>, Corrupt> {
    let mut from = Reader::new(bytes);
    let (total, tail, count) = (from.u32()? as usize, from.u32()? as usize, usize::from(from.u16()?));
    if total != bytes.len() || bytes.last() != Some(&END) {
        return Err(Corrupt);
    }
    let mut entries = Vec::new();
    let (mut before, mut last) = (0, HEADER_BYTES);
    while from.left() > 1 {
        last = total - from.left();
        let told = match from.byte()? {
            END => return Err(Corrupt),
            LONG => from.u32()? as usize,
            short => usize::from(short),
        };
        if told != before {
            return Err(Corrupt);
        }
        entries.push(entry(&mut from)?);
        before = total - from.left() - last;
    }
    let counted = count == UNCOUNTED || count == entries.len();
    if from.byte()? == END && counted && tail == last { Ok(entries) } else { Err(Corrupt) }
}

fn entry(from: &mut Reader) -> Result<Bytes, Corrupt> {
    let first = from.byte()?;
    let low = usize::from(first & 0x3f);
    let len = match first >> 6 {
        0 => low,
        1 => low << 8 | usize::from(from.byte()?),
        2 => from.u32()?.swap_bytes() as usize,
        _ => {
            let int = match first {
                0xc0 => from.int(2)?,
                0xd0 => from.int(4)?,
                0xe0 => from.int(8)?,
                0xf0 => from.int(3)?,
                0xfe => from.int(1)?,
                0xf1..=0xfd => i64::from(first & 0x0f) - 1,
                _ => return Err(Corrupt),
            };
            return Ok(Bytes::from(int.to_string()));
        }
    };
    Ok(Bytes::copy_from_slice(from.take(len)?))
}
