//! SLOWLOG and LATENCY.

use std::fmt::Write;

use bytes::Bytes;
use quoris_engine::args::Args;
use quoris_engine::command::{Outcome, Resolved};
use quoris_engine::{CommandError, Reply};

use crate::cluster::View;
use crate::latency::Spikes;
use crate::session::Session;
use crate::slowlog::SlowCall;
use crate::stats::CommandStats;

/// `GET [count]`: 10 if nothing is said, -1 for all.
pub(super) fn slow_calls(session: &Session, resolved: Resolved, args: Args) -> Outcome {
    const DEFAULT: usize = 10;
    let count = match args.len() {
        2 => Some(DEFAULT),
        3 => match args.int(2) {
            Ok(-1) => None,
            Ok(count) if count >= 0 => Some(count as usize),
            _ => return Err(CommandError::Text("ERR count should be greater than or equal to -1")),
        },
        _ => return Err(CommandError::WrongArity(resolved.full_name())),
    };
    Ok(Reply::Array(session.server.slowlog.newest(count).into_iter().map(show).collect()))
}

fn show(call: SlowCall) -> Reply {
    Reply::Array(vec![
        Reply::Int(call.id as i64),
        Reply::Int(call.at_s as i64),
        Reply::Int(call.usec as i64),
        Reply::Array(call.words.into_iter().map(Reply::Bulk).collect()),
        Reply::bulk(call.addr),
        Reply::bulk(call.name),
    ])
}

pub(super) fn latest(session: &Session) -> Reply {
    let show = |(event, spikes): (&'static str, Spikes)| {
        let (at_s, ms) = spikes.latest.back().copied().unwrap_or_default();
        let figures = [at_s, ms, spikes.worst_ms].map(|figure| Reply::Int(figure as i64));
        Reply::Array(std::iter::once(Reply::bulk(event)).chain(figures).collect())
    };
    Reply::Array(session.server.latency.all().into_iter().map(show).collect())
}

pub(super) fn history(session: &Session, args: Args) -> Reply {
    let spikes = spikes_of(session, args.bytes(2)).unwrap_or_default();
    let show = |(at_s, ms): (u64, u64)| Reply::Array(vec![Reply::Int(at_s as i64), Reply::Int(ms as i64)]);
    Reply::Array(spikes.latest.into_iter().map(show).collect())
}

fn spikes_of(session: &Session, event: &[u8]) -> Option<Spikes> {
    let all = session.server.latency.all();
    all.into_iter().find(|(name, _)| name.as_bytes() == event).map(|(_, spikes)| spikes)
}

/// How many kinds of events have been forgotten.
pub(super) fn reset(session: &Session, args: Args) -> Reply {
    let latency = &session.server.latency;
    let forgotten = match args.len() {
        2 => latency.all().iter().filter(|(event, _)| latency.forget(event)).count(),
        _ => args.from(2).iter().filter(|event| latency.forget(&String::from_utf8_lossy(event))).count(),
    };
    Reply::count(forgotten)
}

/// A bar for each spike, oldest first, as high as it was long.
pub(super) fn graph(session: &Session, args: Args) -> Outcome {
    const HEIGHT: u64 = 4;
    let event = String::from_utf8_lossy(args.bytes(2));
    let no_samples = || CommandError::Message(format!("ERR No samples available for event '{event}'"));
    let spikes = spikes_of(session, args.bytes(2)).ok_or_else(no_samples)?;
    let (low, high) =
        spikes.latest.iter().fold((u64::MAX, 0), |(low, high), (_, ms)| (low.min(*ms), high.max(*ms)));
    let mut text = format!("{event} - high {high} ms, low {low} ms (all time high {} ms)\n", spikes.worst_ms);
    text.push_str(&"-".repeat(80));
    for row in (0..HEIGHT).rev() {
        text.push('\n');
        let mark = |(_, ms): &(u64, u64)| if ms * HEIGHT > row * high.max(1) { '#' } else { ' ' };
        text.extend(spikes.latest.iter().map(mark));
    }
    text.push('\n');
    Ok(View::text(text))
}

pub(super) fn doctor(session: &Session) -> Reply {
    let all = session.server.latency.all();
    let threshold_ms = session.server.settings.get().latency_monitor_threshold_ms;
    let mut text = String::new();
    if all.is_empty() {
        text.push_str("No latency spike has been noted since the node started or they were last reset.\n");
    }
    if threshold_ms == 0 {
        text.push_str("latency-monitor-threshold is 0: nothing is noted. CONFIG SET latency-monitor-threshold <ms> begins.\n");
    }
    for (event, spikes) in all {
        let sum: u64 = spikes.latest.iter().map(|(_, ms)| ms).sum();
        let mean = sum / spikes.latest.len().max(1) as u64;
        writeln!(
            text,
            "{event}: {} latency spikes (average {mean} ms, worst {} ms). A write waits for an fsync on a majority: look \
             at the disks and the network of the nodes first.",
            spikes.latest.len(),
            spikes.worst_ms
        )
        .expect("a string takes all that is written");
    }
    View::text(text)
}

/// `HISTOGRAM [command …]`: of a container, all its subcommands'.
pub(super) fn histogram(session: &Session, args: Args) -> Reply {
    let stats = &session.server.stats;
    let wanted = |row: &CommandStats| {
        let is = |word: &Bytes| {
            let name = String::from_utf8_lossy(word).to_ascii_lowercase();
            row.name == name || row.name.split_once('|').is_some_and(|(container, _)| container == name)
        };
        args.len() == 2 || args.from(2).iter().any(is)
    };
    let timed = stats.commands().filter(|row| row.times.total() > 0 && wanted(row));
    let show = |row: &CommandStats| {
        let counts = row.times.cumulative();
        let counts =
            counts.into_iter().map(|(usec, calls)| (Reply::Int(usec as i64), Reply::Int(calls as i64)));
        let figures = vec![
            (Reply::bulk("calls"), Reply::Int(row.times.total() as i64)),
            (Reply::bulk("histogram_usec"), Reply::Map(counts.collect())),
        ];
        (Reply::bulk(&row.name), Reply::Map(figures))
    };
    Reply::Map(timed.map(show).collect())
}
