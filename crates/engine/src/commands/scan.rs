//! SCAN: a walk over the slots, and over each slot's keys from the last to the first ([`crate::slot`] says why that
//! meets every key that is there all the while). The cursor names a slot and how many of its keys are yet to be
//! looked at, so it is good on any replica of whichever group serves the slot by then.

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::args::Args;
use crate::command::{Chapter, Command, Gather, Keys, Outcome, ReadContext};
use crate::error::CommandError;
use crate::glob;
use crate::hash_slot::{SLOT_COUNT, SlotId};
use crate::keyspace::Keyspace;
use crate::reply::Reply;
use crate::slot::Key;

/// The rows.
pub const COMMANDS: &[Command] =
    &[Command::read("scan", -2, Keys::NONE, scan_all).gathered(Gather::Scan).doc(
        Chapter::Generic,
        "2.8.0",
        "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
        "Iterates over the key names in the database.",
    )];

const SLOT_BITS: u32 = SLOT_COUNT.trailing_zeros();

/// `Cursor::left` of a slot of which no key has been looked at. Together with the slot it stays below 2^53: some
/// clients read cursors as floating point numbers.
const WHOLE_SLOT: u64 = (1 << (53 - SLOT_BITS)) - 1;

/// Where a walk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    slot: SlotId,
    left: u64,
}

impl Cursor {
    /// Before the first key of all.
    pub const START: Cursor = Cursor::at_slot(0);

    /// Before the first key of `slot`.
    pub const fn at_slot(slot: SlotId) -> Cursor {
        Cursor { slot, left: WHOLE_SLOT }
    }

    /// The slot it stands in.
    pub fn slot(self) -> SlotId {
        self.slot
    }

    /// The cursor that a client sent; 0 is the start.
    pub fn parse(word: &[u8]) -> Result<Cursor, CommandError> {
        Ok(match parse_cursor(word)? {
            0 => Cursor::START,
            wire => Cursor { slot: (wire % u64::from(SLOT_COUNT)) as SlotId, left: wire >> SLOT_BITS },
        })
    }

    /// As clients see it: the number of a cursor, 0 at the end.
    pub fn wire(cursor: Option<Cursor>) -> u64 {
        cursor.map_or(0, |cursor| cursor.left << SLOT_BITS | u64::from(cursor.slot))
    }
}

/// A cursor's number, as a client sent it.
pub(crate) fn parse_cursor(word: &[u8]) -> Result<u64, CommandError> {
    let digits = std::str::from_utf8(word).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok()).ok_or(CommandError::InvalidCursor)
}

/// The options of SCAN, HSCAN and their like.
#[derive(Clone, Debug)]
pub struct ScanOptions {
    /// How many elements to look at.
    pub count: u64,
    /// Only names that match.
    pub pattern: Option<Bytes>,
    /// Only keys of the type of this name, in lower case.
    pub type_name: Option<Vec<u8>>,
    /// Names without values.
    pub no_values: bool,
}

/// Which options a command has besides MATCH and COUNT.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ScanOf {
    /// SCAN: TYPE.
    Keys,
    /// HSCAN: NOVALUES.
    Fields,
    /// SSCAN and ZSCAN: none.
    Elements,
}

impl ScanOptions {
    /// Reads the words from `first` on.
    pub fn parse(args: Args, first: usize, of: ScanOf) -> Result<ScanOptions, CommandError> {
        let mut options = ScanOptions { count: 10, pattern: None, type_name: None, no_values: false };
        let mut i = first;
        while i < args.len() {
            let has_value = i + 1 < args.len();
            if args.is(i, "count") && has_value {
                options.count =
                    args.int(i + 1)?.try_into().ok().filter(|&n| n > 0).ok_or(CommandError::Syntax)?;
            } else if args.is(i, "match") && has_value {
                options.pattern = Some(args.bytes(i + 1).clone()).filter(|pattern| pattern.as_ref() != b"*");
            } else if args.is(i, "type") && has_value && of == ScanOf::Keys {
                options.type_name = Some(args.bytes(i + 1).to_ascii_lowercase());
            } else if args.is(i, "novalues") && of == ScanOf::Fields {
                options.no_values = true;
                i += 1;
                continue;
            } else {
                return Err(CommandError::Syntax);
            }
            i += 2;
        }
        Ok(options)
    }

    /// Whether `name` is wanted.
    pub fn matches(&self, name: &[u8]) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| glob::matches(pattern, name))
    }
}

/// Walks on from `cursor` through `slots`, looking at up to `options.count` keys (slots without keys cost a look at
/// a length). Returns where the walk goes on, `None` past the last key of `slots`, and the keys that were met.
/// To walk several runs of slots, perhaps of several groups, begin the next with [`Cursor::at_slot`] and the count
/// that is left: `options.count` is counted down.
pub fn scan(
    keys: &Keyspace,
    cursor: Cursor,
    slots: RangeInclusive<SlotId>,
    options: &mut ScanOptions,
) -> (Option<Cursor>, Vec<Key>) {
    let mut found = Vec::new();
    let mut at = if cursor.slot < *slots.start() { Cursor::at_slot(*slots.start()) } else { cursor };
    while at.slot <= *slots.end() {
        let slot = keys.slot(at.slot);
        let mut left = at.left.min(slot.len() as u64);
        while left > 0 {
            if options.count == 0 {
                return (Some(Cursor { slot: at.slot, left }), found);
            }
            options.count -= 1;
            left -= 1;
            if let Some((key, object)) = slot.at(left as usize)
                && keys.is_live(object)
                && options.matches(key)
                && options.type_name.as_ref().is_none_or(|name| name == object.value.type_name().as_bytes())
            {
                found.push(key.clone());
            }
        }
        if at.slot == SLOT_COUNT - 1 {
            break;
        }
        at = Cursor::at_slot(at.slot + 1);
    }
    (None, found)
}

/// The reply of SCAN.
pub fn scan_reply(cursor: Option<Cursor>, keys: &[Key]) -> Reply {
    let keys = keys.iter().map(Reply::bulk).collect();
    Reply::Array(vec![Reply::bulk(Cursor::wire(cursor).to_string()), Reply::Array(keys)])
}

/// SCAN over this group alone, as in a transaction.
fn scan_all(context: &mut ReadContext, args: Args) -> Outcome {
    let cursor = Cursor::parse(args.bytes(1))?;
    let mut options = ScanOptions::parse(args, 2, ScanOf::Keys)?;
    let (next, found) = scan(context.keys, cursor, 0..=SLOT_COUNT - 1, &mut options);
    Ok(scan_reply(next, &found))
}
