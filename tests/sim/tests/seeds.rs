//! The meta-test, then seeds: no other result of the simulator is believed before a seed has been shown to be a run.

use std::process::{Command, Output};

use quoris_sim::coverage::{Coverage, Event};

fn quoris_sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quoris-sim")).args(arguments).output().expect("the simulator runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn one_seed_is_one_run() {
    for seed in ["1", "2", "3"] {
        let (first, second) =
            (stdout(&quoris_sim(&[seed, "--trace"])), stdout(&quoris_sim(&[seed, "--trace"])));
        let differs = first.lines().zip(second.lines()).position(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed} is not one run: its two traces part at this line");
        assert_eq!(first.len(), second.len(), "one trace of seed {seed} is longer");
        assert!(first.lines().count() > 100, "a trace that shows next to nothing proves nothing");
    }
}

#[test]
fn another_seed_is_another_run() {
    assert_ne!(quoris_sim(&["1", "--trace"]).stdout, quoris_sim(&["2", "--trace"]).stdout);
}

/// No invariant is violated in 200 runs, and between them they reach every rare event.
#[test]
fn every_invariant_holds() {
    let output = quoris_sim(&["1000..1200"]);
    let said = stdout(&output);
    assert!(output.status.success(), "{said}");
    let mut coverage = Coverage::default();
    let line = said.lines().rev().find_map(|line| line.strip_prefix("coverage "));
    coverage.add_line(line.expect("a line of coverage"));
    // About one run in a hundred fills a log: that is asked of 1,000 seeds (`campaign.rs`), not of these.
    let asked = |event: &&Event| **event != Event::LogFull;
    let missed: Vec<&Event> =
        Event::ALL.iter().filter(asked).filter(|event| coverage.of(**event) == 0).collect();
    assert!(missed.is_empty(), "no run reached {missed:?}");
}

/// The power fails within an operation of each kind, of one node or of all, and nothing that was acknowledged is lost.
#[test]
fn crash_points_lose_nothing() {
    let output = quoris_sim(&["1..4", "--crash-points", "--every", "29"]);
    let said = stdout(&output);
    assert!(output.status.success(), "{said}");
    let hit = |what: &str| said.lines().any(|line| line.starts_with(&format!("crashed in {what}")));
    let missed: Vec<&str> = ["write, log", "fsync, log", "fsync of directory, snapshots", "write, snapshots"]
        .into_iter()
        .filter(|what| !hit(what))
        .collect();
    assert!(missed.is_empty(), "no crash within {missed:?}:\n{said}");
}
