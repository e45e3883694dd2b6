//! ACL LOG: calls of this node's clients that their users may not make, and log-ins that failed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quoris_engine::Reply;
use quoris_engine::acl::{Reason, Refused};
use quoris_raft::env::Clock;

use crate::config::Settings;

/// What happens again within this time, and is the same, is counted rather than noted.
const SAME_WITHIN_MS: u64 = 60_000;

/// So many of the latest are looked at for the same.
const LOOKED_AT: usize = 10;

/// In what a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// By itself.
    TopLevel,
    /// In a transaction.
    Multi,
    /// In a script.
    Lua,
}

impl Context {
    fn name(self) -> &'static str {
        match self {
            Context::TopLevel => "toplevel",
            Context::Multi => "multi",
            Context::Lua => "lua",
        }
    }
}

/// What was refused.
#[derive(Clone, Debug)]
struct Entry {
    count: i64,
    /// `command`, `key`, `channel` or `auth`.
    reason: &'static str,
    context: Context,
    object: Bytes,
    user: Bytes,
    at_ms: u64,
    /// As in CLIENT LIST.
    client: String,
}

impl Entry {
    fn is_same(&self, other: &Entry) -> bool {
        self.reason == other.reason
            && self.context == other.context
            && self.at_ms.abs_diff(other.at_ms) <= SAME_WITHIN_MS
            && self.object == other.object
            && self.user == other.user
    }
}

/// The latest of them, newest first.
pub struct AclLog {
    settings: Arc<Settings>,
    clock: Arc<dyn Clock>,
    entries: Mutex<VecDeque<Entry>>,
}

impl AclLog {
    /// An empty one.
    pub fn new(settings: Arc<Settings>, clock: Arc<dyn Clock>) -> AclLog {
        AclLog { settings, clock, entries: Mutex::default() }
    }

    /// Notes a call of `user` that was refused; `client`: its line in CLIENT LIST.
    pub fn refused(&self, refused: &Refused, context: Context, user: &Bytes, client: String) {
        let reason = match refused.reason {
            Reason::Command => "command",
            Reason::Key => "key",
            Reason::Channel => "channel",
        };
        self.note(reason, context, refused.object.clone(), user.clone(), client);
    }

    /// Notes that `command` did not log `user` in.
    pub fn not_logged_in(&self, command: &Bytes, context: Context, user: &Bytes, client: String) {
        self.note("auth", context, command.clone(), user.clone(), client);
    }

    fn note(&self, reason: &'static str, context: Context, object: Bytes, user: Bytes, client: String) {
        let at_ms = self.clock.now_ms();
        let mut entry = Entry { count: 1, reason, context, object, user, at_ms, client };
        let mut entries = self.lock();
        if let Some(at) = entries.iter().take(LOOKED_AT).position(|known| known.is_same(&entry)) {
            let known = entries.remove(at).expect("it is there");
            entry.count = known.count + 1;
        }
        entries.push_front(entry);
        entries.truncate(self.settings.get().acllog_max_len as usize);
    }

    /// Forgets all.
    pub fn reset(&self) {
        self.lock().clear();
    }

    /// The newest `count`, as ACL LOG tells of them.
    pub fn newest(&self, count: usize) -> Reply {
        let now_ms = self.clock.now_ms();
        let shown = |entry: &Entry| {
            let age_s = now_ms.saturating_sub(entry.at_ms) as f64 / 1000.0;
            Reply::Map(vec![
                (Reply::bulk("count"), Reply::Int(entry.count)),
                (Reply::bulk("reason"), Reply::bulk(entry.reason)),
                (Reply::bulk("context"), Reply::bulk(entry.context.name())),
                (Reply::bulk("object"), Reply::Bulk(entry.object.clone())),
                (Reply::bulk("username"), Reply::Bulk(entry.user.clone())),
                (Reply::bulk("age-seconds"), Reply::Double(age_s)),
                (Reply::bulk("client-info"), Reply::bulk(&entry.client)),
            ])
        };
        Reply::Array(self.lock().iter().take(count).map(shown).collect())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::config::Config;

    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now_ms(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn the_same_again_is_counted_for_a_minute() {
        let base = [("node-id", "1"), ("initial-cluster", "1=h:1@h:2"), ("acllog-max-len", "3")];
        let config = Config::load("", base).expect("settings");
        let clock = Arc::new(Hand(AtomicU64::new(1000)));
        let log = AclLog::new(Arc::new(Settings::new(config, None)), Arc::<Hand>::clone(&clock));
        let refused = |key: &'static str, context| {
            let refused = Refused { reason: Reason::Key, object: key.into() };
            log.refused(&refused, context, &"u".into(), String::new());
        };
        let counts = || {
            let Reply::Array(entries) = log.newest(10) else { panic!("an array") };
            let count = |entry: &Reply| match entry {
                Reply::Map(fields) => fields[0].1.clone(),
                _ => panic!("a map"),
            };
            entries.iter().map(count).collect::<Vec<_>>()
        };
        refused("a", Context::TopLevel);
        refused("b", Context::TopLevel);
        refused("a", Context::TopLevel);
        assert_eq!(counts(), [Reply::Int(2), Reply::Int(1)], "the newest first");
        refused("a", Context::Lua);
        clock.0.store(1000 + SAME_WITHIN_MS + 1, Ordering::Relaxed);
        refused("a", Context::TopLevel);
        assert_eq!(counts(), [Reply::Int(1), Reply::Int(1), Reply::Int(2)], "no more than three");
        log.reset();
        assert_eq!(counts(), []);
    }
}
