//! A running digest over what a machine has applied: how a replica that has become different is found while it runs.
//!
//! After each entry, the entry's bytes and what it did (the replies of calls that write, how many keys there are and
//! how many may expire) are folded into one number, which is part of the state and of snapshots. Only what every
//! replica computes is folded: calls that merely read run on the leader alone. A leader publishes its number and the
//! index it stands for in an entry of its own ([`Check`](crate::entry::Check)), and each replica compares it with
//! what it had there. The verdict is local and no part of the state: a pure function of what was applied, it
//! influences nothing that is.
//!
//! Not seen: a value that differs without ever having shown in a reply. The digest of the whole state
//! ([`Snapshot::digest`](crate::snapshot::Snapshot::digest)) sees that too, and costs as much as a snapshot: it is taken on
//! demand, by an entry that is an *audit*.

use std::collections::VecDeque;

use crate::entry::Check;
use crate::error::CommandError;
use crate::reply::Reply;

/// Entries for which the digest is remembered, for checks that come a little later.
const REMEMBERED: usize = 4096;

/// At most so many bytes are noted before they are folded in.
const NOTED_BYTES: usize = 1024;

/// Two replicas that should be the same at an index, and are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where they were compared.
    pub index: u64,
    /// This replica's digest there.
    pub ours: u64,
    /// The leader's.
    pub leaders: u64,
}

/// The digest after each of the last entries.
#[derive(Debug, Default)]
pub struct Digest {
    value: u64,
    effects: crc32fast::Hasher,
    /// What is noted next in `effects`: a checksum is quick over many bytes, and replies are short.
    noted: Vec<u8>,
    /// Index and digest, ascending; the last one is the newest.
    past: VecDeque<(u64, u64)>,
    /// The newest entry that was more than a check.
    newest: u64,
    /// The newest entry that a check has covered.
    covered: u64,
    /// The newest check that agreed with what this replica had.
    verified: Option<Check>,
    difference: Option<Difference>,
}

impl Digest {
    /// A digest that goes on from `value` at `index`, as a snapshot holds it.
    pub fn restored(index: u64, value: u64) -> Digest {
        Digest { value, past: VecDeque::from([(index, value)]), newest: index, ..Digest::default() }
    }

    /// The digest now.
    pub fn value(&self) -> u64 {
        self.value
    }

    /// Folds in an entry's bytes, or any other part of what it is or does.
    pub fn note(&mut self, bytes: &[u8]) {
        if self.noted.len() + bytes.len() > NOTED_BYTES {
            self.fold_noted();
        }
        match bytes.len() > NOTED_BYTES {
            true => self.effects.update(bytes),
            false => self.noted.extend_from_slice(bytes),
        }
    }

    fn fold_noted(&mut self) {
        self.effects.update(&self.noted);
        self.noted.clear();
    }

    /// Folds in what a call that writes has answered.
    pub fn note_reply(&mut self, reply: &Reply) {
        match reply {
            Reply::Simple(text) => self.tagged(1, text.as_bytes()),
            Reply::Status(text) => self.tagged(18, text),
            Reply::BigNumber(digits) => self.tagged(19, digits),
            Reply::Int(number) => self.tagged(2, &number.to_le_bytes()),
            Reply::Bulk(bytes) => self.tagged(3, bytes),
            Reply::Null => self.note(&[4]),
            Reply::NullArray => self.note(&[5]),
            Reply::Array(items) => self.list(6, items),
            Reply::Map(pairs) => self.pairs(7, pairs),
            Reply::Set(items) => self.list(8, items),
            Reply::Pairs(pairs) => self.pairs(9, pairs),
            Reply::Named(pairs) => self.pairs(17, pairs),
            Reply::Double(number) => self.tagged(10, &number.to_bits().to_le_bytes()),
            Reply::Decimal(number) => self.tagged(20, &number.to_bits().to_le_bytes()),
            Reply::Bool(yes) => self.note(&[11, u8::from(*yes)]),
            Reply::Verbatim(format, bytes) => {
                self.tagged(12, format.as_bytes());
                self.tagged(12, bytes);
            }
            Reply::Push(items) => self.list(13, items),
            Reply::Attributed(_, reply) => self.note_reply(reply),
            // The waiter's id is given after this.
            Reply::Block(_) => self.note(&[14]),
            Reply::Blocked { id, .. } => self.tagged(15, &id.to_le_bytes()),
            Reply::Error(error) => self.error(error),
        }
    }

    /// Ends the entry at `index`, which may have been a check.
    pub fn end_entry(&mut self, index: u64, check: Option<&Check>) {
        self.fold_noted();
        let effects = u64::from(std::mem::take(&mut self.effects).finalize());
        self.value = mix(self.value ^ index ^ (effects << 32 | effects));
        if self.past.len() == REMEMBERED {
            self.past.pop_front();
        }
        self.past.push_back((index, self.value));
        match check {
            Some(check) => self.compare(check),
            None => self.newest = index,
        }
    }

    /// What a leader should publish, if something has been applied that no check has covered.
    pub fn unchecked(&self) -> Option<Check> {
        let (index, digest) = self.past.back().copied()?;
        (self.newest > self.covered).then_some(Check { index, digest })
    }

    /// What is too long ago, or lies before the snapshot that this replica began with, cannot be compared.
    fn compare(&mut self, check: &Check) {
        self.covered = check.index;
        let Ok(place) = self.past.binary_search_by_key(&check.index, |(index, _)| *index) else { return };
        let ours = self.past[place].1;
        if ours == check.digest {
            self.verified = Some(*check);
        } else if self.difference.is_none() {
            self.difference = Some(Difference { index: check.index, ours, leaders: check.digest });
        }
    }

    /// The newest index at which this replica was compared with its leader's and found the same, and its digest there.
    pub fn verified(&self) -> Option<Check> {
        self.verified
    }

    /// The first difference that was found.
    pub fn difference(&self) -> Option<Difference> {
        self.difference
    }

    /// See [`Machine::forget_difference`](crate::Machine::forget_difference).
    pub fn forget_difference(&mut self) {
        self.difference = None;
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        let [a, b, c, d, e, f, g, h] = (bytes.len() as u64).to_le_bytes();
        self.note(&[tag, a, b, c, d, e, f, g, h]);
        self.note(bytes);
    }

    fn list(&mut self, tag: u8, items: &[Reply]) {
        self.tagged(tag, &(items.len() as u64).to_le_bytes());
        items.iter().for_each(|item| self.note_reply(item));
    }

    fn pairs(&mut self, tag: u8, pairs: &[(Reply, Reply)]) {
        self.tagged(tag, &(pairs.len() as u64).to_le_bytes());
        for (first, second) in pairs {
            self.note_reply(first);
            self.note_reply(second);
        }
    }

    fn error(&mut self, error: &CommandError) {
        self.tagged(16, error.to_string().as_bytes());
    }
}

/// Spreads every bit over all (the finalizer of SplitMix64).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Batch, Call, Entry, Message, Stamp};
    use crate::machine::{Machine, Position, Replies};
    use crate::snapshot::Restore;

    fn entry(index: u64, words: &[&'static str]) -> Entry {
        let stamp = Some(Stamp { now_ms: 1000 + index, seed: index, ..Stamp::default() });
        let batches = vec![Batch::of(vec![Call::new(words.iter().copied())])];
        Entry { stamp, batches, ..Entry::default() }
    }

    fn apply(machine: &mut Machine, index: u64, entry: &Entry, replies: Replies) {
        let at = Position { term: 1, index };
        machine.apply_bytes(at, entry.encode_to_vec().into(), replies).expect("an entry");
    }

    /// Two machines that serve all slots.
    fn pair() -> [Machine; 2] {
        let mut pair = [Machine::new(1), Machine::new(2)];
        let slots = vec![crate::entry::SlotRange { start: 0, end: 16383 }];
        let genesis = crate::entry::Genesis { cluster_id: "c".into(), slots, ..Default::default() };
        for machine in &mut pair {
            let birth = Entry { genesis: Some(genesis.clone()), ..Entry::default() };
            apply(machine, 1, &birth, Replies::Unwanted);
        }
        pair
    }

    fn check(from: &Machine) -> Entry {
        let check = from.unchecked_digest().expect("something is unchecked");
        Entry { check: Some(check), ..Entry::default() }
    }

    #[test]
    fn replicas_that_run_different_parts_of_the_reads_agree() {
        let [mut leader, mut follower] = pair();
        let calls: [&[&str]; 5] =
            [&["INCR", "n"], &["GET", "n"], &["SET", "a", "x"], &["HSET", "h", "f", "v"], &["GET", "h"]];
        for (index, words) in (2..).zip(calls) {
            apply(&mut leader, index, &entry(index, words), Replies::Wanted);
            apply(&mut follower, index, &entry(index, words), Replies::Unwanted);
        }
        let check = check(&leader);
        apply(&mut leader, 7, &check, Replies::Wanted);
        apply(&mut follower, 7, &check, Replies::Unwanted);
        assert_eq!((leader.difference(), follower.difference()), (None, None));
        assert_eq!((leader.verified(), follower.verified()), (check.check, check.check));
        assert_eq!(leader.unchecked_digest(), None, "nothing but the check itself");
    }

    #[test]
    fn a_replica_that_did_something_else_is_found_at_the_next_check_and_by_its_replies_alone() {
        let [mut leader, mut follower] = pair();
        apply(&mut leader, 2, &entry(2, &["SET", "n", "1"]), Replies::Wanted);
        apply(&mut follower, 2, &entry(2, &["SET", "n", "1"]), Replies::Unwanted);
        // What no entry says has changed one of them.
        let [mut other, _] = pair();
        apply(&mut other, 2, &entry(2, &["SET", "n", "2"]), Replies::Unwanted);
        std::mem::swap(&mut follower.keyspace, &mut other.keyspace);
        apply(&mut leader, 3, &entry(3, &["INCR", "n"]), Replies::Wanted);
        apply(&mut follower, 3, &entry(3, &["INCR", "n"]), Replies::Unwanted);
        let check = check(&leader);
        // Entries may lie between the digest and the entry that publishes it.
        for machine in [&mut leader, &mut follower] {
            apply(machine, 4, &entry(4, &["SET", "other", "1"]), Replies::Unwanted);
            apply(machine, 5, &check, Replies::Unwanted);
        }
        assert_eq!(leader.difference(), None);
        let difference = follower.difference().expect("a difference");
        assert_eq!((difference.index, difference.leaders), (3, check.check.expect("a check").digest));
        assert_ne!(difference.ours, difference.leaders);
        assert_eq!(follower.verified(), None, "what differs is not verified");
    }

    #[test]
    fn the_digest_goes_on_over_a_snapshot() {
        let [mut leader, mut follower] = pair();
        for machine in [&mut leader, &mut follower] {
            apply(machine, 2, &entry(2, &["SET", "n", "1"]), Replies::Unwanted);
        }
        let mut restore = Restore::new(3);
        follower.snapshot().chunks().for_each(|chunk| restore.push(chunk).expect("a chunk"));
        let mut follower = restore.finish().expect("a machine");
        for machine in [&mut leader, &mut follower] {
            apply(machine, 3, &entry(3, &["INCR", "n"]), Replies::Unwanted);
        }
        assert_eq!(leader.unchecked_digest(), follower.unchecked_digest());
    }

    #[test]
    fn replies_that_differ_have_digests_that_differ() {
        let replies = [
            Reply::Null,
            Reply::NullArray,
            Reply::Int(1),
            Reply::Int(2),
            Reply::bulk("1"),
            Reply::OK,
            Reply::Array(vec![]),
            Reply::Array(vec![Reply::Int(1)]),
            Reply::Array(vec![Reply::bulk("a"), Reply::bulk("b")]),
            Reply::Array(vec![Reply::bulk("ab")]),
            Reply::Set(vec![Reply::Int(1)]),
            Reply::Double(1.0),
            Reply::Decimal(1.0),
            Reply::Bool(true),
            Reply::Error(CommandError::WrongType),
        ];
        let digest_of = |reply: &Reply| {
            let mut digest = Digest::default();
            digest.note_reply(reply);
            digest.end_entry(1, None);
            digest.value()
        };
        let digests: std::collections::BTreeSet<u64> = replies.iter().map(digest_of).collect();
        assert_eq!(digests.len(), replies.len());
    }

    /// An older build would apply what it knows of it, and become another replica.
    #[test]
    fn an_entry_of_a_newer_build_is_not_applied() {
        let [mut machine, _] = pair();
        apply(&mut machine, 2, &entry(2, &["SET", "k", "1"]), Replies::Unwanted);
        let before = (machine.digest(), machine.unchecked_digest());
        let newer = Entry { version: crate::entry::VERSION + 1, ..entry(3, &["SET", "k", "2"]) };
        let at = Position { term: 1, index: 3 };
        let refused = machine.apply_bytes(at, newer.encode_to_vec().into(), Replies::Unwanted);
        let said = refused.expect_err("it is newer").to_string();
        assert!(said.starts_with("entry 3 was written by a newer build of quoris (version 2 "), "{said}");
        assert_eq!((machine.digest(), machine.unchecked_digest()), before);
    }
}
