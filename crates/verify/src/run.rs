//! The command itself: asks for the cluster, shows how it goes, and says what came of it.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::gauge::Gauge;
use crate::plan::Plan;
use crate::runner::{Record, Stage, start};
use crate::target::Target;
use crate::verdict::{Judgement, Report};

/// How the command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Every workload is valid.
    Valid = 0,
    /// An anomaly was found.
    Anomaly = 1,
    /// What is asked for cannot be.
    Usage = 2,
    /// No anomaly was found, and not everything could be run.
    NotRun = 3,
}

/// Runs `plan`. Progress goes to standard error, the verdict to standard output.
pub async fn run(plan: Plan) -> Exit {
    if let Some(directory) = &plan.output
        && let Err(error) = std::fs::create_dir_all(directory)
    {
        complain(&format!("cannot make {}: {error}", directory.display()));
        return Exit::Usage;
    }
    let target = match Target::find(&plan.nodes, &plan.password).await {
        Ok(target) => target,
        Err(unreachable) => {
            complain(&unreachable.to_string());
            return Exit::NotRun;
        }
    };
    LocalSet::new().run_until(perform(plan, target)).await
}

async fn perform(plan: Plan, target: Target) -> Exit {
    let (over, is_over) = watch::channel(false);
    let stage = Rc::new(Stage {
        target: Rc::new(target),
        prefix: format!("{}{:08x}:", plan.prefix, rand::random::<u32>()).into(),
        used: Rc::new(RefCell::default()),
        gauge: Rc::new(Gauge::default()),
        clients: usize::try_from(plan.clients).expect("the flag is bounded"),
        rate: plan.rate as f64,
        seed: plan.seed.unwrap_or_else(|| rand::random::<u32>().into()),
        began: Instant::now(),
        is_over,
    });
    announce(&plan, &stage);
    let running: Vec<_> = plan.kinds().into_iter().map(|kind| start(kind, stage.clone())).collect();
    let running: Vec<_> = running.into_iter().map(tokio::task::spawn_local).collect();
    let seconds = watch_over(&stage, Duration::from_secs(plan.seconds)).await;
    // Nobody listens if no client could begin.
    over.send_replace(true);
    let mut records = Vec::new();
    for record in running {
        records.push(record.await.expect("a workload does not panic"));
    }
    let keys_left = if plan.keep { stage.used.borrow().len() } else { stage.delete_keys().await };
    let report = Report {
        nodes: stage.target.addrs.clone(),
        prefix: stage.prefix.to_string(),
        seed: stage.seed,
        seconds,
        longest_pause_ms: stage.gauge.longest_pause().as_millis(),
        keys_left,
        workloads: records.iter().map(|record| record.judge()).collect(),
    };
    publish(&plan, &report, &records)
}

fn announce(plan: &Plan, stage: &Stage) {
    let what = if stage.target.is_cluster { "a cluster" } else { "no cluster" };
    let kinds: Vec<String> = plan.kinds().iter().map(ToString::to_string).collect();
    tell(&format!("{} ({what}): {}", stage.target.addrs.join(", "), kinds.join(", ")));
    tell(&format!("keys {}*, seed {}, {} s; hurt it now", stage.prefix, stage.seed, plan.seconds));
}

/// Shows how it goes until the time is up, or somebody is impatient. For how long it went, in seconds.
async fn watch_over(stage: &Stage, limit: Duration) -> f64 {
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    second.tick().await;
    let (deadline, interrupted) = (sleep(limit), tokio::signal::ctrl_c());
    tokio::pin!(deadline, interrupted);
    let mut before = [0; 3];
    loop {
        tokio::select! {
            () = &mut deadline => break,
            _ = &mut interrupted => break,
            _ = second.tick() => before = show_progress(stage, before),
        }
    }
    tell("the last reads, and the checkers …");
    stage.began.elapsed().as_secs_f64()
}

/// What this second brought, beside the counts before it.
fn show_progress(stage: &Stage, before: [u64; 3]) -> [u64; 3] {
    let counts = stage.gauge.counts();
    let [ok, fail, info] = std::array::from_fn(|n| counts[n] - before[n]);
    let (second, pause) = (stage.began.elapsed().as_secs(), stage.gauge.longest_pause().as_millis());
    tell(&format!(
        "{second:>4} s {ok:>7} ok {fail:>6} fail {info:>5} info   longest pause so far {pause:>5} ms"
    ));
    counts
}

/// Says what came of it, where it was asked for.
fn publish(plan: &Plan, report: &Report, records: &[Box<dyn Record>]) -> Exit {
    let text = if plan.json { report.to_json() } else { report.to_string() };
    if let Err(error) = print(&text) {
        complain(&format!("cannot write the verdict: {error}"));
    }
    if let Some(directory) = &plan.output
        && let Err(error) = save(directory, report, records)
    {
        complain(&format!("cannot write into {}: {error}", directory.display()));
    }
    match (plan.keep, report.keys_left) {
        (true, count) => tell(&format!("{count} keys are kept: {}*", report.prefix)),
        (false, 0) => {}
        (false, count) => complain(&format!("{count} keys could not be deleted: {}*", report.prefix)),
    }
    match report.judgement() {
        Judgement::Valid => Exit::Valid,
        Judgement::Anomaly => Exit::Anomaly,
        Judgement::Unknown => Exit::NotRun,
    }
}

fn save(directory: &Path, report: &Report, records: &[Box<dyn Record>]) -> io::Result<()> {
    records.iter().try_for_each(|record| record.save(directory))?;
    std::fs::write(directory.join("verdict.json"), report.to_json())?;
    std::fs::write(directory.join("verdict.txt"), report.to_string())
}

/// Who has read enough of it (`| head`) is content.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn tell(line: &str) {
    eprintln!("{line}");
}

fn complain(line: &str) {
    eprintln!("quoris: {line}");
}
