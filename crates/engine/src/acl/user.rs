//! One user: whether it may log in, with which passwords, and what it may do then.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::selector::{Selector, allows_channel};
use super::{Denied, RuleError};
use crate::command::Resolved;

/// The user that connections have at first.
pub const DEFAULT: &[u8] = b"default";

/// Hexadecimal digits of a password's hash.
const HASH_DIGITS: usize = 64;

/// Whether payloads of RESTORE are looked at closely. Without effect here: they always are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sanitize {
    #[default]
    Unsaid,
    Yes,
    Skip,
}

/// A user and its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: Bytes,
    on: bool,
    nopass: bool,
    sanitize: Sanitize,
    /// SHA-256 of its passwords, in hexadecimal digits.
    passwords: Vec<Bytes>,
    root: Selector,
    /// Further selectors, in parentheses.
    selectors: Vec<Selector>,
}

impl User {
    /// A user who may do nothing, not even log in.
    pub fn new(name: &[u8]) -> User {
        User {
            name: Bytes::copy_from_slice(name),
            on: false,
            nopass: false,
            sanitize: Sanitize::Unsaid,
            passwords: Vec::new(),
            root: Selector::default(),
            selectors: Vec::new(),
        }
    }

    /// One who may do everything, and needs no password.
    pub fn almighty(name: &[u8]) -> User {
        User { on: true, nopass: true, root: Selector::everything(), ..User::new(name) }
    }

    /// A user as [`User::describe`] tells of it; `None` if one of `rules` is none.
    pub fn described(name: &[u8], rules: &[Bytes]) -> Option<User> {
        let mut user = User::new(name);
        rules.iter().try_for_each(|rule| user.apply(rule, Defaults::default())).ok()?;
        Some(user)
    }

    /// Whether nothing is refused it.
    pub fn is_almighty(&self) -> bool {
        self.root.is_everything() || self.selectors.iter().any(Selector::is_everything)
    }

    /// Whether a connection has it without logging in.
    pub fn is_open(&self) -> bool {
        self.on && self.nopass
    }

    /// Whether it needs no password.
    pub fn is_without_password(&self) -> bool {
        self.nopass
    }

    /// Whether it may log in with `password`.
    pub fn lets_in(&self, password: &[u8]) -> bool {
        if !self.on || self.nopass {
            return self.on;
        }
        let given = hash(password);
        // All of them are compared, so that the time tells nothing.
        self.passwords.iter().fold(false, |found, known| found | same(known, given.as_bytes()))
    }

    /// The same user, let in with this password besides its own, and not without any.
    pub fn with_password(&self, password: &[u8]) -> User {
        let mut user = User { nopass: false, ..self.clone() };
        user.add_password(hash(password).into());
        user
    }

    /// Whether it may make the call `words` of `row`. Of several selectors' objections the one that came furthest is told.
    pub fn check(&self, row: Resolved, words: &[Bytes]) -> Result<(), Denied> {
        let mut denied = match self.root.check(row, words) {
            Ok(()) => return Ok(()),
            Err(denied) => denied,
        };
        for selector in &self.selectors {
            match selector.check(row, words) {
                Ok(()) => return Ok(()),
                Err(other) => denied = denied.max(other),
            }
        }
        Err(denied)
    }

    /// Whether it may listen to every channel.
    pub fn has_all_channels(&self) -> bool {
        self.all_selectors().any(Selector::has_all_channels)
    }

    /// Whether it may listen to `channel`, or to what matches the pattern `channel`.
    pub fn may_listen(&self, channel: &[u8], is_pattern: bool) -> bool {
        let allows = |selector: &Selector| allows_channel(selector.channels(), channel, is_pattern);
        self.has_all_channels() || self.all_selectors().any(allows)
    }

    /// Its root selector.
    pub fn root(&self) -> &Selector {
        &self.root
    }

    /// Its selectors besides.
    pub fn selectors(&self) -> &[Selector] {
        &self.selectors
    }

    fn all_selectors(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.root).chain(&self.selectors)
    }

    /// Applies a rule; `defaults`: what is not said.
    pub fn apply(&mut self, rule: &[u8], defaults: Defaults) -> Result<(), RuleError> {
        let is = |word: &str| rule.eq_ignore_ascii_case(word.as_bytes());
        match rule {
            [] => {}
            _ if is("on") => self.on = true,
            _ if is("off") => self.on = false,
            _ if is("skip-sanitize-payload") => self.sanitize = Sanitize::Skip,
            _ if is("sanitize-payload") => self.sanitize = Sanitize::Yes,
            _ if is("nopass") => (self.nopass, self.passwords) = (true, Vec::new()),
            _ if is("resetpass") => (self.nopass, self.passwords) = (false, Vec::new()),
            [b'>', password @ ..] => self.add_password(hash(password).into()),
            [b'#', digits @ ..] => self.add_password(checked_hash(digits)?),
            [b'<', password @ ..] => self.remove_password(hash(password).as_bytes())?,
            [b'!', digits @ ..] => self.remove_password(&checked_hash(digits)?)?,
            [b'(', rules @ .., b')'] => self.selectors.push(selector(rules, defaults)?),
            _ if is("clearselectors") => self.selectors.clear(),
            _ if is("reset") => {
                *self = User { sanitize: Sanitize::Yes, ..User::new(&self.name) };
                self.root = defaults.selector();
            }
            _ => self.root.apply(rule)?,
        }
        Ok(())
    }

    /// What is not said of it when it is made.
    pub fn begin(&mut self, defaults: Defaults) {
        self.root = defaults.selector();
    }

    fn add_password(&mut self, hash: Bytes) {
        self.nopass = false;
        if !self.passwords.contains(&hash) {
            self.passwords.push(hash);
        }
    }

    fn remove_password(&mut self, hash: &[u8]) -> Result<(), RuleError> {
        let at = self.passwords.iter().position(|known| known == hash).ok_or(RuleError::NoSuchPassword)?;
        self.passwords.remove(at);
        Ok(())
    }

    /// Its flags.
    pub fn describe_flags(&self) -> impl Iterator<Item = &'static str> {
        let flags = [
            ("on", self.on),
            ("off", !self.on),
            ("nopass", self.nopass),
            ("skip-sanitize-payload", self.sanitize == Sanitize::Skip),
            ("sanitize-payload", self.sanitize == Sanitize::Yes),
        ];
        flags.into_iter().filter(|(_, set)| *set).map(|(name, _)| name)
    }

    /// The hashes of its passwords.
    pub fn passwords(&self) -> &[Bytes] {
        &self.passwords
    }

    /// All of it as rules, each a word: what [`User::described`] takes.
    pub fn describe(&self) -> Vec<Bytes> {
        let flags = self.describe_flags().map(|flag| Bytes::from_static(flag.as_bytes()));
        let passwords = self.passwords.iter().map(|hash| [b"#", &hash[..]].concat().into());
        flags.chain(passwords).chain(self.describe_rights()).collect()
    }

    /// What it may do, as rules, each a word.
    pub fn describe_rights(&self) -> Vec<Bytes> {
        let mut rules = self.root.describe();
        rules.extend(self.selectors.iter().map(|selector| {
            let inner = selector.describe().join(&b' ');
            [b"(", &inner[..], b")"].concat().into()
        }));
        rules
    }
}

/// What a user and its selectors begin with, by the settings of the node that makes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// `acl-pubsub-default`: whether every channel is allowed.
    pub all_channels: bool,
}

impl Defaults {
    fn selector(self) -> Selector {
        let mut selector = Selector::default();
        if self.all_channels {
            selector.apply(b"allchannels").expect("a rule of ours");
        }
        selector
    }
}

/// A selector of the rules between its parentheses.
fn selector(rules: &[u8], defaults: Defaults) -> Result<Selector, RuleError> {
    let mut selector = defaults.selector();
    let rules = rules.split(u8::is_ascii_whitespace).filter(|rule| !rule.is_empty());
    for rule in rules {
        selector.apply(rule)?;
    }
    Ok(selector)
}

/// SHA-256 in hexadecimal digits.
pub fn hash(password: &[u8]) -> String {
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
    Sha256::digest(password).iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn checked_hash(digits: &[u8]) -> Result<Bytes, RuleError> {
    let is_hash =
        digits.len() == HASH_DIGITS && digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if is_hash { Ok(Bytes::copy_from_slice(digits)) } else { Err(RuleError::NoHash) }
}

/// Compares in a time that tells nothing about where two texts differ.
pub fn same(known: &[u8], given: &[u8]) -> bool {
    let differences = known.iter().zip(given).fold(0, |differences, (a, b)| differences | (a ^ b));
    known.len() == given.len() && differences == 0
}
