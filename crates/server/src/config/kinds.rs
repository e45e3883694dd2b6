//! Values of settings that are more than a number or a text.

use std::fmt;

use crate::mail::OutputLimit;

/// `client-output-buffer-limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimits {
    /// Clients that neither subscribe nor monitor. Their replies are never lost: they wait with the next call.
    pub normal: OutputLimit,
    /// Redis's replicas; quoris has none, and keeps the numbers only to show them.
    pub replica: OutputLimit,
    /// What is sent to a client without its asking: messages, invalidations, MONITOR.
    pub pubsub: OutputLimit,
}

impl OutputLimits {
    /// No limits.
    pub const NONE: OutputLimits = {
        let none = OutputLimit { hard_bytes: 0, soft_bytes: 0, soft_s: 0 };
        OutputLimits { normal: none, replica: none, pubsub: none }
    };

    /// Sets the classes that `text` names (`pubsub 32mb 8mb 60`), and leaves the others. `None` if it makes no sense.
    pub fn change(mut self, text: &str) -> Option<OutputLimits> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (classes, odd) = words.as_chunks::<4>();
        if !odd.is_empty() {
            return None;
        }
        for [class, hard, soft, soft_s] in classes {
            let limit = OutputLimit {
                hard_bytes: super::field::parse_bytes(hard)?,
                soft_bytes: super::field::parse_bytes(soft)?,
                soft_s: soft_s.parse().ok()?,
            };
            match class.to_ascii_lowercase().as_str() {
                "normal" => self.normal = limit,
                "slave" | "replica" => self.replica = limit,
                "pubsub" => self.pubsub = limit,
                _ => return None,
            }
        }
        Some(self)
    }
}

impl fmt::Display for OutputLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |class: &str, limit: OutputLimit| {
            format!("{class} {} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_s)
        };
        let (normal, replica) = (show("normal", self.normal), show("slave", self.replica));
        write!(f, "{normal} {replica} {}", show("pubsub", self.pubsub))
    }
}

/// Whose keys a node tells of in keyspace notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventsFrom {
    /// All groups'.
    All,
    /// Those of the groups it leads.
    Led,
}

/// Which calls of plain connections are taken to other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// None.
    Never,
    /// Those with keys, and writes that concern every key. DBSIZE, KEYS, SCAN and RANDOMKEY cover the asked node's groups: a
    /// cluster's client, whose data connections look plain, asks every node and adds up.
    Auto,
    /// Those over all keys, too.
    All,
}

/// `maxmemory-clients`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientsLimit {
    /// Bytes; 0 for no limit.
    Bytes(u64),
    /// So many hundredths of `maxmemory`; no limit if that has none.
    Percent(u64),
}

impl ClientsLimit {
    /// Limits below this leave no room to talk (as in Redis).
    const LEAST_BYTES: u64 = 128 * 1024;

    /// What `text` says: a size, or a percentage up to 100.
    pub fn parse(text: &str) -> Option<ClientsLimit> {
        match text.strip_suffix('%') {
            Some(percent) => {
                percent.parse().ok().filter(|percent| *percent <= 100).map(ClientsLimit::Percent)
            }
            None => super::field::parse_bytes(text).map(ClientsLimit::Bytes),
        }
    }

    /// The limit in bytes; `None` for no limit.
    pub fn bytes(self, maxmemory: u64) -> Option<u64> {
        let bytes = match self {
            ClientsLimit::Bytes(bytes) => bytes,
            ClientsLimit::Percent(percent) => {
                (u128::from(maxmemory) * u128::from(percent)).div_ceil(100) as u64
            }
        };
        (bytes > 0).then(|| bytes.max(ClientsLimit::LEAST_BYTES))
    }
}

impl fmt::Display for ClientsLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientsLimit::Bytes(bytes) => write!(f, "{bytes}"),
            ClientsLimit::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// `latency-tracking-info-percentiles`, in hundredths of a percent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Percentiles(pub Vec<u32>);

impl Percentiles {
    /// Numbers from 0 to 100; `None` if one is not.
    pub fn parse(text: &str) -> Option<Percentiles> {
        let parse = |word: &str| {
            let percent: f64 = word.parse().ok()?;
            (0.0..=100.0).contains(&percent).then_some((percent * 100.0).round() as u32)
        };
        text.split_whitespace().map(parse).collect::<Option<Vec<u32>>>().map(Percentiles)
    }

    /// One of them as a person writes it: `99.9`.
    pub fn name(hundredths: u32) -> String {
        format!("{}", f64::from(hundredths) / 100.0)
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(|percentile| Percentiles::name(*percentile)).collect();
        f.write_str(&names.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_bytes_or_a_share_of_maxmemory() {
        assert_eq!(ClientsLimit::Bytes(0).bytes(1 << 30), None);
        assert_eq!(ClientsLimit::Bytes(1).bytes(0), Some(ClientsLimit::LEAST_BYTES));
        assert_eq!(ClientsLimit::Percent(7).bytes(6 << 20), Some(((6 << 20) * 7u64).div_ceil(100)));
        assert_eq!(ClientsLimit::Percent(7).bytes(0), None);
        for text in ["0", "7%", "1000000"] {
            assert_eq!(ClientsLimit::parse(text).map(|limit| limit.to_string()).as_deref(), Some(text));
        }
        assert!(["101%", "-1", "x%", ""].iter().all(|text| ClientsLimit::parse(text).is_none()));
    }

    #[test]
    fn a_class_is_changed_and_the_others_stay() {
        let limits = OutputLimits::NONE.change("pubsub 32mb 8mb 60").and_then(|l| l.change("Replica 1 2 3"));
        let shown = limits.map(|limits| limits.to_string());
        assert_eq!(shown.as_deref(), Some("normal 0 0 0 slave 1 2 3 pubsub 33554432 8388608 60"));
        for bad in ["pubsub 1 2", "other 1 2 3", "pubsub x 2 3"] {
            assert_eq!(OutputLimits::NONE.change(bad), None, "{bad}");
        }
    }

    #[test]
    fn percentiles_are_from_0_to_100() {
        let shown = Percentiles::parse("0.0 50.0 99.9 100").map(|all| all.to_string());
        assert_eq!(shown.as_deref(), Some("0 50 99.9 100"));
        assert!(Percentiles::parse("50 101").is_none() && Percentiles::parse("a").is_none());
    }
}
