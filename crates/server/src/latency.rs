//! LATENCY: the spikes of each kind of event, and how long the calls of each command take.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::limits;

/// For each kind of event, its latest spikes and its worst.
#[derive(Default)]
pub struct Latency {
    events: Mutex<BTreeMap<&'static str, Spikes>>,
}

/// The spikes of one kind of event.
#[derive(Clone, Debug, Default)]
pub struct Spikes {
    /// (seconds since the Unix epoch, milliseconds), oldest first; the worst of each second.
    pub latest: VecDeque<(u64, u64)>,
    /// Milliseconds.
    pub worst_ms: u64,
}

impl Latency {
    /// Notes a spike of `ms`.
    pub fn note(&self, event: &'static str, ms: u64, now_ms: u64) {
        let at_s = now_ms / 1000;
        let mut events = self.lock();
        let spikes = events.entry(event).or_default();
        spikes.worst_ms = spikes.worst_ms.max(ms);
        match spikes.latest.back_mut() {
            Some((last_s, worst)) if *last_s == at_s => *worst = (*worst).max(ms),
            _ => spikes.latest.push_back((at_s, ms)),
        }
        if spikes.latest.len() > limits::LATENCY_SPIKES {
            spikes.latest.pop_front();
        }
    }

    /// All kinds of events that had spikes.
    pub fn all(&self) -> Vec<(&'static str, Spikes)> {
        self.lock().iter().map(|(event, spikes)| (*event, spikes.clone())).collect()
    }

    /// Forgets the spikes of `event`. Whether there were any.
    pub fn forget(&self, event: &str) -> bool {
        self.lock().remove(event).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Spikes>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A histogram of microseconds: 16 steps in each power of two, so that no figure is off by more than 1/16. It takes no memory
/// before the first call.
#[derive(Default)]
pub struct Histogram {
    counts: OnceLock<Box<[AtomicU64]>>,
}

/// Steps in each power of two.
const STEPS: u64 = 16;
/// Times of 2^32 microseconds and more are the last step.
const BUCKETS: usize = (STEPS * (32 - 3)) as usize;

fn bucket_of(usec: u64) -> usize {
    if usec < STEPS {
        return usec as usize;
    }
    let power = u64::from(usec.ilog2()) - 4;
    ((power + 1) * STEPS + (usec >> power) - STEPS).min(BUCKETS as u64 - 1) as usize
}

/// The highest time that a bucket counts.
fn highest_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let power = bucket / STEPS - 1;
    ((bucket % STEPS + STEPS + 1) << power) - 1
}

impl Histogram {
    /// Counts a time.
    pub fn count(&self, usec: u64) {
        let new = || (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        self.counts.get_or_init(new)[bucket_of(usec)].fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets all.
    pub fn reset(&self) {
        self.buckets().for_each(|(_, count)| count.store(0, Ordering::Relaxed));
    }

    /// How many times were counted.
    pub fn total(&self) -> u64 {
        self.buckets().map(|(_, count)| count.load(Ordering::Relaxed)).sum()
    }

    /// The time that `hundredths` of a percent of the calls do not exceed.
    pub fn percentile_usec(&self, hundredths: u32) -> u64 {
        let rank = (self.total() * u64::from(hundredths)).div_ceil(10_000).max(1);
        let mut seen = 0;
        for (usec, count) in self.buckets() {
            seen += count.load(Ordering::Relaxed);
            if seen >= rank {
                return usec;
            }
        }
        0
    }

    /// Powers of two, and how many calls took no longer; only those at which the number grows.
    pub fn cumulative(&self) -> Vec<(u64, u64)> {
        let mut all: Vec<(u64, u64)> = Vec::new();
        let mut seen = 0;
        for (usec, count) in self.buckets() {
            let count = count.load(Ordering::Relaxed);
            if count == 0 {
                continue;
            }
            seen += count;
            let power = usec.max(1).next_power_of_two();
            match all.last_mut() {
                Some((last, cumulative)) if *last == power => *cumulative = seen,
                _ => all.push((power, seen)),
            }
        }
        all
    }

    fn buckets(&self) -> impl Iterator<Item = (u64, &AtomicU64)> {
        let counts = self.counts.get().map_or(&[][..], |counts| counts);
        counts.iter().enumerate().map(|(bucket, count)| (highest_of(bucket), count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_the_bucket_that_says_so() {
        for usec in (0..5000).chain([1 << 20, (1 << 20) + 1, (1 << 31) + 12345]) {
            let bucket = bucket_of(usec);
            assert!(usec <= highest_of(bucket), "{usec}");
            assert!(bucket == 0 || usec > highest_of(bucket - 1), "{usec}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_and_powers() {
        let histogram = Histogram::default();
        (1..=100).for_each(|usec| histogram.count(usec));
        assert_eq!((histogram.percentile_usec(5000), histogram.percentile_usec(10_000)), (51, 103));
        assert_eq!(histogram.cumulative().first(), Some(&(1, 1)));
        assert_eq!(histogram.cumulative().last(), Some(&(128, 100)));
        histogram.reset();
        assert_eq!((histogram.total(), histogram.percentile_usec(5000)), (0, 0));
    }

    #[test]
    fn spikes_of_one_second_are_one() {
        let latency = Latency::default();
        for (ms, now_ms) in [(5, 1000), (9, 1500), (7, 2000)] {
            latency.note("command", ms, now_ms);
        }
        let (event, spikes) = latency.all().remove(0);
        assert_eq!((event, spikes.worst_ms), ("command", 9));
        assert_eq!(spikes.latest, [(1, 9), (2, 7)]);
        assert!(latency.forget("command") && !latency.forget("command"));
    }
}
