//! What RESTORE and FUNCTION RESTORE are given. What a payload holds is dumped to a payload that holds the same.

use std::sync::LazyLock;

use bytes::Bytes;
use quoris_engine::Call;
use quoris_engine::rdb::{Content, dump_libraries, load_libraries};
use quoris_engine::value::{Bounds, Value};
use rand::Rng;
use rand::rngs::StdRng;

use crate::snapshot::Filled;
use crate::{damage, within_memory};

const CRC: crc::Crc<u64> = crc::Crc::<u64>::new(&crc::CRC_64_REDIS);
const SUM_BYTES: usize = 8;
/// Compressed strings are 3 bytes for up to 264; an element takes a byte or two, and a place in a growing list here.
const FACTOR: usize = 512;

/// Payloads that redis-server 7.0.15 has made, in all the forms that it writes; in hexadecimal, one a line.
static OF_REDIS: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| include_str!("../corpus/rdb.hex").lines().map(bytes_of_hex).collect());

pub fn make(rng: &mut StdRng) -> Vec<u8> {
    let mut payload = match rng.random_range(0..4) {
        0 | 1 => OF_REDIS[rng.random_range(0..OF_REDIS.len())].clone(),
        2 => of_ours(rng),
        _ => dump_libraries(damage::words(rng, 3).into_iter().map(Bytes::from).collect::<Vec<_>>().iter()),
    };
    damage::maybe(rng, &mut payload);
    // A wrong checksum ends all reading.
    if payload.len() > SUM_BYTES && rng.random_range(0..10) > 0 {
        let body = payload.len() - SUM_BYTES;
        let sum = CRC.checksum(&payload[..body]).to_le_bytes();
        payload[body..].copy_from_slice(&sum);
    }
    payload
}

/// What quoris dumps of a value that random calls have made.
fn of_ours(rng: &mut StdRng) -> Vec<u8> {
    let mut filled = Filled::random(rng, 8);
    let key = format!("key{}", rng.random_range(0..Filled::KEYS));
    let call = Call::new([Bytes::from("DUMP"), Bytes::from(key)]);
    filled.bulk(call).unwrap_or_else(|| Content::String(Bytes::new()).dump())
}

pub fn check(payload: &[u8]) {
    let load = || (Content::load(payload), load_libraries(payload));
    let (content, libraries) = within_memory("an RDB payload", payload.len(), FACTOR, load);
    if let Ok(libraries) = libraries {
        assert_eq!(load_libraries(&dump_libraries(libraries.iter())), Ok(libraries), "libraries");
    }
    let Ok(content) = content else { return };
    assert_eq!(Content::load(&content.dump()), Ok(content.clone()), "loaded, dumped and loaded");
    // A value's order may be its own.
    let Some(value) = content.into_value(&Bounds::default()) else { return };
    let kept = Content::of(&value, 0);
    let again: Option<Value> =
        Content::load(&kept.dump()).ok().and_then(|content| content.into_value(&Bounds::default()));
    let again = again.expect("what a value holds makes a value");
    assert_eq!(Content::of(&again, 0), kept, "kept, dumped and kept");
    assert_eq!(again.encoding(), value.encoding());
}

fn bytes_of_hex(line: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&line[at..at + 2], 16).expect("two hexadecimal digits");
    (0..line.len()).step_by(2).map(byte).collect()
}
