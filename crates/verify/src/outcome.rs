//! What becomes of an operation, and which of the three outcomes each way to fail is. This is the only place that decides.
//!
//! Redis's error words mean the same as quoris's, so one table serves both.

use std::fmt;

use serde::Serialize;

/// How an operation ended. Everything that is checked rests on what these three mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It took effect once, at a moment between its start and its end.
    Ok,
    /// It was certainly not applied, and never will be.
    Fail,
    /// It may take effect at any moment after its start, however late, or never; never twice.
    Info,
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Outcome::Ok => "ok",
            Outcome::Fail => "fail",
            Outcome::Info => "info",
        })
    }
}

/// Why a call has no reply of success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Certainly not applied.
    NotApplied(String),
    /// It may have been applied, or may still be.
    Unknown(String),
    /// A reply that no command of this kind has: somebody else's, or made up. An anomaly by itself.
    Garbled(String),
}

impl Failure {
    /// What it amounts to.
    pub fn outcome(&self) -> Outcome {
        match self {
            Failure::NotApplied(_) => Outcome::Fail,
            Failure::Unknown(_) | Failure::Garbled(_) => Outcome::Info,
        }
    }

    /// What the client was told.
    pub fn text(&self) -> &str {
        match self {
            Failure::NotApplied(text) | Failure::Unknown(text) | Failure::Garbled(text) => text,
        }
    }

    /// What an error reply amounts to: only a word that is known to be a refusal says that nothing was done.
    pub fn of_reply(error: String) -> Failure {
        match CERTAINLY_NOT.contains(&word(&error)) {
            true => Failure::NotApplied(error),
            false => Failure::Unknown(error),
        }
    }
}

/// First words of error replies after which nothing was done, and nothing will be.
const CERTAINLY_NOT: [&str; 22] = [
    // The wrong place, or the wrong time.
    "MOVED",
    "ASK",
    "CROSSSLOT",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "READONLY",
    "MASTERDOWN",
    "LOADING",
    "BUSY",
    // Refused before it ran.
    "OOM",
    "MISCONF",
    "NOREPLICAS",
    "NOAUTH",
    "NOPERM",
    "WRONGPASS",
    // Refused by the command itself.
    "ERR",
    "WRONGTYPE",
    "NOSCRIPT",
    "NOGROUP",
    "BUSYGROUP",
    // A call could not be queued, so nothing of the transaction ran; a blocked call was sent away.
    "EXECABORT",
    "UNBLOCKED",
];

/// The first word of an error reply.
pub fn word(error: &str) -> &str {
    error.split(' ').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_refusals_are_certain() {
        let outcome = |text: &str| Failure::of_reply(text.to_string()).outcome();
        assert_eq!(outcome("CLUSTERDOWN The cluster is down"), Outcome::Fail);
        assert_eq!(outcome("ERR value is not an integer"), Outcome::Fail);
        assert_eq!(outcome("UNKNOWN the write may still commit"), Outcome::Info);
        assert_eq!(outcome("ERRATIC"), Outcome::Info);
        assert_eq!(outcome(""), Outcome::Info);
    }
}
