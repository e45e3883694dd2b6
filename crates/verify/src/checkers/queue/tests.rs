//! Planted anomalies.
