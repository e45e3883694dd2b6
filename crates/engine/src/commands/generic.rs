//! Keys of any type, and their expiry.

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Gather, Keys, Outcome, ReadContext, WriteContext};
use crate::reply::Reply;

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::write("del", -2, Keys::ALL, del).doc(
        Chapter::Generic,
        "1.0.0",
        "O(N)",
        "Deletes one or more keys.",
    ),
    Command::read("dbsize", 1, Keys::NONE, dbsize).with(Flags::FAST).gathered(Gather::Sum).doc(
        Chapter::Server,
        "1.0.0",
        "O(1)",
        "Returns the number of keys in the database.",
    ),
];

fn del(context: &mut WriteContext, args: Args) -> Outcome {
    let removed = args.from(1).iter().filter(|key| context.keys.remove(key).is_some()).count();
    Ok(Reply::count(removed))
}

fn dbsize(context: &mut ReadContext, _: Args) -> Outcome {
    Ok(Reply::count(context.keys.len()))
}
