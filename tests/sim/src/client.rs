//! A small RESP client over the simulated network that never lies about an outcome.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use turmoil::net::TcpStream;

/// How long a client waits for a connection or a reply.
const PATIENCE: Duration = Duration::from_secs(2);

/// A reply, as far as the workload needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status, a number or a string.
    Value(Vec<u8>),
    /// No value.
    Null,
    /// Several replies; what is in them is of no interest here.
    Many,
    /// The command was run, or found wrong, and answered with this error.
    Error(String),
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered.
    Ok(Reply),
    /// Certainly not applied.
    Refused(String),
    /// May have been applied, or may be yet.
    Unknown(String),
}

/// A client that follows MOVED.
pub struct Client {
    nodes: Vec<String>,
    at: usize,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    /// A client of a cluster of `nodes`, beginning with the `first`.
    pub fn new(nodes: Vec<String>, first: usize) -> Client {
        Client { at: first % nodes.len(), nodes, connection: None }
    }

    /// One call and its outcome. After an error the next call goes where the error points, or to another node.
    pub async fn call(&mut self, words: &[&[u8]]) -> Outcome {
        if self.connection.is_none() {
            match tokio::time::timeout(PATIENCE, TcpStream::connect(self.nodes[self.at].clone())).await {
                Ok(Ok(stream)) => self.connection = Some(BufReader::new(stream)),
                _ => {
                    self.elsewhere();
                    return Outcome::Refused("cannot connect".into());
                }
            }
        }
        let Some(connection) = &mut self.connection else { unreachable!("connected above") };
        let failure = match tokio::time::timeout(PATIENCE, exchange(connection, words)).await {
            Ok(Ok(Reply::Error(line))) => return self.failed(line),
            Ok(Ok(reply)) => return Outcome::Ok(reply),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no reply in time".into(),
        };
        self.elsewhere();
        Outcome::Unknown(failure)
    }

    fn failed(&mut self, line: String) -> Outcome {
        let mut words = line.split(' ');
        match (words.next(), words.nth(1)) {
            (Some("MOVED"), Some(addr)) => {
                self.at = self.nodes.iter().position(|node| node == addr).unwrap_or(self.at);
                self.connection = None;
                Outcome::Refused(line)
            }
            (Some("UNKNOWN"), _) => Outcome::Unknown(line),
            (Some("CLUSTERDOWN" | "TRYAGAIN"), _) => {
                self.elsewhere();
                Outcome::Refused(line)
            }
            _ => Outcome::Ok(Reply::Error(line)),
        }
    }

    fn elsewhere(&mut self) {
        self.at = (self.at + 1) % self.nodes.len();
        self.connection = None;
    }
}

async fn exchange(connection: &mut BufReader<TcpStream>, words: &[&[u8]]) -> io::Result<Reply> {
    let mut call = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        call.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        call.extend_from_slice(word);
        call.extend_from_slice(b"\r\n");
    }
    connection.get_mut().write_all(&call).await?;
    let reply = read(connection).await?;
    // The parts of a reply of several.
    let Part::Several(mut parts) = reply else { return Ok(reply.alone()) };
    while parts > 0 {
        parts -= 1;
        if let Part::Several(more) = read(connection).await? {
            parts += more;
        }
    }
    Ok(Reply::Many)
}

enum Part {
    One(Reply),
    Several(usize),
}

impl Part {
    fn alone(self) -> Reply {
        match self {
            Part::One(reply) => reply,
            Part::Several(_) => Reply::Many,
        }
    }
}

async fn read(connection: &mut BufReader<TcpStream>) -> io::Result<Part> {
    let mut line = String::new();
    if connection.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let strange = || io::Error::other(format!("unexpected reply {line:?}"));
    let rest = line.get(1..).ok_or_else(strange)?.trim_end();
    Ok(Part::One(match (&line[..1], rest) {
        ("+" | ":", _) => Reply::Value(rest.into()),
        ("-", _) => Reply::Error(rest.into()),
        ("$" | "*", "-1") => Reply::Null,
        ("*", _) => return Ok(Part::Several(rest.parse().map_err(io::Error::other)?)),
        ("$", _) => {
            let len: usize = rest.parse().map_err(io::Error::other)?;
            let mut bytes = vec![0; len + 2];
            connection.read_exact(&mut bytes).await?;
            bytes.truncate(len);
            Reply::Value(bytes)
        }
        _ => return Err(strange()),
    }))
}
