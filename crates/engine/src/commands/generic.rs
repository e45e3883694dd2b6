//! Keys of any type.

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Gather, Keys, Outcome, ReadContext, WriteContext};
use crate::error::CommandError;
use crate::events::EventClass;
use crate::glob;
use crate::reply::Reply;
use crate::slot::Object;
use crate::value::{Value, number};

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::write("copy", -3, Keys::TWO, copy).with(Flags::DENYOOM).doc(
        Chapter::Generic,
        "6.2.0",
        "O(N) worst case for collections, where N is the number of nested items. O(1) for string values.",
        "Copies the value of a key to a new key.",
    ),
    Command::write("del", -2, Keys::ALL, del).doc(
        Chapter::Generic,
        "1.0.0",
        "O(N) where N is the number of keys that will be removed. When a key to remove holds a value other than a string, the individual complexity for this key is O(M) where M is the number of elements in the list, set, sorted set or hash. Removing a single key that holds a string value is O(1).",
        "Deletes one or more keys.",
    ),
    Command::read("exists", -2, Keys::ALL, exists).with(Flags::FAST).doc(
        Chapter::Generic,
        "1.0.0",
        "O(N) where N is the number of keys to check.",
        "Determines whether one or more keys exist.",
    ),
    Command::read("keys", 2, Keys::NONE, keys).with(Flags::DANGEROUS).gathered(Gather::Concat).doc(
        Chapter::Generic,
        "1.0.0",
        "O(N) with N being the number of keys in the database, under the assumption that the key names in the database and the given pattern have limited length.",
        "Returns all key names that match a pattern.",
    ),
    Command {
        flags: Flags::WRITE.union(Flags::FAST),
        ..Command::read("move", 3, Keys::ONE, |_, _| {
            Err(CommandError::Text("ERR MOVE is not allowed in cluster mode"))
        })
    }
    .doc(Chapter::Generic, "1.0.0", "O(1)", "Moves a key to another database."),
    Command::read("randomkey", 1, Keys::NONE, randomkey).gathered(Gather::Draw).doc(
        Chapter::Generic,
        "1.0.0",
        "O(1)",
        "Returns a random key name from the database.",
    ),
    Command::write("rename", 3, Keys::TWO, rename).doc(
        Chapter::Generic,
        "1.0.0",
        "O(1)",
        "Renames a key and overwrites the destination.",
    ),
    Command::write("renamenx", 3, Keys::TWO, renamenx).with(Flags::FAST).doc(
        Chapter::Generic,
        "1.0.0",
        "O(1)",
        "Renames a key only when the target key name doesn't exist.",
    ),
    Command::read("touch", -2, Keys::ALL, exists).with(Flags::FAST).doc(
        Chapter::Generic,
        "3.2.1",
        "O(N) where N is the number of keys that will be touched.",
        "Returns the number of existing keys out of those specified after updating the time they were last accessed.",
    ),
    Command::read("type", 2, Keys::ONE, type_of).with(Flags::FAST).doc(
        Chapter::Generic,
        "1.0.0",
        "O(1)",
        "Determines the type of value stored at a key.",
    ),
    Command::write("unlink", -2, Keys::ALL, unlink).with(Flags::FAST).doc(
        Chapter::Generic,
        "4.0.0",
        "O(1) for each key removed regardless of its size. Then the command does O(N) work in a different thread in order to reclaim memory, where N is the number of allocations the deleted objects where composed of.",
        "Asynchronously deletes one or more keys.",
    ),
    Command::read("dbsize", 1, Keys::NONE, dbsize).with(Flags::FAST).gathered(Gather::Sum).doc(
        Chapter::Server,
        "1.0.0",
        "O(1)",
        "Returns the number of keys in the database.",
    ),
    Command::write("flushall", -1, Keys::NONE, flush).with(Flags::DANGEROUS).gathered(Gather::AllOk).doc(
        Chapter::Server,
        "1.0.0",
        "O(N) where N is the total number of keys in all databases",
        "Removes all keys from all databases.",
    ),
    Command::write("flushdb", -1, Keys::NONE, flush).with(Flags::DANGEROUS).gathered(Gather::AllOk).doc(
        Chapter::Server,
        "1.0.0",
        "O(N) where N is the number of keys in the selected database",
        "Remove all keys from the current database.",
    ),
    Command {
        flags: Flags::WRITE.union(Flags::FAST).union(Flags::DANGEROUS),
        ..Command::read("swapdb", 3, Keys::NONE, |_, _| {
            Err(CommandError::Text("ERR SWAPDB is not allowed in cluster mode"))
        })
    }
    .doc(
        Chapter::Server,
        "4.0.0",
        "O(N) where N is the count of clients watching or blocking on keys from both databases.",
        "Swaps two Redis databases.",
    ),
    Command::container("object", OBJECT).doc(
        Chapter::Generic,
        "2.2.3",
        "Depends on subcommand.",
        "A container for object introspection commands.",
    ),
];

const OBJECT: &[Command] = &[
    Command::read("encoding", 3, Keys::AFTER_SUBCOMMAND, object_encoding).doc(
        Chapter::Generic,
        "2.2.3",
        "O(1)",
        "Returns the internal encoding of a Redis object.",
    ),
    Command::read("freq", 3, Keys::AFTER_SUBCOMMAND, object_freq).doc(
        Chapter::Generic,
        "4.0.0",
        "O(1)",
        "Returns the logarithmic access frequency counter of a Redis object.",
    ),
    Command {
        flags: Flags::LOADING.union(Flags::STALE),
        ..Command::read("help", 2, Keys::NONE, object_help)
    }
    .doc(Chapter::Generic, "6.2.0", "O(1)", "Returns helpful text about the different subcommands."),
    Command::read("idletime", 3, Keys::AFTER_SUBCOMMAND, object_idletime).doc(
        Chapter::Generic,
        "2.2.3",
        "O(1)",
        "Returns the time since the last access to a Redis object.",
    ),
    Command::read("refcount", 3, Keys::AFTER_SUBCOMMAND, object_refcount).doc(
        Chapter::Generic,
        "2.2.3",
        "O(1)",
        "Returns the reference count of a value of a key.",
    ),
];

fn del(context: &mut WriteContext, args: Args) -> Outcome {
    let mut removed = 0;
    for key in args.from(1) {
        if context.keys.discard(key) {
            context.keys.notify(EventClass::GENERIC, "del", key);
            removed += 1;
        }
    }
    Ok(Reply::count(removed))
}

fn unlink(context: &mut WriteContext, args: Args) -> Outcome {
    let mut removed = 0;
    for key in args.from(1) {
        if context.keys.unlink(key) {
            context.keys.notify(EventClass::GENERIC, "del", key);
            removed += 1;
        }
    }
    Ok(Reply::count(removed))
}

fn exists(context: &mut ReadContext, args: Args) -> Outcome {
    Ok(Reply::count(args.from(1).iter().filter(|key| context.keys.contains(key)).count()))
}

fn type_of(context: &mut ReadContext, args: Args) -> Outcome {
    Ok(Reply::Simple(context.keys.get(args.bytes(1)).map_or("none", |object| object.value.type_name())))
}

fn rename(context: &mut WriteContext, args: Args) -> Outcome {
    let (from, to) = (args.bytes(1), args.bytes(2));
    let there = if from == to { context.keys.contains(from) } else { moved(context, from, to) };
    if there { Ok(Reply::OK) } else { Err(CommandError::NoSuchKey) }
}

fn renamenx(context: &mut WriteContext, args: Args) -> Outcome {
    let (from, to) = (args.bytes(1), args.bytes(2));
    if !context.keys.contains(from) {
        return Err(CommandError::NoSuchKey);
    }
    Ok(Reply::flag(!context.keys.contains(to) && moved(context, from, to)))
}

/// Renames a key, and tells of it. Whether it was there.
fn moved(context: &mut WriteContext, from: &[u8], to: &[u8]) -> bool {
    let there = context.keys.rename(from, to);
    if there {
        context.keys.notify(EventClass::GENERIC, "rename_from", from);
        context.keys.notify(EventClass::GENERIC, "rename_to", to);
    }
    there
}

fn copy(context: &mut WriteContext, args: Args) -> Outcome {
    let (from, to) = (args.bytes(1), args.bytes(2));
    let (mut replace, mut db) = (false, 0);
    let mut i = 3;
    while i < args.len() {
        if args.is(i, "replace") {
            replace = true;
            i += 1;
        } else if args.is(i, "db") && i + 1 < args.len() {
            db = database(args, i + 1)?;
            i += 2;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if db != 0 {
        return Err(CommandError::Text("ERR Copying to another database is not allowed in cluster mode"));
    }
    if from == to {
        return Err(CommandError::SameObject);
    }
    let Some(Object { value, expire_ms, .. }) = context.keys.get(from).cloned() else {
        return Ok(Reply::flag(false));
    };
    if !replace && context.keys.contains(to) {
        return Ok(Reply::flag(false));
    }
    context.keys.set(to, value, expire_ms);
    context.keys.notify(EventClass::GENERIC, "copy_to", to);
    Ok(Reply::flag(true))
}

/// A database's number, among as many as Redis has unless it is told otherwise.
fn database(args: Args, i: usize) -> Result<i32, CommandError> {
    const DATABASES: i32 = 16;
    match int32(args, i)? {
        db @ 0..DATABASES => Ok(db),
        _ => Err(CommandError::DbIndex),
    }
}

fn int32(args: Args, i: usize) -> Result<i32, CommandError> {
    i32::try_from(args.int(i)?).map_err(|_| {
        CommandError::Text("ERR value is out of range, value must between -2147483648 and 2147483647")
    })
}

/// SELECT, which a session and a script may call: a cluster has one database.
pub fn select(args: Args) -> Outcome {
    match int32(args, 1)? {
        0 => Ok(Reply::OK),
        _ => Err(CommandError::Text("ERR SELECT is not allowed in cluster mode")),
    }
}

fn keys(context: &mut ReadContext, args: Args) -> Outcome {
    let pattern = args.bytes(1);
    let all = pattern.as_ref() == b"*";
    let matching = context.keys.iter().filter(|(key, _)| all || glob::matches(pattern, key));
    Ok(Reply::Array(matching.map(|(key, _)| Reply::bulk(key)).collect()))
}

/// Draws uniformly; keys that are due but not removed are drawn again, and if they are nearly all there is, the
/// first key that is left is as good as any.
fn randomkey(context: &mut ReadContext, _: Args) -> Outcome {
    const DRAWS: usize = 100;
    for _ in 0..DRAWS {
        if context.keys.is_empty() {
            return Ok(Reply::Null);
        }
        let n = context.rng.below(context.keys.len());
        if let Some((key, Some(_))) = context.keys.nth(n) {
            return Ok(Reply::bulk(key));
        }
    }
    Ok(context.keys.iter().next().map_or(Reply::Null, |(key, _)| Reply::bulk(key)))
}

fn dbsize(context: &mut ReadContext, _: Args) -> Outcome {
    Ok(Reply::count(context.keys.len()))
}

/// FLUSHALL and FLUSHDB: there is one database. ASYNC and SYNC only tell Redis which thread frees memory.
fn flush(context: &mut WriteContext, args: Args) -> Outcome {
    let understood = match args.len() {
        1 => true,
        2 => args.is(1, "async") || args.is(1, "sync"),
        _ => false,
    };
    if !understood {
        return Err(CommandError::Syntax);
    }
    context.keys.clear(args.len() == 2 && args.is(1, "async"));
    Ok(Reply::OK)
}

fn object_encoding(context: &mut ReadContext, args: Args) -> Outcome {
    let object = context.keys.get(args.bytes(2));
    Ok(object.map_or(Reply::Null, |object| Reply::bulk(object.value.encoding())))
}

/// Values are not shared between keys; small numbers take no allocation that could be, which Redis tells by this figure.
fn object_refcount(context: &mut ReadContext, args: Args) -> Outcome {
    const SHARED_INTEGERS: i64 = 10_000;
    const SHARED: i64 = i32::MAX as i64;
    Ok(match context.keys.get(args.bytes(2)).map(|object| &object.value) {
        None => Reply::Null,
        Some(Value::String(string)) => match number::parse_int(string.as_bytes()) {
            Some(0..SHARED_INTEGERS) => Reply::Int(SHARED),
            _ => Reply::Int(1),
        },
        Some(_) => Reply::Int(1),
    })
}

/// Access times are not part of the replicated state: whoever asks has just accessed the key.
fn object_idletime(context: &mut ReadContext, args: Args) -> Outcome {
    Ok(context.keys.get(args.bytes(2)).map_or(Reply::Null, |_| Reply::Int(0)))
}

fn object_freq(context: &mut ReadContext, args: Args) -> Outcome {
    match context.keys.get(args.bytes(2)) {
        None => Ok(Reply::Null),
        Some(_) => Err(CommandError::Text(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
             switching between policies at runtime LRU and LFU data will take some time to adjust.",
        )),
    }
}

fn object_help(_: &mut ReadContext, _: Args) -> Outcome {
    const LINES: &[&str] = &[
        "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "ENCODING <key>",
        "    Return the kind of internal representation used in order to store the value",
        "    associated with a <key>.",
        "FREQ <key>",
        "    Return the access frequency index of the <key>. The returned integer is",
        "    proportional to the logarithm of the recent access frequency of the key.",
        "IDLETIME <key>",
        "    Return the idle time of the <key>, that is the approximated number of",
        "    seconds elapsed since the last access to the key.",
        "REFCOUNT <key>",
        "    Return the number of references of the value associated with the specified",
        "    <key>.",
        "HELP",
        "    Prints this help.",
    ];
    Ok(Reply::Array(LINES.iter().copied().map(Reply::Simple).collect()))
}
