//! A big sorted set: one tree in the order of (score, member), and one to look members up in.

use std::cmp::Ordering;
use std::ops::Range;

use super::{Element, is_ascending};
use crate::value::by_name::{ByName, Name};
use crate::value::tree::{Iter, Tree};

#[derive(Clone, Debug)]
pub(super) struct Big {
    by_score: Tree<Key, ()>,
    scores: ByName<f64>,
    /// The sum of the members' lengths.
    member_bytes: usize,
    /// What changes have replaced, the latest last, while that is noted: a member, and its score if it was there.
    changes: Option<Vec<(Name, Option<f64>)>>,
}

#[derive(Clone, Debug)]
pub struct Key {
    score: f64,
    member: Name,
}

impl Key {
    fn element(&self) -> Element<'_> {
        Element { member: &self.member, score: self.score }
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        self.element().order(&other.element())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key {}

pub type Elements<'a> = Iter<'a, Key, ()>;

pub(super) fn shown<'a>((key, ()): (&'a Key, &'a ())) -> Element<'a> {
    key.element()
}

impl Big {
    /// `None` unless the elements ascend and their members differ.
    pub(super) fn of_sorted(elements: &[Element]) -> Option<Big> {
        if !is_ascending(elements) {
            return None;
        }
        let key = |element: &Element| Key { score: element.score, member: Name::from(element.member) };
        let keys: Vec<Key> = elements.iter().map(key).collect();
        let scores = ByName::from_unsorted(keys.iter().map(|key| (key.member.clone(), key.score)))?;
        let by_score = Tree::from_sorted(keys.into_iter().map(|key| (key, ())))?;
        let member_bytes = elements.iter().map(|element| element.member.len()).sum();
        Some(Big { by_score, scores, member_bytes, changes: None })
    }

    pub(super) fn len(&self) -> usize {
        self.by_score.len()
    }

    pub(super) fn bytes(&self) -> usize {
        /// A place in each of two trees (nodes are two thirds full or better), and the member's allocation.
        const MEMBER_BYTES: usize = 24 * 3 / 2 + 32 * 3 / 2 + 32;
        self.member_bytes + MEMBER_BYTES * self.len()
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        self.scores.get(member).map(|(_, score)| *score)
    }

    pub(super) fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        let score = self.score(member)?;
        let sought = Element { member, score };
        let rank = self.by_score.rank_by(|key| key.element().order(&sought));
        Some((rank.expect("both trees hold every member"), score))
    }

    pub(super) fn at(&self, position: usize) -> Option<Element<'_>> {
        self.by_score.at(position).map(shown)
    }

    pub(super) fn range(&self, positions: Range<usize>) -> Elements<'_> {
        self.by_score.range(positions)
    }

    pub(super) fn count_while(&self, before: impl Fn(Element) -> bool) -> usize {
        let order = |key: &Key| if before(key.element()) { Ordering::Less } else { Ordering::Greater };
        self.by_score.rank_by(order).unwrap_or_else(|position| position)
    }

    pub(super) fn scan(&self, cursor: u64, count: usize) -> (u64, Vec<Element<'_>>) {
        let (next, elements) = self.scores.scan(cursor, count);
        (next, elements.map(|(member, score)| Element { member, score: *score }).collect())
    }

    /// Puts `element` in place of whatever score its member has.
    pub(super) fn put(&mut self, element: Element) {
        let known = self.scores.get(element.member).map(|(name, score)| (name.clone(), *score));
        let before = known.as_ref().map(|(_, score)| *score);
        let member = match known {
            Some((name, before)) => {
                self.remove_key(Element { member: element.member, score: before });
                *self.scores.get_mut(element.member).expect("was found above") = element.score;
                name
            }
            None => {
                let name = Name::from(element.member);
                self.scores.insert(name.clone(), element.score);
                self.member_bytes += name.len();
                name
            }
        };
        self.note(&member, before);
        self.by_score.insert(Key { score: element.score, member }, ());
    }

    pub(super) fn note_changes(&mut self) {
        self.changes = Some(Vec::new());
    }

    pub(super) fn forget_changes(&mut self) {
        self.changes = None;
    }

    pub(super) fn changes(&self) -> Option<usize> {
        self.changes.as_ref().map(Vec::len)
    }

    pub(super) fn take_back_changes(&mut self) {
        for (member, before) in self.changes.take().into_iter().flatten().rev() {
            match before {
                Some(score) => self.put(Element { member: &member, score }),
                None => drop(self.remove(&member)),
            }
        }
    }

    fn note(&mut self, member: &Name, before: Option<f64>) {
        if let Some(changes) = &mut self.changes {
            changes.push((member.clone(), before));
        }
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let (name, score) = self.scores.remove(member)?;
        self.note(&name, Some(score));
        self.member_bytes -= member.len();
        self.remove_key(Element { member, score });
        Some(score)
    }

    pub(super) fn remove_range(&mut self, positions: Range<usize>) {
        for _ in positions.start..positions.end.min(self.len()) {
            let Some((key, ())) = self.by_score.remove_at(positions.start) else { return };
            self.scores.remove(&key.member).expect("both trees hold every member");
            self.note(&key.member, Some(key.score));
            self.member_bytes -= key.member.len();
        }
    }

    fn remove_key(&mut self, element: Element) {
        let removed = self.by_score.remove_by(|key| key.element().order(&element));
        assert!(removed.is_some(), "both trees hold every member");
    }
}
