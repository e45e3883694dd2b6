//! For tests: linearizability of anything that has a sequential model, by search (Wing and Gong 1993; Lowe's memory of
//! states); and histories to try it on. Exact for any model, and exponential in how much is concurrent: the checkers are
//! exact, too, and fast, and this one holds them to account.

use std::collections::HashSet;
use std::hash::Hash;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::Anomaly;
use crate::history::{Op, Time, seal};
use crate::outcome::Outcome::{self, Fail, Info, Ok};

/// An operation of a history that a test spells out. Times are small numbers.
pub fn op<A>(action: A, start: Time, end: Time, outcome: Outcome) -> Op<A> {
    let key = "k".into();
    Op { index: 0, client: 0, key, action, start, end, outcome, error: String::new(), garbled: false }
}

/// What a checker finds, by kind.
pub fn kinds<A: Clone>(check: impl Fn(&[Op<A>]) -> Vec<Anomaly>, ops: &[Op<A>]) -> Vec<String> {
    let mut ops = ops.to_vec();
    seal(&mut ops);
    let mut kinds: Vec<String> = check(&ops).into_iter().map(|anomaly| anomaly.kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

/// Whether some order explains all results. `model` is the state after an operation, or `None` if it cannot be so.
pub fn linearizable<A, S: Clone + Eq + Hash>(
    ops: &[Op<A>],
    initial: S,
    model: impl Fn(&S, &Op<A>) -> Option<S>,
) -> bool {
    let ops: Vec<&Op<A>> = ops.iter().filter(|op| op.outcome != Fail).collect();
    let must = (0..ops.len()).filter(|n| ops[*n].is_ok()).fold(0_u64, |set, n| set | 1 << n);
    let (mut tried, mut stack) = (HashSet::new(), vec![(0_u64, initial)]);
    while let Some((done, state)) = stack.pop() {
        if done & must == must {
            return true;
        }
        if !tried.insert((done, state.clone())) {
            continue;
        }
        let left: Vec<usize> = (0..ops.len()).filter(|n| done & 1 << n == 0).collect();
        // Nothing may come before something that had ended when it started.
        let first_end = left.iter().map(|n| ops[*n].until()).min().unwrap_or(Time::MAX);
        for n in left.into_iter().filter(|n| ops[*n].start <= first_end) {
            stack.extend(model(&state, ops[n]).map(|after| (done | 1 << n, after)));
        }
    }
    false
}

/// How a type of object behaves, and how its results can be made wrong.
pub trait Object {
    /// What is done to it.
    type Action: Clone;
    /// What it is.
    type State: Clone + Eq + Hash;

    /// Something that was not done to it yet.
    fn blank(&self) -> Self::Action;
    /// What it is at first.
    fn initial(&self) -> Self::State;
    /// Does something to it at random, and fills in what was seen.
    fn act(
        &mut self,
        rng: &mut StdRng,
        op: &mut Op<Self::Action>,
        state: Self::State,
        takes_effect: bool,
    ) -> Self::State;
    /// The sequential model.
    fn model(state: &Self::State, op: &Op<Self::Action>) -> Option<Self::State>;
    /// Whether it only looks.
    fn is_read(action: &Self::Action) -> bool;
}

/// A history of a few operations that overlap at random; each takes effect at one moment.
fn few<O: Object>(rng: &mut StdRng, object: &mut O) -> Vec<Op<O::Action>> {
    let count = rng.random_range(2..=7);
    let mut ops: Vec<_> = (0..count)
        .map(|_| {
            let start = rng.random_range(0..10_000);
            let outcome =
                *[Ok, Ok, Ok, Ok, Ok, Ok, Ok, Ok, Info, Info, Info, Fail].choose(rng).expect("some");
            let length = *[500, 3000, 9000].choose(rng).expect("some");
            op(object.blank(), start, start + length, outcome)
        })
        .collect();
    let horizon = |op: &Op<O::Action>| if op.is_ok() { op.end } else { 30_000 };
    take_effect(rng, object, &mut ops, horizon);
    seal(&mut ops);
    ops
}

/// A history of many operations: `clients` are always busy, a tenth of the operations is of unknown outcome.
pub fn many<O: Object>(rng: &mut StdRng, object: &mut O, count: usize, clients: usize) -> Vec<Op<O::Action>> {
    let mut free = vec![0; clients];
    let mut ops: Vec<_> = (0..count)
        .map(|n| {
            let start = free[n % clients] + rng.random_range(1..100_000);
            free[n % clients] = start + rng.random_range(1_000_000..2_000_000);
            op(object.blank(), start, free[n % clients], if rng.random_bool(0.1) { Info } else { Ok })
        })
        .collect();
    take_effect(rng, object, &mut ops, |op| op.end);
    seal(&mut ops);
    ops
}

fn take_effect<O: Object>(
    rng: &mut StdRng,
    object: &mut O,
    ops: &mut [Op<O::Action>],
    horizon: impl Fn(&Op<O::Action>) -> Time,
) {
    let mut order: Vec<(Time, usize)> =
        ops.iter().enumerate().map(|(n, op)| (rng.random_range(op.start..=horizon(op)), n)).collect();
    order.sort_unstable();
    let mut state = object.initial();
    for (_, n) in order {
        let takes_effect = ops[n].is_ok() || (ops[n].outcome == Info && rng.random_bool(0.5));
        state = object.act(rng, &mut ops[n], state, takes_effect);
    }
}

/// Swaps what two reads saw, moves an operation in time, or changes an outcome.
fn damage<O: Object>(rng: &mut StdRng, ops: &mut [Op<O::Action>]) {
    let some = |rng: &mut StdRng, wanted: &dyn Fn(&Op<O::Action>) -> bool, ops: &[Op<O::Action>]| {
        let places: Vec<usize> = (0..ops.len()).filter(|n| wanted(&ops[*n])).collect();
        places.choose(rng).copied()
    };
    match rng.random_range(0..3) {
        0 => {
            let is_read = |op: &Op<O::Action>| op.is_ok() && O::is_read(&op.action);
            if let (Some(one), Some(other)) = (some(rng, &is_read, ops), some(rng, &is_read, ops)) {
                let action = ops[one].action.clone();
                ops[one].action = std::mem::replace(&mut ops[other].action, action);
            }
        }
        1 => {
            let (n, by) = (rng.random_range(0..ops.len()), rng.random_range(-6000..6000));
            ops[n].start += by;
            ops[n].end += by;
        }
        _ => {
            if let Some(n) = some(rng, &|op| !O::is_read(&op.action), ops) {
                ops[n].outcome = *[Info, Fail].choose(rng).expect("some");
            }
        }
    }
    seal(ops);
}

/// Whether a checker says what the search says, on thousands of small histories, half of them damaged.
pub fn agrees<O: Object>(make: impl Fn() -> O, check: impl Fn(&[Op<O::Action>]) -> Vec<Anomaly>) {
    let mut verdicts = [0; 2];
    for seed in 0..5000 {
        let (mut rng, mut object) = (StdRng::seed_from_u64(seed), make());
        let mut ops = few(&mut rng, &mut object);
        let is_damaged = seed % 2 == 0;
        for _ in 0..if is_damaged { 3 } else { 0 } {
            damage::<O>(&mut rng, &mut ops);
        }
        let expected = linearizable(&ops, object.initial(), O::model);
        let found = check(&ops);
        assert!(expected || is_damaged, "seed {seed}: the search must explain what did happen");
        assert_eq!(found.is_empty(), expected, "seed {seed}: the checker found {found:?}");
        verdicts[usize::from(expected)] += 1;
    }
    assert!(verdicts.iter().all(|count| *count > 250), "one-sided: {verdicts:?}");
}
