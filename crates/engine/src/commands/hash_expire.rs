//! When a hash's fields expire (Redis 7.4), and the commands that read or write fields and their expiry at once
//! (Redis 8.0).

use bytes::Bytes;

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, Outcome, ReadContext, WriteContext};
use crate::commands::expire::{Base, Conditions, MILLISECOND, SECOND, deadline};
use crate::commands::hash::{notify_removed, values};
use crate::error::CommandError;
use crate::events::EventClass;
use crate::keyspace::Edit;
use crate::reply::Reply;
use crate::slot::NEVER;
use crate::value::HashValue;
use crate::value::hash::MAX_FIELD_DEADLINE_MS;

const PER_FIELD: &str = "O(N) where N is the number of specified fields";

/// The rows.
pub const COMMANDS: &[Command] = &[
    setter(
        "hexpire",
        "Set expiry for hash field using relative time to expire (seconds)",
        |context, args| expire(context, args, "hexpire", SECOND, Base::Now),
    ),
    setter(
        "hexpireat",
        "Set expiry for hash field using an absolute Unix timestamp (seconds)",
        |context, args| expire(context, args, "hexpireat", SECOND, Base::Epoch),
    ),
    getter(
        "hexpiretime",
        "Returns the expiration time of a hash field as a Unix timestamp, in seconds.",
        |context, args| remaining(context, args, SECOND, Base::Epoch),
    ),
    Command::write("hgetdel", -5, Keys::ONE, hgetdel).with(Flags::FAST).doc(
        Chapter::Hash,
        "8.0.0",
        PER_FIELD,
        "Returns the value of a field and deletes it from the hash.",
    ),
    Command::write("hgetex", -5, Keys::ONE, hgetex).with(Flags::FAST).doc(
        Chapter::Hash,
        "8.0.0",
        PER_FIELD,
        "Get the value of one or more fields of a given hash key, and optionally set their expiration.",
    ),
    Command::write("hpersist", -5, Keys::ONE, hpersist).with(Flags::FAST).doc(
        Chapter::Hash,
        "7.4.0",
        PER_FIELD,
        "Removes the expiration time for each specified field",
    ),
    setter(
        "hpexpire",
        "Set expiry for hash field using relative time to expire (milliseconds)",
        |context, args| expire(context, args, "hpexpire", MILLISECOND, Base::Now),
    ),
    setter(
        "hpexpireat",
        "Set expiry for hash field using an absolute Unix timestamp (milliseconds)",
        |context, args| expire(context, args, "hpexpireat", MILLISECOND, Base::Epoch),
    ),
    getter(
        "hpexpiretime",
        "Returns the expiration time of a hash field as a Unix timestamp, in msec.",
        |context, args| remaining(context, args, MILLISECOND, Base::Epoch),
    ),
    getter("hpttl", "Returns the TTL in milliseconds of a hash field.", |context, args| {
        remaining(context, args, MILLISECOND, Base::Now)
    }),
    Command::write("hsetex", -6, Keys::ONE, hsetex).with(Flags::DENYOOM.union(Flags::FAST)).doc(
        Chapter::Hash,
        "8.0.0",
        "O(N) where N is the number of fields being set.",
        "Set the value of one or more fields of a given hash key, and optionally set their expiration.",
    ),
    getter("httl", "Returns the TTL in seconds of a hash field.", |context, args| {
        remaining(context, args, SECOND, Base::Now)
    }),
];

const fn setter(
    name: &'static str,
    summary: &'static str,
    run: fn(&mut WriteContext, Args) -> Outcome,
) -> Command {
    let flags = Flags::DENYOOM.union(Flags::FAST);
    Command::write(name, -6, Keys::ONE, run).with(flags).doc(Chapter::Hash, "7.4.0", PER_FIELD, summary)
}

const fn getter(
    name: &'static str,
    summary: &'static str,
    run: fn(&mut ReadContext, Args) -> Outcome,
) -> Command {
    Command::read(name, -5, Keys::ONE, run).with(Flags::FAST).doc(Chapter::Hash, "7.4.0", PER_FIELD, summary)
}

/// What these commands answer for a field.
mod answer {
    pub const NO_FIELD: i64 = -2;
    pub const NO_DEADLINE: i64 = -1;
    pub const NOT_MET: i64 = 0;
    pub const DONE: i64 = 1;
    pub const DELETED: i64 = 2;
}

const NUMBER_OF_FIELDS: CommandError = CommandError::Text("ERR Number of fields must be a positive integer");

/// The fields of `… FIELDS n field …`, of which `FIELDS` must be word `at`, each `words` words long.
fn fields<'a>(
    args: Args<'a>,
    at: usize,
    words: usize,
    bad_number: CommandError,
) -> Result<&'a [Bytes], CommandError> {
    if !args.is(at, "fields") {
        return Err(CommandError::Text(
            "ERR Mandatory argument FIELDS is missing or not at the right position",
        ));
    }
    let number = args.int(at + 1).ok().and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
    let fields = args.from(at + 2);
    if number.ok_or(bad_number)?.checked_mul(words) != Some(fields.len()) {
        return Err(CommandError::Text("ERR The `numfields` parameter must match the number of arguments"));
    }
    Ok(fields)
}

/// Word `i` as a field's deadline, in milliseconds since the Unix epoch.
fn field_deadline(
    args: Args,
    i: usize,
    name: &'static str,
    unit: i64,
    base: Base,
    now_ms: u64,
) -> Result<u64, CommandError> {
    let time = args.int(i)?;
    if time < 0 {
        return Err(CommandError::Text("ERR invalid expire time, must be >= 0"));
    }
    let at = deadline(time, unit, base, now_ms).and_then(|at| u64::try_from(at).ok());
    at.filter(|&at| at <= MAX_FIELD_DEADLINE_MS).ok_or(CommandError::InvalidExpire(name))
}

/// One integer for each field.
fn ints(answers: impl Iterator<Item = i64>) -> Reply {
    Reply::Array(answers.map(Reply::Int).collect())
}

fn expire(context: &mut WriteContext, args: Args, name: &'static str, unit: i64, base: Base) -> Outcome {
    let now_ms = context.keys.now_ms();
    context.keys.hash(args.bytes(1))?;
    let at = field_deadline(args, 2, name, unit, base, now_ms)?;
    let mut conditions = Conditions::default();
    let mut fields_at = 4;
    match args.bytes(3).to_ascii_lowercase().as_slice() {
        b"nx" => conditions.nx = true,
        b"xx" => conditions.xx = true,
        b"gt" => conditions.gt = true,
        b"lt" => conditions.lt = true,
        _ => fields_at = 3,
    }
    let bad_number = CommandError::Text("ERR Parameter `numFields` should be greater than 0");
    let names = fields(args, fields_at, 1, bad_number)?;
    let answers = context.keys.edit_existing(args.bytes(1), |hash: &mut HashValue| {
        let answers: Vec<i64> =
            names.iter().map(|name| expire_field(hash, name, at, conditions, now_ms)).collect();
        let changed = answers.iter().any(|&answer| answer > answer::NOT_MET);
        Edit::new(answers, changed)
    })?;
    let answers = answers.unwrap_or_else(|| vec![answer::NO_FIELD; names.len()]);
    if answers.contains(&answer::DONE) {
        context.keys.notify(EventClass::HASH, "hexpire", args.bytes(1));
    }
    if answers.contains(&answer::DELETED) {
        notify_removed(context, args.bytes(1), "hdel");
    }
    Ok(ints(answers.into_iter()))
}

fn expire_field(hash: &mut HashValue, name: &[u8], at: u64, conditions: Conditions, now_ms: u64) -> i64 {
    match hash.get(name, now_ms).map(|field| field.expire_ms) {
        None => answer::NO_FIELD,
        Some(current) if !conditions.allow(current, at as i64) => answer::NOT_MET,
        Some(_) if set_deadline(hash, name, at, now_ms) => answer::DONE,
        Some(_) => answer::DELETED,
    }
}

/// Gives a field a deadline; removes it if that has passed. Whether the field is still there.
fn set_deadline(hash: &mut HashValue, name: &[u8], at: u64, now_ms: u64) -> bool {
    if at <= now_ms {
        hash.remove(name, now_ms);
        return false;
    }
    hash.set_deadline(name, at);
    true
}

/// The HTTL family; seconds are rounded up.
fn remaining(context: &mut ReadContext, args: Args, unit: i64, base: Base) -> Outcome {
    let hash = context.keys.hash(args.bytes(1))?;
    let names = fields(args, 2, 1, NUMBER_OF_FIELDS)?;
    let (clock, now_ms) = (context.keys.now_ms(), context.now_ms);
    let left = |name: &Bytes| match hash.and_then(|hash| hash.get(name, clock)).map(|field| field.expire_ms) {
        None => answer::NO_FIELD,
        Some(NEVER) => answer::NO_DEADLINE,
        Some(at) => ((at as i64 - base.ms(now_ms)).max(0) + unit - 1) / unit,
    };
    Ok(ints(names.iter().map(left)))
}

fn hpersist(context: &mut WriteContext, args: Args) -> Outcome {
    context.keys.hash(args.bytes(1))?;
    let names = fields(args, 2, 1, NUMBER_OF_FIELDS)?;
    let now_ms = context.keys.now_ms();
    let answers = context.keys.edit_existing(args.bytes(1), |hash: &mut HashValue| {
        let mut persist = |name: &Bytes| match hash.get(name, now_ms).map(|field| field.expire_ms) {
            None => answer::NO_FIELD,
            Some(NEVER) => answer::NO_DEADLINE,
            Some(_) => {
                hash.set_deadline(name, NEVER);
                answer::DONE
            }
        };
        let answers: Vec<i64> = names.iter().map(&mut persist).collect();
        let changed = answers.contains(&answer::DONE);
        Edit::new(answers, changed)
    })?;
    let answers = answers.unwrap_or_else(|| vec![answer::NO_FIELD; names.len()]);
    if answers.contains(&answer::DONE) {
        context.keys.notify(EventClass::HASH, "hpersist", args.bytes(1));
    }
    Ok(ints(answers.into_iter()))
}

fn hgetdel(context: &mut WriteContext, args: Args) -> Outcome {
    context.keys.hash(args.bytes(1))?;
    let names = fields(args, 2, 1, NUMBER_OF_FIELDS)?;
    let now_ms = context.keys.now_ms();
    let got = context.keys.edit_existing(args.bytes(1), |hash: &mut HashValue| {
        let got = values(Some(hash), names, now_ms);
        let removed = names.iter().filter(|name| hash.remove(name, now_ms)).count();
        Edit::new((got, removed), removed > 0)
    })?;
    let (got, removed) = got.unwrap_or_else(|| (values(None, names, now_ms), 0));
    if removed > 0 {
        notify_removed(context, args.bytes(1), "hdel");
    }
    Ok(got)
}

/// What HGETEX and HSETEX do with the deadlines of their fields.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expiry {
    /// HGETEX leaves them, HSETEX clears them.
    Default,
    /// HGETEX PERSIST.
    Persist,
    /// HSETEX KEEPTTL.
    Keep,
    /// EX, PX, EXAT, PXAT: a deadline in milliseconds since the Unix epoch.
    At(u64),
}

/// The options of HGETEX and HSETEX.
struct Options {
    expiry: Expiry,
    only_new: bool,
    only_there: bool,
    /// Which word is FIELDS.
    fields_at: usize,
}

impl Options {
    fn parse(args: Args, name: &'static str, now_ms: u64) -> Result<Options, CommandError> {
        let sets = name == "hsetex";
        let mut options =
            Options { expiry: Expiry::Default, only_new: false, only_there: false, fields_at: args.len() };
        let mut i = 2;
        while i < args.len() {
            let at = |unit, base| -> Result<Expiry, CommandError> {
                if i + 1 == args.len() {
                    return Err(CommandError::Syntax);
                }
                field_deadline(args, i + 1, name, unit, base, now_ms).map(Expiry::At)
            };
            let expiry = match args.bytes(i).to_ascii_lowercase().as_slice() {
                b"fields" => {
                    options.fields_at = i;
                    break;
                }
                b"fnx" if sets => {
                    options.only_new = true;
                    None
                }
                b"fxx" if sets => {
                    options.only_there = true;
                    None
                }
                b"ex" => Some(at(SECOND, Base::Now)?),
                b"px" => Some(at(MILLISECOND, Base::Now)?),
                b"exat" => Some(at(SECOND, Base::Epoch)?),
                b"pxat" => Some(at(MILLISECOND, Base::Epoch)?),
                b"persist" if !sets => Some(Expiry::Persist),
                b"keepttl" if sets => Some(Expiry::Keep),
                _ => {
                    let shown = String::from_utf8_lossy(args.bytes(i)).replace(['\r', '\n'], " ");
                    return Err(CommandError::Message(format!("ERR unknown argument: {shown}")));
                }
            };
            i += if matches!(expiry, Some(Expiry::At(_))) { 2 } else { 1 };
            options.merge(expiry, sets)?;
        }
        Ok(options)
    }

    fn merge(&mut self, expiry: Option<Expiry>, sets: bool) -> Result<(), CommandError> {
        if self.only_new && self.only_there {
            return Err(CommandError::Text("ERR Only one of FXX or FNX arguments can be specified"));
        }
        match expiry {
            Some(_) if self.expiry != Expiry::Default => Err(CommandError::Text(if sets {
                "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified"
            } else {
                "ERR Only one of EX, PX, EXAT, PXAT or PERSIST arguments can be specified"
            })),
            Some(expiry) => {
                self.expiry = expiry;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn hgetex(context: &mut WriteContext, args: Args) -> Outcome {
    let now_ms = context.keys.now_ms();
    context.keys.hash(args.bytes(1))?;
    let options = Options::parse(args, "hgetex", now_ms)?;
    let names = fields(args, options.fields_at, 1, NUMBER_OF_FIELDS)?;
    let got = context.keys.edit_existing(args.bytes(1), |hash: &mut HashValue| {
        let got = values(Some(hash), names, now_ms);
        let mut changed = false;
        for name in names {
            let Some(before) = hash.get(name, now_ms).map(|field| field.expire_ms) else { continue };
            match options.expiry {
                Expiry::At(at) => {
                    set_deadline(hash, name, at, now_ms);
                    changed = true;
                }
                Expiry::Persist if before != NEVER => {
                    hash.set_deadline(name, NEVER);
                    changed = true;
                }
                Expiry::Persist | Expiry::Keep | Expiry::Default => {}
            }
        }
        Edit::new((got, changed), changed)
    })?;
    let (got, changed) = got.unwrap_or_else(|| (values(None, names, now_ms), false));
    match options.expiry {
        _ if !changed => {}
        Expiry::At(at) if at <= now_ms => notify_removed(context, args.bytes(1), "hdel"),
        Expiry::At(_) => context.keys.notify(EventClass::HASH, "hexpire", args.bytes(1)),
        _ => context.keys.notify(EventClass::HASH, "hpersist", args.bytes(1)),
    }
    Ok(got)
}

fn hsetex(context: &mut WriteContext, args: Args) -> Outcome {
    let (now_ms, bounds) = (context.keys.now_ms(), *context.keys.bounds());
    context.keys.hash(args.bytes(1))?;
    let options = Options::parse(args, "hsetex", now_ms)?;
    let (pairs, _) = fields(args, options.fields_at, 2, NUMBER_OF_FIELDS)?.as_chunks::<2>();
    let (done, changed) = context.keys.edit(args.bytes(1), |hash: &mut HashValue| {
        let there = pairs.iter().filter(|[name, _]| hash.get(name, now_ms).is_some()).count();
        if options.only_new && there > 0 || options.only_there && there < pairs.len() {
            return Edit::unchanged((false, false));
        }
        let mut changed = false;
        // Which is a change even if the field held the same.
        let put = |hash: &mut HashValue, name: &[u8], value: &[u8], expire_ms| {
            hash.put(name, value, expire_ms, now_ms, &bounds);
            true
        };
        for [name, value] in pairs {
            let before = hash.get(name, now_ms).map_or(NEVER, |field| field.expire_ms);
            changed |= match options.expiry {
                Expiry::At(at) if at <= now_ms => hash.remove(name, now_ms),
                Expiry::At(at) => put(hash, name, value, at),
                Expiry::Keep => put(hash, name, value, before),
                Expiry::Default | Expiry::Persist => put(hash, name, value, NEVER),
            };
        }
        Edit::new((true, changed), changed)
    })?;
    match options.expiry {
        _ if !changed => {}
        Expiry::At(at) if at <= now_ms => notify_removed(context, args.bytes(1), "hdel"),
        Expiry::At(_) => {
            context.keys.notify(EventClass::HASH, "hset", args.bytes(1));
            context.keys.notify(EventClass::HASH, "hexpire", args.bytes(1));
        }
        _ => context.keys.notify(EventClass::HASH, "hset", args.bytes(1)),
    }
    Ok(Reply::flag(done))
}
