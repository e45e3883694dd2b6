//! One connection to one node.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::resp::{self, Value};

/// A reply larger than this is taken for nonsense.
const REPLY_BYTES: usize = 256 << 20;

/// Calls and replies in order. After an error it is of no use: nobody knows which reply comes next.
pub struct Connection {
    stream: TcpStream,
    inbox: BytesMut,
}

impl Connection {
    /// Connects within `limit`.
    pub async fn open(addr: &str, limit: Duration) -> io::Result<Connection> {
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
        let stream = timeout(limit, TcpStream::connect(addr)).await.map_err(late)??;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, inbox: BytesMut::new() })
    }

    /// Sends calls at once and reads all their replies. Errors inside of arrays and at the top are values.
    pub async fn exchange(&mut self, calls: &[&[&str]]) -> io::Result<Vec<Value>> {
        self.send(calls).await?;
        let mut replies = Vec::with_capacity(calls.len());
        for _ in calls {
            replies.push(self.next().await?);
        }
        Ok(replies)
    }

    /// Sends calls; their replies are still to be read.
    pub async fn send(&mut self, calls: &[&[&str]]) -> io::Result<()> {
        let mut bytes = Vec::new();
        calls.iter().for_each(|words| resp::encode(words, &mut bytes));
        self.stream.write_all(&bytes).await
    }

    /// The next reply, or message.
    pub async fn next(&mut self) -> io::Result<Value> {
        loop {
            if let Some((value, length)) = resp::parse(&self.inbox)? {
                self.inbox.advance(length);
                return Ok(value);
            }
            if self.inbox.len() > REPLY_BYTES {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a reply without end"));
            }
            if self.stream.read_buf(&mut self.inbox).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the server"));
            }
        }
    }

    /// The port at this end: with it others can tell two connections of one client apart.
    pub fn local_port(&self) -> io::Result<u16> {
        Ok(self.stream.local_addr()?.port())
    }
}
