//! ACL, as far as it concerns this node: what there is to name in rules, passwords, who is asking, what was refused.

use bytes::Bytes;
use quoris_engine::acl::{category, facts};
use quoris_engine::args::Args;
use quoris_engine::command::{self, Outcome};
use quoris_engine::{CommandError, Reply};

use crate::server::Server;
use crate::session::Session;

/// ACL LOG shows so many, if it is not said how many.
const SHOWN: usize = 10;

/// `CAT [category]`.
pub(super) fn cat(args: Args) -> Outcome {
    match args.len() {
        2 => Ok(Reply::Array(category::NAMES.iter().map(|(name, _)| Reply::bulk(name)).collect())),
        3 => {
            let Some(category) = category::named(args.bytes(2)) else {
                let name = String::from_utf8_lossy(args.bytes(2)).replace(['\r', '\n'], " ");
                return Err(CommandError::Message(format!("ERR Unknown category '{name}'")));
            };
            let rows = command::rows().iter();
            let members = rows.filter(|row| facts::of(row.command).categories.intersects(category));
            Ok(Reply::Array(members.map(|row| Reply::bulk(row.full_name())).collect()))
        }
        _ => Err(not_understood(args)),
    }
}

/// `GENPASS [bits]`.
pub(super) fn password(session: &Session, args: Args) -> Outcome {
    const MOST_BITS: i64 = 4096;
    const DIGIT_BITS: usize = 4;
    let bits = match args.len() {
        2 => 256,
        3 => args.int(2)?,
        _ => return Err(not_understood(args)),
    };
    if !(1..=MOST_BITS).contains(&bits) {
        return Err(CommandError::Text(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096",
        ));
    }
    Ok(Reply::bulk(random_digits(&session.server, (bits as usize).div_ceil(DIGIT_BITS))))
}

/// So many random hexadecimal digits.
pub(crate) fn random_digits(server: &Server, digits: usize) -> String {
    let rng = &server.env.rng;
    let mut text: String = (0..digits.div_ceil(16)).map(|_| format!("{:016x}", rng.next_u64())).collect();
    text.truncate(digits);
    text
}

/// `LOG [count | RESET]`.
pub(super) fn log(session: &Session, args: Args) -> Outcome {
    let log = &session.server.acl_log;
    match args.len() {
        2 => Ok(log.newest(SHOWN)),
        3 if args.is(2, "reset") => {
            log.reset();
            Ok(Reply::OK)
        }
        3 => Ok(log.newest(usize::try_from(args.int(2)?).unwrap_or(0))),
        _ => Err(not_understood(args)),
    }
}

/// LOAD and SAVE: as in Redis without a file of users.
pub(super) fn no_file() -> Outcome {
    Err(CommandError::Text(
        "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER \
         command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users in \
         the Redis configuration.",
    ))
}

pub(super) fn who_am_i(session: &Session) -> Reply {
    Reply::Bulk(session.user().name.clone())
}

fn not_understood(args: Args) -> CommandError {
    let sub = String::from_utf8_lossy(args.bytes(1)).replace(['\r', '\n'], " ");
    let text = format!("ERR unknown subcommand or wrong number of arguments for '{sub}'. Try ACL HELP.");
    CommandError::Message(text)
}

/// Whether words of ACL SETUSER hold what only a client of this node may say: passwords as they are.
pub(crate) fn tells_passwords(words: &[Bytes]) -> bool {
    words.iter().skip(3).any(|word| matches!(word.first(), Some(b'>' | b'<')))
}
