//! A connection to another server, seen from the end that asks: calls go out, and their replies come back in order.

use std::io;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use quoris_raft::env::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::limits;
use crate::resp::reply::Scanner;

/// A connection to another server.
pub struct Outgoing {
    stream: Box<dyn Stream>,
    inbox: BytesMut,
}

impl Outgoing {
    /// Over a stream on which nothing has been said.
    pub fn over(stream: Box<dyn Stream>) -> Outgoing {
        Outgoing { stream, inbox: BytesMut::new() }
    }

    /// Whether the other end still listens, as far as can be known: when nothing is asked, nothing arrives but its end.
    pub fn is_open(&mut self) -> bool {
        self.is_quiet() && self.stream.read_buf(&mut self.inbox).now_or_never().is_none()
    }

    /// Whether all that has arrived has been read.
    pub fn is_quiet(&self) -> bool {
        self.inbox.is_empty()
    }

    /// Sends encoded calls.
    pub async fn send(&mut self, calls: &[u8]) -> io::Result<()> {
        self.stream.write_all(calls).await?;
        self.stream.flush().await
    }

    /// The next reply, as the other end encoded it. Once it has failed, the connection is of no use.
    pub async fn reply(&mut self) -> io::Result<Bytes> {
        let mut scanner = Scanner::default();
        loop {
            let end = scanner.end(&self.inbox).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            if let Some(end) = end {
                return Ok(self.inbox.split_to(end).freeze());
            }
            self.inbox.reserve(limits::READ_BYTES);
            if self.stream.read_buf(&mut self.inbox).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
