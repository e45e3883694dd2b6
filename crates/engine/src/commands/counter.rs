//! Strings that are numbers.

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, Outcome, WriteContext};
use crate::error::CommandError;
use crate::events::EventClass;
use crate::keyspace::Keyspace;
use crate::reply::Reply;
use crate::slot::NEVER;
use crate::value::{LongDouble, StringValue, Value, number};

const FLAGS: Flags = Flags::DENYOOM.union(Flags::FAST);

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::write("decr", 2, Keys::ONE, decr).with(FLAGS).doc(
        Chapter::String,
        "1.0.0",
        "O(1)",
        "Decrements the integer value of a key by one. Uses 0 as initial value if the key doesn't exist.",
    ),
    Command::write("decrby", 3, Keys::ONE, decrby).with(FLAGS).doc(
        Chapter::String,
        "1.0.0",
        "O(1)",
        "Decrements a number from the integer value of a key. Uses 0 as initial value if the key doesn't exist.",
    ),
    Command::write("incr", 2, Keys::ONE, incr).with(FLAGS).doc(
        Chapter::String,
        "1.0.0",
        "O(1)",
        "Increments the integer value of a key by one. Uses 0 as initial value if the key doesn't exist.",
    ),
    Command::write("incrby", 3, Keys::ONE, incrby).with(FLAGS).doc(
        Chapter::String,
        "1.0.0",
        "O(1)",
        "Increments the integer value of a key by a number. Uses 0 as initial value if the key doesn't exist.",
    ),
    Command::write("incrbyfloat", 3, Keys::ONE, incrbyfloat).with(FLAGS).doc(
        Chapter::String,
        "2.6.0",
        "O(1)",
        "Increment the floating point value of a key by a number. Uses 0 as initial value if the key doesn't exist.",
    ),
];

fn incr(context: &mut WriteContext, args: Args) -> Outcome {
    add(context.keys, args.bytes(1), 1)
}

fn decr(context: &mut WriteContext, args: Args) -> Outcome {
    add(context.keys, args.bytes(1), -1)
}

fn incrby(context: &mut WriteContext, args: Args) -> Outcome {
    add(context.keys, args.bytes(1), args.int(2)?)
}

fn decrby(context: &mut WriteContext, args: Args) -> Outcome {
    let decrement = args.int(2)?;
    let increment = decrement.checked_neg().ok_or(CommandError::Text("ERR decrement would overflow"))?;
    add(context.keys, args.bytes(1), increment)
}

fn add(keys: &mut Keyspace, key: &[u8], increment: i64) -> Outcome {
    let value = match keys.string(key)? {
        Some(string) => number::parse_int(string.as_bytes()).ok_or(CommandError::NotInteger)?,
        None => 0,
    };
    let sum = value.checked_add(increment).ok_or(CommandError::Overflow)?;
    overwrite(keys, key, &sum.to_string());
    keys.notify(EventClass::STRING, "incrby", key);
    Ok(Reply::Int(sum))
}

fn incrbyfloat(context: &mut WriteContext, args: Args) -> Outcome {
    let key = args.bytes(1);
    let parse = |text: &[u8]| LongDouble::parse(text).ok_or(CommandError::NotFloat);
    let value =
        context.keys.string(key)?.map(StringValue::as_bytes).map_or(Ok(LongDouble::from(0)), parse)?;
    let sum = value.checked_add(&parse(args.bytes(2))?).ok_or(CommandError::NanOrInfinity)?.to_string();
    overwrite(context.keys, key, &sum);
    context.keys.notify(EventClass::STRING, "incrbyfloat", key);
    Ok(Reply::bulk(sum))
}

/// Sets `key` to a string and keeps its expiry.
fn overwrite(keys: &mut Keyspace, key: &[u8], text: &str) {
    let expire_ms = keys.get(key).map_or(NEVER, |object| object.expire_ms);
    keys.set(key, Value::string(text.as_bytes()), expire_ms);
}
