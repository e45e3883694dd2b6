//! XINFO: what is known of a stream, its groups and their consumers.

use super::stream::{entry_reply, id_reply};
use super::stream_group::{no_group_for_key, wrong_subcommand};
use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, Outcome, ReadContext};
use crate::error::CommandError;
use crate::reply::Reply;
use crate::value::StreamValue;
use crate::value::stream::{Consumer, Counters, Group, StreamId};

/// The rows.
pub const COMMANDS: &[Command] = &[Command::container("xinfo", XINFO).doc(
    Chapter::Stream,
    "5.0.0",
    "Depends on subcommand.",
    "A container for stream introspection commands.",
)];

const XINFO: &[Command] =
    &[
        Command::read("consumers", 4, Keys::AFTER_SUBCOMMAND, consumers).doc(
            Chapter::Stream,
            "5.0.0",
            "O(1)",
            "Returns a list of the consumers in a consumer group.",
        ),
        Command::read("groups", 3, Keys::AFTER_SUBCOMMAND, groups).doc(
            Chapter::Stream,
            "5.0.0",
            "O(1)",
            "Returns a list of the consumer groups of a stream.",
        ),
        Command { flags: Flags::LOADING.union(Flags::STALE), ..Command::read("help", 2, Keys::NONE, help) }
            .doc(Chapter::Stream, "5.0.0", "O(1)", "Returns helpful text about the different subcommands."),
        Command::read("stream", -3, Keys::AFTER_SUBCOMMAND, stream).doc(
            Chapter::Stream,
            "5.0.0",
            "O(1)",
            "Returns information about a stream.",
        ),
    ];

/// How many entries and deliveries XINFO STREAM FULL shows unless it is told.
const DEFAULT_FULL_COUNT: usize = 10;

fn named(fields: Vec<(&'static str, Reply)>) -> Reply {
    Reply::Map(fields.into_iter().map(|(name, value)| (Reply::bulk(name), value)).collect())
}

fn stream_of<'a>(context: &ReadContext<'a>, args: Args) -> Result<&'a StreamValue, CommandError> {
    context.keys.collection::<StreamValue>(args.bytes(2))?.ok_or(CommandError::NoSuchKey)
}

fn consumers(context: &mut ReadContext, args: Args) -> Outcome {
    let stream = stream_of(context, args)?;
    let group = stream.group(args.bytes(3)).ok_or_else(|| no_group_for_key(args.bytes(2), args.bytes(3)))?;
    let now_ms = context.now_ms;
    let consumers = group.consumers().map(|(name, consumer)| {
        named(vec![
            ("name", Reply::bulk(name)),
            ("pending", Reply::count(consumer.pending_count())),
            ("idle", Reply::Int(now_ms.saturating_sub(consumer.seen_ms) as i64)),
        ])
    });
    Ok(Reply::Array(consumers.collect()))
}

fn groups(context: &mut ReadContext, args: Args) -> Outcome {
    let stream = stream_of(context, args)?;
    let groups = stream.groups().map(|(name, group)| {
        named(vec![
            ("name", Reply::bulk(name)),
            ("consumers", Reply::count(group.consumers().len())),
            ("pending", Reply::count(group.pending_count())),
            ("last-delivered-id", id_reply(group.last_id)),
            ("entries-read", entries_read(group)),
            ("lag", lag(group, stream.counters())),
        ])
    });
    Ok(Reply::Array(groups.collect()))
}

fn entries_read(group: &Group) -> Reply {
    group.entries_read.map_or(Reply::Null, |read| Reply::Int(read as i64))
}

fn lag(group: &Group, counters: &Counters) -> Reply {
    group.lag(counters).map_or(Reply::Null, Reply::Int)
}

fn stream(context: &mut ReadContext, args: Args) -> Outcome {
    let stream = stream_of(context, args)?;
    let count = match args.len() {
        3 => None,
        4 if args.is(3, "full") => Some(DEFAULT_FULL_COUNT),
        6 if args.is(3, "full") && args.is(4, "count") => match args.int(5)? {
            0 => Some(usize::MAX),
            count => Some(usize::try_from(count).unwrap_or(DEFAULT_FULL_COUNT)),
        },
        _ => return Err(wrong_subcommand(args)),
    };
    let counters = stream.counters();
    let mut fields = vec![
        ("length", Reply::Int(stream.len() as i64)),
        ("radix-tree-keys", Reply::count(stream.node_count())),
        // There is no radix tree; Redis has a node at least for each key, and its root.
        ("radix-tree-nodes", Reply::count(stream.node_count() + 1)),
        ("last-generated-id", id_reply(counters.last_id)),
        ("max-deleted-entry-id", id_reply(counters.max_deleted_id)),
        ("entries-added", Reply::Int(counters.entries_added as i64)),
        ("recorded-first-entry-id", id_reply(counters.first_id)),
    ];
    match count {
        None => fields.extend(edges(stream)),
        Some(count) => fields.extend(full(stream, count)),
    }
    Ok(named(fields))
}

fn edges(stream: &StreamValue) -> [(&'static str, Reply); 3] {
    let first = stream.range(StreamId::MIN, StreamId::MAX).next();
    let last = stream.range_back(StreamId::MAX, StreamId::MIN).next();
    [
        ("groups", Reply::count(stream.groups().len())),
        ("first-entry", first.map_or(Reply::Null, entry_reply)),
        ("last-entry", last.map_or(Reply::Null, entry_reply)),
    ]
}

fn full(stream: &StreamValue, count: usize) -> [(&'static str, Reply); 2] {
    let entries = stream.range(StreamId::MIN, StreamId::MAX).take(count).map(entry_reply);
    let groups = stream.groups().map(|(name, group)| full_group(name, group, stream.counters(), count));
    [("entries", Reply::Array(entries.collect())), ("groups", Reply::Array(groups.collect()))]
}

fn full_group(name: &[u8], group: &Group, counters: &Counters, count: usize) -> Reply {
    let pending = group.pending_from(StreamId::MIN).take(count).map(|(id, pending)| {
        Reply::Array(vec![
            id_reply(id),
            Reply::bulk(&pending.consumer),
            Reply::Int(pending.delivered_ms as i64),
            Reply::Int(pending.deliveries as i64),
        ])
    });
    let consumers = group.consumers().map(|(name, consumer)| full_consumer(name, consumer, group, count));
    named(vec![
        ("name", Reply::bulk(name)),
        ("last-delivered-id", id_reply(group.last_id)),
        ("entries-read", entries_read(group)),
        ("lag", lag(group, counters)),
        ("pel-count", Reply::count(group.pending_count())),
        ("pending", Reply::Array(pending.collect())),
        ("consumers", Reply::Array(consumers.collect())),
    ])
}

fn full_consumer(name: &[u8], consumer: &Consumer, group: &Group, count: usize) -> Reply {
    let pending = group.pending_of(consumer, StreamId::MIN).take(count).map(|(id, pending)| {
        Reply::Array(vec![
            id_reply(id),
            Reply::Int(pending.delivered_ms as i64),
            Reply::Int(pending.deliveries as i64),
        ])
    });
    named(vec![
        ("name", Reply::bulk(name)),
        ("seen-time", Reply::Int(consumer.seen_ms as i64)),
        ("pel-count", Reply::count(consumer.pending_count())),
        ("pending", Reply::Array(pending.collect())),
    ])
}

fn help(_: &mut ReadContext, _: Args) -> Outcome {
    const LINES: &[&str] = &[
        "XINFO <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CONSUMERS <key> <groupname>",
        "    Show consumers of <groupname>.",
        "GROUPS <key>",
        "    Show the stream consumer groups.",
        "STREAM <key> [FULL [COUNT <count>]",
        "    Show information about the stream.",
        "HELP",
        "    Prints this help.",
    ];
    Ok(Reply::Array(LINES.iter().copied().map(Reply::Simple).collect()))
}
