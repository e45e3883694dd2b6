//! Who is verified: which nodes there are, and whether they are a cluster.

use std::fmt;
use std::io;
use std::time::Duration;

use crc::{CRC_16_XMODEM, Crc};
use tokio::time::timeout;

use crate::connection::Connection;
use crate::outcome::Failure;
use crate::resp::Value;

/// How long a node may take to answer the first question.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

const SLOTS: u16 = 16384;
static CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// The nodes that clients are spread over.
#[derive(Clone, Debug)]
pub struct Target {
    /// Their addresses, those that were given first.
    pub addrs: Vec<String>,
    /// Whether they are a cluster with slots. If not, one of them is the master, and only that one counts.
    pub is_cluster: bool,
    /// What each connection must give first; empty if nothing.
    pub password: String,
}

/// Nobody could be asked: what each address said.
#[derive(Debug)]
pub struct Unreachable(Vec<String>);

impl fmt::Display for Unreachable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "no node answers: {}", self.0.join("; "))
    }
}

impl Target {
    /// Asks the nodes at `addrs`, one after the other, for the cluster that they belong to.
    pub async fn find(addrs: &[String], password: &str) -> Result<Target, Unreachable> {
        // While it is not known, no replica is turned away: it can tell, too.
        let mut target = Target { addrs: addrs.to_vec(), is_cluster: true, password: password.to_string() };
        let mut said = Vec::new();
        for addr in addrs {
            match target.slots(addr).await {
                Ok(Value::Error(error)) if !error.starts_with("ERR") => said.push(format!("{addr}: {error}")),
                Ok(slots) => {
                    target.is_cluster = !matches!(slots, Value::Error(_));
                    for other in nodes_of(slots, addr).unwrap_or_default() {
                        if !target.addrs.contains(&other) {
                            target.addrs.push(other);
                        }
                    }
                    return Ok(target);
                }
                Err(error) => said.push(format!("{addr}: {error}")),
            }
        }
        Err(Unreachable(said))
    }

    async fn slots(&self, addr: &str) -> io::Result<Value> {
        let mut connection = self.connect(addr, FIRST_ANSWER).await?;
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        let mut replies =
            timeout(FIRST_ANSWER, connection.exchange(&[&["CLUSTER", "SLOTS"]])).await.map_err(late)??;
        Ok(replies.remove(0))
    }

    /// A connection that is let in, and whose node is not a replica of a server without slots.
    pub async fn connect(&self, addr: &str, limit: Duration) -> io::Result<Connection> {
        let mut connection = Connection::open(addr, limit).await?;
        let mut greeting: Vec<&[&str]> = Vec::new();
        let auth = ["AUTH", &self.password];
        if !self.password.is_empty() {
            greeting.push(&auth);
        }
        if !self.is_cluster {
            greeting.push(&["ROLE"]);
        }
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        let mut replies = timeout(limit, connection.exchange(&greeting)).await.map_err(late)??;
        if !self.password.is_empty()
            && let Value::Error(error) = replies.remove(0)
        {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, error));
        }
        match replies.pop() {
            // Only those that ask a replica by name may be answered by one.
            Some(Value::Array(role)) if role.first() == Some(&Value::Text("slave".to_string())) => {
                Err(io::Error::new(io::ErrorKind::ConnectionRefused, "it is a replica"))
            }
            Some(Value::Error(error)) if error.starts_with("NOAUTH") => {
                Err(io::Error::new(io::ErrorKind::PermissionDenied, error))
            }
            _ => Ok(connection),
        }
    }
}

/// The addresses in the reply to CLUSTER SLOTS of the node at `asked`, which may leave its own host out.
fn nodes_of(slots: Value, asked: &str) -> Result<Vec<String>, Failure> {
    let own_host = asked.rsplit_once(':').map_or(asked, |(host, _)| host);
    let mut addrs = Vec::new();
    for range in slots.list(|range| range.list(Ok))? {
        for node in range.into_iter().skip(2) {
            let mut fields = node.list(Ok)?.into_iter();
            let (Some(host), Some(port)) = (fields.next(), fields.next()) else { continue };
            let host = host.or_nil(Value::text)?.filter(|host| !host.is_empty());
            addrs.push(address(&host.unwrap_or(own_host.to_string()), port.number::<u16>()?));
        }
    }
    addrs.sort();
    addrs.dedup();
    Ok(addrs)
}

fn address(host: &str, port: u16) -> String {
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// The slot and the address that a MOVED or an ASK names; the host may be left out by a node that does not know its own.
pub fn redirection(error: &str, asked: &str) -> Option<(u16, String)> {
    let mut words = error.split(' ').skip(1);
    let (slot, addr) = (words.next()?.parse().ok()?, words.next()?);
    let (host, port) = addr.rsplit_once(':')?;
    let host = if host.is_empty() { asked.rsplit_once(':')?.0 } else { host };
    Some((slot, address(host, port.parse().ok()?)))
}

/// The hash slot of a key, hash tags included (Redis cluster specification).
pub fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    CRC.checksum(tag.filter(|tag| !tag.is_empty()).unwrap_or(key).as_bytes()) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(slot_of("123456789"), 0x31c3);
        assert_eq!(slot_of("{user1000}.following"), slot_of("user1000"));
        assert_eq!(slot_of("foo{}{bar}"), CRC.checksum(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot_of("foo{{bar}}zap"), slot_of("{bar"));
    }

    #[test]
    fn redirections_name_an_address() {
        let to = |text: &str| redirection(text, "a:1");
        assert_eq!(to("MOVED 3999 127.0.0.1:6381"), Some((3999, "127.0.0.1:6381".to_string())));
        assert_eq!(to("ASK 3999 :6381"), Some((3999, "a:6381".to_string())));
        assert_eq!(to("MOVED 1 ::1:6381"), Some((1, "[::1]:6381".to_string())));
        assert_eq!(to("MOVED"), None);
    }

    #[test]
    fn a_cluster_tells_its_nodes() {
        let text = |text: &str| Value::Text(text.to_string());
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let range = Value::Array(vec![Value::Int(0), Value::Int(9), node(text("b"), 2), node(Value::Nil, 1)]);
        assert_eq!(
            nodes_of(Value::Array(vec![range]), "a:7"),
            Ok(vec!["a:1".to_string(), "b:2".to_string()])
        );
    }
}
