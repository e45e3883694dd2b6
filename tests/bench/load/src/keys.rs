//! Which node each key belongs to, worked out before the clock starts.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, bail, ensure};
use quoris_engine::hash_slot::{SLOT_COUNT, slot_of};

use crate::wire;

/// The keys of one node.
pub struct Share {
    /// Where the node takes commands.
    pub addr: String,
    /// The numbers of the keys whose slots it leads.
    pub keys: Vec<u32>,
}

/// The key of a number.
pub fn name(number: u32) -> [u8; 16] {
    let mut name = *b"key:000000000000";
    let mut rest = number;
    for digit in name[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    name
}

/// Another key in the same slot.
pub fn tagged(number: u32, suffix: &str) -> Vec<u8> {
    [b"{", &name(number)[..], b"}:", suffix.as_bytes()].concat()
}

/// All keys at one address.
pub fn whole(addr: &str, count: u32) -> Vec<Share> {
    vec![Share { addr: addr.to_owned(), keys: (0..count).collect() }]
}

/// `count` keys shared out over the nodes that lead their slots; a server that is no cluster gets them all.
pub fn shares(addr: &str, count: u32) -> Result<Vec<Share>> {
    ensure!(count > 0, "no keys asked for");
    let Some(ranges) = slot_ranges(addr)? else { return Ok(whole(addr, count)) };
    let mut owners = vec![None; usize::from(SLOT_COUNT)];
    for range in &ranges {
        owners[usize::from(range.first)..=usize::from(range.last)].fill(Some(&range.addr));
    }
    let mut by_node = BTreeMap::<&String, Vec<u32>>::new();
    for number in 0..count {
        let slot = slot_of(&name(number));
        let owner = owners[usize::from(slot)].with_context(|| format!("slot {slot} has no leader"))?;
        by_node.entry(owner).or_default().push(number);
    }
    Ok(by_node.into_iter().map(|(addr, keys)| Share { addr: addr.clone(), keys }).collect())
}

struct SlotRange {
    first: u16,
    last: u16,
    addr: String,
}

/// What CLUSTER SLOTS says; nothing if the server is no cluster.
fn slot_ranges(addr: &str) -> Result<Option<Vec<SlotRange>>> {
    let mut socket = TcpStream::connect(addr).with_context(|| format!("connecting to {addr}"))?;
    socket.write_all(&wire::command(&[b"CLUSTER", b"SLOTS"]))?;
    let mut reader = Reader { socket, data: Vec::new(), at: 0 };
    match reader.value()? {
        Value::Error(text) if text.contains("cluster support disabled") => Ok(None),
        Value::Array(rows) => rows.iter().map(range_of).collect::<Result<_>>().map(Some),
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
