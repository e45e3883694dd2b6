//! A key with a deadline is there until then, gone after it, and gone for good, whatever the nodes' clocks do.
//!
//! What is promised, and why. A key is absent to whoever looks at a machine whose clock is past the deadline, and to nobody
//! else. That clock is moved by entries alone, to the time that the leader's clock showed when it made the entry, and never
//! back. So it goes on in the order of the log, and one log holds all keys here:
//!
//! 1. *The log's clock never goes back*: not from one write to another that began after the first was answered, whoever led.
//! 2. *No entry is older than its making*: a write that a node has answered is at a time that this node's clock showed
//!    while it was under way, or at a later one, which some clock had shown before.
//! 3. *There, not past its deadline*: neither by a write that was answered before, nor by the clock of the node that answers.
//!    A leader that finds a key due by its own clock alone moves the log's before it answers a read.
//! 4. *Gone, not before its deadline*: the log's clock had passed it. So some node's clock had shown a later time once, and so
//!    has every write since.
//! 5. *Gone for good*, even if the next leader's clock is behind. Its deadline is the same whoever tells it.
//! 6. *The lock has one holder*: who takes it takes it at a time past the deadline of who took it before.
//!
//! More cannot be said: while the clock of a log is ahead of its leader's, because an earlier leader's was, what is to be there
//! for a second is there for longer by any clock on a wall.

use super::Verdict;
use crate::clocks::Clocks;
use crate::deadlines::{Attempt, Deadlines, Key, Life, Span};
use crate::queues::Fate;

/// Judges every key, and the lock.
pub fn check(deadlines: &Deadlines, clocks: &Clocks) -> Vec<String> {
    let log = Log { stamps: stamps(deadlines), clocks };
    let told = |what: &str, verdict: Verdict| verdict.err().map(|wrong| format!("{what}: {wrong}"));
    let mut wrongs: Vec<String> = log.goes_on().err().into_iter().collect();
    for (name, key) in &deadlines.keys {
        wrongs.extend(told(name, log.judge(key)));
    }
    wrongs.extend(told("the lock", log.judge_lock(&deadlines.lock)));
    wrongs
}

/// How many entries a leader made whose clock was behind that of its log.
pub fn behind(deadlines: &Deadlines, clocks: &Clocks) -> u64 {
    let is_behind = |(span, at_ms): &&(Span, u64)| at_ms > shown(clocks, span).end();
    stamps(deadlines).iter().filter(is_behind).count() as u64
}

/// What the log's clock showed at each write of which that is known: those that were answered, and whose deadline was asked
/// for as a time from then.
fn stamps(deadlines: &Deadlines) -> Vec<(Span, u64)> {
    let of_key = |key: &Key| match (key.life, &key.fate, deadline(key)) {
        (Life::For(ms), Fate::Answered(_), Some(at_ms)) => Some((key.write, at_ms.saturating_sub(ms))),
        _ => None,
    };
    let of_lock = |(span, attempt): &(Span, Attempt)| match attempt {
        Attempt::Taken { for_ms, until_ms } => Some((*span, until_ms.saturating_sub(*for_ms))),
        Attempt::Held(_) => None,
    };
    deadlines.keys.values().filter_map(of_key).chain(deadlines.lock.iter().filter_map(of_lock)).collect()
}

/// A key's deadline, if any answer told it, or it was asked for.
fn deadline(key: &Key) -> Option<u64> {
    let asked = || match key.life {
        Life::Until(at_ms) => Some(at_ms),
        Life::For(_) => None,
    };
    let written = || match key.fate {
        Fate::Answered(at_ms) => at_ms,
        _ => None,
    };
    asked().or_else(written).or_else(|| key.looks.iter().find_map(|(_, seen)| *seen))
}

fn shown(clocks: &Clocks, span: &Span) -> std::ops::RangeInclusive<u64> {
    clocks.between(span.node, span.began_ms, span.ended_ms)
}

struct Log<'a> {
    stamps: Vec<(Span, u64)>,
    clocks: &'a Clocks,
}

impl Log<'_> {
    /// What its clock had reached before a moment, as some answer shows.
    fn reached(&self, moment_ms: u64) -> u64 {
        let before = self.stamps.iter().filter(|(span, _)| span.ended_ms < moment_ms);
        before.map(|(_, at_ms)| *at_ms).max().unwrap_or(0)
    }

    /// What its clock had not passed yet at a moment, as some later answer shows.
    fn not_passed(&self, moment_ms: u64) -> u64 {
        let after = self.stamps.iter().filter(|(span, _)| span.began_ms > moment_ms);
        after.map(|(_, at_ms)| *at_ms).min().unwrap_or(u64::MAX)
    }

    fn goes_on(&self) -> Verdict {
        for (span, at_ms) in &self.stamps {
            let reached = self.reached(span.began_ms);
            if *at_ms < reached {
                return Err(format!("the log's clock went back from {reached} to {at_ms}: {span:?}"));
            }
            let least = *shown(self.clocks, span).start();
            if *at_ms < least {
                return Err(format!(
                    "the log's clock was at {at_ms}, that of its leader at {least} before: {span:?}"
                ));
            }
            let most = self.clocks.latest(span.ended_ms);
            if *at_ms > most {
                return Err(format!(
                    "the log's clock was at {at_ms}, no node's ever later than {most}: {span:?}"
                ));
            }
        }
        Ok(())
    }

    /// Something was there whose deadline is `at_ms`.
    fn there(&self, span: &Span, at_ms: u64) -> Verdict {
        let least = *shown(self.clocks, span).start();
        if at_ms < least {
            return Err(format!(
                "it was there until {at_ms}, and shown by a node whose clock was at {least}: {span:?}"
            ));
        }
        let reached = self.reached(span.began_ms);
        if at_ms < reached {
            return Err(format!(
                "it was there until {at_ms}, and seen when the log's clock was at {reached}: {span:?}"
            ));
        }
        Ok(())
    }

    /// Something was gone whose deadline is `at_ms`, or later.
    fn gone(&self, span: &Span, at_ms: u64) -> Verdict {
        let most = self.clocks.latest(span.ended_ms).min(self.not_passed(span.ended_ms));
        // PEXPIREAT removes at once what is due at that very moment.
        match at_ms <= most {
            true => Ok(()),
            false => Err(format!("it was to be there until {at_ms}, and was gone before {most}: {span:?}")),
        }
    }

    fn judge(&self, key: &Key) -> Verdict {
        let deadline = deadline(key);
        for (span, seen) in &key.looks {
            match seen {
                Some(_) if key.fate == Fate::Refused => {
                    return Err(format!("its write was certainly not applied, and it is there: {span:?}"));
                }
                Some(_) if *seen != deadline => {
                    return Err(format!("its deadline was {deadline:?}, and is {seen:?}: {span:?}"));
                }
                Some(at_ms) => self.there(span, *at_ms)?,
                None if self.was_there(key, span) => {
                    self.gone(span, deadline.unwrap_or(self.earliest(key)))?
                }
                None => {}
            }
        }
        self.stays_gone(key)
    }

    /// Whether the key had been there before a look began, as some answer shows.
    fn was_there(&self, key: &Key, look: &Span) -> bool {
        let written = matches!(key.fate, Fate::Answered(_)) && key.write.ended_ms < look.began_ms;
        let seen = |(span, seen): &(Span, Option<u64>)| seen.is_some() && span.ended_ms < look.began_ms;
        written || key.looks.iter().any(seen)
    }

    /// The least that the deadline of a key can be that was written.
    fn earliest(&self, key: &Key) -> u64 {
        match key.life {
            Life::Until(at_ms) => at_ms,
            Life::For(ms) => ms + shown(self.clocks, &key.write).start(),
        }
    }

    fn stays_gone(&self, key: &Key) -> Verdict {
        let gone = key.looks.iter().filter(|(span, seen)| seen.is_none() && self.was_there(key, span));
        let Some(since_ms) = gone.map(|(span, _)| span.ended_ms).min() else { return Ok(()) };
        match key.looks.iter().find(|(span, seen)| seen.is_some() && span.began_ms > since_ms) {
            None => Ok(()),
            Some((span, _)) => Err(format!("it was gone at {since_ms}, and came back: {span:?}")),
        }
    }

    fn judge_lock(&self, attempts: &[(Span, Attempt)]) -> Verdict {
        let mut held: Vec<(u64, u64)> = Vec::new();
        for (span, attempt) in attempts {
            match attempt {
                Attempt::Held(until_ms) => self.there(span, *until_ms)?,
                Attempt::Taken { for_ms, until_ms } => {
                    held.push((until_ms.saturating_sub(*for_ms), *until_ms))
                }
            }
        }
        held.sort_unstable();
        match held.windows(2).find(|pair| pair[1].0 <= pair[0].1) {
            None => Ok(()),
            Some(pair) => {
                Err(format!("it was held from {} to {}, and taken at {}", pair[0].0, pair[0].1, pair[1].0))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::BEGIN_MS;

    /// Two nodes; the clock of the first jumps ahead by 5 s after 1 s, and back after 2 s.
    fn clocks() -> Clocks {
        let mut clocks = Clocks::default();
        (1..=2).for_each(|node| clocks.set(node, 0, 0));
        clocks.set(1, 1000, 5000);
        clocks.set(1, 2000, 0);
        clocks
    }

    fn span(node: u64, began_ms: u64) -> Span {
        Span { node, began_ms, ended_ms: began_ms + 10 }
    }

    /// A key that node 2 wrote at 100 ms, for 300 ms or until then, and the looks at it: the node, when, and the deadline.
    fn key(fate: Fate<Option<u64>>, life: Life, looks: &[(u64, u64, Option<u64>)]) -> Key {
        let look = |(node, began_ms, seen): &(u64, u64, Option<u64>)| {
            (span(*node, *began_ms), seen.map(|at_ms| BEGIN_MS + at_ms))
        };
        Key { life, write: span(2, 100), fate, looks: looks.iter().map(look).collect() }
    }

    fn wrongs(key: Key, stamps: &[(u64, u64, u64)]) -> Vec<String> {
        let mut deadlines = Deadlines::default();
        deadlines.keys.insert("key".into(), key);
        deadlines.lock =
            stamps.iter().map(|(node, began_ms, at_ms)| taken(*node, *began_ms, *at_ms, 0)).collect();
        check(&deadlines, &clocks())
    }

    fn taken(node: u64, began_ms: u64, at_ms: u64, for_ms: u64) -> (Span, Attempt) {
        (span(node, began_ms), Attempt::Taken { for_ms, until_ms: BEGIN_MS + at_ms + for_ms })
    }

    fn is_wrong(
        fate: Fate<Option<u64>>,
        looks: &[(u64, u64, Option<u64>)],
        stamps: &[(u64, u64, u64)],
    ) -> bool {
        !wrongs(key(fate, Life::For(300), looks), stamps).is_empty()
    }

    const WRITTEN: Fate<Option<u64>> = Fate::Answered(Some(BEGIN_MS + 405));
    const THERE: Option<u64> = Some(405);

    #[test]
    fn a_key_is_there_until_its_deadline() {
        assert!(!is_wrong(WRITTEN, &[(2, 200, THERE), (2, 395, THERE), (2, 420, None)], &[]));
        assert!(is_wrong(WRITTEN, &[(2, 200, None)], &[]), "gone too early");
        assert!(is_wrong(WRITTEN, &[(2, 420, THERE)], &[]), "there too late");
        assert!(is_wrong(WRITTEN, &[(2, 200, Some(406))], &[]), "another deadline");
        assert!(is_wrong(WRITTEN, &[(2, 420, None), (2, 440, THERE)], &[]), "it came back");
        assert!(is_wrong(Fate::Answered(None), &[(2, 200, None)], &[]), "gone, whatever its deadline");
        assert!(!is_wrong(Fate::Answered(None), &[(2, 420, None)], &[]));
        let until = |looks| wrongs(key(Fate::Answered(None), Life::Until(BEGIN_MS + 350), looks), &[]).len();
        assert_eq!(until(&[(2, 300, Some(350)), (2, 360, None)]), 0);
        assert_eq!(until(&[(2, 300, None)]), 1, "gone before the moment that was asked for");
    }

    #[test]
    fn what_clocks_explain_is_right() {
        // Node 1 is ahead from 1000 to 2000.
        let until = |at_ms, looks: &[(u64, u64, Option<u64>)], stamps: &[(u64, u64, u64)]| {
            wrongs(key(Fate::Answered(None), Life::Until(BEGIN_MS + at_ms), looks), stamps).is_empty()
        };
        assert!(until(4000, &[(2, 900, Some(4000)), (1, 1100, None), (2, 2100, None)], &[]));
        assert!(!until(4000, &[(2, 900, None)], &[]), "before any clock was ahead");
        assert!(!until(4000, &[(1, 1100, Some(4000))], &[]), "there, and shown by a node that knows better");
        assert!(until(4000, &[(2, 1100, Some(4000))], &[]), "by one that does not");
        assert!(!until(4000, &[(2, 1200, Some(4000))], &[(1, 1100, 6105)]), "the log knew");
        assert!(!until(4000, &[(2, 1200, None)], &[(2, 1300, 1305)]), "the log did not know yet");
    }

    #[test]
    fn the_logs_clock_goes_on_and_is_somebodys() {
        let stamps = |stamps: &[(u64, u64, u64)]| is_wrong(WRITTEN, &[], stamps);
        assert!(!stamps(&[(2, 500, 505), (1, 1100, 6105), (2, 1200, 6106)]));
        assert!(stamps(&[(1, 1100, 6105), (2, 1200, 1205)]), "it goes back");
        assert!(stamps(&[(2, 500, 490)]), "older than its making");
        assert!(stamps(&[(2, 500, 520)]), "nobody's yet");
        assert!(stamps(&[(2, 900, 6105)]), "nobody's yet");
    }

    #[test]
    fn what_was_not_written_is_not_there() {
        assert!(!is_wrong(Fate::Refused, &[(2, 200, None)], &[]));
        assert!(is_wrong(Fate::Refused, &[(2, 200, THERE)], &[]));
        let unknown = |looks| is_wrong(Fate::Unknown, looks, &[]);
        assert!(!unknown(&[(2, 200, None), (2, 300, THERE), (2, 420, None)]), "late");
        assert!(unknown(&[(2, 200, THERE), (2, 420, None), (2, 440, THERE)]), "twice");
    }

    #[test]
    fn the_lock_has_one_holder() {
        let lock = |attempts: &[(Span, Attempt)]| {
            let lock = attempts.to_vec();
            check(&Deadlines { lock, ..Deadlines::default() }, &clocks()).is_empty()
        };
        let first = taken(2, 100, 105, 50);
        assert!(lock(&[first, (span(2, 140), Attempt::Held(BEGIN_MS + 155)), taken(2, 150, 156, 50)]));
        assert!(!lock(&[first, taken(2, 150, 155, 50)]), "two at a time");
        assert!(!lock(&[first, (span(2, 160), Attempt::Held(BEGIN_MS + 155))]), "held for nobody");
    }
}
