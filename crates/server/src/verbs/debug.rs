//! DEBUG's and MEMORY's subcommands that concern the connection or the node.

use std::time::Duration;

use bytes::Bytes;
use quoris_engine::args::Args;
use quoris_engine::command::Outcome;
use quoris_engine::{CommandError, Reply};

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

/// DEBUG PROTOCOL: a reply of each kind.
pub(super) fn protocol(session: &Session, args: Args) -> Outcome {
    let numbers = || (0..3).map(Reply::Int);
    // As in Redis, not the number it looks like.
    const DOUBLE: f64 = 3141.0 / 1000.0;
    let kinds = [
        ("string", Reply::bulk("Hello World")),
        ("integer", Reply::Int(12345)),
        ("double", Reply::Double(DOUBLE)),
        ("null", Reply::Null),
        ("true", Reply::Bool(true)),
        ("false", Reply::Bool(false)),
    ];
    if let Some((_, reply)) = kinds.into_iter().find(|(name, _)| args.is(2, name)) {
        return Ok(reply);
    }
    match () {
        () if args.is(2, "array") => Ok(Reply::Array(numbers().collect())),
        () if args.is(2, "set") => Ok(Reply::Set(numbers().collect())),
        () if args.is(2, "map") => {
            Ok(Reply::Map((0..3).map(|i| (Reply::Int(i), Reply::Bool(i == 1))).collect()))
        }
        () if args.is(2, "push") && session.protocol == Protocol::Resp2 => {
            Err(CommandError::Text("ERR RESP2 is not supported by this command"))
        }
        () if args.is(2, "push") => Ok(Reply::Push(vec![Reply::bulk("server-cpu-usage"), Reply::Int(42)])),
        () if args.is(2, "verbatim") => {
            Ok(Reply::Verbatim("txt", Bytes::from_static(b"This is a verbatim\nstring")))
        }
        () => Err(CommandError::Text(
            "ERR Wrong protocol type name. Please use one of the following: \
             string|integer|double|null|array|set|map|push|verbatim|true|false",
        )),
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
