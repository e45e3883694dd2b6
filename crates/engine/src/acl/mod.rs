//! Users and their rights: Redis's access control lists.
//!
//! Users are state of the meta group: they are made by entries, stand in its snapshots, and are the same on every node. What a
//! client may do is checked by the node that it is connected to, before anything else is done with its call; what a script
//! may do, by every replica alike, for the entry that runs it says under whose rights ([`crate::entry::Batch`]).
//!
//! Invariants: the user `default` is always there. No password is kept, nor enters the log: only its hash. Rules that a user is
//! described by make the same user again. A rule of an entry means the same on every replica: no setting of a node decides.
//!
//! This module must never know connections or settings.

pub mod category;
pub mod facts;
mod selector;
#[cfg(test)]
mod tests;
mod user;
mod users;

use std::fmt;

use bytes::Bytes;

use crate::command::Resolved;

pub use selector::Selector;
pub use user::{DEFAULT, Defaults, User, hash, same};
pub use users::{KnownUsers, RELAY, Users, merged, prepared};

/// Why a call is not allowed. The greater is the one that came further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denied {
    /// The command is not.
    Command,
    /// The key at this word is not.
    Key(usize),
    /// The channel at this word is not.
    Channel(usize),
}

/// What kind of thing was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A command.
    Command,
    /// A key.
    Key,
    /// A channel.
    Channel,
}

/// A call that was not allowed, as it is told of and noted. `Display` is what its client is told, behind `NOPERM `.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// The command's full name, the key, or the channel.
    pub object: Bytes,
}

impl Denied {
    /// Of the call `words` of `row`.
    pub fn of(self, row: Resolved, words: &[Bytes]) -> Refused {
        match self {
            Denied::Command => Refused { reason: Reason::Command, object: row.full_name().into() },
            Denied::Key(at) => Refused { reason: Reason::Key, object: words[at].clone() },
            Denied::Channel(at) => Refused { reason: Reason::Channel, object: words[at].clone() },
        }
    }
}

impl Refused {
    /// What ACL DRYRUN tells.
    pub fn in_trial(&self) -> String {
        let object = String::from_utf8_lossy(&self.object);
        match self.reason {
            Reason::Command => format!("This user has no permissions to run the '{object}' command"),
            Reason::Key => format!("This user has no permissions to access the '{object}' key"),
            Reason::Channel => format!("This user has no permissions to access the '{object}' channel"),
        }
    }

    /// What a script is told.
    pub fn in_script(&self) -> &'static str {
        match self.reason {
            Reason::Command => "ERR The user executing the script can't run this command or subcommand",
            Reason::Key => {
                "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments"
            }
            Reason::Channel => {
                "ERR The user executing the script can't publish to the channel mentioned in the command"
            }
        }
    }

    /// What EXEC tells of a call that was allowed when it was queued.
    pub fn since_queued(&self) -> String {
        let why = match self.reason {
            Reason::Command => "no permission to execute the command or subcommand",
            Reason::Key => "no permission to touch the specified keys",
            Reason::Channel => "no permission to access one of the channels used as arguments",
        };
        format!(
            "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is \
             no longer allowed for the following reason: {why}"
        )
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.reason {
            Reason::Command => {
                let name = String::from_utf8_lossy(&self.object);
                write!(f, "this user has no permissions to run the '{name}' command")
            }
            Reason::Key => {
                f.write_str("this user has no permissions to access one of the keys used as arguments")
            }
            Reason::Channel => {
                f.write_str("this user has no permissions to access one of the channels used as arguments")
            }
        }
    }
}

/// What is wrong with a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// It names what does not exist.
    #[error("Unknown command or category name in ACL")]
    Unknown,
    /// It is none, or a pattern holds a space.
    #[error("Syntax error")]
    Syntax,
    /// Every key is allowed already.
    #[error(
        "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try \
         'resetkeys' to start with an empty list of patterns"
    )]
    AfterAllKeys,
    /// Every channel is allowed already.
    #[error(
        "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. Try \
         'resetchannels' to start with an empty list of channels"
    )]
    AfterAllChannels,
    /// It takes away a password that the user does not have.
    #[error("The password you are trying to remove from the user does not exist")]
    NoSuchPassword,
    /// It is no hash of a password.
    #[error(
        "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
    )]
    NoHash,
    /// It names an argument of a subcommand.
    #[error("Allowing first-arg of a subcommand is not supported")]
    FirstArgOfSubcommand,
}

/// Whether a name or a pattern holds what would part it from itself where rules are told.
pub fn has_spaces(text: &[u8]) -> bool {
    text.iter().any(|byte| matches!(byte, b' ' | b'\t'..=b'\r' | 0))
}
