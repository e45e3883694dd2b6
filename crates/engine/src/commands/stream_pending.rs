//! What was delivered to the consumers of a group and is not acknowledged: XACK, XPENDING, XCLAIM, XAUTOCLAIM.

use bytes::Bytes;

use super::stream::{entry_reply, id_reply, parse_end, parse_id, parse_ids, parse_start};
use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, Outcome, ReadContext, WriteContext};
use crate::error::CommandError;
use crate::events::EventClass;
use crate::keyspace::{Edit, Keyspace};
use crate::reply::Reply;
use crate::value::StreamValue;
use crate::value::stream::{Group, Pending, StreamId};

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::write("xack", -4, Keys::ONE, xack).with(Flags::FAST).doc(
        Chapter::Stream,
        "5.0.0",
        "O(1) for each message ID processed.",
        "Returns the number of messages that were successfully acknowledged by the consumer group member of a stream.",
    ),
    Command::write("xautoclaim", -6, Keys::ONE, xautoclaim).with(Flags::FAST).doc(
        Chapter::Stream,
        "6.2.0",
        "O(1) if COUNT is small.",
        "Changes, or acquires, ownership of messages in a consumer group, as if the messages were delivered to as consumer group member.",
    ),
    Command::write("xclaim", -6, Keys::ONE, xclaim).with(Flags::FAST).doc(
        Chapter::Stream,
        "5.0.0",
        "O(log N) with N being the number of messages in the PEL of the consumer group.",
        "Changes, or acquires, ownership of a message in a consumer group, as if the message was delivered a consumer group member.",
    ),
    Command::read("xpending", -3, Keys::ONE, xpending).doc(
        Chapter::Stream,
        "5.0.0",
        "O(N) with N being the number of elements returned, so asking for a small fixed number of entries per call is O(1). O(M), where M is the total number of entries scanned when used with the IDLE filter. When the command returns just the summary and the list of consumers is small, it runs in O(1) time; otherwise, an additional O(N) time for iterating every consumer.",
        "Returns the information and entries from a stream consumer group's pending entries list.",
    ),
];

fn xack(context: &mut WriteContext, args: Args) -> Outcome {
    let (key, name) = (args.bytes(1), args.bytes(2));
    let stream = context.keys.collection::<StreamValue>(key)?;
    if stream.is_none_or(|stream| stream.group(name).is_none()) {
        return Ok(Reply::Int(0));
    }
    let ids = parse_ids(args.from(3))?;
    let acknowledged = context.keys.edit_existing(key, |stream: &mut StreamValue| {
        let acknowledge = |group: &mut Group| ids.iter().filter(|&&id| group.acknowledge(id)).count();
        Edit::unseen(stream.edit_group(name, acknowledge).unwrap_or(0))
    })?;
    Ok(Reply::count(acknowledged.unwrap_or(0)))
}

/// The group, or Redis's error if it or the key is not there.
fn group_of<'a>(keys: &'a Keyspace, key: &Bytes, name: &Bytes) -> Result<&'a Group, CommandError> {
    let stream = keys.collection::<StreamValue>(key)?;
    stream.and_then(|stream| stream.group(name)).ok_or_else(|| {
        CommandError::Message(format!(
            "NOGROUP No such key '{}' or consumer group '{}'",
            String::from_utf8_lossy(key),
            String::from_utf8_lossy(name)
        ))
    })
}

fn xpending(context: &mut ReadContext, args: Args) -> Outcome {
    if args.len() == 3 {
        return group_of(context.keys, args.bytes(1), args.bytes(2)).map(summary);
    }
    let range = PendingRange::parse(args)?;
    let group = group_of(context.keys, args.bytes(1), args.bytes(2))?;
    Ok(Reply::Array(range.of(group, context.now_ms)))
}

fn summary(group: &Group) -> Reply {
    let first = group.pending_from(StreamId::MIN).next().map(|(id, _)| id);
    let Some((first, last)) = first.zip(group.last_pending()) else {
        return Reply::Array(vec![Reply::Int(0), Reply::Null, Reply::Null, Reply::NullArray]);
    };
    let busy = group.consumers().filter(|(_, consumer)| consumer.pending_count() > 0);
    let consumers = busy.map(|(name, consumer)| {
        Reply::Array(vec![Reply::bulk(name), Reply::bulk(consumer.pending_count().to_string())])
    });
    Reply::Array(vec![
        Reply::count(group.pending_count()),
        id_reply(first),
        id_reply(last),
        Reply::Array(consumers.collect()),
    ])
}

/// What XPENDING asks for.
struct PendingRange<'a> {
    min_idle_ms: u64,
    start: StreamId,
    end: StreamId,
    count: usize,
    consumer: Option<&'a Bytes>,
}

impl<'a> PendingRange<'a> {
    fn parse(args: Args<'a>) -> Result<PendingRange<'a>, CommandError> {
        if !(6..=9).contains(&args.len()) {
            return Err(CommandError::Syntax);
        }
        let (mut i, mut min_idle_ms) = (3, 0);
        if args.is(i, "idle") {
            min_idle_ms = args.int(i + 1)?.max(0) as u64;
            if args.len() < 8 {
                return Err(CommandError::Syntax);
            }
            i += 2;
        }
        let count = args.int(i + 2)?.max(0) as usize;
        let start = parse_start(args.bytes(i))?;
        let end = parse_end(args.bytes(i + 1))?;
        Ok(PendingRange { min_idle_ms, start, end, count, consumer: args.0.get(i + 3) })
    }

    fn of(&self, group: &Group, now_ms: u64) -> Vec<Reply> {
        match self.consumer.map(|name| group.consumer(name)) {
            None => self.show(group.pending_from(self.start), now_ms),
            Some(None) => Vec::new(),
            Some(Some(consumer)) => self.show(group.pending_of(consumer, self.start), now_ms),
        }
    }

    fn show<'p>(&self, all: impl Iterator<Item = (StreamId, &'p Pending)>, now_ms: u64) -> Vec<Reply> {
        let idle_ms = |pending: &Pending| now_ms.saturating_sub(pending.delivered_ms);
        all.take_while(|(id, _)| *id <= self.end)
            .filter(|(_, pending)| idle_ms(pending) >= self.min_idle_ms)
            .take(self.count)
            .map(|(id, pending)| {
                Reply::Array(vec![
                    id_reply(id),
                    Reply::bulk(&pending.consumer),
                    Reply::Int(idle_ms(pending) as i64),
                    Reply::Int(pending.deliveries as i64),
                ])
            })
            .collect()
    }
}

/// How deliveries change hands.
struct Claim<'a> {
    group: &'a Bytes,
    /// Who is to have them.
    consumer: &'a Bytes,
    min_idle_ms: u64,
    /// When they count as delivered.
    delivered_ms: u64,
    /// How often they count as delivered; once more than before if it is not given, and ids alone are not all
    /// that is answered.
    deliveries: Option<u64>,
    /// An entry that is not pending becomes so.
    force: bool,
    just_id: bool,
}

/// What became of an id that was claimed.
enum Claimed {
    /// Its entry is no more; if it was pending, it no longer is.
    Gone,
    /// It stays as it was.
    Kept,
    Taken(Reply),
}

impl Claim<'_> {
    /// Claims `id`. `made` is set if the consumer had to be made.
    fn take(&self, stream: &mut StreamValue, id: StreamId, now_ms: u64, made: &mut bool) -> Claimed {
        let reply = stream.get(id).map(|entry| if self.just_id { id_reply(id) } else { entry_reply(entry) });
        let taken = stream.edit_group(self.group, |group| self.take_from(group, id, reply, now_ms, made));
        taken.unwrap_or(Claimed::Kept)
    }

    /// Claims `id`, whose entry is answered with `reply` if it is there.
    fn take_from(
        &self,
        group: &mut Group,
        id: StreamId,
        reply: Option<Reply>,
        now_ms: u64,
        made: &mut bool,
    ) -> Claimed {
        let Some(reply) = reply else {
            group.acknowledge(id);
            return Claimed::Gone;
        };
        let before = match group.pending(id) {
            Some(pending) if now_ms.saturating_sub(pending.delivered_ms) < self.min_idle_ms => None,
            Some(pending) => Some(pending.deliveries),
            None => self.force.then_some(1),
        };
        let Some(before) = before else { return Claimed::Kept };
        *made |= group.see_consumer(self.consumer, now_ms);
        let once_more = if self.just_id { before } else { before.saturating_add(1) };
        group.deliver(id, self.consumer, self.delivered_ms, self.deliveries.unwrap_or(once_more));
        Claimed::Taken(reply)
    }
}

fn xclaim(context: &mut WriteContext, args: Args) -> Outcome {
    let (key, name) = (args.bytes(1), args.bytes(2));
    let last_id = group_of(context.keys, key, name)?.last_id;
    let now_ms = context.keys.now_ms();
    let (claim, ids, new_last_id) = parse_claim(args, now_ms)?;
    let answer = context.keys.edit_existing(key, |stream: &mut StreamValue| {
        if new_last_id > last_id {
            stream.edit_group(name, |group| group.last_id = new_last_id);
        }
        let mut made = false;
        let mut taken = Vec::new();
        for id in ids {
            if let Claimed::Taken(reply) = claim.take(stream, id, now_ms, &mut made) {
                taken.push(reply);
            }
        }
        Edit::unseen((taken, made))
    })?;
    let (taken, made) = answer.unwrap_or_default();
    if made {
        context.keys.notify(EventClass::STREAM, "xgroup-createconsumer", key);
    }
    Ok(Reply::Array(taken))
}

/// XCLAIM's words: how to claim, which ids, and what LASTID says.
fn parse_claim<'a>(
    args: Args<'a>,
    now_ms: u64,
) -> Result<(Claim<'a>, Vec<StreamId>, StreamId), CommandError> {
    let int = |i: usize, error: &'static str| args.int(i).map_err(|_| CommandError::Text(error));
    let min_idle_ms = int(4, "ERR Invalid min-idle-time argument for XCLAIM")?.max(0) as u64;
    let ids: Vec<StreamId> = args.from(5).iter().map_while(|word| StreamId::parse(word, 0)).collect();
    let mut last_id = StreamId::MIN;
    let mut claim = Claim {
        group: args.bytes(2),
        consumer: args.bytes(3),
        min_idle_ms,
        delivered_ms: now_ms,
        deliveries: None,
        force: false,
        just_id: false,
    };
    // A time that makes no sense means now: clients compute it from clocks of their own.
    let sensible = |ms: i64| u64::try_from(ms).ok().filter(|ms| *ms <= now_ms).unwrap_or(now_ms);
    let mut i = 5 + ids.len();
    while i < args.len() {
        let more = i + 1 < args.len();
        if args.is(i, "force") {
            claim.force = true;
        } else if args.is(i, "justid") {
            claim.just_id = true;
        } else if args.is(i, "idle") && more {
            let idle_ms = int(i + 1, "ERR Invalid IDLE option argument for XCLAIM")?;
            claim.delivered_ms = sensible((now_ms as i64).wrapping_sub(idle_ms));
            i += 1;
        } else if args.is(i, "time") && more {
            claim.delivered_ms = sensible(int(i + 1, "ERR Invalid TIME option argument for XCLAIM")?);
            i += 1;
        } else if args.is(i, "retrycount") && more {
            let count = int(i + 1, "ERR Invalid RETRYCOUNT option argument for XCLAIM")?;
            claim.deliveries = u64::try_from(count).ok();
            i += 1;
        } else if args.is(i, "lastid") && more {
            last_id = parse_id(args.bytes(i + 1), 0)?;
            i += 1;
        } else {
            return Err(CommandError::Message(format!(
                "ERR Unrecognized XCLAIM option '{}'",
                String::from_utf8_lossy(args.bytes(i))
            )));
        }
        i += 1;
    }
    Ok((claim, ids, last_id))
}

/// XAUTOCLAIM looks at so many deliveries for each that it may claim.
const LOOKS_PER_CLAIM: u64 = 10;

fn xautoclaim(context: &mut WriteContext, args: Args) -> Outcome {
    let (key, name) = (args.bytes(1), args.bytes(2));
    let now_ms = context.keys.now_ms();
    let min_idle_ms = args
        .int(4)
        .map_err(|_| CommandError::Text("ERR Invalid min-idle-time argument for XAUTOCLAIM"))?
        .max(0) as u64;
    let start = parse_start(args.bytes(5))?;
    let (count, just_id) = parse_autoclaim_options(args)?;
    group_of(context.keys, key, name)?;
    let claim = Claim {
        group: name,
        consumer: args.bytes(3),
        min_idle_ms,
        delivered_ms: now_ms,
        deliveries: None,
        force: false,
        just_id,
    };
    let answer = context.keys.edit_existing(key, |stream: &mut StreamValue| {
        Edit::unseen(claim_from(&claim, stream, start, count, now_ms))
    })?;
    let Some((reply, made)) = answer else { return Err(CommandError::NoSuchKey) };
    if made {
        context.keys.notify(EventClass::STREAM, "xgroup-createconsumer", key);
    }
    Ok(reply)
}

fn parse_autoclaim_options(args: Args) -> Result<(u64, bool), CommandError> {
    const DEFAULT_COUNT: u64 = 100;
    const MAX_COUNT: u64 = i64::MAX as u64 / 16;
    let (mut count, mut just_id) = (DEFAULT_COUNT, false);
    let mut i = 6;
    while i < args.len() {
        if args.is(i, "count") && i + 1 < args.len() {
            let given = args.int(i + 1).ok().and_then(|count| u64::try_from(count).ok());
            count = given
                .filter(|count| (1..=MAX_COUNT).contains(count))
                .ok_or(CommandError::Text("ERR COUNT must be > 0"))?;
            i += 1;
        } else if args.is(i, "justid") {
            just_id = true;
        } else {
            return Err(CommandError::Syntax);
        }
        i += 1;
    }
    Ok((count, just_id))
}

/// Claims from id `start` on. The reply: where to go on, what was claimed, which entries were found to be gone; and
/// whether the consumer was made.
fn claim_from(
    claim: &Claim,
    stream: &mut StreamValue,
    start: StreamId,
    count: u64,
    now_ms: u64,
) -> (Reply, bool) {
    let next_pending = |stream: &StreamValue, start: Option<StreamId>| {
        stream.group(claim.group)?.pending_from(start?).next().map(|(id, _)| id)
    };
    let (mut taken, mut gone, mut made) = (Vec::new(), Vec::new(), false);
    let mut looks = count.saturating_mul(LOOKS_PER_CLAIM);
    let mut next = next_pending(stream, Some(start));
    while let Some(id) = next.filter(|_| looks > 0 && ((taken.len() + gone.len()) as u64) < count) {
        looks -= 1;
        match claim.take(stream, id, now_ms, &mut made) {
            Claimed::Gone => gone.push(id_reply(id)),
            Claimed::Kept => {}
            Claimed::Taken(reply) => taken.push(reply),
        }
        next = next_pending(stream, id.next());
    }
    let reply = vec![id_reply(next.unwrap_or_default()), Reply::Array(taken), Reply::Array(gone)];
    (Reply::Array(reply), made)
}
