//! Runs the golden scripts under `src/testscripts/<chapter>/<command>` against the engine, a test for each file.
//!
//! A line that starts with `>` is a command, quoted as redis-cli quotes; the line below `---` that it gave is its
//! reply. The other lines steer the world around the machine:
//!
//! - `advance MS`: the wall clock goes on. Nothing reaches the machine until the next entry.
//! - `tick`: an entry without calls, which moves the machine's clock.
//! - `watch KEY`, then `exec`: tells whether KEY was changed in between, as WATCH would see it.
//! - `served`: the answers that calls which had blocked were given since it was last asked.
//! - `cancel ID`: the client of blocked call ID has waited long enough.
//! - `expiry HOW`: further entries remove what is due `at-once`, `when-read` or `later`.
//! - `elect`: further entries are a new leader's.
//!
//! Every entry is applied by two replicas: one that answers, and one that only follows, is sent the entry's bytes
//! and is rebuilt from its own snapshot again and again. Their digests must be equal after each entry.
//!
//! `UPDATE_GOLDENFILES=1 cargo test -p quoris-engine --test golden` writes the replies into the scripts: read the
//! difference before committing it.

use std::error::Error;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use goldenscript::{Argument, Context};
use libtest_mimic::{Arguments, Failed, Trial};
use quoris_engine::command::{self, Command, Run};
use quoris_engine::entry::{Genesis, Message, NodeInfo, SlotRange, Topology, Watch};
use quoris_engine::machine::{BatchOutcome, Expiry, Read, Replies};
use quoris_engine::script::Budget;
use quoris_engine::snapshot::Restore;
use quoris_engine::topology::node_name;
use quoris_engine::{Batch, Call, Entry, Machine, Position, Reply, SLOT_COUNT, Stamp, value::number};

/// The wall clock when a script starts: 2023-11-14 22:13:20 UTC.
const START_MS: u64 = 1_700_000_000_000;

/// The follower is rebuilt from its snapshot after every so many entries.
const ENTRIES_PER_RESTORE: u64 = 5;

fn main() {
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = scripts()
        .into_iter()
        .map(|(name, path)| Trial::test(format!("scripts/{name}"), move || run_script(&path)))
        .collect();
    trials.push(Trial::test("every_row_has_a_script", every_row_has_a_script));
    trials.push(Trial::test("words_are_split_as_redis_cli_does", words_are_split_as_redis_cli_does));
    libtest_mimic::run(&arguments, trials).exit();
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/testscripts")
}

/// Each script's `chapter/command` and its path, in order.
fn scripts() -> Vec<(String, PathBuf)> {
    let list = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
        paths.sort();
        paths
    };
    let name = |path: &PathBuf| {
        let relative = path.strip_prefix(root()).expect("below the root");
        (relative.to_string_lossy().into_owned(), path.clone())
    };
    list(&root()).iter().flat_map(|chapter| list(chapter)).map(|path| name(&path)).collect()
}

fn run_script(path: &Path) -> Result<(), Failed> {
    goldenscript::run(&mut World::new(), path)?;
    Ok(())
}

/// A row without a script is a command nobody has looked at.
fn every_row_has_a_script() -> Result<(), Failed> {
    let runs_here = |row: &&Command| matches!(row.run, Run::Read(_) | Run::Write(_) | Run::ByWords(_));
    let path = |row: &Command, name: String| format!("{}/{name}", row.chapter.name());
    let missing: Vec<String> = command::table()
        .flat_map(|row| {
            // A subcommand's script is called `container-subcommand`.
            let named = |sub: &'static Command| (sub, format!("{}-{}", row.name, sub.name));
            std::iter::once((row, row.name.to_string())).chain(row.subcommands.iter().map(named))
        })
        .filter(|(row, _)| runs_here(row))
        .map(|(row, name)| path(row, name))
        .filter(|name| !root().join(name).is_file())
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("no script for {}", missing.join(", ")).into()) }
}

/// The members at first: nodes 1 to 3.
fn three_nodes() -> Topology {
    let node = |id: u64| NodeInfo {
        id,
        name: node_name("golden", id),
        client_addr: format!("h{id}:1"),
        peer_addr: format!("h{id}:2"),
    };
    Topology { epoch: 1, nodes: (1..=3).map(node).collect(), ..Topology::default() }
}

/// A group that serves all slots, its follower, and the time around them.
struct World {
    answering: Machine,
    following: Machine,
    index: u64,
    term: u64,
    now_ms: u64,
    watches: Vec<Watch>,
    expiry: Expiry,
    /// Answers to blocked calls since they were last asked for.
    served: Vec<String>,
}

impl World {
    fn new() -> World {
        let mut world = World {
            // Their seeds differ: what a machine does must not depend on them.
            answering: Machine::new(1),
            following: Machine::new(2),
            index: 0,
            term: 1,
            now_ms: START_MS,
            watches: Vec::new(),
            expiry: Expiry::AtOnce,
            served: Vec::new(),
        };
        let slots = vec![SlotRange { start: 0, end: u32::from(SLOT_COUNT) - 1 }];
        let topology = Some(three_nodes());
        let genesis = Genesis { cluster_id: "golden".to_string(), group: 0, slots, topology };
        world.apply(Vec::new(), Some(genesis));
        world
    }

    /// Applies one entry on both replicas and compares them.
    fn apply(&mut self, batches: Vec<Batch>, genesis: Option<Genesis>) -> Vec<BatchOutcome> {
        self.index += 1;
        let at = Position { term: self.term, index: self.index };
        let keep_due = self.expiry != Expiry::AtOnce;
        let stamp = Some(Stamp { now_ms: self.now_ms, seed: self.index, keep_due, ..Stamp::default() });
        let entry = Entry { stamp, batches, genesis, ..Entry::default() };
        let applied = self.answering.apply(at, &entry, Replies::Wanted);

        let received = Entry::decode(Bytes::from(entry.encode_to_vec())).expect("what was just encoded");
        let followed = self.following.apply(at, &received, Replies::Unwanted);
        assert_eq!(applied.served, followed.served, "replicas serve differently");
        let served = applied.served.iter().map(|(id, reply)| format!("{id}: {}", show(reply)));
        self.served.extend(served);
        if self.index.is_multiple_of(ENTRIES_PER_RESTORE) {
            self.following = restored(&self.following);
        }
        assert_eq!(self.answering.digest(), self.following.digest(), "replicas differ after {entry:?}");
        applied.outcomes
    }

    /// Runs one command as a server would: a read is answered beside the log, unless a key is due.
    fn call(&mut self, words: Vec<Bytes>) -> Reply {
        let row = match command::resolve(&words) {
            Ok(row) => row.command,
            Err(error) => return Reply::Error(error),
        };
        let call = Call::new(words);
        if row.writes(&call.args) {
            let mut outcomes = self.apply(vec![Batch::of(vec![call])], None);
            let Some(BatchOutcome::Ran(mut replies)) = outcomes.pop() else {
                unreachable!("nothing is watched")
            };
            return replies.pop().expect("a reply for the call");
        }
        let calls = [call];
        if let Some(batches) = self.answering.before_read(&calls, self.now_ms, self.expiry) {
            self.apply(batches, None);
        }
        match self.answering.read(&calls, self.now_ms, self.index).pop().expect("an answer for the call") {
            Read::Reply(reply) => reply,
            Read::Script(script) => {
                let answered = script.answer(Budget::default(), None);
                answered.map_or(Reply::Simple("(does not end)"), |answered| answered.reply)
            }
        }
    }

    fn exec(&mut self) -> &'static str {
        let batch = Batch::transaction(Vec::new(), std::mem::take(&mut self.watches));
        match self.apply(vec![batch], None).pop() {
            Some(BatchOutcome::WatchFailed) => "changed",
            _ => "unchanged",
        }
    }
}

fn restored(machine: &Machine) -> Machine {
    let mut restore = Restore::new(3);
    for chunk in machine.snapshot().chunks() {
        restore.push(chunk).expect("a chunk just made");
    }
    restore.finish().expect("a whole snapshot")
}

impl goldenscript::Runner for World {
    type Command = goldenscript::Command;

    fn run(&mut self, line: &goldenscript::Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let argument = match line.args.first() {
            Some(Argument::Positional(argument)) => argument.as_str(),
            _ => "",
        };
        match line.name.as_str() {
            "advance" => self.now_ms += argument.parse::<u64>()?,
            "tick" => drop(self.apply(Vec::new(), None)),
            "served" => return Ok(self.served.drain(..).collect::<Vec<_>>().join("\n")),
            "cancel" => drop(self.apply(vec![Batch::cancel(argument.parse()?)], None)),
            "expiry" => {
                self.expiry = match argument {
                    "when-read" => Expiry::WhenRead,
                    "later" => Expiry::Later,
                    _ => Expiry::AtOnce,
                }
            }
            // A new leader.
            "elect" => self.term += 1,
            "watch" => {
                let key = Bytes::copy_from_slice(argument.as_bytes());
                self.watches.push(Watch { version: self.answering.keyspace().version_of(&key), key });
            }
            "exec" => return Ok(self.exec().to_string()),
            command => return Ok(show(&self.call(split(command)?))),
        }
        Ok(String::new())
    }

    /// A snapshot of the replica that answered must give the same machine, too.
    fn end_script(&mut self) -> Result<(), Box<dyn Error>> {
        assert_eq!(restored(&self.answering).digest(), self.answering.digest());
        Ok(())
    }
}

/// A reply on one line, as RESP3 would carry it.
fn show(reply: &Reply) -> String {
    let list = |items: &[Reply]| items.iter().map(show).collect::<Vec<_>>().join(", ");
    let pairs = |items: &[(Reply, Reply)]| {
        items
            .iter()
            .map(|(key, value)| format!("{}: {}", show(key), show(value)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    match reply {
        Reply::Simple(text) => format!("+{text}"),
        Reply::Status(text) => format!("+{}", text.escape_ascii()),
        Reply::BigNumber(digits) => format!("({})", digits.escape_ascii()),
        Reply::Int(n) => format!("(integer) {n}"),
        Reply::Bulk(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        Reply::Null => "(nil)".to_string(),
        Reply::NullArray => "(nil array)".to_string(),
        Reply::Array(items) => format!("[{}]", list(items)),
        Reply::Map(items) => format!("{{{}}}", pairs(items)),
        Reply::Set(items) => format!("~[{}]", list(items)),
        Reply::Pairs(items) => format!("pairs [{}]", pairs(items)),
        Reply::Named(items) => format!("named {{{}}}", pairs(items)),
        Reply::Double(value) => format!("(double) {}", number::format_double(*value)),
        Reply::Decimal(value) => format!("(double) {}", number::format_decimal(*value)),
        Reply::Bool(value) => format!("({value})"),
        Reply::Verbatim(format, text) => format!("({format}) \"{}\"", text.escape_ascii()),
        Reply::Attributed(attributes, reply) => format!("|{{{}}} {}", pairs(attributes), show(reply)),
        Reply::Push(items) => format!(">[{}]", list(items)),
        Reply::Block(_) => unreachable!("the machine keeps it"),
        Reply::Blocked { id, .. } => format!("blocked as {id}"),
        Reply::Error(error) => format!("-{error}"),
    }
}

/// The words of a line: separated by spaces, or within `"…"` (with `\n`, `\r`, `\t`, `\\`, `\"`, `\xHH`), or within
/// `'…'` (with `\'`).
fn split(line: &str) -> Result<Vec<Bytes>, String> {
    let mut rest = line.trim().as_bytes();
    let mut words = Vec::new();
    while !rest.is_empty() {
        let (word, after) = match rest[0] {
            quote @ (b'"' | b'\'') => {
                quoted(&rest[1..], quote).ok_or_else(|| format!("unbalanced: {line}"))?
            }
            _ => {
                let end = rest.iter().position(|&b| b == b' ').unwrap_or(rest.len());
                (rest[..end].to_vec(), &rest[end..])
            }
        };
        words.push(Bytes::from(word));
        rest = after.trim_ascii_start();
    }
    Ok(words)
}

/// The word up to the closing `quote`, and what follows it; `None` if it is not closed or has a bad escape.
fn quoted(mut rest: &[u8], quote: u8) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        let (byte, used) = match rest {
            [b'\\', b'x', high, low, ..] if quote == b'"' => {
                let hex = [*high, *low];
                (u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?, 4)
            }
            [b'\\', escaped, ..] if quote == b'"' => match escaped {
                b'n' => (b'\n', 2),
                b'r' => (b'\r', 2),
                b't' => (b'\t', 2),
                other => (*other, 2),
            },
            [b'\\', b'\'', ..] if quote == b'\'' => (b'\'', 2),
            [byte, after @ ..] if *byte == quote => {
                let closed = after.is_empty() || after[0] == b' ';
                return closed.then_some((word, after));
            }
            [byte, ..] => (*byte, 1),
            [] => return None,
        };
        word.push(byte);
        rest = &rest[used..];
    }
}

fn words_are_split_as_redis_cli_does() -> Result<(), Failed> {
    let words = split(r#"set  "a \"b\"\x00\n" 'it\'s' -1 """#)?;
    assert_eq!(words, ["set", "a \"b\"\0\n", "it's", "-1", ""]);
    assert!(split(r#"get "a"#).is_err());
    assert!(split(r#"get "a"b"#).is_err());
    Ok(())
}
