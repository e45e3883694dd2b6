//! What is asked for: the flags of `quoris verify`.

use std::path::PathBuf;

use clap::{Args, Command, ValueEnum};

use crate::runner::CLIENTS_AT_MOST;
use crate::workloads::Kind;

/// Histories of a running cluster, quoris or Redis, and whether any order of the operations explains them. Hurt the cluster
/// while it runs: kill a node, cut a network. Exit code 0: valid. 1: an anomaly. 3: too little could be run
#[derive(Args, Clone, Debug)]
pub struct Plan {
    /// Some nodes; the others of a cluster are asked for
    #[arg(long, value_name = "HOST:PORT,…", required = true, value_delimiter = ',', value_parser = address)]
    pub nodes: Vec<String>,
    /// What clients do, at the same time: `all`, or some of them
    #[arg(long, value_name = "NAME,…", default_value = "all", value_delimiter = ',')]
    pub workload: Vec<Choice>,
    /// For how long clients work; ^C ends it earlier
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Clients of each workload
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..CLIENTS_AT_MOST))]
    pub clients: u64,
    /// Operations a second, at most, of all clients of a workload together
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub rate: u64,
    /// What all keys begin with, before a part that is drawn at random
    #[arg(long, value_name = "TEXT", default_value = "quoris-verify:", value_parser = prefix)]
    pub prefix: String,
    /// Leave the keys; otherwise they are deleted at the end
    #[arg(long)]
    pub keep: bool,
    /// What nodes were given as requirepass
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub password: String,
    /// Decides what clients do; not when they are answered [default: at random]
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// The verdict as JSON
    #[arg(long)]
    pub json: bool,
    /// Where the histories and the verdict are kept
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}

/// A workload, or all of them.
#[derive(Clone, Copy, Debug)]
pub enum Choice {
    /// Every workload.
    All,
    /// This one.
    One(Kind),
}

impl ValueEnum for Choice {
    fn value_variants<'a>() -> &'a [Choice] {
        static CHOICES: std::sync::LazyLock<Vec<Choice>> = std::sync::LazyLock::new(|| {
            let kinds = Kind::value_variants().iter().copied().map(Choice::One);
            std::iter::once(Choice::All).chain(kinds).collect()
        });
        &CHOICES
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        match self {
            Choice::All => Some(clap::builder::PossibleValue::new("all")),
            Choice::One(kind) => kind.to_possible_value(),
        }
    }
}

impl Plan {
    /// The command line of `quoris verify`.
    pub fn command() -> Command {
        Plan::augment_args(Command::new("verify"))
    }

    /// The workloads, each once.
    pub fn kinds(&self) -> Vec<Kind> {
        let all = |choice: &Choice| match choice {
            Choice::All => Kind::value_variants().to_vec(),
            Choice::One(kind) => vec![*kind],
        };
        let mut kinds: Vec<Kind> = self.workload.iter().flat_map(all).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }
}

fn address(text: &str) -> Result<String, String> {
    let is_one =
        text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if is_one { Ok(text.to_string()) } else { Err("an address is HOST:PORT".to_string()) }
}

/// Braces would decide the slot of every key.
fn prefix(text: &str) -> Result<String, String> {
    let is_one = !text.is_empty() && !text.contains(['{', '}']) && !text.contains(char::is_whitespace);
    if is_one { Ok(text.to_string()) } else { Err("a prefix is a word without braces".to_string()) }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    fn plan(words: &str) -> Result<Plan, clap::Error> {
        let matches =
            Plan::command().try_get_matches_from(std::iter::once("verify").chain(words.split(' ')))?;
        Plan::from_arg_matches(&matches)
    }

    #[test]
    fn flags_are_checked() {
        let kinds = |words: &str| plan(words).expect("a plan").kinds();
        assert_eq!(kinds("--nodes a:1,b:2"), Kind::value_variants());
        assert_eq!(kinds("--nodes a:1 --workload set,register,set"), [Kind::Register, Kind::Set]);
        for wrong in [
            "--workload all",
            "--nodes a",
            "--nodes a:1 --workload other",
            "--nodes a:1 --prefix {x}",
            "--nodes a:1 --clients 0",
            "--nodes a:1 --seconds 0",
        ] {
            assert!(plan(wrong).is_err(), "{wrong}");
        }
    }
}
