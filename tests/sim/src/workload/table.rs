//! Calls made up from the command table, for every family that there is.
//!
//! The rows say which words are keys. What else a command takes, its golden scripts know best
//! (`crates/engine/src/testscripts/<chapter>/<command>`): a call is one of theirs, with keys of ours. So a new family
//! is part of the workload as soon as it has rows and scripts.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use quoris_engine::command::{self, Command, Run};
use quoris_raft::env::Rng;

/// Keys of each chapter in each slot.
const KEYS: u64 = 3;

/// Hash tags, and so slots, over which these keys are spread.
const TAGS: u64 = 3;

/// In one of so many calls a key is another chapter's: commands meet values of the wrong type.
const STRANGE_ONE_IN: u64 = 8;

/// Numbers in this range are left out of calls: they are sizes and offsets that cost much memory, and no times.
const COSTLY: std::ops::Range<i128> = 50_000..1_000_000_000;

/// The calls of all golden scripts, by command.
pub struct Table {
    commands: Vec<(&'static Command, Vec<Vec<Bytes>>)>,
    chapters: Vec<&'static str>,
}

impl Table {
    /// Reads the scripts.
    pub fn load() -> std::io::Result<Table> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/engine/src/testscripts");
        let mut commands: Vec<(&'static Command, Vec<Vec<Bytes>>)> = Vec::new();
        for chapter in sorted(&root)? {
            for script in sorted(&chapter)? {
                for words in std::fs::read_to_string(script)?.lines().filter_map(call_in) {
                    let Ok(resolved) = command::resolve(&words) else { continue };
                    let row = resolved.command;
                    if !is_of_data(row) || row.keys.of(&words).next().is_none() {
                        continue;
                    }
                    match commands.iter_mut().find(|(known, _)| known.name == row.name) {
                        Some((_, calls)) => calls.push(words),
                        None => commands.push((row, vec![words])),
                    }
                }
            }
        }
        let mut chapters: Vec<&str> = commands.iter().map(|(row, _)| row.chapter.name()).collect();
        chapters.sort_unstable();
        chapters.dedup();
        Ok(Table { commands, chapters })
    }

    /// The names of the commands it calls.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.commands.iter().map(|(row, _)| row.name)
    }

    /// A call: every command is as likely as any other.
    pub fn call(&self, rng: &dyn Rng) -> Vec<Bytes> {
        let draw = |below: usize| (rng.next_u64() % below as u64) as usize;
        let (row, calls) = &self.commands[draw(self.commands.len())];
        let mut words = calls[draw(calls.len())].clone();
        let tag = rng.next_u64() % TAGS;
        let is_key = |i: &usize| row.keys.of(&words).any(|key| std::ptr::eq(key, &words[*i]));
        let places: Vec<usize> = (0..words.len()).filter(is_key).collect();
        for i in places {
            let generic = row.chapter.name() == "generic" || rng.next_u64().is_multiple_of(STRANGE_ONE_IN);
            let chapter = if generic { self.chapters[draw(self.chapters.len())] } else { row.chapter.name() };
            words[i] = key(chapter, tag, rng.next_u64()).into();
        }
        words
    }
}

/// Whether it is a group that runs the command.
fn is_of_data(row: &Command) -> bool {
    matches!(row.run, Run::Read(_) | Run::Write(_) | Run::ByWords(_))
}

/// A key of `chapter`, by two numbers: one for its slot.
pub fn key(chapter: &str, tag: u64, number: u64) -> String {
    format!("{{{}}}{chapter}-{}", tag % TAGS, number % KEYS)
}

fn sorted(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The words of a script's line, if it is a call, and a cheap one.
fn call_in(line: &str) -> Option<Vec<Bytes>> {
    let words = split(line.strip_prefix("> ")?)?;
    let costly = |word: &Bytes| {
        let number = std::str::from_utf8(word).ok().and_then(|word| word.parse::<i128>().ok());
        number.is_some_and(|number| COSTLY.contains(&number))
    };
    (!words.iter().any(costly)).then_some(words)
}

/// Splits as redis-cli does, as far as the scripts go: by spaces, or within `"…"` with its escapes, or within `'…'`.
fn split(line: &str) -> Option<Vec<Bytes>> {
    let mut rest = line.trim().as_bytes();
    let mut words = Vec::new();
    while let Some(first) = rest.first() {
        let mut word = Vec::new();
        if let quote @ (b'"' | b'\'') = first {
            rest = &rest[1..];
            loop {
                let (byte, used) = match rest {
                    [b'\\', b'x', high, low, ..] if *quote == b'"' => {
                        (u8::from_str_radix(std::str::from_utf8(&[*high, *low]).ok()?, 16).ok()?, 4)
                    }
                    [b'\\', b'n', ..] if *quote == b'"' => (b'\n', 2),
                    [b'\\', b'r', ..] if *quote == b'"' => (b'\r', 2),
                    [b'\\', b't', ..] if *quote == b'"' => (b'\t', 2),
                    [b'\\', other, ..] => (*other, 2),
                    [byte, ..] if byte == quote => break,
                    [byte, ..] => (*byte, 1),
                    [] => return None,
                };
                word.push(byte);
                rest = &rest[used..];
            }
            rest = &rest[1..];
        } else {
            let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
            word.extend_from_slice(&rest[..end]);
            rest = &rest[end..];
        }
        words.push(word.into());
        rest = rest.trim_ascii_start();
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quoris_engine::hash_slot::slot_of;

    use super::*;
    use crate::env::SeededRng;

    #[test]
    fn every_row_with_keys_is_called() {
        let table = Table::load().expect("the scripts");
        let called: BTreeSet<&str> = table.names().collect();
        let has_keys = |row: &&&Command| row.keys.any() && is_of_data(row);
        let rows: Vec<&Command> = command::table().collect();
        let missing: Vec<&str> =
            rows.iter().filter(has_keys).map(|row| row.name).filter(|name| !called.contains(name)).collect();
        assert!(missing.is_empty(), "no golden script calls {missing:?}");
    }

    #[test]
    fn calls_have_keys_of_ours_in_one_slot() {
        let table = Table::load().expect("the scripts");
        let rng = SeededRng::new(1);
        for _ in 0..1000 {
            let words = table.call(&rng);
            let row = command::resolve(&words).expect("a known command").command;
            let keys: Vec<&Bytes> = row.keys.of(&words).collect();
            assert!(keys.iter().all(|key| key.starts_with(b"{")), "{words:?}");
            assert!(keys.iter().all(|key| slot_of(key) == slot_of(keys[0])), "{words:?}");
        }
    }
}
