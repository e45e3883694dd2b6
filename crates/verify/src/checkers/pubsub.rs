//! Tagged replies and messages: every reply belongs to its call, every message to its channel, in its publisher's order.
//!
//! Publishing is at most once: a message may be lost with a link, but none comes twice, late behind a later one of the
//! same connection, or from nowhere.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use super::Anomaly;
use crate::history;

/// What a message says of itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Message {
    /// Where it was published.
    pub channel: String,
    /// By which client.
    pub publisher: usize,
    /// Over which of its connections.
    pub connection: u16,
    /// Numbers of a publisher ascend.
    pub number: u64,
}

impl fmt::Display for Message {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Message { channel, publisher, connection, number } = self;
        write!(out, "{number}/{connection}/{publisher}/{channel}")
    }
}

impl Message {
    /// What [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Message> {
        let mut fields = text.splitn(4, '/');
        let number = fields.next()?.parse().ok()?;
        let connection = fields.next()?.parse().ok()?;
        let publisher = fields.next()?.parse().ok()?;
        Some(Message { channel: fields.next()?.to_string(), publisher, connection, number })
    }
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// So many calls at once; of them those whose replies are not their own.
    Tagged(usize, Vec<String>),
    /// A message was published.
    Publish(Message),
    /// Messages with the channel they came on, on this subscription.
    Listen(u64, Vec<(String, String)>),
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Tagged(count, wrong) if wrong.is_empty() => write!(out, "{count} tagged calls"),
            Action::Tagged(count, wrong) => write!(out, "{count} tagged calls: {}", wrong.join("; ")),
            Action::Publish(message) => write!(out, "publish {message}"),
            Action::Listen(ear, messages) => {
                write!(out, "hear {} messages on subscription {ear}", messages.len())
            }
        }
    }
}

type Op = history::Op<Action>;

/// What contradicts it. `ops` are sealed.
pub fn check(ops: &[Op]) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    let mut published = HashMap::new();
    for op in ops {
        match &op.action {
            Action::Tagged(_, wrong) => {
                anomalies.extend(wrong.iter().map(|wrong| Anomaly::new("crossed reply", wrong, [op])));
            }
            Action::Publish(message) => {
                published.insert(message.clone(), op);
            }
            Action::Listen(..) => {}
        }
    }
    anomalies.extend(messages(ops, &published));
    anomalies
}

fn messages(ops: &[Op], published: &HashMap<Message, &Op>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    // What came last: of each subscription and each of a publisher's connections to a channel.
    let mut latest = HashMap::new();
    for op in ops {
        let Action::Listen(ear, heard) = &op.action else { continue };
        for (channel, text) in heard {
            let message = Message::parse(text).filter(|message| message.channel == *channel);
            let Some((message, publish)) = message.and_then(|message| published.get_key_value(&message))
            else {
                let what = format!("{text} came on {channel}, where nobody published it");
                anomalies.push(Anomaly::new("foreign message", what, [op]));
                continue;
            };
            let line = (*ear, channel, message.publisher, message.connection);
            let (before, earlier) = latest.insert(line, (message.number, op)).unwrap_or((0, op));
            if message.number <= before {
                let what = format!("{message} came after number {before} of the same connection");
                let ops = [*publish, earlier, op];
                anomalies.push(Anomaly::new("message twice or out of order", what, ops));
                latest.insert(line, (before, earlier));
            }
        }
    }
    anomalies
}

#[cfg(test)]
mod tests;
