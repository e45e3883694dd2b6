//! What is due: removed by the log's clock alone, so that replicas agree.

use bytes::Bytes;

use super::{Keyspace, deadline_of};
use crate::events::EventClass;
use crate::hash_slot::slot_of;

impl Keyspace {
    /// Removes what is due, at most `limit` keys and fields, in the order of (deadline, key).
    pub(crate) fn remove_due(&mut self, limit: usize) {
        let mut left = limit;
        while left > 0 {
            let Some((at, key)) = self.deadlines.first() else { return };
            if *at >= self.now_ms {
                return;
            }
            let key = key.clone();
            left -= self.remove_due_of(&key, left);
        }
    }

    /// Removes those of `keys` that are due, or fields of theirs that are, at most `limit`. How many keys and fields.
    pub(crate) fn remove_due_among(&mut self, keys: &[Bytes], limit: usize) -> usize {
        let mut left = limit;
        for key in keys {
            if left > 0 && self.is_stored_and_due(key, self.now_ms) {
                left -= self.remove_due_of(key, left);
            }
        }
        limit - left
    }

    /// Removes `key` if it is due, else fields of it that are, at most `limit`. How many keys and fields.
    fn remove_due_of(&mut self, key: &[u8], limit: usize) -> usize {
        let (now_ms, version) = (self.now_ms, self.version);
        let object = self.slot_mut(key).get_mut(key).expect("`deadlines` holds only keys that are there");
        if object.expire_ms < now_ms {
            if let Some(object) = self.take(key) {
                self.let_go(object.value);
            }
            self.expired += 1;
            self.notify(EventClass::EXPIRED, "expired", key);
            return 1;
        }
        let (before, bytes_before) = (deadline_of(object), object.value.bytes());
        let removed = object.value.remove_due(now_ms, limit);
        assert!(removed > 0, "`deadlines` holds a key of which nothing is due");
        object.version = version;
        // A value may have nothing left for readers and yet due fields to remove: the next entry goes on with them.
        let nothing_left = object.value.is_empty(now_ms) && object.value.next_deadline_ms() >= now_ms;
        let (after, bytes_after) = (deadline_of(object), object.value.bytes());
        self.bytes = self.bytes - bytes_before + bytes_after;
        self.move_deadline(key, before, after);
        self.notify(EventClass::HASH, "hexpired", key);
        match nothing_left {
            true => {
                self.remove(key);
                self.notify(EventClass::GENERIC, "del", key);
            }
            false => self.changed(key),
        }
        removed
    }

    /// Whether `key` has something due at `now_ms` that the machine's clock has not reached: a read at that time
    /// must first move the clock, through the log.
    pub fn is_due(&self, key: &[u8], now_ms: u64) -> bool {
        self.get(key).is_some_and(|object| deadline_of(object) < now_ms)
    }

    /// Whether `key` has something due at `now_ms` that has not been removed, absent as it may be.
    pub fn is_stored_and_due(&self, key: &[u8], now_ms: u64) -> bool {
        self.slot(slot_of(key)).get(key).is_some_and(|object| deadline_of(object) < now_ms)
    }
}
