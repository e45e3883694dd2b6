//! Bytes to calls, as they arrive.
//!
//! Invariants: nothing is allocated for what a header merely claims; what has been decoded is looked at once more at
//! most, wherever packets were cut; after an error the connection cannot go on, since nobody knows where the
//! next call begins.

use bytes::{Buf, Bytes, BytesMut};
use quoris_engine::value::number::parse_int;

use super::inline;
use crate::limits;

/// What a client sent is not RESP, or more of it than this node takes. The texts are Redis's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// A number of words that is no number, or too large.
    MultibulkLength,
    /// A length of a word that is no number, negative or too large.
    BulkLength,
    /// Another byte where a word should begin.
    ExpectedBulk(u8),
    /// A line without an end.
    BigInline,
    /// The line before a call's words, without an end.
    BigMultibulkCount,
    /// The line before a word, without an end.
    BigBulkCount,
    /// An inline command whose quotes do not match.
    UnbalancedQuotes,
    /// Too many words before authentication.
    UnauthenticatedMultibulk,
    /// Too long a word before authentication.
    UnauthenticatedBulk,
    /// One call larger than `client-query-buffer-limit`.
    QueryBuffer,
}

impl ProtocolError {
    /// The error line to send, without its `-`; none if the connection is closed without a word, as Redis does.
    pub fn line(&self) -> Option<Vec<u8>> {
        let what: &[u8] = match self {
            ProtocolError::MultibulkLength => b"invalid multibulk length",
            ProtocolError::BulkLength => b"invalid bulk length",
            ProtocolError::ExpectedBulk(got) => {
                // A line break inside the line of an error would break the protocol's framing.
                let got = if matches!(got, b'\r' | b'\n') { b' ' } else { *got };
                return Some([b"ERR Protocol error: expected '$', got '", &[got][..], b"'"].concat());
            }
            ProtocolError::BigInline => b"too big inline request",
            ProtocolError::BigMultibulkCount => b"too big mbulk count string",
            ProtocolError::BigBulkCount => b"too big bulk count string",
            ProtocolError::UnbalancedQuotes => b"unbalanced quotes in request",
            ProtocolError::UnauthenticatedMultibulk => b"unauthenticated multibulk length",
            ProtocolError::UnauthenticatedBulk => b"unauthenticated bulk length",
            ProtocolError::QueryBuffer => return None,
        };
        Some([b"ERR Protocol error: ", what].concat())
    }
}

/// What a client may send at most; it changes with settings and with authentication.
#[derive(Clone, Copy, Debug)]
pub struct DecodeLimits {
    /// The longest word, in bytes.
    pub bulk_bytes: i64,
    /// The largest call, in bytes.
    pub call_bytes: usize,
    /// Whether the client may send more than it takes to authenticate.
    pub authenticated: bool,
}

/// The state of one connection's decoding.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Words of the current call that have not arrived; 0 between calls.
    missing: i64,
    /// Length of the current word, if its header has arrived.
    bulk: Option<usize>,
    /// Words of the current call that have arrived.
    words: Vec<Bytes>,
    /// Their bytes.
    call_bytes: usize,
}

impl Decoder {
    /// Takes the next complete call from the front of `inbox`; `None` if it has not arrived whole.
    pub fn decode(
        &mut self,
        inbox: &mut BytesMut,
        limits: &DecodeLimits,
    ) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        loop {
            if self.missing > 0 {
                return self.words(inbox, limits);
            }
            match inbox.first() {
                None => return Ok(None),
                Some(b'*') => {
                    if let Some(words) = whole_call(inbox, limits) {
                        return Ok(Some(words));
                    }
                    let announced = |line: &[u8]| words_announced(line, limits);
                    match header(inbox, ProtocolError::BigMultibulkCount, announced)? {
                        Some(count) => self.missing = count,
                        None => return Ok(None),
                    }
                }
                Some(_) => match inline_call(inbox)? {
                    None => return Ok(None),
                    Some(words) if words.is_empty() => {}
                    Some(words) => return Ok(Some(words)),
                },
            }
        }
    }

    /// How many bytes of the current call have not arrived, as far as its headers tell.
    pub fn missing_bytes(&self, inbox: &BytesMut) -> usize {
        self.bulk.map_or(0, |length| (length + 2).saturating_sub(inbox.len()))
    }

    fn words(
        &mut self,
        inbox: &mut BytesMut,
        limits: &DecodeLimits,
    ) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        while self.missing > 0 {
            let length = match self.bulk {
                Some(length) => length,
                None => {
                    let announced = |line: &[u8]| bulk_length(line, limits);
                    let header = header(inbox, ProtocolError::BigBulkCount, announced)?;
                    let Some(length) = header else { return Ok(None) };
                    self.call_bytes = self.call_bytes.saturating_add(length);
                    if self.call_bytes > limits.call_bytes {
                        return Err(ProtocolError::QueryBuffer);
                    }
                    *self.bulk.insert(length)
                }
            };
            if inbox.len() < length + 2 {
                return Ok(None);
            }
            self.words.push(inbox.split_to(length).freeze());
            // Redis does not look at the two bytes that end a word either.
            inbox.advance(2);
            self.bulk = None;
            self.missing -= 1;
        }
        self.call_bytes = 0;
        Ok(Some(std::mem::take(&mut self.words)))
    }
}

/// Takes a call of few words that has arrived whole, and with nothing to object to: most have. Their words are found before any
/// is taken, which takes them at once. `None` if it is not such a call, which is then taken word by word.
fn whole_call(inbox: &mut BytesMut, limits: &DecodeLimits) -> Option<Vec<Bytes>> {
    const FEW_WORDS: usize = 16;
    let mut words = [(0, 0); FEW_WORDS];
    let (count, mut at) = plain_header(b'*', inbox, 0)?;
    if !(1..=FEW_WORDS).contains(&count) || !limits.authenticated {
        return None;
    }
    let mut bytes = 0;
    for word in &mut words[..count] {
        let (length, from) = plain_header(b'$', inbox, at)?;
        // Redis does not look at the two bytes that end a word either.
        (*word, at) = ((from, from + length), from + length + 2);
        bytes += length;
        if at > inbox.len() || length as i64 > limits.bulk_bytes || bytes > limits.call_bytes {
            return None;
        }
    }
    let call = inbox.split_to(at).freeze();
    Some(words[..count].iter().map(|(from, to)| call.slice(from..to)).collect())
}

/// The number in the line at `at`, if that is no more than `kind`, few digits and CR LF; and where the line ends.
fn plain_header(kind: u8, inbox: &[u8], at: usize) -> Option<(usize, usize)> {
    const MOST_DIGITS: usize = 9;
    let line = inbox.get(at..).filter(|line| line.first() == Some(&kind))?;
    let digits = line[1..].iter().take(MOST_DIGITS + 1).take_while(|byte| byte.is_ascii_digit());
    let (count, number) =
        digits.fold((0, 0), |(count, n), digit| (count + 1, 10 * n + usize::from(digit - b'0')));
    let is_plain = (1..=MOST_DIGITS).contains(&count)
        && (count == 1 || line[1] != b'0')
        && line[1 + count..].starts_with(b"\r\n");
    is_plain.then_some((number, at + count + 3))
}

/// Takes a line that ends in CR LF, and what `parse` makes of it (without them); `None` if it has not arrived whole.
fn header<T>(
    inbox: &mut BytesMut,
    too_long: ProtocolError,
    parse: impl FnOnce(&[u8]) -> Result<T, ProtocolError>,
) -> Result<Option<T>, ProtocolError> {
    let window = &inbox[..inbox.len().min(limits::INLINE_BYTES + 1)];
    match window.iter().position(|&byte| byte == b'\r') {
        None if inbox.len() > limits::INLINE_BYTES => Err(too_long),
        None => Ok(None),
        Some(end) if inbox.len() < end + 2 => Ok(None),
        Some(end) => {
            let parsed = parse(&inbox[..end])?;
            inbox.advance(end + 2);
            Ok(Some(parsed))
        }
    }
}

/// The number in `*<number>`, as a number of words: 0 or less for an empty call, which is ignored.
fn words_announced(line: &[u8], limits: &DecodeLimits) -> Result<i64, ProtocolError> {
    match parse_int(&line[1..]) {
        Some(count) if count > limits::MAX_ARGS => Err(ProtocolError::MultibulkLength),
        Some(count) if count > limits::UNAUTHENTICATED_ARGS && !limits.authenticated => {
            Err(ProtocolError::UnauthenticatedMultibulk)
        }
        Some(count) => Ok(count),
        None => Err(ProtocolError::MultibulkLength),
    }
}

/// The number in `$<number>`.
fn bulk_length(line: &[u8], limits: &DecodeLimits) -> Result<usize, ProtocolError> {
    match line.first() {
        Some(b'$') => {}
        other => return Err(ProtocolError::ExpectedBulk(other.copied().unwrap_or(b'\r'))),
    }
    match parse_int(&line[1..]) {
        Some(length) if !(0..=limits.bulk_bytes).contains(&length) => Err(ProtocolError::BulkLength),
        Some(length) if length > limits::UNAUTHENTICATED_BULK_BYTES && !limits.authenticated => {
            Err(ProtocolError::UnauthenticatedBulk)
        }
        Some(length) => usize::try_from(length).map_err(|_| ProtocolError::BulkLength),
        None => Err(ProtocolError::BulkLength),
    }
}

/// Takes a line that ends in LF and splits it.
fn inline_call(inbox: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
    let window = &inbox[..inbox.len().min(limits::INLINE_BYTES + 1)];
    match window.iter().position(|&byte| byte == b'\n') {
        None if inbox.len() > limits::INLINE_BYTES => Err(ProtocolError::BigInline),
        None => Ok(None),
        Some(end) => {
            let line = inbox.split_to(end + 1);
            let line = &line[..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            inline::split(line).map(Some).ok_or(ProtocolError::UnbalancedQuotes)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::encode_call;
    use super::*;

    const LIMITS: DecodeLimits =
        DecodeLimits { bulk_bytes: 512 * 1024 * 1024, call_bytes: 1 << 30, authenticated: true };

    fn decode_all(pieces: &[&[u8]], limits: &DecodeLimits) -> (Vec<Vec<Bytes>>, Option<ProtocolError>) {
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

    fn error_of(bytes: &[u8], limits: &DecodeLimits) -> String {
        let (_, error) = decode_all(&[bytes], limits);
        let line = error.expect("an error").line().expect("a line");
        String::from_utf8_lossy(&line).into_owned()
    }

    #[test]
    fn errors_are_those_of_redis() {
        let long = vec![b'1'; limits::INLINE_BYTES + 1];
        let after = |head: &[u8]| [head, &long].concat();
        for (bytes, text) in [
            (b"*x\r\n".to_vec(), "invalid multibulk length"),
            (b"*1048577\r\n".to_vec(), "invalid multibulk length"),
            (b"*1\r\n$-1\r\n".to_vec(), "invalid bulk length"),
            (b"*1\r\n$536870913\r\n".to_vec(), "invalid bulk length"),
            (b"*1\r\n$1x\r\n".to_vec(), "invalid bulk length"),
            (b"*1\r\nPING\r\n".to_vec(), "expected '$', got 'P'"),
            (b"*1\r\n\r\n".to_vec(), "expected '$', got ' '"),
            (after(b"*"), "too big mbulk count string"),
            (after(b"*1\r\n$"), "too big bulk count string"),
            (after(b"get "), "too big inline request"),
            (b"get \"a\r\n".to_vec(), "unbalanced quotes in request"),
        ] {
            assert_eq!(error_of(&bytes, &LIMITS), format!("ERR Protocol error: {text}"));
        }
    }

    #[test]
    fn who_has_not_authenticated_may_send_little() {
        let limits = DecodeLimits { authenticated: false, ..LIMITS };
        assert!(error_of(b"*11\r\n", &limits).ends_with("unauthenticated multibulk length"));
        assert!(error_of(b"*1\r\n$16385\r\n", &limits).ends_with("unauthenticated bulk length"));
        assert_eq!(decode_all(&[b"*1\r\n$4\r\nPING\r\n"], &limits).0.len(), 1);
    }

    #[test]
    fn a_call_over_the_query_buffer_ends_the_connection() {
        let limits = DecodeLimits { call_bytes: 5, ..LIMITS };
        let (_, error) = decode_all(&[b"*2\r\n$3\r\nabc\r\n$3\r\nabc\r\n"], &limits);
        assert_eq!(error, Some(ProtocolError::QueryBuffer));
        assert_eq!(decode_all(&[b"*1\r\n$5\r\nabcde\r\n*1\r\n$5\r\nabcde\r\n"], &limits).1, None);
    }

    #[test]
    fn empty_calls_are_ignored() {
        let (calls, error) = decode_all(&[b"*0\r\n*-1\r\n\r\n  \r\n*1\r\n$0\r\n\r\nPING\n"], &LIMITS);
        assert_eq!(error, None);
        assert_eq!(calls, vec![vec![Bytes::new()], vec![Bytes::from("PING")]]);
    }

    #[test]
    fn a_header_alone_allocates_nothing() {
        let (mut decoder, mut inbox) =
            (Decoder::default(), BytesMut::from(&b"*1048576\r\n$536870912\r\nx"[..]));
        assert_eq!(decoder.decode(&mut inbox, &LIMITS), Ok(None));
        assert_eq!(decoder.words.capacity(), 0);
        assert!(inbox.capacity() < 1024);
        assert_eq!(decoder.missing_bytes(&inbox), 536_870_913);
    }

    fn calls() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
        let word = prop::collection::vec(any::<u8>(), 0..20);
        prop::collection::vec(prop::collection::vec(word, 1..5), 1..5)
    }

    proptest! {
        #[test]
        fn calls_survive_the_wire_cut_anywhere(calls in calls()) {
            let mut bytes = BytesMut::new();
            calls.iter().for_each(|call| encode_call(call, &mut bytes));
            for cut in 0..=bytes.len() {
                let (decoded, error) = decode_all(&[&bytes[..cut], &bytes[cut..]], &LIMITS);
                prop_assert_eq!(error, None);
                prop_assert_eq!(decoded, calls.clone());
            }
        }

        #[test]
        fn garbage_is_an_error_or_a_call_but_never_a_panic(
            pieces in prop::collection::vec("[*$0-9a\"'\\\\ \r\n-]{0,12}|(\\*[0-3]\r\n)|(\\$[0-3]\r\n)", 0..12),
        ) {
            let whole = pieces.concat();
            let singly: Vec<&[u8]> = whole.as_bytes().chunks(1).collect();
            prop_assert_eq!(decode_all(&[whole.as_bytes()], &LIMITS), decode_all(&singly, &LIMITS));
        }
    }
}
