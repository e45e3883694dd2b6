//! Many simulations, in processes of their own, some at a time.

mod ledger;

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::{Command, ExitCode, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use quoris_sim::coverage::{Coverage, Event};

use crate::Options;
use ledger::Ledger;

/// Most simulations of one process, one after the other: what a process costs is shared out, and what one leaks is small.
pub const PER_PROCESS: u64 = 50;

/// What came of them.
#[derive(Default)]
struct Tally {
    run: u64,
    failed: u64,
    /// In how many the power of a node failed within an operation of its disk.
    crashed: u64,
    coverage: Coverage,
    /// What crash points have hit.
    crashed_in: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.run += other.run;
        self.failed += other.failed;
        self.crashed += other.crashed;
        self.coverage.add_all(&other.coverage);
        for (what, times) in &other.crashed_in {
            *self.crashed_in.entry(what.clone()).or_default() += times;
        }
    }
}

/// The simulations of one process.
struct Batch {
    seeds: Range<u64>,
    /// What is asked of each of them.
    common: Vec<String>,
}

/// Runs every seed; prints those that fail, and what all of them have reached.
pub fn seeds(seeds: Range<u64>, options: &Options) -> ExitCode {
    let mut common: Vec<String> = options.only.iter().map(|kind| format!("--only={kind:?}")).collect();
    common.extend(options.plant.iter().map(|bug| format!("--plant={bug:?}")));
    let share = seeds.end.saturating_sub(seeds.start) / (4 * options.jobs.max(1) as u64);
    // The first seed that finds a planted bug is to be the last.
    let step = if options.plant.is_some() { 1 } else { share.clamp(1, PER_PROCESS) };
    let (mut batches, mut start) = (Vec::new(), seeds.start);
    while start < seeds.end {
        let end = seeds.end.min(start + step).min((start / PER_PROCESS + 1) * PER_PROCESS);
        batches.push(Batch { seeds: start..end, common: common.clone() });
        start = end;
    }
    run_all(batches, options)
}

/// Runs every seed's short run with each of its crash points.
pub fn crash_points(seeds: Range<u64>, options: &Options) -> ExitCode {
    let mut batches = Vec::new();
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
                let at = |suffix| vec![format!("--crash-at={node}:{op}{suffix}")];
                batches.extend([at(""), at(":all")].map(|common| Batch { seeds: seed..seed + 1, common }));
            }
        }
    }
    run_all(batches, options)
}

/// This program once more, with other arguments.
fn child(arguments: &[String]) -> std::io::Result<Output> {
    let mut command = Command::new(std::env::current_exe()?);
    // The memory of one simulation is used again by the next one: to give it back and ask for it costs a twentieth of all.
    command.env("MIMALLOC_PURGE_DELAY", "-1").args(arguments).output()
}

fn run_all(mut batches: Vec<Batch>, options: &Options) -> ExitCode {
    let mut tally = Tally::default();
    let ledger = match options.ledger.as_deref().map(Ledger::open).transpose() {
        Ok(ledger) => ledger,
        Err(error) => {
            println!("the ledger: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(ledger) = &ledger {
        batches.retain(|batch| match ledger.of(&batch.seeds) {
            Some(earlier) => {
                tally.add(earlier);
                false
            }
            None => true,
        });
    }
    let (queue, tally, enough) = (Mutex::new(batches.into_iter()), Mutex::new(tally), AtomicBool::new(false));
    let next = || queue.lock().expect("no holder panics").next().filter(|_| !enough.load(Ordering::Relaxed));
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                while let Some(batch) = next() {
                    let (of_batch, failures) = run(&batch);
                    print!("{failures}");
                    enough.fetch_or(of_batch.failed > 0 && options.plant.is_some(), Ordering::Relaxed);
                    let mut tally = tally.lock().expect("no holder panics");
                    tally.add(&of_batch);
                    if let Some(ledger) = &ledger {
                        ledger
                            .note(&batch.seeds, &of_batch, &failures)
                            .expect("a ledger that can be written");
                    }
                }
            });
        }
    });
    verdict(&tally.into_inner().expect("no holder panics"), options)
}

fn verdict(tally: &Tally, options: &Options) -> ExitCode {
    let Tally { run, failed, crashed, .. } = tally;
    println!(
        "{run} simulations, {failed} failed; in {crashed} the power failed within an operation of a disk"
    );
    println!("coverage {}", tally.coverage.line());
    for (what, times) in &tally.crashed_in {
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

/// Runs a batch; its tally, and what is to be said of those that failed. A run that ends its process is followed by
/// another process for the rest.
fn run(batch: &Batch) -> (Tally, String) {
    let (mut tally, mut failures) = (Tally::default(), String::new());
    let mut seeds = batch.seeds.clone();
    while !seeds.is_empty() {
        let head = [format!("{}..{}", seeds.start, seeds.end), "--here".into()];
        let said = match child(&[&head[..], &batch.common].concat()) {
            Ok(output) => [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat(),
            Err(error) => format!("{BEGINS}{}\ncannot run it: {error}", seeds.start),
        };
        let begun = seeds.start;
        for run in said.split(BEGINS).skip(1) {
            let arguments = [&[seeds.start.to_string()][..], &batch.common].concat().join(" ");
            note(&mut tally, &mut failures, &arguments, run);
            seeds.start += 1;
        }
        if seeds.start == begun {
            note(&mut tally, &mut failures, &begun.to_string(), &said);
            seeds.start += 1;
        }
    }
    (tally, failures)
}

/// What a process that runs several seeds says before each, and its seed.
pub const BEGINS: &str = "begins: seed ";

/// What it says last of one that has shown nothing wrong.
pub const PASSED: &str = "passed";

fn note(tally: &mut Tally, failures: &mut String, arguments: &str, said: &str) {
    tally.run += 1;
    for line in said.lines() {
        if let Some(line) = line.strip_prefix("coverage ") {
            let mut coverage = Coverage::default();
            coverage.add_line(line);
            tally.crashed += u64::from(coverage.of(Event::PowerCutInOperation) > 0);
            tally.coverage.add_all(&coverage);
        } else if let Some(what) = line.strip_prefix("crashed in ") {
            *tally.crashed_in.entry(what.into()).or_default() += 1;
        }
    }
    if !said.lines().any(|line| line == PASSED) {
        tally.failed += 1;
        failures.push_str(&format!("FAILED {arguments}; again: quoris-sim {arguments} --trace\n{said}\n"));
    }
}
