//! COMMAND: what the table of commands says of itself, in the shapes of Redis 7.

use bytes::Bytes;
use quoris_engine::args::Args;
use quoris_engine::command::{self, Chapter, Command, Flags, Keys, MoreKeys, Outcome, Resolved};
use quoris_engine::{CommandError, Reply, glob};

const FLAGS: [(Flags, &str); 14] = [
    (Flags::WRITE, "write"),
    (Flags::READONLY, "readonly"),
    (Flags::DENYOOM, "denyoom"),
    (Flags::ADMIN, "admin"),
    (Flags::NOSCRIPT, "noscript"),
    (Flags::LOADING, "loading"),
    (Flags::STALE, "stale"),
    (Flags::FAST, "fast"),
    (Flags::NO_AUTH, "no_auth"),
    (Flags::NO_MULTI, "no_multi"),
    (Flags::BLOCKING, "blocking"),
    (Flags::PUBSUB, "pubsub"),
    (Flags::SKIP_MONITOR, "skip_monitor"),
    (Flags::SKIP_SLOWLOG, "skip_slowlog"),
];

pub(super) fn count() -> Reply {
    Reply::count(command::table().len())
}

pub(super) fn all() -> Reply {
    Reply::Array(command::table().map(|row| describe(top(row))).collect())
}

pub(super) fn info(args: Args) -> Reply {
    if args.len() == 2 {
        return all();
    }
    let describe = |name: &Bytes| find(name).map_or(Reply::Null, describe);
    Reply::Array(args.from(2).iter().map(describe).collect())
}

pub(super) fn docs(args: Args) -> Reply {
    let rows: Vec<Resolved> = match args.len() {
        2 => command::table().map(top).collect(),
        _ => args.from(2).iter().filter_map(|name| find(name)).collect(),
    };
    Reply::Map(rows.into_iter().map(document).collect())
}

/// `LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]`.
pub(super) fn list(args: Args) -> Outcome {
    let names = |wanted: &dyn Fn(Resolved, &str) -> bool| {
        let named = command::table().flat_map(with_subcommands).map(|row| (row, row.full_name()));
        let names = named.filter(|(row, name)| wanted(*row, name)).map(|(_, name)| Reply::bulk(name));
        Reply::Array(names.collect())
    };
    if args.len() == 2 {
        return Ok(names(&|_, _| true));
    }
    if args.len() != 5 || !args.is(2, "filterby") {
        return Err(CommandError::Syntax);
    }
    let what = args.bytes(4).to_ascii_lowercase();
    match args.bytes(3).to_ascii_lowercase().as_slice() {
        b"module" => Ok(names(&|_, _| false)),
        b"aclcat" => Ok(names(&|row, _| categories(row.command).iter().any(|c| c.as_bytes()[1..] == what))),
        b"pattern" => Ok(names(&|_, name| glob::matches(&what, name.as_bytes()))),
        _ => Err(CommandError::Syntax),
    }
}

pub(super) fn get_keys(args: Args) -> Outcome {
    keys_of(args, |_, _, key| Reply::Bulk(key.clone()))
}

pub(super) fn get_keys_and_flags(args: Args) -> Outcome {
    let words = args.from(2);
    keys_of(args, |row, nth, key| {
        // Only with GET does SET read what is there.
        let is_blind =
            row.name == "set" && !words.iter().skip(3).any(|word| word.eq_ignore_ascii_case(b"get"));
        let flags = if is_blind { OVERWRITTEN } else { flags_of_key(row, nth) };
        let flags = flags.iter().copied().map(Reply::Simple).collect();
        Reply::Array(vec![Reply::Bulk(key.clone()), Reply::Set(flags)])
    })
}

type KeyFlags = &'static [&'static str];

const OVERWRITTEN: KeyFlags = &["OW", "update"];
const LOOKED_AT: KeyFlags = &["RO", "access"];
const TAKEN_FROM: KeyFlags = &["RW", "access", "delete"];
const ADDED_TO: KeyFlags = &["RW", "insert"];

/// What a command does to the `nth` of its keys, the first being 0.
fn flags_of_key(row: &Command, nth: usize) -> KeyFlags {
    match row.name {
        "mset" | "psetex" | "setex" => OVERWRITTEN,
        "msetnx" => &["OW", "insert"],
        "del" | "unlink" => &["RM", "delete"],
        "migrate" => &["RW", "access", "delete"],
        "blmove" | "brpoplpush" | "lmove" | "rpoplpush" | "smove" if nth == 0 => TAKEN_FROM,
        "blmove" | "brpoplpush" | "lmove" | "rpoplpush" | "smove" => ADDED_TO,
        "rename" | "renamenx" if nth == 0 => TAKEN_FROM,
        "rename" => OVERWRITTEN,
        "renamenx" => &["OW", "insert"],
        "copy" | "sort" if nth == 0 => LOOKED_AT,
        "copy" | "sort" => OVERWRITTEN,
        "bitop" | "geosearchstore" | "sdiffstore" | "sinterstore" | "sunionstore" | "zdiffstore"
        | "zinterstore" | "zrangestore" | "zunionstore"
            if nth == 0 =>
        {
            OVERWRITTEN
        }
        "bitop" | "geosearchstore" | "sdiffstore" | "sinterstore" | "sunionstore" | "zdiffstore"
        | "zinterstore" | "zrangestore" | "zunionstore" => LOOKED_AT,
        "pfmerge" if nth == 0 => &["RW", "access", "insert"],
        "pfmerge" => LOOKED_AT,
        _ => key_flags(row),
    }
}

/// What a command does to its keys, in the words of key specifications.
fn key_flags(row: &Command) -> KeyFlags {
    match (row.flags.contains(Flags::WRITE), row.flags.contains(Flags::PUBSUB)) {
        (_, true) => &["not_key"],
        (true, _) => &["RW", "update"],
        (false, _) => LOOKED_AT,
    }
}

/// A script's calls say how many keys they have, and that may be none.
fn may_do_without_keys(row: &Command) -> bool {
    row.chapter == Chapter::Scripting && matches!(row.keys.more, MoreKeys::Counted(_))
}

fn keys_of(args: Args, show: impl Fn(&Command, usize, &Bytes) -> Reply) -> Outcome {
    let words = args.from(2);
    let row = match command::resolve(words) {
        Ok(resolved) => resolved.command,
        Err(CommandError::WrongArity(_)) => {
            return Err(CommandError::Text("ERR Invalid number of arguments specified for command"));
        }
        Err(_) => return Err(CommandError::Text("ERR Invalid command specified")),
    };
    let keys: Vec<Reply> = row.keys.of(words).enumerate().map(|(nth, key)| show(row, nth, key)).collect();
    if keys.is_empty() && !may_do_without_keys(row) {
        return Err(CommandError::Text("ERR The command has no key arguments"));
    }
    Ok(Reply::Array(keys))
}

fn top(row: &'static Command) -> Resolved {
    Resolved { command: row, container: None }
}

fn with_subcommands(row: &'static Command) -> impl Iterator<Item = Resolved> {
    std::iter::once(top(row)).chain(subcommands(row))
}

fn subcommands(row: &'static Command) -> impl Iterator<Item = Resolved> {
    row.subcommands.iter().map(move |sub| Resolved { command: sub, container: Some(row) })
}

/// The row of `get` or `config|get`.
fn find(name: &[u8]) -> Option<Resolved> {
    let mut words = name.splitn(2, |byte| *byte == b'|');
    let row = command::find(words.next()?)?;
    match words.next() {
        None => Some(top(row)),
        Some(sub) => subcommands(row).find(|row| row.command.name.as_bytes().eq_ignore_ascii_case(sub)),
    }
}

/// Ten elements: name, arity, flags, first key, last key, step, ACL categories, tips, key specifications and
/// subcommands.
fn describe(row: Resolved) -> Reply {
    let Command { arity, keys, .. } = *row.command;
    let simple =
        |names: &mut dyn Iterator<Item = &'static str>| Reply::Set(names.map(Reply::Simple).collect());
    let subcommands: Vec<Reply> = subcommands(row.command).map(describe).collect();
    Reply::Array(vec![
        Reply::bulk(row.full_name()),
        Reply::Int(i64::from(arity)),
        simple(&mut flags_of(row.command)),
        Reply::count(keys.first),
        Reply::Int(i64::from(keys.last)),
        Reply::count(if keys.first == 0 { 0 } else { keys.step }),
        simple(&mut categories(row.command).into_iter()),
        Reply::Set(Vec::new()),
        Reply::Set(key_specification(row.command).into_iter().collect()),
        if subcommands.is_empty() { Reply::Set(subcommands) } else { Reply::Array(subcommands) },
    ])
}

fn flags_of(row: &Command) -> impl Iterator<Item = &'static str> {
    let flags = row.flags;
    let movable = !matches!(row.keys.more, MoreKeys::None);
    let set = FLAGS.iter().filter(move |(flag, _)| flags.contains(*flag)).map(|(_, name)| *name);
    set.chain(movable.then_some("movablekeys"))
}

/// Redis's ACL categories, from flags and chapter.
fn categories(row: &Command) -> Vec<&'static str> {
    let chapter = match row.chapter {
        Chapter::Bitmap => Some("@bitmap"),
        Chapter::Connection => Some("@connection"),
        Chapter::Generic => Some("@keyspace"),
        Chapter::Geo => Some("@geo"),
        Chapter::Hash => Some("@hash"),
        Chapter::Hyperloglog => Some("@hyperloglog"),
        Chapter::List => Some("@list"),
        Chapter::PubSub => Some("@pubsub"),
        Chapter::Scripting => Some("@scripting"),
        Chapter::Set => Some("@set"),
        Chapter::SortedSet => Some("@sortedset"),
        Chapter::Stream => Some("@stream"),
        Chapter::String => Some("@string"),
        Chapter::Transactions => Some("@transaction"),
        Chapter::Cluster | Chapter::Server => None,
    };
    let has = |flags| row.flags.intersects(flags);
    let mut categories = Vec::new();
    let mut put = |name, wanted| {
        if wanted {
            categories.push(name);
        }
    };
    put("@write", has(Flags::WRITE));
    put("@read", has(Flags::READONLY));
    chapter.into_iter().for_each(|name| put(name, true));
    put("@admin", has(Flags::ADMIN));
    put("@fast", has(Flags::FAST));
    put("@slow", !has(Flags::FAST));
    put("@blocking", has(Flags::BLOCKING));
    put("@dangerous", has(Flags::ADMIN.union(Flags::DANGEROUS)));
    categories
}

fn key_specification(row: &Command) -> Option<Reply> {
    let Keys { first, last, step, .. } = row.keys;
    if first == 0 {
        return None;
    }
    // Positive: counted from the first key; negative: from the end of the call.
    let last = if last < 0 { i64::from(last) } else { i64::from(last) - first as i64 };
    let spec = |kind: &str, spec: Vec<(Reply, Reply)>| {
        Reply::Map(vec![(Reply::bulk("type"), Reply::bulk(kind)), (Reply::bulk("spec"), Reply::Map(spec))])
    };
    let range = vec![
        (Reply::bulk("lastkey"), Reply::Int(last)),
        (Reply::bulk("keystep"), Reply::count(step)),
        (Reply::bulk("limit"), Reply::Int(0)),
    ];
    Some(Reply::Map(vec![
        (Reply::bulk("flags"), Reply::Set(key_flags(row).iter().copied().map(Reply::Simple).collect())),
        (Reply::bulk("begin_search"), spec("index", vec![(Reply::bulk("index"), Reply::count(first))])),
        (Reply::bulk("find_keys"), spec("range", range)),
    ]))
}

fn document(row: Resolved) -> (Reply, Reply) {
    let text = |name: &str, text: &str| (Reply::bulk(name), Reply::bulk(text));
    let Command { summary, since, chapter, complexity, .. } = row.command;
    let mut fields = vec![
        text("summary", summary),
        text("since", since),
        text("group", chapter.name()),
        text("complexity", complexity),
    ];
    if !row.command.subcommands.is_empty() {
        let subcommands = subcommands(row.command).map(document).collect();
        fields.push((Reply::bulk("subcommands"), Reply::Map(subcommands)));
    }
    (Reply::bulk(row.full_name()), Reply::Map(fields))
}
