//! What a group knows of scripts: those that were loaded, those that EVAL has brought, and the function libraries. State of
//! the machine.

use std::collections::BTreeMap;

use bytes::Bytes;
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use sha1::{Digest, Sha1};

use super::host::Host;
use super::interpreter::Interpreter;
use super::library::{self, FunctionInfo, Library};
use super::{Budget, ScriptFlags, pool};
use crate::entry::LibraryState;
use crate::error::CommandError;
use crate::rng::Rng;

/// How many scripts are kept that only EVAL has brought, as in Redis 7.4; the one that was used longest ago goes first.
pub const EVAL_SCRIPTS: usize = 500;

/// SHA-1 in hexadecimal digits: a script's name.
pub fn sha1_hex(text: &[u8]) -> String {
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
    Sha1::digest(text).iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The scripts and libraries of one group.
#[derive(Default)]
pub struct Scripts {
    /// SCRIPT LOAD's, by their SHA-1; kept until SCRIPT FLUSH.
    loaded: BTreeMap<String, Bytes>,
    /// EVAL's, in the order of their last use.
    evaluated: IndexMap<String, Bytes, FixedState>,
    /// Libraries by name.
    libraries: BTreeMap<String, Library>,
}

impl Scripts {
    /// The text of the script `sha`.
    pub fn get(&self, sha: &str) -> Option<&Bytes> {
        self.loaded.get(sha).or_else(|| self.evaluated.get(sha))
    }

    /// Keeps a script until it is flushed.
    pub fn load(&mut self, sha: String, body: Bytes) {
        self.evaluated.shift_remove(&sha);
        self.loaded.insert(sha, body);
    }

    /// Notes that EVAL has run a script.
    pub fn evaluated(&mut self, sha: &str, body: &Bytes) {
        if self.loaded.contains_key(sha) {
            return;
        }
        match self.evaluated.get_index_of(sha) {
            Some(at) => self.evaluated.move_index(at, self.evaluated.len() - 1),
            None => {
                if self.evaluated.len() >= EVAL_SCRIPTS {
                    self.evaluated.shift_remove_index(0);
                }
                self.evaluated.insert(sha.to_string(), body.clone());
            }
        }
    }

    /// Forgets all scripts, not the libraries.
    pub fn flush(&mut self) {
        self.loaded.clear();
        self.evaluated.clear();
        pool::clear();
    }

    /// How many scripts are known.
    pub fn count(&self) -> usize {
        self.loaded.len() + self.evaluated.len()
    }

    /// The libraries in the order of their names.
    pub fn libraries(&self) -> impl Iterator<Item = &Library> {
        self.libraries.values()
    }

    /// The library of that name.
    pub fn library(&self, name: &str) -> Option<&Library> {
        self.libraries.get(name)
    }

    /// Adds a library, or replaces the one of its name.
    pub fn add_library(&mut self, library: Library) {
        self.libraries.insert(library.name.clone(), library);
    }

    /// Removes a library. Whether it was there.
    pub fn remove_library(&mut self, name: &str) -> bool {
        self.libraries.remove(name).is_some()
    }

    /// Removes all libraries.
    pub fn flush_libraries(&mut self) {
        self.libraries.clear();
    }

    /// Takes out all libraries, or puts others in their place.
    pub fn replace_libraries(&mut self, libraries: BTreeMap<String, Library>) {
        self.libraries = libraries;
    }

    /// A copy of the libraries, to be put back if a change of several fails.
    pub fn copy_libraries(&self) -> BTreeMap<String, Library> {
        self.libraries.clone()
    }

    /// The function of that name, whatever its case, and its library.
    pub fn function(&self, name: &str) -> Option<(&Library, &super::library::FunctionInfo)> {
        self.libraries().find_map(|library| {
            let function = library.functions.iter().find(|f| f.name.eq_ignore_ascii_case(name))?;
            Some((library, function))
        })
    }

    /// Whether `words` call a script or a function by a name that is known here and whose code declares that it writes
    /// nothing.
    pub fn writes_nothing(&self, words: &[Bytes]) -> bool {
        let (Some(command), Some(name)) = (words.first(), words.get(1)) else { return false };
        let name = String::from_utf8_lossy(name);
        let flags = match command.to_ascii_lowercase().as_slice() {
            b"evalsha" => {
                self.get(&name.to_ascii_lowercase()).and_then(|body| library::script_flags(body).ok())
            }
            b"fcall" => self.function(&name).map(|(_, function)| function.flags),
            _ => None,
        };
        flags.is_some_and(|flags| flags.contains(ScriptFlags::NO_WRITES))
    }

    /// SCRIPT LOAD's scripts.
    pub(crate) fn loaded(&self) -> impl Iterator<Item = &Bytes> {
        self.loaded.values()
    }

    /// EVAL's scripts, in the order of their last use.
    pub(crate) fn evaluated_last(&self) -> impl Iterator<Item = &Bytes> {
        self.evaluated.values()
    }

    /// What a snapshot held.
    pub(crate) fn restored(
        loaded: Vec<Bytes>,
        evaluated: Vec<Bytes>,
        libraries: Vec<LibraryState>,
    ) -> Scripts {
        let mut scripts = Scripts::default();
        loaded.into_iter().for_each(|body| scripts.load(sha1_hex(&body), body));
        evaluated.into_iter().for_each(|body| scripts.evaluated(&sha1_hex(&body), &body));
        libraries.into_iter().for_each(|library| scripts.add_library(library.into()));
        scripts
    }

    /// Says what is wrong with a script's text.
    pub fn check(&self, sha: &str, body: &Bytes) -> Result<(), CommandError> {
        let mut interpreter = pool::take();
        let compiled = interpreter.compile_script(sha, body).map(drop);
        pool::give_back(interpreter);
        compiled
    }

    /// Runs a library's text: the functions it registers.
    pub fn functions_of(&self, code: &Bytes, rng: Rng) -> Result<Vec<FunctionInfo>, CommandError> {
        // Little, for it runs again at each call; and a new interpreter, so that memory is the same everywhere.
        let budget = Budget { instructions: 5_000_000, bytes: 64 << 20, ..Budget::default() };
        Interpreter::new().load_library(Host::without_keys(rng, budget), code)
    }
}
