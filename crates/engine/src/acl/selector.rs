//! A set of rights: commands, keys and channels. A call that one of a user's selectors allows as a whole is allowed.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::facts::{self, Access, Channels};
use super::{Denied, RuleError, category};
use crate::command::{self, Command, Flags, Resolved};
use crate::glob;

/// Words of a bitmap that has a bit for each row of the command table.
const WORDS: usize = 8;

/// A set of commands, by their places in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Commands([u64; WORDS]);

impl Commands {
    const ALL: Commands = Commands([u64::MAX; WORDS]);

    fn has(&self, id: usize) -> bool {
        self.0[id / 64] >> (id % 64) & 1 == 1
    }

    fn set(&mut self, id: usize, value: bool) {
        let bit = 1 << (id % 64);
        match value {
            true => self.0[id / 64] |= bit,
            false => self.0[id / 64] &= !bit,
        }
    }
}

/// Keys that match `pattern` may be used in these ways.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyPattern {
    pattern: Bytes,
    access: Access,
}

impl KeyPattern {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self.access {
            Access::READ => b"%R~",
            Access::WRITE => b"%W~",
            _ => b"~",
        });
        out.extend_from_slice(&self.pattern);
    }
}

/// Rights to run commands on keys and channels. None, at first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    commands: Commands,
    /// It began with `+@all`: commands that a later version brings are allowed.
    future: bool,
    /// No command has been taken from that.
    all_commands: bool,
    /// Of commands that are not allowed, with which first arguments they are (`+select|0`).
    first_args: BTreeMap<usize, Vec<Bytes>>,
    all_keys: bool,
    keys: Vec<KeyPattern>,
    all_channels: bool,
    channels: Vec<Bytes>,
}

impl Selector {
    /// Every right.
    pub fn everything() -> Selector {
        let mut all = Selector { all_keys: true, all_channels: true, ..Selector::default() };
        all.set_all(true);
        all
    }

    /// Whether nothing is refused.
    pub fn is_everything(&self) -> bool {
        self.all_commands && self.all_keys && self.all_channels
    }

    /// Whether every channel is allowed.
    pub fn has_all_channels(&self) -> bool {
        self.all_channels
    }

    /// The channels that are allowed, by their patterns.
    pub fn channels(&self) -> &[Bytes] {
        &self.channels
    }

    /// Whether it allows the call `words` of `row`.
    pub fn check(&self, row: Resolved, words: &[Bytes]) -> Result<(), Denied> {
        let command = row.command;
        self.check_command(command, words)?;
        let facts = facts::of(command);
        if !self.all_keys {
            facts.try_each_key(command, words, |at, access| match self.allows_key(&words[at], access) {
                true => Ok(()),
                false => Err(Denied::Key(at)),
            })?;
        }
        if !self.all_channels {
            self.check_channels(facts.channels, words)?;
        }
        Ok(())
    }

    fn check_command(&self, command: &Command, words: &[Bytes]) -> Result<(), Denied> {
        if command.flags.contains(Flags::BETWEEN_NODES) && !self.is_everything() {
            return Err(Denied::Command);
        }
        let allowed = self.all_commands
            || command.flags.contains(Flags::NO_AUTH)
            || self.commands.has(command.id)
            || self.allows_first_arg(command.id, words);
        if allowed { Ok(()) } else { Err(Denied::Command) }
    }

    fn allows_first_arg(&self, id: usize, words: &[Bytes]) -> bool {
        let (Some(allowed), Some(word)) = (self.first_args.get(&id), words.get(1)) else { return false };
        allowed.iter().any(|arg| arg.eq_ignore_ascii_case(word))
    }

    fn allows_key(&self, key: &[u8], access: Access) -> bool {
        let allows =
            |pattern: &KeyPattern| pattern.access.contains(access) && glob::matches(&pattern.pattern, key);
        self.keys.iter().any(allows)
    }

    fn check_channels(&self, channels: Channels, words: &[Bytes]) -> Result<(), Denied> {
        let end = match channels {
            Channels::None => return Ok(()),
            Channels::First => 2.min(words.len()),
            Channels::All | Channels::Patterns => words.len(),
        };
        let is_pattern = channels == Channels::Patterns;
        match (1..end).find(|at| !allows_channel(&self.channels, &words[*at], is_pattern)) {
            None => Ok(()),
            Some(at) => Err(Denied::Channel(at)),
        }
    }

    /// Applies a rule; one of a user's that concerns no selector is none.
    pub fn apply(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        let is = |word: &str| rule.eq_ignore_ascii_case(word.as_bytes());
        match rule {
            _ if is("allkeys") || is("~*") => self.set_all_keys(true),
            _ if is("resetkeys") => self.set_all_keys(false),
            _ if is("allchannels") || is("&*") => self.set_all_channels(true),
            _ if is("resetchannels") => self.set_all_channels(false),
            _ if is("allcommands") || is("+@all") => self.set_all(true),
            _ if is("nocommands") || is("-@all") => self.set_all(false),
            [b'~', pattern @ ..] => self.add_keys(pattern, Access::all())?,
            [b'%', rest @ ..] => {
                let (access, pattern) = access_of(rest)?;
                self.add_keys(pattern, access)?;
            }
            [b'&', pattern @ ..] => self.add_channels(pattern)?,
            [sign @ (b'+' | b'-'), b'@', name @ ..] => {
                let category = category::named(name).ok_or(RuleError::Unknown)?;
                self.set_category(category, *sign == b'+');
            }
            [b'+', name @ ..] => self.allow(name)?,
            [b'-', name @ ..] => {
                let row = command::find_full(name).ok_or(RuleError::Unknown)?;
                self.set_command(row.command, false);
            }
            _ => return Err(RuleError::Syntax),
        }
        // Nothing is taken from what has all been given back: it is told as `+@all`, and is that.
        self.all_commands |= self.future && self.commands == Commands::ALL;
        Ok(())
    }

    fn set_all_keys(&mut self, all: bool) {
        self.all_keys = all;
        self.keys.clear();
    }

    fn set_all_channels(&mut self, all: bool) {
        self.all_channels = all;
        self.channels.clear();
    }

    fn set_all(&mut self, all: bool) {
        assert!(command::rows().len() <= 64 * WORDS, "more commands than a selector has bits");
        self.commands = if all { Commands::ALL } else { Commands::default() };
        (self.future, self.all_commands) = (all, all);
        self.first_args.clear();
    }

    fn add_keys(&mut self, pattern: &[u8], access: Access) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::AfterAllKeys);
        }
        if super::has_spaces(pattern) {
            return Err(RuleError::Syntax);
        }
        match self.keys.iter_mut().find(|known| known.pattern == pattern) {
            Some(known) => known.access |= access,
            None => self.keys.push(KeyPattern { pattern: Bytes::copy_from_slice(pattern), access }),
        }
        if self.keys.iter().any(|known| known.pattern == "*" && known.access == Access::all()) {
            // Told as `~*`, which is every key.
            self.set_all_keys(true);
        }
        Ok(())
    }

    fn add_channels(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
        if self.all_channels {
            return Err(RuleError::AfterAllChannels);
        }
        if super::has_spaces(pattern) {
            return Err(RuleError::Syntax);
        }
        if !self.channels.iter().any(|known| known == pattern) {
            self.channels.push(Bytes::copy_from_slice(pattern));
        }
        Ok(())
    }

    fn set_category(&mut self, category: category::Categories, value: bool) {
        for row in command::rows() {
            if facts::of(row.command).categories.intersects(category) {
                self.set_command(row.command, value);
            }
        }
    }

    /// Allows or refuses a command, and all of its subcommands.
    fn set_command(&mut self, command: &Command, value: bool) {
        self.first_args.remove(&command.id);
        let subcommands = command.subcommands.iter().map(|row| row.id);
        for id in std::iter::once(command.id).chain(subcommands) {
            self.commands.set(id, value);
        }
        self.all_commands &= value;
    }

    /// `+command`, `+container|subcommand`, `+command|first-arg`.
    fn allow(&mut self, name: &[u8]) -> Result<(), RuleError> {
        let Some(bar) = name.iter().rposition(|byte| *byte == b'|') else {
            self.set_command(command::find(name).ok_or(RuleError::Unknown)?, true);
            return Ok(());
        };
        let (head, arg) = (command::find_full(&name[..bar]).ok_or(RuleError::Unknown)?, &name[bar + 1..]);
        if head.container.is_some() {
            return Err(RuleError::FirstArgOfSubcommand);
        }
        if arg.is_empty() || super::has_spaces(arg) {
            return Err(RuleError::Syntax);
        }
        match command::find_full(name) {
            Some(row) => self.set_command(row.command, true),
            // In Redis DEBUG has no subcommands: any first argument may be named.
            None if !head.command.subcommands.is_empty() && head.command.name != "debug" => {
                return Err(RuleError::Unknown);
            }
            // It is allowed with any.
            None if self.commands.has(head.command.id) => {}
            None => {
                let args = self.first_args.entry(head.command.id).or_default();
                if !args.iter().any(|known| known.eq_ignore_ascii_case(arg)) {
                    args.push(Bytes::copy_from_slice(arg));
                }
            }
        }
        Ok(())
    }

    /// The keys, as rules.
    pub fn describe_keys(&self) -> Vec<Bytes> {
        if self.all_keys {
            return vec![Bytes::from_static(b"~*")];
        }
        let shown = |pattern: &KeyPattern| {
            let mut rule = Vec::new();
            pattern.put(&mut rule);
            rule.into()
        };
        self.keys.iter().map(shown).collect()
    }

    /// The channels, as rules.
    pub fn describe_channels(&self) -> Vec<Bytes> {
        match self.all_channels {
            true => vec![Bytes::from_static(b"&*")],
            false => self.channels.iter().map(|pattern| [b"&", &pattern[..]].concat().into()).collect(),
        }
    }

    /// The commands, as rules: `+@all` or `-@all`, then categories as long as they bring more than they cost, then what is
    /// left to add or to take away. As Redis finds them.
    pub fn describe_commands(&self) -> Vec<Bytes> {
        let (additive, base) = (!self.future, if self.future { "+@all" } else { "-@all" });
        let mut described = Selector::default();
        described.set_all(self.future);
        let mut rules = vec![Bytes::from_static(base.as_bytes())];
        let (sign, inverse) = if additive { ('+', false) } else { ('-', true) };
        let (mut left, mut applied) = (self.clone(), category::Categories::empty());
        while let Some((name, category)) = left.best_category(additive, applied) {
            described.set_category(category, additive);
            left.set_category(category, inverse);
            applied |= category;
            rules.push(format!("{sign}@{name}").into());
        }
        for row in command::rows() {
            let has = self.commands.has(row.command.id);
            if has != described.commands.has(row.command.id) {
                described.set_command(row.command, has);
                rules.push(format!("{}{}", if has { '+' } else { '-' }, row.full_name()).into());
            }
            let args = self.first_args.get(&row.command.id).filter(|_| !has).into_iter().flatten();
            rules.extend(args.map(|arg| [b"+", row.full_name().as_bytes(), b"|", &arg[..]].concat().into()));
        }
        rules
    }

    /// The category, other than those of `applied`, that has most in common with what is to be described.
    fn best_category(
        &self,
        additive: bool,
        applied: category::Categories,
    ) -> Option<(&'static str, category::Categories)> {
        let mut best = None;
        let (mut least_different, mut most_same) = (usize::MAX, 0);
        for (name, category) in category::NAMES {
            if applied.contains(category) {
                continue;
            }
            let members =
                command::rows().iter().filter(|row| facts::of(row.command).categories.intersects(category));
            let (mut on, mut off) = (0, 0);
            for row in members {
                match self.commands.has(row.command.id) {
                    true => on += 1,
                    false => off += 1,
                }
            }
            let (different, same) = if additive { (off, on) } else { (on, off) };
            if same > different
                && (different < least_different || different == least_different && same > most_same)
            {
                (least_different, most_same) = (different, same);
                best = Some((name, category));
            }
        }
        best
    }

    /// All of it, as rules, each a word.
    pub fn describe(&self) -> Vec<Bytes> {
        let mut rules = self.describe_keys();
        if !self.all_channels {
            rules.push(Bytes::from_static(b"resetchannels"));
        }
        rules.extend(self.describe_channels());
        rules.extend(self.describe_commands());
        rules
    }
}

/// Whether one of the patterns `allowed` allows `channel`. Of patterns to listen to, only those that are named so themselves.
pub fn allows_channel(allowed: &[Bytes], channel: &[u8], is_pattern: bool) -> bool {
    allowed.iter().any(|pattern| match is_pattern {
        true => pattern == channel,
        false => glob::matches(pattern, channel),
    })
}

/// `RW~pattern` and its like.
fn access_of(rest: &[u8]) -> Result<(Access, &[u8]), RuleError> {
    let mut access = Access::empty();
    for (i, byte) in rest.iter().enumerate() {
        match byte.to_ascii_uppercase() {
            b'R' if !access.contains(Access::READ) => access |= Access::READ,
            b'W' if !access.contains(Access::WRITE) => access |= Access::WRITE,
            b'~' if !access.is_empty() => return Ok((access, &rest[i + 1..])),
            _ => break,
        }
    }
    Err(RuleError::Syntax)
}
