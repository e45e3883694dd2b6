//! LCS: the longest common subsequence of two strings.

use crate::args::Args;
use crate::command::{Chapter, Command, Keys, Outcome, ReadContext};
use crate::error::CommandError;
use crate::keyspace::Keyspace;
use crate::reply::Reply;
use crate::value::StringValue;
use crate::value::string::MAX_STRING_BYTES;

/// The rows.
pub const COMMANDS: &[Command] = &[Command::read("lcs", -3, Keys::TWO, lcs).doc(
    Chapter::String,
    "7.0.0",
    "O(N*M) where N and M are the lengths of s1 and s2, respectively",
    "Finds the longest common substring.",
)];

/// The table's size in bytes may not exceed a string's.
const MAX_TABLE_BYTES: usize = MAX_STRING_BYTES;

fn lcs(context: &mut ReadContext, args: Args) -> Outcome {
    let a = string(context.keys, args.bytes(1))?;
    let b = string(context.keys, args.bytes(2))?;
    let options = Options::parse(args)?;
    if options.indexes && options.length {
        return Err(CommandError::Text("ERR If you want both the length and indexes, please just use IDX."));
    }
    let table = Table::new(a, b)?;
    if options.length {
        return Ok(Reply::count(table.length()));
    }
    let runs = table.runs();
    if options.indexes {
        return Ok(indexes(&runs, table.length(), &options));
    }
    // The runs are met from the end to the start.
    let common: Vec<u8> = runs.iter().rev().flat_map(|run| &a[run.a..run.a + run.len]).copied().collect();
    Ok(Reply::bulk(common))
}

/// The string at `key`, empty if there is none.
fn string<'a>(keys: &'a Keyspace, key: &[u8]) -> Result<&'a [u8], CommandError> {
    match keys.string(key) {
        Ok(string) => Ok(string.map_or(&[][..], StringValue::as_bytes)),
        Err(_) => Err(CommandError::Text("ERR The specified keys must contain string values")),
    }
}

#[derive(Default)]
struct Options {
    indexes: bool,
    length: bool,
    with_match_len: bool,
    min_match_len: i64,
}

impl Options {
    fn parse(args: Args) -> Result<Options, CommandError> {
        let mut options = Options::default();
        let mut i = 3;
        while i < args.len() {
            if args.is(i, "IDX") {
                options.indexes = true;
            } else if args.is(i, "LEN") {
                options.length = true;
            } else if args.is(i, "WITHMATCHLEN") {
                options.with_match_len = true;
            } else if args.is(i, "MINMATCHLEN") && i + 1 < args.len() {
                i += 1;
                options.min_match_len = args.int(i)?;
            } else {
                return Err(CommandError::Syntax);
            }
            i += 1;
        }
        Ok(options)
    }
}

fn indexes(runs: &[Run], length: usize, options: &Options) -> Reply {
    let span =
        |start: usize, len: usize| Reply::Array(vec![Reply::count(start), Reply::count(start + len - 1)]);
    let show = |run: &Run| {
        let mut parts = vec![span(run.a, run.len), span(run.b, run.len)];
        if options.with_match_len {
            parts.push(Reply::count(run.len));
        }
        Reply::Array(parts)
    };
    let matches = runs.iter().filter(|run| run.len as i64 >= options.min_match_len).map(show).collect();
    Reply::Map(vec![
        (Reply::bulk("matches"), Reply::Array(matches)),
        (Reply::bulk("len"), Reply::count(length)),
    ])
}

/// A part that both strings have: `len` bytes from `a` in the one and from `b` in the other.
#[derive(Debug, PartialEq)]
struct Run {
    a: usize,
    b: usize,
    len: usize,
}

/// For every pair of prefixes, the length of their longest common subsequence.
struct Table<'a> {
    a: &'a [u8],
    b: &'a [u8],
    cells: Vec<u32>,
}

impl<'a> Table<'a> {
    fn new(a: &'a [u8], b: &'a [u8]) -> Result<Table<'a>, CommandError> {
        let width = b.len() + 1;
        // Strings are far too short for the product to overflow.
        let count = (a.len() + 1) * width;
        if count * size_of::<u32>() > MAX_TABLE_BYTES {
            return Err(CommandError::Text(
                "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
            ));
        }
        let mut cells = vec![0u32; count];
        for (i, x) in a.iter().enumerate() {
            let (above, row) = cells[i * width..][..2 * width].split_at_mut(width);
            for (j, y) in b.iter().enumerate() {
                row[j + 1] = if x == y { above[j] + 1 } else { above[j + 1].max(row[j]) };
            }
        }
        Ok(Table { a, b, cells })
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.cells[i * (self.b.len() + 1) + j]
    }

    fn length(&self) -> usize {
        self.at(self.a.len(), self.b.len()) as usize
    }

    /// The subsequence's runs, from the last to the first. Where there are several ways, Redis's.
    fn runs(&self) -> Vec<Run> {
        let (mut i, mut j) = (self.a.len(), self.b.len());
        let mut runs: Vec<Run> = Vec::new();
        while i > 0 && j > 0 {
            if self.a[i - 1] != self.b[j - 1] {
                if self.at(i - 1, j) > self.at(i, j - 1) {
                    i -= 1;
                } else {
                    j -= 1;
                }
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.a == i && run.b == j => *run = Run { a: i - 1, b: j - 1, len: run.len + 1 },
                _ => runs.push(Run { a: i - 1, b: j - 1, len: 1 }),
            }
            (i, j) = (i - 1, j - 1);
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The length, by the definition's recursion over the first bytes.
    fn longest(a: &[u8], b: &[u8]) -> usize {
        match (a, b) {
            ([x, rest_a @ ..], [y, rest_b @ ..]) if x == y => 1 + longest(rest_a, rest_b),
            ([_, rest_a @ ..], [_, rest_b @ ..]) => longest(rest_a, b).max(longest(a, rest_b)),
            _ => 0,
        }
    }

    proptest! {
        #[test]
        fn runs_are_a_longest_common_subsequence(a in "[abc]{0,9}", b in "[abc]{0,9}") {
            let (a, b) = (a.as_bytes(), b.as_bytes());
            let table = Table::new(a, b).expect("small strings");
            prop_assert_eq!(table.length(), longest(a, b));
            let runs = table.runs();
            prop_assert_eq!(runs.iter().map(|run| run.len).sum::<usize>(), table.length());
            for run in &runs {
                prop_assert_eq!(&a[run.a..run.a + run.len], &b[run.b..run.b + run.len]);
            }
            for pair in runs.windows(2) {
                let (later, earlier) = (&pair[0], &pair[1]);
                prop_assert!(earlier.a + earlier.len <= later.a && earlier.b + earlier.len <= later.b);
            }
        }
    }
}
