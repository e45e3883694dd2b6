//! CLIENT: the connection's own state, and the other clients of this node.

use bytes::Bytes;
use quoris_engine::args::Args;
use quoris_engine::command::Outcome;
use quoris_engine::{CommandError, Reply};

use super::{is_one_word, unsigned};
use crate::blocking::Ending;
use crate::clients::{Client, ClientState};
use crate::cluster::View;
use crate::limits;
use crate::pause::Paused;
use crate::session::{Replies, Session};
use crate::users::Known;

pub(super) fn name(session: &Session) -> Reply {
    match session.client.state().name.as_str() {
        "" => Reply::Null,
        name => Reply::bulk(name),
    }
}

pub(super) fn set_name(session: &Session, args: Args) -> Outcome {
    rename(session, args.bytes(2))?;
    Ok(Reply::OK)
}

/// Names the connection.
pub(super) fn rename(session: &Session, name: &Bytes) -> Result<(), CommandError> {
    if !is_one_word(name) || name.len() > limits::CLIENT_NAME_BYTES {
        let text = "ERR Client names cannot contain spaces, newlines or special characters.";
        return Err(CommandError::Text(text));
    }
    session.client.state().name = String::from_utf8_lossy(name).into_owned();
    Ok(())
}

pub(super) fn set_info(session: &Session, args: Args) -> Outcome {
    let (option, value) = (args.bytes(2), args.bytes(3));
    let mut state = session.client.state();
    let place = match option.to_ascii_lowercase().as_slice() {
        b"lib-name" => &mut state.lib_name,
        b"lib-ver" => &mut state.lib_ver,
        _ => {
            let option = String::from_utf8_lossy(option);
            return Err(CommandError::Message(format!("ERR Unrecognized option '{option}'")));
        }
    };
    if !is_one_word(value) || value.len() > limits::CLIENT_NAME_BYTES {
        let option = String::from_utf8_lossy(option).to_ascii_lowercase();
        let text = format!("ERR {option} cannot contain spaces, newlines or special characters.");
        return Err(CommandError::Message(text));
    }
    *place = String::from_utf8_lossy(value).into_owned();
    Ok(Reply::OK)
}

/// `ON` or `OFF`.
pub(super) fn switch(session: &Session, args: Args, set: fn(&mut ClientState, bool)) -> Outcome {
    let on = args.is(2, "on");
    if !on && !args.is(2, "off") {
        return Err(CommandError::Syntax);
    }
    set(&mut session.client.state(), on);
    Ok(Reply::OK)
}

/// CLIENT REPLY: only `ON` has a reply itself.
pub(super) fn reply(session: &mut Session, args: Args) -> Option<Reply> {
    if args.is(2, "on") {
        session.replies = Replies::On;
        return Some(Reply::OK);
    }
    if args.is(2, "off") {
        session.replies = Replies::Off;
        return None;
    }
    if args.is(2, "skip") {
        if session.replies == Replies::On {
            session.replies = Replies::SkipNext;
        }
        return None;
    }
    Some(Reply::Error(CommandError::Syntax))
}

/// `LIST [TYPE type] [ID id …]`.
pub(super) fn list(session: &Session, args: Args) -> Outcome {
    let mut clients = session.server.clients.all();
    clients.retain(|client| !client.is_killed());
    if args.len() == 4 && args.is(2, "type") {
        let wanted = ClientType::parse(args.bytes(3))?;
        clients.retain(|client| wanted.includes(client));
    } else if args.len() > 3 && args.is(2, "id") {
        let parse = |word: &Bytes| unsigned(word).ok_or(CommandError::Text("ERR Invalid client ID"));
        let wanted = args.from(3).iter().map(parse).collect::<Result<Vec<u64>, _>>()?;
        clients.retain(|client| wanted.contains(&client.id));
    } else if args.len() != 2 {
        return Err(CommandError::Syntax);
    }
    Ok(View::text(clients.iter().map(|client| client.line() + "\n").collect()))
}

/// Redis's types of clients.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ClientType {
    Normal,
    Pubsub,
    /// Of which there are none here: other nodes do not come as clients.
    Node,
}

impl ClientType {
    fn parse(word: &Bytes) -> Result<ClientType, CommandError> {
        match word.to_ascii_lowercase().as_slice() {
            b"normal" => Ok(ClientType::Normal),
            b"pubsub" => Ok(ClientType::Pubsub),
            b"master" | b"replica" | b"slave" => Ok(ClientType::Node),
            _ => {
                let word = String::from_utf8_lossy(word);
                Err(CommandError::Message(format!("ERR Unknown client type '{word}'")))
            }
        }
    }

    fn includes(self, client: &Client) -> bool {
        match client.state().subscriptions {
            [0, 0, 0] => self == ClientType::Normal,
            _ => self == ClientType::Pubsub,
        }
    }
}

/// `PAUSE ms [WRITE|ALL]`.
pub(super) fn pause(session: &Session, args: Args) -> Outcome {
    let what = match args.len() {
        3 => Paused::All,
        4 if args.is(3, "write") => Paused::Writes,
        4 if args.is(3, "all") => Paused::All,
        4 => return Err(CommandError::Text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        _ => return Err(CommandError::WrongArity("client|pause".to_string())),
    };
    let ms = args.int(2).map_err(|_| CommandError::Text("ERR timeout is not an integer or out of range"))?;
    let ms = u64::try_from(ms).map_err(|_| CommandError::Text("ERR timeout is negative"))?;
    session.server.pause.begin(what, ms.min(limits::PAUSE_MS));
    Ok(Reply::OK)
}

/// From now on the client is shown what others call.
pub(super) fn monitor(session: &Session) -> Reply {
    session.client.state().monitor = true;
    session.server.monitors.add(&session.client);
    Reply::OK
}

/// What CLIENT KILL looks for; a client must have all that is given.
#[derive(Default)]
struct Victims {
    id: Option<u64>,
    addr: Option<Bytes>,
    laddr: Option<Bytes>,
    user: Option<Bytes>,
    kind: Option<ClientType>,
    /// At least so many seconds old.
    max_age_s: Option<u64>,
    /// Spare the one that asks.
    skip_me: bool,
}

impl Victims {
    fn parse(args: Args, users: &Known) -> Result<Victims, CommandError> {
        let mut victims = Victims { skip_me: true, ..Victims::default() };
        if !args.len().is_multiple_of(2) {
            return Err(CommandError::Syntax);
        }
        for i in (2..args.len()).step_by(2) {
            let value = args.bytes(i + 1);
            match args.bytes(i).to_ascii_lowercase().as_slice() {
                b"id" => {
                    let id = unsigned(value).filter(|id| *id > 0);
                    let text = "ERR client-id should be greater than 0";
                    victims.id = Some(id.ok_or(CommandError::Text(text))?);
                }
                b"addr" => victims.addr = Some(value.clone()),
                b"laddr" => victims.laddr = Some(value.clone()),
                b"user" if users.get(value).is_some() => victims.user = Some(value.clone()),
                b"user" => {
                    let text = format!("ERR No such user '{}'", String::from_utf8_lossy(value));
                    return Err(CommandError::Message(text));
                }
                b"type" => victims.kind = Some(ClientType::parse(value)?),
                b"maxage" => {
                    let age = unsigned(value).ok_or(CommandError::NotInteger)?;
                    victims.max_age_s = Some(age);
                }
                b"skipme" if args.is(i + 1, "yes") => victims.skip_me = true,
                b"skipme" if args.is(i + 1, "no") => victims.skip_me = false,
                _ => return Err(CommandError::Syntax),
            }
        }
        Ok(victims)
    }

    fn include(&self, client: &Client, me: u64) -> bool {
        self.id.is_none_or(|id| client.id == id)
            && self.addr.as_ref().is_none_or(|addr| client.addr.as_bytes() == addr)
            && self.laddr.as_ref().is_none_or(|laddr| client.laddr.as_bytes() == laddr)
            && self.user.as_ref().is_none_or(|user| client.state().user == user)
            && self.kind.is_none_or(|kind| kind.includes(client))
            && self.max_age_s.is_none_or(|age| client.age_s() >= age)
            && !(self.skip_me && client.id == me)
    }
}

/// `KILL addr`, or `KILL` with filters, which answers how many it found.
pub(super) fn kill(session: &mut Session, args: Args) -> Outcome {
    let old_form = args.len() == 3;
    let victims = match old_form {
        true => Victims { addr: Some(args.bytes(2).clone()), ..Victims::default() },
        false => Victims::parse(args, &session.server.users.get())?,
    };
    let me = session.client.id;
    let mut clients = session.server.clients.all();
    clients.retain(|client| victims.include(client, me));
    for client in &clients {
        // The one that asks is to read the reply before it is gone.
        match client.id == me {
            true => session.closing = true,
            false => client.kill(),
        }
    }
    match (old_form, clients.len()) {
        (true, 0) => Err(CommandError::Text("ERR No such client")),
        (true, _) => Ok(Reply::OK),
        (false, found) => Ok(Reply::count(found)),
    }
}

/// `UNBLOCK id [TIMEOUT|ERROR]`.
pub(super) fn unblock(session: &Session, args: Args) -> Outcome {
    let ending = match args.len() {
        3 => Ending::Timeout,
        4 if args.is(3, "timeout") => Ending::Timeout,
        4 if args.is(3, "error") => Ending::Error,
        4 => {
            return Err(CommandError::Text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
        }
        _ => return Err(CommandError::WrongArity("client|unblock".to_string())),
    };
    let id = args.int(2)?;
    let clients = session.server.clients.all();
    let client = clients.iter().find(|client| i64::try_from(client.id) == Ok(id));
    Ok(Reply::flag(client.is_some_and(|client| client.unblock(ending))))
}
