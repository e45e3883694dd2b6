//! `quoris-sim`: runs simulations, each from its seed and in a process of its own.

use std::ops::Range;
use std::process::{Command, ExitCode, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use quoris_raft::planted::{self, Bug};
use quoris_sim::coverage::Coverage;
use quoris_sim::plan::Kind;

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
    /// Have faults of these kinds alone, by their names in quoris_sim::plan, separated by commas.
    #[arg(long, value_delimiter = ',', value_parser = kind_named)]
    only: Vec<Kind>,
    /// Plant a bug, by its name in quoris_raft::planted. Of many seeds, stop at the first that finds it.
    #[arg(long, value_parser = bug_named)]
    plant: Option<Bug>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match parse(&options.seeds) {
        Some(Seeds::One(seed)) => one(seed, &options),
        Some(Seeds::Many(seeds)) => many(seeds, &options),
        None => refuse(&format!("seeds: got '{}', takes a number or a range such as 1..201", options.seeds)),
    }
}

fn refuse(wrong: &str) -> ExitCode {
    eprintln!("{wrong}");
    ExitCode::from(2)
}

fn kind_named(name: &str) -> Result<Kind, String> {
    let named = |kind: &&Kind| format!("{kind:?}") == name;
    Kind::ALL.iter().find(named).copied().ok_or_else(|| format!("takes some of {:?}", Kind::ALL))
}

fn bug_named(name: &str) -> Result<Bug, String> {
    if !planted::POSSIBLE {
        return Err("this build can have no bug planted: it is a release build".into());
    }
    let named = |bug: &&Bug| format!("{bug:?}") == name;
    Bug::ALL.iter().find(named).copied().ok_or_else(|| format!("takes one of {:?}", Bug::ALL))
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

fn one(seed: u64, options: &Options) -> ExitCode {
    if let Some(bug) = options.plant {
        planted::plant(bug);
    }
    // No panic is expected, on whatever task: there is no state to go on with.
    std::panic::set_hook(Box::new(move |panic| {
        println!("seed {seed}: VIOLATION nothing panics: {panic}");
        std::process::exit(1);
    }));
    let report = match quoris_sim::run::run(seed, &options.only, options.trace) {
        Ok(report) => report,
        Err(error) => {
            println!("seed {seed}: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    for violation in report.violations.iter().take(10) {
        println!("seed {seed}: VIOLATION {violation}");
    }
    let history = &report.history;
    println!(
        "seed {seed}: {} faults, {} writes acknowledged, {} unknown, {} reads, {} violations",
        report.faults,
        history.acknowledged,
        history.unknown,
        history.reads,
        report.violations.len()
    );
    println!("coverage {}", report.coverage.line());
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What came of many seeds.
#[derive(Default)]
struct Tally {
    run: u64,
    failed: u64,
    coverage: Coverage,
}

/// Runs every seed in a process of its own, some at a time; prints those that fail.
fn many(seeds: Range<u64>, options: &Options) -> ExitCode {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return refuse(&format!("cannot find this program to run it again: {error}")),
    };
    let (queue, tally, enough) = (Mutex::new(seeds), Mutex::new(Tally::default()), AtomicBool::new(false));
    let next = || queue.lock().expect("no holder panics").next().filter(|_| !enough.load(Ordering::Relaxed));
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                while let Some(seed) = next() {
                    let mut command = Command::new(&program);
                    command.arg(seed.to_string());
                    command.args(options.only.iter().map(|kind| format!("--only={kind:?}")));
                    command.args(options.plant.iter().map(|bug| format!("--plant={bug:?}")));
                    let output = command.output();
                    let failed = note(&mut tally.lock().expect("no holder panics"), seed, output);
                    enough.fetch_or(failed && options.plant.is_some(), Ordering::Relaxed);
                }
            });
        }
    });
    let tally = tally.into_inner().expect("no holder panics");
    println!("{} simulations, {} failed", tally.run, tally.failed);
    println!("coverage {}", tally.coverage.line());
    if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Notes what a run said; whether it failed.
fn note(tally: &mut Tally, seed: u64, output: std::io::Result<Output>) -> bool {
    tally.run += 1;
    let (code, said) = match output {
        Ok(output) => (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => (None, format!("cannot run it: {error}")),
    };
    let success = code == Some(0);
    if let Some(line) = said.lines().find_map(|line| line.strip_prefix("coverage ")) {
        tally.coverage.add_line(line);
    }
    if !success {
        tally.failed += 1;
        println!("FAILED {seed}; again: quoris-sim {seed} --trace\n{said}");
    }
    !success
}
