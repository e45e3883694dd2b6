//! CLIENT PAUSE: calls wait until it is over.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Which calls wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Paused {
    /// Those that write or publish.
    Writes,
    /// All.
    All,
}

/// What waits, and until when.
pub struct Pause {
    state: Mutex<Option<(Paused, Instant)>>,
    /// Tells of changes; true while there is a pause that has not been ended.
    on: watch::Sender<bool>,
}

impl Default for Pause {
    fn default() -> Pause {
        Pause { state: Mutex::default(), on: watch::Sender::new(false) }
    }
}

impl Pause {
    /// Begins a pause, or makes the one there is longer and stricter.
    pub fn begin(&self, what: Paused, ms: u64) {
        let until = Instant::now() + Duration::from_millis(ms);
        let mut state = self.lock();
        let (before, before_until) = self.current(&state).unwrap_or((what, until));
        *state = Some((before.max(what), before_until.max(until)));
        drop(state);
        self.on.send_replace(true);
    }

    /// Ends it.
    pub fn end(&self) {
        *self.lock() = None;
        self.on.send_replace(false);
    }

    /// Whether there may be a pause. Nearly always not: looked at without taking the lock that writers take.
    pub fn is_on(&self) -> bool {
        *self.on.borrow()
    }

    /// Whether a call must wait.
    pub fn holds(&self, writes: bool) -> bool {
        self.is_on() && self.what().is_some_and(|what| what == Paused::All || writes)
    }

    /// What waits now, if there is a pause.
    pub fn what(&self) -> Option<Paused> {
        self.current(&self.lock()).map(|(what, _)| what)
    }

    /// Ready when a call need not wait (any longer).
    pub async fn over(&self, writes: bool) {
        let mut changed = self.on.subscribe();
        while self.holds(writes) {
            let Some((_, until)) = self.current(&self.lock()) else { return };
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                // The sender lives as long as `self`.
                _ = changed.changed() => {}
            }
        }
    }

    fn current(&self, state: &Option<(Paused, Instant)>) -> Option<(Paused, Instant)> {
        state.filter(|(_, until)| *until > Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Paused, Instant)>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pause_ends_by_itself_or_by_a_word() {
        let pause = Pause::default();
        pause.begin(Paused::Writes, 100);
        assert!(pause.holds(true) && !pause.holds(false));
        pause.begin(Paused::All, 50);
        assert!(pause.holds(false));
        pause.over(true).await;
        assert!(!pause.holds(true));
        pause.begin(Paused::All, u64::from(u32::MAX));
        tokio::join!(pause.over(false), async { pause.end() });
        assert!(!pause.holds(true));
    }
}
