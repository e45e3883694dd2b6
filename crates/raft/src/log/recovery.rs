//! Opening a log: replays every segment, and tells a torn tail from damage.
//!
//! A batch is begun only after its predecessor is durable, so at most one batch, the last, can be incomplete
//! after a crash, and nobody was told of it. The log therefore ends at the first place where the expected batch
//! is not to be found whole, *if* nothing proves that it had once been durable. What proves it is any header
//! of a later batch or seal, or of a later segment that begins with a later batch: then acknowledged bytes are
//! damaged, and the log is refused. Bytes of a file's former life prove nothing, since the segment's salt is in
//! every checksum.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{self, BATCH_HEADER, BatchHeader, HeaderError, Kind, SECTOR, SegmentHeader};
use super::group::{Group, Place, Slot};
use super::segment::{Files, Segment, number_of};
use super::{LogError, LogOptions};
use crate::env::{Disk, Rng};
use crate::planted::{Bug, is_planted};
use crate::types::GroupId;

/// Where the log goes on.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// Where in the newest segment the next batch goes.
    pub offset: u64,
    /// Its number.
    pub next_seq: u64,
    /// The oldest segment the last durable batch needs.
    pub oldest: u64,
}

/// An open log's parts.
pub struct Recovered {
    /// What was replayed.
    pub groups: BTreeMap<GroupId, Group>,
    /// The live segments, oldest first.
    pub segments: VecDeque<Arc<Segment>>,
    /// The files.
    pub files: Files,
    /// Where to go on.
    pub end: End,
}

/// Opens the log in `dir`, or begins one.
pub fn recover(
    disk: &Arc<dyn Disk>,
    rng: &Arc<dyn Rng>,
    dir: &Path,
    options: &LogOptions,
) -> Result<Recovered, LogError> {
    let failed = |source| LogError::Io { file: dir.to_path_buf(), source };
    let (live, spares) = survey(&**disk, dir, options).map_err(failed)?;
    if live.is_empty() && options.must_exist {
        return Err(LogError::Missing { dir: dir.to_path_buf() });
    }
    let mut replay = Replay::default();
    let mut segments = VecDeque::new();
    for path in run_of(&live) {
        segments.push_back(replay.segment(&**disk, path)?);
    }
    replay.finish(&segments)?;
    replay.harden().map_err(failed)?;
    // Segments that had been let go of, whose names a power cut brought back.
    for path in live.iter().filter(|path| !segments.iter().any(|segment| segment.path == **path)) {
        disk.remove(path).map_err(failed)?;
    }
    let mut files = Files::new(disk.clone(), rng.clone(), dir, options, &segments, spares);
    if segments.is_empty() {
        segments.push_back(files.begin(1, SECTOR).map_err(failed)?);
        replay.end = End { offset: SECTOR, next_seq: 1, oldest: 1 };
    }
    Ok(Recovered { groups: replay.groups, segments, files, end: replay.end })
}

/// Lists live and spare segments, and removes what was being made, and spares beyond those that may be kept: crashes can
/// leave more, and they would count against the log's bound for good.
fn survey(disk: &dyn Disk, dir: &Path, options: &LogOptions) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    disk.create_dir(dir)?;
    let (mut live, mut spares) = (Vec::new(), Vec::new());
    let is_whole = |path: &Path| Ok::<_, io::Error>(disk.open(path)?.len()? == options.segment_len());
    for path in disk.list(dir)? {
        match path.extension().and_then(|e| e.to_str()) {
            Some("log") if number_of(&path).is_some() => live.push(path),
            Some("spare") if spares.len() < options.max_spares && is_whole(&path)? => spares.push(path),
            Some("spare" | "tmp") => disk.remove(&path)?,
            _ => {}
        }
    }
    // What is seen now must still be seen after a power cut.
    disk.sync_dir(dir)?;
    Ok((live, spares))
}

/// The longest run of consecutive segments that ends with the newest; what lies before a gap had been let go
/// of, and if not, the last batch's `oldest` tells.
fn run_of(live: &[PathBuf]) -> &[PathBuf] {
    let numbers: Vec<_> = live.iter().filter_map(|path| number_of(path)).collect();
    let gap = (1..numbers.len()).rev().find(|&i| numbers[i] != numbers[i - 1] + 1);
    &live[gap.unwrap_or(0)..]
}

#[derive(Default)]
struct Replay {
    groups: BTreeMap<GroupId, Group>,
    end: End,
    /// Where the log ends for all we know, and what is wrong with what stands there.
    stop: Option<Stop>,
    /// The last whole batch, which may never have been fsynced.
    last: Option<(Arc<Segment>, u64, Vec<u8>)>,
}

struct Stop {
    file: PathBuf,
    offset: u64,
    reason: &'static str,
}

impl Stop {
    fn damaged(&self, proof: &str) -> LogError {
        let reason = format!("{}, but {proof} shows that it was once durable", self.reason);
        LogError::Damaged { file: self.file.clone(), offset: self.offset, reason }
    }
}

impl Default for End {
    fn default() -> Self {
        End { offset: SECTOR, next_seq: 0, oldest: 0 }
    }
}

impl Replay {
    /// Replays one segment, up to where the next batch is not found.
    fn segment(&mut self, disk: &dyn Disk, path: &Path) -> Result<Arc<Segment>, LogError> {
        let (segment, bytes) = load(disk, path)?;
        let header = &segment.header;
        match &self.stop {
            None => self.end.next_seq = header.first_batch,
            Some(_) if header.first_batch == self.end.next_seq => {}
            Some(stop) => return Err(stop.damaged(&format!("{}", path.display()))),
        }
        self.end.offset = SECTOR;
        let reason = loop {
            let offset = self.end.offset;
            match batch_at(&bytes, offset, header, self.end.next_seq) {
                Ok((batch, body)) => {
                    self.batch(&segment, offset, body)?;
                    let len = format::batch_len(body.len());
                    let whole = bytes[offset as usize..(offset + len) as usize].to_vec();
                    self.last = Some((segment.clone(), offset, whole));
                    self.end = End { offset: offset + len, next_seq: batch.seq + 1, oldest: batch.oldest };
                }
                Err(reason) => break reason,
            }
        };
        let stop = Stop { file: path.to_path_buf(), offset: self.end.offset, reason };
        // Here or in a later batch's place: headers stand at sectors, and only a later batch's proves anything.
        for offset in (self.end.offset..bytes.len() as u64).step_by(SECTOR as usize) {
            match BatchHeader::decode(&bytes[offset as usize..], header.salt) {
                Some(later) if later.seq > self.end.next_seq => {
                    return Err(stop.damaged(&format!("batch {} at offset {offset}", later.seq)));
                }
                _ => {}
            }
        }
        self.stop = Some(stop);
        Ok(segment)
    }

    fn batch(&mut self, segment: &Segment, offset: u64, body: &[u8]) -> Result<(), LogError> {
        let damaged = |reason: &str| LogError::Damaged {
            file: segment.path.clone(),
            offset,
            reason: reason.to_string(),
        };
        for record in format::records(body) {
            let (record, at) = record.ok_or_else(|| damaged("a record of no known kind"))?;
            let group = self.groups.entry(record.group).or_default();
            if record.kind != Kind::Entry {
                group.apply(&record);
                continue;
            }
            // Predecessors may be in segments that were let go of; whether they may be missing is known at the end.
            if group.last().is_some_and(|last| last + 1 != record.index) {
                return Err(damaged("an entry whose predecessor is missing"));
            }
            let place = Place {
                segment: segment.header.segment,
                offset: (offset as usize + BATCH_HEADER + at) as u32,
                len: record.payload.size() as u32,
                crc: record.payload.checksum(),
            };
            group.push(record.index, Slot { id: 0, place: Some(place), payload: None });
        }
        Ok(())
    }

    /// Checks what can only be judged when all has been replayed.
    fn finish(&self, segments: &VecDeque<Arc<Segment>>) -> Result<(), LogError> {
        let (Some(first), Some(stop)) = (segments.front(), &self.stop) else { return Ok(()) };
        let missing = |reason: String| LogError::Damaged { file: first.path.clone(), offset: 0, reason };
        let needed = self.last.as_ref().map_or(1, |_| self.end.oldest);
        if first.header.segment > needed {
            return Err(missing(format!("segment {needed:016x}.log, which came before it, is missing")));
        }
        for (id, group) in &self.groups {
            let expected = group.purged.as_ref().map(|(index, _)| index + 1);
            if let (Some(expected), Some(found)) = (expected, group.first())
                && expected != found
            {
                let reason = format!("group {id} begins with entry {found} instead of {expected}");
                return Err(LogError::Damaged { file: stop.file.clone(), offset: stop.offset, reason });
            }
        }
        Ok(())
    }

    /// Makes the last batch durable: its writer may have died before its fsync, or because the fsync failed. It
    /// is written again, since after a failed fsync the kernel takes the pages for clean.
    fn harden(&self) -> io::Result<()> {
        let Some((segment, offset, bytes)) = &self.last else { return Ok(()) };
        if is_planted(Bug::RecoveredNotHardened) {
            return Ok(());
        }
        segment.file.write_at(bytes, *offset)?;
        segment.file.sync()
    }
}

/// Opens a segment and reads it whole.
fn load(disk: &dyn Disk, path: &Path) -> Result<(Arc<Segment>, Vec<u8>), LogError> {
    let failed = |source| LogError::Io { file: path.to_path_buf(), source };
    let damaged =
        |reason: &str| LogError::Damaged { file: path.to_path_buf(), offset: 0, reason: reason.to_string() };
    let file = disk.open_durable(path).map_err(failed)?;
    let mut bytes = vec![0; file.len().map_err(failed)? as usize];
    let read = file.read_at(&mut bytes, 0).map_err(failed)?;
    bytes.truncate(read);
    let header = match SegmentHeader::decode(&bytes) {
        Ok(header) => header,
        Err(HeaderError::Invalid) => return Err(damaged("the segment's header does not match its checksum")),
        Err(HeaderError::Newer(version)) => {
            return Err(LogError::Newer { file: path.to_path_buf(), version });
        }
    };
    if number_of(path) != Some(header.segment) {
        return Err(damaged("the segment's header belongs to another file"));
    }
    if bytes.len() as u64 != header.len {
        return Err(damaged("the file does not have the length its header says"));
    }
    Ok((Arc::new(Segment { header, path: path.to_path_buf(), file }), bytes))
}

/// The batch `seq` at `offset`, or why there is none.
fn batch_at<'a>(
    bytes: &'a [u8],
    offset: u64,
    segment: &SegmentHeader,
    seq: u64,
) -> Result<(BatchHeader, &'a [u8]), &'static str> {
    let bytes = bytes.get(offset as usize..).unwrap_or_default();
    let header = BatchHeader::decode(bytes, segment.salt).filter(|header| header.seq == seq);
    let header = header.ok_or("the batch that belongs here has no valid header")?;
    if header.body_len == 0 {
        return Err("a seal stands here");
    }
    let body = bytes.get(BATCH_HEADER..BATCH_HEADER + header.body_len as usize);
    match body {
        Some(body) if crc32fast::hash(body) == header.body_crc || is_planted(Bug::TornBatchTaken) => {
            Ok((header, body))
        }
        _ => Err("the batch does not match its checksum"),
    }
}
