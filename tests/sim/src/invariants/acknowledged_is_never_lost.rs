//! When all faults are mended, everything that was acknowledged is there: every token in its list, and in each register
//! the last number, or one whose write did not end before it began.
//!
//! Linearizability says so too, where somebody reads in time. This one asks the last read of every key, which a run ends
//! with, and says in one line what was lost.

use crate::history::{Fate, History, KeyHistory, Kind, Moment};

/// Judges every key by its last read.
pub fn check(history: &History) -> Vec<String> {
    let mut lost = Vec::new();
    for ((kind, key), of_key) in &history.keys {
        let Some(last) = of_key.reads.last() else {
            lost.push(format!("{key} was never read"));
            continue;
        };
        let seen = |value: u64| match kind {
            Kind::List => last.values.contains(&value),
            Kind::Register => {
                last.values.first().is_some_and(|is| *is == value || !before(of_key, *is, value))
            }
        };
        for write in &of_key.writes {
            if acknowledged(write.fate).is_some_and(|ended| ended < last.began) && !seen(write.value) {
                lost.push(format!("{key}: {} was acknowledged and is lost", write.value));
            }
        }
    }
    lost
}

fn acknowledged(fate: Fate) -> Option<Moment> {
    match fate {
        Fate::Acknowledged(ended) => Some(ended),
        Fate::Refused | Fate::Unknown => None,
    }
}

/// Whether the write of `a` had ended before the write of `b` began.
fn before(history: &KeyHistory, a: u64, b: u64) -> bool {
    match (history.write_of(a), history.write_of(b)) {
        (Some(a), Some(b)) => acknowledged(a.fate).is_some_and(|ended| ended < b.began),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last_read(kind: Kind, values: &[u64]) -> usize {
        let mut history = History::default();
        for _ in 0..2 {
            let value = history.begin_write(kind, "k");
            history.end_write(kind, "k", value, Some(true));
        }
        let began = history.begin_read();
        history.end_read(kind, "k", began, values.to_vec());
        check(&history).len()
    }

    #[test]
    fn what_is_lost_is_found() {
        assert_eq!(last_read(Kind::Register, &[2]), 0);
        assert_eq!(last_read(Kind::Register, &[1]), 1);
        assert_eq!(last_read(Kind::Register, &[]), 2);
        assert_eq!(last_read(Kind::List, &[1, 2]), 0);
        assert_eq!(last_read(Kind::List, &[2]), 1);
    }
}
