//! `quoris-sim`: runs simulations, each from its seed and in a process of its own.

use std::ops::Range;
use std::process::{Command, ExitCode};

use clap::Parser;

/// Runs simulations of a whole quoris cluster.
#[derive(Parser)]
struct Options {
    /// One seed, or a range such as 1..201 (its end excluded).
    seeds: String,
    /// Print every call, outcome and fault (one seed only).
    #[arg(long)]
    trace: bool,
    /// Simulations at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match parse(&options.seeds) {
        Some(Seeds::One(seed)) => one(seed, options.trace),
        Some(Seeds::Many(seeds)) => many(seeds, options.jobs.max(1)),
        None => {
            eprintln!("seeds: got '{}', takes a number or a range such as 1..201", options.seeds);
            ExitCode::from(2)
        }
    }
}

enum Seeds {
    One(u64),
    Many(Range<u64>),
}

fn parse(text: &str) -> Option<Seeds> {
    match text.split_once("..") {
        Some((from, to)) => Some(Seeds::Many(from.parse().ok()?..to.parse().ok()?)),
        None => Some(Seeds::One(text.parse().ok()?)),
    }
}

fn one(seed: u64, trace: bool) -> ExitCode {
    let report = match quoris_sim::run::run(seed, trace) {
        Ok(report) => report,
        Err(error) => {
            println!("seed {seed}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let history = &report.history;
    for violation in &history.violations {
        println!("seed {seed}: {violation}");
    }
    println!(
        "seed {seed}: {} faults, {} writes acknowledged, {} unknown, {} reads, {} violations",
        report.faults,
        history.acknowledged,
        history.unknown,
        history.reads,
        history.violations.len()
    );
    if history.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs every seed in a process of its own, some at a time; prints those that fail.
fn many(seeds: Range<u64>, jobs: usize) -> ExitCode {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("cannot find this program to run it again: {error}");
            return ExitCode::FAILURE;
        }
    };
    let all: Vec<u64> = seeds.collect();
    let mut failed = 0;
    for some in all.chunks(jobs) {
        let runs: Vec<_> = std::thread::scope(|scope| {
            let run = |seed: &u64| {
                let (program, seed) = (program.clone(), *seed);
                scope.spawn(move || (seed, Command::new(program).arg(seed.to_string()).output()))
            };
            let running: Vec<_> = some.iter().map(run).collect();
            running.into_iter().filter_map(|run| run.join().ok()).collect()
        });
        for (seed, output) in runs {
            match output {
                Ok(output) if output.status.success() => {}
                Ok(output) => {
                    failed += 1;
                    let said = String::from_utf8_lossy(&output.stdout).into_owned();
                    println!("FAILED {seed}; again: quoris-sim {seed} --trace\n{said}");
                }
                Err(error) => {
                    failed += 1;
                    println!("FAILED {seed}: cannot run it: {error}");
                }
            }
        }
    }
    println!("{} simulations, {failed} failed", all.len());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
