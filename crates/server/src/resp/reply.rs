//! Replies of another node: where each ends, and, of those that this node must understand, what they say.
//!
//! Most replies are handed to the client as they came, in the protocol that it speaks: so nothing here knows what a
//! command is, and no reply is changed by passing through a second node.

use bytes::{Bytes, BytesMut};
use quoris_engine::value::number::parse_int;
use quoris_engine::{CommandError, Reply};

use super::encode::{Protocol, encode};
use crate::limits;

/// What a call is answered: a reply of this node, or one that another node has encoded.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To be encoded.
    Own(Reply),
    /// Encoded, in the client's protocol.
    Raw(Bytes),
    /// An array of both.
    Many(Vec<Answer>),
}

impl Answer {
    /// An error.
    pub fn error(error: CommandError) -> Answer {
        Answer::Own(Reply::Error(error))
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        match self {
            Answer::Own(reply) => reply.is_error(),
            Answer::Raw(bytes) => matches!(bytes.first(), Some(b'-' | b'!')),
            Answer::Many(_) => false,
        }
    }

    /// Whether it says that nothing was done *here* or *now*: what another node, or the same one in a moment, may do.
    pub fn is_misplaced(&self) -> bool {
        const CODES: [&[u8]; 3] = [b"-MOVED ", b"-CLUSTERDOWN ", b"-TRYAGAIN "];
        match self {
            Answer::Own(Reply::Error(error)) => matches!(
                error,
                CommandError::Moved { .. }
                    | CommandError::WrongGroup { .. }
                    | CommandError::ClusterDown(_)
                    | CommandError::TryAgain(_)
            ),
            Answer::Raw(bytes) => CODES.iter().any(|code| bytes.starts_with(code)),
            Answer::Own(_) | Answer::Many(_) => false,
        }
    }

    /// Whether it says that nobody knows what was done.
    pub fn is_unknown(&self) -> bool {
        match self {
            Answer::Own(reply) => matches!(reply, Reply::Error(CommandError::Unknown(_))),
            Answer::Raw(bytes) => bytes.starts_with(b"-UNKNOWN "),
            Answer::Many(_) => false,
        }
    }

    /// Whether encoding it keeps others waiting.
    pub fn is_long(&self) -> bool {
        match self {
            Answer::Own(Reply::Bulk(bytes)) | Answer::Raw(bytes) => bytes.len() > limits::LONG_REPLY_BYTES,
            Answer::Own(Reply::Array(items) | Reply::Set(items)) => items.len() > limits::LONG_REPLY_ITEMS,
            Answer::Own(Reply::Map(pairs) | Reply::Pairs(pairs)) => pairs.len() > limits::LONG_REPLY_ITEMS,
            Answer::Own(_) | Answer::Many(_) => false,
        }
    }

    /// Appends it to what a client is sent.
    pub fn encode(&self, protocol: Protocol, out: &mut BytesMut) {
        match self {
            Answer::Own(reply) => encode(reply, protocol, out),
            Answer::Raw(bytes) => out.extend_from_slice(bytes),
            Answer::Many(answers) => {
                out.extend_from_slice(format!("*{}\r\n", answers.len()).as_bytes());
                answers.iter().for_each(|answer| answer.encode(protocol, out));
            }
        }
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Answer {
        Answer::Own(reply)
    }
}

/// What came is not RESP.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// Finds the end of a reply that arrives in pieces, without looking at any byte twice.
#[derive(Debug)]
pub struct Scanner {
    at: usize,
    /// Values that have not been passed.
    missing: u64,
}

impl Default for Scanner {
    fn default() -> Scanner {
        Scanner { at: 0, missing: 1 }
    }
}

impl Scanner {
    /// The length of the reply at the front of `bytes`; `None` if it has not arrived whole.
    pub fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        while self.missing > 0 {
            let Some((line, after)) = line(&bytes[self.at.min(bytes.len())..]) else { return Ok(None) };
            let (kind, rest) = line.split_first().ok_or(Malformed)?;
            let number = || parse_int(rest).ok_or(Malformed);
            let (more, body) = match kind {
                b'+' | b'-' | b':' | b',' | b'#' | b'_' | b'(' => (0, 0),
                b'$' | b'=' | b'!' => (0, number()?.max(-2).saturating_add(2)),
                b'*' | b'~' | b'>' => (number()?.max(0), 0),
                b'%' => (number()?.max(0).saturating_mul(2), 0),
                _ => return Err(Malformed),
            };
            let body = match rest {
                b"-1" => 0,
                _ => body as usize,
            };
            let next = (self.at + after).saturating_add(body);
            if next > bytes.len() {
                return Ok(None);
            }
            self.at = next;
            self.missing = self.missing.saturating_add(more as u64) - 1;
        }
        Ok(Some(self.at))
    }
}

/// The line at the front of `bytes` and where the next begins.
fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = bytes.iter().position(|byte| *byte == b'\r')?;
    (bytes.len() > end + 1).then_some((&bytes[..end], end + 2))
}

/// The elements of an encoded array; `None` if it is something else, or null.
pub fn elements(array: &Bytes) -> Option<Vec<Bytes>> {
    let (head, mut at) = line(array)?;
    let count = usize::try_from(parse_int(head.strip_prefix(b"*")?)?).ok()?;
    let mut elements = Vec::new();
    for _ in 0..count {
        let length = Scanner::default().end(&array[at..]).ok()??;
        elements.push(array.slice(at..at + length));
        at += length;
    }
    Some(elements)
}

/// A whole RESP2 reply, understood. A line of text comes as a bulk string.
pub fn parse(bytes: &Bytes) -> Result<Reply, Malformed> {
    let (head, after) = line(bytes).ok_or(Malformed)?;
    let (kind, rest) = head.split_first().ok_or(Malformed)?;
    match (kind, rest) {
        (b'+', text) => Ok(Reply::bulk(text)),
        (b'-', text) => Ok(Reply::Error(CommandError::Message(String::from_utf8_lossy(text).into_owned()))),
        (b':', number) => parse_int(number).map(Reply::Int).ok_or(Malformed),
        (b'$', b"-1") => Ok(Reply::Null),
        (b'$', _) => Ok(Reply::Bulk(bytes.slice(after..bytes.len() - 2))),
        (b'*', b"-1") => Ok(Reply::NullArray),
        (b'*', _) => {
            let elements = elements(bytes).ok_or(Malformed)?;
            Ok(Reply::Array(elements.iter().map(parse).collect::<Result<_, _>>()?))
        }
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLIES: [&str; 12] = [
        "+OK\r\n",
        "-ERR a\r\n",
        ":-5\r\n",
        "$-1\r\n",
        "$0\r\n\r\n",
        "$4\r\na\r\nb\r\n",
        "*-1\r\n",
        "*0\r\n",
        "*2\r\n*1\r\n:1\r\n$1\r\nx\r\n",
        "%1\r\n+a\r\n*2\r\n_\r\n#t\r\n",
        "=5\r\ntxt:x\r\n",
        "~1\r\n,1.5\r\n",
    ];

    #[test]
    fn a_reply_ends_where_it_ends_however_it_is_cut() {
        for reply in REPLIES {
            let bytes = [reply.as_bytes(), b"+next\r\n"].concat();
            let mut scanner = Scanner::default();
            for cut in 0..reply.len() {
                assert_eq!(scanner.end(&bytes[..cut]), Ok(None), "{reply:?} cut at {cut}");
            }
            assert_eq!(scanner.end(&bytes), Ok(Some(reply.len())), "{reply:?}");
        }
        assert_eq!(Scanner::default().end(b"HTTP/1.1 400\r\n"), Err(Malformed));
    }

    #[test]
    fn replies_are_understood() {
        let parse = |text: &'static str| parse(&Bytes::from_static(text.as_bytes())).expect("a reply");
        let nested = Reply::Array(vec![Reply::Array(vec![Reply::Int(1)]), Reply::bulk("x")]);
        assert_eq!(parse(REPLIES[8]), nested);
        assert_eq!(parse(REPLIES[5]), Reply::bulk("a\r\nb"));
        assert_eq!([parse(REPLIES[3]), parse(REPLIES[6])], [Reply::Null, Reply::NullArray]);
        assert!(parse(REPLIES[1]).is_error());
    }

    #[test]
    fn misplaced_is_only_what_was_certainly_not_done() {
        let raw = |text: &'static str| Answer::Raw(Bytes::from_static(text.as_bytes()));
        assert!(raw("-MOVED 1 a:1\r\n").is_misplaced());
        assert!(Answer::error(CommandError::TryAgain(String::new())).is_misplaced());
        assert!(!raw("-UNKNOWN x\r\n").is_misplaced() && !raw("+MOVED\r\n").is_misplaced());
        assert!(!Answer::error(CommandError::Unknown(String::new())).is_misplaced());
    }
}
