//! Ids of a stream's entries.

use std::fmt;

use bytes::Bytes;

/// An entry's id: a time in milliseconds since the Unix epoch (as a rule: clients may choose any number), and a
/// number among the entries of that time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId {
    /// The time.
    pub ms: u64,
    /// The number.
    pub seq: u64,
}

impl StreamId {
    /// `0-0`, which no entry has.
    pub const MIN: StreamId = StreamId { ms: 0, seq: 0 };
    /// The last id there is.
    pub const MAX: StreamId = StreamId { ms: u64::MAX, seq: u64::MAX };

    /// The least id above this one.
    pub fn next(self) -> Option<StreamId> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => Some(StreamId { ms: self.ms.checked_add(1)?, seq: 0 }),
        }
    }

    /// The greatest id below this one.
    pub fn previous(self) -> Option<StreamId> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => Some(StreamId { ms: self.ms.checked_sub(1)?, seq: u64::MAX }),
        }
    }

    /// `ms-seq`, or `ms` alone, which means number `missing_seq` of that time.
    pub fn parse(text: &[u8], missing_seq: u64) -> Option<StreamId> {
        match text.iter().position(|&byte| byte == b'-') {
            Some(dash) => {
                Some(StreamId { ms: parse_number(&text[..dash])?, seq: parse_number(&text[dash + 1..])? })
            }
            None => Some(StreamId { ms: parse_number(text)?, seq: missing_seq }),
        }
    }

    /// `ms-seq`, without the detour over the formatting machinery: every XADD answers one.
    pub fn to_bytes(self) -> Bytes {
        const LONGEST: usize = 2 * 20 + 1;
        let mut text = [0; LONGEST];
        let mut at = put_number_before(&mut text, LONGEST, self.seq) - 1;
        text[at] = b'-';
        at = put_number_before(&mut text, at, self.ms);
        Bytes::copy_from_slice(&text[at..])
    }

    /// The `ms` of `ms-*`.
    pub fn parse_ms_of_any(text: &[u8]) -> Option<u64> {
        parse_number(text.strip_suffix(b"-*")?)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// Writes `number` so that it ends before `end`; where it begins.
fn put_number_before(text: &mut [u8], end: usize, mut number: u64) -> usize {
    let mut at = end;
    loop {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return at;
        }
    }
}

/// Digits; leading zeros are allowed, and spaces and a `+` before them, as in Redis, where C's `strtoull` reads them.
fn parse_number(text: &[u8]) -> Option<u64> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let digits = &text[text.iter().take_while(|byte| is_space(byte)).count()..];
    let digits = digits.strip_prefix(b"+").unwrap_or(digits);
    if digits.is_empty() {
        return None;
    }
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    digits.iter().try_fold(0u64, |n, byte| n.checked_mul(10)?.checked_add(digit(byte)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_redis_does() {
        let id = |ms, seq| Some(StreamId { ms, seq });
        for (text, parsed) in [
            ("0-0", id(0, 0)),
            ("7", id(7, 9)),
            ("007-01", id(7, 1)),
            ("18446744073709551615-18446744073709551615", Some(StreamId::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("-", None),
            ("1-", None),
            ("-1", None),
            ("1--1", None),
            ("1-1-1", None),
            ("1-*", None),
            ("+1", id(1, 9)),
            (" 1-\r+2", id(1, 2)),
            ("\u{b}\u{c}\t\n1", id(1, 9)),
            ("1 ", None),
            ("++1", None),
            ("+ 1", None),
            ("+", None),
            (" ", None),
        ] {
            assert_eq!(StreamId::parse(text.as_bytes(), 9), parsed, "{text}");
        }
        assert_eq!(StreamId::parse_ms_of_any(b"12-*"), Some(12));
        assert_eq!(StreamId::parse_ms_of_any(b"12-3"), None);
    }

    #[test]
    fn both_ways_of_writing_an_id_agree() {
        for id in [StreamId::MIN, StreamId::MAX, StreamId { ms: 10, seq: 0 }, StreamId { ms: 0, seq: 909 }] {
            assert_eq!(id.to_bytes(), id.to_string());
            assert_eq!(StreamId::parse(&id.to_bytes(), 0), Some(id));
        }
    }

    #[test]
    fn neighbours_are_next_to_each_other() {
        let end_of_ms = StreamId { ms: 4, seq: u64::MAX };
        let start_of_ms = StreamId { ms: 5, seq: 0 };
        assert_eq!(end_of_ms.next(), Some(start_of_ms));
        assert_eq!(start_of_ms.previous(), Some(end_of_ms));
        assert_eq!((StreamId::MIN.previous(), StreamId::MAX.next()), (None, None));
    }
}
