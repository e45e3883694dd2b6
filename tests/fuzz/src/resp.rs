//! What clients send. A decoder that is fed in pieces decodes what one does that is given all at once.

use bytes::{Bytes, BytesMut};
use quoris::resp::decode::{DecodeLimits, Decoder, ProtocolError};
use quoris::resp::encode_call;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::{damage, within_memory};

/// A word takes 6 bytes on the wire, or 2 in an inline call, and a place in a growing list besides its allocation here.
const FACTOR: usize = 256;

type Decoded = (Vec<Vec<Bytes>>, Option<ProtocolError>);

pub fn make(rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    for _ in 0..rng.random_range(1..6) {
        match rng.random_range(0..4) {
            0 => {
                let words = damage::words(rng, 5);
                words.iter().for_each(|word| {
                    bytes.extend_from_slice(word);
                    bytes.extend_from_slice(b" ");
                });
                bytes.extend_from_slice(b"\r\n");
            }
            1 => bytes.extend_from_slice(format!("*{}\r\n", rng.random_range(-2..1_200_000)).as_bytes()),
            _ => {
                let words: Vec<Bytes> = damage::words(rng, 8).into_iter().map(Bytes::from).collect();
                encode_call(&words, &mut bytes);
            }
        }
    }
    let mut bytes = bytes.to_vec();
    damage::maybe(rng, &mut bytes);
    bytes
}

pub fn check(input: &[u8]) {
    let authenticated = !input.len().is_multiple_of(4);
    let limits = DecodeLimits { bulk_bytes: 512 * 1024 * 1024, call_bytes: 1 << 30, authenticated };
    let whole = within_memory("a RESP input", input.len(), FACTOR, || decode([input], &limits));
    let pieces = cut(input);
    assert_eq!(decode(pieces, &limits), whole, "decoded in pieces");
    assert_eq!(decode(input.chunks(1), &limits), whole, "decoded byte by byte");

    let mut again = BytesMut::new();
    whole.0.iter().for_each(|call| encode_call(call, &mut again));
    let lenient = DecodeLimits { authenticated: true, ..limits };
    assert_eq!(decode([&again[..]], &lenient), (whole.0, None), "decoded, encoded and decoded");
}

fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &DecodeLimits) -> Decoded {
    let (mut decoder, mut inbox, mut calls) = (Decoder::default(), BytesMut::new(), Vec::new());
    for piece in pieces {
        inbox.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut inbox, limits) {
                Ok(Some(call)) => calls.push(call),
                Ok(None) => break,
                Err(error) => return (calls, Some(error)),
            }
        }
    }
    (calls, None)
}

/// The input in pieces that depend on it alone.
fn cut(input: &[u8]) -> Vec<&[u8]> {
    let mut rng = StdRng::seed_from_u64(input.iter().map(|byte| u64::from(*byte)).sum());
    let (mut pieces, mut rest) = (Vec::new(), input);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rng.random_range(1..=rest.len().min(40)));
        pieces.push(piece);
        rest = after;
    }
    pieces
}
