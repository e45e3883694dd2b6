//! Planted anomalies, and histories that have none.
