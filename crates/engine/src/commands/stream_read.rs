//! XREAD and XREADGROUP: reading on from where one was, and waiting for more.
//!
//! XREAD without BLOCK is a read. With BLOCK it may become a waiter of the machine, and so it goes through the log.
//! A call that has blocked runs again with the ids that it had then: `$` is what it was when the call arrived.

use bytes::Bytes;

use super::stream::{entry_reply, id_reply, parse_id};
use crate::args::Args;
use crate::command::{ByWords, Chapter, Command, Flags, Keys, Outcome, ReadContext, WriteContext};
use crate::error::CommandError;
use crate::events::EventClass;
use crate::keyspace::{Edit, Keyspace};
use crate::reply::Reply;
use crate::value::StreamValue;
use crate::value::stream::{StreamEntry, StreamId};
use crate::waiters::Block;

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::by_words("xread", -4, Keys::found(keys), XREAD)
        .with(Flags::READONLY.union(Flags::BLOCKING))
        .doc(
            Chapter::Stream,
            "5.0.0",
            "For each stream mentioned: O(N) with N being the number of elements being returned, it means that XREAD-ing with a fixed COUNT is O(1). Note that when the BLOCK option is used, XADD will pay O(M) time in order to serve the M clients blocked on the stream getting new data.",
            "Returns messages from multiple streams with IDs greater than the ones requested. Blocks until a message is available otherwise.",
        ),
    Command::by_words("xreadgroup", -7, Keys::found(keys), XREADGROUP)
        .with(Flags::WRITE.union(Flags::BLOCKING))
        .doc(
            Chapter::Stream,
            "5.0.0",
            "For each stream mentioned: O(M) with M being the number of elements returned. If M is constant (e.g. always asking for the first 10 elements with COUNT), you can consider it O(1). On the other side when XREADGROUP blocks, XADD will pay the O(N) time in order to serve the N clients blocked on the stream getting new data.",
            "Returns new or historical messages from a stream for a consumer in a group. Blocks until a message is available otherwise.",
        ),
];

const XREAD: ByWords = ByWords {
    writes: |words| Words::of(words).is_some_and(|words| words.blocks),
    read: |context, args| {
        let call = ReadCall::parse(args, For::Read)?;
        let ids = call.ids_of_read(context.keys)?;
        Ok(call.read(context.keys, &ids, call.count)?.unwrap_or(Reply::NullArray))
    },
    write: xread_blocking,
};

/// Always a write, but for calls that are refused as they name no stream, and so no group to ask.
const XREADGROUP: ByWords = ByWords {
    writes: |words| Words::of(words).is_some(),
    read: |context, args| refuse(context, args),
    write: xreadgroup,
};

/// How many entries a call without COUNT gets once it has blocked, as in Redis.
const COUNT_AFTER_BLOCK: usize = 1000;

/// What is needed of a call before it runs.
struct Words {
    blocks: bool,
    /// The first word behind STREAMS: as many keys, and then as many ids.
    streams: usize,
}

impl Words {
    /// `None` if the words name no streams, or what stands before them is no option: it is refused, whatever the keys.
    fn of(words: &[Bytes]) -> Option<Words> {
        let (blocks, streams) = options(words);
        let streams = streams?;
        let count = words.len().saturating_sub(streams);
        (count > 0 && count.is_multiple_of(2)).then_some(Words { blocks, streams })
    }
}

/// Whether there is a BLOCK, and the first word behind STREAMS if nothing but options comes before it.
fn options(words: &[Bytes]) -> (bool, Option<usize>) {
    let args = Args(words);
    let mut blocks = false;
    let mut i = 1;
    while i < words.len() {
        blocks |= args.is(i, "block");
        i += match () {
            () if args.is(i, "streams") => return (blocks, Some(i + 1)),
            () if args.is(i, "block") || args.is(i, "count") => 2,
            () if args.is(i, "group") => 3,
            () if args.is(i, "noack") => 1,
            () => return (blocks, None),
        };
    }
    (blocks, None)
}

/// Whether a call of XREAD or XREADGROUP asks to block.
pub fn asks_to_block(words: &[Bytes]) -> bool {
    options(words).0
}

/// For how many milliseconds such a call may block; `None`: for ever.
pub(crate) fn block_ms(words: &[Bytes]) -> Option<u64> {
    let of = if words[0].eq_ignore_ascii_case(b"xread") { For::Read } else { For::Group };
    let call = ReadCall::parse(Args(words), of).ok()?;
    call.block_ms.filter(|&ms| ms > 0)
}

/// The keys stand behind STREAMS, and an id for each behind them.
fn keys(words: &[Bytes]) -> Vec<usize> {
    let range =
        Words::of(words).map(|found| found.streams..found.streams + (words.len() - found.streams) / 2);
    range.into_iter().flatten().collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    Read,
    Group,
}

/// A call's words, understood.
struct ReadCall<'a> {
    words: &'a [Bytes],
    /// BLOCK, in milliseconds; 0: for ever.
    block_ms: Option<u64>,
    count: usize,
    /// The group's and the consumer's name.
    group: Option<(&'a Bytes, &'a Bytes)>,
    no_ack: bool,
    /// The first key's word.
    streams: usize,
}

impl<'a> ReadCall<'a> {
    fn parse(args: Args<'a>, of: For) -> Result<ReadCall<'a>, CommandError> {
        let mut call =
            ReadCall { words: args.0, block_ms: None, count: 0, group: None, no_ack: false, streams: 0 };
        let mut i = 1;
        while i < args.len() && call.streams == 0 {
            let more = args.len() - i - 1;
            if args.is(i, "block") && more > 0 {
                call.block_ms = Some(timeout_ms(args, i + 1)?);
                i += 2;
            } else if args.is(i, "count") && more > 0 {
                call.count = args.int(i + 1)?.max(0) as usize;
                i += 2;
            } else if args.is(i, "streams") && more > 0 {
                if !more.is_multiple_of(2) {
                    return Err(CommandError::Text(
                        "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.",
                    ));
                }
                call.streams = i + 1;
            } else if args.is(i, "group") && more > 1 {
                if of == For::Read {
                    return Err(only_group("GROUP"));
                }
                call.group = Some((args.bytes(i + 1), args.bytes(i + 2)));
                i += 3;
            } else if args.is(i, "noack") {
                if of == For::Read {
                    return Err(only_group("NOACK"));
                }
                call.no_ack = true;
                i += 1;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if call.streams == 0 {
            return Err(CommandError::Syntax);
        }
        if of == For::Group && call.group.is_none() {
            return Err(CommandError::Text("ERR Missing GROUP option for XREADGROUP"));
        }
        if call.count == 0 {
            call.count = usize::MAX;
        }
        Ok(call)
    }

    /// A call that has blocked does not get everything at once.
    fn limit_count(&mut self, woken: bool) {
        if woken && self.count == usize::MAX {
            self.count = COUNT_AFTER_BLOCK;
        }
    }

    fn keys(&self) -> &'a [Bytes] {
        &self.words[self.streams..self.first_id()]
    }

    fn ids(&self) -> &'a [Bytes] {
        &self.words[self.first_id()..]
    }

    fn first_id(&self) -> usize {
        self.streams + (self.words.len() - self.streams) / 2
    }

    /// After which id each stream is read.
    fn ids_of_read(&self, keys: &Keyspace) -> Result<Vec<StreamId>, CommandError> {
        let id = |(key, word): (&Bytes, &Bytes)| {
            let stream = keys.collection::<StreamValue>(key)?;
            match word.as_ref() {
                b"$" => Ok(stream.map_or(StreamId::MIN, |stream| stream.counters().last_id)),
                b"+" => Ok(stream.map_or(StreamId::MIN, before_last)),
                b">" => Err(CommandError::Text(
                    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
                )),
                word => parse_id(word, 0),
            }
        };
        self.keys().iter().zip(self.ids()).map(id).collect()
    }

    /// XREAD's answer; `None` if there is nothing.
    fn read(&self, keys: &Keyspace, ids: &[StreamId], count: usize) -> Result<Option<Reply>, CommandError> {
        let mut named = Vec::new();
        for (key, after) in self.keys().iter().zip(ids) {
            let Some(stream) = keys.collection::<StreamValue>(key)? else { continue };
            let entries: Vec<Reply> = match after.next() {
                Some(start) => stream.range(start, StreamId::MAX).take(count).map(entry_reply).collect(),
                None => Vec::new(),
            };
            if !entries.is_empty() {
                named.push((Reply::Bulk(key.clone()), Reply::Array(entries)));
            }
        }
        Ok((!named.is_empty()).then_some(Reply::Named(named)))
    }

    /// What to answer for now when there is nothing: `ids` are the words to go on with.
    fn block(&self, may_block: bool, ids: impl Iterator<Item = Bytes>, wants_absence: bool) -> Reply {
        let Some(block_ms) = self.block_ms.filter(|_| may_block) else { return Reply::NullArray };
        Reply::Block(Box::new(Block {
            keys: self.keys().to_vec(),
            call: self.words[..self.first_id()].iter().cloned().chain(ids).collect(),
            timeout_ms: (block_ms > 0).then_some(block_ms),
            wants_absence,
        }))
    }
}

/// The id that only the last entry is above.
fn before_last(stream: &StreamValue) -> StreamId {
    let before = stream.last_entry_id().and_then(StreamId::previous);
    before.unwrap_or(stream.counters().last_id)
}

fn timeout_ms(args: Args, i: usize) -> Result<u64, CommandError> {
    let timeout_ms =
        args.int(i).map_err(|_| CommandError::Text("ERR timeout is not an integer or out of range"))?;
    u64::try_from(timeout_ms).map_err(|_| CommandError::Text("ERR timeout is negative"))
}

fn only_group(option: &str) -> CommandError {
    CommandError::Message(format!(
        "ERR The {option} option is only supported by XREADGROUP. You called XREAD instead."
    ))
}

fn xread_blocking(context: &mut WriteContext, args: Args) -> Outcome {
    let mut call = ReadCall::parse(args, For::Read)?;
    call.limit_count(context.woken);
    let ids = call.ids_of_read(context.keys)?;
    match call.read(context.keys, &ids, call.count)? {
        Some(reply) => Ok(reply),
        None => Ok(call.block(context.may_block, ids.iter().map(|id| id.to_bytes()), false)),
    }
}

fn refuse(_: &mut ReadContext, args: Args) -> Outcome {
    let refused = ReadCall::parse(args, For::Group).map(|_| CommandError::Syntax);
    Err(refused.unwrap_or_else(|error| error))
}

/// What XREADGROUP reads of a stream.
enum Part {
    /// `>`: what the group has not been given yet.
    New,
    /// What is pending with the consumer above an id.
    History(StreamId),
}

fn xreadgroup(context: &mut WriteContext, args: Args) -> Outcome {
    let mut call = ReadCall::parse(args, For::Group)?;
    call.limit_count(context.woken);
    let Some((group, consumer)) = call.group else { return Err(CommandError::Syntax) };
    let parts = parts(context, &call, group)?;
    let mut named = Vec::new();
    for (key, part) in call.keys().iter().zip(&parts) {
        let read = GroupRead { group, consumer, count: call.count, no_ack: call.no_ack };
        if let Some(entries) = read.run(context.keys, key, part)? {
            named.push((Reply::Bulk(key.clone()), Reply::Array(entries)));
        }
    }
    match named.is_empty() {
        true => Ok(call.block(context.may_block, call.ids().iter().cloned(), true)),
        false => Ok(Reply::Named(named)),
    }
}

/// What is read of each stream; an error if one of them, or its group, is not there.
fn parts(context: &WriteContext, call: &ReadCall, group: &Bytes) -> Result<Vec<Part>, CommandError> {
    let part = |(key, word): (&Bytes, &Bytes)| {
        let stream = match context.keys.collection::<StreamValue>(key) {
            Ok(None) | Err(CommandError::WrongType) if context.woken => {
                return Err(CommandError::Text("UNBLOCKED the stream key no longer exists"));
            }
            stream => stream?,
        };
        if stream.is_none_or(|stream| stream.group(group).is_none()) {
            return Err(match context.woken {
                true => CommandError::Text(
                    "NOGROUP the consumer group this client was blocked on no longer exists",
                ),
                false => CommandError::Message(format!(
                    "NOGROUP No such key '{}' or consumer group '{}' in XREADGROUP with GROUP option",
                    String::from_utf8_lossy(key),
                    String::from_utf8_lossy(group)
                )),
            });
        }
        match word.as_ref() {
            b">" => Ok(Part::New),
            b"$" => Err(meaningless("$")),
            b"+" => Err(meaningless("+")),
            word => match parse_id(word, 0)? {
                // Nothing can be above it, and Redis takes it for `>`.
                StreamId::MAX => Ok(Part::New),
                id => Ok(Part::History(id)),
            },
        }
    };
    call.keys().iter().zip(call.ids()).map(part).collect()
}

fn meaningless(id: &str) -> CommandError {
    CommandError::Message(format!(
        "ERR The {id} ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The {id} ID would just return an empty result set."
    ))
}

/// A read by a consumer of a group.
struct GroupRead<'a> {
    group: &'a Bytes,
    consumer: &'a Bytes,
    count: usize,
    no_ack: bool,
}

impl GroupRead<'_> {
    /// The entries; `None` if none is new.
    fn run(&self, keys: &mut Keyspace, key: &Bytes, part: &Part) -> Result<Option<Vec<Reply>>, CommandError> {
        let Some(stream) = keys.collection::<StreamValue>(key)? else { return Ok(None) };
        if matches!(part, Part::New) && !self.has_new(stream) {
            return Ok(None);
        }
        let now_ms = keys.now_ms();
        let answer = keys.edit_existing(key, |stream: &mut StreamValue| {
            let made = stream.edit_group(self.group, |group| group.see_consumer(self.consumer, now_ms));
            let entries = match part {
                Part::New => self.deliver(stream, now_ms),
                Part::History(after) => self.deliver_again(stream, *after, now_ms),
            };
            Edit::unseen((entries, made == Some(true)))
        })?;
        let Some((entries, made)) = answer else { return Ok(None) };
        if made {
            keys.notify(EventClass::STREAM, "xgroup-createconsumer", key);
        }
        Ok(Some(entries))
    }

    fn has_new(&self, stream: &StreamValue) -> bool {
        let start = stream.group(self.group).and_then(|group| group.last_id.next());
        start.is_some_and(|start| stream.range(start, StreamId::MAX).next().is_some())
    }

    /// Hands out what the group has not been given.
    fn deliver(&self, stream: &mut StreamValue, now_ms: u64) -> Vec<Reply> {
        let Some(start) = stream.group(self.group).and_then(|group| group.last_id.next()) else {
            return Vec::new();
        };
        let counters = *stream.counters();
        let entry = |entry: StreamEntry| (entry.id, entry_reply(entry));
        let entries: Vec<(StreamId, Reply)> =
            stream.range(start, StreamId::MAX).take(self.count).map(entry).collect();
        stream.edit_group(self.group, |group| {
            for (id, _) in &entries {
                group.advance(*id, &counters);
                if !self.no_ack {
                    group.deliver(*id, self.consumer, now_ms, 1);
                }
            }
        });
        entries.into_iter().map(|(_, reply)| reply).collect()
    }

    /// Hands out again what is pending with the consumer above `after`; an entry that is gone has no fields.
    fn deliver_again(&self, stream: &mut StreamValue, after: StreamId, now_ms: u64) -> Vec<Reply> {
        let Some((start, group)) = after.next().zip(stream.group(self.group)) else { return Vec::new() };
        let Some(consumer) = group.consumer(self.consumer) else { return Vec::new() };
        let (mut entries, mut again) = (Vec::new(), Vec::new());
        for (id, pending) in group.pending_of(consumer, start).take(self.count) {
            match stream.get(id) {
                Some(entry) => {
                    entries.push(entry_reply(entry));
                    again.push((id, pending.deliveries.saturating_add(1)));
                }
                None => entries.push(Reply::Array(vec![id_reply(id), Reply::NullArray])),
            }
        }
        stream.edit_group(self.group, |group| {
            again.iter().for_each(|&(id, deliveries)| group.deliver(id, self.consumer, now_ms, deliveries));
        });
        entries
    }
}
