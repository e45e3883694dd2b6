//! A small RESP client over the simulated network that never lies about an outcome.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use turmoil::net::TcpStream;

/// How long a client waits for a reply.
const PATIENCE: Duration = Duration::from_secs(5);

/// A reply, as far as the workload needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Anything that is not an error: a status, a number or a string.
    Value(String),
    /// No value.
    Null,
    /// An error line.
    Error(String),
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered.
    Ok(Reply),
    /// Certainly not applied.
    NotApplied(String),
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
    pub async fn call(&mut self, words: &[&str]) -> Outcome {
        if self.connection.is_none() {
            match tokio::time::timeout(PATIENCE, TcpStream::connect(self.nodes[self.at].clone())).await {
                Ok(Ok(stream)) => self.connection = Some(BufReader::new(stream)),
                _ => {
                    self.elsewhere();
                    return Outcome::NotApplied("cannot connect".into());
                }
            }
        }
        let Some(connection) = &mut self.connection else { unreachable!("connected above") };
        let reply = match tokio::time::timeout(PATIENCE, exchange(connection, words)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => {
                self.elsewhere();
                return Outcome::Unknown(error.to_string());
            }
            Err(_) => {
                self.elsewhere();
                return Outcome::Unknown("no reply in time".into());
            }
        };
        match reply {
            Reply::Error(line) => self.failed(line),
            reply => Outcome::Ok(reply),
        }
    }

    fn failed(&mut self, line: String) -> Outcome {
        let mut words = line.split(' ');
        match (words.next(), words.nth(1)) {
            (Some("MOVED"), Some(addr)) => {
                self.at = self.nodes.iter().position(|node| node == addr).unwrap_or(self.at);
                self.connection = None;
                Outcome::NotApplied(line)
            }
            (Some("UNKNOWN"), _) => Outcome::Unknown(line),
            _ => {
                self.elsewhere();
                Outcome::NotApplied(line)
            }
        }
    }

    fn elsewhere(&mut self) {
        self.at = (self.at + 1) % self.nodes.len();
        self.connection = None;
    }
}

async fn exchange(connection: &mut BufReader<TcpStream>, words: &[&str]) -> io::Result<Reply> {
    let mut call = format!("*{}\r\n", words.len());
    for word in words {
        call.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    connection.get_mut().write_all(call.as_bytes()).await?;
    let mut line = String::new();
    if connection.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (kind, rest) = line.trim_end().split_at(1);
    match kind {
        "+" | ":" => Ok(Reply::Value(rest.into())),
        "-" => Ok(Reply::Error(rest.into())),
        "$" if rest == "-1" => Ok(Reply::Null),
        "$" => {
            let len: usize = rest.parse().map_err(io::Error::other)?;
            let mut bytes = vec![0; len + 2];
            connection.read_exact(&mut bytes).await?;
            bytes.truncate(len);
            Ok(Reply::Value(String::from_utf8(bytes).map_err(io::Error::other)?))
        }
        _ => Err(io::Error::other(format!("unexpected reply {line:?}"))),
    }
}
