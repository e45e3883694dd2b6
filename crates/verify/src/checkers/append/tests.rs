//! Every class of anomaly, planted, is found by its name; histories without one are clean; and size.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::checkers::search::{self, kinds, op};
use crate::outcome::Outcome::{Fail, Info, Ok};

/// `ax1` appends 1 to x; `rx:12` reads [1, 2] there, `rx:` nothing.
fn transaction(text: &str, start: Time, end: Time, outcome: Outcome) -> Op {
    let calls = text.split(' ').map(|word| {
        let (key, rest) = (word[1..2].to_string(), &word[2..]);
        match &word[..1] {
            "a" => Call::Append(key, rest.parse().expect("a number")),
            _ => Call::Read(key, Some(rest[1..].bytes().map(|digit| u64::from(digit - b'0')).collect())),
        }
    });
    op(Action(calls.collect()), start, end, outcome)
}

fn found(ops: &[Op]) -> Vec<String> {
    kinds(check, ops)
}

/// Of transactions that succeed, each with its start and its end.
fn found_in(transactions: &[(&str, Time, Time)]) -> Vec<String> {
    let ops: Vec<Op> =
        transactions.iter().map(|(text, start, end)| transaction(text, *start, *end, Ok)).collect();
    found(&ops)
}

#[test]
fn a_serial_history_is_clean() {
    let serial = [("ax1", 0, 1), ("ax2 rx:12", 2, 3), ("rx:12 ry:", 4, 5), ("ay3", 6, 7), ("ry:3", 8, 9)];
    assert!(found_in(&serial).is_empty());
}

#[test]
fn g0_write_cycle() {
    // x: the first before the second; y: the second before the first.
    let kinds = found_in(&[("ax1 ay1", 0, 9), ("ax2 ay2", 0, 9), ("rx:12", 5, 9), ("ry:21", 5, 9)]);
    assert!(kinds.contains(&"G0".to_string()), "{kinds:?}");
}

#[test]
fn g1a_aborted_read() {
    let kinds = found(&[transaction("ax1", 0, 1, Fail), transaction("rx:1", 2, 3, Ok)]);
    assert!(kinds.contains(&"G1a".to_string()), "{kinds:?}");
}

#[test]
fn g1b_intermediate_read() {
    let kinds = found_in(&[("ax1 ax2", 0, 9), ("rx:1", 1, 2), ("rx:12", 10, 11)]);
    assert!(kinds.contains(&"G1b".to_string()), "{kinds:?}");
}

#[test]
fn g1c_circular_information_flow() {
    assert_eq!(found_in(&[("ax1 ry:2", 0, 9), ("ay2 rx:1", 0, 9)]), ["G1c"]);
}

#[test]
fn g_single_read_skew() {
    // The second sees the first's y, and not its x.
    assert_eq!(found_in(&[("ax1 ay1", 0, 9), ("rx: ry:1", 0, 9), ("rx:1", 10, 11)]), ["G-single-item"]);
}

#[test]
fn g2_write_skew() {
    assert_eq!(found_in(&[("rx: ay1", 0, 9), ("ry: ax2", 0, 9), ("rx:2 ry:1", 10, 11)]), ["G2-item"]);
}

#[test]
fn lost_update() {
    let kinds = found_in(&[("ax1", 0, 1), ("rx:1 ax2", 2, 9), ("rx:1 ax3", 2, 9), ("rx:123", 10, 11)]);
    assert!(kinds.contains(&"lost-update".to_string()), "{kinds:?}");
}

#[test]
fn lost_write() {
    let kinds = found_in(&[("ax1", 0, 1), ("ax2", 2, 3), ("rx:2", 4, 5)]);
    assert!(kinds.contains(&"lost write".to_string()), "{kinds:?}");
}

#[test]
fn real_time() {
    let kinds = found_in(&[("ax1", 0, 1), ("rx:", 2, 3), ("rx:1", 4, 5)]);
    assert_eq!(kinds, ["G-single-item-realtime"]);
    // Versions in the wrong order of time.
    assert_eq!(found_in(&[("ax1", 0, 1), ("ax2", 2, 3), ("rx:21", 4, 5)]), ["G0-realtime"]);
    // A read of something that only begins later.
    assert_eq!(found_in(&[("rx:1", 0, 1), ("ax1", 2, 3)]), ["G1c-realtime"]);
    // At the same moment, either may have been first.
    assert!(found_in(&[("ax1", 0, 1), ("rx:", 1, 3), ("rx:1", 4, 5)]).is_empty());
}

#[test]
fn lists_that_cannot_be() {
    let contains = |kind: &str, kinds: Vec<String>| assert!(kinds.contains(&kind.to_string()), "{kinds:?}");
    let orders = [("ax1", 0, 9), ("ax2", 0, 9), ("rx:12", 10, 11), ("rx:21", 12, 13)];
    contains("incompatible-order", found_in(&orders));
    let ops = orders.map(|(text, start, end)| transaction(text, start, end, Ok));
    let shown =
        check(&ops).into_iter().find(|anomaly| anomaly.kind == INCOMPATIBLE_ORDER).expect("it was found");
    assert_eq!(shown.operations, [ops[2].to_string(), ops[3].to_string()]);
    contains("duplicate-elements", found_in(&[("ax1", 0, 1), ("rx:11", 2, 3)]));
    contains("phantom", found_in(&[("rx:7", 0, 1)]));
    contains("internal", found_in(&[("ax1 rx:", 0, 1)]));
    contains("internal", found_in(&[("rx: ax1 rx:21", 0, 9), ("ax2", 0, 9)]));
}

#[test]
fn unknown_outcomes() {
    let unknown = transaction("ax1", 0, 1, Info);
    let then = |texts: &[&str]| {
        let later = texts.iter().zip(1..).map(|(text, n)| transaction(text, 2 * n, 2 * n + 1, Ok));
        found(&std::iter::once(unknown.clone()).chain(later).collect::<Vec<_>>())
    };
    // Seen late, or never: both may be.
    assert!(then(&["ax2", "rx:2", "rx:21"]).is_empty());
    assert!(then(&["ax2", "rx:2"]).is_empty());
    // It cannot be seen and then not.
    let kinds = then(&["rx:1", "rx:"]);
    assert_eq!(kinds, ["G-single-item-realtime"]);
    // Nor can half of it.
    let half =
        [transaction("ax1 ay1", 0, 1, Info), transaction("rx:1", 2, 3, Ok), transaction("ry:", 4, 5, Ok)];
    assert_eq!(found(&half), ["G-single-item-realtime"]);
}

/// Random transactions on lists, as a strictly serializable server does them.
struct Lists {
    last: u64,
    generations: HashMap<u64, u64>,
}

impl Lists {
    fn new() -> Lists {
        Lists { last: 0, generations: HashMap::new() }
    }
}

impl search::Object for Lists {
    type Action = Action;
    /// Nothing searches here, so this need not be hashed.
    type State = std::collections::BTreeMap<String, Vec<u64>>;

    fn blank(&self) -> Action {
        Action(Vec::new())
    }

    fn initial(&self) -> Self::State {
        Self::State::new()
    }

    fn act(
        &mut self,
        rng: &mut StdRng,
        op: &mut Op,
        mut state: Self::State,
        takes_effect: bool,
    ) -> Self::State {
        let is_ok = op.is_ok();
        let mut own = state.clone();
        for _ in 0..rng.random_range(1..=4) {
            let name = rng.random_range(0..10);
            let generation = self.generations.entry(name).or_default();
            let key = format!("{name}:{}", *generation / 50);
            if rng.random_bool(0.5) {
                *generation += 1;
                self.last += 1;
                own.entry(key.clone()).or_default().push(self.last);
                op.action.0.push(Call::Append(key, self.last));
            } else {
                let seen = own.get(&key).cloned().unwrap_or_default();
                op.action.0.push(Call::Read(key, is_ok.then_some(seen)));
            }
        }
        // What has been given up is read no more.
        own.retain(|key, _| {
            key.split_once(':').is_some_and(|(name, generation)| {
                let now = name
                    .parse()
                    .ok()
                    .and_then(|name: u64| self.generations.get(&name))
                    .map_or(0, |count| count / 50);
                generation.parse() == std::result::Result::Ok(now)
            })
        });
        if takes_effect {
            state = own;
        }
        state
    }

    fn model(_: &Self::State, _: &Op) -> Option<Self::State> {
        unreachable!("nothing searches here")
    }

    fn is_read(_: &Action) -> bool {
        false
    }
}

#[test]
fn fifty_thousand_transactions_with_hundreds_under_way() {
    let ops = search::many(&mut StdRng::seed_from_u64(1), &mut Lists::new(), 50_000, 300);
    let began = Instant::now();
    assert_eq!(check(&ops), []);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[test]
fn one_lie_among_many_is_found() {
    for seed in 0..20 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut ops = search::many(&mut rng, &mut Lists::new(), 2_000, 10);
        assert_eq!(check(&ops), [], "seed {seed}");
        // A read that misses the newest elements, which had been acknowledged before it began.
        let lists = ops.iter_mut().filter(|op| op.is_ok()).flat_map(|op| &mut op.action.0);
        let mut lists: Vec<&mut Vec<u64>> = lists
            .filter_map(|call| match call {
                Call::Read(_, Some(values)) if values.len() > 30 => Some(values),
                _ => None,
            })
            .collect();
        let place = rng.random_range(0..lists.len());
        let shorter = lists[place].len() - 25;
        lists[place].truncate(shorter);
        assert!(!check(&ops).is_empty(), "seed {seed}");
    }
}
