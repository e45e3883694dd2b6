//! Every bound of what a client can make this node hold or do, but for those that are settings ([`crate::config`]).

/// Words in one call (Redis: 1024 * 1024).
pub const MAX_ARGS: i64 = 1024 * 1024;

/// An inline command, and the header line of an array or a bulk string (Redis: `PROTO_INLINE_MAX_SIZE`).
pub const INLINE_BYTES: usize = 64 * 1024;

/// Words in a call of a client that has not authenticated.
pub const UNAUTHENTICATED_ARGS: i64 = 10;

/// A bulk string of a client that has not authenticated.
pub const UNAUTHENTICATED_BULK_BYTES: i64 = 16 * 1024;

/// Room made for each read from a connection, at least.
pub const READ_BYTES: usize = 16 * 1024;

/// Room made for each read from a connection, at most.
pub const MAX_READ_BYTES: usize = 1024 * 1024;

/// Once a word of a call has this much of it, room is made at once for so many times as much of what its header claims: what
/// has come would else be copied again and again. Memory that nothing has come for is not used.
pub const LONG_WORD: (usize, usize) = (1024 * 1024, 64);

/// Most bytes read from a connection, or written to it, before others have their turn: while the other end keeps up, the kernel
/// would go on and on.
pub const TRANSFER_BYTES: usize = 256 * 1024;

/// Calls of more bytes are encoded for the log beside the runtime's tasks.
pub const LONG_CALLS_BYTES: usize = 1024 * 1024;

/// A reply of more bytes, or of more elements, is encoded beside the runtime's tasks.
pub const LONG_REPLY_BYTES: usize = 1024 * 1024;
/// See [`LONG_REPLY_BYTES`].
pub const LONG_REPLY_ITEMS: usize = 4096;

/// Calls of one connection that are executed together.
pub const CALLS_PER_TURN: usize = 1024;

/// For how many calls that run together a connection keeps room between turns.
pub const KEPT_CALLS: usize = 32;

/// Bytes of calls of one connection that are executed together; a single larger call is a turn of its own.
pub const BYTES_PER_TURN: usize = 1024 * 1024;

/// Replies that wait for a client to read them; above, no more of its calls are executed until it does.
pub const OUTPUT_BYTES: usize = 32 * 1024 * 1024;

/// Mail of one client, whatever `client-output-buffer-limit` says.
pub const MAIL_BYTES: u64 = 1 << 30;

/// The longest CLIENT PAUSE, in milliseconds (30 days).
pub const PAUSE_MS: u64 = 30 * 86_400_000;

/// Words that SLOWLOG keeps of a call, and bytes of a word (Redis: `SLOWLOG_ENTRY_MAX_ARGC`, `_MAX_STRING`).
pub const SLOWLOG_CLIP: (usize, usize) = (32, 128);

/// Spikes that LATENCY keeps of each event (Redis: `LATENCY_TS_LEN`).
pub const LATENCY_SPIKES: usize = 160;

/// Kinds of errors that INFO errorstats tells apart (Redis: `ERROR_STATS_LIMIT`).
pub const ERROR_KINDS: usize = 128;

/// Room for replies that a connection keeps while there are none, at least and at most (Redis: `PROTO_REPLY_MIN_BYTES`,
/// `PROTO_REPLY_CHUNK_BYTES`).
pub const REPLY_ROOM_BYTES: (usize, usize) = (1024, 16 * 1024);

/// How long a connection's largest reply tells how much that is, in milliseconds (Redis:
/// `REPLY_BUFFER_DEFAULT_PEAK_RESET_TIME`).
pub const REPLY_PEAK_MS: u64 = 5_000;

/// Groups that one connection's turn is busy with at the same time.
pub const GROUPS_AT_ONCE: usize = 32;

/// A connection's name, and what it says of its library.
pub const CLIENT_NAME_BYTES: usize = 4096;

/// How long connections may take to send what they owe when the node stops, in milliseconds, after the last write
/// has its answer.
pub const DRAIN_MS: u64 = 1_000;

/// How long to wait after an accept that failed (out of file descriptors), in milliseconds.
pub const ACCEPT_RETRY_MS: u64 = 50;

/// What `ctl` waits for an answer, in milliseconds.
pub const CTL_TIMEOUT_MS: u64 = 5_000;

/// How long `quoris ctl` waits for what reads a whole state, in milliseconds.
pub const CTL_AUDIT_TIMEOUT_MS: u64 = 900_000;

/// The longest answer that `ctl` takes.
pub const CTL_REPLY_BYTES: usize = 64 * 1024 * 1024;

/// Calls that wait for EXEC.
pub const QUEUED_CALLS: usize = 64 * 1024;

/// Bytes of calls that wait for EXEC; a single larger call may exceed it.
pub const QUEUED_BYTES: usize = 256 * 1024 * 1024;

/// Keys that one connection watches.
pub const WATCHED_KEYS: usize = 64 * 1024;

/// What a connection whose call is blocked may send ahead; its end is noticed up to there.
pub const BLOCKED_INBOX_BYTES: usize = 1024 * 1024;

/// How often a blocked call looks whether the leader it waits at still leads, in milliseconds.
pub const BLOCKED_CHECK_MS: u64 = 100;

/// How often WAIT looks how far the other nodes are, in milliseconds.
pub const WAIT_CHECK_MS: u64 = 5;

/// How long connecting to another node on behalf of a client may take, its greeting included, in milliseconds.
pub const RELAY_CONNECT_MS: u64 = 1_000;

/// Relays to one node that are kept though nobody uses them now.
pub const IDLE_RELAYS: usize = 64;

/// Connections to targets of MIGRATE that are kept though nobody uses them now, for so many milliseconds, and how often that is
/// looked after (Redis: `MIGRATE_SOCKET_CACHE_ITEMS`, `_TTL`).
pub const IDLE_TARGETS: usize = 64;
/// See [`IDLE_TARGETS`].
pub const TARGET_IDLE_MS: u64 = 10_000;
/// See [`IDLE_TARGETS`].
pub const TARGET_CHECK_MS: u64 = 1_000;

/// Bytes that MIGRATE writes to its target within its timeout.
pub const MIGRATE_PIECE_BYTES: usize = 64 * 1024;

/// Keys that MIGRATE has on their way at the same time end with the one that brings them to so many bytes.
pub const MIGRATE_PORTION_BYTES: usize = 64 * 1024 * 1024;

/// How long a forwarded call that came to the wrong node waits before it looks for the leader again, in milliseconds.
pub const FORWARD_RETRY_MS: u64 = 5;

/// What another node may take for its answer beyond what it gives itself, in milliseconds.
pub const FORWARD_SLACK_MS: u64 = 1_000;

/// Instructions of a script that only reads which run where it was asked for: about a millisecond. One that needs more
/// begins again as a long one.
pub const SCRIPT_MOMENT: u64 = 100_000;

/// How long a script waits for a place among the long ones, in milliseconds.
pub const SCRIPT_PLACE_MS: u64 = 5000;

/// Scripts that a node remembers to be short.
pub const SHORT_SCRIPTS: usize = 10_000;

/// The longest DEBUG SLEEP, in milliseconds.
pub const DEBUG_SLEEP_MS: u64 = 60_000;

/// Keys of a group that one entry evicts.
pub const EVICTED_AT_ONCE: usize = 256;

/// Entries of evictions that a call waits for before it is refused.
pub const EVICTION_ROUNDS: usize = 64;

/// Milliseconds from one look at the memory to the next, while nobody calls.
pub const EVICTION_INTERVAL_MS: u64 = 100;

/// Cells for the use of keys: as many at first, and at most (256 MB).
pub const FIRST_ACCESS_CELLS: usize = 1 << 16;
/// See [`FIRST_ACCESS_CELLS`].
pub const ACCESS_CELLS: usize = 1 << 26;

/// How many slots `quoris ctl move` moves at once.
pub const CTL_MOVE_SLOTS: usize = 16;

/// How often in a row it is refused before it gives up.
pub const CTL_MOVE_ATTEMPTS: u32 = 50;

/// How long it waits when it is refused, in milliseconds.
pub const CTL_MOVE_RETRY_MS: u64 = 200;

/// How often `ctl remove-node` looks whether the node is out of all groups, so long apart, before it gives up: a minute.
pub const CTL_REMOVAL_CHECKS: usize = 300;

/// For how long a client that has changed users or members waits until its own node knows of that.
pub const CATCH_UP_MS: u64 = 2000;
