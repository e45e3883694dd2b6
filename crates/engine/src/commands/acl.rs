//! ACL: the users. What changes them or tells of them concerns the meta group's state; the rest is the server's.

use std::sync::Arc;

use bytes::Bytes;

use crate::acl::{Selector, User, Users};
use crate::args::Args;
use crate::command::{self, Chapter, Command, Flags, Gather, Keys, Outcome, ReadContext, Verb, WriteContext};
use crate::error::CommandError;
use crate::reply::Reply;

/// For administrators; what it changes is no key, so it neither reads nor writes in the sense of the access rules.
const FLAGS: Flags = Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::LOADING).union(Flags::STALE);
const OPEN: Flags = Flags::NOSCRIPT.union(Flags::LOADING).union(Flags::STALE);

const NO_CONTEXT: CommandError = CommandError::Text("ERR the users are not known here");

type Text = &'static str;

/// The rows.
pub const COMMANDS: &[Command] = &[Command::container("acl", SUBCOMMANDS).doc(
    Chapter::Server,
    "6.0.0",
    "Depends on subcommand.",
    "A container for Access List Control commands.",
)];

const SUBCOMMANDS: &[Command] = &[
    on_node("cat", -2, Verb::AclCat, OPEN, "Lists the ACL categories, or the commands inside a category."),
    Command { flags: FLAGS, ..Command::write("deluser", -3, Keys::NONE, deluser) }
        .gathered(Gather::Meta)
        .doc(
            Chapter::Server,
            "6.0.0",
            "O(1) amortized time considering the typical user.",
            "Deletes ACL users, and terminates their connections.",
        ),
    asking("dryrun", -4, dryrun, "7.0.0", "Simulates the execution of a command by a user."),
    on_node("genpass", -2, Verb::AclGenpass, OPEN, "Generates a pseudorandom, secure password."),
    asking("getuser", 3, getuser, "6.0.0", "Lists the ACL rules of a user."),
    on_node("help", 2, Verb::Help, OPEN, "Prints this help."),
    asking("list", 2, list, "6.0.0", "Dumps the effective rules in ACL file format."),
    on_node(
        "load",
        2,
        Verb::AclLoad,
        FLAGS,
        "Would reload the rules from a file; users are kept without one.",
    ),
    on_node("log", -2, Verb::AclLog, FLAGS, "Lists recent calls on this node that were not allowed."),
    on_node("save", 2, Verb::AclSave, FLAGS, "Would save the rules in a file; users are kept without one."),
    Command { flags: FLAGS, ..Command::write("setuser", -3, Keys::NONE, setuser) }
        .gathered(Gather::Meta)
        .doc(
            Chapter::Server,
            "6.0.0",
            "O(N). Where N is the number of rules provided.",
            "Creates and modifies an ACL user and its rules.",
        ),
    asking("users", 2, users, "6.0.0", "Lists all ACL users."),
    on_node(
        "whoami",
        2,
        Verb::AclWhoami,
        OPEN,
        "Returns the authenticated username of the current connection.",
    ),
];

const fn on_node(name: Text, arity: i32, verb: Verb, flags: Flags, summary: Text) -> Command {
    let row = Command::session(name, arity, verb).doc(Chapter::Server, "6.0.0", "O(1)", summary);
    Command { flags, ..row }
}

const fn asking(
    name: Text,
    arity: i32,
    run: fn(&mut ReadContext, Args) -> Outcome,
    since: Text,
    summary: Text,
) -> Command {
    let row = Command::read(name, arity, Keys::NONE, run).gathered(Gather::Meta);
    Command { flags: FLAGS, ..row.doc(Chapter::Server, since, "O(N)", summary) }
}

/// The words are as [`crate::acl::prepared`] has made them.
fn setuser(context: &mut WriteContext, args: Args) -> Outcome {
    let users = context.users.as_mut().ok_or(NO_CONTEXT)?;
    users.set(args.bytes(2), args.from(3))?;
    Ok(Reply::OK)
}

fn deluser(context: &mut WriteContext, args: Args) -> Outcome {
    let users = context.users.as_mut().ok_or(NO_CONTEXT)?;
    Ok(Reply::count(users.remove(args.from(2))?))
}

fn known<'a>(context: &ReadContext<'a>) -> Result<&'a Users, CommandError> {
    context.users.ok_or(NO_CONTEXT)
}

fn users(context: &mut ReadContext, _: Args) -> Outcome {
    Ok(Reply::Array(known(context)?.iter().map(|user| Reply::Bulk(user.name.clone())).collect()))
}

fn list(context: &mut ReadContext, _: Args) -> Outcome {
    let line = |user: &Arc<User>| {
        let mut words = vec![Bytes::from_static(b"user"), user.name.clone()];
        words.extend(user.describe());
        Reply::Bulk(words.join(&b' ').into())
    };
    Ok(Reply::Array(known(context)?.iter().map(line).collect()))
}

fn getuser(context: &mut ReadContext, args: Args) -> Outcome {
    let Some(user) = known(context)?.get(args.bytes(2)) else { return Ok(Reply::Null) };
    let passwords = user.passwords().iter().map(|hash| Reply::Bulk(hash.clone()));
    let selectors = user.selectors().iter().map(|selector| Reply::Map(fields_of(selector)));
    let mut fields = vec![
        (Reply::bulk("flags"), Reply::Set(user.describe_flags().map(Reply::bulk).collect())),
        (Reply::bulk("passwords"), Reply::Array(passwords.collect())),
    ];
    fields.extend(fields_of(user.root()));
    fields.push((Reply::bulk("selectors"), Reply::Array(selectors.collect())));
    Ok(Reply::Map(fields))
}

fn fields_of(selector: &Selector) -> Vec<(Reply, Reply)> {
    let text = |rules: Vec<Bytes>| Reply::Bulk(rules.join(&b' ').into());
    vec![
        (Reply::bulk("commands"), text(selector.describe_commands())),
        (Reply::bulk("keys"), text(selector.describe_keys())),
        (Reply::bulk("channels"), text(selector.describe_channels())),
    ]
}

fn dryrun(context: &mut ReadContext, args: Args) -> Outcome {
    let shown = |i: usize| String::from_utf8_lossy(args.bytes(i)).replace(['\r', '\n'], " ");
    let user = known(context)?.get(args.bytes(2));
    let user = user.ok_or_else(|| CommandError::Message(format!("ERR User '{}' not found", shown(2))))?;
    let words = args.from(3);
    let row = command::lookup(words);
    let row = row.ok_or_else(|| CommandError::Message(format!("ERR Command '{}' not found", shown(3))))?;
    if !row.command.accepts(words.len()) {
        return Err(CommandError::WrongArity(row.full_name()));
    }
    Ok(match user.check(row, words) {
        Ok(()) => Reply::OK,
        Err(denied) => Reply::bulk(denied.of(row, words).in_trial()),
    })
}
