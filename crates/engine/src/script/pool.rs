//! The interpreter that waits for the next script. Never part of the state.
//!
//! Each thread has its own, as Lua's values need neither locks nor counts that threads share when one thread alone ever sees
//! them: those would be a good part of what a call from Lua to Rust costs. It serves all groups of this process, and no script
//! can tell what has run in it.

use std::cell::Cell;

use super::interpreter::Interpreter;

/// An interpreter that has grown beyond this is not kept.
const POOLED_BYTES: usize = 32 << 20;

thread_local! {
    static POOLED: Cell<Option<Interpreter>> = const { Cell::new(None) };
}

/// The one that waits, or a new one.
pub fn take() -> Interpreter {
    POOLED.take().unwrap_or_else(Interpreter::new)
}

/// Keeps an interpreter for the next script.
pub fn give_back(interpreter: Interpreter) {
    if interpreter.used_bytes() < POOLED_BYTES {
        POOLED.set(Some(interpreter));
    }
}

/// Forgets what has been compiled.
pub fn clear() {
    POOLED.set(None);
}
