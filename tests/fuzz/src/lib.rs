//! Fuzzers for what decodes bytes from outside: what clients send (RESP), what RESTORE is given (RDB payloads), log entries
//! and snapshots.
//!
//! A target makes inputs from a seed (valid ones, and valid ones with damage, since random bytes do not get past the first
//! check of any format) and checks them. Every target holds its decoder to the same promises: it does not panic; it
//! allocates no more than a multiple of the input's length; what it has decoded survives encoding. What is checked is
//! given as bytes, so that other fuzzers can call it, too. A case is its seed: the same seed, the same input.

mod damage;
mod entry;
mod rdb;
mod resp;
mod snapshot;

use peak_alloc::PeakAlloc;
use rand::SeedableRng;
use rand::rngs::StdRng;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What any decoder may allocate, whatever its input.
const FREE_BYTES: usize = 64 * 1024;

/// One decoder's fuzzer.
pub struct Target {
    /// The name on the command line.
    pub name: &'static str,
    /// An input.
    pub make: fn(&mut StdRng) -> Vec<u8>,
    /// Panics if a promise is broken.
    pub check: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 4] = [
    Target { name: "entry", make: entry::make, check: entry::check },
    Target { name: "rdb", make: rdb::make, check: rdb::check },
    Target { name: "resp", make: resp::make, check: resp::check },
    Target { name: "snapshot", make: snapshot::make, check: snapshot::check },
];

impl Target {
    /// Runs the case `seed`.
    pub fn run(&self, seed: u64) {
        (self.check)(&(self.make)(&mut StdRng::seed_from_u64(seed)));
    }
}

/// What `decode` gives; panics if it allocates more than `factor` bytes for each of the input's `length`. Nothing else
/// of the process may run meanwhile.
fn within_memory<T>(what: &str, length: usize, factor: usize, decode: impl FnOnce() -> T) -> T {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = decode();
    let used = MEMORY.peak_usage().saturating_sub(before);
    let bound = FREE_BYTES + factor * length;
    assert!(used <= bound, "{what} of {length} bytes allocated {used} bytes, more than {bound}");
    result
}
