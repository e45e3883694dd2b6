//! Which node each key belongs to, worked out before the clock starts.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, bail, ensure};
use quoris_engine::hash_slot::slot_of;

use crate::wire;

/// The keys of one node.
pub struct Share {
    /// Where the node takes commands.
    pub addr: String,
    /// The keys whose slots it leads.
    pub keys: Vec<String>,
}

/// `count` keys shared out over the nodes that lead their slots; a server that is no cluster gets them all.
pub fn shares(addr: &str, count: usize) -> Result<Vec<Share>> {
    let ranges = slot_ranges(addr)?;
    let mut by_node = BTreeMap::<String, Vec<String>>::new();
    for number in 0..count {
        let key = format!("key:{number:012}");
        let slot = slot_of(key.as_bytes());
        let owner = ranges.iter().find(|range| (range.first..=range.last).contains(&slot));
        let owner = owner.with_context(|| format!("slot {slot} has no leader"))?;
        by_node.entry(owner.addr.clone()).or_default().push(key);
    }
    ensure!(!by_node.is_empty(), "no keys asked for");
    Ok(by_node.into_iter().map(|(addr, keys)| Share { addr, keys }).collect())
}

struct SlotRange {
    first: u16,
    last: u16,
    addr: String,
}

/// What CLUSTER SLOTS says; everything at `addr` if the server is no cluster.
fn slot_ranges(addr: &str) -> Result<Vec<SlotRange>> {
    let mut socket = TcpStream::connect(addr).with_context(|| format!("connecting to {addr}"))?;
    let mut call = Vec::new();
    wire::encode(&mut call, &[b"CLUSTER", b"SLOTS"]);
    socket.write_all(&call)?;
    let mut reader = Reader { socket, data: Vec::new(), at: 0 };
    match reader.value()? {
        Value::Error(text) if text.contains("cluster support disabled") => {
            Ok(vec![SlotRange { first: 0, last: 16383, addr: addr.to_owned() }])
        }
        Value::Array(rows) => rows.iter().map(range_of).collect(),
        other => bail!("CLUSTER SLOTS answers {other:?}"),
    }
}

/// One row: first slot, last slot, then the nodes as [host, port, …], the leader first.
fn range_of(row: &Value) -> Result<SlotRange> {
    if let Value::Array(fields) = row
        && let [Value::Int(first), Value::Int(last), Value::Array(leader), ..] = fields.as_slice()
        && let [Value::Text(host), Value::Int(port), ..] = leader.as_slice()
    {
        let addr = format!("{host}:{port}");
        return Ok(SlotRange { first: u16::try_from(*first)?, last: u16::try_from(*last)?, addr });
    }
    bail!("not a row of CLUSTER SLOTS: {row:?}")
}

#[derive(Debug)]
enum Value {
    Text(String),
    Error(String),
    Int(i64),
    Array(Vec<Value>),
}

struct Reader {
    socket: TcpStream,
    data: Vec<u8>,
    at: usize,
}

impl Reader {
    fn value(&mut self) -> Result<Value> {
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1).context("an empty reply line")?;
        Ok(match kind {
            "+" => Value::Text(rest.to_owned()),
            "-" => Value::Error(rest.to_owned()),
            ":" => Value::Int(rest.parse()?),
            "$" if rest.starts_with('-') => Value::Text(String::new()),
            "$" => Value::Text(self.bulk(rest.parse()?)?),
            "*" => {
                let count = rest.parse::<i64>()?.max(0);
                Value::Array((0..count).map(|_| self.value()).collect::<Result<_>>()?)
            }
            other => bail!("unexpected reply type {other}"),
        })
    }

    fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.data[self.at..].windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8(self.data[self.at..self.at + end].to_vec())?;
                self.at += end + 2;
                return Ok(line);
            }
            self.receive()?;
        }
    }

    fn bulk(&mut self, len: usize) -> Result<String> {
        while self.data.len() < self.at + len + 2 {
            self.receive()?;
        }
        let text = String::from_utf8(self.data[self.at..self.at + len].to_vec())?;
        self.at += len + 2;
        Ok(text)
    }

    fn receive(&mut self) -> Result<()> {
        let mut chunk = [0; 4096];
        let count = self.socket.read(&mut chunk)?;
        ensure!(count > 0, "the server closed the connection");
        self.data.extend_from_slice(&chunk[..count]);
        Ok(())
    }
}
