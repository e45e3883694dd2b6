//! The commands that a session runs itself. They never wait: whatever must be asked of a group is not theirs.

pub(crate) mod acl;
mod client;
mod command;
mod config;
mod connection;
pub mod debug;
mod info;
mod pubsub;
mod timing;
mod tracking;

use bytes::Bytes;
use quoris_engine::args::Args;
use quoris_engine::command::{Outcome, Resolved, Verb};
use quoris_engine::commands::generic;
use quoris_engine::hash_slot::slot_of;
use quoris_engine::value::number;
use quoris_engine::{CommandError, Reply, SLOT_COUNT, SlotId};

use crate::cluster::View;
use crate::pubsub::Kind;
use crate::save::save_aside;
use crate::session::{self, Session};
use crate::status::Status;

/// Runs `words`. No reply: the client has asked for none.
pub fn run(session: &mut Session, resolved: Resolved, verb: Verb, words: &[Bytes]) -> Option<Reply> {
    let args = Args(words);
    match verb {
        Verb::ClientReply => return client::reply(session, args),
        Verb::Subscribe => return pubsub::subscribe(session, args, Kind::Channel),
        Verb::Psubscribe => return pubsub::subscribe(session, args, Kind::Pattern),
        Verb::Ssubscribe => return pubsub::subscribe(session, args, Kind::Shard),
        Verb::Unsubscribe => return pubsub::unsubscribe(session, args, Kind::Channel),
        Verb::Punsubscribe => return pubsub::unsubscribe(session, args, Kind::Pattern),
        Verb::Sunsubscribe => return pubsub::unsubscribe(session, args, Kind::Shard),
        _ => {}
    }
    Some(answer(session, resolved, verb, args).unwrap_or_else(Reply::Error))
}

fn answer(session: &mut Session, resolved: Resolved, verb: Verb, args: Args) -> Outcome {
    match verb {
        Verb::AclCat => acl::cat(args),
        Verb::AclGenpass => acl::password(session, args),
        Verb::AclLoad | Verb::AclSave => acl::no_file(),
        Verb::AclLog => acl::log(session, args),
        Verb::AclWhoami => Ok(acl::who_am_i(session)),
        Verb::Ping => connection::ping(session, args),
        Verb::Echo => Ok(Reply::Bulk(args.bytes(1).clone())),
        Verb::Hello => connection::hello(session, args),
        Verb::Auth => connection::auth(session, args),
        Verb::Select => generic::select(args),
        Verb::Quit => {
            session.closing = true;
            Ok(Reply::OK)
        }
        Verb::Reset => connection::reset(session),
        Verb::Asking => Ok(Reply::OK),
        Verb::Bgrewriteaof => save_aside(&session.server, "Background append only file rewriting started"),
        Verb::Bgsave if args.len() > 2 || args.len() == 2 && !args.is(1, "schedule") => {
            Err(CommandError::Syntax)
        }
        Verb::Bgsave => save_aside(&session.server, "Background saving started"),
        Verb::Readonly => connection::set_readonly(session, true),
        Verb::Readwrite => connection::set_readonly(session, false),
        Verb::ClientGetname => Ok(client::name(session)),
        Verb::ClientCaching => tracking::caching(session, args),
        Verb::ClientGetredir => Ok(tracking::redirect(session)),
        Verb::ClientId => Ok(Reply::Int(session.client.id as i64)),
        Verb::ClientInfo => Ok(View::text(session.client.line() + "\n")),
        Verb::ClientKill => client::kill(session, args),
        Verb::ClientList => client::list(session, args),
        Verb::ClientNoEvict => {
            let done = client::switch(session, args, |state, on| state.no_evict = on);
            session.client.recount();
            done
        }
        Verb::ClientNoTouch => client::switch(session, args, |state, on| state.no_touch = on),
        Verb::ClientPause => client::pause(session, args),
        Verb::ClientUnpause => unreachable!("it waits for groups, and the session has run it"),
        Verb::ClientReply
        | Verb::Subscribe
        | Verb::Psubscribe
        | Verb::Ssubscribe
        | Verb::Unsubscribe
        | Verb::Punsubscribe
        | Verb::Sunsubscribe => unreachable!("it has run, since it may have no reply"),
        Verb::ClientSetinfo => client::set_info(session, args),
        Verb::ClientSetname => client::set_name(session, args),
        Verb::ClientTracking => tracking::tracking(session, args),
        Verb::ClientTrackinginfo => Ok(tracking::info(session)),
        Verb::ClientUnblock => client::unblock(session, args),
        Verb::ClusterCountkeysinslot => count_keys_in_slot(session, args),
        Verb::ClusterGetkeysinslot => keys_in_slot(session, args),
        Verb::ClusterInfo => Ok(View::text(view(session).info())),
        Verb::ClusterKeyslot => Ok(Reply::Int(i64::from(slot_of(args.bytes(2))))),
        Verb::ClusterLinks => Ok(view(session).links()),
        Verb::ClusterMyid => Ok(Reply::bulk(view(session).my_name())),
        Verb::ClusterNodes => Ok(View::text(view(session).nodes())),
        Verb::ClusterShards => Ok(view(session).shards()),
        Verb::ClusterSlots => Ok(view(session).slots()),
        Verb::Command => Ok(command::all()),
        Verb::CommandCount => Ok(command::count()),
        Verb::CommandDocs => Ok(command::docs(args)),
        Verb::CommandGetkeys => command::get_keys(args),
        Verb::CommandGetkeysandflags => command::get_keys_and_flags(args),
        Verb::CommandInfo => Ok(command::info(args)),
        Verb::CommandList => command::list(args),
        Verb::ConfigGet => Ok(config::get(session, args)),
        Verb::ConfigResetstat => {
            session.server.stats.reset();
            session.server.lazyfree.freed.reset();
            let groups = session.server.node.groups();
            groups.iter().for_each(|group| group.with_machine(|machine| machine.lookups().reset()));
            session.server.clients.memory.evictions.reset();
            Ok(Reply::OK)
        }
        Verb::ConfigRewrite => config::rewrite(session),
        Verb::ConfigSet => config::set(session, args),
        Verb::DebugAccept => Ok(Reply::OK),
        Verb::DebugReplybuffer => debug::reply_buffer(session, args),
        Verb::DebugSetActiveExpire => debug::set_active_expire(session, args),
        Verb::DebugProtocol => debug::protocol(session, args),
        Verb::DebugReload => debug::reload(session, args),
        Verb::Discard => session.discard(),
        Verb::Help => Ok(help(resolved)),
        Verb::ScriptDebug => script_debug(args),
        Verb::Info => Ok(info::info(session, args)),
        Verb::Lastsave => Ok(Reply::Int(session.server.last_save_s() as i64)),
        Verb::LatencyDoctor => Ok(timing::doctor(session)),
        Verb::LatencyGraph => timing::graph(session, args),
        Verb::LatencyHistogram => Ok(timing::histogram(session, args)),
        Verb::LatencyHistory => Ok(timing::history(session, args)),
        Verb::LatencyLatest => Ok(timing::latest(session)),
        Verb::LatencyReset => Ok(timing::reset(session, args)),
        Verb::Monitor => Ok(client::monitor(session)),
        Verb::Publish => pubsub::publish(session, args),
        Verb::PubsubChannels => pubsub::channels(session, resolved, args, Kind::Channel),
        Verb::PubsubNumpat => Ok(Reply::count(session.server.pubsub.count(Kind::Pattern))),
        Verb::PubsubNumsub => Ok(pubsub::subscribers(session, args, Kind::Channel)),
        Verb::PubsubShardchannels => pubsub::channels(session, resolved, args, Kind::Shard),
        Verb::PubsubShardnumsub => Ok(pubsub::subscribers(session, args, Kind::Shard)),
        Verb::SlowlogGet => timing::slow_calls(session, resolved, args),
        Verb::SlowlogLen => Ok(Reply::count(session.server.slowlog.len())),
        Verb::SlowlogReset => {
            session.server.slowlog.reset();
            Ok(Reply::OK)
        }
        Verb::Spublish => pubsub::publish_in_shard(session, args),
        Verb::Lolwut => Ok(View::text(format!("quoris ver. {}\n", crate::VERSION))),
        Verb::MemoryDoctor => Ok(debug::doctor()),
        Verb::MemoryMallocStats => Ok(debug::malloc_stats()),
        Verb::MemoryPurge => Ok(Reply::OK),
        Verb::MemoryStats => Ok(debug::stats(session)),
        Verb::Multi => session.begin(),
        Verb::QuorisForwarded => {
            session.behalf = session::Behalf::parse(args)?;
            session.become_relay();
            Ok(Reply::Int(session.client.id as i64))
        }
        Verb::QuorisStatus => Ok(Reply::bulk(Status::of(&session.server.node).to_json())),
        Verb::Time => Ok(connection::time(session)),
        Verb::Unwatch => {
            session.watched.clear();
            Ok(Reply::OK)
        }
        Verb::DebugSleep
        | Verb::Exec
        | Verb::FunctionKill
        | Verb::Migrate
        | Verb::QuorisAudit
        | Verb::QuorisDurable
        | Verb::QuorisGroup
        | Verb::QuorisMove
        | Verb::QuorisRebuild
        | Verb::QuorisTransaction
        | Verb::QuorisVersions
        | Verb::Save
        | Verb::ScriptKill
        | Verb::Shutdown
        | Verb::Wait
        | Verb::Waitaof
        | Verb::Watch => unreachable!("the session waits for what these ask of a group"),
    }
}

fn view(session: &Session) -> View {
    View::of(&session.server.node)
}

/// Word `i` as a hash slot; `out_of_range` if there is no such slot.
pub(crate) fn slot(args: Args, i: usize, out_of_range: &'static str) -> Result<SlotId, CommandError> {
    let slot = SlotId::try_from(args.int(i)?).ok().filter(|slot| *slot < SLOT_COUNT);
    slot.ok_or(CommandError::Text(out_of_range))
}

fn count_keys_in_slot(session: &Session, args: Args) -> Outcome {
    let slot = slot(args, 2, "ERR Invalid slot")?;
    let group = session.server.node.group_of(slot);
    Ok(Reply::count(group.with_machine(|machine| machine.keyspace().slot(slot).len())))
}

fn keys_in_slot(session: &Session, args: Args) -> Outcome {
    const INVALID: &str = "ERR Invalid slot or number of keys";
    let (slot, most) = (slot(args, 2, INVALID)?, args.int(3)?);
    let most = usize::try_from(most).map_err(|_| CommandError::Text(INVALID))?;
    let group = session.server.node.group_of(slot);
    Ok(group.with_machine(|machine| {
        let keys = machine.keyspace();
        let live = keys.slot(slot).iter().filter(|(_, object)| keys.is_live(object));
        Reply::Array(live.take(most).map(|(key, _)| Reply::bulk(key)).collect())
    }))
}

/// HELP of a container: its subcommands and what each does.
fn help(resolved: Resolved) -> Reply {
    let container = resolved.container.unwrap_or(resolved.command);
    let line = |text: String| Reply::Status(Bytes::from(text));
    let head = format!(
        "{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        container.name.to_ascii_uppercase()
    );
    let rows = container
        .subcommands
        .iter()
        .flat_map(|row| [line(row.name.to_ascii_uppercase()), line(format!("    {}", row.summary))]);
    Reply::Array(std::iter::once(line(head)).chain(rows).collect())
}

/// SCRIPT DEBUG: there is no debugger, for a script runs on every replica and none may wait for a person.
fn script_debug(args: Args) -> Outcome {
    const NONE: &str =
        "ERR the Lua debugger is not supported: a script runs on every replica and waits for nobody";
    match () {
        () if args.is(2, "no") => Ok(Reply::OK),
        () if args.is(2, "yes") || args.is(2, "sync") => Err(CommandError::Text(NONE)),
        () => Err(CommandError::Text("ERR Use SCRIPT DEBUG YES/SYNC/NO")),
    }
}

/// A text that any client would show as one word: printable, without spaces.
fn is_one_word(text: &[u8]) -> bool {
    text.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// A number that is not negative.
fn unsigned(text: &[u8]) -> Option<u64> {
    number::parse_int(text).and_then(|number| u64::try_from(number).ok())
}
