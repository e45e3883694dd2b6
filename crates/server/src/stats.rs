//! Counters for INFO. Relaxed: they are figures for people, and order nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use quoris_engine::Reply;
use quoris_engine::command::{self, Command, Resolved};

use crate::latency::Histogram;
use crate::limits;
use crate::resp::Answer;

/// A number that only grows, until CONFIG RESETSTAT.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// It begins again.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// One command's figures.
pub struct CommandStats {
    /// The command's full name, `config|get`.
    pub name: String,
    /// Calls that were executed.
    pub calls: Counter,
    /// Microseconds from the decision where a call runs to its reply; calls that run together share them.
    pub usec: Counter,
    /// Calls refused before they ran: arity, authentication, routing.
    pub rejected: Counter,
    /// Calls that ran and failed.
    pub failed: Counter,
    /// How long they took.
    pub times: Histogram,
}

/// All figures of a node's server.
pub struct Stats {
    /// Connections accepted.
    pub connections: Counter,
    /// Connections refused for `maxclients`.
    pub rejected_connections: Counter,
    /// Calls that were executed.
    pub calls: Counter,
    /// Bytes from clients.
    pub input_bytes: Counter,
    /// Bytes to clients.
    pub output_bytes: Counter,
    /// Keys of groups led here that were removed because they were due.
    pub expired_keys: Counter,
    /// Replies that are errors.
    pub errors: Counter,
    /// The same by their first words (`ERR`, `WRONGTYPE`).
    error_kinds: Mutex<BTreeMap<String, u64>>,
    /// Messages that this node's clients have published.
    pub published: Counter,
    commands: Vec<CommandStats>,
    /// From a row's address to its place: rows are static, and looking up their names costs more.
    places: BTreeMap<usize, usize>,
}

impl Stats {
    /// All zero, with a place for each row of the command table.
    pub fn new() -> Stats {
        let rows: Vec<Resolved> = command::table()
            .flat_map(|row| {
                let sub =
                    row.subcommands.iter().map(move |sub| Resolved { command: sub, container: Some(row) });
                std::iter::once(Resolved { command: row, container: None }).chain(sub)
            })
            .collect();
        let places = rows.iter().enumerate().map(|(place, row)| (address(row.command), place)).collect();
        let new = |row: &Resolved| CommandStats {
            name: row.full_name(),
            calls: Counter::default(),
            usec: Counter::default(),
            rejected: Counter::default(),
            failed: Counter::default(),
            times: Histogram::default(),
        };
        Stats {
            connections: Counter::default(),
            rejected_connections: Counter::default(),
            calls: Counter::default(),
            input_bytes: Counter::default(),
            output_bytes: Counter::default(),
            expired_keys: Counter::default(),
            errors: Counter::default(),
            error_kinds: Mutex::default(),
            published: Counter::default(),
            commands: rows.iter().map(new).collect(),
            places,
        }
    }

    /// The figures of `row`.
    pub fn of(&self, row: &'static Command) -> Option<&CommandStats> {
        self.places.get(&address(row)).map(|place| &self.commands[*place])
    }

    /// Counts a call of `row` that ran for `usec`; `timed`: in its histogram, too.
    pub fn ran(&self, row: &'static Command, usec: u64, failed: bool, timed: bool) {
        self.calls.add(1);
        if let Some(stats) = self.of(row) {
            stats.calls.add(1);
            stats.usec.add(usec);
            stats.failed.add(u64::from(failed));
            if timed {
                stats.times.count(usec);
            }
        }
    }

    /// Counts the errors in what a client is sent.
    pub fn replied(&self, answer: &Answer) {
        match answer {
            Answer::Own(Reply::Error(error)) => self.error(&error.to_string()),
            Answer::Raw(bytes) if answer.is_error() => self.error(&String::from_utf8_lossy(&bytes[1..])),
            Answer::Many(answers) => answers.iter().for_each(|answer| self.replied(answer)),
            Answer::Own(_) | Answer::Raw(_) => {}
        }
    }

    fn error(&self, text: &str) {
        self.errors.add(1);
        let kind = text.split_ascii_whitespace().next().unwrap_or_default();
        let mut kinds = self.kinds();
        let full = kinds.len() >= limits::ERROR_KINDS;
        match kinds.get_mut(kind) {
            Some(count) => *count += 1,
            None if full => {}
            None => drop(kinds.insert(kind.to_string(), 1)),
        }
    }

    /// Replies that are errors, by their first words.
    pub fn error_kinds(&self) -> Vec<(String, u64)> {
        self.kinds().iter().map(|(kind, count)| (kind.clone(), *count)).collect()
    }

    fn kinds(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.error_kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call that was refused before it ran; `row` is its row, if it has one.
    pub fn refused(&self, row: Option<&'static Command>) {
        if let Some(stats) = row.and_then(|row| self.of(row)) {
            stats.rejected.add(1);
        }
    }

    /// The commands that were called.
    pub fn commands(&self) -> impl Iterator<Item = &CommandStats> {
        self.commands.iter().filter(|stats| stats.calls.get() + stats.rejected.get() > 0)
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&self) {
        let totals = [
            &self.connections,
            &self.rejected_connections,
            &self.calls,
            &self.input_bytes,
            &self.output_bytes,
        ];
        totals
            .into_iter()
            .chain([&self.expired_keys, &self.errors, &self.published])
            .for_each(Counter::reset);
        self.kinds().clear();
        for stats in &self.commands {
            [&stats.calls, &stats.usec, &stats.rejected, &stats.failed].into_iter().for_each(Counter::reset);
            stats.times.reset();
        }
    }
}

impl Default for Stats {
    fn default() -> Stats {
        Stats::new()
    }
}

fn address(row: &'static Command) -> usize {
    std::ptr::from_ref(row).addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_its_own_figures() {
        let stats = Stats::new();
        assert_eq!(stats.places.len(), stats.commands.len());
        let words = ["config".into(), "get".into(), "x".into()];
        let row = command::resolve(&words).unwrap_or_else(|error| panic!("{error}"));
        stats.ran(row.command, 5, true, true);
        stats.refused(Some(row.command));
        let seen: Vec<_> =
            stats.commands().map(|s| (s.name.as_str(), s.calls.get(), s.failed.get())).collect();
        assert_eq!(seen, [("config|get", 1, 1)]);
        stats.reset();
        assert_eq!(stats.commands().count(), 0);
    }
}
