//! A call that may block is answered in time, with an element, with nothing, or with an error; or its connection ends. It
//! is never met with silence.
//!
//! In time is: its time-out, and [`BOUND_MS`]. Nothing is heard of a node while it is paused. And a plain client's call may
//! have been forwarded over a connection that has lost bytes to a cut of the network: simulated TCP does not send them again.

use crate::history::History;
use crate::queues::Wait;

/// A node takes at most so long beyond the time-out. W is write-timeout-ms of the simulation's settings.
///
/// A plain client's call looks for its leader for W; then another node is called (RELAY_CONNECT_MS), where the call has
/// W to get into the log, and when its time is over W for its cancellation, and that one again W. Half a second for all
/// else: the network, and what is looked at only now and then (BLOCKED_CHECK_MS).
pub const BOUND_MS: u64 = 4 * W_MS + 1000 + 500;

/// write-timeout-ms of the simulation's settings.
pub const W_MS: u64 = 1000;

/// What a call may have suffered from, and when (milliseconds; `to` excluded).
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    /// Of which node.
    pub node: u64,
    /// Whether it was paused; else something between it and other nodes was cut.
    pub paused: bool,
    /// From when.
    pub from_ms: u64,
    /// Until when.
    pub to_ms: u64,
}

/// Judges all calls that may have waited.
pub fn check(history: &History, troubles: &[Trouble]) -> Vec<String> {
    let is_late = |wait: &&Wait| !is_in_time(wait, troubles);
    let wrong = |wait: &Wait| {
        let took_ms = wait.ended_ms - wait.began_ms;
        format!("no answer from node {} within {took_ms} ms: {wait:?}", wait.node)
    };
    history.waits.iter().filter(is_late).map(wrong).collect()
}

fn is_in_time(wait: &Wait, troubles: &[Trouble]) -> bool {
    let took_ms = wait.ended_ms - wait.began_ms;
    if took_ms <= wait.timeout_ms + BOUND_MS {
        return true;
    }
    let overlap_ms = |trouble: &Trouble| {
        trouble.to_ms.min(wait.ended_ms).saturating_sub(trouble.from_ms.max(wait.began_ms))
    };
    let of_node = troubles.iter().filter(|trouble| trouble.node == wait.node);
    let (pauses, cuts): (Vec<_>, Vec<_>) = of_node.partition(|trouble| trouble.paused);
    let paused_ms: u64 = pauses.into_iter().map(overlap_ms).sum();
    let was_cut_off = wait.plain && cuts.into_iter().any(|cut| overlap_ms(cut) > 0);
    was_cut_off || took_ms <= wait.timeout_ms + BOUND_MS + paused_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_right(plain: bool, took_ms: u64, troubles: &[Trouble]) -> bool {
        let mut history = History::default();
        let (began_ms, ended_ms) = (1000, 1000 + took_ms);
        history.waits.push(Wait { node: 2, plain, timeout_ms: 300, began_ms, ended_ms });
        check(&history, troubles).is_empty()
    }

    #[test]
    fn silence_is_found() {
        let limit = 300 + BOUND_MS;
        assert!(is_right(true, limit, &[]));
        assert!(!is_right(true, limit + 1, &[]));
        assert!(!is_right(false, limit + 1, &[]));
    }

    #[test]
    fn what_the_simulation_has_done_excuses() {
        let trouble = |node, paused| Trouble { node, paused, from_ms: 500, to_ms: 1100 };
        let late = 300 + BOUND_MS + 100;
        assert!(is_right(false, late, &[trouble(2, true)]));
        assert!(!is_right(false, late + 1, &[trouble(2, true)]), "longer than the pause");
        assert!(!is_right(false, late, &[trouble(1, true)]), "another node's pause");
        assert!(is_right(true, late + 1, &[trouble(2, false)]));
        assert!(!is_right(false, late, &[trouble(2, false)]), "no call of a cluster's client is forwarded");
        let over = Trouble { node: 2, paused: false, from_ms: 0, to_ms: 1000 };
        assert!(!is_right(true, late, &[over]), "a cut before it");
    }
}
