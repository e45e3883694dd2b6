//! How much goes on right now: INFO's `instantaneous_…`, the mean of the last moments, as Redis takes it.

use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::server::Server;

/// From one sample to the next.
const INTERVAL: Duration = Duration::from_millis(100);
/// Of how many the mean is taken.
const SAMPLES: usize = 16;

/// What is measured: calls, bytes from clients and bytes to them.
type Totals = [u64; 3];

/// The last samples of the totals.
#[derive(Default)]
pub struct Rates(Mutex<Vec<(Instant, Totals)>>);

impl Rates {
    /// How much there was of each, a second.
    pub fn per_second(&self) -> [f64; 3] {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some((began, first)), Some((ended, last))) = (samples.first(), samples.last()) else {
            return [0.0; 3];
        };
        let seconds = ended.duration_since(*began).as_secs_f64();
        // The totals begin again with CONFIG RESETSTAT.
        let rate =
            |i: usize| if seconds > 0.0 { last[i].saturating_sub(first[i]) as f64 / seconds } else { 0.0 };
        [rate(0), rate(1), rate(2)]
    }

    fn note(&self, at: Instant, totals: Totals) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() > SAMPLES {
            samples.remove(0);
        }
        samples.push((at, totals));
    }
}

/// Takes samples, until the server is gone.
pub async fn sample(server: Weak<Server>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(server) = server.upgrade() else { return };
        let stats = &server.stats;
        let totals = [stats.calls.get(), stats.input_bytes.get(), stats.output_bytes.get()];
        server.rates.note(Instant::now(), totals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_samples_count() {
        let (rates, began) = (Rates::default(), Instant::now());
        assert_eq!(rates.per_second(), [0.0; 3]);
        rates.note(began, [0, 1000, 0]);
        assert_eq!(rates.per_second(), [0.0; 3], "one sample tells no rate");
        for i in 1..=100 {
            rates.note(began + INTERVAL * i, [u64::from(i) * 5, 1000, 0]);
        }
        let [calls, input, output] = rates.per_second();
        assert!((calls - 50.0).abs() < 1e-6, "{calls}");
        assert_eq!((input, output), (0.0, 0.0));
        rates.note(began + INTERVAL * 101, [0; 3]);
        assert_eq!(rates.per_second(), [0.0; 3], "the totals have begun again");
    }
}
