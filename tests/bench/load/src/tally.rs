//! What was counted: latencies and commands.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

const LONGEST_US: u64 = 60_000_000;

/// Latencies of the measured part, and all commands, the warm-up's too: those go with processor time, bytes and
/// flushes, which are taken over the whole run.
pub struct Tally {
    pub latency_us: Histogram<u64>,
    pub all_commands: u64,
}

impl Tally {
    pub fn new() -> Result<Self> {
        Ok(Self { latency_us: Histogram::new_with_max(LONGEST_US, 3)?, all_commands: 0 })
    }

    /// `commands` that took so long each.
    pub fn record(&mut self, latency: Duration, commands: u64) -> Result<()> {
        let latency_us = u64::try_from(latency.as_micros())?.min(LONGEST_US);
        Ok(self.latency_us.record_n(latency_us, commands)?)
    }

    pub fn add(&mut self, other: Self) -> Result<()> {
        self.all_commands += other.all_commands;
        Ok(self.latency_us.add(other.latency_us)?)
    }

    /// The figures of a measured part of that length.
    pub fn report(&self, seconds: f64) -> serde_json::Value {
        let at = |quantile| self.latency_us.value_at_quantile(quantile);
        serde_json::json!({
            "requests_per_second": self.latency_us.len() as f64 / seconds,
            "p50_us": at(0.5),
            "p99_us": at(0.99),
            "p999_us": at(0.999),
            "all_commands": self.all_commands,
        })
    }
}
