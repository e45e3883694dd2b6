//! Sets.
//!
//! Invariants: order is a function of the members and of whether they are integers. A set starts out as sorted integers
//! and becomes one of names when it gets a member that is no integer or outgrows its [`Bounds`], never the other way:
//! Redis's OBJECT ENCODING shows it. Names are packed while they are few and short; that they are shows in the bytes
//! that they take alone, and it is never undone either.

mod integers;
mod packed;

use std::borrow::Cow;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Bounds;
use super::by_name::{ByName, Name};
use super::number::parse_int;
use crate::snapshot::{put_bytes, take_bytes};
use integers::Integers;
use packed::{MAX_PACKED_MEMBERS, Packed};

/// A member as text: integers are not stored as such.
pub type Member<'a> = Cow<'a, [u8]>;

/// A set value.
#[derive(Clone, Debug)]
pub struct SetValue(Repr);

#[derive(Clone, Debug)]
enum Repr {
    Integers(Integers),
    Packed(Packed),
    Names {
        members: ByName<()>,
        /// The sum of the members' lengths.
        text_bytes: usize,
    },
}

impl Default for SetValue {
    fn default() -> SetValue {
        SetValue(Repr::Integers(Integers::default()))
    }
}

impl SetValue {
    /// A set without members.
    pub fn new() -> SetValue {
        SetValue::default()
    }

    /// The set of `members`, which may repeat.
    pub fn of<T: AsRef<[u8]>>(members: impl IntoIterator<Item = T>, bounds: &Bounds) -> SetValue {
        let mut set = SetValue::new();
        for member in members {
            set.add(member.as_ref(), bounds);
        }
        set
    }

    /// The name that OBJECT ENCODING answers.
    pub fn encoding(&self) -> &'static str {
        match &self.0 {
            Repr::Integers(_) => "intset",
            Repr::Packed(_) | Repr::Names { .. } => "hashtable",
        }
    }

    /// What it takes besides the object it stands in, in bytes: a function of its members and its form.
    pub fn bytes(&self) -> usize {
        /// The value itself and what its allocations carry besides their content.
        const HEADER_BYTES: usize = 72;
        /// A place in the tree (nodes are two thirds full or better), and the member's allocation.
        const MEMBER_BYTES: usize = 24 * 3 / 2 + 24;
        HEADER_BYTES
            + match &self.0 {
                Repr::Integers(integers) => integers.bytes(),
                Repr::Packed(packed) => packed.bytes(),
                Repr::Names { members, text_bytes } => text_bytes + MEMBER_BYTES * members.len(),
            }
    }

    /// How many members.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Integers(integers) => integers.len(),
            Repr::Packed(packed) => packed.len(),
            Repr::Names { members, .. } => members.len(),
        }
    }

    /// Whether there are no members; the key is absent then.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `member` is in it.
    pub fn contains(&self, member: &[u8]) -> bool {
        match &self.0 {
            Repr::Integers(integers) => parse_int(member).is_some_and(|n| integers.contains(n)),
            Repr::Packed(packed) => packed.contains(member),
            Repr::Names { members, .. } => members.get(member).is_some(),
        }
    }

    /// Adds `member`. Whether it is new.
    pub fn add(&mut self, member: &[u8], bounds: &Bounds) -> bool {
        if let Repr::Integers(integers) = &mut self.0 {
            match parse_int(member) {
                Some(n) if integers.contains(n) => return false,
                Some(n) if integers.len() < bounds.set_integers => return integers.add(n),
                _ => self.become_names(),
            }
        }
        if let Repr::Packed(packed) = &mut self.0 {
            match packed.fits(member) {
                true => return packed.add(member),
                false if packed.contains(member) => return false,
                false => self.unpack(),
            }
        }
        let Repr::Names { members, text_bytes } = &mut self.0 else {
            unreachable!("what is packed has been added to or unpacked above")
        };
        // A look first: a write that changes nothing copies nothing.
        let new = members.get(member).is_none();
        if new {
            members.insert(Name::from(member), ());
            *text_bytes += member.len();
        }
        new
    }

    /// Removes `member`. Whether it was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.0 {
            Repr::Integers(integers) => parse_int(member).is_some_and(|n| integers.remove(n)),
            Repr::Packed(packed) => packed.remove(member),
            Repr::Names { members, text_bytes } => {
                let there = members.remove(member).is_some();
                if there {
                    *text_bytes -= member.len();
                }
                there
            }
        }
    }

    /// The member at `position`, from 0 to `len - 1`.
    pub fn at(&self, position: usize) -> Option<Member<'_>> {
        match &self.0 {
            Repr::Integers(integers) => (position < integers.len()).then(|| text(integers.at(position))),
            Repr::Packed(packed) => packed.iter().nth(position).map(Cow::from),
            Repr::Names { members, .. } => members.at(position).map(|(name, ())| Cow::from(&name[..])),
        }
    }

    /// The members in order.
    pub fn iter(&self) -> impl Iterator<Item = Member<'_>> {
        let (integers, packed, names) = match &self.0 {
            Repr::Integers(integers) => (Some(integers.iter()), None, None),
            Repr::Packed(packed) => (None, Some(packed.iter()), None),
            Repr::Names { members, .. } => (None, None, Some(members.iter())),
        };
        let packed = packed.into_iter().flatten().map(Cow::from);
        let names = names.into_iter().flatten().map(|(name, ())| Cow::from(&name[..]));
        integers.into_iter().flatten().map(text).chain(packed).chain(names)
    }

    /// A step of a scan of a set of names, as [`ByName::scan`] takes it; integers are met at once.
    pub fn scan(&self, cursor: u64, count: usize) -> (u64, Vec<Member<'_>>) {
        match &self.0 {
            Repr::Integers(integers) => (0, integers.iter().map(text).collect()),
            Repr::Packed(packed) => {
                let (next, met) = packed.scan(cursor, count);
                (next, met.into_iter().map(Cow::from).collect())
            }
            Repr::Names { members, .. } => {
                let (next, met) = members.scan(cursor, count);
                (next, met.map(|(name, ())| Cow::from(&name[..])).collect())
            }
        }
    }

    /// Makes names of integers, packed if they are few: none is too long.
    fn become_names(&mut self) {
        if self.len() > MAX_PACKED_MEMBERS {
            return self.unpack();
        }
        let mut packed = Packed::default();
        self.iter().for_each(|member| {
            packed.add(&member);
        });
        self.0 = Repr::Packed(packed);
    }

    fn unpack(&mut self) {
        let names: Vec<Name> = self.iter().map(|member| Name::from(&member[..])).collect();
        *self = SetValue::of_names(names).expect("members differ");
    }

    /// `None` if a name is there twice.
    fn of_names(names: Vec<Name>) -> Option<SetValue> {
        let text_bytes = names.iter().map(|name| name.len()).sum();
        let members = ByName::from_unsorted(names.into_iter().map(|name| (name, ())))?;
        Some(SetValue(Repr::Names { members, text_bytes }))
    }

    /// Appends the set to a snapshot's chunk: its form, then its members in order.
    pub(crate) fn put_snapshot(&self, out: &mut BytesMut) {
        out.put_u8(match &self.0 {
            Repr::Integers(_) => 0,
            Repr::Names { .. } => 1,
            Repr::Packed(_) => 2,
        });
        out.put_u64_le(self.len() as u64);
        match &self.0 {
            Repr::Integers(integers) => integers.iter().for_each(|n| out.put_i64_le(n)),
            Repr::Packed(packed) => packed.iter().for_each(|name| put_bytes(out, name)),
            Repr::Names { members, .. } => members.iter().for_each(|(name, ())| put_bytes(out, name)),
        }
    }

    /// Takes what [`SetValue::put_snapshot`] wrote; `None` if it is cut short or no set has such a form.
    pub(crate) fn take_snapshot(from: &mut Bytes) -> Option<SetValue> {
        let form = from.try_get_u8().ok()?;
        let len = from.try_get_u64_le().ok()?;
        match form {
            0 => {
                let mut integers = Integers::default();
                for _ in 0..len {
                    integers.add(from.try_get_i64_le().ok()?).then_some(())?;
                }
                Some(SetValue(Repr::Integers(integers)))
            }
            1 => {
                let mut names = Vec::new();
                for _ in 0..len {
                    names.push(Name::from(&take_bytes(from)?[..]));
                }
                SetValue::of_names(names)
            }
            2 if len <= MAX_PACKED_MEMBERS as u64 => {
                let mut packed = Packed::default();
                for _ in 0..len {
                    let name = take_bytes(from)?;
                    (packed.fits(&name) && packed.add(&name)).then_some(())?;
                }
                Some(SetValue(Repr::Packed(packed)))
            }
            _ => None,
        }
    }
}

fn text<'a>(n: i64) -> Member<'a> {
    Cow::from(n.to_string().into_bytes())
}

#[cfg(test)]
mod tests;
