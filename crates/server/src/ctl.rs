//! `quoris ctl`: asks a running node, as any client would.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use quoris_raft::env::{Net, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::limits;
use crate::resp::encode_call;
use crate::status::Status;

/// Why there is no answer. One line for the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// Nobody is there, or nobody answers.
    #[error("{addr}: {source}")]
    Io {
        /// Who was asked.
        addr: String,
        /// What went wrong.
        source: io::Error,
    },
    /// The node answered with an error.
    #[error("{addr}: {error}")]
    Refused {
        /// Who was asked.
        addr: String,
        /// What it said.
        error: String,
    },
}

/// The status of the node at `addr`, which wants `password` if it is not empty.
pub async fn status(net: &dyn Net, addr: &str, password: &str) -> Result<Status, CtlError> {
    let failed = |source| CtlError::Io { addr: addr.to_string(), source };
    let asked = tokio::time::timeout(Duration::from_millis(limits::CTL_TIMEOUT_MS), async {
        let mut stream = net.connect(addr).await?;
        if !password.is_empty()
            && let Err(error) = ask(&mut *stream, &["AUTH", password]).await?
        {
            return Ok(Err(error));
        }
        ask(&mut *stream, &["QUORIS", "STATUS"]).await
    });
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    let answer = asked.await.map_err(late).and_then(|answer| answer).map_err(failed)?;
    let json = answer.map_err(|error| CtlError::Refused { addr: addr.to_string(), error })?;
    serde_json::from_str(&json).map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))
}

/// Sends a call and reads its reply: a line or a bulk string, or an error line.
async fn ask(stream: &mut dyn Stream, words: &[&str]) -> io::Result<Result<String, String>> {
    let mut call = BytesMut::new();
    encode_call(words, &mut call);
    stream.write_all(&call).await?;
    let mut got = BytesMut::new();
    loop {
        if let Some(reply) = parse(&got)? {
            return Ok(reply);
        }
        if got.len() > limits::CTL_REPLY_BYTES {
            return Err(unexpected("an answer without end"));
        }
        if stream.read_buf(&mut got).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A whole reply at the front of `got`.
fn parse(got: &[u8]) -> io::Result<Option<Result<String, String>>> {
    let Some(end) = got.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let line = text(&got[1..end]);
    match got[0] {
        b'+' => Ok(Some(Ok(line))),
        b'-' => Ok(Some(Err(line))),
        b'$' => {
            let length: usize = line.parse().map_err(|_| unexpected("an answer of no length"))?;
            Ok(got.get(end + 2..).and_then(|rest| rest.get(..length)).map(|bytes| Ok(text(bytes))))
        }
        _ => Err(unexpected("not an answer of quoris")),
    }
}

fn unexpected(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_when_they_are_whole() {
        let read = |bytes: &[u8]| parse(bytes).expect("a reply or the start of one");
        assert_eq!(read(b"$5\r\nhel"), None);
        assert_eq!(read(b"$5\r\nhello\r\n"), Some(Ok("hello".to_string())));
        assert_eq!(read(b"-NOAUTH x\r\n"), Some(Err("NOAUTH x".to_string())));
        assert_eq!(read(b"+O"), None);
        assert!(parse(b"HTTP/1.1 400\r\n").is_err());
    }
}
