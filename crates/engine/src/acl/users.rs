//! All users, and how calls of ACL change them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::user::{DEFAULT, Defaults, User, hash};
use crate::entry::UserState;
use crate::error::CommandError;

/// Head of the word by which the proposer of a change tells that new users may use every channel: no rule holds a space.
const NEW_WITH_ALL_CHANNELS: &[u8] = b" new allchannels";

/// As whom another node is shown that brings its clients' calls. No user has this name.
pub const RELAY: &[u8] = b"(superuser)";

/// Head of the word by which the proposer of the first change gives what nodes know each other by.
const RELAY_KEY: &[u8] = b" relay ";

/// The users by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Users {
    by_name: BTreeMap<Bytes, Arc<User>>,
    /// With what a node logs in at another one, to bring the calls of its clients; empty until a user has been changed.
    relay_key: Bytes,
}

impl Default for Users {
    /// The user `default`, who may do everything.
    fn default() -> Users {
        let by_name = BTreeMap::from([(Bytes::from_static(DEFAULT), Arc::new(User::almighty(DEFAULT)))]);
        Users { by_name, relay_key: Bytes::new() }
    }
}

impl Users {
    /// The user of that name.
    pub fn get(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.by_name.get(name)
    }

    /// The user that connections have at first.
    pub fn default_user(&self) -> &Arc<User> {
        self.by_name.get(DEFAULT).expect("nobody removes it")
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<User>> {
        self.by_name.values()
    }

    /// With what a node logs in at another one; empty: with nothing, as long as no user has been changed.
    pub fn relay_key(&self) -> &Bytes {
        &self.relay_key
    }

    /// As a snapshot holds them; empty as long as there is but the user `default` as it was made.
    pub(crate) fn state(&self) -> (Vec<UserState>, Bytes) {
        if *self == Users::default() {
            return (Vec::new(), Bytes::new());
        }
        // Two that are equal are told alike, and the other way round: whatever came of a snapshot says the same again.
        let state = |user: &Arc<User>| UserState { name: user.name.clone(), rules: user.describe() };
        (self.iter().map(state).collect(), self.relay_key.clone())
    }

    /// What a snapshot held; `None` if those are no users.
    pub(crate) fn restored(states: &[UserState], relay_key: Bytes) -> Option<Users> {
        if states.is_empty() {
            return Some(Users::default());
        }
        let user = |state: &UserState| {
            Some((state.name.clone(), Arc::new(User::described(&state.name, &state.rules)?)))
        };
        let by_name: BTreeMap<_, _> = states.iter().map(user).collect::<Option<_>>()?;
        by_name.contains_key(DEFAULT).then_some(Users { by_name, relay_key })
    }
}

/// The users of a machine, and whether they have changed.
#[derive(Default)]
pub struct KnownUsers {
    users: Arc<Users>,
    changed: bool,
}

impl KnownUsers {
    pub(crate) fn new(users: Users) -> KnownUsers {
        KnownUsers { users: Arc::new(users), changed: true }
    }

    /// As they are now.
    pub fn get(&self) -> &Arc<Users> {
        &self.users
    }

    /// Somebody should look at them again.
    pub(crate) fn set_changed(&mut self) {
        self.changed = true;
    }

    /// Whether they have changed since this was last asked.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Applies `rules`, as [`prepared`], to a user, who is made if need be: all of them or none.
    pub(crate) fn set(&mut self, name: &Bytes, rules: &[Bytes]) -> Result<(), CommandError> {
        check_name(name)?;
        let mut defaults = Defaults::default();
        let mut relay_key = None;
        let mut plain = Vec::with_capacity(rules.len());
        for rule in rules {
            match (rule.strip_prefix(RELAY_KEY), &rule[..] == NEW_WITH_ALL_CHANNELS) {
                (Some(key), _) => relay_key = Some(rule.slice_ref(key)),
                (None, true) => defaults.all_channels = true,
                (None, false) => plain.push(rule.clone()),
            }
        }
        let user = changed(self.users.get(name).map(|user| &**user), name, &plain, defaults)?;
        let users = Arc::make_mut(&mut self.users);
        users.by_name.insert(name.clone(), Arc::new(user));
        if let Some(key) = relay_key.filter(|_| users.relay_key.is_empty()) {
            users.relay_key = key;
        }
        self.changed = true;
        Ok(())
    }

    /// Removes users: how many there were.
    pub(crate) fn remove(&mut self, names: &[Bytes]) -> Result<usize, CommandError> {
        if names.iter().any(|name| name == DEFAULT) {
            return Err(CommandError::Text("ERR The 'default' user cannot be removed"));
        }
        let users = Arc::make_mut(&mut self.users);
        let removed = names.iter().filter(|name| users.by_name.remove(*name).is_some()).count();
        self.changed |= removed > 0;
        Ok(removed)
    }
}

fn check_name(name: &[u8]) -> Result<(), CommandError> {
    match () {
        () if super::has_spaces(name) => {
            Err(CommandError::Text("ERR Usernames can't contain spaces or null characters"))
        }
        () if name == RELAY => {
            Err(CommandError::Text("ERR This is how other nodes are shown, and no user's name"))
        }
        () => Ok(()),
    }
}

/// `old`, or a new user, under `rules`.
fn changed(
    old: Option<&User>,
    name: &[u8],
    rules: &[Bytes],
    defaults: Defaults,
) -> Result<User, CommandError> {
    let mut user = old.cloned().unwrap_or_else(|| {
        let mut user = User::new(name);
        user.begin(defaults);
        user
    });
    for rule in rules {
        user.apply(rule, defaults).map_err(|error| {
            let rule = String::from_utf8_lossy(rule).replace(['\r', '\n'], " ");
            CommandError::Message(format!("ERR Error in ACL SETUSER modifier '{rule}': {error}"))
        })?;
    }
    Ok(user)
}

/// Rules in which a selector that came in several words is one.
pub fn merged(rules: &[Bytes]) -> Result<Vec<Bytes>, CommandError> {
    let mut merged = Vec::with_capacity(rules.len());
    let mut open: Option<(&Bytes, Vec<u8>)> = None;
    for rule in rules {
        match &mut open {
            Some((_, text)) => {
                text.push(b' ');
                text.extend_from_slice(rule);
                if rule.ends_with(b")") {
                    merged.extend(open.take().map(|(_, text)| Bytes::from(text)));
                }
            }
            None if rule.starts_with(b"(") && !rule.ends_with(b")") => open = Some((rule, rule.to_vec())),
            None => merged.push(rule.clone()),
        }
    }
    match open {
        None => Ok(merged),
        Some((start, _)) => {
            let start = String::from_utf8_lossy(start).replace(['\r', '\n'], " ");
            let text = format!("ERR Unmatched parenthesis in acl selector starting at '{start}'.");
            Err(CommandError::Message(text))
        }
    }
}

/// A call of ACL SETUSER as it is proposed: with hashes in the place of passwords, and with what the proposer's settings decide
/// said aloud, so that it means the same everywhere. Refused if its rules are wrong for the user as `users` has it.
///
/// `relay_key`: what nodes may know each other by from now on, unless they do already.
pub fn prepared(
    words: &[Bytes],
    users: &Users,
    defaults: Defaults,
    relay_key: impl FnOnce() -> String,
) -> Result<Vec<Bytes>, CommandError> {
    let (head, name, rules) = (&words[..2], &words[2], merged(&words[3..])?);
    check_name(name)?;
    changed(users.get(name).map(|user| &**user), name, &rules, defaults)?;
    let mut prepared = head.to_vec();
    prepared.push(name.clone());
    if defaults.all_channels {
        prepared.push(Bytes::from_static(NEW_WITH_ALL_CHANNELS));
    }
    if users.relay_key().is_empty() {
        prepared.push([RELAY_KEY, relay_key().as_bytes()].concat().into());
    }
    prepared.extend(rules.into_iter().map(|rule| match &rule[..] {
        [b'>', password @ ..] => format!("#{}", hash(password)).into(),
        [b'<', password @ ..] => format!("!{}", hash(password)).into(),
        _ => rule,
    }));
    Ok(prepared)
}
