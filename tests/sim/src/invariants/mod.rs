//! What must hold in every run, one file each. Each is told what was observed, by the name of what it watches, and
//! answers with the sentence that says what is wrong.
//!
//! Five are about replicas and are fed while a run goes on ([`crate::observe`]). The others are about what clients saw
//! ([`crate::history`]); but for the kinds of replies they are judged at the end.

pub mod acknowledged_is_never_lost;
pub mod blocked_calls_are_answered;
pub mod committed_is_immutable;
pub mod deadlines_hold;
pub mod equal_digest_at_equal_index;
pub mod log_matching;
pub mod members_are_what_was_said;
pub mod one_leader_per_term;
pub mod queues_lose_nothing;
pub mod reads_are_linearizable;
pub mod replies_answer_their_calls;
pub mod slots_are_owned_once;
pub mod unknown_appears_at_most_once;

/// Nothing, or what is wrong.
pub type Verdict = Result<(), String>;
