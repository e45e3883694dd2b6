//! Every class of anomaly, planted, is found by its name.

use super::*;
use crate::checkers::search::{kinds, op};
use crate::history::Time;
use crate::outcome::Outcome::{Fail, Info, Ok};

fn found(ops: &[Op]) -> Vec<String> {
    kinds(check, ops)
}

fn push(value: u64, start: Time, end: Time) -> Op {
    op(Action::Push(value), start, end, Ok)
}

fn pop(value: u64, start: Time, end: Time) -> Op {
    op(Action::Pop(Some(value)), start, end, Ok)
}

fn rest(values: &[u64]) -> Op {
    op(Action::Rest(values.to_vec()), 90, 91, Ok)
}

#[test]
fn a_queue() {
    let empty = op(Action::Pop(None), 0, 1, Ok);
    assert!(found(&[empty, push(1, 0, 1), push(2, 2, 3), pop(1, 4, 5), rest(&[2])]).is_empty());
    // Pushed at the same time, in either order.
    assert!(found(&[push(1, 0, 9), push(2, 0, 9), pop(2, 10, 11), pop(1, 12, 13), rest(&[])]).is_empty());
}

#[test]
fn lost_elements_and_their_excuses() {
    let history = [push(1, 0, 1), push(2, 2, 3), rest(&[2])];
    assert_eq!(found(&history), ["lost write"]);
    let unknown = op(Action::Pop(None), 4, 5, Info);
    assert!(found(&[&history[..], std::slice::from_ref(&unknown)].concat()).is_empty());
    assert_eq!(found(&[push(1, 0, 1), push(2, 2, 3), rest(&[]), unknown]), ["lost write"]);
    // Nobody knows before the end.
    assert!(found(&history[..2]).is_empty());
}

#[test]
fn elements_that_cannot_be_there() {
    assert_eq!(found(&[push(1, 0, 1), pop(1, 2, 3), pop(1, 4, 5)]), ["duplicate"]);
    assert_eq!(found(&[push(1, 0, 1), pop(1, 2, 3), rest(&[1])]), ["duplicate"]);
    assert_eq!(found(&[pop(7, 2, 3)]), ["phantom"]);
    assert_eq!(found(&[op(Action::Push(1), 0, 1, Fail), pop(1, 2, 3)]), ["failed write took effect"]);
    assert_eq!(found(&[pop(1, 0, 1), push(1, 2, 3)]), ["read from the future"]);
    assert!(found(&[op(Action::Push(1), 0, 1, Info), pop(1, 20, 21)]).is_empty());
}

#[test]
fn out_of_order() {
    assert_eq!(found(&[push(1, 0, 1), push(2, 2, 3), pop(2, 4, 5), pop(1, 6, 7)]), ["out of order"]);
}
