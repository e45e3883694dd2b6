//! A bank: transfers by script between accounts of a slot. Money is neither made nor lost, in any read.
//!
//! Each transfer also leaves a record. At the end the records must hold every acknowledged transfer once, no refused one,
//! and add up to the balances.

use rand::Rng;
use rand::seq::index::sample;

use super::{Hand, NoAnswer, Workload};
use crate::checkers::Anomaly;
use crate::checkers::bank::{self, ACCOUNTS, Action, Balances, OPENING_BALANCE, Transfer};
use crate::history::Op;
use crate::outcome::Failure;
use crate::resp::Value;

const BANKS: u64 = 4;
const LARGEST_AMOUNT: i64 = 40;

const TRANSFER: &str = "
local amount = tonumber(ARGV[1])
if tonumber(redis.call('GET', KEYS[1])) < amount then return 0 end
redis.call('DECRBY', KEYS[1], amount)
redis.call('INCRBY', KEYS[2], amount)
redis.call('HSET', KEYS[3], ARGV[2], ARGV[3])
return 1
";

/// See the module.
pub struct Bank {
    prefix: String,
}

impl Workload for Bank {
    type Action = Action;
    type Memory = ();

    fn new(prefix: &str) -> Bank {
        Bank { prefix: format!("{prefix}bank:") }
    }

    async fn prepare(&self, hand: &mut Hand<Bank>) -> Result<(), NoAnswer> {
        for number in 0..BANKS {
            let books = self.books(number);
            hand.insist(async |hand| books.open(hand).await).await?;
        }
        Ok(())
    }

    async fn step(&self, hand: &mut Hand<Bank>) {
        let books = self.books(hand.rng.random_range(0..BANKS));
        if hand.rng.random_bool(0.7) {
            books.transfer(hand).await;
        } else {
            books.read(hand).await;
        }
    }

    async fn finish(&self, hand: &mut Hand<Bank>) -> Result<(), NoAnswer> {
        for number in 0..BANKS {
            let books = self.books(number);
            hand.insist(async |hand| books.audit(hand).await).await?;
        }
        Ok(())
    }

    fn check(ops: &[Op<Action>]) -> Vec<Anomaly> {
        bank::check(ops)
    }
}

impl Bank {
    fn books(&self, number: u64) -> Books {
        let name = format!("{}{{{number}}}", self.prefix);
        let accounts = (0..ACCOUNTS).map(|account| format!("{name}:{account}")).collect();
        Books { records: format!("{name}:records"), accounts, name }
    }
}

/// The keys of one bank.
struct Books {
    name: String,
    accounts: Vec<String>,
    records: String,
}

impl Books {
    async fn open(&self, hand: &mut Hand<Bank>) -> Result<(), Failure> {
        let amount = OPENING_BALANCE.to_string();
        let words = self.accounts.iter().flat_map(|account| [account.as_str(), &amount]);
        let words: Vec<&str> = std::iter::once("MSET").chain(words).collect();
        let begun = hand.begin();
        let opened = hand.client.call(&self.name, &words).await.and_then(Value::status);
        hand.note(begun, &self.name, &opened, Action::Open);
        opened
    }

    async fn transfer(&self, hand: &mut Hand<Bank>) {
        let pair = sample(&mut hand.rng, ACCOUNTS, 2);
        let (source, target) = (pair.index(0), pair.index(1));
        let amount = hand.rng.random_range(1..=LARGEST_AMOUNT);
        let transfer = Transfer { number: hand.fresh(), source, target, amount };
        let [amount_text, number, record] =
            [amount.to_string(), transfer.number.to_string(), format!("{source}>{target}:{amount}")];
        let (from, to) = (&self.accounts[source], &self.accounts[target]);
        let words = ["EVAL", TRANSFER, "3", from, to, &self.records, &amount_text, &number, &record];
        let begun = hand.begin();
        let done = hand.client.call(&self.name, &words).await.and_then(Value::number::<u8>);
        hand.note(begun, &self.name, &done, Action::Transfer(transfer, done == Ok(1)));
    }

    /// By one MGET, or by GETs in a transaction.
    async fn read(&self, hand: &mut Hand<Bank>) {
        let by_one = hand.rng.random_bool(0.5);
        let begun = hand.begin();
        let replies = if by_one {
            let words = std::iter::once("MGET").chain(self.accounts.iter().map(String::as_str));
            let words: Vec<&str> = words.collect();
            hand.client.call(&self.name, &words).await.and_then(|reply| reply.list(Ok))
        } else {
            self.look(hand, None).await
        };
        let balances = replies.and_then(balances);
        hand.note(begun, &self.name, &balances, Action::Read(balances.clone().unwrap_or_default()));
    }

    /// Balances and records of one moment: a transfer of unknown outcome may still come between two reads.
    async fn audit(&self, hand: &mut Hand<Bank>) -> Result<(), Failure> {
        let begun = hand.begin();
        let replies = self.look(hand, Some(&["HGETALL", &self.records])).await;
        let seen = replies.and_then(|mut replies| {
            let records = replies.pop().unwrap_or(Value::Nil).list(Value::text)?;
            Ok((balances(replies)?, records.chunks(2).map(record).collect::<Result<Vec<_>, _>>()?))
        });
        let (balances, records) = seen.clone().unwrap_or_default();
        hand.note(begun, &self.name, &seen, Action::Audit(balances, records));
        seen.map(|_| ())
    }

    /// Every account, and what else there is, in one transaction.
    async fn look(&self, hand: &mut Hand<Bank>, more: Option<&[&str]>) -> Result<Vec<Value>, Failure> {
        let gets: Vec<[&str; 2]> = self.accounts.iter().map(|account| ["GET", account.as_str()]).collect();
        let calls: Vec<&[&str]> = gets.iter().map(|get| get.as_slice()).chain(more).collect();
        let replies = hand.client.transaction(&self.name, &calls).await?;
        replies.ok_or_else(|| Failure::Garbled("EXEC was answered nil".to_string()))
    }
}

fn balances(replies: Vec<Value>) -> Result<Balances, Failure> {
    replies.into_iter().map(|reply| reply.or_nil(Value::number)).collect()
}

/// A field and a value of the records.
fn record(pair: &[String]) -> Result<Transfer, Failure> {
    let parse = || {
        let [number, text] = pair else { return None };
        let (way, amount) = text.split_once(':')?;
        let (source, target) = way.split_once('>')?;
        let account = |text: &str| text.parse().ok().filter(|account| *account < ACCOUNTS);
        let (source, target) = (account(source)?, account(target)?);
        Some(Transfer { number: number.parse().ok()?, source, target, amount: amount.parse().ok()? })
    };
    parse().ok_or_else(|| Failure::Garbled(format!("a record that nobody wrote: {pair:?}")))
}
