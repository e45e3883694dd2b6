//! Against the search, which cannot be wrong; against size; and every class of anomaly, planted.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::checkers::search::{Object, agrees, kinds, many, op};
use crate::history::Time;
use crate::outcome::Outcome::{Fail, Info, Ok};

struct Growing {
    last: u64,
}

impl Object for Growing {
    type Action = Action;
    type State = Vec<u64>;

    fn blank(&self) -> Action {
        Action::Read(Vec::new())
    }

    fn initial(&self) -> Vec<u64> {
        Vec::new()
    }

    fn act(&mut self, rng: &mut StdRng, op: &mut Op, mut state: Vec<u64>, takes_effect: bool) -> Vec<u64> {
        // Long sets are read rarely, so that many operations fit into memory.
        if rng.random_range(0..2 + state.len() / 50) < 1 {
            op.action = Action::Read(state.clone());
            return state;
        }
        self.last += 1;
        op.action = Action::Add(self.last);
        if takes_effect {
            state.push(self.last);
        }
        state
    }

    fn model(state: &Vec<u64>, op: &Op) -> Option<Vec<u64>> {
        match &op.action {
            Action::Read(seen) => (seen == state).then(|| state.clone()),
            Action::Add(value) => {
                let mut after = state.clone();
                after.push(*value);
                after.sort_unstable();
                Some(after)
            }
        }
    }

    fn is_read(action: &Action) -> bool {
        matches!(action, Action::Read(_))
    }
}

#[test]
fn agrees_with_the_search() {
    agrees(|| Growing { last: 0 }, check);
}

#[test]
fn fifty_thousand_operations_on_one_key_with_hundreds_under_way() {
    let mut ops = many(&mut StdRng::seed_from_u64(1), &mut Growing { last: 0 }, 50_000, 400);
    let began = Instant::now();
    assert_eq!(check(&ops), []);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let last =
        ops.iter_mut().rev().find(|op| op.is_ok() && matches!(op.action, Action::Read(_))).expect("a read");
    let Action::Read(values) = &mut last.action else { unreachable!("just looked for") };
    values.remove(0);
    assert_eq!(kinds(check, &ops), [LOST_OR_STALE]);
}

fn found(ops: &[Op]) -> Vec<String> {
    kinds(check, ops)
}

fn add(value: u64, start: Time, end: Time) -> Op {
    op(Action::Add(value), start, end, Ok)
}

fn read(values: &[u64], start: Time, end: Time) -> Op {
    op(Action::Read(values.to_vec()), start, end, Ok)
}

#[test]
fn lost_elements() {
    assert_eq!(found(&[add(1, 0, 1), read(&[], 2, 3)]), [LOST_OR_STALE]);
    assert!(found(&[add(1, 0, 2), read(&[], 1, 3)]).is_empty());
    // Seen once, and then no more.
    let unknown = op(Action::Add(1), 0, 1, Info);
    assert_eq!(found(&[unknown, read(&[1], 2, 3), read(&[], 4, 5)]), [LOST_OR_STALE]);
    // Neither read contains the other.
    assert_eq!(found(&[add(1, 0, 9), add(2, 0, 9), read(&[1], 2, 3), read(&[2], 2, 3)]), [LOST_OR_STALE]);
}

#[test]
fn elements_that_overtake_each_other() {
    let adds = [add(1, 0, 1), add(2, 2, 3)];
    assert_eq!(found(&[&adds[..], &[read(&[2], 0, 9)]].concat()), [LOST_OR_STALE]);
    assert!(found(&[&adds[..], &[read(&[1], 0, 9)]].concat()).is_empty());
}

#[test]
fn elements_that_cannot_be_there() {
    assert_eq!(found(&[op(Action::Add(1), 0, 1, Fail), read(&[1], 2, 3)]), ["failed write took effect"]);
    assert_eq!(found(&[read(&[1], 2, 3)]), ["phantom"]);
    assert_eq!(found(&[read(&[1], 0, 1), add(1, 2, 3)]), ["read from the future"]);
    assert_eq!(found(&[add(1, 0, 1), read(&[1, 1], 2, 3)]), ["duplicate"]);
}

#[test]
fn unknown_elements_may_come_late_or_never() {
    let unknown = op(Action::Add(1), 0, 1, Info);
    assert!(found(&[unknown.clone(), read(&[], 2, 3), read(&[1], 4, 5)]).is_empty());
    assert!(found(&[unknown, read(&[], 2, 3)]).is_empty());
}
