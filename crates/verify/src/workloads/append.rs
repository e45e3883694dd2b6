//! Lists in transactions: MULTI with RPUSH and LRANGE on several keys of a slot, strictly serializable.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use rand::Rng;

use super::{Hand, NoAnswer, Workload};
use crate::checkers::Anomaly;
use crate::checkers::append::{self, Action, Call};
use crate::history::Op;
use crate::outcome::Failure;
use crate::resp::Value;

const TAGS: u64 = 6;
const LISTS_PER_TAG: u64 = 3;
/// A list is given up when it has become long, so that reading all of it stays cheap.
const APPENDS_PER_LIST: u64 = 48;
const LONGEST_TRANSACTION: usize = 4;

/// See the module.
pub struct Append {
    prefix: String,
    /// How often each list was appended to, over all its generations.
    appended: RefCell<HashMap<(u64, u64), u64>>,
    lists: RefCell<BTreeSet<String>>,
}

impl Workload for Append {
    type Action = Action;
    type Memory = ();

    fn new(prefix: &str) -> Append {
        let prefix = format!("{prefix}append:");
        Append { prefix, appended: RefCell::default(), lists: RefCell::default() }
    }

    async fn step(&self, hand: &mut Hand<Append>) {
        let tag = hand.rng.random_range(0..TAGS);
        let count = hand.rng.random_range(1..=LONGEST_TRANSACTION);
        let calls = (0..count).map(|_| self.draw(hand, tag)).collect();
        // What went wrong is in the history.
        let _noted = self.run(hand, calls).await;
    }

    async fn finish(&self, hand: &mut Hand<Append>) -> Result<(), NoAnswer> {
        let lists = self.lists.borrow().clone();
        for list in lists {
            let read = || vec![Call::Read(list.clone(), None)];
            hand.insist(async |hand| self.run(hand, read()).await).await?;
        }
        Ok(())
    }

    fn check(ops: &[Op<Action>]) -> Vec<Anomaly> {
        append::check(ops)
    }
}

impl Append {
    /// A call on one of the lists that share a tag, and so a slot.
    fn draw(&self, hand: &mut Hand<Append>, tag: u64) -> Call {
        let number = hand.rng.random_range(0..LISTS_PER_TAG);
        let mut appended = self.appended.borrow_mut();
        let count = appended.entry((tag, number)).or_default();
        let list = format!("{{{tag}}}:{number}:{}", *count / APPENDS_PER_LIST);
        self.lists.borrow_mut().insert(list.clone());
        if hand.rng.random_bool(0.5) {
            *count += 1;
            Call::Append(list, hand.fresh())
        } else {
            Call::Read(list, None)
        }
    }

    /// A single call goes without MULTI, as an application would have it.
    async fn run(&self, hand: &mut Hand<Append>, mut calls: Vec<Call>) -> Result<(), Failure> {
        let words: Vec<Vec<String>> = calls.iter().map(|call| self.words(call)).collect();
        let words: Vec<Vec<&str>> =
            words.iter().map(|words| words.iter().map(String::as_str).collect()).collect();
        let words: Vec<&[&str]> = words.iter().map(Vec::as_slice).collect();
        let key = words[0][1];
        let begun = hand.begin();
        let replies = match words.as_slice() {
            [call] => hand.client.call(key, call).await.map(|reply| vec![reply]),
            _ => hand.client.transaction(key, &words).await.and_then(executed),
        };
        let done = replies.and_then(|replies| fill_in(&mut calls, replies));
        hand.note(begun, key, &done, Action(calls));
        done
    }

    fn words(&self, call: &Call) -> Vec<String> {
        let own = |word: &str| word.to_string();
        match call {
            Call::Append(list, value) => vec![own("RPUSH"), self.prefix.clone() + list, value.to_string()],
            Call::Read(list, _) => vec![own("LRANGE"), self.prefix.clone() + list, own("0"), own("-1")],
        }
    }
}

/// Without WATCH no EXEC is refused.
fn executed(replies: Option<Vec<Value>>) -> Result<Vec<Value>, Failure> {
    replies.ok_or_else(|| Failure::Garbled("EXEC was answered nil".to_string()))
}

fn fill_in(calls: &mut [Call], replies: Vec<Value>) -> Result<(), Failure> {
    if replies.len() != calls.len() {
        return Err(Failure::Garbled(format!("{} replies to {} calls", replies.len(), calls.len())));
    }
    calls.iter_mut().zip(replies).try_for_each(|(call, reply)| match call {
        Call::Append(..) => reply.number::<u64>().map(|_| ()),
        Call::Read(_, seen) => {
            *seen = Some(reply.list(Value::number)?);
            Ok(())
        }
    })
}
