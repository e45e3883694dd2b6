//! What the server notes of calls beside running them: who monitors, tracks, pauses, and how long calls take.
//!
//! All of it is off, or a counter, for a client that asks for none of it.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use quoris_engine::args::Args;
use quoris_engine::command::{Command, Flags, Gather, Run, Verb};
use quoris_engine::hash_slot::slot_of;
use quoris_engine::{CommandError, Reply};
use tokio::time::Instant;

use crate::client_memory::Held;
use crate::clients::Client;
use crate::config::Config;
use crate::memory;
use crate::resp::Protocol;
use crate::route::{Place, Route};
use crate::server::Server;
use crate::session::{Kind, Session};
use crate::tracking::Mode;
use crate::transaction::{self, Transaction};

impl Route {
    /// The row of the call's command.
    pub fn row(&self) -> &'static Command {
        match self {
            Route::Session(resolved, _) => resolved.command,
            Route::Gather(row) | Route::Group(row, _) => row,
        }
    }
}

impl Server {
    /// Whether a call waits while writes are paused. Beside those that write, as in Redis: MIGRATE, what publishes,
    /// and PFCOUNT.
    pub(crate) fn is_held_with_writes(&self, row: &Command, words: &[Bytes]) -> bool {
        if matches!(row.run, Run::Session(Verb::Migrate | Verb::Publish | Verb::Spublish))
            || row.name == "pfcount"
        {
            return true;
        }
        // What SCRIPT and ACL change is no key.
        let of_script = words.first().is_some_and(|word| word.eq_ignore_ascii_case(b"script"));
        let of_keys = !of_script && row.gather != Gather::Meta;
        row.writes(words) && of_keys && !(row.runs_script() && self.writes_nothing(row, words))
    }

    /// CLIENT UNPAUSE: calls go on, and what was due meanwhile is gone before they do.
    pub(crate) async fn unpause(&self) -> Reply {
        let was_on = self.pause.is_on();
        self.pause.end();
        if was_on {
            futures::future::join_all(self.node.groups().iter().map(|group| group.remove_due())).await;
        }
        Reply::OK
    }

    /// Whether a script or a function that is called by its name has declared that it writes nothing.
    fn writes_nothing(&self, row: &Command, words: &[Bytes]) -> bool {
        // Whichever group runs it if it has no keys: it was loaded into all.
        let slot = row.keys.of(words).next().map_or(0, |key| slot_of(key));
        self.node.group_of(slot).with_machine(|machine| machine.scripts().writes_nothing(words))
    }

    /// Has the groups note events, or no longer, as somebody here needs them.
    pub fn observe(&self) {
        // Held while the groups are told, so that two who change their minds do not leave them of two minds.
        let mut observing = self.observing.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = self.settings.get().notify_keyspace_events.is_on() || self.tracking.is_on();
        if *observing != wanted {
            *observing = wanted;
            self.node.groups().iter().for_each(|group| group.observe(wanted));
        }
    }

    /// Tells clients who count on this node to lead a group when it does so no longer.
    pub(crate) fn watch_leadership(self: &Arc<Server>) {
        for group in self.node.groups() {
            let (server, group) = (Arc::downgrade(self), Arc::clone(group));
            tokio::spawn(async move {
                while group.lost_leadership().await {
                    let Some(server) = server.upgrade() else { return };
                    server.pubsub.cede(|slot| server.node.group_of(slot).id() == group.id());
                    // What changes now may be learnt late here.
                    server.tracking.all_changed();
                }
            });
        }
    }

    /// Tells them, too, when slots have moved to a group that another node leads.
    pub(crate) fn watch_slots(self: &Arc<Server>) {
        let (server, mut changes) = (Arc::downgrade(self), self.node.slots().changes());
        tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                let Some(server) = server.upgrade() else { return };
                let node = &server.node;
                let is_elsewhere =
                    |slot| !node.slots().place(slot).is_moving() && !node.group_of(slot).is_leader();
                server.pubsub.cede(is_elsewhere);
            }
        });
    }

    /// Forgets all that `client` has asked to be sent.
    pub(crate) fn forget(&self, client: &Client) {
        self.pubsub.forget(client);
        self.monitors.remove(client.id);
        if self.tracking.stop(client.id) {
            self.observe();
        }
    }

    /// Notes which keys these calls of `client` use now: those that only look at keys, none.
    pub(crate) fn note_use<'a>(
        &self,
        client: &Client,
        now: Instant,
        calls: impl Iterator<Item = (&'static Command, &'a [Bytes])>,
    ) {
        let no_touch = client.state().no_touch;
        let counts = |(row, _): &(&Command, &[Bytes])| {
            (!no_touch || row.name == "touch") && !LOOKS_ONLY.contains(&row.name)
        };
        self.memory.access.used(now, calls.filter(counts).flat_map(|(row, words)| row.keys.of(words)));
    }

    /// Notes that a call of `client` took `usec`. `words`: if they have been kept.
    pub(crate) fn ran(
        &self,
        client: &Client,
        row: &'static Command,
        words: Option<&[Bytes]>,
        usec: u64,
        failed: bool,
    ) {
        self.ran_under(&self.settings.get(), client, row, words, usec, failed);
    }

    /// [`Server::ran`] under such settings.
    pub(crate) fn ran_under(
        &self,
        settings: &Config,
        client: &Client,
        row: &'static Command,
        words: Option<&[Bytes]>,
        usec: u64,
        failed: bool,
    ) {
        self.stats.ran(row, usec, failed, settings.latency_tracking);
        let now_ms = || self.env.clock.now_ms();
        if let Some(words) = words
            && usec as i64 >= settings.slowlog_log_slower_than_us
            && settings.slowlog_log_slower_than_us >= 0
            && !row.flags.contains(Flags::SKIP_SLOWLOG)
        {
            self.slowlog.note(client, words, usec, now_ms(), settings.slowlog_max_len as usize);
        }
        let threshold_ms = settings.latency_monitor_threshold_ms;
        if threshold_ms > 0 && usec / 1000 >= threshold_ms {
            let event = if row.flags.contains(Flags::FAST) { "fast-command" } else { "command" };
            self.latency.note(event, usec / 1000, now_ms());
        }
    }
}

impl Session {
    /// Whether CLIENT PAUSE holds a call back now, and if so whether as one that writes.
    pub(crate) fn is_held(&self, route: &Result<Route, CommandError>, words: &[Bytes]) -> Option<bool> {
        let pause = &self.server.pause;
        if !pause.is_on() {
            return None;
        }
        let route = route.as_ref().ok()?;
        let writes = match (route, &self.transaction) {
            (Route::Session(_, Verb::Exec), Some(transaction)) => {
                transaction.is_held_with_writes(&self.server)
            }
            _ => self.server.is_held_with_writes(route.row(), words),
        };
        pause.holds(writes).then_some(writes)
    }

    /// Whether there is memory for a call, which is made if need be; and notes which keys it uses, unless that is noted when
    /// it runs.
    pub(crate) async fn has_room_for(
        &mut self,
        route: Route,
        words: &[Bytes],
        config: &Config,
    ) -> Result<Route, CommandError> {
        let row = route.row();
        // Queued calls count when they are queued.
        if self.transaction.is_some() || !is_in_run(&route) {
            self.server.note_use(&self.client, Instant::now(), std::iter::once((row, words)));
        }
        if config.maxmemory == 0 {
            return Ok(route);
        }
        let (runs_here, may_grow) = match (&route, &self.transaction) {
            // What is queued takes memory, too, whatever it is.
            (route, Some(_)) if transaction::is_queued(route) => (true, true),
            (Route::Group(_, seat), _) => (seat.place == Place::Here, row.flags.contains(Flags::DENYOOM)),
            (Route::Session(_, Verb::Exec), Some(transaction)) => (true, transaction.may_grow()),
            (Route::Gather(row), _) => (true, row.flags.contains(Flags::DENYOOM)),
            (Route::Session(..), _) => return Ok(route),
        };
        // Whoever runs it elsewhere looks at what there is there.
        if !runs_here {
            return Ok(route);
        }
        // Whatever is called: scripts are told whether there is room, and what must go goes before the next reply.
        let has_room = memory::make_room(&Arc::clone(&self.server)).await;
        if may_grow && !has_room {
            return Err(match &route {
                Route::Session(..) => self.abort(&CommandError::OutOfMemory),
                _ => CommandError::OutOfMemory,
            });
        }
        Ok(route)
    }

    /// What EXEC answers that may not run: the transaction is over.
    fn abort(&mut self, why: &CommandError) -> CommandError {
        self.transaction = None;
        self.watched.clear();
        self.note_queued();
        transaction::discarded(why)
    }

    /// Whether the call may run while a script does.
    pub(crate) fn check_busy(
        &mut self,
        route: Route,
        words: &[Bytes],
        config: &Config,
    ) -> Result<Route, CommandError> {
        let threshold_ms = config.busy_reply_threshold_ms;
        // What other nodes send is not their clients' doing alone.
        if threshold_ms == 0 || self.kind == Kind::Relay || is_for_the_busy(&route, words) {
            return Ok(route);
        }
        match self.server.scripts.busy(threshold_ms) {
            None => Ok(route),
            Some(busy) if matches!(route, Route::Session(_, Verb::Exec)) => Err(self.abort(&busy)),
            Some(busy) => Err(busy),
        }
    }

    /// Whether the call may run now, in what the connection is doing; and notes it for those who want to know.
    pub(crate) fn admit(&mut self, route: Route, words: &[Bytes]) -> Result<Route, CommandError> {
        let row = route.row();
        self.check_subscribed(&route)?;
        if self.tracking.is_some() && self.transaction.is_none() {
            if matches!(route, Route::Group(..)) {
                self.note_reads(row, words);
            }
            let keeps = match &route {
                Route::Session(_, Verb::Multi) => true,
                Route::Session(resolved, _) => resolved.container.is_some_and(|row| row.name == "client"),
                Route::Gather(_) | Route::Group(..) => false,
            };
            if !keeps {
                self.caching_is_over();
            }
        }
        if self.server.monitors.is_on() && !row.flags.intersects(Flags::ADMIN.union(Flags::SKIP_MONITOR)) {
            let limit = self.server.settings.get().output_limits.pubsub;
            self.server.monitors.show(&self.client.addr, words, self.server.env.clock.now_ms(), limit);
        }
        Ok(route)
    }

    /// In RESP2 a client that listens has no way to tell replies from messages: it may only do what its answers allow for.
    fn check_subscribed(&self, route: &Route) -> Result<(), CommandError> {
        if self.protocol == Protocol::Resp3 || !self.is_subscribed() {
            return Ok(());
        }
        let (name, allowed) = match route {
            Route::Session(resolved, verb) => (resolved.full_name(), is_for_subscribers(*verb)),
            other => (other.row().name.to_string(), false),
        };
        if allowed {
            return Ok(());
        }
        Err(CommandError::Message(format!(
            "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
        )))
    }

    /// Whether it listens to anything.
    pub(crate) fn is_subscribed(&self) -> bool {
        self.client.state().subscriptions != [0; 3]
    }

    /// The keys of a call that is about to run are tracked, if the client wants that and the call reads.
    pub(crate) fn note_reads(&self, row: &Command, words: &[Bytes]) {
        if !self.tracking.is_some_and(|mode| mode.notes_reads()) {
            return;
        }
        if row.runs_script() {
            self.server.tracking.note_script(self.client.id, row.keys.of(words));
        } else if !row.flags.contains(Flags::WRITE) {
            self.server.tracking.note_reads(self.client.id, row.keys.of(words));
        }
    }

    /// All calls that [`Session::note_reads`] was told of have their answers.
    pub(crate) fn scripts_have_run(&self) {
        if self.tracking.is_some() {
            self.server.tracking.scripts_have_run(self.client.id);
        }
    }

    /// The call that CLIENT CACHING was for, or the transaction, begins or will never run.
    pub(crate) fn caching_is_over(&mut self) {
        if let Some(mode) = self.tracking.filter(|mode| mode.caching) {
            self.set_tracking(Some(Mode { caching: false, ..mode }));
        }
    }

    /// Notes how many calls wait for EXEC, for CLIENT LIST.
    pub(crate) fn note_queued(&self) {
        self.client.state().queued = self.transaction.as_ref().map(Transaction::count);
    }

    /// Notes what it holds, of which `buffers` knows its connection's part.
    pub(crate) fn note_held(&self, buffers: impl FnOnce(&mut Held)) {
        let mut state = self.client.state();
        let listens = state.subscriptions.iter().sum();
        let held = &mut state.memory;
        buffers(held);
        held.queued = self.transaction.as_ref().map_or(0, Transaction::bytes);
        held.listens = Held::of_shared_names(listens);
        if self.watched.is_empty() {
            held.watched = 0;
        }
        drop(state);
        self.client.recount();
    }

    /// Notes how it tracks, for itself and for CLIENT LIST.
    pub(crate) fn set_tracking(&mut self, mode: Option<Mode>) {
        self.tracking = mode;
        self.client.state().tracking = mode;
    }
}

/// Whether a call is run with others of its turn ([`crate::segment`]).
pub(crate) fn is_in_run(route: &Route) -> bool {
    matches!(route, Route::Group(row, _) if !row.flags.contains(Flags::BLOCKING))
}

/// Commands that do not count as a use of their keys, as in Redis; OBJECT's and DEBUG's by the names of their subcommands.
const LOOKS_ONLY: [&str; 13] = [
    "encoding",
    "exists",
    "expiretime",
    "freq",
    "idletime",
    "object",
    "pexpiretime",
    "pttl",
    "refcount",
    "restore",
    "ttl",
    "type",
    "usage",
];

/// Whether a call asks what this node alone knows of keys' use, or brings it along: the group knows nothing of it.
pub(crate) fn asks_of_use(row: &Command) -> bool {
    matches!(row.name, "idletime" | "freq" | "restore")
}

/// The reply to send to such a call instead of the group's.
pub(crate) fn answer_of_use(server: &Server, words: &[Bytes], reply: Reply) -> Reply {
    let access = &server.memory.access;
    let args = Args(words);
    let by_frequency = server.settings.get().maxmemory_policy.ends_with("-lfu");
    const NOT_WITH_LFU: &str = "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when \
             switching between policies at runtime LRU and LFU data will take some time to adjust.";
    match reply {
        Reply::Int(_) if args.is(1, "idletime") && by_frequency => {
            Reply::Error(CommandError::Text(NOT_WITH_LFU))
        }
        Reply::Int(_) if args.is(1, "idletime") => Reply::Int(access.idle_s(args.bytes(2)) as i64),
        Reply::Error(CommandError::Text(_)) if args.is(1, "freq") && by_frequency => {
            Reply::Int(i64::from(access.used_often(args.bytes(2))))
        }
        Reply::Simple(_) if args.is(0, "restore") => {
            let given = |name| (4..args.len()).find(|i| args.is(*i, name)).and_then(|i| args.int(i + 1).ok());
            let (idle_s, often) = (given("idletime").unwrap_or(0), given("freq").unwrap_or(0));
            access.restored(args.bytes(1), idle_s as u64, often as u32);
            reply
        }
        reply => reply,
    }
}

/// Whether a call runs although a script has made the node busy: what sets a connection up, begins or gives up a transaction,
/// and what looks at scripts or ends them.
fn is_for_the_busy(route: &Route, words: &[Bytes]) -> bool {
    match route {
        // Without a snapshot, as in Redis.
        Route::Session(_, Verb::Shutdown) => words
            .iter()
            .any(|word| word.eq_ignore_ascii_case(b"nosave") || word.eq_ignore_ascii_case(b"abort")),
        Route::Session(_, verb) => matches!(
            verb,
            Verb::Auth
                | Verb::Discard
                | Verb::FunctionKill
                | Verb::Hello
                | Verb::Multi
                | Verb::Quit
                | Verb::Reset
                | Verb::ScriptKill
                | Verb::Unwatch
                | Verb::Watch
        ),
        Route::Gather(row) => row.name == "stats" && words[0].eq_ignore_ascii_case(b"function"),
        Route::Group(..) => false,
    }
}

fn is_for_subscribers(verb: Verb) -> bool {
    matches!(
        verb,
        Verb::Subscribe
            | Verb::Psubscribe
            | Verb::Ssubscribe
            | Verb::Unsubscribe
            | Verb::Punsubscribe
            | Verb::Sunsubscribe
            | Verb::Ping
            | Verb::Quit
            | Verb::Reset
    )
}

/// What a connection asked to be sent ends with its session, however that ends.
impl Drop for Session {
    fn drop(&mut self) {
        self.server.forget(&self.client);
    }
}
