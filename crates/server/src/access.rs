//! Who used which key when, and how often, for the eviction policies that ask and for OBJECT IDLETIME and FREQ: a leader's own
//! knowledge, never in the log.
//!
//! One cell of four bytes for each key, found by the key's hash and shared by those whose hashes meet: nothing is allocated for
//! a key and no lock taken for a call. So two keys may lend each other their use; with twice as many cells as keys that
//! spares some keys a while and does no harm. What an earlier leader knew is lost with it. While no policy asks there are few
//! cells, and OBJECT IDLETIME of one among very many keys may answer another's use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::time::Instant;

use crate::limits;

/// As Redis's `lfu-log-factor`: the higher, the more uses a step of the counter takes.
const LOG_FACTOR: u32 = 10;
/// As Redis's `lfu-decay-time`: after so long without use the counter loses a step.
const DECAY: Duration = Duration::from_secs(60);
/// Where the counter of a new key begins, so that it is not the first to go.
const NEW: u32 = 5;
const MOST: u32 = 255;

/// What is known of the use of keys.
pub struct Access {
    since: Instant,
    /// Uses so far: what the counters' chance is made of.
    uses: AtomicU64,
    cells: ArcSwap<Box<[Cell]>>,
}

/// When a key was last used, in tenths of a second (24 bits, which come round after 19 days and are never 0 but for what has
/// not been used), above how often (8 bits).
#[derive(Default)]
struct Cell(AtomicU32);

const TICK_MS: u128 = 100;
const TICKS: u32 = 0xff_ffff;

impl Default for Access {
    fn default() -> Access {
        let cells = (0..limits::FIRST_ACCESS_CELLS).map(|_| Cell::default()).collect();
        Access { since: Instant::now(), uses: AtomicU64::new(0), cells: ArcSwap::from_pointee(cells) }
    }
}

impl Access {
    /// Notes what is used from now on; exactly, if that is `wanted`, among about `keys` keys.
    pub fn keep(&self, wanted: bool, keys: usize) {
        let cells = self.cells();
        let most = limits::ACCESS_CELLS;
        let first = limits::FIRST_ACCESS_CELLS;
        let want = if wanted { (2 * keys).next_power_of_two().clamp(first, most) } else { first };
        // It shrinks only when nobody asks: what is known of keys is worth more than the room.
        if want > cells.len() || !wanted && want < cells.len() {
            let old = |i: usize| cells[i & (cells.len() - 1)].0.load(Ordering::Relaxed);
            let grown = (0..want).map(|i| Cell(AtomicU32::new(old(i)))).collect();
            self.cells.store(Arc::new(grown));
        }
    }

    /// Notes that `keys` are used `now`.
    pub fn used<'a>(&self, now: Instant, keys: impl Iterator<Item = &'a bytes::Bytes>) {
        let cells = self.cells();
        let now = self.tick_of(now);
        for key in keys {
            let hash = hash(key);
            let cell = &cells[hash as usize & (cells.len() - 1)];
            let old = cell.0.load(Ordering::Relaxed);
            let random = mixed(hash ^ self.uses.fetch_add(1, Ordering::Relaxed));
            let often = count(decayed(old, now), random);
            cell.0.store(now << 8 | often, Ordering::Relaxed);
        }
    }

    /// When `key` was last used: the smaller, the longer ago; 0 if never.
    pub fn used_last(&self, key: &[u8]) -> u32 {
        match self.look(key) >> 8 {
            0 => 0,
            last => TICKS - ticks_since(last, self.now()),
        }
    }

    /// How often `key` has been used lately: the smaller, the less.
    pub fn used_often(&self, key: &[u8]) -> u32 {
        decayed(self.look(key), self.now())
    }

    /// For how many seconds `key` has not been used; 0 if it never was, as far as this node knows.
    pub fn idle_s(&self, key: &[u8]) -> u64 {
        let now = self.now();
        let last = self.look(key) >> 8;
        let ticks = if last == 0 { 0 } else { ticks_since(last, now) };
        u64::from(ticks) * TICK_MS as u64 / 1000
    }

    /// Notes that `key` was last used so many seconds ago, and how often lately (RESTORE).
    pub fn restored(&self, key: &[u8], idle_s: u64, often: u32) {
        let cells = self.cells();
        let ago = (idle_s.saturating_mul(1000) / TICK_MS as u64).min(u64::from(TICKS / 2)) as u32;
        // Ticks go round, and are never 0.
        let last = (self.now() + TICKS - 1 - ago) % TICKS + 1;
        cells[hash(key) as usize & (cells.len() - 1)].0.store(last << 8 | often.min(MOST), Ordering::Relaxed);
    }

    fn look(&self, key: &[u8]) -> u32 {
        let cells = self.cells();
        cells[hash(key) as usize & (cells.len() - 1)].0.load(Ordering::Relaxed)
    }

    fn cells(&self) -> Guard<Arc<Box<[Cell]>>> {
        self.cells.load()
    }

    fn now(&self) -> u32 {
        self.tick_of(Instant::now())
    }

    fn tick_of(&self, at: Instant) -> u32 {
        let since = at.saturating_duration_since(self.since);
        (since.as_millis() / TICK_MS % u128::from(TICKS)) as u32 + 1
    }
}

/// The counter of a cell at `now`.
fn decayed(cell: u32, now: u32) -> u32 {
    let (last, often) = (cell >> 8, cell & MOST);
    match last {
        0 => NEW,
        _ => often.saturating_sub(ticks_since(last, now) / (DECAY.as_millis() / TICK_MS) as u32),
    }
}

fn ticks_since(last: u32, now: u32) -> u32 {
    (now + TICKS - last) % TICKS
}

/// The counter after one more use: it grows the more slowly the higher it is.
fn count(often: u32, random: u64) -> u32 {
    let above = u64::from(often.saturating_sub(NEW) * LOG_FACTOR + 1);
    if often < MOST && random.is_multiple_of(above) { often + 1 } else { often }
}

/// FNV-1a: quick for short keys.
fn hash(key: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    mixed(key.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// Every bit of the result depends on every bit of `x` (splitmix64's last step).
fn mixed(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_told_from_what_is_not() {
        let mut access = Access::default();
        let (old, new, never) = (bytes::Bytes::from("old"), bytes::Bytes::from("new"), b"never");
        access.keep(true, 100);
        access.used(Instant::now(), [&old].into_iter());
        access.since -= Duration::from_secs(1);
        (0..1000).for_each(|_| access.used(Instant::now(), [&new].into_iter()));
        assert!(
            access.used_last(never) < access.used_last(&old)
                && access.used_last(&old) < access.used_last(&new)
        );
        assert!(access.used_often(&old) < access.used_often(&new) && access.used_often(&new) < 100);
        access.keep(true, 1 << 20);
        assert!(
            access.used_last(&old) > 0 && access.used_last(&old) < access.used_last(&new),
            "it remembers when it grows"
        );
        access.since -= DECAY * 300;
        assert_eq!(access.used_often(&new), 0, "what is long ago counts no more");
        access.keep(false, 0);
        access.restored(&new, 1000, 100);
        assert_eq!((access.idle_s(&new), access.used_often(never)), (1000, NEW));
        access.since -= Duration::from_secs(5);
        assert_eq!(access.idle_s(&new), 1005);
    }
}
