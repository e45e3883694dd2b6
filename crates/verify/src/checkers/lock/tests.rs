//! Every class of anomaly, planted, is found by its name.

use super::*;
use crate::checkers::search::{kinds, op};
use crate::outcome::Outcome::{Info, Ok};

fn found(ops: &[Op]) -> Vec<String> {
    kinds(check, ops)
}

fn acquire(token: u64, start: Time, end: Time) -> Op {
    op(Action::Acquire { token, limit: 100, granted: true }, start, end, Ok)
}

fn release(token: u64, start: Time, released: bool) -> Op {
    op(Action::Release { token, released }, start, start + 1, Ok)
}

#[test]
fn locks_that_exclude() {
    assert!(found(&[acquire(1, 0, 1), release(1, 10, true), acquire(2, 10, 12)]).is_empty());
    assert!(found(&[acquire(1, 0, 1), acquire(2, 100, 101)]).is_empty());
    // Nobody is sure of a lock that was granted after its limit, or to nobody knows whom.
    assert!(found(&[acquire(1, 0, 200), acquire(2, 150, 151)]).is_empty());
    let unknown = op(Action::Acquire { token: 2, limit: 100, granted: false }, 5, 6, Info);
    assert!(found(&[acquire(1, 0, 1), unknown]).is_empty());
    // The limit may have passed.
    assert!(found(&[acquire(1, 0, 1), release(1, 99, false)]).is_empty());
}

#[test]
fn two_holders() {
    assert_eq!(found(&[acquire(1, 0, 1), acquire(2, 50, 51)]), ["lock held twice"]);
    assert_eq!(found(&[acquire(1, 0, 1), acquire(2, 20, 30), release(1, 40, true)]), ["lock held twice"]);
}

#[test]
fn a_lock_that_is_gone_too_early() {
    assert_eq!(found(&[acquire(1, 0, 1), release(1, 50, false)]), ["lost write"]);
}
