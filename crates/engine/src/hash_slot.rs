//! Which of the 16384 hash slots a key lives in, as Redis Cluster defines it
//! (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model>).

/// How many hash slots the keyspace has.
pub const SLOT_COUNT: u16 = 16384;

/// A hash slot: 0 to 16383.
pub type SlotId = u16;

/// The slot of `key`: CRC16 (XMODEM) modulo 16384 of the key's hash tag, or of the whole key if it has none.
pub fn slot_of(key: &[u8]) -> SlotId {
    crc16(hash_tag(key)) % SLOT_COUNT
}

/// The part between the first `{` and the next `}`, if it is not empty; else the whole key.
fn hash_tag(key: &[u8]) -> &[u8] {
    if !has_brace(key) {
        return key;
    }
    let Some(open) = key.iter().position(|&b| b == b'{') else { return key };
    let rest = &key[open + 1..];
    match rest.iter().position(|&b| b == b'}') {
        Some(len) if len > 0 => &rest[..len],
        _ => key,
    }
}

/// Whether there is a `{`: most keys have none, and eight bytes are looked at as quickly as one.
fn has_brace(key: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    let (eights, rest) = key.as_chunks::<8>();
    // Zero where a brace is; to take one from a byte sets its highest bit if it was zero, or had that bit already.
    let hit = |eight: &[u8; 8]| {
        let braces_are_zero = u64::from_ne_bytes(*eight) ^ u64::from_ne_bytes([b'{'; 8]);
        braces_are_zero.wrapping_sub(ONES) & !braces_are_zero & HIGHS != 0
    };
    eights.iter().any(hit) || rest.contains(&b'{')
}

/// Eight bytes at a time: every call's keys pass here on their way in, and again on every replica.
fn crc16(bytes: &[u8]) -> u16 {
    let (eights, rest) = bytes.as_chunks::<8>();
    let crc = eights.iter().fold(0, |crc: u16, eight| {
        let [high, low] = crc.to_be_bytes();
        let [a, b, tail @ ..] = *eight;
        let head = AHEAD[7][usize::from(a ^ high)] ^ AHEAD[6][usize::from(b ^ low)];
        tail.iter()
            .zip(AHEAD[..6].iter().rev())
            .fold(head, |crc, (byte, table)| crc ^ table[usize::from(*byte)])
    });
    rest.iter().fold(crc, |crc, byte| crc << 8 ^ AHEAD[0][usize::from((crc >> 8) as u8 ^ byte)])
}

/// What a byte contributes to the checksum if so many bytes follow it.
static AHEAD: [[u16; 256]; 8] = {
    let mut tables = [[0u16; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut following = 0;
        while following < 8 {
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 0x8000 != 0 { crc << 1 ^ 0x1021 } else { crc << 1 };
                bit += 1;
            }
            tables[following][byte] = crc;
            following += 1;
        }
        byte += 1;
    }
    tables
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // The specification's own check value, then slots printed by redis-cli CLUSTER KEYSLOT.
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot_of(b"foo"), 12182);
        assert_eq!(slot_of(b"somekey"), 11058);
        assert_eq!(slot_of(b""), 0);
    }

    proptest! {
        #[test]
        fn eight_bytes_at_a_time_make_the_same_checksum(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let one_bit = |crc: u16| if crc & 0x8000 != 0 { crc << 1 ^ 0x1021 } else { crc << 1 };
            let one_byte = |crc, byte: &u8| (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| one_bit(crc));
            prop_assert_eq!(crc16(&bytes), bytes.iter().fold(0, one_byte));
        }

        #[test]
        fn a_brace_is_found_anywhere(mut key in prop::collection::vec(any::<u8>(), 1..40), at in any::<prop::sample::Index>()) {
            prop_assert_eq!(has_brace(&key), key.contains(&b'{'));
            let at = at.index(key.len());
            key[at] = b'{';
            prop_assert!(has_brace(&key));
        }
    }

    #[test]
    fn hash_tags_follow_the_specification() {
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"user1000"));
        assert_eq!(slot_of(b"foo{bar}{zap}"), slot_of(b"bar"));
        assert_eq!(hash_tag(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(hash_tag(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(hash_tag(b"foo{bar"), b"foo{bar");
    }
}
