//! Function libraries: FCALL, and what FUNCTION does with them.

use bytes::Bytes;

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Gather, Keys, Outcome, ReadContext, Verb, WriteContext};
use crate::commands::script::keys_and_args;
use crate::error::CommandError;
use crate::glob;
use crate::rdb::{self, Refused};
use crate::reply::Reply;
use crate::script::library::{self, FunctionInfo, Library};
use crate::script::{self, Code, FLAG_NAMES, Run, Scripts};

const FCALL_FLAGS: Flags = Flags::NOSCRIPT.union(Flags::STALE);
const COMPLEXITY: &str = "Depends on the function that is executed.";

/// The rows.
pub const COMMANDS: &[Command] =
    &[
        Command::write("fcall", -3, Keys::counted(2), fcall).with(FCALL_FLAGS).gathered(Gather::Any).doc(
            Chapter::Scripting,
            "7.0.0",
            COMPLEXITY,
            "Invokes a function.",
        ),
        Command::read("fcall_ro", -3, Keys::counted(2), fcall_ro)
            .with(FCALL_FLAGS)
            .gathered(Gather::Any)
            .doc(Chapter::Scripting, "7.0.0", COMPLEXITY, "Invokes a read-only function."),
        Command::container("function", SUBCOMMANDS).doc(
            Chapter::Scripting,
            "7.0.0",
            "Depends on subcommand.",
            "A container for function commands.",
        ),
    ];

const SUBCOMMANDS: &[Command] = &[
    Command::write("delete", 3, Keys::NONE, delete).with(Flags::NOSCRIPT).gathered(Gather::AllOk).doc(
        Chapter::Scripting,
        "7.0.0",
        "O(1)",
        "Deletes a library and its functions.",
    ),
    Command::read("dump", 2, Keys::NONE, dump).with(Flags::NOSCRIPT).gathered(Gather::Same).doc(
        Chapter::Scripting,
        "7.0.0",
        "O(N) where N is the number of functions",
        "Dumps all libraries into a serialized binary payload.",
    ),
    Command::write("flush", -2, Keys::NONE, flush).with(Flags::NOSCRIPT).gathered(Gather::AllOk).doc(
        Chapter::Scripting,
        "7.0.0",
        "O(N) where N is the number of functions deleted",
        "Deletes all libraries and functions.",
    ),
    Command::session("help", 2, Verb::Help).doc(
        Chapter::Scripting,
        "7.0.0",
        "O(1)",
        "Returns helpful text about the different subcommands.",
    ),
    Command::session("kill", 2, Verb::FunctionKill).doc(
        Chapter::Scripting,
        "7.0.0",
        "O(1)",
        "Terminates a function during execution.",
    ),
    Command::read("list", -2, Keys::NONE, list).with(Flags::NOSCRIPT).gathered(Gather::Same).doc(
        Chapter::Scripting,
        "7.0.0",
        "O(N) where N is the number of functions",
        "Returns information about all libraries.",
    ),
    Command::write("load", -3, Keys::NONE, load)
        .with(Flags::NOSCRIPT.union(Flags::DENYOOM))
        .gathered(Gather::Same)
        .doc(
            Chapter::Scripting,
            "7.0.0",
            "O(1) (considering compilation time is redundant)",
            "Creates a library.",
        ),
    Command::write("restore", -3, Keys::NONE, restore)
        .with(Flags::NOSCRIPT.union(Flags::DENYOOM))
        .gathered(Gather::AllOk)
        .doc(
            Chapter::Scripting,
            "7.0.0",
            "O(N) where N is the number of functions on the payload",
            "Restores all libraries from a payload.",
        ),
    Command::read("stats", 2, Keys::NONE, stats).with(Flags::NOSCRIPT).gathered(Gather::Running).doc(
        Chapter::Scripting,
        "7.0.0",
        "O(1)",
        "Returns information about a function during execution.",
    ),
];

const NO_FUNCTION: CommandError = CommandError::Text("ERR Function not found");

fn fcall(context: &mut WriteContext, args: Args) -> Outcome {
    let run = run_of(context.scripts, args, false)?;
    Ok(script::run(context, &run))
}

fn fcall_ro(context: &mut ReadContext, args: Args) -> Outcome {
    let run = run_of(context.scripts, args, true)?;
    Ok(script::read(context, &run))
}

pub(super) fn run_of<'a>(
    scripts: &Scripts,
    args: Args<'a>,
    read_only: bool,
) -> Result<Run<'a>, CommandError> {
    let name = String::from_utf8_lossy(args.bytes(1));
    let (library, function) = scripts.function(&name).ok_or(NO_FUNCTION)?;
    let code = Code::Function { name: function.name.clone(), library: library.code.clone() };
    let flags = function.flags;
    args.int(2).map_err(|_| CommandError::Text("ERR Bad number of keys provided"))?;
    let (keys, args) = keys_and_args(args)?;
    Ok(Run { code, flags, keys, args, read_only })
}

fn load(context: &mut WriteContext, args: Args) -> Outcome {
    let replace = match args.len() {
        3 => false,
        _ if args.is(2, "replace") && args.len() == 4 => true,
        _ => {
            let option = String::from_utf8_lossy(args.bytes(2));
            return Err(CommandError::Message(format!("ERR Unknown option given: {option}")));
        }
    };
    let code = args.bytes(args.len() - 1).clone();
    let name = library::name_of(&code)?;
    if !replace && context.scripts.library(&name).is_some() {
        return Err(CommandError::Message(format!("ERR Library '{name}' already exists")));
    }
    add_library(context, code)?;
    Ok(Reply::bulk(name))
}

/// Adds the library `code` to those that are there, or replaces the one of its name.
fn add_library(context: &mut WriteContext, code: Bytes) -> Result<(), CommandError> {
    let name = library::name_of(&code)?;
    let mut functions = context.scripts.functions_of(&code, context.rng.clone())?;
    if functions.is_empty() {
        return Err(CommandError::Text("ERR No functions registered"));
    }
    functions.sort_by(|a, b| a.name.cmp(&b.name));
    for function in &functions {
        let taken = context.scripts.function(&function.name).is_some_and(|(other, _)| other.name != name);
        if taken {
            return Err(CommandError::Message(format!("ERR Function {} already exists", function.name)));
        }
    }
    context.scripts.add_library(Library { name, code, functions });
    Ok(())
}

fn delete(context: &mut WriteContext, args: Args) -> Outcome {
    match context.scripts.remove_library(&String::from_utf8_lossy(args.bytes(2))) {
        true => Ok(Reply::OK),
        false => Err(CommandError::Text("ERR Library not found")),
    }
}

fn flush(context: &mut WriteContext, args: Args) -> Outcome {
    if args.len() > 3 {
        return Err(wrong_number("flush"));
    }
    if args.len() == 3 && !args.is(2, "sync") && !args.is(2, "async") {
        return Err(CommandError::Text("ERR FUNCTION FLUSH only supports SYNC|ASYNC option"));
    }
    context.scripts.flush_libraries();
    Ok(Reply::OK)
}

fn dump(context: &mut ReadContext, _: Args) -> Outcome {
    let payload = rdb::dump_libraries(context.scripts.libraries().map(|library| &library.code));
    Ok(Reply::bulk(payload))
}

fn restore_library(context: &mut WriteContext, code: Bytes, replace: bool) -> Result<(), CommandError> {
    let name = library::name_of(&code)?;
    if !replace && context.scripts.library(&name).is_some() {
        return Err(CommandError::Message(format!("ERR Library {name} already exists")));
    }
    add_library(context, code)
}

/// All libraries of the payload, or none.
fn restore(context: &mut WriteContext, args: Args) -> Outcome {
    if args.len() > 4 {
        return Err(wrong_number("restore"));
    }
    let given = |policy| args.len() == 4 && args.is(3, policy);
    let (flush, replace) = (given("flush"), given("replace"));
    if args.len() == 4 && !flush && !replace && !given("append") {
        return Err(CommandError::Text(
            "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
        ));
    }
    let codes = rdb::load_libraries(args.bytes(2)).map_err(|refused| match refused {
        Refused::Footer => CommandError::Text("ERR DUMP payload version or checksum are wrong"),
        Refused::Data => CommandError::Text("ERR failed loading the given functions payload"),
    })?;
    let before = context.scripts.copy_libraries();
    if flush {
        context.scripts.flush_libraries();
    }
    for code in codes {
        if let Err(error) = restore_library(context, code, replace) {
            context.scripts.replace_libraries(before);
            return Err(error);
        }
    }
    Ok(Reply::OK)
}

/// The node adds which function runs: a group knows of none, for those that only read run beside it.
fn stats(context: &mut ReadContext, _: Args) -> Outcome {
    let functions = context.scripts.libraries().map(|library| library.functions.len()).sum();
    let lua = Reply::Map(vec![
        (Reply::bulk("libraries_count"), Reply::count(context.scripts.libraries().count())),
        (Reply::bulk("functions_count"), Reply::count(functions)),
    ]);
    Ok(Reply::Map(vec![
        (Reply::bulk("running_script"), Reply::Null),
        (Reply::bulk("engines"), Reply::Map(vec![(Reply::bulk("LUA"), lua)])),
    ]))
}

fn wrong_number(subcommand: &str) -> CommandError {
    CommandError::Message(format!(
        "ERR unknown subcommand or wrong number of arguments for '{subcommand}'. Try FUNCTION HELP."
    ))
}

fn list(context: &mut ReadContext, args: Args) -> Outcome {
    let (mut pattern, mut with_code) = (None, false);
    let mut i = 2;
    while i < args.len() {
        if args.is(i, "withcode") && !with_code {
            with_code = true;
        } else if args.is(i, "libraryname") && pattern.is_none() {
            i += 1;
            if i == args.len() {
                return Err(CommandError::Text("ERR library name argument was not given"));
            }
            pattern = Some(args.bytes(i));
        } else {
            let word = String::from_utf8_lossy(args.bytes(i));
            return Err(CommandError::Message(format!("ERR Unknown argument {word}")));
        }
        i += 1;
    }
    let wanted = |library: &&Library| pattern.is_none_or(|p| glob::matches(p, library.name.as_bytes()));
    let libraries = context.scripts.libraries().filter(wanted).map(|library| describe(library, with_code));
    Ok(Reply::Array(libraries.collect()))
}

fn describe(library: &Library, with_code: bool) -> Reply {
    let functions = library.functions.iter().map(describe_function).collect();
    let mut fields = vec![
        (Reply::bulk("library_name"), Reply::bulk(&library.name)),
        (Reply::bulk("engine"), Reply::bulk("LUA")),
        (Reply::bulk("functions"), Reply::Array(functions)),
    ];
    if with_code {
        fields.push((Reply::bulk("library_code"), Reply::Bulk(library.code.clone())));
    }
    Reply::Map(fields)
}

fn describe_function(function: &FunctionInfo) -> Reply {
    let names = FLAG_NAMES.iter().filter(|(_, flag)| function.flags.contains(*flag));
    let description = function.description.clone().map_or(Reply::Null, Reply::Bulk);
    Reply::Map(vec![
        (Reply::bulk("name"), Reply::bulk(&function.name)),
        (Reply::bulk("description"), description),
        (Reply::bulk("flags"), Reply::Set(names.map(|(name, _)| Reply::Simple(name)).collect())),
    ])
}
