//! Every class of anomaly, planted, is found by its name.

use super::*;
use crate::checkers::search::{kinds, op};
use crate::outcome::Outcome::{Fail, Info, Ok};

fn found(ops: &[Op]) -> Vec<String> {
    kinds(check, ops)
}

const MOVED: Transfer = Transfer { number: 1, source: 0, target: 1, amount: 30 };

fn transfer(done: bool, outcome: Outcome) -> Op {
    op(Action::Transfer(MOVED, done), 0, 1, outcome)
}

fn balances(first: i64, second: i64) -> Balances {
    let mut balances = vec![Some(OPENING_BALANCE); ACCOUNTS];
    (balances[0], balances[1]) = (Some(first), Some(second));
    balances
}

fn audit(balances: Balances, records: &[Transfer]) -> Op {
    op(Action::Audit(balances, records.to_vec()), 10, 11, Ok)
}

#[test]
fn sound_books() {
    assert!(found(&[transfer(true, Ok), audit(balances(70, 130), &[MOVED])]).is_empty());
    assert!(found(&[transfer(false, Ok), audit(balances(100, 100), &[])]).is_empty());
    assert!(found(&[transfer(false, Fail), audit(balances(100, 100), &[])]).is_empty());
    // One of unknown fate was done, or not.
    assert!(found(&[transfer(false, Info), audit(balances(70, 130), &[MOVED])]).is_empty());
    assert!(found(&[transfer(false, Info), audit(balances(100, 100), &[])]).is_empty());
}

#[test]
fn money_made_or_lost() {
    let read = |balances| op(Action::Read(balances), 2, 3, Ok);
    assert!(found(&[read(balances(70, 130))]).is_empty());
    assert_eq!(found(&[read(balances(70, 100))]), ["money made or lost"]);
    assert_eq!(found(&[read(balances(-10, 210))]), ["money made or lost"]);
    assert_eq!(found(&[read(vec![None; ACCOUNTS])]), ["money made or lost"]);
}

#[test]
fn books_that_disagree_with_what_was_told() {
    assert_eq!(found(&[transfer(true, Ok), audit(balances(100, 100), &[])]), ["lost write"]);
    assert_eq!(
        found(&[transfer(false, Fail), audit(balances(70, 130), &[MOVED])]),
        ["failed write took effect"]
    );
    assert_eq!(found(&[transfer(false, Ok), audit(balances(70, 130), &[MOVED])]), ["phantom"]);
    let other = Transfer { amount: 31, ..MOVED };
    assert_eq!(found(&[transfer(true, Ok), audit(balances(69, 131), &[other])]), ["phantom"]);
}

#[test]
fn half_a_transfer() {
    assert_eq!(found(&[transfer(true, Ok), audit(balances(100, 100), &[MOVED])]), ["not atomic"]);
}
