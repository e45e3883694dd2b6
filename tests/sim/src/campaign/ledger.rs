//! What a campaign has done so far, in a file: it can be broken off at any moment, say how far it is, and go on.
//!
//! A line for each batch that is done: its seeds, how many were run, how many of them failed, in how many the power failed
//! within an operation, what they reached. Lines that begin with `#` hold what was said of those that failed.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;

use super::Tally;

/// The file, and what was in it.
pub struct Ledger {
    file: File,
    earlier: Vec<(Range<u64>, Tally)>,
}

impl Ledger {
    /// Reads what there is; the file is made if it is not there.
    pub fn open(path: &Path) -> io::Result<Ledger> {
        let mut file = File::options().create(true).read(true).append(true).open(path)?;
        let text = io::read_to_string(&mut file)?;
        // A line that a broken-off campaign has left unfinished has no end.
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let earlier = whole.filter_map(|line| parse(line.trim_end())).collect();
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n")?;
        }
        Ok(Ledger { file, earlier })
    }

    /// What came of the batch of `seeds`, if it was done before.
    pub fn of(&self, seeds: &Range<u64>) -> Option<&Tally> {
        self.earlier.iter().find(|(done, _)| done == seeds).map(|(_, tally)| tally)
    }

    /// Notes a batch that is done.
    pub fn note(&self, seeds: &Range<u64>, tally: &Tally, failures: &str) -> io::Result<()> {
        let failures: String = failures.lines().map(|line| format!("# {line}\n")).collect();
        let Range { start, end } = seeds;
        let Tally { run, failed, crashed, coverage, .. } = tally;
        let reached = coverage.line();
        let line =
            format!("{failures}{start}..{end} run={run} failed={failed} crashed={crashed} {reached}\n");
        (&self.file).write_all(line.as_bytes())
    }
}

fn parse(line: &str) -> Option<(Range<u64>, Tally)> {
    let mut words = line.split(' ');
    let (start, end) = words.next()?.split_once("..")?;
    let run = words.next()?.strip_prefix("run=")?.parse().ok()?;
    let failed = words.next()?.strip_prefix("failed=")?.parse().ok()?;
    let crashed = words.next()?.strip_prefix("crashed=")?.parse().ok()?;
    let mut tally = Tally { run, failed, crashed, ..Tally::default() };
    tally.coverage.add_line(line);
    Some((start.parse().ok()?..end.parse().ok()?, tally))
}
