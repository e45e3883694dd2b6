//! A write takes effect at most once, whatever became of it: a client that was told *unknown* must be able to find out
//! which by looking, and nothing between the client and the log may try again by itself.
//!
//! Lists show it: to append twice is to see the token twice.

use std::collections::BTreeSet;

use crate::history::{History, Kind};

/// Judges every list.
pub fn check(history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    for (key, of_key) in history.of(Kind::List) {
        for read in &of_key.reads {
            let mut seen = BTreeSet::new();
            let twice = read.values.iter().find(|token| !seen.insert(**token));
            wrong.extend(twice.map(|token| format!("{key}: {token} was appended once and is there twice")));
        }
    }
    // One sentence for each token, not for each read that saw it.
    wrong.dedup();
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_seen_twice_is_found() {
        let mut history = History::default();
        let token = history.begin_write(Kind::List, "k");
        let began = history.begin_read();
        history.end_read(Kind::List, "k", began, vec![token]);
        assert!(check(&history).is_empty());
        history.end_read(Kind::List, "k", began, vec![token, token]);
        assert_eq!(check(&history).len(), 1);
    }
}
