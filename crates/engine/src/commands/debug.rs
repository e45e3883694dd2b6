//! DEBUG and MEMORY: what a value is made of, for tests and for people who wonder.

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Gather, Keys, Outcome, ReadContext, Verb};
use crate::error::CommandError;
use crate::fingerprint;
use crate::hash_slot::slot_of;
use crate::keyspace::object_bytes;
use crate::rdb::Content;
use crate::reply::Reply;

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::container("debug", DEBUG).with(DEBUG_FLAGS).doc(
        Chapter::Server,
        "1.0.0",
        "Depends on subcommand.",
        "A container for debugging commands.",
    ),
    Command::container("memory", MEMORY).doc(
        Chapter::Server,
        "4.0.0",
        "Depends on subcommand.",
        "A container for memory diagnostics commands.",
    ),
];

const DEBUG_FLAGS: Flags =
    Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::LOADING).union(Flags::STALE).union(Flags::PROTECTED);

/// Every word behind the subcommand.
const REST: Keys = Keys::range(2, -1, 1);

const DEBUG: &[Command] = &[
    nothing_to_do("change-repl-id", 2, "Does nothing: there is no such id."),
    debugs(
        Command::read("digest", 2, Keys::NONE, digest_all).gathered(Gather::Xor),
        "Returns a digest of all keys.",
    ),
    debugs(Command::read("digest-value", -3, REST, digest_value), "Returns digests of the values of keys."),
    debugs(Command::session("help", 2, Verb::Help), "Prints this help."),
    debugs(
        Command::read("htstats-key", -3, Keys::AFTER_SUBCOMMAND, htstats_key),
        "Returns how many elements a collection has.",
    ),
    debugs(
        Command::read("listpack", 3, Keys::AFTER_SUBCOMMAND, listpack),
        "Tells whether a value is in its packed form.",
    ),
    nothing_to_do("loadaof", 2, "Does nothing: what is in the log is in memory."),
    debugs(
        Command::read("object", -3, Keys::AFTER_SUBCOMMAND, object),
        "Returns what a key's value is made of.",
    ),
    nothing_to_do("pause-cron", 3, "Does nothing: there is no such task."),
    debugs(Command::session("protocol", 3, Verb::DebugProtocol), "Returns a reply of the given kind."),
    nothing_to_do("quicklist-packed-threshold", 3, "Does nothing: a list packs its elements as they come."),
    debugs(
        Command::session("reload", -2, Verb::DebugReload),
        "Reads nothing: what a snapshot holds is in memory, with which it would clash unless flushed or merged.",
    ),
    debugs(
        Command::session("replybuffer", 4, Verb::DebugReplybuffer),
        "Sets how long this node's connections keep room for replies that they have not needed since.",
    ),
    debugs(
        Command::session("set-active-expire", 3, Verb::DebugSetActiveExpire),
        "Sets whether this node, where it leads, has keys removed that are due. They are absent either way.",
    ),
    nothing_to_do("set-disable-deny-scripts", 3, "Does nothing: scripts may run what they may run."),
    debugs(Command::session("sleep", 3, Verb::DebugSleep), "Has this connection, and no other, wait."),
];

const fn debugs(mut command: Command, summary: &'static str) -> Command {
    command.flags = command.flags.union(DEBUG_FLAGS);
    command.doc(Chapter::Server, "1.0.0", "Depends on subcommand.", summary)
}

const fn nothing_to_do(name: &'static str, arity: i32, summary: &'static str) -> Command {
    debugs(Command::session(name, arity, Verb::DebugAccept), summary)
}

const MEMORY: &[Command] = &[
    on_memory("doctor", Verb::MemoryDoctor, "Outputs a memory problems report."),
    on_memory("help", Verb::Help, "Prints this help."),
    on_memory("malloc-stats", Verb::MemoryMallocStats, "Returns the allocator's statistics."),
    on_memory("purge", Verb::MemoryPurge, "Asks the allocator to release memory."),
    on_memory("stats", Verb::MemoryStats, "Returns details about memory usage."),
    Command::read("usage", -3, Keys::AFTER_SUBCOMMAND, memory_usage).doc(
        Chapter::Server,
        "4.0.0",
        "O(1)",
        "Estimates the memory usage of a key.",
    ),
];

const fn on_memory(name: &'static str, verb: Verb, summary: &'static str) -> Command {
    Command::session(name, 2, verb).doc(Chapter::Server, "4.0.0", "O(1)", summary)
}

/// DEBUG PROTOCOL: a reply of each kind, but for `push`, which is the session's.
pub fn sample(kind: &[u8]) -> Outcome {
    let numbers = || (0..3).map(Reply::Int);
    // As in Redis, not the number it looks like.
    const DOUBLE: f64 = 3141.0 / 1000.0;
    Ok(match kind.to_ascii_lowercase().as_slice() {
        b"string" => Reply::bulk("Hello World"),
        b"integer" => Reply::Int(12345),
        b"double" => Reply::Double(DOUBLE),
        b"null" => Reply::Null,
        b"array" => Reply::Array(numbers().collect()),
        b"set" => Reply::Set(numbers().collect()),
        b"map" => Reply::Map((0..3).map(|i| (Reply::Int(i), Reply::Bool(i == 1))).collect()),
        b"attrib" => {
            let popularity = Reply::Array(vec![Reply::bulk("key:123"), Reply::Int(90)]);
            let attributes = vec![(Reply::bulk("key-popularity"), popularity)];
            Reply::Attributed(attributes, Box::new(Reply::bulk("Some real reply following the attribute")))
        }
        b"verbatim" => Reply::Verbatim("txt", "This is a verbatim\nstring".into()),
        b"bignum" => Reply::BigNumber("1234567999999999999999999999999999999".into()),
        b"true" => Reply::Bool(true),
        b"false" => Reply::Bool(false),
        _ => {
            return Err(CommandError::Text(
                "ERR Wrong protocol type name. Please use one of the following: \
                 string|integer|double|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    })
}

fn digest_all(context: &mut ReadContext, _: Args) -> Outcome {
    Ok(Reply::bulk(fingerprint::of_keys(context.keys).to_hex()))
}

fn digest_value(context: &mut ReadContext, args: Args) -> Outcome {
    let keys = context.keys;
    let of = |key: &bytes::Bytes| {
        let digest = keys.get(key).map(|object| fingerprint::of_object(object, keys.now_ms()));
        Reply::bulk(digest.unwrap_or_default().to_hex())
    };
    Ok(Reply::Array(args.from(2).iter().map(of).collect()))
}

fn object(context: &mut ReadContext, args: Args) -> Outcome {
    let keys = context.keys;
    // Also one that is due, if it has been kept.
    let object = keys.slot(slot_of(args.bytes(2))).get(args.bytes(2)).ok_or(CommandError::NoSuchKey)?;
    // Redis measures the value without its type and footer.
    let serialized = Content::of(&object.value, keys.now_ms()).dump().len() - 11;
    Ok(Reply::bulk(format!(
        "Value at:0x0 refcount:1 encoding:{} serializedlength:{serialized} lru:0 lru_seconds_idle:0",
        object.value.encoding()
    )))
}

fn listpack(context: &mut ReadContext, args: Args) -> Outcome {
    let object = context.keys.get(args.bytes(2)).ok_or(CommandError::NoSuchKey)?;
    match object.value.encoding() {
        "listpack" => Ok(Reply::Simple("The value is in its packed form")),
        _ => Err(CommandError::Text("ERR Not a listpack encoded object.")),
    }
}

fn htstats_key(context: &mut ReadContext, args: Args) -> Outcome {
    let keys = context.keys;
    let object = keys.get(args.bytes(2)).ok_or(CommandError::NoSuchKey)?;
    let elements = match Content::of(&object.value, keys.now_ms()) {
        Content::Hash(fields) => fields.len(),
        Content::Set(elements) => elements.len(),
        Content::Zset(elements) => elements.len(),
        _ => {
            return Err(CommandError::Text(
                "ERR The value stored at the specified key is not represented using an hash table",
            ));
        }
    };
    let text = format!("[Collection]\nnumber of elements: {elements}\n");
    Ok(Reply::Verbatim("txt", text.into()))
}

/// What [`Keyspace::bytes`](crate::keyspace::Keyspace::bytes) counts for the key. SAMPLES is for those who must estimate.
fn memory_usage(context: &mut ReadContext, args: Args) -> Outcome {
    for option in args.from(3).chunks(2) {
        let [name, samples] = option else { return Err(CommandError::Syntax) };
        if !name.eq_ignore_ascii_case(b"samples") {
            return Err(CommandError::Syntax);
        }
        if crate::value::number::parse_int(samples).ok_or(CommandError::NotInteger)? < 0 {
            return Err(CommandError::Syntax);
        }
    }
    let key = args.bytes(2);
    Ok(context.keys.get(key).map_or(Reply::Null, |object| Reply::count(object_bytes(key, object))))
}
