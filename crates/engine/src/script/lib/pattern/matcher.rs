//! Matching, step by step, each of which is counted: how long a match takes is part of what a script may use.

use std::ops::Range;

use super::compiled::{Item, Repeat, Single};
use crate::script::Stop;

/// The most captures of a pattern, as in Lua.
const MOST_CAPTURES: usize = 32;

/// How deep repetitions and captures may be nested. (Lua 5.1 has no bound, and would run out of the processor's stack.)
const MOST_NESTED: usize = 1000;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The pattern is wrong.
    Wrong(&'static str),
    /// There are no steps left.
    Spent,
}

/// Steps that may be made.
pub struct Steps {
    left: u64,
    stop: Option<Stop>,
}

impl Steps {
    /// So many, unless it is stopped.
    pub fn new(left: u64, stop: Option<Stop>) -> Steps {
        Steps { left, stop }
    }

    /// How many are left.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Makes `count` steps.
    pub fn take(&mut self, count: usize) -> Result<(), Failure> {
        /// How many steps it may go on when it has been stopped.
        const PER_LOOK: u64 = 1 << 16;
        let left = self.left.checked_sub(count as u64).ok_or(Failure::Spent)?;
        let looks = left / PER_LOOK != self.left / PER_LOOK;
        self.left = left;
        let stopped = looks && self.stop.as_ref().is_some_and(|stop| stop.why().is_some());
        if stopped { Err(Failure::Spent) } else { Ok(()) }
    }
}

/// What a pair of parentheses has captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capture {
    /// It is not closed.
    Open(usize),
    /// A place.
    Position(usize),
    /// From here to there.
    Text(usize, usize),
}

/// A match of a pattern in a text.
pub struct Matcher<'a> {
    text: &'a [u8],
    items: &'a [Item],
    captures: Vec<Capture>,
    nested: usize,
    steps: &'a mut Steps,
}

type Matched = Result<Option<usize>, Failure>;

impl<'a> Matcher<'a> {
    /// For matches of `items` in `text`.
    pub fn new(text: &'a [u8], items: &'a [Item], steps: &'a mut Steps) -> Matcher<'a> {
        Matcher { text, items, captures: Vec::new(), nested: 0, steps }
    }

    /// The first match that begins in `starts`.
    pub fn first(&mut self, starts: Range<usize>) -> Result<Option<Range<usize>>, Failure> {
        for start in starts {
            self.captures.clear();
            if let Some(end) = self.matches(start, 0)? {
                return Ok(Some(start..end));
            }
        }
        Ok(None)
    }

    /// Whether the last match has captured anything.
    pub fn captures_something(&self) -> bool {
        !self.captures.is_empty()
    }

    /// What the last match has captured, or the whole of it if the pattern captures nothing.
    pub fn captured(&self, whole: &Range<usize>) -> Result<Vec<Capture>, Failure> {
        (0..self.captures.len().max(1)).map(|which| self.one(which, whole)).collect()
    }

    /// One of those, counted from 0.
    pub fn one(&self, which: usize, whole: &Range<usize>) -> Result<Capture, Failure> {
        match self.captures.get(which) {
            Some(Capture::Open(_)) => Err(Failure::Wrong("unfinished capture")),
            Some(capture) => Ok(*capture),
            None if which == 0 => Ok(Capture::Text(whole.start, whole.end)),
            None => Err(Failure::Wrong("invalid capture index")),
        }
    }

    /// Where the match ends of what begins at `at`, from the item `next` on.
    fn matches(&mut self, at: usize, next: usize) -> Matched {
        self.nested += 1;
        if self.nested > MOST_NESTED {
            return Err(Failure::Wrong("pattern too complex"));
        }
        let end = self.go_on(at, next);
        self.nested -= 1;
        end
    }

    fn go_on(&mut self, mut at: usize, mut next: usize) -> Matched {
        loop {
            self.steps.take(1)?;
            let Some(item) = self.items.get(next) else { return Ok(Some(at)) };
            next += 1;
            let after = match *item {
                Item::Wrong(wrong) => return Err(Failure::Wrong(wrong)),
                Item::Open => return self.open(Capture::Open(at), at, next),
                Item::Position => return self.open(Capture::Position(at), at, next),
                Item::Close => return self.close(at, next),
                Item::Bytes(single, Repeat::Once) => self.byte(single, at).then_some(at + 1),
                Item::Bytes(single, Repeat::Maybe) => {
                    if self.byte(single, at)
                        && let Some(end) = self.matches(at + 1, next)?
                    {
                        return Ok(Some(end));
                    }
                    Some(at)
                }
                Item::Bytes(single, Repeat::Most) => return self.most(single, at, at, next),
                Item::Bytes(single, Repeat::MostOfOne) => {
                    return if self.byte(single, at) {
                        self.most(single, at + 1, at + 1, next)
                    } else {
                        Ok(None)
                    };
                }
                Item::Bytes(single, Repeat::Least) => return self.least(single, at, next),
                Item::Balanced(open, close) => self.balanced(at, open, close)?,
                Item::Frontier(set) => {
                    let before = at.checked_sub(1).map_or(0, |before| self.text[before]);
                    let here = self.text.get(at).copied().unwrap_or(0);
                    (!set.has(before) && set.has(here)).then_some(at)
                }
                Item::Captured(digit) => self.captured_again(at, digit)?,
                Item::End => (at == self.text.len()).then_some(at),
            };
            match after {
                Some(after) => at = after,
                None => return Ok(None),
            }
        }
    }

    fn byte(&self, single: Single, at: usize) -> bool {
        self.text.get(at).is_some_and(|byte| single.has(*byte))
    }

    /// As many as there are, then less, down to `least`.
    fn most(&mut self, single: Single, least: usize, from: usize, next: usize) -> Matched {
        let mut at = from + self.text[from..].iter().take_while(|byte| single.has(**byte)).count();
        self.steps.take(at - from)?;
        loop {
            if let Some(end) = self.matches(at, next)? {
                return Ok(Some(end));
            }
            if at == least {
                return Ok(None);
            }
            at -= 1;
        }
    }

    /// None, then more, as long as it does not match.
    fn least(&mut self, single: Single, mut at: usize, next: usize) -> Matched {
        loop {
            if let Some(end) = self.matches(at, next)? {
                return Ok(Some(end));
            }
            if !self.byte(single, at) {
                return Ok(None);
            }
            at += 1;
        }
    }

    fn open(&mut self, capture: Capture, at: usize, next: usize) -> Matched {
        if self.captures.len() >= MOST_CAPTURES {
            return Err(Failure::Wrong("too many captures"));
        }
        self.captures.push(capture);
        let end = self.matches(at, next)?;
        if end.is_none() {
            self.captures.pop();
        }
        Ok(end)
    }

    fn close(&mut self, at: usize, next: usize) -> Matched {
        let last_open = |capture: &Capture| matches!(capture, Capture::Open(_));
        let Some(which) = self.captures.iter().rposition(last_open) else {
            return Err(Failure::Wrong("invalid pattern capture"));
        };
        let before = self.captures[which];
        if let Capture::Open(start) = before {
            self.captures[which] = Capture::Text(start, at);
        }
        let end = self.matches(at, next)?;
        if end.is_none() {
            self.captures[which] = before;
        }
        Ok(end)
    }

    /// Past the byte that closes the one at `at`.
    fn balanced(&mut self, at: usize, open: u8, close: u8) -> Matched {
        if self.text.get(at) != Some(&open) {
            return Ok(None);
        }
        let mut depth = 1;
        for (i, byte) in self.text.iter().enumerate().skip(at + 1) {
            if *byte == close {
                depth -= 1;
                if depth == 0 {
                    self.steps.take(i - at)?;
                    return Ok(Some(i + 1));
                }
            } else if *byte == open {
                depth += 1;
            }
        }
        self.steps.take(self.text.len() - at)?;
        Ok(None)
    }

    /// Past what has been captured before, if it is here again.
    fn captured_again(&mut self, at: usize, digit: u8) -> Matched {
        let which = usize::from(digit).checked_sub(usize::from(b'1'));
        match which.and_then(|which| self.captures.get(which)) {
            Some(Capture::Text(start, end)) => {
                self.steps.take((end - start) / 16)?;
                let again = self.text[at..].starts_with(&self.text[*start..*end]);
                Ok(again.then_some(at + (end - start)))
            }
            // Of a position, Lua takes a length that no text has.
            Some(Capture::Position(_)) => Ok(None),
            Some(Capture::Open(_)) | None => Err(Failure::Wrong("invalid capture index")),
        }
    }
}
