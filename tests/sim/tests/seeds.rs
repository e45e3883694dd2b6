//! The meta-test, then seeds: no other result of the simulator is believed before a seed has been shown to be a run.

use std::process::{Command, Output};

fn quoris_sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quoris-sim")).args(arguments).output().expect("the simulator runs")
}

#[test]
fn one_seed_is_one_run() {
    for seed in ["1", "2", "3"] {
        let (first, second) = (quoris_sim(&[seed, "--trace"]), quoris_sim(&[seed, "--trace"]));
        let lines = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
        let (first, second) = (lines(&first), lines(&second));
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

#[test]
fn nothing_acknowledged_is_lost() {
    let output = quoris_sim(&["1000..1200"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
