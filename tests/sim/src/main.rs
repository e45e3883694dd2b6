//! `quoris-sim`: runs simulations, each from its seed and in a thread of its own.

mod campaign;

use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use quoris_raft::planted::{self, Bug};
use quoris_sim::plan::{CrashPoint, Kind, Plan};
use quoris_sim::workload::table::Table;

/// As the product's own: simulations allocate as much as nodes do.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs simulations of a whole quoris cluster.
#[derive(Parser)]
struct Options {
    /// One seed, or a range such as 1..201 (its end excluded).
    seeds: String,
    /// Print every call, outcome and fault (one seed, or with --here).
    #[arg(long)]
    trace: bool,
    /// Print what the nodes log, too, as this filter says (one seed only), such as openraft=debug.
    #[arg(long)]
    log: Option<String>,
    /// Simulations at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Run all seeds in this process, one after the other.
    #[arg(long)]
    here: bool,
    /// Note in this file what has been run, and leave out what it says has been.
    #[arg(long, conflicts_with_all = ["plant", "crash_points"])]
    ledger: Option<PathBuf>,
    /// Have faults of these kinds alone, by their names in quoris_sim::plan, separated by commas.
    #[arg(long, value_delimiter = ',', value_parser = kind_named)]
    only: Vec<Kind>,
    /// Plant a bug, by its name in quoris_raft::planted. Of many seeds, stop at the first that finds it.
    #[arg(long, value_parser = bug_named)]
    plant: Option<Bug>,
    /// The short run for crash points, with the power failing within one operation of a disk: NODE:OPERATION, or
    /// NODE:OPERATION:all for all nodes at once, or none (one seed only).
    #[arg(long, value_parser = crash_point)]
    crash_at: Option<CrashAt>,
    /// For each seed, that run with each crash point that it has, for one node and for all.
    #[arg(long, conflicts_with = "plant")]
    crash_points: bool,
    /// Take only every so many of them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
}

/// The short run for crash points, perhaps with one.
#[derive(Clone, Copy)]
struct CrashAt(Option<CrashPoint>);

fn main() -> ExitCode {
    let options = Options::parse();
    match parse(&options.seeds) {
        Some(Seeds::One(seed)) if options.crash_points => campaign::crash_points(seed..seed + 1, &options),
        Some(Seeds::One(seed)) => here(seed..seed + 1, &options),
        Some(Seeds::Many(seeds)) if options.crash_points => campaign::crash_points(seeds, &options),
        Some(Seeds::Many(seeds)) if options.here => here(seeds, &options),
        Some(Seeds::Many(seeds)) => campaign::seeds(seeds, &options),
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

fn crash_point(text: &str) -> Result<CrashAt, String> {
    let point = || {
        let (text, all) = match text.strip_suffix(":all") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let (node, op) = text.split_once(':')?;
        Some(CrashPoint { node: node.parse().ok()?, op: op.parse().ok()?, all })
    };
    match text {
        "none" => Ok(CrashAt(None)),
        _ => point().map(|point| CrashAt(Some(point))).ok_or("takes none, 1:20 or 1:20:all".into()),
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

/// A simulation's stack, in bytes.
const STACK: usize = 8 << 20;

/// Runs the seeds one after the other, each in a thread of its own: nothing that one leaves in its thread reaches the next.
fn here(seeds: Range<u64>, options: &Options) -> ExitCode {
    if let Some(filter) = &options.log {
        // No times of their own: a line stands below the trace's line of its moment.
        let format = tracing_subscriber::fmt().with_env_filter(filter).without_time().with_ansi(false);
        format.init();
    }
    let table = match Table::load() {
        Ok(table) => Arc::new(table),
        Err(error) => return refuse(&format!("the golden scripts: {error}")),
    };
    let (mut all_passed, mut threads) = (true, 0);
    for seed in seeds {
        let place = seed % campaign::PER_PROCESS;
        if threads > place {
            return refuse("--here: takes seeds without a multiple of 50 after the first");
        }
        (threads..place).for_each(|_| let_a_thread_go_by());
        threads = place + 1;
        if options.here {
            println!("{}{seed}", campaign::BEGINS);
        }
        let passed = std::thread::scope(|scope| {
            let run = || {
                let_task_numbers_go_by();
                one(seed, Arc::clone(&table), options)
            };
            let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run);
            thread.expect("a thread").join().expect("its panics end the process")
        });
        if options.here && passed {
            println!("{}", campaign::PASSED);
        }
        all_passed &= passed;
    }
    if all_passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `select!` of the crate futures tries its branches in an order that begins, in each thread, with how many threads of the
/// process have used it before: to be a run, a seed needs a place in its process, which is its remainder.
fn let_a_thread_go_by() {
    let select = || {
        futures::executor::block_on(async {
            let (mut one, mut other) = (futures::future::ready(()), futures::future::ready(()));
            futures::select! { () = one => {}, () = other => {} }
        });
    };
    std::thread::spawn(select).join().expect("it does next to nothing");
}

/// A runtime that ends drops its tasks by their numbers modulo a few, and the process counts them: each simulation begins
/// at a multiple.
fn let_task_numbers_go_by() {
    const MULTIPLE: u64 = 64;
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let next = || runtime.spawn(async {}).id().to_string().parse::<u64>().expect("a number");
    while !next().is_multiple_of(MULTIPLE) {}
}

/// Runs a seed and says what it has shown; whether nothing is wrong.
fn one(seed: u64, table: Arc<Table>, options: &Options) -> bool {
    if let Some(bug) = options.plant {
        planted::plant(bug);
    }
    // No panic is expected, on whatever task: there is no state to go on with.
    std::panic::set_hook(Box::new(move |panic| {
        println!("seed {seed}: VIOLATION nothing panics: {panic}");
        std::process::exit(1);
    }));
    let plan = match options.crash_at {
        Some(CrashAt(point)) => Plan::with_crash_point(seed, point),
        None => Plan::of(seed, &options.only),
    };
    let report = quoris_sim::run::run(seed, plan, table, options.trace);
    let mut told: Vec<&str> = Vec::new();
    for violation in &report.violations {
        let invariant = violation.split(':').next().unwrap_or_default();
        // A few of each: one that is broken once often is again and again.
        if told.iter().filter(|other| **other == invariant).count() < 3 {
            told.push(invariant);
            println!("seed {seed}: VIOLATION {violation}");
        }
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
    if let Some(CrashAt(_)) = options.crash_at {
        println!("operations {}", report.ops.iter().map(u64::to_string).collect::<Vec<_>>().join(" "));
        println!("crashed in {}", report.crashed_in.as_deref().unwrap_or("nothing"));
    }
    report.violations.is_empty()
}
