//! A machine's state as a sequence of chunks: the same bytes for the same state, on every replica.
//!
//! Chunk 0 is the header (`MachineState` of proto/entry.proto); each further chunk holds up to [`CHUNK_BYTES`] or so of
//! one slot's objects, in the slot's order. The store that keeps the chunks adds framing and checksums; here only
//! their meaning is known.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::acl::{KnownUsers, Users};
use crate::births::Births;
use crate::digest::Digest;
use crate::entry::MachineState;
use crate::hash_slot::{SLOT_COUNT, SlotId};
use crate::keyspace::ownership::Ownership;
use crate::machine::Machine;
use crate::parts::Parts;
use crate::script::Scripts;
use crate::slot::{Key, Object, Slot};
use crate::slots::Slots;
use crate::value::{Bounds, Value};

/// A chunk is closed once it is at least this long; a single object may make it longer.
pub const CHUNK_BYTES: usize = 64 * 1024;

const FORMAT: u8 = 7;

/// The same with a write in parts that has begun, which earlier builds would leave out.
const FORMAT_WITH_PARTS: u8 = 8;

/// Why a snapshot cannot be read.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("snapshot chunk {chunk} is not of this format: {reason}")]
pub struct SnapshotError {
    /// The chunk's number, from 0.
    pub chunk: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// A machine's state at one index. Taking it costs a pointer for each page of slots; it shares its contents with the
/// machine until the machine changes them.
pub struct Snapshot {
    state: MachineState,
    slots: Slots,
    /// Keys of slots that come or go.
    under_way: Vec<(SlotId, Slot)>,
}

impl Machine {
    /// The state as it is now.
    pub fn snapshot(&self) -> Snapshot {
        let ownership = self.keyspace.ownership();
        let under_way = ownership.keys_under_way().map(|(id, slot)| (id, slot.clone())).collect();
        let (holdings, leaving, arriving) = ownership.states();
        let (birth_places, birth_indexes) = self.keyspace.births.iter().unzip();
        let (users, relay_key) = self.users.get().state();
        let state = MachineState {
            applied: self.applied,
            term: self.term,
            now_ms: self.keyspace.now_ms(),
            genesis: Some(self.genesis.clone()),
            waiters: self.keyspace.waiters.iter().cloned().collect(),
            last_waiter: self.keyspace.waiters.last_id(),
            digest: self.digest.value(),
            loaded_scripts: self.scripts.loaded().cloned().collect(),
            evaluated_scripts: self.scripts.evaluated_last().cloned().collect(),
            libraries: self.scripts.libraries().map(Into::into).collect(),
            birth_places,
            birth_indexes,
            holdings,
            leaving,
            arriving,
            users,
            relay_key,
            begun: self.parts.state(),
        };
        Snapshot { state, slots: self.keyspace.share_slots(), under_way }
    }

    /// A digest of the whole state: equal on two replicas at the same index, or one of them is broken. Costs as
    /// much as a snapshot.
    pub fn digest(&self) -> u32 {
        self.snapshot().digest()
    }
}

impl Snapshot {
    /// The index of the last entry in it.
    pub fn applied(&self) -> u64 {
        self.state.applied
    }

    /// [`Machine::digest`] of what it holds.
    pub fn digest(&self) -> u32 {
        let mut digest = StateDigest::default();
        self.chunks().for_each(|chunk| digest.add(&chunk));
        digest.value()
    }

    /// The chunks, made one at a time.
    pub fn chunks(&self) -> impl Iterator<Item = Bytes> + Send + '_ {
        let mut at = Cursor::default();
        std::iter::from_fn(move || self.next_chunk(&mut at))
    }

    /// The chunk at a place, which then is that of the next one; `None` at the end.
    pub fn next_chunk(&self, at: &mut Cursor) -> Option<Bytes> {
        if !std::mem::replace(&mut at.begun, true) {
            return Some(self.header());
        }
        loop {
            let (number, id, slot) = self.slot_from(at.slot)?;
            at.slot = number;
            if let Some(chunk) = chunk_of(id, slot, &mut at.position) {
                return Some(chunk);
            }
            (at.slot, at.position) = (number + 1, 0);
        }
    }

    /// The first slot with keys from `number` on, and its number: those under way come after all others.
    fn slot_from(&self, number: usize) -> Option<(usize, SlotId, &Slot)> {
        let served = self.slots.occupied(number).map(|(id, slot)| (usize::from(id), id, slot));
        served.or_else(|| {
            let number = number.max(usize::from(SLOT_COUNT));
            self.under_way.get(number - usize::from(SLOT_COUNT)).map(|(id, slot)| (number, *id, slot))
        })
    }

    fn header(&self) -> Bytes {
        let mut chunk = BytesMut::new();
        chunk.put_u8(if self.state.begun.is_some() { FORMAT_WITH_PARTS } else { FORMAT });
        chunk.put_slice(&self.state.encode_to_vec());
        chunk.freeze()
    }
}

/// The digest of a whole state, chunk by chunk, for those who must let others run in between.
#[derive(Default)]
pub struct StateDigest(crc32fast::Hasher);

impl StateDigest {
    /// Adds the next chunk.
    pub fn add(&mut self, chunk: &[u8]) {
        self.0.update(chunk);
    }

    /// The digest, after the last chunk.
    pub fn value(self) -> u32 {
        self.0.finalize()
    }
}

/// A place among a snapshot's chunks; at first, before all of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    begun: bool,
    slot: usize,
    position: usize,
}

/// The chunk of a slot that begins with the object at `position`, which then is that of the object after it.
fn chunk_of(id: SlotId, slot: &Slot, position: &mut usize) -> Option<Bytes> {
    slot.at(*position)?;
    let mut chunk = BytesMut::new();
    chunk.put_u16_le(id);
    while chunk.len() < CHUNK_BYTES {
        let Some((key, object)) = slot.at(*position) else { break };
        put_object(&mut chunk, key, object);
        *position += 1;
    }
    Some(chunk.freeze())
}

/// Rebuilds a machine from a snapshot's chunks, in order.
pub struct Restore {
    machine: Machine,
    hash_seed: u64,
    chunks: usize,
}

impl Restore {
    /// `hash_seed`: see [`Machine::new`].
    pub fn new(hash_seed: u64) -> Restore {
        Restore { machine: Machine::new(hash_seed), hash_seed, chunks: 0 }
    }

    /// Takes the next chunk.
    pub fn push(&mut self, chunk: Bytes) -> Result<(), SnapshotError> {
        let number = self.chunks;
        self.chunks += 1;
        let result = if number == 0 { self.take_header(chunk) } else { self.take_objects(chunk) };
        result.map_err(|reason| SnapshotError { chunk: number, reason })
    }

    /// The machine, after the last chunk.
    pub fn finish(self) -> Result<Machine, SnapshotError> {
        if self.chunks == 0 {
            return Err(SnapshotError { chunk: 0, reason: "there is no header" });
        }
        Ok(self.machine)
    }

    fn take_header(&mut self, mut chunk: Bytes) -> Result<(), &'static str> {
        let format = chunk.try_get_u8().map_err(|_| "the header is cut short")?;
        if ![FORMAT, FORMAT_WITH_PARTS].contains(&format) {
            return Err("it was written by another version");
        }
        let state = MachineState::decode(chunk).map_err(|_| "the header cannot be decoded")?;
        let keyspace = &mut self.machine.keyspace;
        let ownership = Ownership::restored(self.hash_seed, &state.holdings, &state.leaving, &state.arriving);
        keyspace.restore_ownership(ownership.ok_or("no group has slots like these")?);
        keyspace.begin_entry(state.applied, state.now_ms, Bounds::default());
        keyspace.waiters.restore(state.last_waiter, state.waiters);
        keyspace.births = Births::restored(&state.birth_places, &state.birth_indexes)
            .ok_or("the births of keys are no table")?;
        self.machine.scripts =
            Scripts::restored(state.loaded_scripts, state.evaluated_scripts, state.libraries);
        let users = Users::restored(&state.users, state.relay_key).ok_or("the users are none")?;
        self.machine.users = KnownUsers::new(users);
        self.machine.parts =
            Parts::restored(state.begun.as_ref()).ok_or("a write in parts is none that has begun")?;
        self.machine.genesis = state.genesis.unwrap_or_default();
        self.machine.applied = state.applied;
        self.machine.term = state.term;
        self.machine.digest = Digest::restored(state.applied, state.digest);
        Ok(())
    }

    fn take_objects(&mut self, mut chunk: Bytes) -> Result<(), &'static str> {
        let slot = chunk.try_get_u16_le().map_err(|_| SHORT_OBJECT)?;
        if slot >= SLOT_COUNT {
            return Err("there is no such slot");
        }
        while chunk.has_remaining() {
            let (key, object) = take_object(&mut chunk).ok_or(SHORT_OBJECT)?;
            if !self.machine.keyspace.restore(slot, key, object) {
                return Err("a key is there twice, or in another slot");
            }
        }
        Ok(())
    }
}

/// What is wrong with objects that [`take_objects`] does not take.
pub(crate) const SHORT_OBJECT: &str = "an object is cut short";

/// The objects in `bytes`, which holds nothing else; `None` if the last is cut short.
pub(crate) fn take_objects(mut bytes: Bytes) -> Option<Vec<(Key, Object)>> {
    let mut objects = Vec::new();
    while bytes.has_remaining() {
        objects.push(take_object(&mut bytes)?);
    }
    Some(objects)
}

/// Appends an object and its key.
pub(crate) fn put_object(out: &mut BytesMut, key: &[u8], object: &Object) {
    put_bytes(out, key);
    out.put_u64_le(object.expire_ms);
    out.put_u64_le(object.version);
    object.value.put(out);
}

fn take_object(from: &mut Bytes) -> Option<(Key, Object)> {
    let key = Key::from(&take_bytes(from)?[..]);
    let expire_ms = from.try_get_u64_le().ok()?;
    let version = from.try_get_u64_le().ok()?;
    let value = Value::take(from)?;
    Some((key, Object { value, expire_ms, version }))
}

/// Appends `bytes` with their length.
pub(crate) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32_le(bytes.len() as u32);
    out.put_slice(bytes);
}

/// Takes what [`put_bytes`] wrote; `None` if it is cut short.
pub(crate) fn take_bytes(from: &mut Bytes) -> Option<Bytes> {
    let len = from.try_get_u32_le().ok()? as usize;
    (from.remaining() >= len).then(|| from.split_to(len))
}
