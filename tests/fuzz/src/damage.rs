//! Damage to valid inputs.

use rand::Rng;
use rand::rngs::StdRng;

const MOST_WOUNDS: usize = 6;
/// Bytes that mean something in many formats.
const TELLING: [u8; 14] = [0, 1, 2, 0x7f, 0x80, 0x81, 0xbf, 0xc0, 0xc3, 0xf0, 0xfe, 0xff, b'\r', b'\n'];

/// Leaves half of the inputs whole.
pub fn maybe(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    if rng.random() {
        for _ in 0..rng.random_range(1..=MOST_WOUNDS) {
            wound(rng, bytes);
        }
    }
}

fn wound(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return bytes.push(rng.random());
    }
    let at = rng.random_range(0..bytes.len());
    let end = (at + rng.random_range(1..=16)).min(bytes.len());
    match rng.random_range(0..8) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes[at] = TELLING[rng.random_range(0..TELLING.len())],
        2 => bytes[at] = rng.random(),
        3 => bytes.insert(at, rng.random()),
        4 => drop(bytes.drain(at..end)),
        5 => bytes.truncate(at),
        6 => {
            let again = bytes[at..end].to_vec();
            let to = rng.random_range(0..=bytes.len());
            bytes.splice(to..to, again);
        }
        // A large number, in one of the widths that formats have.
        _ => {
            let width = 1 << rng.random_range(0..4);
            let end = (at + width).min(bytes.len());
            bytes[at..end].fill(if rng.random() { 0xff } else { 0x7f });
        }
    }
}

/// A short word; binary, empty or a number, now and then.
pub fn word(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..10) {
        0 => Vec::new(),
        1 => rng.random::<i64>().to_string().into_bytes(),
        2..5 => rng.random_range(-200..200).to_string().into_bytes(),
        5 => (0..rng.random_range(1..100)).map(|_| rng.random()).collect(),
        6 => vec![b'x'; rng.random_range(60..300)],
        _ => format!("word{}", rng.random_range(0..30)).into_bytes(),
    }
}

/// Up to `most` words.
pub fn words(rng: &mut StdRng, most: usize) -> Vec<Vec<u8>> {
    (0..rng.random_range(0..=most)).map(|_| word(rng)).collect()
}
