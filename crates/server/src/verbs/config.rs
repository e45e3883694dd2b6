//! CONFIG.

use quoris_engine::args::Args;
use quoris_engine::command::Outcome;
use quoris_engine::{CommandError, Reply, glob};

use crate::config::compat::HIDDEN;
use crate::session::Session;

/// Names in lower case, as all patterns are made, so that the case does not matter.
pub(super) fn get(session: &Session, args: Args) -> Reply {
    let patterns: Vec<Vec<u8>> = args.from(2).iter().map(|pattern| pattern.to_ascii_lowercase()).collect();
    let names = |pattern: &[u8], name: &str| match HIDDEN.contains(&name) {
        true => pattern == name.as_bytes(),
        false => glob::matches(pattern, name.as_bytes()),
    };
    let wanted = |name: &str| patterns.iter().any(|pattern| names(pattern, name));
    let pairs = session.server.settings.list(wanted);
    Reply::Map(pairs.into_iter().map(|(name, value)| (Reply::bulk(name), Reply::bulk(value))).collect())
}

pub(super) fn set(session: &Session, args: Args) -> Outcome {
    let words = args.from(2);
    if !words.len().is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    let text = |word: &bytes::Bytes| String::from_utf8_lossy(word).into_owned();
    let changes: Vec<_> = words.chunks_exact(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect();
    session.server.settings.set(&changes)?;
    session.server.observe();
    session.server.tracking.settings_changed();
    session.server.limit_clients();
    session.server.users.renew(None);
    Ok(Reply::OK)
}

pub(super) fn rewrite(session: &Session) -> Outcome {
    session.server.settings.rewrite(&*session.server.env.disk)?;
    Ok(Reply::OK)
}
