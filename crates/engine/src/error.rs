//! Every error text that a client of quoris can see, in one place. They are Redis 7's, word for word, wherever
//! Redis has one: clients match on them.

use bytes::Bytes;

use crate::acl::Refused;

/// Why a command failed. `Display` gives the RESP error line without its leading `-`.
///
/// Each of these says *certainly not applied*, but for [`CommandError::Unknown`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CommandError {
    /// The key holds another type.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    /// The key to write to holds another type: unlike [`CommandError::WrongType`], it also ends a call that has blocked.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongDestinationType,
    /// The arguments make no sense to the command.
    #[error("ERR syntax error")]
    Syntax,
    /// An argument or a stored value is not a 64-bit signed integer.
    #[error("ERR value is not an integer or out of range")]
    NotInteger,
    /// An argument or a stored value is not a floating point number.
    #[error("ERR value is not a valid float")]
    NotFloat,
    /// An index, offset or count out of its range.
    #[error("ERR index out of range")]
    IndexOutOfRange,
    /// A key that must exist does not.
    #[error("ERR no such key")]
    NoSuchKey,
    /// A count out of its range.
    #[error("ERR value is out of range")]
    OutOfRange,
    /// A count that is no number or negative.
    #[error("ERR value is out of range, must be positive")]
    NotPositive,
    /// A floating point argument that must be finite.
    #[error("ERR value is NaN or Infinity")]
    NotFinite,
    /// A hash's field to be incremented is not a 64-bit signed integer.
    #[error("ERR hash value is not an integer")]
    HashNotInteger,
    /// A hash's field to be incremented is not a floating point number.
    #[error("ERR hash value is not a float")]
    HashNotFloat,
    /// SCAN's cursor is not an unsigned 64-bit integer.
    #[error("ERR invalid cursor")]
    InvalidCursor,
    /// A database other than 0: a cluster has no other.
    #[error("ERR DB index is out of range")]
    DbIndex,
    /// COPY onto itself.
    #[error("ERR source and destination objects are the same")]
    SameObject,
    /// EXPIRE's options: `NX` with another.
    #[error("ERR NX and XX, GT or LT options at the same time are not compatible")]
    ExpireNxWithOther,
    /// EXPIRE's options: `GT` with `LT`.
    #[error("ERR GT and LT options at the same time are not compatible")]
    ExpireGtWithLt,
    /// EXPIRE's options: one it does not have.
    #[error("ERR Unsupported option {0}")]
    UnsupportedOption(String),
    /// A relative or absolute expiry that no clock can hold, or a negative one where none is allowed.
    #[error("ERR invalid expire time in '{0}' command")]
    InvalidExpire(&'static str),
    /// An increment that leaves the range of 64-bit signed integers.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// An increment whose result is not finite.
    #[error("ERR increment would produce NaN or Infinity")]
    NanOrInfinity,
    /// A string over the 512 MB that Redis allows.
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    StringTooLong,
    /// Wrong number of arguments.
    #[error("ERR wrong number of arguments for '{0}' command")]
    WrongArity(String),
    /// A command nobody knows.
    #[error("ERR unknown command '{name}', with args beginning with: {args}")]
    UnknownCommand {
        /// The name as sent, cut at 128 bytes.
        name: String,
        /// The first arguments, each quoted and followed by a space, cut at 128 bytes in all.
        args: String,
    },
    /// A subcommand nobody knows.
    #[error("ERR unknown subcommand '{sub}'. Try {command} HELP.")]
    UnknownSubcommand {
        /// The container command, upper case.
        command: String,
        /// The subcommand as sent, cut at 128 bytes.
        sub: String,
    },
    /// The slot is served by another node.
    #[error("MOVED {slot} {addr}")]
    Moved {
        /// The key's hash slot.
        slot: u16,
        /// `host:port` of the node to ask.
        addr: String,
    },
    /// The keys of one call are in several slots.
    #[error("CROSSSLOT Keys in request don't hash to the same slot")]
    CrossSlot,
    /// No quorum, hence nobody to serve the slot now.
    #[error("CLUSTERDOWN {0}")]
    ClusterDown(String),
    /// Try again in a moment: the slot or its group is between two states.
    #[error("TRYAGAIN {0}")]
    TryAgain(String),
    /// The write may or may not have been applied, now or later: the one class that is not safe to retry.
    #[error("UNKNOWN {0}")]
    Unknown(String),
    /// The group does not serve the slot (any more); the session routes the call again.
    #[error("TRYAGAIN slot {slot} is moving")]
    WrongGroup {
        /// The key's hash slot.
        slot: u16,
    },
    /// The call was blocked when the group's leader changed. It has done nothing.
    #[error("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)")]
    Unblocked,
    /// The memory limit forbids writes that need more.
    #[error("OOM command not allowed when used memory > 'maxmemory'.")]
    OutOfMemory,
    /// The leader has heard from too few followers of late (`min-replicas-to-write`).
    #[error("NOREPLICAS Not enough good replicas to write.")]
    FewReplicas,
    /// The client's user may not do this.
    #[error("NOPERM {0}")]
    Denied(Refused),
    /// Any other text, complete with its code (`ERR …`).
    #[error("{0}")]
    Text(&'static str),
    /// Any other text that is made at run time, complete with its code.
    #[error("{0}")]
    Message(String),
}

/// A quoted and clipped copy of what a client sent, as Redis shows it in an error.
pub fn unknown_command(args: &[Bytes]) -> CommandError {
    const MAX: usize = 128;
    let clip = |b: &[u8]| String::from_utf8_lossy(&b[..b.len().min(MAX)]).into_owned();
    let name = args.first().map(|a| clip(a)).unwrap_or_default();
    let mut shown = String::new();
    for arg in args.iter().skip(1) {
        if shown.len() >= MAX {
            break;
        }
        let room = MAX - shown.len();
        shown.push_str(&format!("'{}' ", String::from_utf8_lossy(&arg[..arg.len().min(room)])));
    }
    // A line break inside the line of an error would break the protocol's framing.
    let one_line = |s: String| s.replace(['\r', '\n'], " ");
    CommandError::UnknownCommand { name: one_line(name), args: one_line(shown) }
}
