//! The `quoris` program.

fn main() {}
