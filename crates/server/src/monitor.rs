//! MONITOR: every call of this node's clients, shown to whoever has asked to see them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::clients::Client;
use crate::mail::{Mail, OutputLimit};

/// Who watches.
#[derive(Default)]
pub struct Monitors {
    /// How many: nothing else is looked at while it is 0.
    count: AtomicUsize,
    watching: Mutex<BTreeMap<u64, Arc<Client>>>,
}

impl Monitors {
    /// Whether anybody watches.
    pub fn is_on(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// `client` watches from now on.
    pub fn add(&self, client: &Arc<Client>) {
        self.change(|watching| drop(watching.insert(client.id, client.clone())));
    }

    /// `client` watches no longer.
    pub fn remove(&self, client: u64) {
        if self.is_on() {
            self.change(|watching| drop(watching.remove(&client)));
        }
    }

    /// Shows a call of `from`: a client's address, or `lua`.
    pub fn show(&self, from: &str, words: &[Bytes], now_ms: u64, limit: OutputLimit) {
        let line = line(from, words, now_ms);
        for client in self.lock().values() {
            client.post(Mail::Line(line.clone()), limit);
        }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<u64, Arc<Client>>)) {
        let mut watching = self.lock();
        change(&mut watching);
        self.count.store(watching.len(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        self.watching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `1339518083.107412 [0 127.0.0.1:60866] "keys" "*"`.
fn line(from: &str, words: &[Bytes], now_ms: u64) -> String {
    let mut line = format!("{}.{:03}000 [0 {}]", now_ms / 1000, now_ms % 1000, from);
    for word in redacted(words) {
        line.push_str(" \"");
        for &byte in &word {
            match byte {
                b'\\' | b'"' => line.extend(['\\', char::from(byte)]),
                b'\n' => line.push_str("\\n"),
                b'\r' => line.push_str("\\r"),
                b'\t' => line.push_str("\\t"),
                0x07 => line.push_str("\\a"),
                0x08 => line.push_str("\\b"),
                b' '..=b'~' => line.push(char::from(byte)),
                _ => write!(line, "\\x{byte:02x}").expect("a string takes all that is written"),
            }
        }
        line.push('"');
    }
    line
}

/// A call's words without its secrets, for whoever is shown other clients' calls.
pub fn redacted(words: &[Bytes]) -> Vec<Bytes> {
    const SECRET: Bytes = Bytes::from_static(b"(redacted)");
    let is =
        |i: usize, text: &str| words.get(i).is_some_and(|word| word.eq_ignore_ascii_case(text.as_bytes()));
    let mut shown = words.to_vec();
    let mut hide = |i: usize| shown.get_mut(i).into_iter().for_each(|word| *word = SECRET);
    if is(0, "auth") {
        (1..words.len()).for_each(&mut hide);
    } else if is(0, "acl") && (is(1, "setuser") || is(1, "deluser") || is(1, "getuser")) {
        (2..words.len()).for_each(&mut hide);
    } else if is(0, "hello") {
        let auth = (2..words.len()).find(|i| is(*i, "auth"));
        auth.into_iter().flat_map(|i| [i + 1, i + 2]).for_each(&mut hide);
    } else if is(0, "migrate") {
        let mut i = 6;
        while i < words.len() && !is(i, "keys") {
            let secrets = if is(i, "auth2") { 2 } else { usize::from(is(i, "auth")) };
            (i + 1..=i + secrets).for_each(&mut hide);
            i += 1 + secrets;
        }
    } else if is(0, "config") && is(1, "set") {
        for i in (2..words.len()).step_by(2) {
            if ["requirepass", "masterauth", "masteruser", "tls-key-file-pass"].iter().any(|name| is(i, name))
            {
                hide(i + 1);
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        let words: Vec<Bytes> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        let words = redacted(&words);
        words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(shown("AUTH me secret"), "AUTH (redacted) (redacted)");
        assert_eq!(shown("hello 3 auth me secret setname x"), "hello 3 auth (redacted) (redacted) setname x");
        assert_eq!(
            shown("config set maxclients 5 requirepass x"),
            "config set maxclients 5 requirepass (redacted)"
        );
        assert_eq!(shown("migrate h 1 k 9 500 copy auth pw"), "migrate h 1 k 9 500 copy auth (redacted)");
        assert_eq!(
            shown("migrate h 1 k 9 500 AUTH2 keys pw keys auth x"),
            "migrate h 1 k 9 500 AUTH2 (redacted) (redacted) keys auth x"
        );
        assert_eq!(shown("migrate h 1 auth auth auth"), "migrate h 1 auth auth auth");
        assert_eq!(shown("set a b"), "set a b");
    }
}
