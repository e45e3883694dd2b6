//! DUMP's payloads: a value in the format of Redis's RDB files, both ways.
//!
//! Written is what Redis 7.0 reads (RDB version 10), in the plainest form that it has for each type; only a hash with
//! fields that expire, which Redis 7.0 does not know, is written as Redis 7.4 does (version 12). Read is whatever Redis
//! from 3.2 to 7.4 writes for these types. A payload is untrusted: whatever its bytes, reading it ends in a value or in
//! an error, and takes memory in proportion to the bytes that are there (`reader` has the bounds).
//!
//! A payload is a type's number, the value, the version (two bytes, little-endian) and the CRC-64 of all before it.

mod listpack;
mod lzf;
mod reader;
mod stream;
mod value;
mod writer;
mod ziplist;

use bytes::Bytes;

use reader::Reader;
pub use stream::{Consumer, Delivery, Group, StreamContent, StreamId};
use writer::Writer;

use crate::slot::NEVER;

/// A value's elements, in order, apart from how either database keeps them.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A string.
    String(Bytes),
    /// A list's elements from the left.
    List(Vec<Bytes>),
    /// A set's elements.
    Set(Vec<Bytes>),
    /// A hash's fields, their values, and when they are gone in milliseconds since the Unix epoch ([`NEVER`]: not at
    /// all).
    Hash(Vec<(Bytes, Bytes, u64)>),
    /// A sorted set's elements and their scores.
    Zset(Vec<(Bytes, f64)>),
    /// A stream.
    Stream(Box<StreamContent>),
}

/// Why a payload is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is of a newer version, or its checksum is wrong.
    Footer,
    /// There is no value in it.
    Data,
}

/// What is read is not of the format; why does not matter to anybody but a debugger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Corrupt;

const CRC: crc::Crc<u64> = crc::Crc::<u64>::new(&crc::CRC_64_REDIS);

/// Redis 7.0.
const VERSION: u16 = 10;
/// Redis 7.4, the newest that is read.
const NEWEST_VERSION: u16 = 12;
const FOOTER_BYTES: usize = 10;

/// What stands before a function library's code.
const FUNCTION_LIBRARY: u8 = 245;

/// The types' numbers. Some have been written by older versions only.
mod kind {
    pub const STRING: u8 = 0;
    pub const LIST: u8 = 1;
    pub const SET: u8 = 2;
    pub const ZSET_TEXT: u8 = 3;
    pub const HASH: u8 = 4;
    pub const ZSET: u8 = 5;
    pub const LIST_ZIPLIST: u8 = 10;
    pub const SET_INTSET: u8 = 11;
    pub const ZSET_ZIPLIST: u8 = 12;
    pub const HASH_ZIPLIST: u8 = 13;
    pub const LIST_OF_ZIPLISTS: u8 = 14;
    pub const STREAM: u8 = 15;
    pub const HASH_LISTPACK: u8 = 16;
    pub const ZSET_LISTPACK: u8 = 17;
    pub const LIST_OF_LISTPACKS: u8 = 18;
    pub const STREAM_2: u8 = 19;
    pub const SET_LISTPACK: u8 = 20;
    pub const STREAM_3: u8 = 21;
    pub const TIMED_HASH: u8 = 24;
    pub const TIMED_HASH_LISTPACK: u8 = 25;
}

impl Content {
    /// The payload of it.
    pub fn dump(&self) -> Vec<u8> {
        let mut out = Writer::default();
        let version = self.write(&mut out);
        with_footer(out, version)
    }

    /// What `payload` holds: something that may be there, at least one element of a collection.
    pub fn load(payload: &[u8]) -> Result<Content, Refused> {
        let mut reader = Reader::new(without_footer(payload)?);
        let content = Content::read(&mut reader).map_err(|Corrupt| Refused::Data)?;
        if content.is_empty() || !reader.is_at_end() { Err(Refused::Data) } else { Ok(content) }
    }

    /// Whether no key can hold it.
    fn is_empty(&self) -> bool {
        match self {
            Content::String(_) | Content::Stream(_) => false,
            Content::List(elements) | Content::Set(elements) => elements.is_empty(),
            Content::Hash(fields) => fields.is_empty(),
            Content::Zset(elements) => elements.is_empty(),
        }
    }

    /// Writes type and value. The version that a reader must know.
    fn write(&self, out: &mut Writer) -> u16 {
        match self {
            Content::String(string) => {
                out.byte(kind::STRING);
                out.string(string);
            }
            Content::List(elements) => {
                out.byte(kind::LIST);
                out.each(elements, |out, element| out.string(element));
            }
            Content::Set(elements) => {
                out.byte(kind::SET);
                out.each(elements, |out, element| out.string(element));
            }
            Content::Zset(elements) => {
                out.byte(kind::ZSET);
                out.each(elements, |out, (element, score)| {
                    out.string(element);
                    out.raw(&score.to_le_bytes());
                });
            }
            Content::Hash(fields) => return write_hash(fields, out),
            Content::Stream(stream) => {
                out.byte(kind::STREAM_2);
                stream.write(out);
            }
        }
        VERSION
    }

    fn read(from: &mut Reader) -> Result<Content, Corrupt> {
        let content = match from.byte()? {
            kind::STRING => Content::String(from.string()?),
            kind::LIST => Content::List(from.each(Reader::string)?),
            kind::LIST_ZIPLIST => Content::List(from.ziplist()?),
            kind::LIST_OF_ZIPLISTS => Content::List(from.each(Reader::ziplist)?.concat()),
            kind::LIST_OF_LISTPACKS => Content::List(from.each(quicklist_node)?.concat()),
            kind::SET => Content::Set(from.each(Reader::string)?),
            kind::SET_INTSET => Content::Set(intset(&from.string()?)?),
            kind::SET_LISTPACK => Content::Set(from.listpack()?),
            kind::HASH => Content::Hash(from.each(|from| Ok((from.string()?, from.string()?, NEVER)))?),
            kind::HASH_ZIPLIST => fields(from.ziplist()?)?,
            kind::HASH_LISTPACK => fields(from.listpack()?)?,
            kind::TIMED_HASH => {
                let earliest = from.u64()?;
                Content::Hash(from.each(|from| timed_field(from, earliest))?)
            }
            kind::TIMED_HASH_LISTPACK => {
                from.u64()?;
                timed_fields(from.listpack()?)?
            }
            kind::ZSET => Content::Zset(from.each(|from| Ok((from.string()?, from.double()?)))?),
            kind::ZSET_TEXT => Content::Zset(from.each(|from| Ok((from.string()?, from.text_double()?)))?),
            kind::ZSET_ZIPLIST => scores(from.ziplist()?)?,
            kind::ZSET_LISTPACK => scores(from.listpack()?)?,
            kind::STREAM => Content::stream(from, 1)?,
            kind::STREAM_2 => Content::stream(from, 2)?,
            kind::STREAM_3 => Content::stream(from, 3)?,
            _ => return Err(Corrupt),
        };
        match &content {
            Content::Zset(elements) if elements.iter().any(|(_, score)| score.is_nan()) => Err(Corrupt),
            _ => Ok(content),
        }
    }

    fn stream(from: &mut Reader, form: u8) -> Result<Content, Corrupt> {
        Ok(Content::Stream(Box::new(StreamContent::read(from, form)?)))
    }
}

/// The payload of function libraries, of which only their code is told.
pub fn dump_libraries<'a>(codes: impl Iterator<Item = &'a Bytes>) -> Vec<u8> {
    let mut out = Writer::default();
    for code in codes {
        out.byte(FUNCTION_LIBRARY);
        out.plain(code);
    }
    with_footer(out, VERSION)
}

/// The code of the libraries that `payload` holds.
pub fn load_libraries(payload: &[u8]) -> Result<Vec<Bytes>, Refused> {
    let mut reader = Reader::new(without_footer(payload)?);
    let mut codes = Vec::new();
    while !reader.is_at_end() {
        match reader.byte() {
            Ok(FUNCTION_LIBRARY) => codes.push(reader.string().map_err(|Corrupt| Refused::Data)?),
            _ => return Err(Refused::Data),
        }
    }
    Ok(codes)
}

fn with_footer(body: Writer, version: u16) -> Vec<u8> {
    let mut payload = body.into_bytes();
    payload.extend(version.to_le_bytes());
    payload.extend(CRC.checksum(&payload).to_le_bytes());
    payload
}

/// The payload's body, if its version is known and its checksum right.
fn without_footer(payload: &[u8]) -> Result<&[u8], Refused> {
    let body = payload.len().checked_sub(FOOTER_BYTES).ok_or(Refused::Footer)?;
    let (body, footer) = payload.split_at(body);
    let version = u16::from_le_bytes([footer[0], footer[1]]);
    let sum = CRC.checksum(&payload[..payload.len() - 8]).to_le_bytes();
    if version > NEWEST_VERSION || footer[2..] != sum {
        return Err(Refused::Footer);
    }
    Ok(body)
}

fn write_hash(fields: &[(Bytes, Bytes, u64)], out: &mut Writer) -> u16 {
    let earliest = fields.iter().map(|(_, _, expire_ms)| *expire_ms).min().unwrap_or(NEVER);
    if earliest == NEVER {
        out.byte(kind::HASH);
        out.each(fields, |out, (name, value, _)| {
            out.string(name);
            out.string(value);
        });
        return VERSION;
    }
    out.byte(kind::TIMED_HASH);
    out.raw(&earliest.to_le_bytes());
    out.each(fields, |out, (name, value, expire_ms)| {
        out.len(if *expire_ms == NEVER { 0 } else { expire_ms - earliest + 1 });
        out.string(name);
        out.string(value);
    });
    NEWEST_VERSION
}

/// A field whose time is counted from one before `earliest`; 0 is none.
fn timed_field(from: &mut Reader, earliest: u64) -> Result<(Bytes, Bytes, u64), Corrupt> {
    let expire_ms = match from.len()? {
        0 => NEVER,
        after => earliest.checked_add(after - 1).ok_or(Corrupt)?,
    };
    Ok((from.string()?, from.string()?, expire_ms))
}

fn quicklist_node(from: &mut Reader) -> Result<Vec<Bytes>, Corrupt> {
    const PLAIN: u64 = 1;
    const PACKED: u64 = 2;
    match from.len()? {
        PLAIN => Ok(vec![from.string()?]),
        PACKED => from.listpack(),
        _ => Err(Corrupt),
    }
}

fn fields(words: Vec<Bytes>) -> Result<Content, Corrupt> {
    let (pairs, []) = words.as_chunks() else { return Err(Corrupt) };
    Ok(Content::Hash(pairs.iter().map(|[name, value]| (name.clone(), value.clone(), NEVER)).collect()))
}

fn timed_fields(words: Vec<Bytes>) -> Result<Content, Corrupt> {
    let (triples, []) = words.as_chunks() else { return Err(Corrupt) };
    let field = |[name, value, time]: &[Bytes; 3]| {
        let time = crate::value::number::parse_int(time).and_then(|time| u64::try_from(time).ok());
        let expire_ms = time.map(|time| if time == 0 { NEVER } else { time }).ok_or(Corrupt)?;
        Ok((name.clone(), value.clone(), expire_ms))
    };
    Ok(Content::Hash(triples.iter().map(field).collect::<Result<_, _>>()?))
}

fn scores(words: Vec<Bytes>) -> Result<Content, Corrupt> {
    let (pairs, []) = words.as_chunks() else { return Err(Corrupt) };
    let element = |[element, score]: &[Bytes; 2]| {
        Ok((element.clone(), crate::value::number::parse_float(score).ok_or(Corrupt)?))
    };
    Ok(Content::Zset(pairs.iter().map(element).collect::<Result<_, _>>()?))
}

/// A set of integers: their width in bytes and their number (four bytes each), then they, all little-endian.
fn intset(bytes: &[u8]) -> Result<Vec<Bytes>, Corrupt> {
    let mut from = Reader::new(bytes);
    let (width, count) = (from.u32()? as usize, from.u32()? as usize);
    if ![2, 4, 8].contains(&width) || bytes.len() != width.checked_mul(count).ok_or(Corrupt)? + 8 {
        return Err(Corrupt);
    }
    (0..count).map(|_| Ok(Bytes::from(from.int(width)?.to_string()))).collect()
}

#[cfg(test)]
mod tests;
