//! WAIT and WAITAOF: on how many nodes a connection's writes are durable.
//!
//! Every acknowledged write is on the disks of a majority already; these say, truthfully, on how many more, and wait for
//! them. Counted are voters whose log is known to be durable up to the last entry that the leader had applied when it was
//! first asked: the connection's writes lie before that. Of writes to several groups, a node counts if it has all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quoris_engine::args::Args;
use quoris_engine::command::Verb;
use quoris_engine::{Call, CommandError, Reply};
use quoris_raft::types::{GroupId, NodeId};

use crate::blocking::{self, Ending, Endings};
use crate::forward;
use crate::limits;
use crate::resp::Answer;
use crate::server::Server;
use crate::session::Session;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// WAITAOF: how many of this node alone (0 or 1).
    local: Option<u64>,
    /// How many other nodes.
    others: u64,
    /// 0: for ever.
    timeout_ms: u64,
}

impl Wanted {
    /// `WAIT numreplicas timeout` or `WAITAOF numlocal numreplicas timeout`.
    pub fn parse(verb: Verb, words: &[Bytes]) -> Result<Wanted, CommandError> {
        const NEGATIVE: CommandError = CommandError::Text("ERR timeout is negative");
        let args = Args(words);
        let first = if verb == Verb::Waitaof { 2 } else { 1 };
        let local = match verb {
            Verb::Waitaof => {
                let local = u64::try_from(args.int(1)?).ok().filter(|local| *local <= 1);
                Some(local.ok_or(CommandError::Text("ERR value is out of range, must be between 0 and 1"))?)
            }
            _ => None,
        };
        // Redis takes a negative number of replicas, which is reached at once.
        let others = u64::try_from(args.int(first)?).unwrap_or(0);
        let timeout = args.int(first + 1);
        let timeout =
            timeout.map_err(|_| CommandError::Text("ERR timeout is not an integer or out of range"))?;
        let timeout_ms = u64::try_from(timeout).map_err(|_| NEGATIVE)?;
        Ok(Wanted { local, others, timeout_ms })
    }
}

/// A connection's WAIT.
pub struct Wait {
    server: Arc<Server>,
    wanted: Wanted,
    /// The groups it has written to, and up to which index it waits; 0: not known yet.
    groups: BTreeMap<GroupId, u64>,
}

impl Wait {
    /// For the writes of `session` so far.
    pub fn new(session: &Session, wanted: Wanted) -> Wait {
        let groups = session.written.iter().map(|group| (*group, 0)).collect();
        Wait { server: session.server.clone(), wanted, groups }
    }

    /// The answer that holds now.
    pub async fn now(mut self) -> Answer {
        self.count().await;
        let durable = self.count().await;
        self.answer(&durable)
    }

    /// Ready when enough nodes have the writes, or the time has run out.
    pub async fn run(mut self, mut endings: Endings) -> Answer {
        let timeout_ms = self.wanted.timeout_ms;
        let timeout = async {
            match timeout_ms {
                0 => std::future::pending().await,
                ms => tokio::time::sleep(Duration::from_millis(ms)).await,
            }
        };
        tokio::pin!(timeout);
        loop {
            let durable = self.count().await;
            if self.is_enough(&durable) {
                return self.answer(&durable);
            }
            endings.has_blocked();
            let ending = tokio::select! {
                biased;
                ending = endings.ended() => ending,
                () = &mut timeout => Ending::Timeout,
                () = tokio::time::sleep(Duration::from_millis(limits::WAIT_CHECK_MS)) => continue,
            };
            return match ending {
                Ending::Error => Answer::error(blocking::UNBLOCKED),
                Ending::Timeout | Ending::Gone => {
                    let durable = self.count().await;
                    self.answer(&durable)
                }
            };
        }
    }

    /// The nodes that have all of the connection's writes on disk; those in reach, if it has written nothing.
    async fn count(&mut self) -> BTreeSet<NodeId> {
        let node = &self.server.node;
        let counts = |id: &NodeId| !self.groups.is_empty() || *id == node.id() || node.is_reachable(*id);
        let mut all: BTreeSet<NodeId> = node.nodes().iter().map(|info| info.id).filter(counts).collect();
        for (group, index) in &mut self.groups {
            match ask(&self.server, *group, *index).await {
                Some((known, voters)) => {
                    *index = known;
                    all.retain(|node| voters.contains(node));
                }
                // Nobody can say: then nobody is counted.
                None => all.clear(),
            }
        }
        all
    }

    /// Copies beside the leader's, which a forwarding node's clients do not see.
    fn others(durable: &BTreeSet<NodeId>) -> u64 {
        (durable.len() as u64).saturating_sub(1)
    }

    fn local(&self, durable: &BTreeSet<NodeId>) -> u64 {
        u64::from(durable.contains(&self.server.node.id()))
    }

    fn is_enough(&self, durable: &BTreeSet<NodeId>) -> bool {
        Wait::others(durable) >= self.wanted.others && self.local(durable) >= self.wanted.local.unwrap_or(0)
    }

    fn answer(&self, durable: &BTreeSet<NodeId>) -> Answer {
        let others = Reply::Int(Wait::others(durable) as i64);
        Answer::Own(match self.wanted.local {
            None => others,
            Some(_) => Reply::Array(vec![Reply::Int(self.local(durable) as i64), others]),
        })
    }
}

/// Up to which index, and which voters of `group` have that on disk; asked of whoever leads it.
pub async fn ask(server: &Server, group: GroupId, index: u64) -> Option<(u64, BTreeSet<NodeId>)> {
    let replica = server.node.groups().iter().find(|replica| replica.id() == group)?;
    let words = ["QUORIS".to_string(), "DURABLE".to_string(), group.to_string(), index.to_string()];
    let call = Call::new(words);
    let reply = match replica.leader_in_reach()? {
        leader if leader == server.node.id() => durable(server, &call.args),
        leader => forward::ask(server, leader, call, false).await,
    };
    let Reply::Array(items) = reply else { return None };
    let number = |item: &Reply| match item {
        Reply::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    let mut numbers = items.iter().map(number);
    let index = numbers.next()??;
    Some((index, numbers.collect::<Option<_>>()?))
}

/// QUORIS DURABLE: an index of the group, then every voter known to have it on disk.
pub fn durable(server: &Server, words: &[Bytes]) -> Reply {
    let args = Args(words);
    let number = |i| args.int(i).ok().and_then(|number| u64::try_from(number).ok());
    let (Some(group), Some(index)) = (number(2), number(3)) else {
        return Reply::Error(CommandError::NotInteger);
    };
    let replica = server.node.groups().iter().find(|replica| u64::from(replica.id()) == group);
    let Some((replica, voters)) = replica.and_then(|replica| Some((replica, replica.durable()?))) else {
        return Reply::Error(CommandError::TryAgain("another node leads the group".to_string()));
    };
    let index = if index == 0 { replica.with_machine(|machine| machine.applied()) } else { index };
    let has_it = voters.into_iter().filter(|(_, flushed)| *flushed >= index).map(|(voter, _)| voter);
    Reply::Array(std::iter::once(index).chain(has_it).map(|number| Reply::Int(number as i64)).collect())
}
