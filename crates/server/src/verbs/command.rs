//! COMMAND: what the table of commands says of itself, in the shapes of Redis 7.

use bytes::Bytes;
use quoris_engine::acl::category;
use quoris_engine::args::Args;
use quoris_engine::command::{self, Chapter, Command, Flags, Keys, MoreKeys, Outcome, Resolved};
use quoris_engine::key_flags::{self, KeyFlags};
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
        b"aclcat" => {
            Ok(names(&|row, _| category::named(&what).is_some_and(|what| category::of(row).intersects(what))))
        }
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
        Reply::Array(vec![Reply::Bulk(key.clone()), shown(key_flags::of_call(row, words, nth))])
    })
}

fn shown(flags: KeyFlags) -> Reply {
    Reply::Set(flags.iter().copied().map(Reply::Simple).collect())
}

/// A script's calls say how many keys they have, and that may be none.
fn may_do_without_keys(row: &Command) -> bool {
    row.chapter == Chapter::Scripting && matches!(row.keys.more, MoreKeys::Counted(_))
}

const NO_KEYS: CommandError = CommandError::Text("ERR The command has no key arguments");

fn keys_of(args: Args, show: impl Fn(&Command, usize, &Bytes) -> Reply) -> Outcome {
    let words = args.from(2);
    let row = match command::resolve(words) {
        Ok(resolved) => resolved.command,
        Err(CommandError::WrongArity(_)) => {
            return Err(CommandError::Text("ERR Invalid number of arguments specified for command"));
        }
        Err(_) => return Err(CommandError::Text("ERR Invalid command specified")),
    };
    if row.flags.contains(Flags::PUBSUB) {
        // Channels only look like keys, to find their slot.
        return Err(NO_KEYS);
    }
    let keys: Vec<Reply> = row.keys.of(words).enumerate().map(|(nth, key)| show(row, nth, key)).collect();
    if keys.is_empty() && !may_do_without_keys(row) {
        return Err(NO_KEYS);
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
        Reply::Set(categories(row)),
        Reply::Set(Vec::new()),
        Reply::Set(key_specifications(row.command)),
        if subcommands.is_empty() { Reply::Set(subcommands) } else { Reply::Array(subcommands) },
    ])
}

fn flags_of(row: &Command) -> impl Iterator<Item = &'static str> {
    let flags = row.flags;
    let movable = !matches!(row.keys.more, MoreKeys::None);
    let set = FLAGS.iter().filter(move |(flag, _)| flags.contains(*flag)).map(|(_, name)| *name);
    set.chain(movable.then_some("movablekeys"))
}

fn categories(row: Resolved) -> Vec<Reply> {
    let mine = category::of(row);
    let names = category::NAMES.iter().filter(|(_, category)| mine.intersects(*category));
    names.map(|(name, _)| Reply::Status(Bytes::from(format!("@{name}")))).collect()
}

/// Where the keys are that stand at fixed words, and those that a word counts. Others only the call's words tell.
fn key_specifications(row: &Command) -> Vec<Reply> {
    let Keys { first, last, step, more } = row.keys;
    let spec = |kind: &str, figures: &[(&str, i64)]| {
        let figures = figures.iter().map(|(name, figure)| (Reply::bulk(name), Reply::Int(*figure))).collect();
        Reply::Map(vec![(Reply::bulk("type"), Reply::bulk(kind)), (Reply::bulk("spec"), Reply::Map(figures))])
    };
    let specification = |nth: usize, index: usize, find_keys: Reply| {
        Reply::Map(vec![
            (Reply::bulk("flags"), shown(key_flags::of_key(row, nth))),
            (Reply::bulk("begin_search"), spec("index", &[("index", index as i64)])),
            (Reply::bulk("find_keys"), find_keys),
        ])
    };
    let mut specifications = Vec::new();
    if first > 0 {
        // Positive: counted from the first key; negative: from the end of the call.
        let last = if last < 0 { i64::from(last) } else { i64::from(last) - first as i64 };
        let range = |last: i64| [("lastkey", last), ("keystep", step as i64), ("limit", 0)];
        let alike = last == 0 || key_flags::of_key(row, 0) == key_flags::of_key(row, 1);
        specifications.push(specification(0, first, spec("range", &range(if alike { last } else { 0 }))));
        if !alike {
            // Counted from the second key, then.
            let last = if last < 0 { last } else { last - step as i64 };
            specifications.push(specification(1, first + step, spec("range", &range(last))));
        }
    }
    if let MoreKeys::Counted(at) = more {
        let counted = [("keynumidx", 0), ("firstkey", 1), ("keystep", 1)];
        specifications.push(specification(specifications.len(), at, spec("keynum", &counted)));
    }
    specifications
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
