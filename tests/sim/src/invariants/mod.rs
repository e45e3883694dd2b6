//! What must hold in every run, one file each. Each is told what was observed, by the name of what it watches, and
//! answers with the sentence that says what is wrong.
//!
//! The first five are about replicas and are fed while a run goes on ([`crate::observe`]). The last three are about what
//! clients saw ([`crate::history`]) and are judged at the end.

pub mod acknowledged_is_never_lost;
pub mod committed_is_immutable;
pub mod equal_digest_at_equal_index;
pub mod log_matching;
pub mod one_leader_per_term;
pub mod reads_are_linearizable;
pub mod slots_are_owned_once;
pub mod unknown_appears_at_most_once;

/// Nothing, or what is wrong.
pub type Verdict = Result<(), String>;
