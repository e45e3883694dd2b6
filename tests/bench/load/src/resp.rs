//! A connection to a Redis server.

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::wire;

const RECEIVE_BYTES: usize = 64 * 1024;

/// One connection, as its runs see it.
pub struct Connection {
    socket: TcpStream,
    /// The next run.
    pub out: Vec<u8>,
    replies: Replies,
}

impl Connection {
    pub async fn open(addr: &str) -> Result<Self> {
        let socket = TcpStream::connect(addr).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, out: Vec::new(), replies: Replies::default() })
    }

    /// Sends `out` and waits for `replies` replies.
    pub async fn exchange(&mut self, replies: usize) -> Result<()> {
        self.socket.write_all(&self.out).await?;
        self.out.clear();
        let mut missing = replies;
        loop {
            missing -= self.replies.take(missing)?;
            if missing == 0 {
                return Ok(());
            }
            self.replies.receive(&mut self.socket).await?;
        }
    }
}

/// What has arrived and was not counted yet.
#[derive(Default)]
pub struct Replies {
    input: Vec<u8>,
}

impl Replies {
    /// Counts whole replies off, `most` at most.
    pub fn take(&mut self, most: usize) -> Result<usize> {
        let (mut seen, mut at) = (0, 0);
        while seen < most
            && at < self.input.len()
            && let Some(len) = wire::reply_len(&self.input[at..])?
        {
            at += len;
            seen += 1;
        }
        self.input.drain(..at);
        Ok(seen)
    }

    pub async fn receive(&mut self, socket: &mut TcpStream) -> Result<()> {
        self.input.reserve(RECEIVE_BYTES);
        ensure!(socket.read_buf(&mut self.input).await? > 0, "the server closed the connection");
        Ok(())
    }
}
