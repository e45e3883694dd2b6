//! What a command answers, before it is encoded as RESP2 or RESP3.

use bytes::Bytes;

use crate::error::CommandError;
use crate::waiters::{Block, WaiterId};

/// A command's answer. One value serves both protocols: the encoder turns what RESP2 lacks into what Redis 7
/// sends there instead (given at each variant).
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `+OK` and its like: text without line breaks.
    Simple(&'static str),
    /// A status whose text is made at run time, without line breaks.
    Status(Bytes),
    /// An integer.
    Int(i64),
    /// A string of bytes.
    Bulk(Bytes),
    /// No value. RESP2: the null bulk string.
    Null,
    /// No value where an array was to be expected. RESP2: the null array.
    NullArray,
    /// An ordered list.
    Array(Vec<Reply>),
    /// Key and value alternately. RESP2: a flat array.
    Map(Vec<(Reply, Reply)>),
    /// A set. RESP2: an array.
    Set(Vec<Reply>),
    /// Pairs. RESP3: an array of two-element arrays; RESP2: a flat array.
    Pairs(Vec<(Reply, Reply)>),
    /// Lists by name. RESP3: a map; RESP2: an array of two-element arrays (XREAD).
    Named(Vec<(Reply, Reply)>),
    /// A floating point number. RESP2: a bulk string.
    Double(f64),
    /// An integer of any size, in decimal digits. RESP2: a bulk string.
    BigNumber(Bytes),
    /// A floating point number whose decimals are written out, 17 at most. RESP2: a bulk string.
    Decimal(f64),
    /// A truth value. RESP2: the integer 1 or 0.
    Bool(bool),
    /// Text with its format (three letters, e.g. `txt`). RESP2: a bulk string.
    Verbatim(&'static str, Bytes),
    /// A reply behind attributes. RESP2: the reply alone.
    Attributed(Vec<(Reply, Reply)>, Box<Reply>),
    /// An out-of-band message. RESP2: an array.
    Push(Vec<Reply>),
    /// No answer yet: in a write that may block. Never leaves the machine as such.
    Block(Box<Block>),
    /// The machine has made a waiter of the call; its answer comes later. Never sent to a client.
    Blocked {
        /// Under which id the answer comes.
        id: WaiterId,
        /// How long the client waits, in milliseconds; `None`: for ever.
        timeout_ms: Option<u64>,
    },
    /// The command failed.
    Error(CommandError),
}

impl Reply {
    /// `+OK`.
    pub const OK: Reply = Reply::Simple("OK");

    /// A bulk string of a copy of `bytes`.
    pub fn bulk(bytes: impl AsRef<[u8]>) -> Reply {
        Reply::Bulk(Bytes::copy_from_slice(bytes.as_ref()))
    }

    /// A count as an integer.
    pub fn count(n: usize) -> Reply {
        Reply::Int(n as i64)
    }

    /// The integer 1 or 0 (how Redis answers yes and no in both protocols).
    pub fn flag(yes: bool) -> Reply {
        Reply::Int(i64::from(yes))
    }

    /// Whether this is an error.
    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Error(_))
    }
}

impl From<CommandError> for Reply {
    fn from(error: CommandError) -> Reply {
        Reply::Error(error)
    }
}
