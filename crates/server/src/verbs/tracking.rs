//! CLIENT TRACKING and its like: what a client has cached, and how it is told that it is no longer good.

use bytes::Bytes;
use quoris_engine::args::Args;
use quoris_engine::command::Outcome;
use quoris_engine::{CommandError, Reply};

use super::unsigned;
use crate::client_memory::Held;
use crate::session::Session;
use crate::tracking::Mode;

/// `TRACKING ON|OFF [REDIRECT id] [BCAST] [PREFIX prefix]… [OPTIN] [OPTOUT] [NOLOOP]`.
pub(super) fn tracking(session: &mut Session, args: Args) -> Outcome {
    let (mode, prefixes) = parse(session, args)?;
    if args.is(2, "off") {
        session.set_tracking(None);
        session.server.tracking.stop(session.client.id);
        session.client.state().memory.prefixes = 0;
    } else if args.is(2, "on") {
        let held = session.server.tracking.look(session.client.id);
        let held = held.map_or_else(Vec::new, |(_, prefixes)| prefixes);
        check(session.tracking, mode, &prefixes, &held)?;
        // A mark that no other writer has: 0 is nobody's. It stays, for what it marks may be under way.
        let drawn = || session.server.env.rng.next_u64() | 1;
        let origin = session.tracking.map_or_else(drawn, |mode| mode.origin);
        let mode = Mode { origin, ..mode };
        session.set_tracking(Some(mode));
        session.server.tracking.start(&session.client, mode, &prefixes);
        let prefixes = held.iter().chain(&prefixes);
        session.client.state().memory.prefixes = Held::of_names(prefixes);
    } else {
        return Err(CommandError::Syntax);
    }
    session.server.observe();
    Ok(Reply::OK)
}

fn parse(session: &Session, args: Args) -> Result<(Mode, Vec<Bytes>), CommandError> {
    let (mut mode, mut prefixes) = (Mode::default(), Vec::new());
    let mut i = 3;
    while i < args.len() {
        let more = i + 1 < args.len();
        match args.bytes(i).to_ascii_lowercase().as_slice() {
            b"redirect" if more => {
                i += 1;
                if mode.redirect != 0 {
                    return Err(CommandError::Text(
                        "ERR A client can only redirect to a single other client",
                    ));
                }
                let id = unsigned(args.bytes(i)).ok_or(CommandError::NotInteger)?;
                if session.server.clients.get(id).is_none() {
                    return Err(CommandError::Text("ERR The client ID you want redirect to does not exist"));
                }
                mode.redirect = id;
            }
            b"prefix" if more => {
                i += 1;
                prefixes.push(args.bytes(i).clone());
            }
            b"bcast" => mode.bcast = true,
            b"optin" => mode.optin = true,
            b"optout" => mode.optout = true,
            b"noloop" => mode.noloop = true,
            _ => return Err(CommandError::Syntax),
        }
        i += 1;
    }
    Ok((mode, prefixes))
}

/// Whether the options go together, and with what the client had before.
fn check(before: Option<Mode>, mode: Mode, prefixes: &[Bytes], held: &[Bytes]) -> Result<(), CommandError> {
    let refuse =
        |refused: bool, text: &'static str| if refused { Err(CommandError::Text(text)) } else { Ok(()) };
    refuse(!mode.bcast && !prefixes.is_empty(), "ERR PREFIX option requires BCAST mode to be enabled")?;
    refuse(
        before.is_some_and(|before| before.bcast != mode.bcast),
        "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it \
         with a different mode.",
    )?;
    refuse(mode.bcast && (mode.optin || mode.optout), "ERR OPTIN and OPTOUT are not compatible with BCAST")?;
    refuse(mode.optin && mode.optout, "ERR You can't specify both OPTIN mode and OPTOUT mode")?;
    let switches = |before: Mode| mode.optin && before.optout || mode.optout && before.optin;
    refuse(
        before.is_some_and(switches),
        "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it \
         with a different mode.",
    )?;
    if mode.bcast { check_prefixes(prefixes, held) } else { Ok(()) }
}

/// A key must not have two of a client's prefixes.
fn check_prefixes(prefixes: &[Bytes], held: &[Bytes]) -> Result<(), CommandError> {
    let overlap = |a: &Bytes, b: &Bytes| a.starts_with(b) || b.starts_with(a);
    let refuse = |new: &Bytes, kind: &str, old: &Bytes| {
        let (new, old) = (String::from_utf8_lossy(new), String::from_utf8_lossy(old));
        Err(CommandError::Message(format!(
            "ERR Prefix '{new}' overlaps with {kind} prefix '{old}'. Prefixes for a single client must not overlap."
        )))
    };
    for (i, new) in prefixes.iter().enumerate() {
        if let Some(old) = held.iter().find(|old| overlap(new, old)) {
            return refuse(new, "an existing", old);
        }
        if let Some(old) = prefixes[i + 1..].iter().find(|old| overlap(new, old)) {
            return refuse(new, "another provided", old);
        }
    }
    Ok(())
}

/// `CACHING YES|NO`.
pub(super) fn caching(session: &mut Session, args: Args) -> Outcome {
    let Some(mode) = session.tracking else {
        let text = "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode \
                    enabled";
        return Err(CommandError::Text(text));
    };
    let (fits, text) = if args.is(2, "yes") {
        (mode.optin, "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
    } else if args.is(2, "no") {
        (mode.optout, "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
    } else {
        return Err(CommandError::Syntax);
    };
    if !fits {
        return Err(CommandError::Text(text));
    }
    session.set_tracking(Some(Mode { caching: true, ..mode }));
    Ok(Reply::OK)
}

pub(super) fn redirect(session: &Session) -> Reply {
    Reply::Int(session.tracking.map_or(-1, |mode| mode.redirect as i64))
}

pub(super) fn info(session: &Session) -> Reply {
    let mode = session.tracking.unwrap_or_default();
    let look = session.server.tracking.look(session.client.id);
    let (broken, prefixes) = look.unwrap_or_default();
    let flags = [
        ("off", session.tracking.is_none()),
        ("on", session.tracking.is_some()),
        ("bcast", mode.bcast),
        ("optin", mode.optin),
        ("caching-yes", mode.optin && mode.caching),
        ("optout", mode.optout),
        ("caching-no", mode.optout && mode.caching),
        ("noloop", mode.noloop),
        ("broken_redirect", broken),
    ];
    let flags = flags.into_iter().filter(|(_, set)| *set).map(|(flag, _)| Reply::bulk(flag));
    Reply::Map(vec![
        (Reply::bulk("flags"), Reply::Set(flags.collect())),
        (Reply::bulk("redirect"), redirect(session)),
        (Reply::bulk("prefixes"), Reply::Array(prefixes.into_iter().map(Reply::Bulk).collect())),
    ])
}
