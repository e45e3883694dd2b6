//! The handlers, a file for each family, and the table of all rows.

pub mod counter;
pub mod generic;
pub mod lcs;
pub mod scan;
pub mod session;
pub mod string;

use crate::command::Command;

/// Every row, family by family.
pub fn all() -> impl Iterator<Item = &'static Command> {
    [generic::COMMANDS, string::COMMANDS, counter::COMMANDS, lcs::COMMANDS, session::COMMANDS]
        .into_iter()
        .flatten()
}
