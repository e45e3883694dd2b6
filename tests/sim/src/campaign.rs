//! Many simulations, each in a process of its own, some at a time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::{Command, ExitCode, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use quoris_sim::coverage::{Coverage, Event};

use crate::Options;

/// What came of them.
#[derive(Default)]
struct Tally {
    run: u64,
    failed: u64,
    coverage: Coverage,
    /// What crash points have hit.
    crashed_in: BTreeMap<String, u64>,
}

/// Runs every seed; prints those that fail, and what all of them have reached.
pub fn seeds(seeds: Range<u64>, options: &Options) -> ExitCode {
    let mut common: Vec<String> = options.only.iter().map(|kind| format!("--only={kind:?}")).collect();
    common.extend(options.plant.iter().map(|bug| format!("--plant={bug:?}")));
    let runs = seeds.map(|seed| [vec![seed.to_string()], common.clone()].concat());
    run_all(runs, options)
}

/// Runs every seed's short run with each of its crash points.
pub fn crash_points(seeds: Range<u64>, options: &Options) -> ExitCode {
    let mut runs = Vec::new();
    for seed in seeds {
        let output = child(&[seed.to_string(), "--crash-at=none".into()]);
        let said = output.as_ref().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let said = said.unwrap_or_else(|error| format!("cannot run it: {error}"));
        let Some(ops) = said.lines().find_map(|line| line.strip_prefix("operations ")) else {
            println!("FAILED {seed} --crash-at none\n{said}");
            return ExitCode::FAILURE;
        };
        for (node, ops) in (1..).zip(ops.split(' ').filter_map(|ops| ops.parse::<u64>().ok())) {
            // Each seed begins elsewhere, so that several that leave some out leave out different ones.
            for op in (seed % options.every..ops).step_by(options.every as usize) {
                let at = |suffix| vec![seed.to_string(), format!("--crash-at={node}:{op}{suffix}")];
                runs.extend([at(""), at(":all")]);
            }
        }
    }
    run_all(runs.into_iter(), options)
}

/// This program once more, with other arguments.
fn child(arguments: &[String]) -> std::io::Result<Output> {
    Command::new(std::env::current_exe()?).args(arguments).output()
}

fn run_all(runs: impl Iterator<Item = Vec<String>> + Send, options: &Options) -> ExitCode {
    let (queue, tally, enough) = (Mutex::new(runs), Mutex::new(Tally::default()), AtomicBool::new(false));
    let next = || queue.lock().expect("no holder panics").next().filter(|_| !enough.load(Ordering::Relaxed));
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                while let Some(arguments) = next() {
                    let output = child(&arguments);
                    let failed =
                        note(&mut tally.lock().expect("no holder panics"), &arguments.join(" "), output);
                    enough.fetch_or(failed && options.plant.is_some(), Ordering::Relaxed);
                }
            });
        }
    });
    let tally = tally.into_inner().expect("no holder panics");
    println!("{} simulations, {} failed", tally.run, tally.failed);
    println!("coverage {}", tally.coverage.line());
    for (what, times) in tally.crashed_in {
        println!("crashed in {what}: {times}");
    }
    let missed: Vec<&Event> = Event::ALL.iter().filter(|event| tally.coverage.of(**event) == 0).collect();
    // Of so many runs with faults of all kinds every event is asked.
    let all_asked = tally.run >= 1000 && options.only.is_empty() && !options.crash_points;
    if all_asked && !missed.is_empty() {
        println!("FAILED: no run reached {missed:?}");
        return ExitCode::FAILURE;
    }
    if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Notes what a run said; whether it failed.
fn note(tally: &mut Tally, arguments: &str, output: std::io::Result<Output>) -> bool {
    tally.run += 1;
    let (success, said) = match output {
        Ok(output) => (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => (false, format!("cannot run it: {error}")),
    };
    for line in said.lines() {
        if let Some(line) = line.strip_prefix("coverage ") {
            tally.coverage.add_line(line);
        } else if let Some(what) = line.strip_prefix("crashed in ") {
            *tally.crashed_in.entry(what.into()).or_default() += 1;
        }
    }
    if !success {
        tally.failed += 1;
        println!("FAILED {arguments}; again: quoris-sim {arguments} --trace\n{said}");
    }
    !success
}
