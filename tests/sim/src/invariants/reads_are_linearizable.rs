//! Each key behaves as if its reads and writes had happened one after the other, each at some moment between its begin
//! and its end. A write of unknown fate has no end: it may take effect late, or never.
//!
//! For registers whose values are never written twice this can be decided quickly (Gibbons and Korach, *Testing shared
//! memories*, 1997). A value's *zone* reaches from the first moment at which one of its operations (its write, or a read
//! that saw it) had ended, to the last at which one began. If it runs forward in time, the register must have held the
//! value throughout. So the history is linearizable if and only if no two forward zones overlap, no backward zone lies
//! within a forward one, and no read ended before the write of its value began.
//!
//! For lists: what two reads saw must be such that one begins with the other, never the longer one first in time; and a
//! token is seen by every read that began after it was acknowledged, by none that ended before it was sent, and in the
//! order of appends that did not overlap.

use super::Verdict;
use crate::history::{Fate, History, KeyHistory, Kind, Moment};

/// Judges every key.
pub fn check(history: &History) -> Vec<String> {
    let told = |key: &str, verdict: Verdict| verdict.err().map(|wrong| format!("{key}: {wrong}"));
    let registers = history.of(Kind::Register).filter_map(|(key, it)| told(key, register(it)));
    let lists = history.of(Kind::List).filter_map(|(key, it)| told(key, list(it)));
    registers.chain(lists).collect()
}

/// A value's zone.
#[derive(Clone, Copy)]
struct Zone {
    value: u64,
    first_end: Moment,
    last_begin: Moment,
}

fn register(history: &KeyHistory) -> Verdict {
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    // The register was empty when the world began.
    let empty = Zone { value: 0, first_end: 0, last_begin: 0 };
    let mut zones = vec![empty];
    for write in &history.writes {
        let first_end = match write.fate {
            Fate::Acknowledged(ended) => ended,
            Fate::Refused | Fate::Unknown => Moment::MAX,
        };
        zones.push(Zone { value: write.value, first_end, last_begin: write.began });
    }
    for read in &history.reads {
        let value = read.values.first().copied().unwrap_or(0);
        let zone = zones.iter_mut().find(|zone| zone.value == value);
        let zone = zone.ok_or_else(|| format!("a read saw {value}, which nobody wrote"))?;
        match history.write_of(value) {
            Some(write) if write.fate == Fate::Refused => {
                return Err(format!("a read saw {value}, whose write was answered as certainly not applied"));
            }
            Some(write) if read.ended < write.began => {
                return Err(format!("a read saw {value} before it was written"));
            }
            _ => {}
        }
        zone.first_end = zone.first_end.min(read.ended);
        zone.last_begin = zone.last_begin.max(read.began);
    }
    // Neither acknowledged nor seen: it need not have happened.
    for zone in zones.into_iter().filter(|zone| zone.first_end != Moment::MAX) {
        if zone.first_end < zone.last_begin { forward.push(zone) } else { backward.push(zone) }
    }
    forward.sort_by_key(|zone| zone.first_end);
    for pair in forward.windows(2) {
        if pair[1].first_end < pair[0].last_begin {
            return Err(stale(&pair[0], &pair[1]));
        }
    }
    for zone in &backward {
        let within = |outer: &&Zone| outer.first_end < zone.last_begin && zone.first_end < outer.last_begin;
        if let Some(outer) = forward.iter().find(within) {
            return Err(stale(outer, zone));
        }
    }
    Ok(())
}

fn stale(a: &Zone, b: &Zone) -> String {
    format!(
        "{} was there from event {} to {}, and {} from {} to {}: a write was lost, or a read was stale",
        a.value, a.first_end, a.last_begin, b.value, b.first_end, b.last_begin
    )
}

fn list(history: &KeyHistory) -> Verdict {
    let mut reads: Vec<_> = history.reads.iter().collect();
    reads.sort_by_key(|read| read.values.len());
    for pair in reads.windows(2) {
        if !pair[1].values.starts_with(&pair[0].values) {
            return Err(format!("a read saw {:?}, another {:?}", pair[0].values, pair[1].values));
        }
    }
    for (i, long) in reads.iter().enumerate() {
        let shorter = reads[..i]
            .iter()
            .find(|short| short.values.len() < long.values.len() && short.began > long.ended);
        if let Some(shorter) = shorter {
            return Err(format!(
                "a read saw {} tokens after another had seen {}",
                shorter.values.len(),
                long.values.len()
            ));
        }
    }
    for read in &reads {
        for write in &history.writes {
            let seen = read.values.contains(&write.value);
            match write.fate {
                Fate::Refused if seen => {
                    return Err(format!(
                        "{} was seen, though answered as certainly not applied",
                        write.value
                    ));
                }
                Fate::Acknowledged(ended) if !seen && ended < read.began => {
                    return Err(format!("{} was acknowledged, and then not seen", write.value));
                }
                _ if seen && read.ended < write.began => {
                    return Err(format!("{} was seen before it was appended", write.value));
                }
                _ => {}
            }
        }
    }
    let Some(longest) = reads.last() else { return Ok(()) };
    in_order(history, &longest.values)
}

/// Of two appends one of which ended before the other began, the first comes first.
fn in_order(history: &KeyHistory, tokens: &[u64]) -> Verdict {
    let mut latest_begin = 0;
    for token in tokens {
        let write =
            history.write_of(*token).ok_or_else(|| format!("{token} was seen, and nobody appended it"))?;
        if let Fate::Acknowledged(ended) = write.fate
            && ended < latest_begin
        {
            return Err(format!("{token} stands behind a token that was appended only after it"));
        }
        latest_begin = latest_begin.max(write.began);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Read, Write};

    fn write(value: u64, began: Moment, ended: Moment) -> Write {
        Write { value, began, fate: Fate::Acknowledged(ended) }
    }

    fn read(values: &[u64], began: Moment, ended: Moment) -> Read {
        Read { values: values.to_vec(), began, ended }
    }

    fn judge(kind: Kind, writes: &[Write], reads: &[Read]) -> bool {
        let mut history = History::default();
        let of_key = KeyHistory { writes: writes.to_vec(), reads: reads.to_vec() };
        history.keys.insert((kind, "k".into()), of_key);
        check(&history).is_empty()
    }

    #[test]
    fn registers() {
        let good = |writes: &[Write], reads: &[Read]| judge(Kind::Register, writes, reads);
        let two = [write(1, 1, 2), write(2, 3, 4)];
        assert!(good(&two, &[read(&[2], 5, 6)]));
        assert!(good(&two, &[read(&[1], 2, 3), read(&[], 0, 1)]));
        assert!(!good(&two, &[read(&[1], 5, 6)]), "stale");
        assert!(!good(&two, &[read(&[], 5, 6)]), "lost");
        assert!(!good(&two, &[read(&[9], 5, 6)]), "out of thin air");
        let overlapping = [write(1, 1, 9), write(2, 2, 8)];
        assert!(good(&overlapping, &[read(&[2], 3, 4), read(&[1], 5, 6)]));
        assert!(!good(&overlapping, &[read(&[2], 3, 4), read(&[1], 5, 6), read(&[2], 7, 8)]), "it came back");
        let unknown = [Write { value: 1, began: 1, fate: Fate::Unknown }, write(2, 2, 3)];
        assert!(good(&unknown, &[read(&[2], 4, 5), read(&[1], 6, 7)]), "late, and once");
        assert!(!good(&unknown, &[read(&[1], 4, 5), read(&[2], 6, 7), read(&[1], 8, 9)]), "twice");
        let refused = [Write { value: 1, began: 1, fate: Fate::Refused }];
        assert!(good(&refused, &[read(&[], 2, 3)]));
        assert!(!good(&refused, &[read(&[1], 2, 3)]), "a lie");
    }

    #[test]
    fn lists() {
        let good = |writes: &[Write], reads: &[Read]| judge(Kind::List, writes, reads);
        let two = [write(1, 1, 2), write(2, 3, 4)];
        assert!(good(&two, &[read(&[1, 2], 5, 6), read(&[1], 3, 4)]));
        assert!(!good(&two, &[read(&[1], 5, 6)]), "an acknowledged token is not seen");
        assert!(!good(&two, &[read(&[2, 1], 5, 6)]), "in the wrong order");
        assert!(!good(&two, &[read(&[1, 2], 3, 4), read(&[1], 5, 6)]), "it was gone again");
        assert!(!good(&two, &[read(&[1, 2, 7], 5, 6)]), "out of thin air");
        let unknown = [Write { value: 1, began: 1, fate: Fate::Unknown }, write(2, 3, 4)];
        assert!(good(&unknown, &[read(&[2], 5, 6), read(&[2, 1], 7, 8)]), "late");
        assert!(!good(&unknown, &[read(&[2], 5, 6), read(&[1, 2], 7, 8)]), "into the past");
        let refused = [Write { value: 1, began: 1, fate: Fate::Refused }];
        assert!(!good(&refused, &[read(&[1], 2, 3)]), "a lie");
    }
}
