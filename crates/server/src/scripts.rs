//! Scripts that only read, at work beside everything else: how long they may be, and who ends them.
//!
//! Such a script has a view of the keys that stays as it is, so nothing waits for it: neither its group nor another client.
//! Most need less than a moment and run where they were asked for. One that needs more is begun again beside the runtime's
//! tasks, as one of few, until it ends, SCRIPT KILL or FUNCTION KILL ends it, or its time has run out.
//!
//! Scripts that may write run in apply, on every replica, and end by their budget: no node may end them alone. So the leader
//! tries one out first that it does not know to be short, beside its group as if it only read. While it does, the script can
//! be killed; and one that does not end within its budget never enters the log.
//!
//! A long script holds up nobody. Who wants others to be told BUSY all the same, as by Redis, sets `busy-reply-threshold`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quoris_engine::acl::User;
use quoris_engine::command::Verb;
use quoris_engine::machine::Read;
use quoris_engine::script::scripts::sha1_hex;
use quoris_engine::script::{Answered, Budget, Ending, ReadOnly, Stop};
use quoris_engine::{Call, CommandError, Reply, command};
use quoris_raft::env::Cpu;
use quoris_raft::group::Group;
use quoris_raft::planted::{Bug, is_planted};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use crate::acl_log::Context;
use crate::clients::Client;
use crate::forward;
use crate::limits;
use crate::server::Server;
use crate::session::Behalf;

const NONE_RUNS: CommandError = CommandError::Text("NOTBUSY No scripts in execution right now.");

const UNKILLABLE: CommandError = CommandError::Text(
    "UNKILLABLE The script may write, so it runs on every replica and cannot be killed. It ends by its budget.",
);

const SCRIPT_RUNS: CommandError = CommandError::Text(
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
);

const FUNCTION_RUNS: CommandError = CommandError::Text(
    "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.",
);

const NO_PLACE: CommandError = CommandError::Text(
    "BUSY this node runs as many long scripts as it may. SCRIPT KILL and FUNCTION KILL end them.",
);

/// The scripts that this node runs.
pub struct Scripts {
    /// Those that have a place, in the order in which they began.
    running: Mutex<BTreeMap<u64, Running>>,
    /// Places for long ones.
    places: Semaphore,
    /// Calls of scripts that may write and have no answer yet.
    writing: AtomicUsize,
    /// Those that may write and have needed less than a moment when they were tried out.
    short: Mutex<BTreeSet<String>>,
    stopping: AtomicBool,
}

/// A long script.
struct Running {
    name: String,
    is_function: bool,
    words: Vec<Bytes>,
    began: Instant,
    stop: Stop,
}

/// Takes a script off the list when it has ended, or nobody waits for it any more: then it ends.
struct Listed<'a>(&'a Scripts, u64);

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        if let Some(script) = self.0.running().remove(&self.1) {
            script.stop.stop(Ending::Unwanted);
        }
    }
}

/// Counts a call of a script that may write.
pub struct Writing<'a>(&'a Scripts);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.writing.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Scripts {
    /// None runs. As many long ones may as there are threads to spare.
    pub fn new(cpu: &dyn Cpu) -> Scripts {
        Scripts {
            running: Mutex::default(),
            places: Semaphore::new(cpu.threads()),
            writing: AtomicUsize::new(0),
            short: Mutex::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Ends all of them, and those that come later.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.running().values().for_each(|script| script.stop.stop(Ending::Unwanted));
    }

    /// To be held while `calls` are on their way through the log; `None` if no script is among them.
    pub fn writing(&self, calls: &[Call]) -> Option<Writing<'_>> {
        calls.iter().any(|call| is_script(&call.args)).then(|| {
            self.writing.fetch_add(1, Ordering::Relaxed);
            Writing(self)
        })
    }

    /// SCRIPT KILL, or FUNCTION KILL, for what this node runs.
    fn kill(&self, functions: bool) -> Result<Reply, CommandError> {
        let running = self.running();
        let mut any = false;
        for script in running.values().filter(|script| script.is_function == functions) {
            script.stop.stop(if functions { Ending::FunctionKill } else { Ending::ScriptKill });
            any = true;
        }
        match any {
            true => Ok(Reply::OK),
            false if self.writing.load(Ordering::Relaxed) > 0 => Err(UNKILLABLE),
            false if !running.is_empty() && functions => Err(SCRIPT_RUNS),
            false if !running.is_empty() => Err(FUNCTION_RUNS),
            false => Err(NONE_RUNS),
        }
    }

    /// FUNCTION STATS' `running_script`: the function that has run longest.
    pub fn shown_in(&self, stats: Reply) -> Reply {
        let running = self.running();
        let shown = running.values().find(|script| script.is_function).map(|script| {
            let words = script.words.iter().cloned().map(Reply::Bulk).collect();
            let duration_ms = script.began.elapsed().as_millis() as i64;
            Reply::Map(vec![
                (Reply::bulk("name"), Reply::bulk(&script.name)),
                (Reply::bulk("command"), Reply::Array(words)),
                (Reply::bulk("duration_ms"), Reply::Int(duration_ms)),
            ])
        });
        match (stats, shown) {
            (Reply::Map(mut fields), Some(shown)) if !fields.is_empty() => {
                fields[0].1 = shown;
                Reply::Map(fields)
            }
            (stats, _) => stats,
        }
    }

    /// What everybody else is told while a script has run for longer than `threshold_ms`; 0: nothing, ever.
    pub fn busy(&self, threshold_ms: u64) -> Option<CommandError> {
        let is_long = |script: &&Running| script.began.elapsed() > Duration::from_millis(threshold_ms);
        let running = (threshold_ms > 0).then(|| self.running())?;
        let long = running.values().find(is_long)?;
        Some(if long.is_function { FUNCTION_RUNS } else { SCRIPT_RUNS })
    }

    /// Whether the script that `words` call need not be tried out.
    pub fn is_short(&self, words: &[Bytes]) -> bool {
        self.short().contains(&name_in(words))
    }

    /// The code of functions has changed: of none it is known how long it takes.
    pub fn functions_have_changed(&self) {
        self.short().clear();
    }

    fn note_short(&self, words: &[Bytes]) {
        let mut short = self.short();
        if short.len() >= limits::SHORT_SCRIPTS {
            short.clear();
        }
        short.insert(name_in(words));
    }

    fn short(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.short.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, script: &ReadOnly, call: &Call) -> (Stop, Listed<'_>) {
        let stop = Stop::default();
        let mut running = self.running();
        let number = running.last_key_value().map_or(0, |(last, _)| last + 1);
        let listed = Running {
            name: script.name().to_string(),
            is_function: script.is_function(),
            words: call.args.clone(),
            began: Instant::now(),
            stop: stop.clone(),
        };
        running.insert(number, listed);
        drop(running);
        if self.stopping.load(Ordering::Relaxed) {
            stop.stop(Ending::Unwanted);
        }
        (stop, Listed(self, number))
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<u64, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `words` call a script.
pub fn is_script(words: &[Bytes]) -> bool {
    command::resolve(words).is_ok_and(|resolved| resolved.command.runs_script())
}

/// Under which name a script is remembered: its SHA-1, or its function's name.
fn name_in(words: &[Bytes]) -> String {
    match words {
        [command, body, ..] if command.eq_ignore_ascii_case(b"eval") => sha1_hex(body),
        [_, name, ..] => String::from_utf8_lossy(name).to_ascii_lowercase(),
        _ => String::new(),
    }
}

/// Tries out the script that `call` has `group` run in the log, unless it is known to be short. The error that the client is
/// told if it must not enter the log; else for how long it is to wait for its answer, because the script has called DEBUG SLEEP.
pub async fn rehearse(
    server: &Server,
    group: &Group,
    call: &Call,
    behalf: &Behalf,
) -> Result<Duration, Reply> {
    if !is_script(&call.args) || server.scripts.is_short(&call.args) {
        return Ok(Duration::ZERO);
    }
    let seed = server.env.rng.next_u64();
    let rehearsal = group.with_machine(|machine| machine.rehearsal(call, seed));
    let rehearsal = rehearsal.map(|script| Box::new(script.under(behalf.rights.clone())));
    let Some(script) = rehearsal else { return Ok(Duration::ZERO) };
    let settings = server.settings.keep();
    let bytes = settings.script_memory as usize;
    let moment = Budget { instructions: limits::SCRIPT_MOMENT, bytes, ..Budget::default() };
    if script.answer(moment, None).is_some() {
        server.scripts.note_short(&call.args);
        return Ok(Duration::ZERO);
    }
    let too_long = script.too_long();
    let whole = Budget { instructions: settings.script_instructions, ..moment };
    match run_long(server, script, call, whole).await? {
        None => Err(too_long),
        Some(answered) if answered.stopped => Err(answered.reply),
        Some(answered) if is_planted(Bug::RehearsalAnswers) && !group.is_leader() => Err(answered.reply),
        // Whatever it came to: what counts is what it comes to in the log.
        Some(answered) => Ok(slept(&answered)),
    }
}

/// The replies to `calls`, which have been read: those that are scripts are run, under the rights of `user`.
pub async fn replies(
    server: &Server,
    reads: Vec<Read>,
    calls: &[Call],
    user: &Option<Arc<User>>,
) -> Vec<Reply> {
    let mut replies = Vec::with_capacity(reads.len());
    for (read, call) in reads.into_iter().zip(calls) {
        replies.push(match read {
            Read::Reply(reply) => reply,
            Read::Script(script) => run(server, *script, call, user).await,
        });
    }
    replies
}

async fn run(server: &Server, script: ReadOnly, call: &Call, user: &Option<Arc<User>>) -> Reply {
    let script = Box::new(script.under(user.clone()));
    let told = async |answered: Answered| {
        if let (Some(refused), Some(user)) = (&answered.denied, user) {
            let client = Client::nobody(user.name.clone()).line();
            server.acl_log.refused(refused, Context::Lua, &user.name, client);
        }
        told(server, answered).await
    };
    let bytes = server.settings.get().script_memory as usize;
    let budget = move |instructions| Budget { instructions, bytes, ..Budget::default() };
    if let Some(answered) = script.answer(budget(limits::SCRIPT_MOMENT), None) {
        return told(answered).await;
    }
    match run_long(server, script, call, budget(u64::MAX)).await {
        Ok(answered) => {
            told(answered.expect("a script without a budget of instructions ends with an answer")).await
        }
        Err(refused) => refused,
    }
}

/// Runs a script beside the runtime's tasks: what it gave, `None` if it needs more instructions than `budget` has; or the error
/// if it got no place.
async fn run_long(
    server: &Server,
    script: Box<ReadOnly>,
    call: &Call,
    budget: Budget,
) -> Result<Option<Answered>, Reply> {
    let patience = Duration::from_millis(limits::SCRIPT_PLACE_MS);
    // Never closed: who gets no place has waited too long.
    let Ok(Ok(_place)) = tokio::time::timeout(patience, server.scripts.places.acquire()).await else {
        return Err(Reply::Error(NO_PLACE));
    };
    let (stop, _listed) = server.scripts.enter(&script, call);
    let (tell, mut told) = oneshot::channel();
    let own_stop = stop.clone();
    let mut work = server.env.cpu.run(Box::new(move || {
        // The receiver waits until the job is done.
        drop(tell.send(script.answer(budget, Some(own_stop))));
    }));
    let limit = Duration::from_millis(server.settings.get().script_read_limit_ms);
    if tokio::time::timeout(limit, &mut work).await.is_err() {
        stop.stop(Ending::Time);
        work.await;
    }
    Ok(told.try_recv().expect("a job tells before it is done"))
}

/// Waits, if there is anything to wait for.
pub async fn wait(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

/// For how long a script's caller is to wait, as if it had slept.
fn slept(answered: &Answered) -> Duration {
    Duration::from_millis(answered.slept_ms.min(limits::DEBUG_SLEEP_MS))
}

async fn told(server: &Server, answered: Answered) -> Reply {
    if answered.has_read {
        server.tracking.script_has_read();
    }
    wait(slept(&answered)).await;
    answered.reply
}

/// SCRIPT KILL and FUNCTION KILL. A plain client's script may run on any node, so all are asked for it.
pub async fn kill(server: &Server, verb: Verb, plain: bool) -> Reply {
    let functions = verb == Verb::FunctionKill;
    let here = server.scripts.kill(functions).unwrap_or_else(Reply::Error);
    if !plain {
        return here;
    }
    let word = if functions { "FUNCTION" } else { "SCRIPT" };
    let nodes = server.node.nodes();
    let others = nodes.iter().filter(|node| node.id != server.node.id());
    let ask = |node: &quoris_engine::entry::NodeInfo| {
        let (id, call) = (node.id, Call::new([word, "KILL"]));
        async move { forward::ask(server, id, call, false).await }
    };
    let mut answers = futures::future::join_all(others.map(ask)).await;
    answers.insert(0, here);
    worst_or_ok(answers)
}

/// That one has been killed; else what stands against it, wherever that is; else that none runs.
fn worst_or_ok(answers: Vec<Reply>) -> Reply {
    let is_none =
        |reply: &Reply| matches!(reply, Reply::Error(error) if error.to_string().starts_with("NOTBUSY"));
    if answers.iter().any(|reply| !reply.is_error()) {
        return Reply::OK;
    }
    answers.iter().find(|reply| !is_none(reply)).cloned().unwrap_or(Reply::Error(NONE_RUNS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_kill_is_enough_and_a_doubt_is_told() {
        let none = || Reply::Error(NONE_RUNS);
        let away = || Reply::Error(CommandError::TryAgain("node 3 cannot be reached".to_string()));
        // As another node's answer is read.
        assert_eq!(worst_or_ok(vec![none(), Reply::bulk("OK"), away()]), Reply::OK);
        assert_eq!(worst_or_ok(vec![none(), away()]), away());
        assert_eq!(worst_or_ok(vec![none(), Reply::Error(UNKILLABLE)]), Reply::Error(UNKILLABLE));
        assert_eq!(worst_or_ok(vec![none(), none()]), none());
    }
}
