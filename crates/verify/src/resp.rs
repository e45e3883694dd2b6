//! RESP2, as a client speaks it (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).
//!
//! Small, and on purpose not the server's own: a mistake that both ends share would not be seen.

use std::io;

use crate::outcome::Failure;

/// A reply. Bulk strings and lines of text are the same to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A string.
    Text(String),
    /// A whole number.
    Int(i64),
    /// Nothing.
    Nil,
    /// Several replies.
    Array(Vec<Value>),
    /// An error line.
    Error(String),
}

impl Value {
    fn garbled(self) -> Failure {
        Failure::Garbled(format!("a reply of another kind: {self:?}"))
    }

    /// A status such as `OK`; that it came is all that counts.
    pub fn status(self) -> Result<(), Failure> {
        match self {
            Value::Text(text) if text == "OK" => Ok(()),
            other => Err(other.garbled()),
        }
    }

    /// A string.
    pub fn text(self) -> Result<String, Failure> {
        match self {
            Value::Text(text) => Ok(text),
            other => Err(other.garbled()),
        }
    }

    /// A number, as such or in a string.
    pub fn number<T: std::str::FromStr + TryFrom<i64>>(self) -> Result<T, Failure> {
        let number = match &self {
            Value::Text(text) => text.parse().ok(),
            Value::Int(value) => T::try_from(*value).ok(),
            _ => None,
        };
        number.ok_or_else(|| self.garbled())
    }

    /// What `read` makes of it, unless it is nil.
    pub fn or_nil<T>(self, read: impl FnOnce(Value) -> Result<T, Failure>) -> Result<Option<T>, Failure> {
        match self {
            Value::Nil => Ok(None),
            other => read(other).map(Some),
        }
    }

    /// An array, with `read` for each element.
    pub fn list<T>(self, read: impl FnMut(Value) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
        match self {
            Value::Array(items) => items.into_iter().map(read).collect(),
            other => Err(other.garbled()),
        }
    }

    /// An array of exactly `N`.
    pub fn items<const N: usize>(self) -> Result<[Value; N], Failure> {
        let items = self.list(Ok)?;
        <[Value; N]>::try_from(items).map_err(|items| Value::Array(items).garbled())
    }
}

/// Appends a call.
pub fn encode(words: &[&str], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

/// The reply at the front of `bytes` and its length; `None` if it has not come whole.
pub fn parse(bytes: &[u8]) -> io::Result<Option<(Value, usize)>> {
    let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
    let (line, after) = (&bytes[..end], end + 2);
    let (kind, rest) = line.split_first().ok_or_else(malformed)?;
    let text = || String::from_utf8_lossy(rest).into_owned();
    let number = || text().parse::<i64>().map_err(|_| malformed());
    Ok(match kind {
        b'+' => Some((Value::Text(text()), after)),
        b'-' => Some((Value::Error(text()), after)),
        b':' => Some((Value::Int(number()?), after)),
        b'$' | b'*' if number()? < 0 => Some((Value::Nil, after)),
        b'$' => {
            let length = number()? as usize;
            bytes
                .get(after..after.saturating_add(length))
                .zip(bytes.get(after + length..after + length + 2))
                .map(|(word, _)| {
                    (Value::Text(String::from_utf8_lossy(word).into_owned()), after + length + 2)
                })
        }
        b'*' => {
            let (mut items, mut at) = (Vec::new(), after);
            for _ in 0..number()? {
                let Some((item, length)) = parse(&bytes[at..])? else { return Ok(None) };
                items.push(item);
                at += length;
            }
            Some((Value::Array(items), at))
        }
        _ => return Err(malformed()),
    })
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what came is not RESP")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_read_when_it_is_whole() {
        let text = |text: &str| Value::Text(text.to_string());
        let cases = [
            ("+OK\r\n", text("OK")),
            ("-ERR a b\r\n", Value::Error("ERR a b".to_string())),
            (":-5\r\n", Value::Int(-5)),
            ("$-1\r\n", Value::Nil),
            ("*-1\r\n", Value::Nil),
            ("$0\r\n\r\n", text("")),
            ("$4\r\na\r\nb\r\n", text("a\r\nb")),
            (
                "*2\r\n*1\r\n:1\r\n$1\r\nx\r\n",
                Value::Array(vec![Value::Array(vec![Value::Int(1)]), text("x")]),
            ),
        ];
        for (bytes, value) in cases {
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes.as_bytes()[..cut]).expect("RESP"), None, "{bytes:?} cut at {cut}");
            }
            let longer = [bytes, "+next\r\n"].concat();
            assert_eq!(parse(longer.as_bytes()).expect("RESP"), Some((value, bytes.len())));
        }
        assert!(parse(b"HTTP/1.1 400\r\n").is_err() && parse(b"$x\r\n").is_err());
    }

    #[test]
    fn calls_are_arrays_of_bulk_strings() {
        let mut out = Vec::new();
        encode(&["GET", "ä"], &mut out);
        assert_eq!(out, "*2\r\n$3\r\nGET\r\n$2\r\nä\r\n".as_bytes());
    }

    #[test]
    fn replies_of_another_kind_are_garbled() {
        assert_eq!(Value::Text("7".to_string()).number::<u64>(), Ok(7));
        assert!(matches!(Value::Int(-7).number::<u64>(), Err(Failure::Garbled(_))));
        assert!(matches!(Value::Nil.status(), Err(Failure::Garbled(_))));
        assert_eq!(Value::Nil.or_nil(Value::text), Ok(None));
        assert!(Value::Array(vec![Value::Nil]).items::<2>().is_err());
    }
}
