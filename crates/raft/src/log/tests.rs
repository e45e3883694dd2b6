//! The log against a model, over a disk that crashes.
//!
//! The model is the list of accepted operations. A crash may lose the tail of that list, but never an operation
//! whose callback said `Ok`, and nothing from the middle: what is recovered must equal the model after some
//! prefix that covers everything acknowledged.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::env::fake_disk::{FakeDisk, FakeDiskOptions};

const DIR: &str = "/node/log";
const GROUPS: u32 = 3;

struct SeededRng(AtomicU64);

impl Rng for SeededRng {
    fn next_u64(&self) -> u64 {
        let n = self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (n ^ (n >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb) ^ (n >> 29)
    }
}

fn small() -> LogOptions {
    LogOptions { segment_bytes: 4096, cache_bytes: 300, max_spares: 2, ..LogOptions::default() }
}

fn open_with(disk: &FakeDisk, seed: u64, options: LogOptions) -> Result<SharedLog, LogError> {
    SharedLog::open(disk.mount(), Arc::new(SeededRng(AtomicU64::new(seed))), Path::new(DIR), options)
}

fn open(disk: &FakeDisk, seed: u64) -> Result<SharedLog, LogError> {
    open_with(disk, seed, small())
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(test)
}

fn bytes(text: impl Into<String>) -> Bytes {
    Bytes::from(text.into().into_bytes())
}

fn content(text: impl Into<String>) -> Payload {
    bytes(text).into()
}

/// What one group's log should hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    vote: Option<Bytes>,
    purged: Option<(u64, Bytes)>,
    entries: BTreeMap<u64, Bytes>,
}

#[derive(Debug, Clone)]
enum Change {
    Append(Vec<LogEntry>),
    TruncateAfter(Option<u64>),
    Purge(u64, Bytes),
    Reset(u64, Bytes),
    Vote(Bytes),
}

impl Model {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Append(entries) => {
                self.entries.extend(entries.iter().map(|e| (e.index, e.payload.body.clone())));
            }
            Change::TruncateAfter(Some(index)) => self.entries.retain(|i, _| i <= index),
            Change::TruncateAfter(None) => self.entries.clear(),
            Change::Purge(upto, meta) => {
                self.entries.retain(|i, _| i > upto);
                self.purged = Some((*upto, meta.clone()));
            }
            Change::Reset(upto, meta) => {
                self.entries.clear();
                self.purged = Some((*upto, meta.clone()));
            }
            Change::Vote(vote) => self.vote = Some(vote.clone()),
        }
    }

    fn last(&self) -> u64 {
        let purged = self.purged.as_ref().map_or(0, |(index, _)| *index);
        self.entries.last_key_value().map_or(purged, |(index, _)| *index)
    }

    async fn of(log: &GroupLog) -> Model {
        let state = log.state().await.expect("a readable log");
        let entries = log.read(0..u64::MAX).await.expect("a readable log");
        Model {
            vote: log.vote(),
            purged: state.purged,
            entries: entries.into_iter().map(|e| (e.index, e.payload.body)).collect(),
        }
    }
}

/// Operations given to a log, and which of them were acknowledged.
#[derive(Default)]
struct History {
    base: BTreeMap<u32, Model>,
    now: BTreeMap<u32, Model>,
    issued: Vec<(u32, Change, Arc<AtomicBool>)>,
    unique: u64,
}

impl History {
    /// Chooses an operation that fits the state.
    fn choose(&mut self, rng: &SeededRng) -> (u32, Change) {
        let group = (rng.next_u64() % u64::from(GROUPS)) as u32;
        let model = self.now.entry(group).or_default();
        self.unique += 1;
        let (unique, last) = (self.unique, model.last());
        let first = model.entries.first_key_value().map_or(last, |(index, _)| *index);
        let between = first + rng.next_u64() % (last - first + 1);
        let change = match rng.next_u64() % 16 {
            0..9 => {
                let count = 1 + rng.next_u64() % 4;
                let pad = "x".repeat((rng.next_u64() % 400) as usize);
                let entry = |i| LogEntry {
                    index: last + 1 + i,
                    payload: content(format!("{group}.{unique}.{i}.{pad}")),
                };
                Change::Append((0..count).map(entry).collect())
            }
            9..11 if !model.entries.is_empty() => Change::TruncateAfter(Some(between)),
            11..13 if !model.entries.is_empty() => Change::Purge(between, bytes(format!("purged {unique}"))),
            13 if rng.next_u64().is_multiple_of(4) => {
                Change::Reset(last + 3, bytes(format!("reset {unique}")))
            }
            14 if rng.next_u64().is_multiple_of(8) => Change::TruncateAfter(None),
            _ => Change::Vote(bytes(format!("vote {unique}"))),
        };
        (group, change)
    }

    fn issue(&mut self, log: &SharedLog, group: u32, change: Change) -> Arc<AtomicBool> {
        let acknowledged = Arc::new(AtomicBool::new(false));
        let tell = acknowledged.clone();
        let log = log.group(group);
        let kind = |kind, index, bytes: Bytes| vec![Record { group, kind, index, payload: bytes.into() }];
        let records = match change.clone() {
            Change::Append(entries) => {
                let record =
                    |e: LogEntry| Record { group, kind: Kind::Entry, index: e.index, payload: e.payload };
                entries.into_iter().map(record).collect()
            }
            Change::TruncateAfter(Some(index)) => kind(Kind::TruncateAfter, index, Bytes::new()),
            Change::TruncateAfter(None) => kind(Kind::Clear, 0, Bytes::new()),
            Change::Purge(index, meta) => kind(Kind::Purge, index, meta),
            Change::Reset(index, meta) => kind(Kind::Reset, index, meta),
            Change::Vote(vote) => kind(Kind::Vote, 0, vote),
        };
        let done: Done = Box::new(move |result| tell.store(result.is_ok(), Ordering::Relaxed));
        log.handle.shared.enqueue(Op { group, records, done });
        self.now.entry(group).or_default().apply(&change);
        self.issued.push((group, change, acknowledged.clone()));
        acknowledged
    }

    /// Checks a recovered log and takes it as the new beginning.
    async fn check(&mut self, log: &SharedLog) -> Result<(), String> {
        let mut found = BTreeMap::new();
        for group in 0..GROUPS {
            found.insert(group, Model::of(&log.group(group)).await);
        }
        let must = self.issued.iter().rposition(|(_, _, ok)| ok.load(Ordering::Relaxed)).map_or(0, |i| i + 1);
        let mut model: BTreeMap<_, _> =
            (0..GROUPS).map(|g| (g, self.base.get(&g).cloned().unwrap_or_default())).collect();
        let mut matches = must == 0 && model == found;
        for (i, (group, change, _)) in self.issued.iter().enumerate() {
            model.get_mut(group).expect("a known group").apply(change);
            matches |= i + 1 >= must && model == found;
        }
        if !matches {
            return Err(format!(
                "{must} acknowledged of {:#?} on {:?}; found {found:?}",
                self.issued, self.base
            ));
        }
        (self.base, self.now) = (found.clone(), found);
        self.issued.clear();
        Ok(())
    }
}

/// Lets the writer go on for a few steps.
async fn let_run(steps: u64) {
    for _ in 0..steps {
        tokio::task::yield_now().await;
    }
}

/// One life: random operations until the power fails or `count` is reached; waits now and then.
async fn live(log: &SharedLog, history: &mut History, rng: &SeededRng, count: u64) {
    for _ in 0..count {
        if log.failed().is_some() {
            return;
        }
        let (group, change) = history.choose(rng);
        history.issue(log, group, change);
        let_run(rng.next_u64() % 5).await;
    }
}

/// Several lives of a log, each ended by a power cut at a random operation.
fn random_lives(seed: u64) -> Result<(), String> {
    run(async {
        let rng = SeededRng(AtomicU64::new(seed << 20));
        let disk = FakeDisk::new(seed, FakeDiskOptions::default());
        let mut history = History::default();
        for life in 0..6 {
            if life > 0 && rng.next_u64().is_multiple_of(3) {
                // A power cut while recovering.
                disk.fail_power_after(rng.next_u64() % 6);
                drop(open(&disk, rng.next_u64()));
                disk.crash();
            }
            let log = open(&disk, rng.next_u64()).map_err(|e| format!("life {life}: {e}"))?;
            history.check(&log).await.map_err(|e| format!("life {life}: {e}"))?;
            if rng.next_u64().is_multiple_of(4) {
                disk.fail_once_after(rng.next_u64() % 60);
            }
            disk.fail_power_after(rng.next_u64() % 120);
            live(&log, &mut history, &rng, 80).await;
            if rng.next_u64().is_multiple_of(4) {
                // The power fails while it closes, too.
                drop(log);
                let_run(rng.next_u64() % 4).await;
            }
            if rng.next_u64().is_multiple_of(2) {
                // What a new process has seen must be durable, whoever wrote it.
                disk.kill();
                let log = open(&disk, rng.next_u64()).map_err(|e| format!("life {life}, killed: {e}"))?;
                history.check(&log).await.map_err(|e| format!("life {life}, killed: {e}"))?;
            }
            disk.crash();
        }
        Ok(())
    })
}

#[test]
fn random_operations_and_power_cuts_lose_nothing_acknowledged() {
    let seeds = std::env::var("QUORIS_LOG_SEEDS").map_or(2000, |n| n.parse().expect("a number"));
    for seed in 1..=seeds {
        random_lives(seed).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
}

/// A workload that rotates, recycles and purges; returns how many operations the disk saw.
async fn workload(disk: &FakeDisk, history: &mut History) -> Result<(), String> {
    let Ok(log) = open(disk, 7) else { return Ok(()) };
    for round in 0..40u64 {
        let group = (round % 2) as u32;
        let last = history.now.entry(group).or_default().last();
        let entry =
            |i| LogEntry { index: last + i, payload: content(format!("{round} {i} {}", "y".repeat(300))) };
        history.issue(&log, group, Change::Append((1..=3).map(entry).collect()));
        if round % 5 == 0 {
            history.issue(&log, 2, Change::Vote(bytes(format!("vote {round}"))));
        }
        if round % 7 == 6 {
            history.issue(&log, group, Change::TruncateAfter(Some(last + 1)));
        }
        if round % 6 == 5 {
            for group in 0..2 {
                let last = history.now[&group].last();
                history.issue(&log, group, Change::Purge(last - 1, bytes(format!("purged {round}"))));
            }
        }
        let_run(4).await;
        if log.failed().is_some() {
            return Ok(());
        }
    }
    log.close().await.map_err(|e| e.to_string())
}

#[test]
fn a_power_cut_at_any_disk_operation_loses_nothing_acknowledged() {
    let whole = FakeDisk::new(1, FakeDiskOptions::default());
    run(async {
        let mut history = History::default();
        workload(&whole, &mut history).await.expect("a healthy disk");
    });
    let ops = whole.ops();
    assert!(ops > 150, "the workload has {ops} operations");
    for at in 0..ops {
        for seed in 0..6 {
            let disk = FakeDisk::new(at << 8 | seed, FakeDiskOptions::default());
            disk.fail_power_after(at);
            run(async {
                let mut history = History::default();
                drop(workload(&disk, &mut history).await);
                disk.crash();
                let log = open(&disk, 9).unwrap_or_else(|e| panic!("operation {at}, seed {seed}: {e}"));
                history.check(&log).await.unwrap_or_else(|e| panic!("operation {at}, seed {seed}: {e}"));
                // It must also go on working.
                workload(&disk, &mut history).await.unwrap_or_else(|e| panic!("operation {at}: {e}"));
            });
        }
    }
}

#[test]
fn what_a_new_process_builds_on_survives_a_power_cut() {
    for at in 0..200 {
        for seed in 0..8 {
            let disk = FakeDisk::new(at << 8 | seed, FakeDiskOptions::default());
            let case = format!("failure of operation {at}, seed {seed}");
            disk.fail_once_after(at);
            run(async {
                let mut history = History::default();
                drop(workload(&disk, &mut history).await);
                disk.kill();
                let log = open(&disk, 9).unwrap_or_else(|e| panic!("{case}: {e}"));
                history.check(&log).await.unwrap_or_else(|e| panic!("{case}: {e}"));
                let last = history.now[&0].last();
                let entry = LogEntry { index: last + 1, payload: content("after the restart") };
                history.issue(&log, 0, Change::Append(vec![entry]));
                let_run(6).await;
                disk.crash();
                let log = open(&disk, 10).unwrap_or_else(|e| panic!("{case}: {e}"));
                history.check(&log).await.unwrap_or_else(|e| panic!("{case}: {e}"));
            });
        }
    }
}

#[test]
fn a_power_cut_while_closing_is_no_damage() {
    for at in 0..6 {
        for seed in 0..40 {
            let disk = FakeDisk::new(at << 8 | seed, FakeDiskOptions::default());
            run(async {
                let mut history = acknowledged(&disk, 1, true).await;
                let log = open(&disk, 4).expect("a log");
                let vote = Change::Vote(bytes("v".repeat(1500)));
                history.issue(&log, 0, vote);
                disk.fail_power_after(at);
                drop(log);
                let_run(9).await;
                disk.crash();
                let log = open(&disk, 5).unwrap_or_else(|e| panic!("operation {at}, seed {seed}: {e}"));
                history.check(&log).await.unwrap_or_else(|e| panic!("operation {at}, seed {seed}: {e}"));
            });
        }
    }
}

/// A log of `rounds` batches, closed or not.
async fn acknowledged(disk: &FakeDisk, rounds: u64, close: bool) -> History {
    let mut history = History::default();
    let log = open(disk, 3).expect("a log");
    for round in 0..rounds {
        let last = history.now.entry(0).or_default().last();
        let entry = LogEntry { index: last + 1, payload: content(format!("{round} {}", "z".repeat(90))) };
        history.issue(&log, 0, Change::Append(vec![entry]));
        let_run(6).await;
        let vote = history.issue(&log, 1, Change::Vote(bytes(format!("vote {round}"))));
        let_run(6).await;
        assert!(vote.load(Ordering::Relaxed));
    }
    if close {
        log.close().await.expect("a healthy log");
    } else {
        log.seal();
        let_run(6).await;
    }
    history
}

/// Flips each byte of the log; returns how many flips were refused and how many did no harm.
fn flip_each(rounds: u64, close: bool) -> (u64, u64) {
    let disk = FakeDisk::new(5, FakeDiskOptions::default());
    let history = run(acknowledged(&disk, rounds, close));
    let (mut refused, mut harmless) = (0, 0);
    for path in disk.files().into_iter().filter(|p| p.extension().is_some_and(|e| e == "log")) {
        let content = disk.content(&path).expect("listed");
        for offset in (0..content.len()).filter(|&o| content[o] != 0 || o % 37 == 0) {
            let copy = disk.fork(offset as u64);
            copy.flip(&path, offset as u64, 1 << (offset % 8));
            run(async {
                match open(&copy, 4) {
                    Err(LogError::Damaged { file, .. }) => {
                        assert_eq!(file, path);
                        refused += 1;
                    }
                    Err(e) => panic!("{e}"),
                    Ok(log) => {
                        let mut found = History {
                            base: history.now.clone(),
                            now: history.now.clone(),
                            ..History::default()
                        };
                        found.check(&log).await.unwrap_or_else(|e| {
                            panic!("a flip at {} {offset} lost something: {e}", path.display())
                        });
                        harmless += 1;
                    }
                }
            });
        }
    }
    (refused, harmless)
}

#[test]
fn a_flipped_bit_anywhere_is_refused_or_harmless() {
    for close in [false, true] {
        let (refused, harmless) = flip_each(12, close);
        assert!(refused > 1000 && harmless > 50, "{refused} refused, {harmless} harmless");
    }
}

#[test]
fn a_missing_segment_is_refused() {
    let disk = FakeDisk::new(5, FakeDiskOptions::default());
    run(acknowledged(&disk, 20, true));
    let segments: Vec<_> =
        disk.files().into_iter().filter(|p| p.extension().is_some_and(|e| e == "log")).collect();
    assert!(segments.len() > 3);
    // The newest is the exception: nothing says that it was ever there (docs/internals/disk-format.md).
    for path in &segments[..segments.len() - 1] {
        let copy = disk.fork(1);
        copy.mount().remove(path).expect("it is there");
        let refused = open(&copy, 4).map(drop);
        assert!(matches!(refused, Err(LogError::Damaged { .. })), "{}: {refused:?}", path.display());
    }
    let must_exist = LogOptions { must_exist: true, ..small() };
    let empty = FakeDisk::new(6, FakeDiskOptions::default());
    assert!(matches!(open_with(&empty, 1, must_exist), Err(LogError::Missing { .. })));
}

#[test]
fn the_first_failure_is_final() {
    let whole = FakeDisk::new(1, FakeDiskOptions::default());
    run(acknowledged(&whole, 6, false));
    for at in 0..whole.ops() + 4 {
        let disk = FakeDisk::new(at, FakeDiskOptions::default());
        run(async {
            disk.fail_once_after(at);
            let Ok(log) = open(&disk, 3) else { return };
            let mut history = History::default();
            let mut failed = false;
            for round in 0..12 {
                let vote = history.issue(&log, 1, Change::Vote(bytes(format!("vote {round}"))));
                let entry = LogEntry {
                    index: history.now.entry(0).or_default().last() + 1,
                    payload: content("entry"),
                };
                let append = history.issue(&log, 0, Change::Append(vec![entry]));
                let_run(6).await;
                let ok = vote.load(Ordering::Relaxed) && append.load(Ordering::Relaxed);
                assert!(!(failed && ok), "an operation succeeded after a failure at {at}");
                failed |= !ok;
                if failed {
                    assert!(log.failed().is_some_and(|e| e.contains("injected failure")));
                    assert!(log.group(1).save_vote(bytes("late")).await.is_err());
                    assert!(log.close().await.is_err());
                }
            }
            disk.crash();
            let log = open(&disk, 9).expect("a failed write is no damage");
            history.check(&log).await.expect("all acknowledged operations");
        });
    }
}

#[test]
fn a_full_disk_is_an_error_and_no_loss() {
    run(async {
        let disk = FakeDisk::new(1, FakeDiskOptions { capacity: Some(6000), ..FakeDiskOptions::default() });
        let log = open(&disk, 1).expect("room for one segment");
        let mut history = History::default();
        let rng = SeededRng(AtomicU64::new(1));
        live(&log, &mut history, &rng, 60).await;
        let_run(9).await;
        assert!(log.failed().is_some_and(|e| e.contains("No space left")));
        disk.crash();
        let log = open(&disk, 2).expect("a log");
        history.check(&log).await.expect("all acknowledged operations");
    });
    let full = FakeDisk::new(1, FakeDiskOptions { capacity: Some(100), ..FakeDiskOptions::default() });
    assert!(matches!(open(&full, 1), Err(LogError::Io { .. })));
}

#[test]
fn a_flush_vouches_for_what_was_accepted_before_it() {
    for seed in 0..20 {
        run(async {
            let disk =
                FakeDisk::new(seed, FakeDiskOptions { sync_us: 50..100, ..FakeDiskOptions::default() });
            let log = open(&disk, seed).expect("a fresh log");
            let entry = LogEntry { index: 1, payload: content("entry") };
            log.group(1).append(vec![entry], Box::new(|_| ()));
            log.flush().await.expect("a good disk");
            disk.crash();
            let log = open(&disk, seed).expect("a torn tail at most");
            assert_eq!(log.group(1).read(0..9).await.expect("a readable log").len(), 1);
        });
    }
}

#[test]
fn waiting_operations_share_an_fsync() {
    run(async {
        let options = FakeDiskOptions { sync_us: 1000..1001, ..FakeDiskOptions::default() };
        let disk = FakeDisk::new(1, options);
        let log = open_with(&disk, 1, LogOptions::default()).expect("a log");
        log.group(0).save_vote(bytes("first")).await.expect("durable");
        let before = disk.ops();
        let votes: Vec<_> = (0..50).map(|g| log.group(g % GROUPS).save_vote(bytes(format!("{g}")))).collect();
        futures::future::try_join_all(votes).await.expect("durable");
        // A write and an fsync.
        assert_eq!(disk.ops() - before, 2);
    });
}

#[test]
fn disk_use_follows_what_the_groups_hold() {
    run(async {
        let disk = FakeDisk::new(1, FakeDiskOptions::default());
        let log = open(&disk, 1).expect("a log");
        let (busy, idle) = (log.group(0), log.group(1));
        idle.save_vote(bytes("the idle group's vote")).await.expect("durable");
        idle.save_committed(bytes("committed")).expect("accepted");
        for index in 1..=400 {
            let (tell, told) = oneshot::channel();
            let entry = LogEntry { index, payload: content("w".repeat(300)) };
            busy.append(vec![entry], Box::new(move |r| tell.send(r).expect("waited for")));
            told.await.expect("told").expect("durable");
            if index % 10 == 0 {
                busy.purge(index - 1, bytes("meta")).await.expect("durable");
            }
        }
        assert!(log.bytes_used() <= 6 * 4096, "{:?}", log.usage());
        assert_eq!(log.usage().held.len(), 1);
        log.close().await.expect("a healthy log");
        drop((log, busy, idle));
        let log = open(&disk, 2).expect("a log");
        assert_eq!(log.group(1).vote(), Some(bytes("the idle group's vote")));
        assert_eq!(log.group(1).committed(), Some(bytes("committed")));
        let state = log.group(0).state().await.expect("readable");
        assert_eq!((state.purged.map(|p| p.0), state.last.map(|e| e.index)), (Some(399), Some(400)));
    });
}

#[test]
fn bytes_of_a_former_life_are_not_taken_for_batches() {
    let sector = format::seal(7, 1, 0x5a17);
    assert_eq!(format::BatchHeader::decode(&sector, 0x5a17).map(|header| header.seq), Some(7));
    assert_eq!(format::BatchHeader::decode(&sector, 0x5a18), None);
}

#[test]
fn a_gap_and_a_huge_entry() {
    run(async {
        let disk = FakeDisk::new(1, FakeDiskOptions::default());
        let log = open(&disk, 1).expect("a log");
        let append = |index: u64, len: usize| {
            let (tell, told) = oneshot::channel();
            let entry = LogEntry { index, payload: content("h".repeat(len)) };
            log.group(0).append(vec![entry], Box::new(move |r| tell.send(r).expect("waited for")));
            told
        };
        append(1, 10).await.expect("told").expect("durable");
        append(2, 100_000).await.expect("told").expect("durable");
        let gap = append(4, 10).await.expect("told").expect_err("a gap");
        assert_eq!(gap.kind(), io::ErrorKind::InvalidInput);
        append(3, 10).await.expect("told").expect("durable");
        disk.crash();
        let log = open(&disk, 2).expect("a log");
        let lens: Vec<_> =
            log.group(0).read(0..9).await.expect("readable").iter().map(|e| e.payload.size()).collect();
        assert_eq!(lens, [10, 100_000, 10]);
    });
}

#[test]
fn it_works_on_a_real_disk() {
    use crate::env::os::{OsDisk, OsRng};
    let dir = tempfile::tempdir().expect("a directory");
    let open = || {
        let disk = Arc::new(OsDisk::new().expect("a disk thread"));
        SharedLog::open(disk, Arc::new(OsRng), dir.path(), small()).expect("a log")
    };
    run(async {
        let log = open();
        for index in 0..100 {
            let (tell, told) = oneshot::channel();
            let entry = LogEntry { index, payload: content(format!("{index} {}", "r".repeat(200))) };
            log.group(1).append(vec![entry], Box::new(move |r| tell.send(r).expect("waited for")));
            told.await.expect("told").expect("durable");
        }
        log.group(1).purge(49, bytes("meta")).await.expect("durable");
        log.close().await.expect("a healthy log");
        let read = open().group(1).read(0..1000).await.expect("readable");
        assert_eq!(read.iter().map(|e| e.index).collect::<Vec<_>>(), (50..100).collect::<Vec<_>>());
        assert!(read[0].payload.body.starts_with(b"50 rrr"));
    });
}

#[test]
fn no_more_spares_are_kept_than_may_be() {
    let disk = FakeDisk::new(1, FakeDiskOptions::default());
    let mount = disk.mount();
    for number in 0..5 {
        let path = Path::new(DIR).join(format!("{number:016x}.spare"));
        mount.create(&path).and_then(|file| file.set_len(small().segment_len())).expect("a good disk");
    }
    run(async {
        let log = open(&disk, 1).expect("a log");
        assert_eq!(
            log.bytes_used(),
            small().max_spares as u64 * small().segment_len(),
            "one has become the log's first"
        );
    });
}
