//! The handlers, a file for each family, and the table of all rows.

pub mod acl;
mod bitfield;
pub mod bitmap;
pub mod counter;
pub mod debug;
pub mod dump;
pub mod expire;
pub mod function;
pub mod generic;
pub mod geo;
pub mod geo_search;
pub mod hash;
pub mod hash_expire;
pub mod hyperloglog;
pub mod lcs;
pub mod list;
pub mod list_move;
pub mod members;
pub mod pubsub;
pub mod scan;
pub mod script;
pub mod session;
pub mod set;
pub mod set_algebra;
pub mod sort;
pub mod stream;
pub mod stream_group;
pub mod stream_info;
pub mod stream_pending;
pub mod stream_read;
pub mod string;
pub mod zset;
pub mod zset_algebra;
pub mod zset_pop;
pub mod zset_range;

use bytes::Bytes;

use crate::args::Args;
use crate::command::Command;

/// Every row, family by family.
pub fn all() -> impl Iterator<Item = &'static Command> {
    [
        generic::COMMANDS,
        expire::COMMANDS,
        dump::COMMANDS,
        scan::COMMANDS,
        string::COMMANDS,
        counter::COMMANDS,
        bitmap::COMMANDS,
        hyperloglog::COMMANDS,
        lcs::COMMANDS,
        hash::COMMANDS,
        hash_expire::COMMANDS,
        geo::COMMANDS,
        geo_search::COMMANDS,
        list::COMMANDS,
        list_move::COMMANDS,
        set::COMMANDS,
        set_algebra::COMMANDS,
        sort::COMMANDS,
        zset::COMMANDS,
        zset_algebra::COMMANDS,
        zset_pop::COMMANDS,
        zset_range::COMMANDS,
        stream::COMMANDS,
        stream_read::COMMANDS,
        stream_group::COMMANDS,
        stream_pending::COMMANDS,
        stream_info::COMMANDS,
        script::COMMANDS,
        function::COMMANDS,
        pubsub::COMMANDS,
        session::COMMANDS,
        acl::COMMANDS,
        debug::COMMANDS,
    ]
    .into_iter()
    .flatten()
}

/// For how many milliseconds a call of a command that may block waits, by its words; `None`: for ever.
pub fn timeout_ms(words: &[Bytes]) -> Option<u64> {
    let args = Args(words);
    let at = match words[0].to_ascii_lowercase().as_slice() {
        b"xread" | b"xreadgroup" => return stream_read::block_ms(words),
        b"blmpop" | b"bzmpop" => 1,
        _ => args.len() - 1,
    };
    args.timeout_ms(at).ok().flatten()
}
