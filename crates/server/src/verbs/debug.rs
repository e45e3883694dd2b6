//! DEBUG's and MEMORY's subcommands that concern the connection or the node.

use std::sync::atomic::Ordering;
use std::time::Duration;

use quoris_engine::args::Args;
use quoris_engine::command::Outcome;
use quoris_engine::commands::debug::sample;
use quoris_engine::{CommandError, Machine, Reply};

use crate::cluster::View;
use crate::limits;
use crate::resp::Protocol;
use crate::session::Session;

/// DEBUG SLEEP: nobody but this connection waits.
pub async fn sleep(args: Args<'_>) -> Reply {
    let sleep = args.float(2).ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let Some(sleep) = sleep else { return Reply::Error(CommandError::NotFloat) };
    tokio::time::sleep(sleep.min(Duration::from_millis(limits::DEBUG_SLEEP_MS))).await;
    Reply::OK
}

/// DEBUG RELOAD: nothing is read again, since what a snapshot holds is in memory. To load it without flushing or merging would
/// clash with itself, as in Redis.
pub(super) fn reload(session: &Session, args: Args) -> Outcome {
    let (mut merge, mut noflush) = (false, false);
    for i in 2..args.len() {
        match () {
            () if args.is(i, "merge") => merge = true,
            () if args.is(i, "noflush") => noflush = true,
            () if args.is(i, "nosave") => {}
            () => {
                return Err(CommandError::Text(
                    "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
                ));
            }
        }
    }
    let holds_any =
        |machine: &Machine| !machine.keyspace().is_empty() || machine.scripts().libraries().next().is_some();
    let mut groups = session.server.node.groups().iter();
    match noflush && !merge && groups.any(|group| group.with_machine(holds_any)) {
        true => Err(CommandError::Text("ERR Error trying to load the RDB dump")),
        false => Ok(Reply::OK),
    }
}

/// DEBUG SET-ACTIVE-EXPIRE.
pub(super) fn set_active_expire(session: &Session, args: Args) -> Outcome {
    session.server.memory.keep_due.store(args.int(2)? == 0, Ordering::Relaxed);
    Ok(Reply::OK)
}

/// DEBUG REPLYBUFFER: `PEAK-RESET-TIME ms|NEVER|RESET`, or `RESIZING 0|1`.
pub(super) fn reply_buffer(session: &Session, args: Args) -> Outcome {
    let life = &session.server.peak_life;
    if args.is(2, "peak-reset-time") {
        match args.bytes(3).to_ascii_lowercase().as_slice() {
            b"never" => life.set(None),
            b"reset" => life.reset(),
            _ => life.set(Some(u64::try_from(args.int(3)?).map_err(|_| CommandError::NotInteger)?)),
        }
    } else if args.is(2, "resizing") {
        match args.int(3)? {
            0 => life.set(None),
            _ => life.reset(),
        }
    } else {
        return Err(CommandError::Syntax);
    }
    Ok(Reply::OK)
}

/// DEBUG PROTOCOL: a reply of the given kind.
pub(super) fn protocol(session: &Session, args: Args) -> Outcome {
    if !args.is(2, "push") {
        return sample(args.bytes(2));
    }
    match session.protocol {
        Protocol::Resp2 => Err(CommandError::Text("ERR RESP2 is not supported by this command")),
        Protocol::Resp3 => Ok(Reply::Push(vec![Reply::bulk("server-cpu-usage"), Reply::Int(42)])),
    }
}

/// MEMORY DOCTOR.
pub(super) fn doctor() -> Reply {
    View::text(
        "No memory problem is known to this node: it counts what keys and values take, and nothing else."
            .to_string(),
    )
}

/// MEMORY MALLOC-STATS.
pub(super) fn malloc_stats() -> Reply {
    Reply::bulk("Stats not supported for the current allocator")
}

/// MEMORY STATS: of all groups on this node, led here or not. A figure that quoris does not have is left out.
pub(super) fn stats(session: &Session) -> Reply {
    let (mut bytes, mut keys) = (0, 0);
    for group in session.server.node.groups() {
        group.with_machine(|machine| {
            bytes += machine.keyspace().bytes();
            keys += machine.keyspace().len();
        });
    }
    let figures = [
        ("keys.count", keys),
        ("keys.bytes-per-key", bytes.checked_div(keys).unwrap_or(0)),
        ("dataset.bytes", bytes),
    ];
    Reply::Map(figures.into_iter().map(|(name, figure)| (Reply::bulk(name), Reply::count(figure))).collect())
}
