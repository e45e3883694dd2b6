//! The rows of commands that the server runs itself: they concern the connection, the node or the cluster, and
//! never the log (but for those that change the members).

use bytes::Bytes;

use super::members;
use crate::command::{Chapter, Command, Flags, Keys, Verb};

/// Before authentication, too.
const OPEN: Flags = Flags::FAST.union(Flags::NO_AUTH);

/// The rows.
pub const COMMANDS: &[Command] = &[
    on_connection("ping", -1, Verb::Ping, "1.0.0", "Returns the server's liveliness response.")
        .with(Flags::FAST),
    on_connection("echo", 2, Verb::Echo, "1.0.0", "Returns the given string.").with(Flags::FAST),
    on_connection("hello", -1, Verb::Hello, "6.0.0", "Handshakes with the server.").with(OPEN),
    on_connection("auth", -2, Verb::Auth, "1.0.0", "Authenticates the connection.").with(OPEN),
    on_connection("select", 2, Verb::Select, "1.0.0", "Changes the selected database.").with(Flags::FAST),
    on_connection("quit", -1, Verb::Quit, "1.0.0", "Closes the connection.").with(OPEN),
    on_connection("reset", 1, Verb::Reset, "6.2.0", "Resets the connection.").with(OPEN),
    container("client", Chapter::Connection, "2.4.0", "A container for client connection commands.", CLIENT),
    on_cluster("asking", 1, Verb::Asking, "3.0.0", "Signals that a redirection is being followed.")
        .with(Flags::FAST),
    on_cluster("readonly", 1, Verb::Readonly, "3.0.0", "Allows reads from replicas on this connection.")
        .with(Flags::FAST),
    on_cluster("readwrite", 1, Verb::Readwrite, "3.0.0", "Ends what READONLY began.").with(Flags::FAST),
    container("cluster", Chapter::Cluster, "3.0.0", "A container for cluster commands.", CLUSTER),
    on_server(
        "bgrewriteaof",
        1,
        Verb::Bgrewriteaof,
        "1.0.0",
        "Has this node's groups snapshotted, so that their log shrinks.",
    )
    .with(Flags::ADMIN.union(Flags::NOSCRIPT)),
    on_server("bgsave", -1, Verb::Bgsave, "1.0.0", "Has this node's groups snapshotted.")
        .with(Flags::ADMIN.union(Flags::NOSCRIPT)),
    on_server("command", -1, Verb::Command, "2.8.13", "Returns detailed information about all commands.")
        .with_subcommands(COMMAND),
    container("config", Chapter::Server, "2.0.0", "A container for server configuration commands.", CONFIG),
    on_server("info", -1, Verb::Info, "1.0.0", "Returns information and statistics about the server."),
    on_server(
        "lastsave",
        1,
        Verb::Lastsave,
        "1.0.0",
        "Returns when the groups were last snapshotted by command.",
    )
    .with(Flags::FAST),
    on_server(
        "lolwut",
        -1,
        Verb::Lolwut,
        "5.0.0",
        "Displays the version in a form that is worth looking at.",
    ),
    container("latency", Chapter::Server, "2.8.13", "A container for latency diagnostics commands.", LATENCY),
    on_server("monitor", 1, Verb::Monitor, "1.0.0", "Shows every call that this node gets from its clients.")
        .with(Flags::ADMIN),
    on_server("save", 1, Verb::Save, "1.0.0", "Snapshots this node's groups.")
        .with(Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::NO_MULTI)),
    on_server("shutdown", -1, Verb::Shutdown, "1.0.0", "Stops this node in good order.")
        .with(Flags::ADMIN.union(Flags::NO_MULTI)),
    container("slowlog", Chapter::Server, "2.2.12", "A container for slow log commands.", SLOWLOG),
    on_server("time", 1, Verb::Time, "2.6.0", "Returns the server time.").with(Flags::FAST),
    container("quoris", Chapter::Server, "7.4.0", "A container for commands that only quoris has.", QUORIS),
    in_transactions("discard", 1, Verb::Discard, "2.0.0", "Forgets what was queued since MULTI.")
        .with(Flags::FAST),
    in_transactions(
        "exec",
        1,
        Verb::Exec,
        "1.2.0",
        "Runs what was queued since MULTI, all of it or nothing.",
    )
    .with(Flags::SKIP_SLOWLOG),
    in_transactions("multi", 1, Verb::Multi, "1.2.0", "Begins a transaction.").with(Flags::FAST),
    in_transactions("unwatch", 1, Verb::Unwatch, "2.2.0", "Forgets what WATCH remembered.").with(Flags::FAST),
    Command { keys: Keys::ALL, ..WATCH }.with(Flags::FAST),
    Command {
        keys: Keys::found(migrated),
        flags: Flags::WRITE.union(Flags::NOSCRIPT).union(Flags::NO_MULTI).union(Flags::DANGEROUS),
        ..MIGRATE
    },
    waiting("wait", 3, Verb::Wait, "3.0.0", "Waits until so many other nodes have the connection's writes."),
    waiting(
        "waitaof",
        4,
        Verb::Waitaof,
        "7.2.0",
        "Waits until this node and so many others have the connection's writes on disk.",
    ),
];

const WATCH: Command = in_transactions(
    "watch",
    -2,
    Verb::Watch,
    "2.2.0",
    "Has the next EXEC run nothing if one of the keys has changed by then.",
);

/// Waits for another server, and so is no part of a transaction or a script.
const MIGRATE: Command = Command::session("migrate", -6, Verb::Migrate)
    .doc(
        Chapter::Generic,
        "2.6.0",
        "This command actually executes a DUMP+DEL in the source instance, and a RESTORE in the target instance. See the \
         pages of these commands for time complexity. Also an O(N) data transfer between the two instances is performed.",
        "Moves keys to another server.",
    );

/// Where MIGRATE's keys are: word 3, or what follows KEYS if that is empty.
fn migrated(words: &[Bytes]) -> Vec<usize> {
    let is = |i: usize, option: &str| words[i].eq_ignore_ascii_case(option.as_bytes());
    let mut i = 6;
    while i < words.len() && words[3].is_empty() {
        if is(i, "keys") {
            return (i + 1..words.len()).collect();
        }
        let secrets = if is(i, "auth2") { 2 } else { usize::from(is(i, "auth")) };
        i += 1 + secrets;
    }
    vec![3]
}

const CLIENT: &[Command] = &[
    on_connection(
        "caching",
        3,
        Verb::ClientCaching,
        "6.0.0",
        "Whether the keys of the next call are tracked.",
    ),
    on_connection("getname", 2, Verb::ClientGetname, "2.6.9", "Returns the name of the connection."),
    on_connection(
        "getredir",
        2,
        Verb::ClientGetredir,
        "6.0.0",
        "Returns the client that tracking redirects to.",
    ),
    on_connection("help", 2, Verb::Help, "5.0.0", "Prints this help."),
    on_connection("id", 2, Verb::ClientId, "5.0.0", "Returns the number of the connection."),
    on_connection("info", 2, Verb::ClientInfo, "6.2.0", "Returns information about the connection."),
    on_connection("kill", -3, Verb::ClientKill, "2.4.0", "Terminates open connections.").with(Flags::ADMIN),
    on_connection("list", -2, Verb::ClientList, "2.4.0", "Lists open connections.").with(Flags::ADMIN),
    on_connection(
        "no-evict",
        3,
        Verb::ClientNoEvict,
        "7.0.0",
        "Sets the client eviction mode of the connection.",
    )
    .with(Flags::ADMIN),
    on_connection(
        "no-touch",
        3,
        Verb::ClientNoTouch,
        "7.2.0",
        "Whether commands of the connection touch their keys.",
    ),
    on_connection("pause", -3, Verb::ClientPause, "3.0.0", "Lets calls wait for a while.").with(Flags::ADMIN),
    on_connection(
        "reply",
        3,
        Verb::ClientReply,
        "3.2.0",
        "Instructs the server whether to reply to commands.",
    ),
    on_connection("setinfo", 4, Verb::ClientSetinfo, "7.2.0", "Sets what is told of the client's library."),
    on_connection("setname", 3, Verb::ClientSetname, "2.6.9", "Sets the name of the connection."),
    on_connection("unblock", -3, Verb::ClientUnblock, "5.0.0", "Ends another connection's blocking command.")
        .with(Flags::ADMIN),
    on_connection(
        "tracking",
        -3,
        Verb::ClientTracking,
        "6.0.0",
        "Whether the client is told when keys that it may have cached change.",
    ),
    on_connection(
        "trackinginfo",
        2,
        Verb::ClientTrackinginfo,
        "6.2.0",
        "Returns what the connection tracks.",
    ),
    on_connection("unpause", 2, Verb::ClientUnpause, "6.2.0", "Lets waiting calls go on.").with(Flags::ADMIN),
];

const CLUSTER: &[Command] = &[
    on_cluster(
        "countkeysinslot",
        3,
        Verb::ClusterCountkeysinslot,
        "3.0.0",
        "Returns the number of keys in a slot.",
    ),
    on_cluster(
        "getkeysinslot",
        4,
        Verb::ClusterGetkeysinslot,
        "3.0.0",
        "Returns the names of keys in a slot.",
    ),
    on_cluster("help", 2, Verb::Help, "5.0.0", "Prints this help."),
    on_cluster("info", 2, Verb::ClusterInfo, "3.0.0", "Returns information about the state of the cluster."),
    on_cluster("keyslot", 3, Verb::ClusterKeyslot, "3.0.0", "Returns the hash slot of a key."),
    on_cluster("links", 2, Verb::ClusterLinks, "7.0.0", "Lists the connections to the other nodes."),
    on_cluster("myid", 2, Verb::ClusterMyid, "3.0.0", "Returns the name of this node."),
    on_cluster("nodes", 2, Verb::ClusterNodes, "3.0.0", "Returns the nodes of the cluster, one a line."),
    on_cluster("shards", 2, Verb::ClusterShards, "7.0.0", "Returns the slots and the nodes that serve them."),
    on_cluster("slots", 2, Verb::ClusterSlots, "3.0.0", "Returns the slots and the nodes that serve them."),
];

const COMMAND: &[Command] = &[
    on_server("count", 2, Verb::CommandCount, "2.8.13", "Returns how many commands there are."),
    on_server("docs", -2, Verb::CommandDocs, "7.0.0", "Returns documentation of commands."),
    on_server("getkeys", -3, Verb::CommandGetkeys, "2.8.13", "Extracts the keys of any command."),
    on_server(
        "getkeysandflags",
        -3,
        Verb::CommandGetkeysandflags,
        "7.0.0",
        "Extracts the keys of any command, and what it does to them.",
    ),
    on_server("help", 2, Verb::Help, "5.0.0", "Prints this help."),
    on_server("info", -2, Verb::CommandInfo, "2.8.13", "Returns information about commands."),
    on_server("list", -2, Verb::CommandList, "7.0.0", "Lists the names of commands."),
];

const CONFIG: &[Command] = &[
    on_server("get", -3, Verb::ConfigGet, "2.0.0", "Returns the values of settings.").with(Flags::ADMIN),
    on_server("help", 2, Verb::Help, "5.0.0", "Prints this help."),
    on_server("resetstat", 2, Verb::ConfigResetstat, "2.0.0", "Resets the statistics.").with(Flags::ADMIN),
    on_server("rewrite", 2, Verb::ConfigRewrite, "2.8.0", "Keeps what was set in the file of settings.")
        .with(Flags::ADMIN),
    on_server("set", -4, Verb::ConfigSet, "2.0.0", "Changes settings while the node runs.")
        .with(Flags::ADMIN),
];

const LATENCY: &[Command] = &[
    on_server("doctor", 2, Verb::LatencyDoctor, "2.8.13", "Returns the latency spikes in words.")
        .with(Flags::ADMIN),
    on_server("graph", 3, Verb::LatencyGraph, "2.8.13", "Draws the latency spikes of an event.")
        .with(Flags::ADMIN),
    on_server("help", 2, Verb::Help, "2.8.13", "Prints this help."),
    on_server("histogram", -2, Verb::LatencyHistogram, "7.0.0", "Returns how long calls took, by command.")
        .with(Flags::ADMIN),
    on_server("history", 3, Verb::LatencyHistory, "2.8.13", "Returns the latency spikes of an event.")
        .with(Flags::ADMIN),
    on_server("latest", 2, Verb::LatencyLatest, "2.8.13", "Returns the latest latency spike of each event.")
        .with(Flags::ADMIN),
    on_server("reset", -2, Verb::LatencyReset, "2.8.13", "Forgets latency spikes.").with(Flags::ADMIN),
];

const SLOWLOG: &[Command] = &[
    on_server("get", -2, Verb::SlowlogGet, "2.2.12", "Returns the latest slow calls.").with(Flags::ADMIN),
    on_server("help", 2, Verb::Help, "6.2.0", "Prints this help."),
    on_server("len", 2, Verb::SlowlogLen, "2.2.12", "Returns how many slow calls are kept.")
        .with(Flags::ADMIN),
    on_server("reset", 2, Verb::SlowlogReset, "2.2.12", "Forgets the slow calls.").with(Flags::ADMIN),
];

const QUORIS: &[Command] = &[
    members::ADD_NODE,
    between_nodes(
        "audit",
        3,
        Verb::QuorisAudit,
        "Compares the whole states of a group's replicas, at the node that leads it; the result is JSON.",
    )
    .with(Flags::ADMIN),
    between_nodes(
        "durable",
        4,
        Verb::QuorisDurable,
        "Returns an index of a group (0: the last applied) and the voters that have it on disk.",
    ),
    between_nodes("forwarded", -2, Verb::QuorisForwarded, "Says that another node's clients speak here.")
        .with(Flags::BETWEEN_NODES),
    between_nodes("group", -4, Verb::QuorisGroup, "Runs a command over all keys in one group.")
        .with(Flags::BETWEEN_NODES),
    on_server("help", 2, Verb::Help, "7.4.0", "Prints this help."),
    between_nodes(
        "move",
        -4,
        Verb::QuorisMove,
        "Moves slots of a group that this node leads to another group; returns how many have moved.",
    )
    .with(Flags::ADMIN),
    between_nodes(
        "rebuild",
        3,
        Verb::QuorisRebuild,
        "Replaces the state of this node's replica of a group, which was found to differ, by its leader's.",
    )
    .with(Flags::ADMIN),
    members::REMOVE_NODE,
    on_server(
        "status",
        2,
        Verb::QuorisStatus,
        "7.4.0",
        "Returns this node's view of nodes and groups, as JSON.",
    ),
    between_nodes("transaction", 3, Verb::QuorisTransaction, "Runs a batch of calls, as the log encodes it.")
        .with(Flags::BETWEEN_NODES),
    between_nodes(
        "versions",
        -3,
        Verb::QuorisVersions,
        "Returns the versions of keys, as WATCH remembers them.",
    )
    .with(Flags::BETWEEN_NODES),
];

type Text = &'static str;

const fn on_connection(name: Text, arity: i32, verb: Verb, since: Text, summary: Text) -> Command {
    Command::session(name, arity, verb).doc(Chapter::Connection, since, "O(1)", summary)
}

const fn on_server(name: Text, arity: i32, verb: Verb, since: Text, summary: Text) -> Command {
    Command::session(name, arity, verb).doc(Chapter::Server, since, "O(1)", summary)
}

/// What nodes ask of each other on behalf of their clients. Waits for a group, and so is no part of a transaction.
const fn between_nodes(name: Text, arity: i32, verb: Verb, summary: Text) -> Command {
    on_server(name, arity, verb, "7.4.0", summary).with(Flags::NO_MULTI)
}

const fn in_transactions(name: Text, arity: i32, verb: Verb, since: Text, summary: Text) -> Command {
    Command::session(name, arity, verb).doc(
        Chapter::Transactions,
        since,
        "O(N) with N the calls or keys",
        summary,
    )
}

const fn waiting(name: Text, arity: i32, verb: Verb, since: Text, summary: Text) -> Command {
    Command::session(name, arity, verb).doc(Chapter::Generic, since, "O(1)", summary).with(Flags::BLOCKING)
}

const fn on_cluster(name: Text, arity: i32, verb: Verb, since: Text, summary: Text) -> Command {
    Command::session(name, arity, verb).doc(Chapter::Cluster, since, "O(1)", summary)
}

const fn container(
    name: Text,
    chapter: Chapter,
    since: Text,
    summary: Text,
    subcommands: &'static [Command],
) -> Command {
    Command::container(name, subcommands).doc(chapter, since, "Depends on subcommand.", summary)
}
