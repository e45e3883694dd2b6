//! Against the search, which cannot be wrong; against size; and every class of anomaly, planted.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::checkers::search::{Object, agrees, kinds, many, op};
use crate::outcome::Outcome::{Fail, Info, Ok};

struct Register {
    last: u64,
}

impl Object for Register {
    type Action = Action;
    type State = Seen;

    fn blank(&self) -> Action {
        Action::Read(None)
    }

    fn initial(&self) -> Seen {
        None
    }

    fn act(&mut self, rng: &mut StdRng, op: &mut Op, state: Seen, takes_effect: bool) -> Seen {
        self.last += 1;
        op.action = match rng.random_range(0..4) {
            0 => Action::Read(state),
            1 | 2 => Action::Write(self.last),
            // What one that did nothing expected need not have been there.
            _ if !takes_effect && rng.random_bool(0.5) => Action::Update { from: None, to: self.last },
            _ => Action::Update { from: state, to: self.last },
        };
        op.action.written().filter(|_| takes_effect).or(state)
    }

    fn model(state: &Seen, op: &Op) -> Option<Seen> {
        if op.action.seen().is_some_and(|seen| seen != *state) {
            return None;
        }
        Some(op.action.written().or(*state))
    }

    fn is_read(action: &Action) -> bool {
        matches!(action, Action::Read(_))
    }
}

#[test]
fn agrees_with_the_search() {
    agrees(|| Register { last: 0 }, check);
}

#[test]
fn fifty_thousand_operations_on_one_key_with_hundreds_under_way() {
    let mut ops = many(&mut StdRng::seed_from_u64(1), &mut Register { last: 0 }, 50_000, 400);
    let began = Instant::now();
    assert_eq!(check(&ops), []);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    // One stale read among them: it sees a value that was replaced long before.
    let read = |op: &&mut Op| op.is_ok() && matches!(op.action, Action::Read(Some(_)));
    let old = ops.iter_mut().find(read).expect("a read").action;
    ops.iter_mut().rev().find(read).expect("a read").action = old;
    assert_eq!(kinds(check, &ops), ["not linearizable"]);
}

fn found(ops: &[Op]) -> Vec<String> {
    kinds(check, ops)
}

fn write(value: u64, start: Time, end: Time) -> Op {
    op(Action::Write(value), start, end, Ok)
}

fn read(value: impl Into<Seen>, start: Time, end: Time) -> Op {
    op(Action::Read(value.into()), start, end, Ok)
}

fn update(from: impl Into<Seen>, to: u64, start: Time, end: Time) -> Op {
    op(Action::Update { from: from.into(), to }, start, end, Ok)
}

#[test]
fn a_lost_write() {
    assert_eq!(found(&[write(1, 0, 1), read(None, 2, 3)]), [LOST_OR_STALE]);
    assert!(found(&[write(1, 0, 2), read(None, 1, 3)]).is_empty());
}

#[test]
fn a_refused_write_that_took_effect() {
    assert_eq!(found(&[op(Action::Write(1), 0, 1, Fail), read(1, 2, 3)]), ["failed write took effect"]);
}

#[test]
fn a_phantom_and_a_read_from_the_future() {
    assert_eq!(found(&[read(7, 2, 3)]), ["phantom"]);
    assert_eq!(found(&[read(1, 0, 1), write(1, 2, 3)]), ["read from the future"]);
}

#[test]
fn a_lost_update() {
    let base = [write(1, 0, 1), update(1, 2, 2, 3)];
    assert!(found(&base).is_empty());
    assert_eq!(found(&[&base[..], &[update(1, 3, 4, 5)]].concat()), ["lost update"]);
}

#[test]
fn a_stale_read() {
    let base = [write(1, 0, 1), write(2, 2, 3), read(2, 4, 5)];
    assert!(found(&base).is_empty());
    assert_eq!(found(&[&base[..], &[read(1, 6, 7)]].concat()), ["not linearizable"]);
}

#[test]
fn updates_out_of_order_and_in_a_circle() {
    let chain = [write(1, 0, 1), update(1, 2, 2, 3), read(1, 4, 5)];
    assert_eq!(found(&chain), ["not linearizable"]);
    assert_eq!(found(&[update(2, 1, 0, 9), update(1, 2, 0, 9)]), ["not linearizable"]);
}

#[test]
fn an_unknown_write_may_come_late_but_only_once() {
    let late = [op(Action::Write(9), 0, 1, Info), write(1, 0, 1), read(1, 2, 3), read(9, 8, 9)];
    assert!(found(&late).is_empty());
    assert_eq!(found(&[&late[..], &[read(1, 10, 11)]].concat()), ["not linearizable"]);
    // It need not come at all; but one whose effect was seen has seen what it names.
    assert!(found(&[op(Action::Write(9), 0, 1, Info), read(None, 2, 3)]).is_empty());
    let unknown = op(Action::Update { from: Some(5), to: 6 }, 0, 1, Info);
    assert!(found(std::slice::from_ref(&unknown)).is_empty());
    assert_eq!(found(&[unknown, read(6, 2, 3)]), ["phantom"]);
}

#[test]
fn keys_do_not_matter_to_each_other() {
    let mut other = read(None, 2, 3);
    other.key = "other".into();
    assert!(found(&[write(1, 0, 1), other]).is_empty());
}
