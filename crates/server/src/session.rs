//! One client's conversation: its calls in, their replies out, in order.
//!
//! Data calls are collected and run together ([`crate::segment`]), queued ([`crate::transaction`]) or wait for what is
//! not there yet ([`crate::blocking`]). Commands that the session runs itself, those that concern every group, and those
//! that may block are barriers: what came before has its reply before they run. While a call is blocked, later ones wait.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use quoris_engine::acl::{self, User};
use quoris_engine::args::Args;
use quoris_engine::command::{self, Command, Flags, Gather, Resolved, Verb};
use quoris_engine::{Call, CommandError, Reply, SlotId};
use quoris_raft::env::offload::beside;
use quoris_raft::types::GroupId;
use tokio::time::Instant;

use crate::acl_log::Context;
use crate::blocking::{self, Ending, Endings};
use crate::clients::Client;
use crate::config::Config;
use crate::config::kinds::Forward;
use crate::limits;
use crate::resp::decode::DecodeLimits;
use crate::resp::{Answer, Protocol, encoded_len};
use crate::route::{self, Access, Rights, Route, Seat};
use crate::save;
use crate::segment::{Caller, Segment};
use crate::server::Server;
use crate::tracking::Mode;
use crate::transaction::{self, Transaction, Watched};
use crate::{gather, meta, migrate, moves, replicas, scripts, shutdown, verbs, verify, wait};

/// Whether replies are sent (CLIENT REPLY).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    /// All.
    On,
    /// None.
    Off,
    /// Not the next one.
    SkipNext,
}

/// What a connection has shown itself to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It has said nothing that only a client of a cluster says: its calls are taken to where they belong.
    Plain,
    /// A cluster's client, which goes where it is told.
    Cluster,
    /// Another node, which forwards calls of its own clients.
    Relay,
}

/// The state of a conversation.
pub struct Session {
    /// The node's server.
    pub server: Arc<Server>,
    /// What others see of the client.
    pub client: Arc<Client>,
    /// The version of RESP it speaks.
    pub protocol: Protocol,
    /// Whether it has given the password.
    pub authenticated: bool,
    /// READONLY.
    pub readonly: bool,
    /// CLIENT REPLY.
    pub replies: Replies,
    /// CLIENT TRACKING.
    pub tracking: Option<Mode>,
    /// Whether the connection is to be closed when the replies so far are sent.
    pub closing: bool,
    /// What it has shown itself to be.
    pub kind: Kind,
    /// Of a relay: whose calls it brings.
    pub behalf: Behalf,
    /// Whose rights it has; looked at anew when `seen_users` is no longer the number of what is known.
    user: Arc<User>,
    seen_users: u64,
    /// Whether the user that connections have at first needs no password.
    default_is_open: bool,
    /// Whether this node has been told who the users are.
    is_told: bool,
    /// Whether what it calls is to be checked: its user may not do everything, or nobody knows.
    is_checked: bool,
    /// What has been queued since MULTI.
    pub transaction: Option<Transaction>,
    /// What WATCH remembers.
    pub watched: Watched,
    /// The groups that this connection has written to.
    pub written: BTreeSet<GroupId>,
    /// The call that has no answer yet, and blocks those behind it.
    blocked: Option<BoxFuture<'static, Answer>>,
    /// The slot of its keys.
    blocked_in: Option<SlotId>,
    /// Its answer, until it is sent.
    unblocked: Option<Answer>,
    /// Calls that have not begun.
    later: VecDeque<Vec<Bytes>>,
    /// Room for those that run together, between turns.
    segment: Segment,
}

/// For which client a relay brings calls.
#[derive(Clone, Default)]
pub struct Behalf {
    /// The mark of its writes, 0 if it does not care to know them.
    pub origin: u64,
    /// Under whose rights its scripts run; `None`: under everybody's.
    pub rights: Option<Arc<User>>,
}

impl Behalf {
    /// `FORWARDED [origin [user rule …]]`.
    pub fn parse(args: Args) -> Result<Behalf, CommandError> {
        let origin = if args.len() > 2 { args.int(2)?.cast_unsigned() } else { 0 };
        let rights = match args.from(3) {
            [] => None,
            [name, rules @ ..] => Some(User::described(name, rules).ok_or(CommandError::Syntax)?),
        };
        Ok(Behalf { origin, rights: rights.map(Arc::new) })
    }

    /// The call that says so at the other end.
    pub fn to_call(&self) -> Call {
        let mut words = vec![Bytes::from("QUORIS"), Bytes::from("FORWARDED")];
        words.push(self.origin.cast_signed().to_string().into());
        if let Some(user) = &self.rights {
            words.push(user.name.clone());
            words.extend(user.describe_rights());
        }
        Call { args: words }
    }
}

impl Session {
    /// A conversation with a client that has just connected.
    pub fn new(server: Arc<Server>, client: Arc<Client>) -> Session {
        let known = server.users.get();
        let user = Arc::clone(known.default_user());
        let (authenticated, is_checked) = (user.is_open(), !known.is_told || !user.is_almighty());
        Session {
            behalf: Behalf::default(),
            user,
            seen_users: known.number,
            default_is_open: authenticated,
            is_told: known.is_told,
            is_checked,
            server,
            client,
            protocol: Protocol::Resp2,
            authenticated,
            readonly: false,
            replies: Replies::On,
            tracking: None,
            closing: false,
            kind: Kind::Plain,
            transaction: None,
            watched: Watched::default(),
            written: BTreeSet::new(),
            blocked: None,
            blocked_in: None,
            unblocked: None,
            later: VecDeque::new(),
            segment: Segment::default(),
        }
    }

    /// What it may do now.
    pub fn access(&self) -> Access {
        self.access_under(&self.server.settings.get())
    }

    /// Whose rights it has.
    pub fn user(&self) -> &Arc<User> {
        &self.user
    }

    /// What its calls are to be checked against; `None`: it may do everything.
    pub fn rights(&self) -> Option<Rights<'_>> {
        self.is_checked.then(|| Rights { user: &self.user, is_told: self.is_told })
    }

    /// Takes note of it if users have changed: its own may be another now, or gone.
    pub fn follow_users(&mut self) {
        if self.seen_users != self.server.users.number() {
            self.look_at_users();
        }
    }

    #[cold]
    fn look_at_users(&mut self) {
        let known = self.server.users.get();
        if self.user.name != acl::RELAY {
            match known.get(&self.user.name) {
                Some(user) => self.user = Arc::clone(user),
                None => {
                    self.user = Arc::clone(known.default_user());
                    self.authenticated = false;
                    self.closing = true;
                }
            }
        }
        self.seen_users = known.number;
        self.default_is_open = known.default_user().is_open();
        self.is_told = known.is_told;
        self.is_checked = !self.user.is_almighty() || !known.is_told && self.user.name != acl::RELAY;
    }

    /// AUTH: whether it has the rights of the user `name` from now on.
    pub fn log_in(&mut self, name: &[u8], password: &[u8]) -> bool {
        let known = self.server.users.get();
        if name == acl::RELAY && known.is_relay_key(password) {
            self.become_user(Arc::new(User::almighty(acl::RELAY)), true);
            return true;
        }
        match known.get(name).filter(|user| user.lets_in(password)) {
            Some(user) => {
                self.become_user(Arc::clone(user), true);
                true
            }
            None => false,
        }
    }

    /// RESET: it has the rights that connections have at first.
    pub fn log_out(&mut self) {
        let user = Arc::clone(self.server.users.get().default_user());
        let authenticated = user.is_open();
        self.become_user(user, authenticated);
    }

    /// QUORIS FORWARDED: it has the rights of its node from now on, whatever becomes of the user by which it came.
    pub fn become_relay(&mut self) {
        self.kind = Kind::Relay;
        self.client.state().relay = true;
        self.become_user(Arc::new(User::almighty(acl::RELAY)), true);
    }

    fn become_user(&mut self, user: Arc<User>, authenticated: bool) {
        // Shown first: if the user goes just now, either its clients are found, or the change is seen here.
        self.client.state().user = user.name.clone();
        self.user = user;
        self.authenticated = authenticated;
        self.look_at_users();
    }

    /// What it may do under such settings. A password that is no longer required need not be given.
    fn access_under(&self, config: &Config) -> Access {
        let authenticated = self.authenticated || self.default_is_open;
        let debug = match config.enable_debug_command.as_str() {
            "local" => self.client.is_local(),
            value => value == "yes",
        };
        let plain = self.kind == Kind::Plain && config.forward != Forward::Never;
        let whole = plain && config.forward == Forward::All;
        Access { authenticated, readonly: self.readonly, debug, plain, whole }
    }

    /// For whom calls run.
    pub fn caller(&self) -> Caller {
        let origin = self.tracking.filter(|mode| mode.noloop).map_or(self.behalf.origin, |mode| mode.origin);
        let rights = match self.kind {
            Kind::Relay => self.behalf.rights.clone(),
            _ => self.is_checked.then(|| Arc::clone(&self.user)),
        };
        let behalf = Behalf { origin, rights };
        Caller { client: self.client.clone(), protocol: self.protocol, plain: self.access().plain, behalf }
    }

    /// What it may send now.
    pub fn decode_limits(&self) -> DecodeLimits {
        let config = self.server.settings.get();
        DecodeLimits {
            bulk_bytes: config.proto_max_bulk_len as i64,
            call_bytes: config.client_query_buffer_limit as usize,
            authenticated: self.access().authenticated,
        }
    }

    /// Takes a call, which runs behind those before it.
    pub fn push(&mut self, call: Vec<Bytes>) {
        self.later.push_back(call);
    }

    /// Whether a call waits for what is not there yet.
    pub fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// Ready when the blocked call has its answer, which [`Session::resume`] sends.
    pub async fn unblocked(&mut self) {
        if let Some(call) = &mut self.blocked {
            self.unblocked = Some(call.await);
            self.blocked = None;
            self.client.is_answered();
        }
    }

    /// Sends the answer of the call that was blocked, and goes on with those behind it.
    pub async fn resume(&mut self, out: &mut BytesMut) {
        if let Some(answer) = self.unblocked.take() {
            if let Some(slot) = self.blocked_in.take() {
                // Its slot may have moved meanwhile.
                self.written.insert(self.server.node.group_of(slot).id());
            }
            self.send(&answer, out);
        }
        self.run(out).await;
    }

    /// The connection takes no more calls: a blocked one is answered.
    pub fn stop(&mut self) {
        self.closing = true;
        self.client.end(Ending::Error);
    }

    /// The client is gone: has its blocked call forgotten by the group, so that nothing is given to nobody.
    pub async fn leave(&mut self) {
        if self.is_blocked() {
            self.client.end(Ending::Gone);
            self.unblocked().await;
        }
    }

    /// Runs the calls that it has and appends their replies to `out`, up to one that blocks.
    pub async fn run(&mut self, out: &mut BytesMut) {
        let mut segment = std::mem::take(&mut self.segment);
        let mut last = None;
        // Those of the turn, unless a call that runs by itself changes them.
        let mut config = self.server.settings.keep();
        // The places of slots by which the calls of a segment find their groups.
        let mut seen = self.server.node.slots().version();
        while !self.closing
            && !self.is_blocked()
            && let Some(words) = self.later.pop_front()
        {
            self.follow_users();
            if self.closing {
                break;
            }
            let mut routed =
                route::route(&self.server.node, &words, self.access_under(&config), self.rights());
            if self.must_wait_for_slots(&routed, seen) {
                // What came before this goes first, wherever it runs.
                self.finish(&mut segment, out).await;
                if let Ok(Route::Group(_, Seat { slot, .. })) = routed {
                    moves::settled(&self.server, slot).await;
                }
                seen = self.server.node.slots().version();
                routed = route::route(&self.server.node, &words, self.access_under(&config), self.rights());
            }
            if let Some(writes) = self.is_held(&routed, &words) {
                self.finish(&mut segment, out).await;
                self.client.state().held = true;
                self.server.pause.over(writes).await;
                self.client.state().held = false;
            }
            let routed = match routed {
                Ok(route) => self.has_room_for(route, &words, &config).await,
                refused => refused,
            };
            let routed = match routed {
                Ok(route) => replicas::admit(&self.server, route, &words, &config).await,
                refused => refused,
            };
            // What went to make room is told of before the reply of the call that made it, unless there are replies before it.
            if config.maxmemory > 0 && segment.is_empty() {
                self.client.mail.take(self.protocol, out);
            }
            let routed = routed.and_then(|route| self.check_busy(route, &words, &config));
            // With a write beside it, a script that only reads would run in the log, and one that may write is tried out
            // when what came before it is done.
            let apart = routed.as_ref().is_ok_and(|route| self.runs_apart(route, &words));
            if apart {
                self.finish(&mut segment, out).await;
            }
            match routed.and_then(|route| self.admit(route, &words)) {
                Ok(route) if self.transaction.is_some() && transaction::is_queued(&route) => {
                    segment.answer(self.queue(route, words));
                }
                Ok(Route::Group(row, seat)) if !row.flags.contains(Flags::BLOCKING) => {
                    last = Some(Resolved { command: row, container: None });
                    segment.add(row, seat, Call { args: words });
                    if apart {
                        self.finish(&mut segment, out).await;
                    }
                }
                Ok(route) => {
                    self.finish(&mut segment, out).await;
                    last = None;
                    self.barrier(route, words, out).await;
                    config = self.server.settings.keep();
                }
                Err(error) => {
                    if let CommandError::Denied(refused) = &error {
                        let user = &self.user.name;
                        self.server.acl_log.refused(refused, self.acl_context(), user, self.client.line());
                    }
                    self.server.stats.refused(words.first().and_then(|name| command::find(name)));
                    if let Some(transaction) = &mut self.transaction {
                        transaction.broken = true;
                    }
                    segment.answer(Answer::error(error));
                }
            }
        }
        if let Some(last) = last {
            self.used(last);
        }
        self.finish(&mut segment, out).await;
        segment.keep_little();
        self.segment = segment;
        if self.later.is_empty() && self.later.capacity() > limits::KEPT_CALLS {
            self.later = VecDeque::new();
        }
    }

    /// Whether a call is for a slot that no group serves now, or for any of which another may be known to serve it than of the
    /// calls before it: two calls for one slot are never under way to two groups.
    fn must_wait_for_slots(&self, routed: &Result<Route, CommandError>, seen: u64) -> bool {
        let slots = self.server.node.slots();
        let Ok(Route::Group(_, Seat { slot, .. })) = routed else { return false };
        slots.place(*slot).is_moving() || slots.version() != seen
    }

    /// Whether a call is a script that is not simply part of its run.
    fn runs_apart(&self, route: &Route, words: &[Bytes]) -> bool {
        let row = route.row();
        matches!(route, Route::Group(..))
            && row.runs_script()
            && (!row.writes(words) || !self.server.scripts.is_short(words))
            && self.transaction.is_none()
    }

    /// In what a call is refused now.
    pub fn acl_context(&self) -> Context {
        if self.transaction.is_some() { Context::Multi } else { Context::TopLevel }
    }

    /// Queues a call for EXEC.
    fn queue(&mut self, route: Route, words: Vec<Bytes>) -> Answer {
        let Some(transaction) = &mut self.transaction else { unreachable!("the caller has looked") };
        let queued = transaction.queue(route, words);
        self.note_queued();
        match queued {
            Ok(()) => Answer::Own(Reply::Simple("QUEUED")),
            Err(error) => {
                self.server.stats.refused(None);
                Answer::error(error)
            }
        }
    }

    /// Runs a call that nothing runs beside.
    async fn barrier(&mut self, route: Route, words: Vec<Bytes>, out: &mut BytesMut) {
        let answer = match route {
            Route::Session(resolved, verb) => {
                self.used(resolved);
                self.client.state().memory.call = encoded_len(&words);
                self.run_verb(resolved, verb, &words).await
            }
            Route::Gather(row) => {
                self.used(Resolved { command: row, container: None });
                Some(Answer::Own(self.gather(row, words).await))
            }
            Route::Group(row, seat) => {
                self.used(Resolved { command: row, container: None });
                self.written.insert(seat.group.id());
                self.blocked_in = Some(seat.slot);
                let (server, caller) = (self.server.clone(), self.caller());
                let call = Call { args: words };
                self.block(|endings| Box::pin(blocking::run(server, row, seat, call, caller, endings))).await;
                None
            }
        };
        if let Some(answer) = answer {
            self.send(&answer, out);
        }
        // What a command has the client sent (SUBSCRIBE) stands before the next reply.
        self.client.mail.take(self.protocol, out);
    }

    /// Runs a command of the session's own. No answer: the client has asked for none, or it comes later.
    async fn run_verb(&mut self, resolved: Resolved, verb: Verb, words: &[Bytes]) -> Option<Answer> {
        let in_cluster = resolved.container.unwrap_or(resolved.command).name == "cluster";
        if self.kind == Kind::Plain && (in_cluster || verb == Verb::Readonly) {
            self.kind = Kind::Cluster;
        }
        let began = Instant::now();
        let answer = match verb {
            Verb::Wait | Verb::Waitaof => match wait::Wanted::parse(verb, words) {
                Ok(wanted) => {
                    let wait = wait::Wait::new(self, wanted);
                    self.block(|endings| Box::pin(wait.run(endings))).await;
                    self.server.ran(&self.client, resolved.command, None, 0, false);
                    return None;
                }
                Err(error) => Some(Answer::error(error)),
            },
            Verb::Shutdown => match shutdown::Order::parse(words) {
                Ok(shutdown::Order::Stop(wanted)) => {
                    let server = self.server.clone();
                    self.block(|endings| Box::pin(shutdown::run(server, wanted, endings))).await;
                    return None;
                }
                Ok(shutdown::Order::Abort) => {
                    Some(Answer::Own(self.server.shutdown.abort().unwrap_or_else(Reply::Error)))
                }
                Err(error) => Some(Answer::error(error)),
            },
            Verb::Migrate => Some(migrate::migrate(self, words).await),
            Verb::Exec => Some(transaction::exec(self).await),
            Verb::Watch => Some(transaction::watch(self, &words[1..]).await),
            Verb::FunctionKill | Verb::ScriptKill => {
                let plain = self.access().plain;
                Some(Answer::Own(scripts::kill(&self.server, verb, plain).await))
            }
            Verb::QuorisAudit => Some(Answer::Own(verify::audit(&self.server, words).await)),
            Verb::QuorisMove => Some(Answer::Own(moves::move_slots(&self.server, words).await)),
            Verb::QuorisRebuild => Some(Answer::Own(verify::rebuild(&self.server, words).await)),
            Verb::QuorisDurable => Some(Answer::Own(wait::durable(&self.server, words))),
            Verb::QuorisGroup => Some(Answer::Own(gather::in_group(&self.server, words, &self.behalf).await)),
            Verb::QuorisTransaction => Some(transaction::for_relay(self, &words[2]).await),
            Verb::QuorisVersions => {
                let versions = transaction::versions_here(&self.server, &words[2..]).await;
                Some(Answer::Own(versions))
            }
            Verb::ClientUnpause => Some(Answer::Own(self.server.unpause().await)),
            Verb::Save => Some(Answer::Own(save::save(&self.server).await)),
            Verb::DebugSleep => Some(Answer::Own(verbs::debug::sleep(Args(words)).await)),
            verb => verbs::run(self, resolved, verb, words).map(Answer::Own),
        };
        let failed = answer.as_ref().is_some_and(Answer::is_error);
        let usec = began.elapsed().as_micros() as u64;
        self.server.ran(&self.client, resolved.command, Some(words), usec, failed);
        answer
    }

    /// Runs a command of the session's own in its place within a transaction.
    pub async fn run_queued_verb(&mut self, resolved: Resolved, verb: Verb, words: &[Bytes]) -> Answer {
        if matches!(verb, Verb::Wait | Verb::Waitaof) {
            // Nothing blocks in a transaction: the answer is what holds now.
            return match wait::Wanted::parse(verb, words) {
                Ok(wanted) => wait::Wait::new(self, wanted).now().await,
                Err(error) => Answer::error(error),
            };
        }
        // CLIENT REPLY has no reply to be without inside an array of replies.
        self.run_verb(resolved, verb, words).await.unwrap_or(Answer::Own(Reply::OK))
    }

    /// Runs a command over all keys.
    pub async fn gather(&mut self, row: &'static Command, words: Vec<Bytes>) -> Reply {
        let began = Instant::now();
        let reply = match row.gather {
            Gather::Meta => meta::run(&self.server, row, &words, self.access()).await,
            _ => gather::gather(&self.server, row, words.clone(), self.access(), &self.caller().behalf).await,
        };
        let usec = began.elapsed().as_micros() as u64;
        self.server.ran(&self.client, row, Some(&words), usec, reply.is_error());
        reply
    }

    /// Has what comes later wait for a call that can be ended from outside.
    async fn block(&mut self, call: impl FnOnce(Endings) -> BoxFuture<'static, Answer>) {
        let mut call = call(Endings::of(&self.client));
        // Begins at once: what another client sends after it should come after it.
        self.blocked = Some(match futures::poll!(&mut call) {
            Poll::Ready(answer) => Box::pin(std::future::ready(answer)),
            Poll::Pending => call,
        });
    }

    /// Runs what has been collected and sends its replies.
    async fn finish(&mut self, segment: &mut Segment, out: &mut BytesMut) {
        self.written.extend(segment.written());
        let moved_to = segment.run(&self.server, &self.caller()).await;
        self.written.extend(moved_to);
        self.scripts_have_run();
        if self.replies == Replies::On && segment.has_long_answer() {
            let answers = segment.take_answers().collect();
            self.send_beside(answers, out).await;
            return;
        }
        for answer in segment.take_answers() {
            self.send(&answer, out);
        }
    }

    /// Encodes answers, some of which take long, while other clients are served; they are let go of there, too.
    async fn send_beside(&mut self, answers: Vec<Answer>, out: &mut BytesMut) {
        answers.iter().for_each(|answer| self.server.stats.replied(answer));
        let (protocol, mut encoded) = (self.protocol, std::mem::take(out));
        let encode = move || {
            answers.iter().for_each(|answer| answer.encode(protocol, &mut encoded));
            encoded
        };
        *out = beside(&*self.server.env.cpu, encode).await;
    }

    /// Encodes an answer, if the client wants any.
    fn send(&mut self, answer: &Answer, out: &mut BytesMut) {
        self.server.stats.replied(answer);
        match self.replies {
            Replies::On => answer.encode(self.protocol, out),
            Replies::Off => {}
            Replies::SkipNext => self.replies = Replies::On,
        }
    }

    /// Notes what others see in CLIENT LIST.
    fn used(&self, resolved: Resolved) {
        let mut state = self.client.state();
        state.last = Some(resolved);
        state.active = Instant::now();
    }

    /// MULTI.
    pub fn begin(&mut self) -> Result<Reply, CommandError> {
        if self.transaction.is_some() {
            return Err(CommandError::Text("ERR MULTI calls can not be nested"));
        }
        self.transaction = Some(Transaction::default());
        self.note_queued();
        Ok(Reply::OK)
    }

    /// DISCARD.
    pub fn discard(&mut self) -> Result<Reply, CommandError> {
        if self.transaction.take().is_none() {
            return Err(CommandError::Text("ERR DISCARD without MULTI"));
        }
        self.watched.clear();
        self.note_queued();
        self.caching_is_over();
        Ok(Reply::OK)
    }
}
