//! Hashes, whose fields may expire one by one.
//!
//! Invariants: order is the same on every replica (a small hash's is that in which fields came, which snapshots keep; a
//! big one's follows from the names); a field whose deadline is before
//! the clock that a reader passes in is absent to it, whether or not it has been removed yet;
//! `next_deadline_ms` is the earliest deadline of all fields. A hash starts out small and becomes big when it
//! outgrows its [`Bounds`], never the other way: Redis's OBJECT ENCODING shows it.

mod big;
mod small;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Bounds;
use crate::slot::NEVER;
use crate::snapshot::{put_bytes, take_bytes};
use big::Big;
use small::Small;

/// The latest deadline a field can have, in milliseconds since the Unix epoch: 2^46 - 1, as in Redis 7.4.
pub const MAX_FIELD_DEADLINE_MS: u64 = (1 << 46) - 1;

/// A field as it stands in a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// What it holds.
    pub value: &'a [u8],
    /// When it is gone, in milliseconds since the Unix epoch; [`NEVER`] if it does not expire.
    pub expire_ms: u64,
}

impl Field<'_> {
    fn is_live(&self, now_ms: u64) -> bool {
        self.expire_ms >= now_ms
    }
}

/// A hash value. Methods that take `now_ms` mean the machine's clock and know nothing of fields due by then.
#[derive(Clone, Debug)]
pub struct HashValue {
    repr: Repr,
    next_deadline_ms: u64,
}

#[derive(Clone, Debug)]
enum Repr {
    Small(Small),
    Big(Box<Big>),
}

impl Default for HashValue {
    fn default() -> HashValue {
        HashValue { repr: Repr::Small(Small::default()), next_deadline_ms: NEVER }
    }
}

impl HashValue {
    /// A hash without fields.
    pub fn new() -> HashValue {
        HashValue::default()
    }

    /// The name that OBJECT ENCODING answers; Redis keeps deadlines in a form of its own.
    pub fn encoding(&self) -> &'static str {
        match &self.repr {
            Repr::Small(_) if self.next_deadline_ms != NEVER => "listpackex",
            Repr::Small(_) => "listpack",
            Repr::Big(_) => "hashtable",
        }
    }

    /// What it takes besides the object it stands in, in bytes: a function of its fields and its form.
    pub fn bytes(&self) -> usize {
        /// The value itself and what two allocations carry besides their content.
        const HEADER_BYTES: usize = 96;
        HEADER_BYTES
            + match &self.repr {
                Repr::Small(small) => small.bytes(),
                Repr::Big(big) => big.bytes(),
            }
    }

    /// The earliest deadline of its fields, past ones included; [`NEVER`] if none expires.
    pub fn next_deadline_ms(&self) -> u64 {
        self.next_deadline_ms
    }

    /// The field `name`.
    pub fn get(&self, name: &[u8], now_ms: u64) -> Option<Field<'_>> {
        self.find(name).filter(|field| field.is_live(now_ms))
    }

    /// How many fields. Costs more than a look only while some are due.
    pub fn len(&self, now_ms: u64) -> usize {
        if self.next_deadline_ms >= now_ms {
            return self.positions();
        }
        match &self.repr {
            Repr::Small(small) => small.iter().filter(|field| field.is_live(now_ms)).count(),
            Repr::Big(big) => big.len() - big.due(now_ms),
        }
    }

    /// Whether there are no fields; the key is absent then.
    pub fn is_empty(&self, now_ms: u64) -> bool {
        if self.next_deadline_ms >= now_ms {
            return self.positions() == 0;
        }
        match &self.repr {
            Repr::Small(small) => !small.iter().any(|field| field.is_live(now_ms)),
            Repr::Big(big) => big.all_due(now_ms),
        }
    }

    /// The fields in order.
    pub fn iter(&self, now_ms: u64) -> impl Iterator<Item = Field<'_>> {
        let (small, big) = match &self.repr {
            Repr::Small(small) => (Some(small.iter()), None),
            Repr::Big(big) => (None, Some(big.iter())),
        };
        let all = small.into_iter().flatten().chain(big.into_iter().flatten());
        all.filter(move |field| field.is_live(now_ms))
    }

    /// Whether one walk meets all fields at once, so that a cursor into it has no meaning.
    pub fn is_small(&self) -> bool {
        matches!(self.repr, Repr::Small(_))
    }

    /// How many positions there are: fields, due ones included.
    pub fn positions(&self) -> usize {
        match &self.repr {
            Repr::Small(small) => small.len(),
            Repr::Big(big) => big.len(),
        }
    }

    /// A step of a scan of a big hash, as [`super::ByName::scan`] takes it; a small one is met whole. Of what it meets,
    /// due fields are left out.
    pub fn scan(&self, cursor: u64, count: usize, now_ms: u64) -> (u64, Vec<Field<'_>>) {
        match &self.repr {
            Repr::Small(_) => (0, self.iter(now_ms).collect()),
            Repr::Big(big) => {
                let (next, fields) = big.scan(cursor, count);
                (next, fields.filter(|field| field.is_live(now_ms)).collect())
            }
        }
    }

    /// The field at `position`, if it is not due.
    pub fn at(&self, position: usize, now_ms: u64) -> Option<Field<'_>> {
        let field = match &self.repr {
            Repr::Small(small) => small.iter().nth(position),
            Repr::Big(big) => big.at(position),
        };
        field.filter(|field| field.is_live(now_ms))
    }

    /// Stores `value` under `name`, to expire at `expire_ms` ([`NEVER`]: not at all). Whether the field is new.
    pub fn put(&mut self, name: &[u8], value: &[u8], expire_ms: u64, now_ms: u64, bounds: &Bounds) -> bool {
        let earlier = self.find(name).map(|field| (field.is_live(now_ms), field.expire_ms));
        let fits = name.len() <= bounds.hash_bytes
            && value.len() <= bounds.hash_bytes
            && (earlier.is_some() || self.positions() < bounds.hash_fields);
        if !fits {
            self.become_big();
        }
        match &mut self.repr {
            Repr::Small(small) => small.put(name, value, expire_ms),
            Repr::Big(big) => big.put(name, value, expire_ms),
        }
        self.deadline_moved(earlier.map_or(NEVER, |(_, at)| at), expire_ms);
        !earlier.is_some_and(|(live, _)| live)
    }

    /// Stores `value` under `name` for good, whatever deadline the field had. Whether the field is new.
    pub fn set(&mut self, name: &[u8], value: &[u8], now_ms: u64, bounds: &Bounds) -> bool {
        self.put(name, value, NEVER, now_ms, bounds)
    }

    /// Moves the deadline of a field that is there.
    pub fn set_deadline(&mut self, name: &[u8], expire_ms: u64) {
        let Some(before) = self.find(name).map(|field| field.expire_ms) else { return };
        match &mut self.repr {
            Repr::Small(small) => small.set_deadline(name, expire_ms),
            Repr::Big(big) => big.set_deadline(name, expire_ms),
        }
        self.deadline_moved(before, expire_ms);
    }

    /// Removes the field `name`. Whether it was there.
    pub fn remove(&mut self, name: &[u8], now_ms: u64) -> bool {
        let Some((live, before)) = self.find(name).map(|field| (field.is_live(now_ms), field.expire_ms))
        else {
            return false;
        };
        match &mut self.repr {
            Repr::Small(small) => small.remove(name),
            Repr::Big(big) => big.remove(name),
        }
        self.deadline_moved(before, NEVER);
        live
    }

    /// Removes fields that are due, at most `limit`. How many.
    pub fn remove_due(&mut self, now_ms: u64, limit: usize) -> usize {
        if self.next_deadline_ms >= now_ms {
            return 0;
        }
        let removed = match &mut self.repr {
            Repr::Small(small) => small.remove_due(now_ms, limit),
            Repr::Big(big) => big.remove_due(now_ms, limit),
        };
        self.next_deadline_ms = self.earliest();
        removed
    }

    /// See [`super::Value::note_changes`].
    pub(super) fn note_changes(&mut self) -> bool {
        if let Repr::Big(big) = &mut self.repr {
            big.note_changes();
        }
        !self.is_small()
    }

    /// See [`super::Value::changes`].
    pub(super) fn changes(&self) -> Option<usize> {
        match &self.repr {
            Repr::Small(_) => None,
            Repr::Big(big) => big.changes(),
        }
    }

    /// See [`super::Value::forget_changes`].
    pub(super) fn forget_changes(&mut self) {
        if let Repr::Big(big) = &mut self.repr {
            big.forget_changes();
        }
    }

    /// See [`super::Value::take_back_changes`].
    pub(super) fn take_back_changes(&mut self) {
        if let Repr::Big(big) = &mut self.repr {
            big.take_back_changes();
        }
        self.next_deadline_ms = self.earliest();
    }

    fn find(&self, name: &[u8]) -> Option<Field<'_>> {
        match &self.repr {
            Repr::Small(small) => small.find(name),
            Repr::Big(big) => big.find(name),
        }
    }

    fn become_big(&mut self) {
        if let Repr::Small(small) = &self.repr {
            let mut big = Big::default();
            small.iter().for_each(|field| big.put(field.name, field.value, field.expire_ms));
            self.repr = Repr::Big(Box::new(big));
        }
    }

    /// One field's deadline went from `before` to `after`.
    fn deadline_moved(&mut self, before: u64, after: u64) {
        if before == self.next_deadline_ms && after > before {
            self.next_deadline_ms = self.earliest();
        } else {
            self.next_deadline_ms = self.next_deadline_ms.min(after);
        }
    }

    fn earliest(&self) -> u64 {
        match &self.repr {
            Repr::Small(small) => small.iter().map(|field| field.expire_ms).min().unwrap_or(NEVER),
            Repr::Big(big) => big.earliest(),
        }
    }

    /// Appends the hash to a snapshot's chunk: whether it is big, then its fields in order.
    pub(crate) fn put_snapshot(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(!self.is_small()));
        out.put_u32_le(self.positions() as u32);
        for field in self.iter(0) {
            put_bytes(out, field.name);
            put_bytes(out, field.value);
            out.put_u64_le(field.expire_ms);
        }
    }

    /// Takes what [`HashValue::put_snapshot`] wrote; `None` if it is cut short or no hash has such a form.
    pub(crate) fn take_snapshot(from: &mut Bytes) -> Option<HashValue> {
        let mut hash = HashValue::new();
        let big = match from.try_get_u8().ok()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        if big {
            hash.become_big();
        }
        for _ in 0..from.try_get_u32_le().ok()? {
            let (name, value) = (take_bytes(from)?, take_bytes(from)?);
            let new = hash.put(&name, &value, from.try_get_u64_le().ok()?, 0, &Bounds::WIDEST);
            if !new || hash.is_small() == big {
                return None;
            }
        }
        Some(hash)
    }
}

#[cfg(test)]
mod tests;
