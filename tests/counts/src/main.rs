//! The steps of a command's way through quoris, one at a time and on fixed inputs, for a tool that counts instructions.
//!
//! `quoris-counts` alone lists the steps; with a name it prepares that step's input, runs it inside [`counted`], and
//! prints how many commands that was. The tool is told to count inside that function only (see `tests/counts/counts.py`).
//!
//! Inputs must stay as they are: to change one is to change what its baseline means.

use std::hint::black_box;

use anyhow::{Context as _, Result};

mod bank;
mod steps;

// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is counted is what happens in here.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
    // Otherwise this call would be a jump, and the function never be left.
    black_box(());
}

fn main() -> Result<()> {
    let Some(wanted) = std::env::args().nth(1) else {
        steps::ALL.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    };
    let (_, step) = steps::ALL.iter().find(|(name, _)| *name == wanted).context("no such step")?;
    println!("{}", step());
    Ok(())
}
