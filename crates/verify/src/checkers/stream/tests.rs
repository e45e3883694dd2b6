//! Every class of anomaly, planted, is found by its name.

use super::*;
use crate::checkers::search::{kinds, op};
use crate::history::Time;
use crate::outcome::Outcome::{Fail, Info, Ok};

fn found(ops: &[Op]) -> Vec<String> {
    kinds(check, ops)
}

const ONE: Id = Id(5, 0);
const TWO: Id = Id(5, 1);

fn add(value: u64, id: Id, start: Time) -> Op {
    op(Action::Add(value, Some(id)), start, start + 1, Ok)
}

fn deliver(entries: &[(Id, u64)], start: Time) -> Op {
    op(Action::Deliver(entries.to_vec()), start, start + 1, Ok)
}

fn all(entries: &[(Id, u64)]) -> Op {
    op(Action::All(entries.to_vec()), 90, 91, Ok)
}

fn drain(entries: &[(Id, u64)]) -> Op {
    op(Action::Drain(entries.to_vec()), 80, 81, Ok)
}

const BOTH: [(Id, u64); 2] = [(ONE, 1), (TWO, 2)];

#[test]
fn a_stream() {
    let ack = op(Action::Ack(ONE, true), 6, 7, Ok);
    let claim = op(Action::Claim(vec![(TWO, 2)]), 85, 86, Ok);
    let history =
        [add(1, ONE, 0), add(2, TWO, 2), deliver(&BOTH[..1], 4), ack, drain(&BOTH[1..]), claim, all(&BOTH)];
    assert!(found(&history).is_empty());
    assert!(found(&[op(Action::Add(1, None), 0, 1, Info), drain(&[]), all(&[])]).is_empty());
}

#[test]
fn entries_that_are_wrong() {
    assert_eq!(found(&[add(1, ONE, 0), all(&[])]), ["lost write"]);
    assert_eq!(found(&[add(1, TWO, 0), all(&[(ONE, 1)])]), ["lost write", "wrong id"]);
    assert_eq!(found(&[add(1, ONE, 0), all(&[(ONE, 1), (TWO, 1)])]), ["duplicate"]);
    assert_eq!(found(&[all(&[(ONE, 7)])]), ["phantom"]);
    assert_eq!(found(&[op(Action::Add(1, None), 0, 1, Fail), all(&BOTH[..1])]), ["failed write took effect"]);
    assert_eq!(found(&[add(1, TWO, 0), add(2, ONE, 2), all(&[(ONE, 2), (TWO, 1)])]), ["not linearizable"]);
}

#[test]
fn deliveries_that_are_wrong() {
    assert_eq!(found(&[deliver(&BOTH[..1], 4), deliver(&BOTH[..1], 4)]), ["duplicate"]);
    assert_eq!(found(&[deliver(&BOTH[1..], 4), deliver(&BOTH[..1], 6)]), ["out of order"]);
    assert_eq!(found(&[deliver(&[(TWO, 2), (ONE, 1)], 4)]), ["out of order"]);
    let ack = op(Action::Ack(ONE, true), 2, 3, Ok);
    let claim = op(Action::Claim(vec![(ONE, 1)]), 4, 5, Ok);
    assert_eq!(found(&[deliver(&BOTH[..1], 0), ack, claim]), ["delivered after acknowledgement"]);
    assert_eq!(found(&[add(1, ONE, 0), drain(&[]), all(&BOTH[..1])]), ["never delivered"]);
}

#[test]
fn a_group_that_is_gone() {
    let created = op(Action::Create, 0, 1, Ok);
    let mut refused = op(Action::Deliver(Vec::new()), 2, 3, Fail);
    assert!(found(&[created.clone(), refused.clone()]).is_empty());
    refused.error = "NOGROUP No such key".to_string();
    assert_eq!(found(&[created, refused]), ["lost write"]);
}
