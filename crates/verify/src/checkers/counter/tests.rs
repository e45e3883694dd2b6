//! Against the search, which cannot be wrong; against size; and every class of anomaly, planted.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::checkers::search::{Object, agrees, kinds, many, op};
use crate::history::Time;
use crate::outcome::Outcome::{Fail, Info, Ok};

struct Counter;

impl Object for Counter {
    type Action = Action;
    type State = u64;

    fn blank(&self) -> Action {
        Action::Read(0)
    }

    fn initial(&self) -> u64 {
        0
    }

    fn act(&mut self, rng: &mut StdRng, op: &mut Op, state: u64, takes_effect: bool) -> u64 {
        if rng.random_range(0..3) == 0 {
            op.action = Action::Read(state);
            return state;
        }
        let after = state + u64::from(takes_effect);
        op.action = Action::Incr(after);
        after
    }

    fn model(state: &u64, op: &Op) -> Option<u64> {
        match op.action {
            Action::Read(value) => (value == *state).then_some(*state),
            Action::Incr(value) => (!op.is_ok() || value == state + 1).then_some(state + 1),
        }
    }

    fn is_read(action: &Action) -> bool {
        matches!(action, Action::Read(_))
    }
}

#[test]
fn agrees_with_the_search() {
    agrees(|| Counter, check);
}

#[test]
fn fifty_thousand_operations_on_one_key_with_hundreds_under_way() {
    let mut ops = many(&mut StdRng::seed_from_u64(1), &mut Counter, 50_000, 400);
    let began = Instant::now();
    assert_eq!(check(&ops), []);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let last = ops.iter_mut().rev().find(|op| op.is_ok() && !op.action.is_incr()).expect("a read");
    last.action = Action::Read(last.action.value() - 1000);
    assert_eq!(kinds(check, &ops), [LOST_OR_STALE]);
}

fn found(ops: &[Op]) -> Vec<String> {
    kinds(check, ops)
}

fn incr(value: u64, start: Time, end: Time) -> Op {
    op(Action::Incr(value), start, end, Ok)
}

fn read(value: u64, start: Time, end: Time) -> Op {
    op(Action::Read(value), start, end, Ok)
}

#[test]
fn lost_increments() {
    assert_eq!(found(&[incr(1, 0, 1), incr(1, 0, 1)]), ["lost update"]);
    assert_eq!(found(&[incr(1, 0, 1), read(0, 2, 3)]), [LOST_OR_STALE]);
    assert!(found(&[incr(1, 0, 2), read(0, 1, 3)]).is_empty());
}

#[test]
fn increments_from_nowhere() {
    assert_eq!(found(&[op(Action::Incr(0), 0, 1, Fail), read(1, 2, 3)]), ["failed write took effect"]);
    let unknown = op(Action::Incr(0), 0, 1, Info);
    assert_eq!(found(&[unknown.clone(), read(2, 2, 3)]), ["failed write took effect"]);
    assert!(found(&[unknown.clone(), read(1, 2, 3)]).is_empty());
    // It began only after its effect had been seen.
    let late = op(Action::Incr(0), 9, 10, Info);
    assert_eq!(found(&[late, read(1, 2, 3)]), ["failed write took effect"]);
    assert!(found(&[unknown, read(0, 2, 3)]).is_empty());
}
