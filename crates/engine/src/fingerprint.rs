//! Fingerprints of what keys hold: equal for equal content, however it came about. The order of a set or hash does not
//! count, and so they are not what replicas compare ([`crate::digest`]).
//!
//! A collection without order has the exclusive or of its elements' digests, and so have the keys of a group, and groups.

use sha1::{Digest as _, Sha1};

use crate::keyspace::Keyspace;
use crate::rdb::Content;
use crate::slot::{NEVER, Object};

/// A SHA-1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint([u8; 20]);

impl Fingerprint {
    /// In hexadecimal.
    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What [`Fingerprint::to_hex`] gave.
    pub fn from_hex(text: &[u8]) -> Option<Fingerprint> {
        let (pairs, []) = text.as_chunks::<2>() else { return None };
        let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes = pairs.iter().map(byte).collect::<Option<Vec<u8>>>()?;
        bytes.try_into().ok().map(Fingerprint)
    }

    /// The fingerprint of what both stand for, in whatever order.
    pub fn with(self, other: Fingerprint) -> Fingerprint {
        Fingerprint(std::array::from_fn(|i| self.0[i] ^ other.0[i]))
    }

    /// Of parts in order.
    fn of<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Fingerprint {
        let mut sha = Sha1::new();
        for part in parts {
            // With its length, so that no two sequences of parts are the same bytes.
            sha.update((part.as_ref().len() as u64).to_le_bytes());
            sha.update(part);
        }
        Fingerprint(sha.finalize().into())
    }

    /// Of digests in whatever order.
    fn sum(digests: impl Iterator<Item = Fingerprint>) -> Fingerprint {
        digests.fold(Fingerprint::default(), Fingerprint::with)
    }
}

/// The fingerprint of all keys.
pub fn of_keys(keys: &Keyspace) -> Fingerprint {
    Fingerprint::sum(keys.iter().map(|(key, object)| {
        let value = of_object(object, keys.now_ms());
        Fingerprint::of([&key[..], &value.0])
    }))
}

/// The fingerprint of a key's value and of whether it expires.
pub fn of_object(object: &Object, now_ms: u64) -> Fingerprint {
    let content = of_content(&Content::of(&object.value, now_ms));
    let expires = [u8::from(object.expire_ms != NEVER)];
    Fingerprint::of([object.value.type_name().as_bytes(), &content.0, &expires])
}

fn of_content(content: &Content) -> Fingerprint {
    match content {
        Content::String(string) => Fingerprint::of([string]),
        Content::List(elements) => Fingerprint::of(elements),
        Content::Set(elements) => Fingerprint::sum(elements.iter().map(|element| Fingerprint::of([element]))),
        Content::Hash(fields) => Fingerprint::sum(fields.iter().map(|(name, value, expire_ms)| {
            Fingerprint::of([&name[..], &value[..], &[u8::from(*expire_ms != NEVER)]])
        })),
        Content::Zset(elements) => Fingerprint::sum(
            elements
                .iter()
                .map(|(element, score)| Fingerprint::of([&element[..], &score.to_bits().to_le_bytes()])),
        ),
        // A stream is all order.
        Content::Stream(_) => Fingerprint::of([content.dump()]),
    }
}
