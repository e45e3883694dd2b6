//! Consumer groups: XGROUP. `stream_pending` has the commands for what was delivered and is not acknowledged.
//!
//! What only a group's own bookkeeping shows does not count as a change of the key, as in Redis: an acknowledgement
//! neither fails a WATCH nor wakes those who wait for entries.

use bytes::Bytes;

use super::stream::{parse_id, parse_id_or_edge};
use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, Outcome, ReadContext, WriteContext};
use crate::error::CommandError;
use crate::events::EventClass;
use crate::keyspace::Edit;
use crate::reply::Reply;
use crate::value::StreamValue;
use crate::value::stream::{Group, StreamId};

/// The rows.
pub const COMMANDS: &[Command] = &[Command::container("xgroup", XGROUP).doc(
    Chapter::Stream,
    "5.0.0",
    "Depends on subcommand.",
    "A container for consumer groups commands.",
)];

const XGROUP: &[Command] =
    &[
        Command::write("create", -5, Keys::AFTER_SUBCOMMAND, create).with(Flags::DENYOOM).doc(
            Chapter::Stream,
            "5.0.0",
            "O(1)",
            "Creates a consumer group.",
        ),
        Command::write("createconsumer", 5, Keys::AFTER_SUBCOMMAND, create_consumer)
            .with(Flags::DENYOOM)
            .doc(Chapter::Stream, "6.2.0", "O(1)", "Creates a consumer in a consumer group."),
        Command::write("delconsumer", 5, Keys::AFTER_SUBCOMMAND, del_consumer).doc(
            Chapter::Stream,
            "5.0.0",
            "O(1)",
            "Deletes a consumer from a consumer group.",
        ),
        Command::write("destroy", 4, Keys::AFTER_SUBCOMMAND, destroy).doc(
            Chapter::Stream,
            "5.0.0",
            "O(N) where N is the number of entries in the group's pending entries list (PEL).",
            "Destroys a consumer group.",
        ),
        Command { flags: Flags::LOADING.union(Flags::STALE), ..Command::read("help", 2, Keys::NONE, help) }
            .doc(Chapter::Stream, "5.0.0", "O(1)", "Returns helpful text about the different subcommands."),
        Command::write("setid", -5, Keys::AFTER_SUBCOMMAND, set_id).doc(
            Chapter::Stream,
            "5.0.0",
            "O(1)",
            "Sets the last-delivered ID of a consumer group.",
        ),
    ];

fn create(context: &mut WriteContext, args: Args) -> Outcome {
    const MOST_WORDS: usize = 8;
    let (key, name) = (args.bytes(2), args.bytes(3));
    let options = Options::parse(args, true)?;
    let stream = context.keys.collection::<StreamValue>(key)?;
    if stream.is_none() && !options.make_stream {
        return Err(NO_KEY);
    }
    if args.len() > MOST_WORDS {
        return Err(wrong_subcommand(args));
    }
    let last_id = match args.bytes(4).as_ref() {
        b"$" => stream.map_or(StreamId::MIN, |stream| stream.counters().last_id),
        word => parse_id(word, 0)?,
    };
    if stream.is_some_and(|stream| stream.group(name).is_some()) {
        return Err(CommandError::Text("BUSYGROUP Consumer Group name already exists"));
    }
    let is_new = stream.is_none();
    context.keys.edit(key, |stream: &mut StreamValue| {
        stream.create_group(name, Group::new(last_id, options.entries_read));
        if is_new { Edit::changed(()) } else { Edit::unseen(()) }
    })?;
    context.keys.notify(EventClass::STREAM, "xgroup-create", key);
    Ok(Reply::OK)
}

fn set_id(context: &mut WriteContext, args: Args) -> Outcome {
    let options = Options::parse(args, false)?;
    let last_id_of = |stream: &StreamValue| stream.counters().last_id;
    let stream_last_id = context.keys.collection::<StreamValue>(args.bytes(2))?.map(last_id_of);
    require_group(context, args)?;
    if args.len() != 5 && args.len() != 7 {
        return Err(wrong_subcommand(args));
    }
    let last_id = match args.bytes(4).as_ref() {
        b"$" => stream_last_id.unwrap_or_default(),
        word => parse_id_or_edge(word, 0)?,
    };
    edit_group(context, args, |group| {
        group.last_id = last_id;
        group.entries_read = options.entries_read;
    })?;
    context.keys.notify(EventClass::STREAM, "xgroup-setid", args.bytes(2));
    Ok(Reply::OK)
}

/// Also wakes whoever waits for the group: it has no more to wait for.
fn destroy(context: &mut WriteContext, args: Args) -> Outcome {
    let (key, name) = (args.bytes(2), args.bytes(3));
    let removed = context.keys.edit_existing(key, |stream: &mut StreamValue| {
        let removed = stream.remove_group(name);
        Edit::new(removed, removed)
    })?;
    let removed = removed.ok_or(NO_KEY)?;
    if removed {
        context.keys.notify(EventClass::STREAM, "xgroup-destroy", key);
    }
    Ok(Reply::flag(removed))
}

fn create_consumer(context: &mut WriteContext, args: Args) -> Outcome {
    require_group(context, args)?;
    let now_ms = context.keys.now_ms();
    let created = edit_group(context, args, |group| group.create_consumer(args.bytes(4), now_ms))?;
    if created == Some(true) {
        context.keys.notify(EventClass::STREAM, "xgroup-createconsumer", args.bytes(2));
    }
    Ok(Reply::flag(created == Some(true)))
}

fn del_consumer(context: &mut WriteContext, args: Args) -> Outcome {
    require_group(context, args)?;
    let removed = edit_group(context, args, |group| group.remove_consumer(args.bytes(4)))?.flatten();
    if removed.is_some() {
        context.keys.notify(EventClass::STREAM, "xgroup-delconsumer", args.bytes(2));
    }
    Ok(Reply::count(removed.unwrap_or(0)))
}

/// Changes the group of words 2 and 3; `None` if it is not there.
fn edit_group<R>(
    context: &mut WriteContext,
    args: Args,
    edit: impl FnOnce(&mut Group) -> R,
) -> Result<Option<R>, CommandError> {
    let answer = context.keys.edit_existing(args.bytes(2), |stream: &mut StreamValue| {
        Edit::unseen(stream.edit_group(args.bytes(3), edit))
    })?;
    Ok(answer.flatten())
}

fn require_group(context: &WriteContext, args: Args) -> Result<(), CommandError> {
    let stream = context.keys.collection::<StreamValue>(args.bytes(2))?.ok_or(NO_KEY)?;
    match stream.group(args.bytes(3)) {
        Some(_) => Ok(()),
        None => Err(no_group_for_key(args.bytes(2), args.bytes(3))),
    }
}

const NO_KEY: CommandError = CommandError::Text(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.",
);

/// What commands on an existing key answer if it has no such group.
pub(super) fn no_group_for_key(key: &Bytes, group: &Bytes) -> CommandError {
    CommandError::Message(format!(
        "NOGROUP No such consumer group '{}' for key name '{}'",
        String::from_utf8_lossy(group),
        String::from_utf8_lossy(key)
    ))
}

/// What Redis answers if a subcommand's words make no sense.
pub(super) fn wrong_subcommand(args: Args) -> CommandError {
    const MAX_SHOWN: usize = 128;
    let sub = args.bytes(1);
    CommandError::Message(format!(
        "ERR unknown subcommand or wrong number of arguments for '{}'. Try {} HELP.",
        String::from_utf8_lossy(&sub[..sub.len().min(MAX_SHOWN)]),
        String::from_utf8_lossy(args.bytes(0)).to_uppercase()
    ))
}

/// The options of XGROUP CREATE and SETID.
struct Options {
    make_stream: bool,
    entries_read: Option<u64>,
}

impl Options {
    fn parse(args: Args, of_create: bool) -> Result<Options, CommandError> {
        const UNKNOWN: i64 = -1;
        let mut options = Options { make_stream: false, entries_read: None };
        let mut i = 5;
        while i < args.len() {
            if of_create && args.is(i, "mkstream") {
                options.make_stream = true;
                i += 1;
            } else if args.is(i, "entriesread") && i + 1 < args.len() {
                let entries = args.int(i + 1)?;
                if entries < UNKNOWN {
                    return Err(CommandError::Text("ERR value for ENTRIESREAD must be positive or -1"));
                }
                options.entries_read = u64::try_from(entries).ok();
                i += 2;
            } else {
                return Err(wrong_subcommand(args));
            }
        }
        Ok(options)
    }
}

fn help(_: &mut ReadContext, _: Args) -> Outcome {
    const LINES: &[&str] = &[
        "XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CREATE <key> <groupname> <id|$> [option]",
        "    Create a new consumer group. Options are:",
        "    * MKSTREAM",
        "      Create the empty stream if it does not exist.",
        "    * ENTRIESREAD entries_read",
        "      Set the group's entries_read counter (internal use).",
        "CREATECONSUMER <key> <groupname> <consumer>",
        "    Create a new consumer in the specified group.",
        "DELCONSUMER <key> <groupname> <consumer>",
        "    Remove the specified consumer.",
        "DESTROY <key> <groupname>",
        "    Remove the specified group.",
        "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
        "    Set the current group ID and entries_read counter.",
        "HELP",
        "    Prints this help.",
    ];
    Ok(Reply::Array(LINES.iter().copied().map(Reply::Simple).collect()))
}
