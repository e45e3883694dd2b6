//! One row per setting.

use super::field::Field;
use super::{Config, ConfigError};
use crate::memory;

const KB: u64 = 1 << 10;
const MB: u64 = 1 << 20;
const GB: u64 = 1 << 30;

/// Ten minutes.
const MAX_TIMEOUT_MS: u64 = 600_000;

/// What the sizes of compact forms take.
const SIZES: std::ops::RangeInclusive<u64> = 0..=i64::MAX as u64;

/// A setting.
pub struct Row {
    /// Its flag (with `--`), its TOML key and its name for CONFIG GET and SET.
    pub name: &'static str,
    /// An older name of it, or none.
    pub alias: &'static str,
    /// Its default, as a person would write it; empty if it has none.
    pub default: &'static str,
    /// Whether CONFIG SET changes it while the node runs.
    pub live: bool,
    /// What it means, in a sentence or two.
    pub doc: &'static str,
    /// Where it is.
    field: fn(&mut Config) -> Field<'_>,
}

impl Row {
    const fn once(mut self, alias: &'static str) -> Row {
        self.alias = alias;
        self
    }

    /// Sets it from `text`.
    pub fn set(&self, config: &mut Config, text: &str) -> Result<(), ConfigError> {
        (self.field)(config).parse(text).ok_or_else(|| ConfigError::new(self.name, text, self.takes()))
    }

    /// Its value, as [`Row::set`] takes it.
    pub fn show(&self, config: &Config) -> String {
        // The one accessor is for writing, so that no setting needs a second one.
        (self.field)(&mut config.clone()).show()
    }

    /// What it takes.
    pub fn takes(&self) -> String {
        (self.field)(&mut Config::blank()).takes()
    }

    /// Whether it takes a percentage.
    pub fn is_percentage(&self) -> bool {
        matches!((self.field)(&mut Config::blank()), Field::ClientsLimit(_))
    }

    /// Whether it takes a number without a unit.
    pub fn is_number(&self) -> bool {
        matches!((self.field)(&mut Config::blank()), Field::Number(..) | Field::Signed(_))
    }
}

/// The row named `name`, or once named so.
pub fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name || (!row.alias.is_empty() && row.alias == name))
}

const fn fixed(
    name: &'static str,
    default: &'static str,
    doc: &'static str,
    field: fn(&mut Config) -> Field<'_>,
) -> Row {
    Row { name, alias: "", default, live: false, doc, field }
}

const fn live(
    name: &'static str,
    default: &'static str,
    doc: &'static str,
    field: fn(&mut Config) -> Field<'_>,
) -> Row {
    Row { name, alias: "", default, live: true, doc, field }
}

/// Every setting.
pub const ROWS: &[Row] = &[
    fixed("node-id", "", "This node's number in `initial-cluster`.", |c| {
        Field::Number(&mut c.node_id, 1..=u64::MAX)
    }),
    fixed(
        "initial-cluster",
        "",
        "Every node, this one included: its number, the address clients are sent to, and the address the other \
         nodes reach it at. The same on all nodes.",
        |c| Field::Members(&mut c.initial_cluster),
    ),
    fixed("cluster-id", "quoris", "The cluster's name. Nodes of another cluster are refused.", |c| {
        Field::Text(&mut c.cluster_id)
    }),
    fixed(
        "listen",
        "",
        "Where clients connect. By default this node's client address in `initial-cluster`.",
        |c| Field::Address(&mut c.listen),
    ),
    fixed(
        "peer-listen",
        "",
        "Where the other nodes connect. By default this node's peer address in `initial-cluster`.",
        |c| Field::Address(&mut c.peer_listen),
    ),
    fixed(
        "metrics-listen",
        "",
        "Where Prometheus finds this node's figures, under `/metrics` over HTTP. By default nowhere. Whoever can connect \
         can read them.",
        |c| Field::AddressOrNone(&mut c.metrics_listen),
    ),
    fixed("data-dir", "data", "Where everything durable is kept. One node per directory.", |c| {
        Field::Path(&mut c.data_dir)
    }),
    fixed(
        "groups",
        "3",
        "How many Raft groups the slots are spread over when the cluster is founded. Later values are ignored.",
        |c| Field::Number(&mut c.groups, 1..=1024),
    ),
    fixed(
        "read-mode",
        "read-index",
        "How reads are made safe. `read-index`: linearizable. `lease`: linearizable while clocks drift little and no \
         machine is paused. `local`: connections that said READONLY read what this replica has, which may be stale.",
        |c| Field::ReadMode(&mut c.read_mode),
    ),
    fixed(
        "thrifty",
        "yes",
        "Whether a leader asks no more followers at once than make a quorum with it, the quickest ones. The others are sent \
         what is written up to 5 ms later, or as soon as one of those is late. With `no` all are, at once: each write then \
         waits for the quickest that there is at that moment, and costs more processor time and more fsyncs.",
        |c| Field::YesNo(&mut c.thrifty),
    ),
    live(
        "forward",
        "auto",
        "What becomes of calls for slots that another node leads. `auto`: on a connection that has sent neither a \
         CLUSTER command nor READONLY they are forwarded there; others are answered `-MOVED`. `all`: there, DBSIZE, \
         KEYS, SCAN and RANDOMKEY also cover the whole cluster, which they must not where cluster clients add up the \
         nodes' answers. `never`: all are answered `-MOVED`.",
        |c| Field::Forward(&mut c.forward),
    ),
    fixed(
        "threads",
        "0",
        "Threads that serve clients and groups; 0 for one per processor. Nodes that share a machine do more with fewer: \
         the processors divided by the nodes. The log has a thread of its own.",
        |c| Field::Number(&mut c.threads, 0..=1024),
    ),
    fixed("log-level", "info", "How much is told on standard error.", |c| Field::LogLevel(&mut c.log_level)),
    fixed(
        "enable-debug-command",
        "no",
        "Who may use DEBUG: nobody, clients on this machine (`local`), or everybody (`yes`).",
        |c| Field::OneOf(&mut c.enable_debug_command, &["no", "local", "yes"]),
    ),
    live(
        "requirepass",
        "",
        "A password of the user `default` on this node, besides those that it has everywhere; without it, and without one of \
         those, clients need none. Empty for none.",
        |c| Field::Text(&mut c.requirepass),
    ),
    live(
        "acl-pubsub-default",
        "resetchannels",
        "Which channels a user may use who is made on this node, or reset: none (`resetchannels`) or all (`allchannels`).",
        |c| Field::OneOf(&mut c.acl_pubsub_default, &["resetchannels", "allchannels"]),
    ),
    live("acllog-max-len", "128", "Refused calls that ACL LOG keeps.", |c| {
        Field::Number(&mut c.acllog_max_len, 0..=1_000_000)
    }),
    live("maxclients", "10000", "Connections of clients at the same time.", |c| {
        Field::Number(&mut c.maxclients, 1..=1_000_000)
    }),
    live("timeout", "0", "A client that is idle for so many seconds is disconnected; 0 for never.", |c| {
        Field::Number(&mut c.timeout_s, 0..=31_536_000)
    }),
    live("proto-max-bulk-len", "512mb", "The longest word that a client may send.", |c| {
        Field::Bytes(&mut c.proto_max_bulk_len, MB..=512 * MB)
    }),
    live("client-query-buffer-limit", "1gb", "The largest call that a client may send.", |c| {
        Field::Bytes(&mut c.client_query_buffer_limit, MB..=2 * GB)
    }),
    fixed("heartbeat-interval-ms", "50", "A leader tells its followers that it lives this often.", |c| {
        Field::Number(&mut c.heartbeat_interval_ms, 1..=MAX_TIMEOUT_MS)
    }),
    fixed(
        "election-timeout-ms",
        "300",
        "A follower that hears nothing for this long, up to twice as long, stands for election. At least three times \
         `heartbeat-interval-ms`.",
        |c| Field::Number(&mut c.election_timeout_ms, 3..=MAX_TIMEOUT_MS),
    ),
    fixed(
        "leader-wait-ms",
        "600",
        "While a group has no leader, calls for its keys wait for the next one, until it has been missed for this long; \
         then they are answered `-CLUSTERDOWN` at once. 0: they never wait. Twice `election-timeout-ms` lets clients \
         sleep through most elections.",
        |c| Field::Number(&mut c.leader_wait_ms, 0..=MAX_TIMEOUT_MS),
    ),
    fixed(
        "write-timeout-ms",
        "5000",
        "A write that is in the log and has not been applied after this long is answered `-UNKNOWN`.",
        |c| Field::Number(&mut c.write_timeout_ms, 1..=MAX_TIMEOUT_MS),
    ),
    fixed("log-segment-bytes", "64mb", "One file of the log.", |c| {
        Field::Bytes(&mut c.log_segment_bytes, 64 * KB..=4 * GB)
    }),
    fixed(
        "log-max-bytes",
        "1gb",
        "All of the log. From half of it on, the groups that hold most of it are snapshotted. While it is full, writes \
         are answered `-TRYAGAIN`. At least four times `log-segment-bytes`.",
        |c| Field::Bytes(&mut c.log_max_bytes, 256 * KB..=1024 * GB),
    ),
    fixed("log-cache-bytes", "64mb", "Recent entries that are kept in memory for followers.", |c| {
        Field::Bytes(&mut c.log_cache_bytes, 64 * KB..=64 * GB)
    }),
    fixed("snapshot-entries", "100000", "A group is snapshotted after this many entries.", |c| {
        Field::Number(&mut c.snapshot_entries, 1..=u64::MAX)
    }),
    fixed(
        "entries-behind-snapshot",
        "10000",
        "Entries that are kept behind a snapshot, so that a follower that is a little late needs none.",
        |c| Field::Number(&mut c.entries_behind_snapshot, 0..=u64::MAX),
    ),
    fixed(
        "move-piece-bytes",
        "64kb",
        "A slot that moves to another group goes in pieces of about this size. Larger ones hold up other calls longer.",
        |c| Field::Bytes(&mut c.move_piece_bytes, 1..=16 * MB),
    ),
    live(
        "client-output-buffer-limit",
        "normal 0 0 0 slave 256mb 64mb 60 pubsub 32mb 8mb 60",
        "A client that has more unread messages than the first size of `pubsub`, or more than the second for so many \
         seconds, is disconnected. Replies to its own calls wait instead, and the other classes change nothing.",
        |c| Field::OutputLimits(&mut c.output_limits),
    ),
    live(
        "notify-keyspace-events",
        "",
        "Which keyspace notifications are sent: Redis's letters. `m` and `d` are accepted; quoris has no such events.",
        |c| Field::NotifyOn(&mut c.notify_keyspace_events),
    ),
    live(
        "keyspace-events-from",
        "all",
        "Whose keys this node notifies its subscribers of: `all`, so that one node is enough to listen at; or those of the \
         groups it has `led` when they changed, so that a client that listens at every node, as in Redis Cluster, hears of \
         each once.",
        |c| Field::EventsFrom(&mut c.keyspace_events_from),
    ),
    live(
        "maxmemory",
        "0",
        "What this node's keys may take, counted from their content alone (`used_memory` in INFO); 0 for no limit. Beyond \
         it a node evicts from the groups that it leads, or refuses what may need more. Every node holds every group: \
         set it alike on all.",
        |c| Field::Bytes(&mut c.maxmemory, 0..=i64::MAX as u64),
    ),
    live(
        "maxmemory-clients",
        "0",
        "What clients may hold on this node together: their buffers, what they have queued, what they watch and listen to. When \
         they do, those that hold most are disconnected; who said CLIENT NO-EVICT neither counts nor goes. Bytes, or a percentage \
         of `maxmemory`; 0 for no limit, and less than 128kb counts as 128kb.",
        |c| Field::ClientsLimit(&mut c.maxmemory_clients),
    ),
    live(
        "maxmemory-policy",
        "noeviction",
        "Which keys are evicted: of all or of those that expire, the least recently or least often used as far as their \
         leader knows, any, or those that expire first.",
        |c| Field::OneOf(&mut c.maxmemory_policy, &memory::POLICIES),
    ),
    live("maxmemory-samples", "5", "Keys that each evicted one is chosen from.", |c| {
        Field::Number(&mut c.maxmemory_samples, 1..=64)
    }),
    live(
        "min-replicas-to-write",
        "0",
        "A leader refuses writes (`-NOREPLICAS`) while fewer of its followers than this are connected and have answered it \
         within `min-replicas-max-lag`; 0 for never. A majority has every acknowledged write on disk in any case. More than \
         a majority's followers means that writes end when a node does.",
        |c| Field::Number(&mut c.min_replicas_to_write, 0..=i32::MAX as u64),
    )
    .once("min-slaves-to-write"),
    live(
        "min-replicas-max-lag",
        "10",
        "For how many seconds a follower that is silent counts as there for `min-replicas-to-write`; 0 turns that off.",
        |c| Field::Number(&mut c.min_replicas_max_lag_s, 0..=i32::MAX as u64),
    )
    .once("min-slaves-max-lag"),
    live("evict-consumer-groups", "no", "Whether streams that have consumer groups are evicted, too.", |c| {
        Field::YesNo(&mut c.evict_consumer_groups)
    }),
    live(
        "script-instructions",
        "50000000",
        "Instructions of Lua that a script which may write is allowed; then it is ended and undone, on every replica. Its \
         group does nothing else meanwhile: 50 million take about half a second. The leader's setting counts, and travels \
         in the log.",
        |c| Field::Number(&mut c.script_instructions, 100_000..=1_000_000_000_000),
    ),
    live(
        "script-memory",
        "256mb",
        "Memory that a script is allowed; then it is ended and undone. The leader's setting counts, and travels in the log.",
        |c| Field::Bytes(&mut c.script_memory, MB..=4 * GB),
    ),
    live(
        "script-read-limit-ms",
        "60000",
        "A script that only reads (EVAL_RO and its like, or one that declares `no-writes`) is ended after so long; so is the \
         rehearsal of one that may write. It runs on one node and holds up nobody; SCRIPT KILL and FUNCTION KILL end it \
         earlier.",
        |c| Field::Number(&mut c.script_read_limit_ms, 1..=MAX_TIMEOUT_MS),
    ),
    live(
        "busy-reply-threshold",
        "0",
        "As in Redis, other calls are answered `-BUSY` while a script that this node runs has taken longer than so many \
         milliseconds, until it ends or is killed. Nothing here needs that, for such a script holds up nobody: 0, the \
         default, means never. A script in the log does not count.",
        |c| Field::Number(&mut c.busy_reply_threshold_ms, 0..=MAX_TIMEOUT_MS),
    )
    .once("lua-time-limit"),
    live(
        "hash-max-listpack-entries",
        "512",
        "The most fields of a hash in its compact form. This and the next six are those of the leader of a key's group: set \
         them alike on all nodes. Compact forms are searched from their beginning; none is larger than 65,535 elements.",
        |c| Field::Number(&mut c.bounds.hash_fields, SIZES),
    )
    .once("hash-max-ziplist-entries"),
    live(
        "hash-max-listpack-value",
        "64",
        "The longest field or value of a hash in its compact form.",
        |c| Field::Bytes(&mut c.bounds.hash_bytes, SIZES),
    )
    .once("hash-max-ziplist-value"),
    live("set-max-intset-entries", "512", "The most members of a set in its form for whole numbers.", |c| {
        Field::Number(&mut c.bounds.set_integers, SIZES)
    }),
    live(
        "stream-node-max-bytes",
        "4096",
        "What the bytes of a stream's node stay below, unless one entry takes more; 0 for no bound.",
        |c| Field::Bytes(&mut c.bounds.node_bytes, SIZES),
    ),
    live(
        "stream-node-max-entries",
        "100",
        "The most entries of a stream's node, which is what an approximate trim removes; 0 for no bound.",
        |c| Field::Number(&mut c.bounds.node_entries, SIZES),
    ),
    live(
        "zset-max-listpack-entries",
        "128",
        "The most members of a sorted set in its compact form.",
        |c| Field::Number(&mut c.bounds.zset_members, SIZES),
    )
    .once("zset-max-ziplist-entries"),
    live(
        "zset-max-listpack-value",
        "64",
        "The longest member of a sorted set in its compact form; more than 255 counts as 255.",
        |c| Field::Bytes(&mut c.bounds.zset_bytes, SIZES),
    )
    .once("zset-max-ziplist-value"),
    live(
        "tracking-table-max-keys",
        "1000000",
        "Keys that tracking clients are remembered to have read; beyond it some are invalidated early. 0 for no bound.",
        |c| Field::Number(&mut c.tracking_table_max_keys, 0..=u64::MAX),
    ),
    live(
        "slowlog-log-slower-than",
        "10000",
        "Calls that keep their client waiting for more microseconds are in SLOWLOG, the majority's fsync included; 0 for \
         all, -1 for none.",
        |c| Field::Signed(&mut c.slowlog_log_slower_than_us),
    ),
    live("slowlog-max-len", "128", "Calls that SLOWLOG keeps.", |c| {
        Field::Number(&mut c.slowlog_max_len, 0..=1_000_000)
    }),
    live(
        "latency-monitor-threshold",
        "0",
        "Calls that take at least so many milliseconds are noted for LATENCY; 0 for none.",
        |c| Field::Number(&mut c.latency_monitor_threshold_ms, 0..=MAX_TIMEOUT_MS),
    ),
    live("latency-tracking", "yes", "Whether the times of calls are counted, for each command.", |c| {
        Field::YesNo(&mut c.latency_tracking)
    }),
    live(
        "latency-tracking-info-percentiles",
        "50 99 99.9",
        "The percentiles of these times that INFO latencystats shows.",
        |c| Field::Percentiles(&mut c.latency_percentiles),
    ),
];
