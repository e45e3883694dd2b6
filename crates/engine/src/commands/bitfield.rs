//! BITFIELD's operations: integers of 1 to 64 bits anywhere in a string, and what happens to those that do not fit.

use crate::args::Args;
use crate::commands::bitmap::bit_offset_of_nth;
use crate::error::CommandError;
use crate::value::{bits, number};

/// An integer's place and type.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub signed: bool,
    /// In bits: up to 64 if signed, else up to 63, since replies are signed.
    pub width: u32,
    /// In bits.
    pub offset: u64,
}

impl Field {
    fn parse(args: Args, i: usize) -> Result<Field, CommandError> {
        const BAD_TYPE: CommandError = CommandError::Text(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
        );
        let (signed, width) = match args.bytes(i)[..] {
            [b'i', ref width @ ..] => (true, number::parse_int(width)),
            [b'u', ref width @ ..] => (false, number::parse_int(width)),
            _ => return Err(BAD_TYPE),
        };
        let widest = if signed { 64 } else { 63 };
        let width = width.filter(|width| (1..=widest).contains(width)).ok_or(BAD_TYPE)? as u32;
        Ok(Field { signed, width, offset: bit_offset_of_nth(args.bytes(i + 1), width)? })
    }

    /// What `string` holds there.
    pub fn read(&self, string: &[u8]) -> i64 {
        self.value_of(bits::get(string, self.offset, self.width))
    }

    /// The integer that `bits` stand for.
    fn value_of(&self, bits: u64) -> i64 {
        let unused = 64 - self.width;
        if self.signed { (bits << unused) as i64 >> unused } else { bits as i64 }
    }

    /// The least and the greatest integer of the type.
    fn limits(&self) -> (i128, i128) {
        match self.signed {
            true => (-(1 << (self.width - 1)), (1 << (self.width - 1)) - 1),
            false => (0, (1 << self.width) - 1),
        }
    }
}

/// What becomes of an integer that does not fit its type.
#[derive(Clone, Copy, Debug)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy, Debug)]
enum To {
    Value(i64),
    Increment(i64),
}

/// An operation.
#[derive(Debug)]
pub enum Op {
    Get(Field),
    Change(Change),
}

/// An operation that writes.
#[derive(Debug)]
pub struct Change {
    pub field: Field,
    to: To,
    overflow: Overflow,
}

/// What a [`Change`] comes to.
pub struct Within {
    /// The bits that were there.
    pub before: u64,
    /// The bits to store; `None` if the new integer does not fit and must.
    pub stored: Option<u64>,
    /// What the operation answers, if it stores.
    pub answer: i64,
}

impl Op {
    /// The first bit behind what it writes; 0 if it only reads.
    pub fn writes_until(&self) -> u64 {
        match self {
            Op::Get(_) => 0,
            Op::Change(Change { field, .. }) => field.offset + u64::from(field.width),
        }
    }
}

impl Change {
    /// What it does to `string`.
    pub fn apply(&self, string: &[u8]) -> Within {
        let before = bits::get(string, self.field.offset, self.field.width);
        let earlier = self.field.value_of(before);
        let wanted = match self.to {
            To::Increment(by) => i128::from(earlier) + i128::from(by),
            To::Value(value) if self.field.signed => i128::from(value),
            // As in Redis: a negative one is too large, not too small.
            To::Value(value) => i128::from(value as u64),
        };
        let (least, greatest) = self.field.limits();
        let fitted = match self.overflow {
            _ if (least..=greatest).contains(&wanted) => Some(wanted),
            Overflow::Wrap => Some(wanted),
            Overflow::Saturate => Some(wanted.clamp(least, greatest)),
            Overflow::Fail => None,
        };
        let stored = fitted.map(|value| value as u64 & (u64::MAX >> (64 - self.field.width)));
        let answer = match self.to {
            To::Value(_) => earlier,
            To::Increment(_) => stored.map_or(earlier, |bits| self.field.value_of(bits)),
        };
        Within { before, stored, answer }
    }
}

/// The operations of a call.
pub fn parse(args: Args) -> Result<Vec<Op>, CommandError> {
    let mut ops = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut i = 2;
    while i < args.len() {
        let left = args.len() - i - 1;
        if args.is(i, "get") && left >= 2 {
            ops.push(Op::Get(Field::parse(args, i + 1)?));
            i += 3;
        } else if (args.is(i, "set") || args.is(i, "incrby")) && left >= 3 {
            let (field, by) = (Field::parse(args, i + 1)?, args.int(i + 3)?);
            let to = if args.is(i, "set") { To::Value(by) } else { To::Increment(by) };
            ops.push(Op::Change(Change { field, to, overflow }));
            i += 4;
        } else if args.is(i, "overflow") && left >= 1 {
            overflow = match () {
                () if args.is(i + 1, "wrap") => Overflow::Wrap,
                () if args.is(i + 1, "sat") => Overflow::Saturate,
                () if args.is(i + 1, "fail") => Overflow::Fail,
                () => return Err(CommandError::Text("ERR Invalid OVERFLOW type specified")),
            };
            i += 2;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    Ok(ops)
}
