//! The handlers, a file for each family, and the table of all rows.

pub mod counter;
pub mod expire;
pub mod function;
pub mod generic;
pub mod hash;
pub mod hash_expire;
pub mod lcs;
pub mod scan;
pub mod script;
pub mod session;
pub mod string;

use crate::command::Command;

/// Every row, family by family.
pub fn all() -> impl Iterator<Item = &'static Command> {
    [
        generic::COMMANDS,
        expire::COMMANDS,
        scan::COMMANDS,
        string::COMMANDS,
        counter::COMMANDS,
        lcs::COMMANDS,
        hash::COMMANDS,
        hash_expire::COMMANDS,
        script::COMMANDS,
        function::COMMANDS,
        session::COMMANDS,
    ]
    .into_iter()
    .flatten()
}
