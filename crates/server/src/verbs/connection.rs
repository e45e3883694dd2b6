//! PING, HELLO, AUTH and their like: the connection itself.

use bytes::Bytes;
use quoris_engine::acl;
use quoris_engine::args::Args;
use quoris_engine::command::Outcome;
use quoris_engine::{CommandError, Reply};

use super::client;
use crate::resp::Protocol;
use crate::session::{Behalf, Kind, Replies, Session};

const WRONG_PASS: CommandError =
    CommandError::Text("WRONGPASS invalid username-password pair or user is disabled.");

/// A RESP2 client that listens could not tell `+PONG` from a message.
pub(super) fn ping(session: &Session, args: Args) -> Outcome {
    if args.len() <= 2 && session.protocol == Protocol::Resp2 && session.is_subscribed() {
        let text = args.from(1).first().cloned().unwrap_or_default();
        return Ok(Reply::Array(vec![Reply::bulk("pong"), Reply::Bulk(text)]));
    }
    match args.len() {
        1 => Ok(Reply::Simple("PONG")),
        2 => Ok(Reply::Bulk(args.bytes(1).clone())),
        _ => Err(CommandError::WrongArity("ping".to_string())),
    }
}

pub(super) fn set_readonly(session: &mut Session, readonly: bool) -> Outcome {
    session.readonly = readonly;
    session.client.state().readonly = readonly;
    Ok(Reply::OK)
}

pub(super) fn time(session: &Session) -> Reply {
    let now_ms = session.server.env.clock.now_ms();
    let (seconds, micros) = (now_ms / 1000, now_ms % 1000 * 1000);
    Reply::Array(vec![Reply::bulk(seconds.to_string()), Reply::bulk(micros.to_string())])
}

pub(super) fn reset(session: &mut Session) -> Outcome {
    session.log_out();
    session.replies = Replies::On;
    session.server.forget(&session.client);
    session.set_tracking(None);
    session.transaction = None;
    session.watched.clear();
    session.note_queued();
    session.kind = Kind::Plain;
    session.behalf = Behalf::default();
    set_protocol(session, Protocol::Resp2);
    set_readonly(session, false)?;
    let mut state = session.client.state();
    state.name.clear();
    (state.no_evict, state.no_touch, state.monitor) = (false, false, false);
    Ok(Reply::Simple("RESET"))
}

pub(super) fn auth(session: &mut Session, args: Args) -> Outcome {
    match args.len() {
        2 if session.server.users.get().default_user().is_without_password() => Err(CommandError::Text(
            "ERR AUTH <password> called without any password configured for the default user. \
             Are you sure your configuration is correct?",
        )),
        2 => log_in(session, args, &Bytes::from_static(acl::DEFAULT), args.bytes(1)),
        3 => log_in(session, args, args.bytes(1), args.bytes(2)),
        _ => Err(CommandError::Syntax),
    }
}

fn log_in(session: &mut Session, args: Args, user: &Bytes, password: &Bytes) -> Outcome {
    if session.log_in(user, password) {
        return Ok(Reply::OK);
    }
    let log = &session.server.acl_log;
    log.not_logged_in(args.bytes(0), session.acl_context(), user, session.client.line());
    Err(WRONG_PASS)
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`: all of it or nothing.
pub(super) fn hello(session: &mut Session, args: Args) -> Outcome {
    let protocol = if args.len() > 1 { version(args)? } else { session.protocol };
    let (mut login, mut name) = (None, None);
    let mut i = 2;
    while i < args.len() {
        let after = args.len() - i - 1;
        if args.is(i, "auth") && after >= 2 {
            login = Some((args.bytes(i + 1), args.bytes(i + 2)));
            i += 3;
        } else if args.is(i, "setname") && after >= 1 {
            name = Some(args.bytes(i + 1));
            i += 2;
        } else {
            let option = String::from_utf8_lossy(args.bytes(i));
            return Err(CommandError::Message(format!("ERR Syntax error in HELLO option '{option}'")));
        }
    }
    if let Some((user, password)) = login {
        log_in(session, args, user, password)?;
    }
    if !session.access().authenticated {
        return Err(CommandError::Text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
             <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the \
             same time",
        ));
    }
    if let Some(name) = name {
        client::rename(session, name)?;
    }
    set_protocol(session, protocol);
    Ok(greeting(session))
}

fn version(args: Args) -> Result<Protocol, CommandError> {
    match args.int(1) {
        Ok(2) => Ok(Protocol::Resp2),
        Ok(3) => Ok(Protocol::Resp3),
        Ok(_) => Err(CommandError::Text("NOPROTO unsupported protocol version")),
        Err(_) => Err(CommandError::Text("ERR Protocol version is not an integer or out of range")),
    }
}

fn set_protocol(session: &mut Session, protocol: Protocol) {
    session.protocol = protocol;
    session.client.state().protocol = protocol;
}

fn greeting(session: &Session) -> Reply {
    let text = |text: &'static str| Reply::Bulk(Bytes::from_static(text.as_bytes()));
    Reply::Map(vec![
        (text("server"), text("redis")),
        (text("version"), text(crate::REDIS_VERSION)),
        (text("proto"), Reply::Int(session.protocol.number())),
        (text("id"), Reply::Int(session.client.id as i64)),
        (text("mode"), text("cluster")),
        (text("role"), text("master")),
        (text("modules"), Reply::Array(Vec::new())),
    ])
}
