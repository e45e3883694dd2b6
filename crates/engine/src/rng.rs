//! The seeded generator behind SPOP, RANDOMKEY and their like: same seed, same numbers, on every replica.

use std::collections::BTreeSet;

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator for call number `call` of a batch whose stamp carries `seed`.
    pub fn for_call(seed: u64, call: u64) -> Rng {
        let mut rng = Rng(seed ^ call.wrapping_mul(0xA076_1D64_78BD_642F));
        rng.next_u64();
        rng
    }

    /// The next number, uniform over all of `u64`.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..bound` (bias below 2^-32 for any bound a collection can have). `bound` must not be 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// `count` different numbers of `0..bound`, or all of them if there are no more. Floyd's sampling without
    /// replacement (Bentley, "Programming Pearls", CACM 30:9, 1987).
    pub fn distinct(&mut self, count: u64, bound: usize) -> BTreeSet<usize> {
        if count >= bound as u64 {
            return (0..bound).collect();
        }
        let mut chosen = BTreeSet::new();
        for last in bound - count as usize..bound {
            let i = self.below(last + 1);
            if !chosen.insert(i) {
                chosen.insert(last);
            }
        }
        chosen
    }
}
