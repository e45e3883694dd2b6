//! The rows of commands that the server runs itself.

use crate::command::{Chapter, Command, Flags, Verb};

/// The rows.
pub const COMMANDS: &[Command] = &[Command::session("ping", -1, Verb::Ping).with(Flags::FAST).doc(
    Chapter::Connection,
    "1.0.0",
    "O(1)",
    "Returns the server's liveliness response.",
)];
