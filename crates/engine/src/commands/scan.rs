//! SCAN's cursor: a walk over slots, and over each slot's keys from the last to the first (`slot` says why).
