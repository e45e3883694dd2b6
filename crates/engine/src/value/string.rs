//! Strings: immutable and compact until a command changes one in place.

use std::sync::Arc;

use bytes::Bytes;

/// The longest string, in bytes (Redis's default `proto-max-bulk-len`).
pub const MAX_STRING_BYTES: usize = 512 * 1024 * 1024;

/// A string value. A short one stands within the object itself; SET stores a longer one at its exact size, and so that
/// clones share it if it is worth the counters; APPEND, SETRANGE and SETBIT turn it into a growable one, so that
/// building a string piece by piece costs no copy for each piece.
#[derive(Clone, Debug)]
pub struct StringValue(Repr);

/// What is left of a [`crate::value::Value`] beside its tag and a length.
const INLINE_BYTES: usize = 22;

#[derive(Clone, Debug)]
enum Repr {
    Inline(u8, [u8; INLINE_BYTES]),
    Exact(Box<[u8]>),
    Shared(Arc<[u8]>),
    Growable(Arc<Vec<u8>>),
    /// Some bytes of a longer piece of memory.
    Part(Box<Bytes>),
}

/// From this size on, clones share a value instead of copying it.
const COUNTED_BYTES: usize = 512;

/// From this size on, a value is left where it came, in the entry that brought it, of which it is most.
const LEFT_BYTES: usize = 16 << 20;

/// From this size on, a reply shares the value instead of copying it.
const SHARE_BYTES: usize = 4096;

impl StringValue {
    /// A string that is left where a call's `word` is, if copying it takes long.
    pub fn left(word: &Bytes) -> Option<StringValue> {
        (word.len() >= LEFT_BYTES).then(|| StringValue(Repr::Part(Box::new(word.clone()))))
    }

    /// A string of `bytes`, copied: a value does not pin the entry it came in, unless it is most of it ([`StringValue::left`]).
    pub fn new(bytes: &[u8]) -> StringValue {
        if bytes.len() >= COUNTED_BYTES {
            return StringValue(Repr::Shared(Arc::from(bytes)));
        }
        if bytes.len() > INLINE_BYTES {
            return StringValue(Repr::Exact(Box::from(bytes)));
        }
        let mut inline = [0; INLINE_BYTES];
        inline[..bytes.len()].copy_from_slice(bytes);
        StringValue(Repr::Inline(bytes.len() as u8, inline))
    }

    /// Makes it a string of `bytes`, as [`StringValue::new`] does, in the memory of the old one if that is its own and fits.
    pub fn replace(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Repr::Exact(old) if old.len() == bytes.len() => old.copy_from_slice(bytes),
            _ => *self = StringValue::new(bytes),
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline(len, bytes) => &bytes[..usize::from(*len)],
            Repr::Exact(bytes) => bytes,
            Repr::Shared(bytes) => bytes,
            Repr::Growable(bytes) => bytes,
            Repr::Part(bytes) => bytes,
        }
    }

    /// What it takes besides the object it stands in, in bytes: a function of the content alone.
    pub fn bytes(&self) -> usize {
        match self.as_bytes().len() {
            ..=INLINE_BYTES => 0,
            len => len,
        }
    }

    /// The bytes as a reply's.
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Repr::Shared(bytes) if bytes.len() >= SHARE_BYTES => Bytes::from_owner(Arc::clone(bytes)),
            Repr::Part(bytes) => Bytes::clone(bytes),
            _ => Bytes::copy_from_slice(self.as_bytes()),
        }
    }

    /// Whether it has been changed in place, which Redis's OBJECT ENCODING shows.
    pub fn is_grown(&self) -> bool {
        matches!(self.0, Repr::Growable(_))
    }

    /// The bytes, to change in place. The caller keeps them within [`MAX_STRING_BYTES`].
    pub fn make_mut(&mut self) -> &mut Vec<u8> {
        if !matches!(self.0, Repr::Growable(_)) {
            self.0 = Repr::Growable(Arc::new(self.as_bytes().to_vec()));
        }
        match &mut self.0 {
            Repr::Growable(bytes) => Arc::make_mut(bytes),
            _ => unreachable!("made growable above"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::Value;

    #[derive(Clone, Debug)]
    enum Op {
        Set(usize),
        Append(usize),
        Overwrite(prop::sample::Index),
        Keep,
    }

    proptest! {
        #[test]
        fn a_clone_stays_as_it_was(
            ops in prop::collection::vec(
                prop_oneof![
                    (0usize..6000).prop_map(Op::Set),
                    (0usize..600).prop_map(Op::Append),
                    any::<prop::sample::Index>().prop_map(Op::Overwrite),
                    Just(Op::Keep),
                ],
                1..40,
            ),
        ) {
            let (mut string, mut model, mut kept) = (StringValue::new(b""), Vec::new(), Vec::new());
            for (step, op) in ops.into_iter().enumerate() {
                let byte = step as u8;
                match op {
                    Op::Set(len) => {
                        model = vec![byte; len];
                        string = StringValue::new(&model);
                    }
                    Op::Append(len) => {
                        model.extend(vec![byte; len]);
                        string.make_mut().extend(vec![byte; len]);
                    }
                    Op::Overwrite(at) if !model.is_empty() => {
                        let at = at.index(model.len());
                        model[at] = byte;
                        string.make_mut()[at] = byte;
                    }
                    Op::Overwrite(_) | Op::Keep => kept.push((string.clone(), string.to_bytes(), model.clone())),
                }
                prop_assert_eq!(string.as_bytes(), &model[..]);
            }
            for (string, reply, model) in kept {
                prop_assert_eq!(string.as_bytes(), &model[..]);
                prop_assert_eq!(&reply[..], &model[..]);
            }
        }
    }

    #[test]
    fn short_strings_make_no_value_larger() {
        assert_eq!(size_of::<Value>(), 24);
    }

    #[test]
    fn every_form_holds_the_same_bytes() {
        for len in [
            0,
            1,
            INLINE_BYTES,
            INLINE_BYTES + 1,
            COUNTED_BYTES - 1,
            COUNTED_BYTES,
            SHARE_BYTES,
            SHARE_BYTES + 1,
        ] {
            let bytes = vec![7u8; len];
            let mut string = StringValue::new(&bytes);
            let before = string.clone();
            string.make_mut().push(8);
            assert_eq!(before.as_bytes(), bytes);
            assert_eq!(before.to_bytes(), bytes);
            assert_eq!(string.as_bytes(), [&bytes[..], &[8]].concat());
        }
    }
}
