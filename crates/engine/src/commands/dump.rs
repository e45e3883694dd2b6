//! DUMP and RESTORE: a value as bytes that Redis and quoris exchange ([`crate::rdb`]).

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, Outcome, ReadContext, WriteContext};
use crate::error::CommandError;
use crate::events::EventClass;
use crate::rdb::{Content, Refused};
use crate::reply::Reply;
use crate::slot::NEVER;

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::read("dump", 2, Keys::ONE, dump).doc(
        Chapter::Generic,
        "2.6.0",
        "O(1) to access the key and additional O(N*M) to serialize it, where N is the number of Redis objects \
         composing the value and M their average size. For small string values the time complexity is thus \
         O(1)+O(1*M) where M is small, so simply O(1).",
        "Returns a serialized representation of the value stored at a key.",
    ),
    Command::write("restore", -4, Keys::ONE, restore).with(Flags::DENYOOM).doc(
        Chapter::Generic,
        "2.6.0",
        RESTORE_COMPLEXITY,
        "Creates a key from the serialized representation of a value.",
    ),
    Command::write("restore-asking", -4, Keys::ONE, restore).with(Flags::DENYOOM).doc(
        Chapter::Server,
        "3.0.0",
        RESTORE_COMPLEXITY,
        "An internal command for migrating keys in a cluster.",
    ),
];

const RESTORE_COMPLEXITY: &str = "O(1) to create the new key and additional O(N*M) to reconstruct the serialized value, \
     where N is the number of Redis objects composing the value and M their average size. For small string values the \
     time complexity is thus O(1)+O(1*M) where M is small, so simply O(1). However for sorted set values the complexity \
     is O(N*M*log(N)) because inserting values into sorted sets is O(log(N)).";

fn dump(context: &mut ReadContext, args: Args) -> Outcome {
    let keys = context.keys;
    let payload = keys.get(args.bytes(1)).map(|object| Content::of(&object.value, keys.now_ms()).dump());
    Ok(payload.map_or(Reply::Null, |payload| Reply::Bulk(payload.into())))
}

fn restore(context: &mut WriteContext, args: Args) -> Outcome {
    let key = args.bytes(1);
    let options = Options::parse(args)?;
    if !options.replace && context.keys.contains(key) {
        return Err(CommandError::Text("BUSYKEY Target key name already exists."));
    }
    let now_ms = context.keys.now_ms();
    let expire_ms = match u64::try_from(args.int(2)?) {
        Ok(0) => NEVER,
        Ok(at) if options.absolute => at,
        Ok(after) => now_ms.saturating_add(after),
        Err(_) => return Err(CommandError::Text("ERR Invalid TTL value, must be >= 0")),
    };
    let content = Content::load(args.bytes(3)).map_err(|refused| match refused {
        Refused::Footer => CommandError::Text("ERR DUMP payload version or checksum are wrong"),
        Refused::Data => BAD_DATA,
    })?;
    let value = content.into_value(context.keys.bounds()).ok_or(BAD_DATA)?;
    if expire_ms <= now_ms {
        if context.keys.discard(key) {
            context.keys.notify(EventClass::GENERIC, "del", key);
        }
        return Ok(Reply::OK);
    }
    context.keys.set(key, value, expire_ms);
    context.keys.notify(EventClass::GENERIC, "restore", key);
    Ok(Reply::OK)
}

const BAD_DATA: CommandError = CommandError::Text("ERR Bad data format");

struct Options {
    replace: bool,
    /// Whether the time to live is a time.
    absolute: bool,
}

impl Options {
    /// The words from 4 on. When and how often a key was used is checked and then forgotten: that is no part of the
    /// replicated state.
    fn parse(args: Args) -> Result<Options, CommandError> {
        let mut options = Options { replace: false, absolute: false };
        let (mut idle, mut freq) = (false, false);
        let mut i = 4;
        while i < args.len() {
            let followed = i + 1 < args.len();
            match () {
                () if args.is(i, "replace") => options.replace = true,
                () if args.is(i, "absttl") => options.absolute = true,
                () if args.is(i, "idletime") && followed && !freq => {
                    i += 1;
                    idle = true;
                    if args.int(i)? < 0 {
                        return Err(CommandError::Text("ERR Invalid IDLETIME value, must be >= 0"));
                    }
                }
                () if args.is(i, "freq") && followed && !idle => {
                    i += 1;
                    freq = true;
                    if !(0..=255).contains(&args.int(i)?) {
                        return Err(CommandError::Text("ERR Invalid FREQ value, must be >= 0 and <= 255"));
                    }
                }
                () => return Err(CommandError::Syntax),
            }
            i += 1;
        }
        Ok(options)
    }
}
