//! What is shown while a run lasts: how many operations ended how, and how long clients went without success.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use crate::outcome::Outcome;

/// Counts of all clients together.
#[derive(Default)]
pub struct Gauge {
    counts: [Cell<u64>; 3],
    longest_pause: Cell<Duration>,
    /// For each client: since when it has tried without success. Later than now while it may wait.
    trying: RefCell<Vec<Option<Instant>>>,
}

/// A client's place in the gauge.
#[derive(Clone, Copy)]
pub struct Seat(usize);

impl Gauge {
    /// A place for one more client.
    pub fn seat(&self) -> Seat {
        let mut trying = self.trying.borrow_mut();
        trying.push(None);
        Seat(trying.len() - 1)
    }

    /// An operation begins that may wait for so long by itself.
    pub fn begin(&self, seat: Seat, may_wait: Duration) {
        self.trying.borrow_mut()[seat.0].get_or_insert(Instant::now() + may_wait);
    }

    /// An operation has ended.
    pub fn end(&self, seat: Seat, outcome: Outcome) {
        let count = &self.counts[outcome as usize];
        count.set(count.get() + 1);
        if outcome == Outcome::Ok {
            self.pause_ends(seat);
        }
    }

    /// The client gives up, or does something else: what it has waited counts.
    pub fn pause_ends(&self, seat: Seat) {
        if let Some(since) = self.trying.borrow_mut()[seat.0].take() {
            self.longest_pause.set(self.longest_pause.get().max(since.elapsed()));
        }
    }

    /// How many operations ended as ok, fail and info.
    pub fn counts(&self) -> [u64; 3] {
        self.counts.each_ref().map(Cell::get)
    }

    /// The longest time that any client has tried until it had a success, or still tries.
    pub fn longest_pause(&self) -> Duration {
        let now = Instant::now();
        let trying = self.trying.borrow();
        let running = trying.iter().flatten().map(|since| now.saturating_duration_since(*since));
        running.fold(self.longest_pause.get(), Duration::max)
    }
}
