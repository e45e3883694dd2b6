//! Every limit of this crate that is not a setting, in one place.

use std::time::Duration;

use crate::planted;

/// Most calls combined into one log entry.
pub const CALLS_PER_ENTRY: usize = 16 * 1024;

/// A log entry is closed once its calls have this many bytes; a single call may exceed it.
pub const BYTES_PER_ENTRY: usize = 4 << 20;

/// A write of more bytes goes in parts of so many, each in an entry of its own or beside others: what the rest of the group, and of
/// the node's disk, waits for is a part. In the simulator's build they are small, so that there are some.
pub const LONG_WRITE_BYTES: usize = if planted::POSSIBLE { 256 } else { 1 << 20 };
/// See [`LONG_WRITE_BYTES`].
pub const PART_BYTES: usize = if planted::POSSIBLE { 64 } else { 128 << 10 };

/// Parts of a write under way at once: the next one is there when one is applied.
pub const PARTS_IN_FLIGHT: usize = 2;

/// Entries of a group in flight at once. A second one keeps the disk busy while the first is on its way; more would
/// only make entries, and so fsyncs, smaller.
pub const ENTRIES_IN_FLIGHT: usize = 2;

/// Most turns of the runtime that an entry waits for company before it is closed, while it could be proposed. In each, all tasks
/// that are ready run and the sockets are polled: what clients have sent by then travels with it. The first turn that brings
/// nobody is the last, so a lone client's entry waits for one poll that finds nothing, a microsecond or less.
pub const TURNS_PER_ENTRY: usize = 12;

/// The same for a confirmation of leadership, and the reads that share it.
pub const TURNS_PER_CONFIRMATION: usize = 1;

/// How long a quorum may take to say that it knows of no newer leader, before openraft is asked, which takes its own time.
pub const CONFIRMATION_TIMEOUT: Duration = Duration::from_millis(100);

/// Writes of one group that may wait to be proposed; more are refused.
pub const WAITING_WRITES: usize = 64 * 1024;

/// Requests that may wait for one peer's stream.
pub const WAITING_FRAMES: usize = 4096;

/// Appends of a group that may be on their way to a follower at once. Each has at most a few megabytes.
pub const APPENDS_IN_FLIGHT: usize = 8;

/// How long the news that entries are committed may wait for the next entries to travel with. Not shorter: a timer that is
/// the runtime's next one to fire costs a system call when it is set.
pub const COMMIT_NEWS_DELAY: Duration = Duration::from_millis(10);

/// For how long at most a follower that no quorum needs is left without new entries, which then come together. Longer in the
/// simulator, where messages and disks are slower.
pub const THRIFTY_HOLD: Duration = Duration::from_millis(if planted::POSSIBLE { 50 } else { 5 });
/// Who has not answered an append after so long is not waited for: the others are asked, too. Likewise.
pub const THRIFTY_LATE: Duration = Duration::from_millis(if planted::POSSIBLE { 40 } else { 2 });
/// How often who is left without looks whether that still holds.
pub const THRIFTY_CHECK: Duration = Duration::from_millis(1);
/// How long the question whether there is a newer leader waits for those asked first, before all are.
pub const THRIFTY_QUESTION: Duration = Duration::from_millis(if planted::POSSIBLE { 30 } else { 1 });
/// Who is behind another follower by so many entries is not among those asked first.
pub const THRIFTY_LAG: u64 = 64;
/// Entries that have so many bytes, as a rule, go to all at once: it is their bytes that cost then, and not their number.
pub const THRIFTY_BYTES: usize = 8 << 10;

/// What takes a copy of so many bytes is done beside the runtime's tasks: a megabyte takes half a millisecond, or so.
pub const BESIDE_BYTES: usize = 1 << 20;

/// Entries sent to a peer at once that have more bytes go in pieces of so many, between which others' frames find their
/// place. In the simulator's build they are small, so that there are some.
pub const PIECE_BYTES: usize = if planted::POSSIBLE { 512 } else { 256 << 10 };

/// Most frames sent as one message.
pub const FRAMES_PER_PACKET: usize = 64;

/// Bytes of notices that may wait for one peer's stream; more are lost.
pub const WAITING_NOTICE_BYTES: usize = 64 << 20;

/// A frame of notices is closed once it has this many bytes; a single one may exceed it.
pub const NOTICE_BYTES_PER_FRAME: usize = 1 << 20;

/// Largest message a peer may send.
pub const PACKET_BYTES: usize = 600 << 20;

/// Bytes of a snapshot's file written at once: what the log writes meanwhile waits for them at the device.
pub const SNAPSHOT_WRITE_BYTES: usize = 256 << 10;

/// After so many bytes of a snapshot the disk is left alone for a moment.
pub const SNAPSHOT_TURN_BYTES: usize = 1 << 20;
/// That moment: from a disk that writes 100 MB/s a third is left for others, and a faster one takes 200 MB/s of it.
pub const SNAPSHOT_REST: Duration = Duration::from_millis(5);

/// A piece of the work for a snapshot that took so long has found no processor that nobody else wanted, or hardly one.
pub const SNAPSHOT_STARVED: Duration = Duration::from_millis(100);
/// So many pieces after it give way to nobody.
pub const SNAPSHOT_JOBS_PRESSED: u32 = 32;

/// Bytes of a file that is no longer needed given back at once: the file system's journal, and so the log, waits for that.
pub const FREED_BYTES: u64 = 16 << 20;

/// Bytes of a snapshot's file sent as one message.
pub const SNAPSHOT_PART_BYTES: usize = 256 << 10;

/// How long a peer may take to say whether it wants a snapshot.
pub const OFFER_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a snapshot that is not wanted after all that are read to their end before its stream is cut off.
pub const UNWANTED_SNAPSHOT_BYTES: usize = 64 << 20;

/// How long to wait before connecting to a peer again, at first and at most.
pub const RECONNECT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// After so many ticks without a word a node that knows of no other founds its cluster: by then who knows it would have connected.
pub const TICKS_ALONE: u64 = 7;

/// How long connecting to a peer may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(1000);

/// How often a silent link is probed, and how long it may stay silent then.
pub const KEEPALIVE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(1500));

/// How often a leader looks for keys that have come due.
pub const TICK_INTERVAL: Duration = Duration::from_millis(100);

/// How often those who wait for a group's next leader look whether there is one.
pub const VACANCY_CHECK: Duration = Duration::from_millis(5);

/// How often a node looks whether its log has grown too large, and, once it has, whether a snapshot lets it be purged.
pub const LOG_CHECK_INTERVALS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(20));

/// How often those who wait for a snapshot look whether it is done.
pub const SNAPSHOT_CHECK: Duration = Duration::from_millis(5);

/// How long a replica may take to digest its whole state.
pub const AUDIT_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a leader may take to have applied what a replica that is rebuilt has.
pub const REBUILD_WAIT: Duration = Duration::from_secs(10);

/// For how long, in ticks, a group must have had no leader before a replica that is distrusted gives its vote.
pub const TICKS_TO_LAST_RESORT: u32 = 50;

/// How often, in ticks, a leader publishes what its replica looks like, if anything has been written.
pub const TICKS_PER_CHECK: u32 = 10;

/// How often a node looks at the members when it has heard nothing new of them.
pub const MEMBERS_CHECK: Duration = Duration::from_millis(500);

/// How often those who bring slots from group to group look whether there is anything to do that no change has told of.
pub const MOVE_CHECK: Duration = Duration::from_millis(100);

/// How long what is written of slots that move may take: as long as the longest value takes a slow disk. Each of its parts has the
/// write timeout.
pub const MOVE_TIMEOUT: Duration = Duration::from_secs(600);

/// About how many bytes of slots that move are written at once.
pub const MOVE_BYTES: usize = 1 << 20;
