//! One row per command. Dispatch, arity, key extraction, COMMAND, the documentation and the simulator's
//! workload all derive from the row: adding a command is a row, a handler and a golden script.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;

use crate::acl::{KnownUsers, User, Users};
use crate::args::Args;
use crate::commands;
use crate::entry::Genesis;
use crate::error::{CommandError, unknown_command};
use crate::keyspace::Keyspace;
use crate::reply::Reply;
use crate::rng::Rng;
use crate::script::{self, Budget, Scripts};

/// What a handler returns.
pub type Outcome = Result<Reply, CommandError>;

/// What a read sees.
pub struct ReadContext<'a> {
    /// The group's keys, at the machine's clock.
    pub keys: &'a Keyspace,
    /// The time of the read, in milliseconds since the Unix epoch: never behind the machine's clock.
    pub now_ms: u64,
    /// For commands that pick at random.
    pub rng: Rng,
    /// The group's scripts.
    pub scripts: &'a Scripts,
    /// Who may do what, in the meta group; `None` within a script.
    pub users: Option<&'a Users>,
    /// Under whose rights a script runs; `None`: everybody's.
    pub rights: Option<&'a Arc<User>>,
    /// Where a script that it calls runs.
    pub scripting: script::Reads<'a>,
    /// Whether a script calls.
    pub in_script: bool,
}

/// What a write sees and changes. The time is the machine's clock, [`Keyspace::now_ms`].
pub struct WriteContext<'a> {
    /// The group's keys.
    pub keys: &'a mut Keyspace,
    /// Seeded by the entry's stamp: the same numbers on every replica.
    pub rng: Rng,
    /// Whether the call may wait for what is not there yet ([`Reply::Block`]): not in a transaction or a script, where
    /// a blocking command answers at once as if its time had run out.
    pub may_block: bool,
    /// Whether the call has blocked and a key of it has changed since: one of another type is as good as absent then.
    pub woken: bool,
    /// The group's scripts.
    pub scripts: &'a mut Scripts,
    /// Who may do what, in the meta group; `None` within a script.
    pub users: Option<&'a mut KnownUsers>,
    /// The members, in the meta group's; `None` within a script.
    pub genesis: Option<&'a mut Genesis>,
    /// Under whose rights a script runs; `None`: everybody's.
    pub rights: Option<&'a Arc<User>>,
    /// What a script may use.
    pub budget: Budget,
    /// Whether a script calls.
    pub in_script: bool,
}

/// How a command runs; the type says what it may touch.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// Reads the keyspace on the leader alone.
    Read(fn(&mut ReadContext, Args) -> Outcome),
    /// Changes the keyspace, on every replica, through the log.
    Write(fn(&mut WriteContext, Args) -> Outcome),
    /// Reads or writes, as the call's words say (XREAD writes if it may block).
    ByWords(ByWords),
    /// Concerns the connection, the node or the cluster: the server runs it.
    Session(Verb),
    /// Only its subcommands run.
    Container,
}

/// A command of which only some calls need the log.
#[derive(Clone, Copy, Debug)]
pub struct ByWords {
    /// Whether a call of these words writes.
    pub writes: fn(&[Bytes]) -> bool,
    /// Runs those that do not.
    pub read: fn(&mut ReadContext, Args) -> Outcome,
    /// Runs those that do.
    pub write: fn(&mut WriteContext, Args) -> Outcome,
}

/// The commands that the server runs itself.
#[allow(missing_docs)] // each is the command of that name
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    AclCat,
    AclGenpass,
    AclLoad,
    AclLog,
    AclSave,
    AclWhoami,
    Asking,
    Auth,
    Bgrewriteaof,
    Bgsave,
    ClientCaching,
    ClientGetname,
    ClientGetredir,
    ClientId,
    ClientInfo,
    ClientKill,
    ClientList,
    ClientNoEvict,
    ClientNoTouch,
    ClientPause,
    ClientReply,
    ClientSetinfo,
    ClientSetname,
    ClientTracking,
    ClientTrackinginfo,
    ClientUnpause,
    ClientUnblock,
    ClusterCountkeysinslot,
    ClusterGetkeysinslot,
    ClusterInfo,
    ClusterKeyslot,
    ClusterLinks,
    ClusterMyid,
    ClusterNodes,
    ClusterShards,
    ClusterSlots,
    Command,
    CommandCount,
    CommandDocs,
    CommandGetkeys,
    CommandGetkeysandflags,
    CommandInfo,
    CommandList,
    ConfigGet,
    ConfigResetstat,
    ConfigRewrite,
    ConfigSet,
    DebugAccept,
    DebugProtocol,
    DebugReload,
    DebugReplybuffer,
    DebugSetActiveExpire,
    DebugSleep,
    Discard,
    Echo,
    Exec,
    FunctionKill,
    Hello,
    Help,
    Info,
    Lastsave,
    LatencyDoctor,
    LatencyGraph,
    LatencyHistogram,
    LatencyHistory,
    LatencyLatest,
    LatencyReset,
    Lolwut,
    Monitor,
    MemoryDoctor,
    MemoryMallocStats,
    MemoryPurge,
    MemoryStats,
    Migrate,
    Multi,
    Ping,
    Psubscribe,
    Publish,
    PubsubChannels,
    PubsubNumpat,
    PubsubNumsub,
    PubsubShardchannels,
    PubsubShardnumsub,
    Punsubscribe,
    Quit,
    QuorisAudit,
    QuorisDurable,
    QuorisForwarded,
    QuorisGroup,
    QuorisMove,
    QuorisRebuild,
    QuorisStatus,
    QuorisTransaction,
    QuorisVersions,
    Readonly,
    Readwrite,
    Reset,
    Save,
    ScriptDebug,
    ScriptKill,
    Select,
    Shutdown,
    SlowlogGet,
    SlowlogLen,
    SlowlogReset,
    Spublish,
    Ssubscribe,
    Subscribe,
    Sunsubscribe,
    Time,
    Unsubscribe,
    Unwatch,
    Wait,
    Waitaof,
    Watch,
}

/// Where a call's keys stand among its words.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    /// The first key's word; 0 if the command has none, or only its other words tell where they are.
    pub first: usize,
    /// The last key's word; negative counts from the end (-1 is the last word).
    pub last: i32,
    /// Words from one key to the next.
    pub step: usize,
    /// Keys besides, that only the call's words tell.
    pub more: MoreKeys,
}

/// Keys whose place depends on the call's words.
#[derive(Clone, Copy, Debug)]
pub enum MoreKeys {
    /// There are none.
    None,
    /// This word says how many keys follow it. A number that is out of range means no keys: the handler refuses it.
    Counted(usize),
    /// Their words, in order.
    Found(fn(&[Bytes]) -> Vec<usize>),
}

impl Keys {
    /// No keys.
    pub const NONE: Keys = Keys::range(0, 0, 0);
    /// One key, word 1.
    pub const ONE: Keys = Keys::range(1, 1, 1);
    /// Two keys, words 1 and 2.
    pub const TWO: Keys = Keys::range(1, 2, 1);
    /// Every word from 1 on.
    pub const ALL: Keys = Keys::range(1, -1, 1);
    /// A subcommand's key, word 2.
    pub const AFTER_SUBCOMMAND: Keys = Keys::range(2, 2, 1);

    /// Words `first` to `last`, every `step`th.
    pub const fn range(first: usize, last: i32, step: usize) -> Keys {
        Keys { first, last, step, more: MoreKeys::None }
    }

    /// As many keys as word `count` says, behind it.
    pub const fn counted(count: usize) -> Keys {
        Keys::NONE.and(MoreKeys::Counted(count))
    }

    /// Keys at the words that `find` answers.
    pub const fn found(find: fn(&[Bytes]) -> Vec<usize>) -> Keys {
        Keys::NONE.and(MoreKeys::Found(find))
    }

    /// And others.
    pub const fn and(mut self, more: MoreKeys) -> Keys {
        self.more = more;
        self
    }

    /// Whether calls have keys.
    pub fn any(&self) -> bool {
        self.first > 0 || !matches!(self.more, MoreKeys::None)
    }

    /// The only key among `words`, where that much is plain: what most calls have.
    pub fn only<'a>(&self, words: &'a [Bytes]) -> Option<&'a Bytes> {
        match *self {
            Keys { first, last, more: MoreKeys::None, .. } if first > 0 && last == first as i32 => {
                words.get(first)
            }
            _ => None,
        }
    }

    /// The keys among `words`, those of the range first.
    pub fn of<'a>(&self, words: &'a [Bytes]) -> impl Iterator<Item = &'a Bytes> + use<'a> {
        let more = match self.more {
            MoreKeys::None => Vec::new(),
            MoreKeys::Counted(at) => counted(words, at).collect(),
            MoreKeys::Found(find) => find(words),
        };
        self.of_range(words).chain(more.into_iter().filter_map(|i| words.get(i)))
    }

    /// Looks at the places of the keys among `words`, in the order of [`Keys::of`], until one will not do. Takes no memory for most
    /// commands.
    pub fn try_each<E>(
        &self,
        words: &[Bytes],
        mut look: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<(), E> {
        self.range_in(words).try_for_each(&mut look)?;
        match self.more {
            MoreKeys::None => Ok(()),
            MoreKeys::Counted(at) => counted(words, at).try_for_each(look),
            MoreKeys::Found(find) => {
                find(words).into_iter().filter(|at| *at < words.len()).try_for_each(look)
            }
        }
    }

    fn of_range<'a>(&self, words: &'a [Bytes]) -> impl Iterator<Item = &'a Bytes> + use<'a> {
        self.range_in(words).map(move |i| &words[i])
    }

    fn range_in(&self, words: &[Bytes]) -> std::iter::StepBy<std::ops::Range<usize>> {
        let last =
            if self.last < 0 { words.len() as i64 + i64::from(self.last) } else { i64::from(self.last) };
        let (first, step) = (self.first, self.step.max(1));
        let end = if first == 0 { 0 } else { (last + 1).clamp(0, words.len() as i64) as usize };
        (first..end).step_by(step)
    }
}

/// The words that `words[at]` counts.
fn counted(words: &[Bytes], at: usize) -> std::ops::Range<usize> {
    // As C's `atoi` reads it, like Redis: `01` and `1x` count one key, though the handler refuses them.
    let digits = words.get(at).into_iter().flatten().take_while(|byte| byte.is_ascii_digit());
    let count =
        digits.fold(0usize, |n, digit| n.saturating_mul(10).saturating_add(usize::from(digit - b'0')));
    if count < words.len().saturating_sub(at) { at + 1..at + 1 + count } else { 0..0 }
}

/// How the answers of several groups become one, for commands without a key that concern every key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gather {
    /// Not such a command.
    None,
    /// Concerns the users: the meta group's state.
    Meta,
    /// Concerns no key in particular: any one group runs it.
    Any,
    /// The groups all give the same answer.
    Same,
    /// The same, to which the node adds which function it runs now.
    Running,
    /// Integers, added.
    Sum,
    /// Arrays, one after the other.
    Concat,
    /// Digests in hexadecimal, combined by exclusive or.
    Xor,
    /// `+OK` if all say so.
    AllOk,
    /// One group's answer, drawn by its number of keys.
    Draw,
    /// A cursor that walks the groups in the order of their slots ([`crate::commands::scan`]).
    Scan,
}

bitflags::bitflags! {
    /// What COMMAND INFO and the access checks say of a command; Redis's names.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// Changes the keyspace.
        const WRITE = 1;
        /// Reads the keyspace.
        const READONLY = 1 << 1;
        /// Refused when memory is short.
        const DENYOOM = 1 << 2;
        /// For administrators.
        const ADMIN = 1 << 3;
        /// Not in scripts.
        const NOSCRIPT = 1 << 4;
        /// Allowed while data is loaded.
        const LOADING = 1 << 5;
        /// Allowed on a node that cannot reach its group's leader.
        const STALE = 1 << 6;
        /// Constant or logarithmic time.
        const FAST = 1 << 7;
        /// Allowed before authentication.
        const NO_AUTH = 1 << 8;
        /// Not within MULTI.
        const NO_MULTI = 1 << 9;
        /// Dangerous in production (KEYS, FLUSHALL).
        const DANGEROUS = 1 << 10;
        /// May block: nothing else of the connection runs until it has its answer.
        const BLOCKING = 1 << 11;
        /// Publish and subscribe.
        const PUBSUB = 1 << 12;
        /// Not shown in MONITOR.
        const SKIP_MONITOR = 1 << 13;
        /// Not in SLOWLOG.
        const SKIP_SLOWLOG = 1 << 14;
        /// Only where the setting `enable-debug-command` allows it.
        const PROTECTED = 1 << 15;
        /// What nodes ask of each other on behalf of their clients, whose rights they have looked at: only for who may do
        /// everything.
        const BETWEEN_NODES = 1 << 16;
    }
}

/// The chapter of the command reference; `COMMAND DOCS`' group.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chapter {
    Bitmap,
    Cluster,
    Connection,
    Generic,
    Geo,
    Hash,
    Hyperloglog,
    List,
    PubSub,
    Scripting,
    Server,
    Set,
    SortedSet,
    Stream,
    String,
    Transactions,
}

impl Chapter {
    /// Redis's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Chapter::Bitmap => "bitmap",
            Chapter::Cluster => "cluster",
            Chapter::Connection => "connection",
            Chapter::Generic => "generic",
            Chapter::Geo => "geo",
            Chapter::Hash => "hash",
            Chapter::Hyperloglog => "hyperloglog",
            Chapter::List => "list",
            Chapter::PubSub => "pubsub",
            Chapter::Scripting => "scripting",
            Chapter::Server => "server",
            Chapter::Set => "set",
            Chapter::SortedSet => "sorted-set",
            Chapter::Stream => "stream",
            Chapter::String => "string",
            Chapter::Transactions => "transactions",
        }
    }
}

/// A row of the command table.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// Lower case. A subcommand's is its own word alone.
    pub name: &'static str,
    /// Number of words, the name (and the container's) included; negative: at least so many.
    pub arity: i32,
    /// Its properties.
    pub flags: Flags,
    /// Where its keys are.
    pub keys: Keys,
    /// How several groups' answers are merged.
    pub gather: Gather,
    /// How it runs.
    pub run: Run,
    /// Chapter of the reference.
    pub chapter: Chapter,
    /// The version of Redis it came with.
    pub since: &'static str,
    /// Cost, in Redis's words.
    pub complexity: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// Its subcommands, if it is a container.
    pub subcommands: &'static [Command],
    /// Its place among [`rows`], which it has in the table alone.
    pub id: usize,
}

impl Command {
    const fn new(name: &'static str, arity: i32, flags: Flags, keys: Keys, run: Run) -> Command {
        Command {
            name,
            arity,
            flags,
            keys,
            gather: Gather::None,
            run,
            chapter: Chapter::Generic,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "",
            subcommands: &[],
            id: usize::MAX,
        }
    }

    /// A command that reads.
    pub const fn read(
        name: &'static str,
        arity: i32,
        keys: Keys,
        run: fn(&mut ReadContext, Args) -> Outcome,
    ) -> Command {
        Command::new(name, arity, Flags::READONLY, keys, Run::Read(run))
    }

    /// A command that writes.
    pub const fn write(
        name: &'static str,
        arity: i32,
        keys: Keys,
        run: fn(&mut WriteContext, Args) -> Outcome,
    ) -> Command {
        Command::new(name, arity, Flags::WRITE, keys, Run::Write(run))
    }

    /// A command that reads or writes, as its words say. Its flags are still to be given.
    pub const fn by_words(name: &'static str, arity: i32, keys: Keys, run: ByWords) -> Command {
        Command::new(name, arity, Flags::empty(), keys, Run::ByWords(run))
    }

    /// A command that the server runs.
    pub const fn session(name: &'static str, arity: i32, verb: Verb) -> Command {
        let flags = Flags::NOSCRIPT.union(Flags::LOADING).union(Flags::STALE);
        Command::new(name, arity, flags, Keys::NONE, Run::Session(verb))
    }

    /// A command that only has subcommands.
    pub const fn container(name: &'static str, subcommands: &'static [Command]) -> Command {
        let mut command = Command::new(name, -2, Flags::empty(), Keys::NONE, Run::Container);
        command.subcommands = subcommands;
        command
    }

    /// Also has subcommands (COMMAND runs with and without one).
    pub const fn with_subcommands(mut self, subcommands: &'static [Command]) -> Command {
        self.subcommands = subcommands;
        self
    }

    /// With more flags.
    pub const fn with(mut self, flags: Flags) -> Command {
        self.flags = self.flags.union(flags);
        self
    }

    /// Over the keys of several groups.
    pub const fn gathered(mut self, gather: Gather) -> Command {
        self.gather = gather;
        self
    }

    /// With its documentation.
    pub const fn doc(
        mut self,
        chapter: Chapter,
        since: &'static str,
        complexity: &'static str,
        summary: &'static str,
    ) -> Command {
        self.chapter = chapter;
        self.since = since;
        self.complexity = complexity;
        self.summary = summary;
        self
    }

    /// Whether a call of `words` words has the right number.
    pub fn accepts(&self, words: usize) -> bool {
        if self.arity >= 0 {
            words == self.arity as usize
        } else {
            words >= self.arity.unsigned_abs() as usize
        }
    }

    /// Whether it runs a script or a function.
    pub fn runs_script(&self) -> bool {
        self.chapter == Chapter::Scripting && self.keys.any()
    }

    /// Whether calls of it go through the log, or may.
    pub fn is_write(&self) -> bool {
        matches!(self.run, Run::Write(_) | Run::ByWords(_))
    }

    /// Whether a call of `words` goes through the log.
    pub fn writes(&self, words: &[Bytes]) -> bool {
        matches!(self.run_for(words), Run::Write(_))
    }

    /// How a call of `words` runs: never [`Run::ByWords`].
    pub fn run_for(&self, words: &[Bytes]) -> Run {
        match self.run {
            Run::ByWords(run) if (run.writes)(words) => Run::Write(run.write),
            Run::ByWords(run) => Run::Read(run.read),
            run => run,
        }
    }
}

/// A call's row and the name that errors give it: `get`, `config|get`.
#[derive(Clone, Copy)]
pub struct Resolved {
    /// The row; for a subcommand, the subcommand's.
    pub command: &'static Command,
    /// The container's row, for a subcommand.
    pub container: Option<&'static Command>,
}

impl Resolved {
    /// Redis's full name: `get`, `config|get`.
    pub fn full_name(&self) -> String {
        match self.container {
            Some(container) => format!("{}|{}", container.name, self.command.name),
            None => self.command.name.to_string(),
        }
    }
}

/// All rows, and where each is found by its name.
struct Table {
    rows: Vec<&'static Command>,
    /// Subcommands included, each behind its container.
    all: Vec<Resolved>,
    /// Each row at the first free place from its name's hash on; three of four stay free.
    places: Vec<Option<&'static Command>>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let rows: Vec<&Command> = numbered().iter().collect();
    let with_subcommands = |row: &&'static Command| {
        let (row, container) = (*row, Some(*row));
        let subcommands = row.subcommands.iter().map(move |command| Resolved { command, container });
        std::iter::once(Resolved { command: row, container: None }).chain(subcommands)
    };
    let all: Vec<Resolved> = rows.iter().flat_map(with_subcommands).collect();
    assert!(all.iter().enumerate().all(|(id, row)| row.command.id == id), "rows out of order");
    let mut table = Table { places: vec![None; (4 * rows.len()).next_power_of_two()], rows, all };
    for row in table.rows.clone() {
        let place = table.place(row.name.as_bytes());
        assert!(table.places[place].is_none(), "two rows named {}", row.name);
        table.places[place] = Some(row);
    }
    table
});

/// The rows with their places among all of them, subcommands included.
fn numbered() -> &'static [Command] {
    let mut next = 0;
    let mut number = |row: &Command| {
        next += 1;
        Command { id: next - 1, ..*row }
    };
    let with_subcommands = |row: &Command| {
        let container = number(row);
        let subcommands: Vec<Command> = row.subcommands.iter().map(&mut number).collect();
        Command { subcommands: subcommands.leak(), ..container }
    };
    commands::all().map(with_subcommands).collect::<Vec<_>>().leak()
}

impl Table {
    /// Where the row of `name` is, or would be.
    fn place(&self, name: &[u8]) -> usize {
        let last = self.places.len() - 1;
        let mut place = hash_of_name(name) & last;
        let is_it = |row: &Command| {
            let same = |(lower, byte): (u8, &u8)| lower == byte.to_ascii_lowercase();
            row.name.len() == name.len() && row.name.bytes().zip(name).all(same)
        };
        while let Some(row) = self.places[place]
            && !is_it(row)
        {
            place = (place + 1) & last;
        }
        place
    }
}

/// FNV-1a, the same for a letter and its capital, which differ in one bit.
fn hash_of_name(name: &[u8]) -> usize {
    const CASE: u8 = 0x20;
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(byte | CASE)).wrapping_mul(0x0100_0193);
    let hash = name.iter().fold(0x811c_9dc5, step);
    (hash ^ hash >> 16) as usize
}

/// Every row, containers included, subcommands not, in the table's order.
pub fn table() -> impl ExactSizeIterator<Item = &'static Command> {
    TABLE.rows.iter().copied()
}

/// Every row, each container's subcommands behind it: where a row stands is its [`Command::id`].
pub fn rows() -> &'static [Resolved] {
    &TABLE.all
}

/// The row of `name`, whatever its case; of a subcommand, it is `container|subcommand`.
pub fn find_full(name: &[u8]) -> Option<Resolved> {
    let mut words = name.splitn(2, |byte| *byte == b'|');
    let command = find(words.next()?)?;
    match words.next() {
        None => Some(Resolved { command, container: None }),
        Some(sub) => {
            let row = command.subcommands.iter().find(|row| row.name.as_bytes().eq_ignore_ascii_case(sub))?;
            Some(Resolved { command: row, container: Some(command) })
        }
    }
}

/// The row of `name`, whatever its case.
pub fn find(name: &[u8]) -> Option<&'static Command> {
    const LONGEST: usize = 32;
    if name.len() > LONGEST {
        return None;
    }
    TABLE.places[TABLE.place(name)]
}

/// The row that `words` call, whatever their number.
pub fn lookup(words: &[Bytes]) -> Option<Resolved> {
    let command = find(words.first()?)?;
    match words.get(1) {
        Some(sub) if !command.subcommands.is_empty() => {
            let row = command.subcommands.iter().find(|row| row.name.as_bytes().eq_ignore_ascii_case(sub))?;
            Some(Resolved { command: row, container: Some(command) })
        }
        _ => Some(Resolved { command, container: None }),
    }
}

/// The row that `words` call, with their number checked.
pub fn resolve(words: &[Bytes]) -> Result<Resolved, CommandError> {
    let command = words.first().and_then(|name| find(name)).ok_or_else(|| unknown_command(words))?;
    let resolved = match words.get(1) {
        Some(sub) if !command.subcommands.is_empty() => {
            let found = command.subcommands.iter().find(|c| c.name.as_bytes().eq_ignore_ascii_case(sub));
            match found {
                Some(found) => Resolved { command: found, container: Some(command) },
                None => return Err(unknown_subcommand(command, sub)),
            }
        }
        _ => Resolved { command, container: None },
    };
    if !resolved.command.accepts(words.len()) {
        return Err(CommandError::WrongArity(resolved.full_name()));
    }
    Ok(resolved)
}

fn unknown_subcommand(command: &Command, sub: &[u8]) -> CommandError {
    let sub = String::from_utf8_lossy(&sub[..sub.len().min(128)]).replace(['\r', '\n'], " ");
    CommandError::UnknownSubcommand { command: command.name.to_ascii_uppercase(), sub }
}
