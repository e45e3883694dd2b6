//! Strings.

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, Outcome, ReadContext, WriteContext};
use crate::reply::Reply;
use crate::slot::NEVER;
use crate::value::{StringValue, Value};

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::read("get", 2, Keys::ONE, get).with(Flags::FAST).doc(
        Chapter::String,
        "1.0.0",
        "O(1)",
        "Returns the string value of a key.",
    ),
    Command::write("set", -3, Keys::ONE, set).with(Flags::DENYOOM).doc(
        Chapter::String,
        "1.0.0",
        "O(1)",
        "Sets the string value of a key, ignoring its type. The key is created if it doesn't exist.",
    ),
];

fn get(context: &mut ReadContext, args: Args) -> Outcome {
    let string = context.keys.string(args.bytes(1))?;
    Ok(string.map(StringValue::to_bytes).map_or(Reply::Null, Reply::Bulk))
}

fn set(context: &mut WriteContext, args: Args) -> Outcome {
    context.keys.set(args.bytes(1), Value::string(args.bytes(2)), NEVER);
    Ok(Reply::OK)
}
