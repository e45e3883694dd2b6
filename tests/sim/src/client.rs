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
    /// Several replies, those within others too.
    Many(Vec<Reply>),
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
    kind: ClientKind,
    connection: Option<BufReader<TcpStream>>,
}

/// What a node takes a client for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKind {
    /// Its calls are forwarded.
    Plain,
    /// It is told where to go.
    OfCluster,
}

impl Client {
    /// A client of a cluster of `nodes`, beginning with the `first`.
    pub fn new(nodes: Vec<String>, first: usize, kind: ClientKind) -> Client {
        Client { at: first % nodes.len(), nodes, kind, connection: None }
    }

    /// One call and its outcome. After an error the next call goes where the error points, or to another node.
    pub async fn call(&mut self, words: &[&[u8]]) -> Outcome {
        self.calls(&[words]).await
    }

    /// One call that may take so long, and its outcome.
    pub async fn wait(&mut self, words: &[&[u8]], patience: Duration) -> Outcome {
        self.calls_within(&[words], patience).await
    }

    /// The number of the node that the next call goes to.
    pub fn node(&self) -> u64 {
        self.at as u64 + 1
    }

    /// Whether its calls are forwarded.
    pub fn is_plain(&self) -> bool {
        self.kind == ClientKind::Plain
    }

    /// The calls in a transaction, and its outcome; `Refused` also if a watched key has changed.
    pub async fn transaction(&mut self, calls: &[&[&[u8]]]) -> Outcome {
        let mut all: Vec<&[&[u8]]> = vec![&[b"MULTI"]];
        all.extend(calls);
        all.push(&[b"EXEC"]);
        match self.calls(&all).await {
            Outcome::Ok(Reply::Null) => Outcome::Refused("a watched key has changed".into()),
            // It was found wrong before it ran.
            Outcome::Ok(Reply::Error(line)) => Outcome::Refused(line),
            outcome => outcome,
        }
    }

    /// Appends `word` to the string at `key` as long as nobody else changes it between a read and the write.
    pub async fn append_watched(&mut self, key: &[u8], word: &[u8]) -> Outcome {
        let mut value = match self.call(&[b"WATCH", key]).await {
            Outcome::Ok(Reply::Value(_)) => Vec::new(),
            outcome => return Outcome::Refused(format!("WATCH: {outcome:?}")),
        };
        match self.call(&[b"GET", key]).await {
            Outcome::Ok(Reply::Value(found)) => value = found,
            Outcome::Ok(Reply::Null) => {}
            outcome => return Outcome::Refused(format!("GET: {outcome:?}")),
        }
        if self.connection.is_none() {
            return Outcome::Refused("the connection that watches is gone".into());
        }
        value.extend_from_slice(word);
        self.transaction(&[&[b"SET", key, &value]]).await
    }

    /// Calls on one connection, all sent before any is answered; the last one's outcome, or the first error that says
    /// where to go.
    async fn calls(&mut self, calls: &[&[&[u8]]]) -> Outcome {
        self.calls_within(calls, PATIENCE).await
    }

    async fn calls_within(&mut self, calls: &[&[&[u8]]], patience: Duration) -> Outcome {
        if self.connection.is_none() {
            match tokio::time::timeout(PATIENCE, connect(&self.nodes[self.at], self.kind)).await {
                Ok(Ok(connection)) => self.connection = Some(connection),
                _ => {
                    self.elsewhere();
                    return Outcome::Refused("cannot connect".into());
                }
            }
        }
        let Some(connection) = &mut self.connection else { unreachable!("connected above") };
        let failure = match tokio::time::timeout(patience, exchange(connection, calls)).await {
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

async fn connect(addr: &str, kind: ClientKind) -> io::Result<BufReader<TcpStream>> {
    let mut connection = BufReader::new(TcpStream::connect(addr.to_owned()).await?);
    if kind == ClientKind::OfCluster {
        exchange(&mut connection, &[&[b"CLUSTER", b"MYID"]]).await?;
    }
    Ok(connection)
}

async fn exchange(connection: &mut BufReader<TcpStream>, calls: &[&[&[u8]]]) -> io::Result<Reply> {
    let mut bytes = Vec::new();
    for words in calls {
        bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in *words {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
    }
    connection.get_mut().write_all(&bytes).await?;
    let mut pointer = None;
    for _ in 1..calls.len() {
        match reply(connection).await? {
            Reply::Error(line) if line.starts_with("MOVED") => pointer = pointer.or(Some(line)),
            _ => {}
        }
    }
    Ok(match (reply(connection).await?, pointer) {
        // The transaction was given up because one of its calls belongs elsewhere.
        (Reply::Error(line), Some(pointer)) if line.starts_with("EXECABORT") => Reply::Error(pointer),
        (last, _) => last,
    })
}

/// One whole reply.
async fn reply(connection: &mut BufReader<TcpStream>) -> io::Result<Reply> {
    // The parts of a reply of several.
    let mut parts = match read(connection).await? {
        Part::One(reply) => return Ok(reply),
        Part::Several(parts) => parts,
    };
    let mut replies = Vec::new();
    while parts > 0 {
        parts -= 1;
        match read(connection).await? {
            Part::One(reply) => replies.push(reply),
            Part::Several(more) => parts += more,
        }
    }
    Ok(Reply::Many(replies))
}

enum Part {
    One(Reply),
    Several(usize),
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
