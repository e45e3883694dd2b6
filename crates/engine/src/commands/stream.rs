//! Streams: their entries. `stream_read` has the commands that read on from where one was, `stream_group` consumer
//! groups, `stream_info` what is known of a stream.

use bytes::Bytes;

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, Outcome, ReadContext, WriteContext};
use crate::error::CommandError;
use crate::events::EventClass;
use crate::keyspace::Edit;
use crate::reply::Reply;
use crate::value::stream::{StreamEntry, StreamId, Trim, TrimTo};
use crate::value::{Bounds, StreamValue};

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::write("xadd", -5, Keys::ONE, xadd).with(Flags::DENYOOM.union(Flags::FAST)).doc(
        Chapter::Stream,
        "5.0.0",
        "O(1) when adding a new entry, O(N) when trimming where N being the number of entries evicted.",
        "Appends a new message to a stream. Creates the key if it doesn't exist.",
    ),
    Command::write("xdel", -3, Keys::ONE, xdel).with(Flags::FAST).doc(
        Chapter::Stream,
        "5.0.0",
        "O(1) for each single item to delete in the stream, regardless of the stream size.",
        "Returns the number of messages after removing them from a stream.",
    ),
    Command::read("xlen", 2, Keys::ONE, xlen).with(Flags::FAST).doc(
        Chapter::Stream,
        "5.0.0",
        "O(1)",
        "Return the number of messages in a stream.",
    ),
    Command::read("xrange", -4, Keys::ONE, xrange).doc(
        Chapter::Stream,
        "5.0.0",
        "O(N) with N being the number of elements being returned. If N is constant (e.g. always asking for the first 10 elements with COUNT), you can consider it O(1).",
        "Returns the messages from a stream within a range of IDs.",
    ),
    Command::read("xrevrange", -4, Keys::ONE, xrevrange).doc(
        Chapter::Stream,
        "5.0.0",
        "O(N) with N being the number of elements returned. If N is constant (e.g. always asking for the first 10 elements with COUNT), you can consider it O(1).",
        "Returns the messages from a stream within a range of IDs in reverse order.",
    ),
    Command::write("xsetid", -3, Keys::ONE, xsetid).with(Flags::DENYOOM.union(Flags::FAST)).doc(
        Chapter::Stream,
        "5.0.0",
        "O(1)",
        "An internal command for replicating stream values.",
    ),
    Command::write("xtrim", -4, Keys::ONE, xtrim).doc(
        Chapter::Stream,
        "5.0.0",
        "O(N), with N being the number of evicted entries. Constant times are very small however, since entries are organized in macro nodes containing multiple entries that can be released with a single deallocation.",
        "Deletes messages from the beginning of a stream.",
    ),
];

/// The most bytes of an entry's names and values together, as in Redis.
const MAX_ENTRY_BYTES: usize = 1 << 30;

/// How many entries an approximate trim without LIMIT removes at most: 100 nodes, as in Redis.
fn default_trim_limit(bounds: &Bounds) -> u64 {
    const NODES: u64 = 100;
    const MOST: u64 = 1_000_000;
    bounds.node_entries.saturating_mul(NODES).min(MOST)
}

fn xadd(context: &mut WriteContext, args: Args) -> Outcome {
    let key = args.bytes(1);
    let options = Options::parse(args, For::Add, context.keys.bounds())?;
    let (fields, odd) = args.from(options.end).as_chunks::<2>();
    let Some(new_id) = options.id.filter(|_| !fields.is_empty() && odd.is_empty()) else {
        return Err(CommandError::WrongArity("xadd".to_string()));
    };
    if new_id == NewId::Given(StreamId::MIN) {
        return Err(CommandError::Text("ERR The ID specified in XADD must be greater than 0-0"));
    }
    if options.only_existing && context.keys.collection::<StreamValue>(key)?.is_none() {
        return Ok(Reply::Null);
    }
    let (now_ms, bounds) = (context.keys.now_ms(), *context.keys.bounds());
    let (id, trimmed) = context.keys.edit(key, |stream: &mut StreamValue| {
        match new_id.resolve(stream, now_ms).and_then(|id| checked_size(fields).map(|()| id)) {
            Ok(id) => {
                stream.append(id, fields, &bounds);
                Edit::changed(Ok((id, options.trim.map_or(0, |trim| stream.trim(&trim)))))
            }
            Err(error) => Edit::unchanged(Err(error)),
        }
    })??;
    context.keys.notify(EventClass::STREAM, "xadd", key);
    if trimmed > 0 {
        context.keys.notify(EventClass::STREAM, "xtrim", key);
    }
    Ok(id_reply(id))
}

fn checked_size(fields: &[[Bytes; 2]]) -> Result<(), CommandError> {
    let bytes: usize = fields.iter().flatten().map(Bytes::len).sum();
    if bytes > MAX_ENTRY_BYTES {
        return Err(CommandError::Text("ERR Elements are too large to be stored"));
    }
    Ok(())
}

fn xtrim(context: &mut WriteContext, args: Args) -> Outcome {
    let key = args.bytes(1);
    let Some(trim) = Options::parse(args, For::Trim, context.keys.bounds())?.trim else {
        return Err(CommandError::Text("ERR syntax error, XTRIM must be called with a trimming strategy"));
    };
    let removed = context.keys.edit_existing(key, |stream: &mut StreamValue| {
        let removed = stream.trim(&trim);
        Edit::new(removed, removed > 0)
    })?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        context.keys.notify(EventClass::STREAM, "xtrim", key);
    }
    Ok(Reply::Int(removed as i64))
}

/// The id that an entry is to get.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NewId {
    /// `*`.
    Auto,
    /// `ms-*`.
    AutoSeq(u64),
    Given(StreamId),
}

impl NewId {
    fn parse(word: &[u8]) -> Result<NewId, CommandError> {
        if word == b"*" {
            return Ok(NewId::Auto);
        }
        match StreamId::parse_ms_of_any(word) {
            Some(ms) => Ok(NewId::AutoSeq(ms)),
            None => parse_id(word, 0).map(NewId::Given),
        }
    }

    fn resolve(self, stream: &StreamValue, now_ms: u64) -> Result<StreamId, CommandError> {
        let last = stream.counters().last_id;
        if last == StreamId::MAX {
            return Err(CommandError::Text(
                "ERR The stream has exhausted the last possible ID, unable to add more items",
            ));
        }
        let id = match self {
            NewId::Auto => stream.next_id(now_ms),
            NewId::AutoSeq(ms) if ms == last.ms => last.seq.checked_add(1).map(|seq| StreamId { ms, seq }),
            NewId::AutoSeq(ms) => Some(StreamId { ms, seq: 0 }),
            NewId::Given(id) => Some(id),
        };
        id.filter(|id| *id > last).ok_or(CommandError::Text(
            "ERR The ID specified in XADD is equal or smaller than the target stream top item",
        ))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    Add,
    Trim,
}

/// The options of XADD and XTRIM.
struct Options {
    trim: Option<Trim>,
    /// NOMKSTREAM.
    only_existing: bool,
    /// XADD's id; `None` if the words ended before it.
    id: Option<NewId>,
    /// The first word behind them, and behind the id.
    end: usize,
}

impl Options {
    fn parse(args: Args, of: For, bounds: &Bounds) -> Result<Options, CommandError> {
        let mut options = Options { trim: None, only_existing: false, id: None, end: 2 };
        let mut limit = None;
        while options.end < args.len() && options.id.is_none() {
            let i = options.end;
            let more = i + 1 < args.len();
            options.end = i + 1;
            if of == For::Add && args.bytes(i).as_ref() == b"*" {
                options.id = Some(NewId::Auto);
            } else if more && (args.is(i, "maxlen") || args.is(i, "minid")) {
                if options.trim.is_some() {
                    return Err(CommandError::Text(
                        "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                    ));
                }
                let (trim, end) = parse_trim(args, i)?;
                options.trim = Some(trim);
                options.end = end;
            } else if more && args.is(i, "limit") {
                let entries = u64::try_from(args.int(i + 1)?)
                    .map_err(|_| CommandError::Text("ERR The LIMIT argument must be >= 0."))?;
                limit = Some(entries);
                options.end = i + 2;
            } else if of == For::Add && args.is(i, "nomkstream") {
                options.only_existing = true;
            } else if of == For::Add {
                options.id = Some(NewId::parse(args.bytes(i))?);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        options.set_limit(limit, default_trim_limit(bounds))?;
        Ok(options)
    }

    fn set_limit(&mut self, limit: Option<u64>, default: u64) -> Result<(), CommandError> {
        match (&mut self.trim, limit) {
            (None, Some(1..)) => Err(CommandError::Text(
                "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
            )),
            (Some(trim), limit) if trim.approximate => {
                trim.limit = Some(limit.unwrap_or(default)).filter(|&limit| limit > 0);
                Ok(())
            }
            (_, Some(_)) => {
                Err(CommandError::Text("ERR syntax error, LIMIT cannot be used without the special ~ option"))
            }
            (_, None) => Ok(()),
        }
    }
}

/// MAXLEN or MINID at word `i`, and the first word behind it and its argument.
fn parse_trim(args: Args, i: usize) -> Result<(Trim, usize), CommandError> {
    let marked = i + 2 < args.len() && (args.is(i + 1, "~") || args.is(i + 1, "="));
    let at = if marked { i + 2 } else { i + 1 };
    let to = if args.is(i, "maxlen") {
        let len = u64::try_from(args.int(at)?)
            .map_err(|_| CommandError::Text("ERR The MAXLEN argument must be >= 0."))?;
        TrimTo::Length(len)
    } else {
        TrimTo::MinId(parse_id(args.bytes(at), 0)?)
    };
    Ok((Trim { to, approximate: marked && args.is(i + 1, "~"), limit: None }, at + 1))
}

fn xdel(context: &mut WriteContext, args: Args) -> Outcome {
    let key = args.bytes(1);
    if context.keys.collection::<StreamValue>(key)?.is_none() {
        return Ok(Reply::Int(0));
    }
    let ids = parse_ids(args.from(2))?;
    let removed = context.keys.edit_existing(key, |stream: &mut StreamValue| {
        let removed = ids.iter().filter(|&&id| stream.remove(id)).count();
        Edit::new(removed, removed > 0)
    })?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        context.keys.notify(EventClass::STREAM, "xdel", key);
    }
    Ok(Reply::count(removed))
}

fn xlen(context: &mut ReadContext, args: Args) -> Outcome {
    let stream = context.keys.collection::<StreamValue>(args.bytes(1))?;
    Ok(Reply::Int(stream.map_or(0, |stream| stream.len() as i64)))
}

fn xrange(context: &mut ReadContext, args: Args) -> Outcome {
    let (start, end) = (parse_start(args.bytes(2))?, parse_end(args.bytes(3))?);
    range(context, args, |stream, count| stream.range(start, end).take(count).map(entry_reply).collect())
}

fn xrevrange(context: &mut ReadContext, args: Args) -> Outcome {
    let (start, end) = (parse_start(args.bytes(3))?, parse_end(args.bytes(2))?);
    range(context, args, |stream, count| stream.range_back(end, start).take(count).map(entry_reply).collect())
}

fn range(context: &ReadContext, args: Args, entries: impl Fn(&StreamValue, usize) -> Vec<Reply>) -> Outcome {
    let mut count = None;
    let mut i = 4;
    while i < args.len() {
        if !args.is(i, "count") || i + 1 == args.len() {
            return Err(CommandError::Syntax);
        }
        count = Some(args.int(i + 1)?.max(0) as usize);
        i += 2;
    }
    let Some(stream) = context.keys.collection::<StreamValue>(args.bytes(1))? else {
        return Ok(Reply::Array(Vec::new()));
    };
    match count {
        Some(0) => Ok(Reply::NullArray),
        count => Ok(Reply::Array(entries(stream, count.unwrap_or(usize::MAX)))),
    }
}

fn xsetid(context: &mut WriteContext, args: Args) -> Outcome {
    let key = args.bytes(1);
    let last_id = parse_id(args.bytes(2), 0)?;
    let (mut added, mut max_deleted) = (None, StreamId::MIN);
    let mut i = 3;
    while i < args.len() {
        if i + 1 == args.len() {
            return Err(CommandError::Syntax);
        } else if args.is(i, "entriesadded") {
            let entries = u64::try_from(args.int(i + 1)?)
                .map_err(|_| CommandError::Text("ERR entries_added must be positive"))?;
            added = Some(entries);
        } else if args.is(i, "maxdeletedid") {
            max_deleted = parse_id(args.bytes(i + 1), 0)?;
            if last_id < max_deleted {
                return Err(CommandError::Text(
                    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                ));
            }
        } else {
            return Err(CommandError::Syntax);
        }
        i += 2;
    }
    let stream = context.keys.collection::<StreamValue>(key)?.ok_or(CommandError::NoSuchKey)?;
    if stream.last_entry_id().is_some_and(|last| last_id < last) {
        return Err(CommandError::Text(
            "ERR The ID specified in XSETID is smaller than the target stream top item",
        ));
    }
    if added.is_some_and(|added| added < stream.len()) {
        return Err(CommandError::Text(
            "ERR The entries_added specified in XSETID is smaller than the target stream length",
        ));
    }
    context.keys.edit_existing(key, |stream: &mut StreamValue| {
        stream.set_last_id(last_id);
        if let Some(added) = added {
            stream.set_entries_added(added);
        }
        if max_deleted != StreamId::MIN {
            stream.set_max_deleted_id(max_deleted);
        }
        Edit::changed(())
    })?;
    context.keys.notify(EventClass::STREAM, "xsetid", key);
    Ok(Reply::OK)
}

const INVALID_ID: CommandError =
    CommandError::Text("ERR Invalid stream ID specified as stream command argument");

/// An id; one without a number means number `missing_seq` of its time.
pub(super) fn parse_id(word: &[u8], missing_seq: u64) -> Result<StreamId, CommandError> {
    StreamId::parse(word, missing_seq).ok_or(INVALID_ID)
}

/// An id, or `-` or `+` for the least and the greatest.
pub(super) fn parse_id_or_edge(word: &[u8], missing_seq: u64) -> Result<StreamId, CommandError> {
    match word {
        b"-" => Ok(StreamId::MIN),
        b"+" => Ok(StreamId::MAX),
        word => parse_id(word, missing_seq),
    }
}

/// Ids, all of them or none.
pub(super) fn parse_ids(words: &[Bytes]) -> Result<Vec<StreamId>, CommandError> {
    words.iter().map(|word| parse_id(word, 0)).collect()
}

/// The first id of a range; `(` before an id excludes it.
pub(super) fn parse_start(word: &[u8]) -> Result<StreamId, CommandError> {
    match word.strip_prefix(b"(").filter(|id| !id.is_empty()) {
        Some(id) => {
            parse_id(id, 0)?.next().ok_or(CommandError::Text("ERR invalid start ID for the interval"))
        }
        None => parse_id_or_edge(word, 0),
    }
}

/// The last id of a range; `(` before an id excludes it.
pub(super) fn parse_end(word: &[u8]) -> Result<StreamId, CommandError> {
    match word.strip_prefix(b"(").filter(|id| !id.is_empty()) {
        Some(id) => parse_id(id, u64::MAX)?
            .previous()
            .ok_or(CommandError::Text("ERR invalid end ID for the interval")),
        None => parse_id_or_edge(word, u64::MAX),
    }
}

/// An id as a reply.
pub(super) fn id_reply(id: StreamId) -> Reply {
    Reply::Bulk(id.to_bytes())
}

/// An entry as a reply: its id, and its fields' names and values alternately.
pub(super) fn entry_reply(entry: StreamEntry) -> Reply {
    let mut words = Vec::with_capacity(2 * entry.field_count);
    for (name, value) in entry.fields() {
        words.push(Reply::bulk(name));
        words.push(Reply::bulk(value));
    }
    Reply::Array(vec![id_reply(entry.id), Reply::Array(words)])
}
