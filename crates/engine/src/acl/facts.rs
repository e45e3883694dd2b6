//! What the check of a call must know of its command, looked up by the row's place in the table: worked out once.

use std::sync::LazyLock;

use bytes::Bytes;

use super::category::{self, Categories};
use crate::command::{self, Command, Flags, Resolved, Run, Verb};
use crate::key_flags::{self, KeyFlags};

bitflags::bitflags! {
    /// What a call does to a key.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Access: u8 {
        /// It looks at what is in the value.
        const READ = 1;
        /// It changes the value, or removes it.
        const WRITE = 1 << 1;
    }
}

/// Which words of a call are channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// None that anybody has to be allowed.
    None,
    /// The first one behind the name.
    First,
    /// All behind the name.
    All,
    /// All behind the name, each a pattern of channels.
    Patterns,
}

/// What is to be known of a command.
pub struct Facts {
    /// Its categories.
    pub categories: Categories,
    /// Which of its words are channels.
    pub channels: Channels,
    /// What it does to its first key, and to the others.
    access: [Access; 2],
    /// Whether that depends on the call.
    by_words: bool,
    /// Whether what the table calls its keys are some.
    has_keys: bool,
}

static FACTS: LazyLock<Vec<Facts>> =
    LazyLock::new(|| command::rows().iter().map(|row| Facts::new(*row)).collect());

/// What is to be known of `row`, which is one of the table's.
pub fn of(row: &Command) -> &'static Facts {
    &FACTS[row.id]
}

impl Facts {
    fn new(resolved: Resolved) -> Facts {
        let row = resolved.command;
        Facts {
            categories: category::of(resolved),
            channels: match row.run {
                Run::Session(Verb::Publish | Verb::Spublish) => Channels::First,
                Run::Session(Verb::Subscribe | Verb::Ssubscribe) => Channels::All,
                Run::Session(Verb::Psubscribe) => Channels::Patterns,
                _ => Channels::None,
            },
            access: [0, 1].map(|nth| access(key_flags::of_key(row, nth))),
            by_words: key_flags::by_words(row),
            has_keys: row.keys.any() && !row.flags.contains(Flags::PUBSUB),
        }
    }

    /// Looks at the place of each key among `words`, a call of `row`, and at what is done to it, until one will not do.
    pub fn try_each_key<E>(
        &self,
        row: &Command,
        words: &[Bytes],
        mut look: impl FnMut(usize, Access) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.has_keys {
            return Ok(());
        }
        let mut nth = 0;
        row.keys.try_each(words, |at| {
            let access = match self.by_words {
                true => access(key_flags::of_call(row, words, nth)),
                false => self.access[nth.min(1)],
            };
            nth += 1;
            look(at, access)
        })
    }
}

fn access(flags: KeyFlags) -> Access {
    let has = |names: &[&str]| flags.iter().any(|flag| names.contains(flag));
    let read = if has(&["access"]) { Access::READ } else { Access::empty() };
    let write = if has(&["insert", "delete", "update"]) { Access::WRITE } else { Access::empty() };
    read | write
}
