//! When keys expire. Deadlines are kept in milliseconds since the Unix epoch whatever the command's unit.

use bytes::Bytes;

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, Outcome, ReadContext, WriteContext};
use crate::error::CommandError;
use crate::events::EventClass;
use crate::keyspace::Keyspace;
use crate::reply::Reply;
use crate::slot::NEVER;

/// The rows.
pub const COMMANDS: &[Command] = &[
    setter("expire", "1.0.0", "Sets the expiration time of a key in seconds.", |context, args| {
        expire(context, args, "expire", SECOND, Base::Now)
    }),
    setter("expireat", "1.2.0", "Sets the expiration time of a key to a Unix timestamp.", |context, args| {
        expire(context, args, "expireat", SECOND, Base::Epoch)
    }),
    getter(
        "expiretime",
        "7.0.0",
        "Returns the expiration time of a key as a Unix timestamp.",
        |context, args| remaining(context, args, SECOND, Base::Epoch),
    ),
    Command::write("persist", 2, Keys::ONE, persist).with(Flags::FAST).doc(
        Chapter::Generic,
        "2.2.0",
        "O(1)",
        "Removes the expiration time of a key.",
    ),
    setter("pexpire", "2.6.0", "Sets the expiration time of a key in milliseconds.", |context, args| {
        expire(context, args, "pexpire", MILLISECOND, Base::Now)
    }),
    setter(
        "pexpireat",
        "2.6.0",
        "Sets the expiration time of a key to a Unix milliseconds timestamp.",
        |context, args| expire(context, args, "pexpireat", MILLISECOND, Base::Epoch),
    ),
    getter(
        "pexpiretime",
        "7.0.0",
        "Returns the expiration time of a key as a Unix milliseconds timestamp.",
        |context, args| remaining(context, args, MILLISECOND, Base::Epoch),
    ),
    getter("pttl", "2.6.0", "Returns the expiration time in milliseconds of a key.", |context, args| {
        remaining(context, args, MILLISECOND, Base::Now)
    }),
    getter("ttl", "1.0.0", "Returns the expiration time in seconds of a key.", |context, args| {
        remaining(context, args, SECOND, Base::Now)
    }),
];

const fn setter(
    name: &'static str,
    since: &'static str,
    summary: &'static str,
    run: fn(&mut WriteContext, Args) -> Outcome,
) -> Command {
    Command::write(name, -3, Keys::ONE, run).with(Flags::FAST).doc(Chapter::Generic, since, "O(1)", summary)
}

const fn getter(
    name: &'static str,
    since: &'static str,
    summary: &'static str,
    run: fn(&mut ReadContext, Args) -> Outcome,
) -> Command {
    Command::read(name, 2, Keys::ONE, run).with(Flags::FAST).doc(Chapter::Generic, since, "O(1)", summary)
}

/// A unit of time, in milliseconds.
pub(crate) const SECOND: i64 = 1000;
pub(crate) const MILLISECOND: i64 = 1;

/// What a time in a command or reply counts from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// The machine's clock.
    Now,
    /// The Unix epoch.
    Epoch,
}

impl Base {
    pub(crate) fn ms(self, now_ms: u64) -> i64 {
        match self {
            Base::Now => now_ms as i64,
            Base::Epoch => 0,
        }
    }
}

/// `time` in `unit` from `base`, in milliseconds since the Unix epoch (before it: negative); `None` if it
/// overflows.
pub(crate) fn deadline(time: i64, unit: i64, base: Base, now_ms: u64) -> Option<i64> {
    time.checked_mul(unit)?.checked_add(base.ms(now_ms))
}

/// When a deadline may be moved: EXPIRE's and HEXPIRE's options.
#[derive(Clone, Copy, Default)]
pub(crate) struct Conditions {
    /// Only if there is none.
    pub(crate) nx: bool,
    /// Only if there is one.
    pub(crate) xx: bool,
    /// Only to a later time; none is the latest.
    pub(crate) gt: bool,
    /// Only to an earlier time.
    pub(crate) lt: bool,
}

impl Conditions {
    /// Whether a deadline may move from `current` ([`NEVER`]: none) to `new`.
    pub(crate) fn allow(self, current: u64, new: i64) -> bool {
        let current = (current != NEVER).then_some(current as i64);
        !(self.nx && current.is_some()
            || self.xx && current.is_none()
            || self.gt && current.is_none_or(|at| new <= at)
            || self.lt && current.is_some_and(|at| new >= at))
    }

    fn parse(words: &[Bytes]) -> Result<Conditions, CommandError> {
        let mut conditions = Conditions::default();
        for word in words {
            match word.to_ascii_lowercase().as_slice() {
                b"nx" => conditions.nx = true,
                b"xx" => conditions.xx = true,
                b"gt" => conditions.gt = true,
                b"lt" => conditions.lt = true,
                _ => {
                    let shown = String::from_utf8_lossy(word);
                    let shown = shown.trim_end_matches(['\r', '\n']).replace(['\r', '\n'], " ");
                    return Err(CommandError::UnsupportedOption(shown));
                }
            }
        }
        if conditions.nx && (conditions.xx || conditions.gt || conditions.lt) {
            return Err(CommandError::ExpireNxWithOther);
        }
        if conditions.gt && conditions.lt {
            return Err(CommandError::ExpireGtWithLt);
        }
        Ok(conditions)
    }
}

fn expire(context: &mut WriteContext, args: Args, name: &'static str, unit: i64, base: Base) -> Outcome {
    let key = args.bytes(1);
    let conditions = Conditions::parse(args.from(3))?;
    let now_ms = context.keys.now_ms();
    let at = deadline(args.int(2)?, unit, base, now_ms).ok_or(CommandError::InvalidExpire(name))?;
    let Some(current) = context.keys.get(key).map(|object| object.expire_ms) else {
        return Ok(Reply::flag(false));
    };
    if !conditions.allow(current, at) {
        return Ok(Reply::flag(false));
    }
    set_deadline(context.keys, key, at.max(0) as u64);
    let event = if at <= now_ms as i64 { "del" } else { "expire" };
    context.keys.notify(EventClass::GENERIC, event, key);
    Ok(Reply::flag(true))
}

/// Gives the key that the caller has found a deadline. One that has come, even before 1970, removes it at once, though a key
/// that has its deadline already is there until that is over.
pub(crate) fn set_deadline(keys: &mut Keyspace, key: &[u8], at: u64) {
    if at <= keys.now_ms() {
        keys.discard(key);
    } else {
        keys.update(key, |object| object.expire_ms = at);
    }
}

fn persist(context: &mut WriteContext, args: Args) -> Outcome {
    let key = args.bytes(1);
    if context.keys.get(key).is_none_or(|object| object.expire_ms == NEVER) {
        return Ok(Reply::flag(false));
    }
    context.keys.update(key, |object| object.expire_ms = NEVER);
    context.keys.notify(EventClass::GENERIC, "persist", key);
    Ok(Reply::flag(true))
}

/// The TTL family: -2 without the key, -1 without a deadline; seconds are rounded to the nearest.
fn remaining(context: &mut ReadContext, args: Args, unit: i64, base: Base) -> Outcome {
    let left = match context.keys.get(args.bytes(1)).map(|object| object.expire_ms) {
        None => -2,
        Some(NEVER) => -1,
        Some(at) => {
            let left_ms = at.saturating_sub(base.ms(context.now_ms) as u64);
            let unit = unit as u64;
            (left_ms.saturating_add(unit / 2) / unit) as i64
        }
    };
    Ok(Reply::Int(left))
}
