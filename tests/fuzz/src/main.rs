//! `quoris-fuzz TARGET`: runs a fuzzer for as long as wished; `--case SEED` runs one case again.

use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use quoris_fuzz::{TARGETS, Target};

#[derive(Parser)]
struct Arguments {
    /// entry, rdb, resp or snapshot
    target: String,
    /// How long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The first case's seed; the others follow
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Runs this case alone
    #[arg(long)]
    case: Option<u64>,
}

/// The case that is running, for the message when it fails.
static CASE: AtomicU64 = AtomicU64::new(0);

fn main() {
    let arguments = Arguments::parse();
    let Some(target) = TARGETS.iter().find(|target| target.name == arguments.target) else {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("no such target; there are {}", names.join(", "));
        std::process::exit(2);
    };
    let name = target.name;
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        eprintln!("failed: quoris-fuzz {name} --case {}", CASE.load(Ordering::Relaxed));
        report(info);
    }));
    match arguments.case {
        Some(case) => run(target, case),
        None => run_for(target, arguments.seed, Duration::from_secs(arguments.seconds)),
    }
}

fn run_for(target: &Target, first: u64, limit: Duration) {
    let began = Instant::now();
    let mut case = first;
    while began.elapsed() < limit {
        run(target, case);
        case += 1;
    }
    println!("{}: {} cases, from seed {first}", target.name, case - first);
}

fn run(target: &Target, case: u64) {
    CASE.store(case, Ordering::Relaxed);
    target.run(case);
}
