//! Bits of a byte string. Bit 0 is the most significant one of the first byte; behind the last byte all are clear.

/// Bits `first` to `last`, both of which are in the string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitRange {
    /// The first.
    pub first: u64,
    /// The last, not before the first.
    pub last: u64,
}

impl BitRange {
    /// All of `string`'s bits; `None` if it has none.
    pub fn whole(string: &[u8]) -> Option<BitRange> {
        (!string.is_empty()).then(|| BitRange { first: 0, last: string.len() as u64 * 8 - 1 })
    }

    /// The bytes it touches, with bits outside of it set to those of `outside`.
    fn bytes(self, string: &[u8], outside: u8) -> (u8, &[u8], Option<u8>) {
        let (first, last) = ((self.first / 8) as usize, (self.last / 8) as usize);
        let (head, tail) = (0xff >> (self.first % 8), !(0x7f_u8 >> (self.last % 8)));
        let masked = |byte: u8, mask: u8| byte & mask | outside & !mask;
        match first == last {
            true => (masked(string[first], head & tail), &[], None),
            false => {
                (masked(string[first], head), &string[first + 1..last], Some(masked(string[last], tail)))
            }
        }
    }
}

/// How many bits of `range` are set.
pub fn count(string: &[u8], range: BitRange) -> u64 {
    let (head, middle, tail) = range.bytes(string, 0);
    let (words, rest) = middle.as_chunks::<8>();
    let edges = rest.iter().chain(&tail).fold(head.count_ones(), |sum, byte| sum + byte.count_ones());
    words.iter().fold(u64::from(edges), |sum, word| sum + u64::from(u64::from_ne_bytes(*word).count_ones()))
}

/// The first bit of `range` that is `bit`.
pub fn find(string: &[u8], range: BitRange, bit: bool) -> Option<u64> {
    // Looked for as a set bit: a byte without one is 0 then.
    let flip = if bit { 0x00 } else { 0xff };
    let (head, middle, tail) = range.bytes(string, flip);
    let first = range.first / 8;
    let at = |byte: u64, value: u8| byte * 8 + u64::from((value ^ flip).leading_zeros());
    if head != flip {
        return Some(at(first, head));
    }
    let (words, _) = middle.as_chunks::<8>();
    let skipped = words.iter().take_while(|word| **word == [flip; 8]).count() * 8;
    let found = middle[skipped..].iter().position(|byte| *byte != flip).map(|found| skipped + found);
    if let Some(found) = found {
        return Some(at(first + 1 + found as u64, middle[found]));
    }
    tail.filter(|tail| *tail != flip).map(|tail| at(range.last / 8, tail))
}

/// The `width` bits (1 to 64) at `offset` as an unsigned integer.
pub fn get(string: &[u8], offset: u64, width: u32) -> u64 {
    let mut window = [0; 16];
    let from = string.get((offset / 8) as usize..).unwrap_or_default();
    let len = from.len().min(9);
    window[..len].copy_from_slice(&from[..len]);
    let bits = u128::from_be_bytes(window) << (offset % 8);
    (bits >> (128 - width)) as u64
}

/// Sets the `width` bits (1 to 64) at `offset`, which are in the string, to the lowest of `value`.
pub fn set(string: &mut [u8], offset: u64, width: u32, value: u64) {
    let first = (offset / 8) as usize;
    let len = (offset % 8 + u64::from(width)).div_ceil(8) as usize;
    let place = &mut string[first..first + len];
    let mut window = [0; 16];
    window[..len].copy_from_slice(place);
    let shift = 128 - width - (offset % 8) as u32;
    let mask = (u128::MAX >> (128 - width)) << shift;
    let bits = u128::from_be_bytes(window) & !mask | (u128::from(value) << shift) & mask;
    place.copy_from_slice(&bits.to_be_bytes()[..len]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bit(string: &[u8], offset: u64) -> bool {
        string[(offset / 8) as usize] & (0x80 >> (offset % 8)) != 0
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        // Long runs of equal bytes, so that searches have something to skip.
        let runs = (prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 1usize..30);
        proptest::collection::vec(runs, 1..8)
            .prop_map(|runs| runs.into_iter().flat_map(|(byte, times)| vec![byte; times]).collect())
    }

    fn string_and_range() -> impl Strategy<Value = (Vec<u8>, BitRange)> {
        bytes().prop_flat_map(|string| {
            let bits = string.len() as u64 * 8;
            (Just(string), 0..bits, 0..bits)
                .prop_map(|(string, a, b)| (string, BitRange { first: a.min(b), last: a.max(b) }))
        })
    }

    proptest! {
        #[test]
        fn bits_are_counted_and_found_as_one_by_one((string, range) in string_and_range()) {
            let set = (range.first..=range.last).filter(|at| bit(&string, *at)).count();
            prop_assert_eq!(count(&string, range), set as u64);
            for wanted in [false, true] {
                let found = (range.first..=range.last).find(|at| bit(&string, *at) == wanted);
                prop_assert_eq!(find(&string, range, wanted), found);
            }
        }

        #[test]
        fn an_integer_is_set_and_its_neighbours_stay(
            (string, range) in string_and_range(),
            value: u64,
        ) {
            let width = (range.last - range.first + 1).min(64) as u32;
            let mut changed = string.clone();
            set(&mut changed, range.first, width, value);
            prop_assert_eq!(get(&changed, range.first, width), value & (u64::MAX >> (64 - width)));
            for at in 0..string.len() as u64 * 8 {
                if !(range.first..range.first + u64::from(width)).contains(&at) {
                    prop_assert_eq!(bit(&string, at), bit(&changed, at));
                }
            }
        }
    }
}
