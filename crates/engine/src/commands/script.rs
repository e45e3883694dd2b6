//! Scripts: EVAL and its kin, and what SCRIPT does with those that are known.

use bytes::Bytes;

use crate::args::Args;
use crate::command::{
    ByWords, Chapter, Command, Flags, Gather, Keys, Outcome, ReadContext, Verb, WriteContext,
};
use crate::commands::function;
use crate::error::CommandError;
use crate::reply::Reply;
use crate::script::scripts::sha1_hex;
use crate::script::{self, Code, Run, ScriptFlags, Scripts, library};

const EVAL_FLAGS: Flags = Flags::NOSCRIPT.union(Flags::STALE);
const SCRIPT_FLAGS: Flags = Flags::NOSCRIPT;
const COMPLEXITY: &str = "Depends on the script that is executed.";

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::by_words(
        "eval",
        -3,
        Keys::counted(2),
        ByWords { writes: may_write, read: eval_ro, write: eval },
    )
    .with(EVAL_FLAGS.union(Flags::WRITE))
    .gathered(Gather::Any)
    .doc(Chapter::Scripting, "2.6.0", COMPLEXITY, "Executes a server-side Lua script."),
    Command::read("eval_ro", -3, Keys::counted(2), eval_ro).with(EVAL_FLAGS).gathered(Gather::Any).doc(
        Chapter::Scripting,
        "7.0.0",
        COMPLEXITY,
        "Executes a read-only server-side Lua script.",
    ),
    Command::write("evalsha", -3, Keys::counted(2), evalsha).with(EVAL_FLAGS).gathered(Gather::Any).doc(
        Chapter::Scripting,
        "2.6.0",
        COMPLEXITY,
        "Executes a server-side Lua script by SHA1 digest.",
    ),
    Command::read("evalsha_ro", -3, Keys::counted(2), evalsha_ro).with(EVAL_FLAGS).gathered(Gather::Any).doc(
        Chapter::Scripting,
        "7.0.0",
        COMPLEXITY,
        "Executes a read-only server-side Lua script by SHA1 digest.",
    ),
    Command::container("script", SUBCOMMANDS).doc(
        Chapter::Scripting,
        "2.6.0",
        "Depends on subcommand.",
        "A container for Lua scripts management commands.",
    ),
];

const SUBCOMMANDS: &[Command] = &[
    Command::session("debug", 3, Verb::ScriptDebug).doc(
        Chapter::Scripting,
        "3.2.0",
        "O(1)",
        "Sets the debug mode of server-side Lua scripts.",
    ),
    Command::read("exists", -3, Keys::NONE, exists).with(SCRIPT_FLAGS).gathered(Gather::Same).doc(
        Chapter::Scripting,
        "2.6.0",
        "O(N) with N being the number of scripts to check (so checking a single script is an O(1) operation).",
        "Determines whether server-side Lua scripts exist in the script cache.",
    ),
    Command::write("flush", -2, Keys::NONE, flush).with(SCRIPT_FLAGS).gathered(Gather::AllOk).doc(
        Chapter::Scripting,
        "2.6.0",
        "O(N) with N being the number of scripts in cache",
        "Removes all server-side Lua scripts from the script cache.",
    ),
    Command::session("help", 2, Verb::Help).doc(
        Chapter::Scripting,
        "5.0.0",
        "O(1)",
        "Returns helpful text about the different subcommands.",
    ),
    Command::session("kill", 2, Verb::ScriptKill).doc(
        Chapter::Scripting,
        "2.6.0",
        "O(1)",
        "Terminates a server-side Lua script during execution.",
    ),
    Command::write("load", 3, Keys::NONE, load).with(SCRIPT_FLAGS).gathered(Gather::Same).doc(
        Chapter::Scripting,
        "2.6.0",
        "O(N) with N being the length in bytes of the script body.",
        "Loads a server-side Lua script to the script cache.",
    ),
];

fn eval(context: &mut WriteContext, args: Args) -> Outcome {
    let body = args.bytes(1).clone();
    let sha = sha1_hex(&body);
    if context.scripts.get(&sha).is_none() {
        library::script_flags(&body)?;
        context.scripts.check(&sha, &body)?;
    }
    let (keys, args) = keys_and_args(args)?;
    context.scripts.evaluated(&sha, &body);
    let run = run_of(sha, body, keys, args, false)?;
    Ok(script::run(context, &run))
}

fn evalsha(context: &mut WriteContext, args: Args) -> Outcome {
    let (sha, body) = known(context.scripts, args)?;
    let (keys, args) = keys_and_args(args)?;
    context.scripts.evaluated(&sha, &body);
    let run = run_of(sha, body, keys, args, false)?;
    Ok(script::run(context, &run))
}

/// Whether EVAL's script may write: one that declares that it does not is a read.
fn may_write(words: &[Bytes]) -> bool {
    let flags = words.get(1).map(|body| library::script_flags(body));
    !flags.is_some_and(|flags| flags.is_ok_and(|flags| flags.contains(ScriptFlags::NO_WRITES)))
}

fn eval_ro(context: &mut ReadContext, args: Args) -> Outcome {
    let body = args.bytes(1).clone();
    let sha = sha1_hex(&body);
    let (keys, args) = keys_and_args(args)?;
    let run = run_of(sha, body, keys, args, true)?;
    Ok(script::read(context, &run))
}

fn evalsha_ro(context: &mut ReadContext, args: Args) -> Outcome {
    let (sha, body) = known(context.scripts, args)?;
    let (keys, args) = keys_and_args(args)?;
    let run = run_of(sha, body, keys, args, true)?;
    Ok(script::read(context, &run))
}

fn run_of<'a>(
    sha: String,
    body: Bytes,
    keys: &'a [Bytes],
    args: &'a [Bytes],
    read_only: bool,
) -> Result<Run<'a>, CommandError> {
    let flags = library::script_flags(&body)?;
    Ok(Run { code: Code::Script { sha, body }, flags, keys, args, read_only })
}

/// What a call runs that may write: EVAL, EVALSHA and FCALL. `None`: it is another one, or will be refused.
pub(crate) fn writing<'a>(scripts: &Scripts, args: Args<'a>) -> Option<Run<'a>> {
    if args.is(0, "fcall") {
        return function::run_of(scripts, args, false).ok();
    }
    let (sha, body) = match () {
        _ if args.is(0, "eval") => (sha1_hex(args.bytes(1)), args.bytes(1).clone()),
        _ if args.is(0, "evalsha") => known(scripts, args).ok()?,
        _ => return None,
    };
    let (keys, args) = keys_and_args(args).ok()?;
    run_of(sha, body, keys, args, false).ok()
}

/// The script whose SHA-1 is word 1.
fn known(scripts: &Scripts, args: Args) -> Result<(String, Bytes), CommandError> {
    let sha = match std::str::from_utf8(args.bytes(1)) {
        Ok(sha) => sha.to_ascii_lowercase(),
        Err(_) => String::new(),
    };
    let body = scripts.get(&sha).cloned();
    body.map(|body| (sha, body)).ok_or(CommandError::Text("NOSCRIPT No matching script. Please use EVAL."))
}

/// KEYS and ARGV: word 2 says how many of those behind it are keys.
pub(super) fn keys_and_args(args: Args<'_>) -> Result<(&[Bytes], &[Bytes]), CommandError> {
    let count = args.int(2)?;
    let rest = args.from(3);
    match usize::try_from(count) {
        Ok(count) if count <= rest.len() => Ok(rest.split_at(count)),
        Ok(_) => Err(CommandError::Text("ERR Number of keys can't be greater than number of args")),
        Err(_) => Err(CommandError::Text("ERR Number of keys can't be negative")),
    }
}

fn exists(context: &mut ReadContext, args: Args) -> Outcome {
    let exists = |sha: &Bytes| {
        let sha = String::from_utf8_lossy(sha).to_ascii_lowercase();
        Reply::flag(context.scripts.get(&sha).is_some())
    };
    Ok(Reply::Array(args.from(2).iter().map(exists).collect()))
}

fn flush(context: &mut WriteContext, args: Args) -> Outcome {
    if args.len() > 3 || args.len() == 3 && !args.is(2, "sync") && !args.is(2, "async") {
        return Err(CommandError::Text("ERR SCRIPT FLUSH only support SYNC|ASYNC option"));
    }
    context.scripts.flush();
    Ok(Reply::OK)
}

fn load(context: &mut WriteContext, args: Args) -> Outcome {
    let body = args.bytes(2).clone();
    library::script_flags(&body)?;
    let sha = sha1_hex(&body);
    context.scripts.check(&sha, &body)?;
    context.scripts.load(sha.clone(), body);
    Ok(Reply::bulk(sha))
}
