//! What an entry did to keys, for those who watch from outside: keyspace notifications, client-side caching.
//!
//! Events are not state: nothing that is applied depends on them. What happens to keys is noted only while somebody on this
//! node asks for it ([`crate::Machine::observe`]); what a script publishes, calls and may not
//! call always is.

use bytes::Bytes;

use crate::acl::Refused;
use crate::command::{self, Flags};

bitflags::bitflags! {
    /// The classes of `notify-keyspace-events`, Redis's letters.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct EventClass: u16 {
        /// `g`: commands for any type.
        const GENERIC = 1;
        /// `$`.
        const STRING = 1 << 1;
        /// `l`.
        const LIST = 1 << 2;
        /// `s`.
        const SET = 1 << 3;
        /// `h`.
        const HASH = 1 << 4;
        /// `z`.
        const ZSET = 1 << 5;
        /// `t`.
        const STREAM = 1 << 6;
        /// `x`: a key that was due is gone.
        const EXPIRED = 1 << 7;
        /// `e`: a key was evicted.
        const EVICTED = 1 << 8;
        /// `n`: a key that was absent has been written.
        const NEW = 1 << 9;
    }
}

/// Something that happened, mostly to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    /// A notification, as Redis words it (`lpush`, `expired`).
    Notice(EventClass, &'static str, Bytes),
    /// The key's value or expiry is no longer what a client may have cached.
    Changed {
        /// The key.
        key: Bytes,
        /// Whose write it was ([`crate::Batch::by`]); 0 for nobody's in particular.
        origin: u64,
    },
    /// A tracked batch has read the key: of what comes behind this, its client is to be told.
    Read {
        /// The key.
        key: Bytes,
        /// The batch's origin.
        origin: u64,
    },
    /// No cached key is good any more (FLUSHALL).
    AllChanged,
    /// A script has called a command.
    Called {
        /// The call.
        words: Vec<Bytes>,
        /// Whether it failed.
        failed: bool,
    },
    /// A script has called what the user under whose rights it runs may not do.
    Denied {
        /// The user's name.
        user: Bytes,
        /// What it called.
        refused: Refused,
    },
    /// A script has published a message. Every replica knows of it, so every node tells its own clients.
    Publish {
        /// Where.
        channel: Bytes,
        /// What.
        message: Bytes,
        /// Whether the channel is one of SSUBSCRIBE's.
        in_shard: bool,
    },
}

impl KeyEvent {
    /// Whether it is a script's call of a command that reads keys.
    pub fn is_read(&self) -> bool {
        match self {
            KeyEvent::Called { words, .. } => KeyEvent::is_read_by(words),
            _ => false,
        }
    }

    /// Whether a call of `words` reads keys.
    pub(crate) fn is_read_by(words: &[Bytes]) -> bool {
        command::resolve(words).is_ok_and(|row| row.command.flags.contains(Flags::READONLY))
    }
}
