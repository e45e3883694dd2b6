//! What came of a run, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::checkers::Anomaly;
use crate::workloads::Kind;

/// Anomalies that are shown to people, each the smallest of its kind. Other kinds are named.
const EXAMPLES_SHOWN: usize = 3;
/// Operations that a person would still follow. Larger examples are shown only if there is no smaller one.
const OPERATIONS_SHOWN: usize = 6;
/// Anomalies that are given to programs.
const ANOMALIES_GIVEN: usize = 100;

/// Whether a workload's history has an explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Judgement {
    /// It has.
    Valid,
    /// It has none.
    Anomaly,
    /// It says too little: nothing succeeded, or the last reads could not be made.
    Unknown,
}

/// What came of one workload.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// Which.
    pub workload: Kind,
    /// The verdict.
    pub judgement: Judgement,
    /// Operations that succeeded.
    pub ok: usize,
    /// Operations that were certainly not applied.
    pub fail: usize,
    /// Operations of unknown fate.
    pub info: usize,
    /// What contradicts the promise.
    #[serde(skip)]
    pub anomalies: Vec<Anomaly>,
    /// Why the history says too little.
    pub trouble: Option<String>,
    /// How long the checker took.
    pub checked_in_s: f64,
}

impl Verdict {
    /// For each kind of anomaly how many there are, and the one with the fewest operations; the smallest first.
    fn examples(&self) -> Vec<(usize, &Anomaly)> {
        let mut kinds = BTreeMap::<&str, Vec<&Anomaly>>::new();
        for anomaly in &self.anomalies {
            kinds.entry(&anomaly.kind).or_default().push(anomaly);
        }
        let mut examples: Vec<_> = kinds
            .into_values()
            .filter_map(|all| Some((all.len(), *all.iter().min_by_key(|one| one.operations.len())?)))
            .collect();
        examples.sort_by_key(|(count, example)| (example.operations.len(), *count));
        examples
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { workload, ok, fail, info, .. } = self;
        let judgement = match self.judgement {
            Judgement::Valid => "valid",
            Judgement::Anomaly => "ANOMALY",
            Judgement::Unknown => "UNKNOWN",
        };
        write!(out, "{workload:<9} {judgement:<8} {ok:>8} ok {fail:>7} fail {info:>6} info")?;
        if let Some(trouble) = &self.trouble {
            write!(out, "\n  {trouble}")?;
        }
        let is_shown = |n, example: &Anomaly| {
            n == 0 || (n < EXAMPLES_SHOWN && example.operations.len() <= OPERATIONS_SHOWN)
        };
        let mut others = Vec::new();
        for (n, (count, example)) in self.examples().into_iter().enumerate() {
            if is_shown(n, example) {
                write!(out, "\n  {}", example.to_string().replace('\n', "\n  "))?;
            }
            match count - usize::from(is_shown(n, example)) {
                0 => {}
                more => others.push(format!("{more} × {}", example.kind)),
            }
        }
        if others.is_empty() { Ok(()) } else { write!(out, "\n  also found: {}", others.join(", ")) }
    }
}

/// What came of all workloads.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The nodes that were known at the start.
    pub nodes: Vec<String>,
    /// What all keys began with.
    pub prefix: String,
    /// What decided what clients did.
    pub seed: u64,
    /// How long clients worked.
    pub seconds: f64,
    /// The longest time that any client has tried until it had a success.
    pub longest_pause_ms: u128,
    /// Keys that could not be deleted.
    pub keys_left: usize,
    /// One for each workload.
    pub workloads: Vec<Verdict>,
}

impl Report {
    /// The worst of all.
    pub fn judgement(&self) -> Judgement {
        let any = |judgement| self.workloads.iter().any(|verdict| verdict.judgement == judgement);
        match (any(Judgement::Anomaly), any(Judgement::Unknown)) {
            (true, _) => Judgement::Anomaly,
            (false, true) => Judgement::Unknown,
            (false, false) => Judgement::Valid,
        }
    }

    /// With the anomalies, up to a number of each workload.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_value(self).expect("a report is JSON");
        json["judgement"] = serde_json::json!(self.judgement());
        for (row, verdict) in self.workloads.iter().enumerate() {
            let given = &verdict.anomalies[..verdict.anomalies.len().min(ANOMALIES_GIVEN)];
            json["workloads"][row]["anomalies"] = serde_json::json!(given);
            json["workloads"][row]["anomalies_found"] = serde_json::json!(verdict.anomalies.len());
        }
        format!("{json:#}\n")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.workloads.iter().try_for_each(|verdict| writeln!(out, "{verdict}"))?;
        let last = match self.judgement() {
            Judgement::Valid => "valid: an order of all operations explains what every client was told",
            Judgement::Anomaly => "ANOMALY: no order of the operations explains what clients were told",
            Judgement::Unknown => "UNKNOWN: what was seen is valid, and says too little",
        };
        writeln!(out, "{last} (longest pause {} ms, seed {})", self.longest_pause_ms, self.seed)
    }
}
