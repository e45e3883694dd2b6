//! HyperLogLogs: strings in exactly Redis's representation, so that GET and SET carry them between the two.
//!
//! A header of 16 bytes (`HYLL`, the encoding, three unused bytes, the last count as a little-endian `u64` whose top bit
//! says that it is out of date), then 16384 registers. *Dense*: 6 bits each, from the lowest bit of the first byte up.
//! *Sparse*: runs of equal registers. The sparse form is cut and merged as Redis does it, so that the same elements give
//! the same bytes; it is left for good when it would be longer than [`MAX_SPARSE_BYTES`] or a register passes 32.
//!
//! Counting follows O. Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (arXiv:1702.01284).

const HEADER_BYTES: usize = 16;
const MAGIC: &[u8] = b"HYLL";
const ENCODING_AT: usize = 4;
const CARD: std::ops::Range<usize> = 8..16;
const STALE: u8 = 0x80;

const INDEX_BITS: u32 = 14;
/// How many registers a HyperLogLog has.
pub const REGISTERS: usize = 1 << INDEX_BITS;
/// The highest value that an element gives a register is one more.
const HASH_BITS: usize = 64 - INDEX_BITS as usize;
const REGISTER_BITS: usize = 6;
const REGISTER_MASK: u8 = (1 << REGISTER_BITS) - 1;
const DENSE_BYTES: usize = HEADER_BYTES + REGISTERS * REGISTER_BITS / 8;

/// The longest sparse HyperLogLog (Redis's default `hll-sparse-max-bytes`).
pub const MAX_SPARSE_BYTES: usize = 3000;

/// How a HyperLogLog keeps its registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// All of them.
    Dense,
    /// As runs.
    Sparse,
}

/// Why a string is no HyperLogLog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// It never was one.
    Foreign,
    /// Its runs do not add up.
    Corrupt,
}

/// What one element says: that its register is at least so high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    index: usize,
    value: u8,
}

impl Mark {
    /// The mark of `element`.
    pub fn of(element: &[u8]) -> Mark {
        const SEED: u64 = 0xadc8_3b19;
        let hash = murmur_hash_64a(element, SEED);
        let rest = (hash >> INDEX_BITS) | 1 << HASH_BITS;
        Mark { index: hash as usize & (REGISTERS - 1), value: rest.trailing_zeros() as u8 + 1 }
    }

    /// The marks that make `registers`, in order.
    pub fn of_registers(registers: &[u8; REGISTERS]) -> impl Iterator<Item = Mark> {
        let marks = registers.iter().enumerate().map(|(index, &value)| Mark { index, value });
        marks.filter(|mark| mark.value > 0)
    }
}

/// A. Appleby's MurmurHash2 for 64 bits, on little-endian words.
fn murmur_hash_64a(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const R: u32 = 47;
    let (words, tail) = bytes.as_chunks::<8>();
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(M);
    for word in words {
        let mut word = u64::from_le_bytes(*word).wrapping_mul(M);
        word = (word ^ word >> R).wrapping_mul(M);
        hash = (hash ^ word).wrapping_mul(M);
    }
    if !tail.is_empty() {
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(M);
    }
    hash = (hash ^ hash >> R).wrapping_mul(M);
    hash ^ hash >> R
}

/// So many registers of the same value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The value.
    pub value: u8,
    /// How many registers.
    pub len: usize,
    /// Whether it takes two bytes.
    pub is_long: bool,
}

impl Run {
    const LONG: u8 = 0x40;
    const VALUE: u8 = 0x80;
    const MAX_VALUE: u8 = 32;
    const MAX_VALUES: usize = 4;
    const MAX_SHORT: usize = 64;

    /// The run at the head of `bytes`; `None` if they are cut short.
    fn read(bytes: &[u8]) -> Option<Run> {
        let first = *bytes.first()?;
        Some(match first {
            ..Run::LONG => Run { value: 0, len: usize::from(first) + 1, is_long: false },
            Run::LONG..Run::VALUE => {
                let high = usize::from(first & !Run::LONG) << 8;
                Run { value: 0, len: (high | usize::from(*bytes.get(1)?)) + 1, is_long: true }
            }
            Run::VALUE.. => {
                Run { value: (first >> 2 & 0x1f) + 1, len: usize::from(first & 3) + 1, is_long: false }
            }
        })
    }

    fn of(value: u8, len: usize) -> Run {
        Run { value, len, is_long: value == 0 && len > Run::MAX_SHORT }
    }

    fn bytes(&self) -> usize {
        1 + usize::from(self.is_long)
    }

    fn write(&self, out: &mut Vec<u8>) {
        let len = self.len - 1;
        match self {
            Run { is_long: true, .. } => out.extend([Run::LONG | (len >> 8) as u8, len as u8]),
            Run { value: 0, .. } => out.push(len as u8),
            Run { value, .. } => out.push(Run::VALUE | (value - 1) << 2 | len as u8),
        }
    }
}

/// A HyperLogLog without elements.
pub fn empty() -> Vec<u8> {
    let mut hll = vec![0; HEADER_BYTES];
    hll[..MAGIC.len()].copy_from_slice(MAGIC);
    hll[ENCODING_AT] = 1;
    Run::of(0, REGISTERS).write(&mut hll);
    hll
}

/// Whether `string` is a HyperLogLog as far as its header and length tell.
pub fn encoding(string: &[u8]) -> Result<Encoding, Invalid> {
    if string.len() < HEADER_BYTES || !string.starts_with(MAGIC) {
        return Err(Invalid::Foreign);
    }
    match string[ENCODING_AT] {
        0 if string.len() == DENSE_BYTES => Ok(Encoding::Dense),
        1 => Ok(Encoding::Sparse),
        _ => Err(Invalid::Foreign),
    }
}

/// A string that has been found to be a whole HyperLogLog.
#[derive(Clone, Copy, Debug)]
pub struct Hll<'a> {
    encoding: Encoding,
    bytes: &'a [u8],
}

impl<'a> Hll<'a> {
    /// The HyperLogLog in `string`.
    pub fn of(string: &'a [u8]) -> Result<Hll<'a>, Invalid> {
        let hll = Hll { encoding: encoding(string)?, bytes: string };
        let mut registers = 0;
        let mut rest = &string[HEADER_BYTES..];
        while hll.encoding == Encoding::Sparse && !rest.is_empty() {
            let run = Run::read(rest).ok_or(Invalid::Corrupt)?;
            rest = &rest[run.bytes()..];
            registers += run.len;
        }
        match hll.encoding {
            Encoding::Sparse if registers != REGISTERS => Err(Invalid::Corrupt),
            _ => Ok(hll),
        }
    }

    /// How it keeps its registers.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Its registers: a sparse one's runs, a dense one's registers one by one.
    pub fn runs(&self) -> impl Iterator<Item = Run> + use<'a> {
        let (dense, mut sparse) = match self.encoding {
            Encoding::Dense => (REGISTERS, &[][..]),
            Encoding::Sparse => (0, &self.bytes[HEADER_BYTES..]),
        };
        let bytes = self.bytes;
        let runs = std::iter::from_fn(move || {
            let run = Run::read(sparse)?;
            sparse = &sparse[run.bytes()..];
            Some(run)
        });
        (0..dense).map(move |index| Run::of(dense_register(bytes, index), 1)).chain(runs)
    }

    /// Whether `mark` would change it.
    pub fn is_raised_by(&self, mark: Mark) -> bool {
        match self.encoding {
            Encoding::Dense => dense_register(self.bytes, mark.index) < mark.value,
            Encoding::Sparse => {
                let mut end = 0;
                let covers = |run: &Run| {
                    end += run.len;
                    mark.index < end
                };
                self.runs().find(covers).is_some_and(|run| run.value < mark.value)
            }
        }
    }

    /// Raises each of `registers` to its own.
    pub fn merge_into(&self, registers: &mut [u8; REGISTERS]) {
        let mut at = 0;
        for run in self.runs() {
            registers[at..at + run.len].iter_mut().for_each(|register| *register = run.value.max(*register));
            at += run.len;
        }
    }

    /// How many different elements it has seen, nearly.
    pub fn count(&self) -> u64 {
        let mut histogram = [0; 1 << REGISTER_BITS];
        self.runs().for_each(|run| histogram[usize::from(run.value)] += run.len);
        estimate(&histogram)
    }

    /// It in its dense form.
    pub fn to_dense(&self) -> Vec<u8> {
        let mut dense = self.bytes[..HEADER_BYTES].to_vec();
        dense[ENCODING_AT] = 0;
        dense.resize(DENSE_BYTES, 0);
        let mut at = 0;
        for run in self.runs() {
            (at..at + run.len).for_each(|index| set_dense_register(&mut dense, index, run.value));
            at += run.len;
        }
        dense
    }
}

/// The count that a HyperLogLog carries, unless it is out of date.
pub fn cached_count(hll: &[u8]) -> Option<u64> {
    let bytes: [u8; 8] = hll.get(CARD)?.try_into().ok()?;
    (bytes[7] & STALE == 0).then(|| u64::from_le_bytes(bytes))
}

/// Marks the count that `hll` carries as out of date.
pub fn forget_count(hll: &mut [u8]) {
    hll[CARD.end - 1] |= STALE;
}

/// The count for `registers`.
pub fn count(registers: &[u8; REGISTERS]) -> u64 {
    let mut histogram = [0; 1 << REGISTER_BITS];
    registers.iter().for_each(|value| histogram[usize::from(*value)] += 1);
    estimate(&histogram)
}

/// Raises the register of `mark` in `hll`, which [`Hll::of`] accepts. Whether it was lower.
pub fn raise(hll: &mut Vec<u8>, mark: Mark) -> bool {
    if encoding(hll) == Ok(Encoding::Sparse) {
        return raise_sparse(hll, mark);
    }
    let raised = dense_register(hll, mark.index) < mark.value;
    if raised {
        set_dense_register(hll, mark.index, mark.value);
    }
    raised
}

fn raise_sparse(hll: &mut Vec<u8>, mark: Mark) -> bool {
    let (mut at, mut before, mut first) = (HEADER_BYTES, HEADER_BYTES, 0);
    let run = loop {
        let run = Run::read(&hll[at..]).expect("the runs cover all registers");
        if mark.index < first + run.len {
            break run;
        }
        before = at;
        at += run.bytes();
        first += run.len;
    };
    if run.value >= mark.value {
        return false;
    }
    let parts =
        [(run.value, mark.index - first), (mark.value, 1), (run.value, first + run.len - 1 - mark.index)];
    let mut cut = Vec::with_capacity(5);
    if mark.value <= Run::MAX_VALUE {
        let parts = parts.iter().filter(|(_, len)| *len > 0);
        parts.for_each(|(value, len)| Run::of(*value, *len).write(&mut cut));
    }
    let grows = cut.len() > run.bytes();
    if cut.is_empty() || grows && hll.len() + cut.len() - run.bytes() > MAX_SPARSE_BYTES {
        *hll = Hll { encoding: Encoding::Sparse, bytes: hll }.to_dense();
        set_dense_register(hll, mark.index, mark.value);
        return true;
    }
    hll.splice(at..at + run.bytes(), cut);
    merge_runs(hll, before);
    true
}

/// Merges runs of the same value within the five that follow `at`: as far as a cut can have made neighbours.
fn merge_runs(hll: &mut Vec<u8>, mut at: usize) {
    for _ in 0..5 {
        let Some(run) = Run::read(&hll[at..]) else { return };
        match Run::read(&hll[at + run.bytes()..]) {
            Some(next)
                if run.value > 0 && next.value == run.value && run.len + next.len <= Run::MAX_VALUES =>
            {
                let mut merged = Vec::with_capacity(1);
                Run::of(run.value, run.len + next.len).write(&mut merged);
                hll.splice(at..at + 2, merged);
            }
            _ => at += run.bytes(),
        }
    }
}

/// The byte in which a register begins, and at which of its bits.
fn dense_place(index: usize) -> (usize, usize) {
    (HEADER_BYTES + index * REGISTER_BITS / 8, index * REGISTER_BITS % 8)
}

fn dense_register(hll: &[u8], index: usize) -> u8 {
    let (at, shift) = dense_place(index);
    let two = u16::from_le_bytes([hll[at], hll.get(at + 1).copied().unwrap_or(0)]);
    (two >> shift) as u8 & REGISTER_MASK
}

fn set_dense_register(hll: &mut [u8], index: usize, value: u8) {
    let (at, shift) = dense_place(index);
    let two = u16::from_le_bytes([hll[at], hll.get(at + 1).copied().unwrap_or(0)]);
    let two = two & !(u16::from(REGISTER_MASK) << shift) | u16::from(value) << shift;
    let [low, high] = two.to_le_bytes();
    hll[at] = low;
    if let Some(next) = hll.get_mut(at + 1) {
        *next = high;
    }
}

/// Ertl's estimator, on how many registers have each value.
fn estimate(histogram: &[usize; 1 << REGISTER_BITS]) -> u64 {
    /// 1 / (2 ln 2).
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    let m = REGISTERS as f64;
    let mut z = m * tau((m - histogram[HASH_BITS + 1] as f64) / m);
    for value in (1..=HASH_BITS).rev() {
        z = (z + histogram[value] as f64) * 0.5;
    }
    z += m * sigma(histogram[0] as f64 / m);
    (ALPHA * m * m / z).round() as u64
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The registers of a HyperLogLog that has seen `marks`.
    fn model(marks: &[Mark]) -> [u8; REGISTERS] {
        let mut registers = [0; REGISTERS];
        marks.iter().for_each(|mark| registers[mark.index] = registers[mark.index].max(mark.value));
        registers
    }

    fn registers(hll: &[u8]) -> [u8; REGISTERS] {
        let mut registers = [0; REGISTERS];
        Hll::of(hll).expect("whole").merge_into(&mut registers);
        registers
    }

    /// Marks close to each other, so that runs are cut and merged in every way.
    fn marks() -> impl Strategy<Value = Vec<Mark>> {
        let mark = (0usize..200, prop_oneof![30 => 1u8..4, 1 => 5u8..40]);
        proptest::collection::vec(mark.prop_map(|(index, value)| Mark { index: index * 80, value }), 0..400)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn both_forms_hold_the_registers(marks in marks(), near: bool) {
            let at = |mark: &Mark| Mark { index: if near { mark.index / 80 } else { mark.index }, ..*mark };
            let marks: Vec<Mark> = marks.iter().map(at).collect();
            let mut sparse = empty();
            let mut dense = Hll::of(&sparse).expect("whole").to_dense();
            for (i, mark) in marks.iter().enumerate() {
                let raises = model(&marks[..i])[mark.index] < mark.value;
                prop_assert_eq!(Hll::of(&sparse).expect("whole").is_raised_by(*mark), raises);
                prop_assert_eq!(raise(&mut sparse, *mark), raises);
                prop_assert_eq!(raise(&mut dense, *mark), raises);
            }
            prop_assert_eq!(registers(&sparse), model(&marks));
            prop_assert_eq!(registers(&dense), model(&marks));
            let small = sparse.len() <= MAX_SPARSE_BYTES;
            prop_assert!(small || encoding(&sparse) == Ok(Encoding::Dense));
        }

        #[test]
        fn what_is_accepted_can_be_used(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            elements in 0u32..800,
        ) {
            let mut hll = empty();
            for n in 0..elements {
                raise(&mut hll, Mark::of(&n.to_le_bytes()));
            }
            for (at, byte) in damage {
                let len = hll.len();
                hll[at.index(len)] = byte;
            }
            if let Ok(whole) = Hll::of(&hll) {
                whole.count();
                whole.to_dense();
                raise(&mut hll, Mark::of(b"another"));
                prop_assert!(Hll::of(&hll).is_ok());
            }
        }
    }

    #[test]
    fn the_estimate_is_near() {
        let mut hll = empty();
        let mut seen = 0u32;
        for size in [1, 10, 100, 1_000, 10_000, 100_000] {
            while seen < size {
                raise(&mut hll, Mark::of(&seen.to_le_bytes()));
                seen += 1;
            }
            let error = Hll::of(&hll).expect("whole").count() as f64 / f64::from(size) - 1.0;
            assert!(error.abs() < 0.03, "{size}: {error}");
        }
    }
}
