//! Tagged replies and messages: calls of several kinds and slots go down one connection at once, each with a tag that its
//! reply must carry; and clients publish to each other.

use std::time::Duration;

use rand::Rng;
use tokio::time::timeout;

use super::{Hand, Workload};
use crate::checkers::Anomaly;
use crate::checkers::pubsub::{self, Action, Message};
use crate::connection::Connection;
use crate::history::Op;
use crate::outcome::Failure;
use crate::resp::Value;

const CHANNELS: u64 = 4;
const KEYS: u64 = 8;
const LONGEST_PIPELINE: usize = 24;
/// Every so many clients listen; the others publish and ask.
const CLIENTS_PER_LISTENER: usize = 5;
const LISTEN: Duration = Duration::from_millis(50);
const MESSAGES_AT_ONCE: usize = 200;
const ECHO: &str = "return {KEYS[1], ARGV[1]}";

/// See the module.
pub struct PubSub {
    prefix: String,
}

impl Workload for PubSub {
    type Action = Action;
    /// The connection that listens, and its number.
    type Memory = Option<(Connection, u64)>;

    fn new(prefix: &str) -> PubSub {
        PubSub { prefix: format!("{prefix}pubsub:") }
    }

    async fn step(&self, hand: &mut Hand<PubSub>) {
        if hand.number.is_multiple_of(CLIENTS_PER_LISTENER) {
            self.listen(hand).await;
        } else if hand.rng.random_bool(0.5) {
            self.publish(hand).await;
        } else {
            self.ask(hand).await;
        }
    }

    fn check(ops: &[Op<Action>]) -> Vec<Anomaly> {
        pubsub::check(ops)
    }
}

impl PubSub {
    fn channel(&self, number: u64) -> String {
        format!("{}channel:{number}", self.prefix)
    }

    async fn publish(&self, hand: &mut Hand<PubSub>) {
        let channel = self.channel(hand.rng.random_range(0..CHANNELS));
        let number = hand.fresh();
        let begun = hand.begin();
        // Messages of one connection come in order; between two connections there is none.
        let port = hand.client.port_towards(&channel).await;
        let connection = *port.as_ref().unwrap_or(&0);
        let message = Message { channel: channel.clone(), publisher: hand.number, connection, number };
        let done = match port {
            Ok(_) => hand.client.call(&channel, &["PUBLISH", &channel, &message.to_string()]).await,
            Err(failure) => Err(failure),
        };
        let done = done.and_then(Value::number::<u64>);
        hand.note(begun, &channel, &done, Action::Publish(message));
    }

    /// A pipeline over many slots.
    async fn ask(&self, hand: &mut Hand<PubSub>) {
        let mut calls = Vec::new();
        for _ in 0..hand.rng.random_range(2..=LONGEST_PIPELINE) {
            calls.extend(self.draw(hand));
        }
        let words: Vec<Vec<&str>> =
            calls.iter().map(|call| call.words.iter().map(String::as_str).collect()).collect();
        let words: Vec<&[&str]> = words.iter().map(Vec::as_slice).collect();
        let key = format!("{}tag:{}:0", self.prefix, hand.number);
        let begun = hand.begin();
        let replies = hand.client.pipeline(&key, &words).await;
        let wrong = replies.as_ref().map(|replies| {
            calls.iter().zip(replies).filter_map(|(call, reply)| call.crossed(reply)).collect()
        });
        let wrong = wrong.unwrap_or_default();
        hand.note(begun, &key, &replies, Action::Tagged(words.len(), wrong));
    }

    fn draw(&self, hand: &mut Hand<PubSub>) -> Vec<Call> {
        let place = format!("{}:{}", hand.number, hand.rng.random_range(0..KEYS));
        let key = format!("{}tag:{place}", self.prefix);
        let tag = format!("{place}/{}", hand.fresh());
        let call = |words: &[&str], wanted| Call {
            words: words.iter().map(|word| word.to_string()).collect(),
            wanted,
        };
        let bulk = |text: &str| Value::Text(text.to_string());
        match hand.rng.random_range(0..3_u8) {
            0 => vec![call(&["ECHO", &tag], Wanted::Exactly(bulk(&tag)))],
            1 => {
                let wanted = Value::Array(vec![bulk(&key), bulk(&tag)]);
                vec![call(&["EVAL", ECHO, "1", &key, &tag], Wanted::Exactly(wanted))]
            }
            _ => vec![
                call(&["SET", &key, &tag], Wanted::Exactly(bulk("OK"))),
                call(&["GET", &key], Wanted::TagOf(place)),
            ],
        }
    }

    /// Subscribes for good, and takes what has come.
    async fn listen(&self, hand: &mut Hand<PubSub>) {
        let begun = hand.begin_waiting(LISTEN);
        let ear = match hand.memory.take() {
            Some(ear) => Ok(ear),
            None => self.subscribe(hand).await,
        };
        let Ok((mut connection, ear)) = ear else {
            hand.note(begun, &self.channel(0), &ear.map(|_| ()), Action::Listen(0, Vec::new()));
            return;
        };
        let mut heard = Vec::new();
        let ended = timeout(LISTEN, hear(&mut connection, &mut heard)).await;
        let result = match ended {
            // It goes on listening.
            Err(_) | Ok(Ok(())) => {
                hand.memory = Some((connection, ear));
                Ok(())
            }
            // What has come before the end did come.
            Ok(Err(Failure::Unknown(_))) => Ok(()),
            Ok(Err(failure)) => Err(failure),
        };
        hand.note(begun, &self.channel(0), &result, Action::Listen(ear, heard));
    }

    async fn subscribe(&self, hand: &mut Hand<PubSub>) -> Result<(Connection, u64), Failure> {
        let addr = hand.client.any_node();
        let channels: Vec<String> = (0..CHANNELS).map(|number| self.channel(number)).collect();
        let words: Vec<&str> =
            std::iter::once("SUBSCRIBE").chain(channels.iter().map(String::as_str)).collect();
        let connection = hand.client.subscription(&addr, &words).await?;
        Ok((connection, hand.fresh()))
    }
}

/// Takes messages until none come, or many have.
async fn hear(connection: &mut Connection, heard: &mut Vec<(String, String)>) -> Result<(), Failure> {
    while heard.len() < MESSAGES_AT_ONCE {
        let next = connection.next().await.map_err(|error| Failure::Unknown(error.to_string()))?;
        let [kind, channel, message] = next.items()?;
        // Beside messages come the confirmations of the subscription.
        if kind.text()? == "message" {
            heard.push((channel.text()?, message.text()?));
        }
    }
    Ok(())
}

/// A call and what its reply must be.
struct Call {
    words: Vec<String>,
    wanted: Wanted,
}

enum Wanted {
    Exactly(Value),
    /// A tag of this place: an earlier SET of unknown fate may have come last.
    TagOf(String),
}

impl Call {
    /// What is wrong with a reply. An error is nobody's, and after one that refused SET there may be nothing to GET.
    fn crossed(&self, reply: &Value) -> Option<String> {
        let is_own = match (&self.wanted, reply) {
            (_, Value::Error(_)) | (Wanted::TagOf(_), Value::Nil) => true,
            (Wanted::Exactly(wanted), reply) => reply == wanted,
            (Wanted::TagOf(place), Value::Text(tag)) => {
                tag.rsplit_once('/').is_some_and(|(of, _)| of == place)
            }
            (Wanted::TagOf(_), _) => false,
        };
        (!is_own).then(|| format!("{:?} was answered {reply:?}", self.words))
    }
}
