//! Categories of commands (`@read`, `@dangerous`): what rules name many commands by. They follow from a command's row.

use crate::command::{Chapter, Flags, Resolved, Run};

bitflags::bitflags! {
    /// Redis's categories, in its order.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Categories: u32 {
        /// `@keyspace`, and so on.
        const KEYSPACE = 1;
        #[allow(missing_docs)]
        const READ = 1 << 1;
        #[allow(missing_docs)]
        const WRITE = 1 << 2;
        #[allow(missing_docs)]
        const SET = 1 << 3;
        #[allow(missing_docs)]
        const SORTEDSET = 1 << 4;
        #[allow(missing_docs)]
        const LIST = 1 << 5;
        #[allow(missing_docs)]
        const HASH = 1 << 6;
        #[allow(missing_docs)]
        const STRING = 1 << 7;
        #[allow(missing_docs)]
        const BITMAP = 1 << 8;
        #[allow(missing_docs)]
        const HYPERLOGLOG = 1 << 9;
        #[allow(missing_docs)]
        const GEO = 1 << 10;
        #[allow(missing_docs)]
        const STREAM = 1 << 11;
        #[allow(missing_docs)]
        const PUBSUB = 1 << 12;
        #[allow(missing_docs)]
        const ADMIN = 1 << 13;
        #[allow(missing_docs)]
        const FAST = 1 << 14;
        #[allow(missing_docs)]
        const SLOW = 1 << 15;
        #[allow(missing_docs)]
        const BLOCKING = 1 << 16;
        #[allow(missing_docs)]
        const DANGEROUS = 1 << 17;
        #[allow(missing_docs)]
        const CONNECTION = 1 << 18;
        #[allow(missing_docs)]
        const TRANSACTION = 1 << 19;
        #[allow(missing_docs)]
        const SCRIPTING = 1 << 20;
    }
}

/// Their names, without the `@`.
pub const NAMES: [(&str, Categories); 21] = [
    ("keyspace", Categories::KEYSPACE),
    ("read", Categories::READ),
    ("write", Categories::WRITE),
    ("set", Categories::SET),
    ("sortedset", Categories::SORTEDSET),
    ("list", Categories::LIST),
    ("hash", Categories::HASH),
    ("string", Categories::STRING),
    ("bitmap", Categories::BITMAP),
    ("hyperloglog", Categories::HYPERLOGLOG),
    ("geo", Categories::GEO),
    ("stream", Categories::STREAM),
    ("pubsub", Categories::PUBSUB),
    ("admin", Categories::ADMIN),
    ("fast", Categories::FAST),
    ("slow", Categories::SLOW),
    ("blocking", Categories::BLOCKING),
    ("dangerous", Categories::DANGEROUS),
    ("connection", Categories::CONNECTION),
    ("transaction", Categories::TRANSACTION),
    ("scripting", Categories::SCRIPTING),
];

/// The category of that name, whatever its case.
pub fn named(name: &[u8]) -> Option<Categories> {
    NAMES.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name)).map(|(_, category)| *category)
}

/// The categories that a command is in. They follow from its row, but for what Redis says otherwise.
pub fn of(row: Resolved) -> Categories {
    let command = row.command;
    let has = |flags: Flags| command.flags.intersects(flags);
    // What a script does is looked at call by call.
    let is_script =
        command.runs_script() || row.container.is_some_and(|container| container.name == "script");
    let given = [
        (Categories::WRITE, has(Flags::WRITE) && !is_script),
        (Categories::READ, has(Flags::READONLY) && command.chapter != Chapter::Scripting),
        (Categories::PUBSUB, has(Flags::PUBSUB)),
        (Categories::ADMIN, has(Flags::ADMIN)),
        (Categories::DANGEROUS, has(Flags::ADMIN.union(Flags::DANGEROUS))),
        (Categories::FAST, has(Flags::FAST)),
        (Categories::SLOW, !has(Flags::FAST)),
        (Categories::BLOCKING, has(Flags::BLOCKING)),
    ];
    let given = given.into_iter().filter(|(_, given)| *given).map(|(category, _)| category);
    let follows = match command.run {
        // Of one that only has subcommands, those say what they do.
        Run::Container => Categories::SLOW,
        _ => given.fold(of_chapter(command.chapter), Categories::union),
    };
    let name = row.container.map_or(command.name, |container| container.name);
    let (besides, not) = EXCEPTIONS
        .iter()
        .find(|(names, ..)| names.contains(&name))
        .map_or((Categories::empty(), Categories::empty()), |(_, besides, not)| (*besides, *not));
    follows.difference(not).union(besides)
}

/// Commands, those of containers by its name, that are in categories besides, and those that they are not in.
const EXCEPTIONS: [(&[&str], Categories, Categories); 9] = [
    (&["debug"], Categories::ADMIN.union(Categories::DANGEROUS), Categories::empty()),
    (&["asking", "command", "readonly", "readwrite"], Categories::CONNECTION, Categories::empty()),
    (&["dbsize", "flushall", "flushdb", "swapdb"], Categories::KEYSPACE, Categories::empty()),
    (&["info", "restore"], Categories::DANGEROUS, Categories::empty()),
    (&["lastsave"], Categories::ADMIN.union(Categories::DANGEROUS), Categories::empty()),
    (&["lolwut"], Categories::READ.union(Categories::FAST), Categories::SLOW),
    (&["restore-asking"], Categories::KEYSPACE.union(Categories::DANGEROUS), Categories::empty()),
    (
        &["sort", "sort_ro"],
        Categories::SET.union(Categories::SORTEDSET).union(Categories::LIST).union(Categories::DANGEROUS),
        Categories::KEYSPACE,
    ),
    (&["wait", "waitaof"], Categories::CONNECTION, Categories::KEYSPACE.union(Categories::BLOCKING)),
];

fn of_chapter(chapter: Chapter) -> Categories {
    match chapter {
        Chapter::Bitmap => Categories::BITMAP,
        Chapter::Connection => Categories::CONNECTION,
        Chapter::Generic => Categories::KEYSPACE,
        Chapter::Geo => Categories::GEO,
        Chapter::Hash => Categories::HASH,
        Chapter::Hyperloglog => Categories::HYPERLOGLOG,
        Chapter::List => Categories::LIST,
        Chapter::Scripting => Categories::SCRIPTING,
        Chapter::Set => Categories::SET,
        Chapter::SortedSet => Categories::SORTEDSET,
        Chapter::Stream => Categories::STREAM,
        Chapter::String => Categories::STRING,
        Chapter::Transactions => Categories::TRANSACTION,
        // Who publishes or listens has a flag that says so.
        Chapter::Cluster | Chapter::PubSub | Chapter::Server => Categories::empty(),
    }
}
