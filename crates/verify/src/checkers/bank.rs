//! A bank: money is neither made nor lost, in any read; and its records, its balances and what clients were told agree.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::Anomaly;
use crate::history::{self, by_key};
use crate::outcome::Outcome;

/// Accounts of a bank.
pub const ACCOUNTS: usize = 6;
/// What each account holds at first.
pub const OPENING_BALANCE: i64 = 100;

/// Money from one account to another, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Transfer {
    /// Its number: of all transfers.
    pub number: u64,
    /// From there.
    pub source: usize,
    /// To there.
    pub target: usize,
    /// So much.
    pub amount: i64,
}

/// Of each account; `None` if the account is gone.
pub type Balances = Vec<Option<i64>>;

/// What was done at a bank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The accounts were opened.
    Open,
    /// Whether there was enough money.
    Transfer(Transfer, bool),
    /// All accounts at one moment.
    Read(Balances),
    /// All accounts and all records at one moment, after the last client.
    Audit(Balances, Vec<Transfer>),
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Open => write!(out, "open"),
            Action::Transfer(Transfer { number, source, target, amount }, done) => {
                write!(out, "transfer {number} of {amount} from {source} to {target}, enough money: {done}")
            }
            Action::Read(balances) => write!(out, "read {}", List(balances)),
            Action::Audit(balances, records) => {
                write!(out, "audit {}, {} records", List(balances), records.len())
            }
        }
    }
}

struct List<'a>(&'a Balances);

impl fmt::Display for List<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> =
            self.0.iter().map(|one| one.map_or("gone".to_string(), |amount| amount.to_string())).collect();
        write!(out, "[{}]", texts.join(", "))
    }
}

type Op = history::Op<Action>;

/// What contradicts the books of each bank.
pub fn check(ops: &[Op]) -> Vec<Anomaly> {
    let sums = ops.iter().filter_map(sum);
    let audits = by_key(ops).into_values().filter_map(|ops| {
        let audit = ops.iter().find(|op| op.is_ok() && matches!(op.action, Action::Audit(..)))?;
        Some(judge_audit(audit, &ops))
    });
    sums.chain(audits.flatten()).collect()
}

fn sum(op: &Op) -> Option<Anomaly> {
    let (Action::Read(balances) | Action::Audit(balances, _)) = &op.action else { return None };
    let total: i64 = balances.iter().flatten().sum();
    let is_sound =
        total == ACCOUNTS as i64 * OPENING_BALANCE && balances.iter().all(|one| one.is_some_and(|m| m >= 0));
    (op.is_ok() && !is_sound)
        .then(|| Anomaly::new("money made or lost", format!("the balances add up to {total}"), [op]))
}

/// The records against what clients were told, and against the balances.
fn judge_audit(audit: &Op, ops: &[&Op]) -> Vec<Anomaly> {
    let Action::Audit(balances, records) = &audit.action else { unreachable!("it was looked for") };
    let recorded: BTreeMap<u64, Transfer> = records.iter().map(|record| (record.number, *record)).collect();
    let mut anomalies: Vec<Anomaly> = ops
        .iter()
        .filter_map(|op| {
            let Action::Transfer(transfer, done) = op.action else { return None };
            let found = recorded.get(&transfer.number);
            let (kind, what) = match (op.outcome, found) {
                (Outcome::Ok, None) if done => ("lost write", "it was acknowledged, and is not recorded"),
                (Outcome::Ok, Some(_)) if !done => {
                    ("phantom", "it was answered as not done, and is recorded")
                }
                (Outcome::Fail, Some(_)) => ("failed write took effect", "it was refused, and is recorded"),
                (_, Some(other)) if *other != transfer => ("phantom", "it is recorded as another one"),
                _ => return None,
            };
            Some(Anomaly::new(kind, format!("transfer {}: {what}", transfer.number), [*op, audit]))
        })
        .collect();
    let mut expected = [OPENING_BALANCE; ACCOUNTS];
    for Transfer { source, target, amount, .. } in records {
        expected[*source] -= amount;
        expected[*target] += amount;
    }
    if !balances.iter().copied().eq(expected.map(Some)) {
        let what = format!("the records add up to {}", List(&expected.map(Some).to_vec()));
        anomalies.push(Anomaly::new("not atomic", what, [audit]));
    }
    anomalies
}

#[cfg(test)]
mod tests;
