//! Some cases of every target; one test, since memory is counted for the whole process.

use quoris_fuzz::TARGETS;

const CASES: u64 = 1500;

#[test]
fn every_target_keeps_its_promises() {
    for target in &TARGETS {
        (0..CASES).for_each(|seed| target.run(seed));
    }
}
