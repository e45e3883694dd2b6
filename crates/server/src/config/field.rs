//! The kinds of settings: how each is read, shown and described.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use quoris_raft::node::ReadMode;

use super::kinds::{ClientsLimit, EventsFrom, Forward, OutputLimits, Percentiles};
use super::members::{self, Member};
use crate::pubsub::notify::NotifyOn;

/// Log levels, from few words to many.
pub const LOG_LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

const READ_MODES: [(&str, ReadMode); 3] =
    [("read-index", ReadMode::ReadIndex), ("lease", ReadMode::Lease), ("local", ReadMode::Local)];

const FORWARD: [(&str, Forward); 3] =
    [("auto", Forward::Auto), ("all", Forward::All), ("never", Forward::Never)];

/// What is taken for an address.
pub const ADDRESS: &str = "an address, host:port";

/// A setting's place and what may stand there.
pub enum Field<'a> {
    /// Any text.
    Text(&'a mut String),
    /// `host:port`.
    Address(&'a mut String),
    /// `host:port`, or nothing.
    AddressOrNone(&'a mut String),
    /// A directory.
    Path(&'a mut PathBuf),
    /// A whole number.
    Number(&'a mut u64, RangeInclusive<u64>),
    /// A number of bytes, with units.
    Bytes(&'a mut u64, RangeInclusive<u64>),
    /// How reads are made safe.
    ReadMode(&'a mut ReadMode),
    /// Which calls are forwarded.
    Forward(&'a mut Forward),
    /// How much is logged.
    LogLevel(&'a mut String),
    /// One of these words.
    OneOf(&'a mut String, &'static [&'static str]),
    /// The nodes.
    Members(&'a mut Vec<Member>),
    /// A whole number that may be negative.
    Signed(&'a mut i64),
    /// `yes` or `no`.
    YesNo(&'a mut bool),
    /// Limits of output.
    OutputLimits(&'a mut OutputLimits),
    /// Classes of events.
    NotifyOn(&'a mut NotifyOn),
    /// Whose events.
    EventsFrom(&'a mut EventsFrom),
    /// What clients may hold.
    ClientsLimit(&'a mut ClientsLimit),
    /// Percentiles.
    Percentiles(&'a mut Percentiles),
}

const EVENTS_FROM: [(&str, EventsFrom); 2] = [("all", EventsFrom::All), ("led", EventsFrom::Led)];

impl Field<'_> {
    /// Reads `text` into the place. `None`, and nothing changed, if it is not what the setting takes.
    pub fn parse(self, text: &str) -> Option<()> {
        match self {
            Field::Text(place) => *place = text.to_string(),
            Field::Address(place) => *place = parse_address(text)?,
            Field::AddressOrNone(place) if text.is_empty() => place.clear(),
            Field::AddressOrNone(place) => *place = parse_address(text)?,
            Field::Path(place) => *place = PathBuf::from(Some(text).filter(|text| !text.is_empty())?),
            Field::Number(place, range) => {
                *place = text.parse().ok().filter(|number| range.contains(number))?;
            }
            Field::Bytes(place, range) => {
                *place = parse_bytes(text).filter(|number| range.contains(number))?
            }
            Field::ReadMode(place) => *place = READ_MODES.iter().find(|(name, _)| *name == text)?.1,
            Field::Forward(place) => *place = FORWARD.iter().find(|(name, _)| *name == text)?.1,
            Field::LogLevel(place) => *place = LOG_LEVELS.iter().find(|name| **name == text)?.to_string(),
            Field::OneOf(place, words) => *place = words.iter().find(|word| **word == text)?.to_string(),
            Field::Members(place) => *place = members::parse(text)?,
            Field::Signed(place) => *place = text.parse().ok().filter(|number| *number >= -1)?,
            Field::YesNo(place) => {
                *place = ["no", "yes"].iter().position(|word| text.eq_ignore_ascii_case(word))? == 1;
            }
            Field::OutputLimits(place) => *place = place.change(text)?,
            Field::NotifyOn(place) => *place = NotifyOn::parse(text)?,
            Field::EventsFrom(place) => *place = EVENTS_FROM.iter().find(|(name, _)| *name == text)?.1,
            Field::ClientsLimit(place) => *place = ClientsLimit::parse(text)?,
            Field::Percentiles(place) => *place = Percentiles::parse(text)?,
        }
        Some(())
    }

    /// The value, as [`Field::parse`] reads it.
    pub fn show(&self) -> String {
        match self {
            Field::Text(value)
            | Field::Address(value)
            | Field::AddressOrNone(value)
            | Field::LogLevel(value)
            | Field::OneOf(value, _) => value.to_string(),
            Field::Path(value) => value.display().to_string(),
            Field::Number(value, _) | Field::Bytes(value, _) => value.to_string(),
            Field::ReadMode(value) => {
                let named = READ_MODES.iter().find(|(_, mode)| mode == *value);
                named.map_or_else(String::new, |(name, _)| name.to_string())
            }
            Field::Forward(value) => {
                let named = FORWARD.iter().find(|(_, forward)| forward == *value);
                named.map_or_else(String::new, |(name, _)| name.to_string())
            }
            Field::Members(value) => members::show(value),
            Field::Signed(value) => value.to_string(),
            Field::YesNo(value) => if **value { "yes" } else { "no" }.to_string(),
            Field::OutputLimits(value) => value.to_string(),
            Field::NotifyOn(value) => value.to_string(),
            Field::EventsFrom(value) => {
                let named = EVENTS_FROM.iter().find(|(_, from)| from == *value);
                named.map_or_else(String::new, |(name, _)| name.to_string())
            }
            Field::ClientsLimit(value) => value.to_string(),
            Field::Percentiles(value) => value.to_string(),
        }
    }

    /// What it takes, for a person who gave something else.
    pub fn takes(&self) -> String {
        let names = |names: &[&str]| format!("one of {}", names.join(", "));
        match self {
            Field::Text(_) => "text".to_string(),
            Field::Address(_) => ADDRESS.to_string(),
            Field::AddressOrNone(_) => format!("{ADDRESS}, or nothing"),
            Field::Path(_) => "a directory".to_string(),
            Field::Number(_, range) if *range.end() == u64::MAX => {
                format!("a whole number from {}", range.start())
            }
            Field::Number(_, range) => format!("a whole number from {} to {}", range.start(), range.end()),
            Field::Bytes(_, range) => {
                let (least, most) = (show_bytes(*range.start()), show_bytes(*range.end()));
                format!("a size from {least} to {most}: bytes, or with kb, mb, gb")
            }
            Field::ReadMode(_) => names(&READ_MODES.map(|(name, _)| name)),
            Field::Forward(_) => names(&FORWARD.map(|(name, _)| name)),
            Field::LogLevel(_) => names(&LOG_LEVELS),
            Field::OneOf(_, words) => names(words),
            Field::Members(_) => members::TAKES.to_string(),
            Field::Signed(_) => "a whole number from -1".to_string(),
            Field::YesNo(_) => "yes or no".to_string(),
            Field::OutputLimits(_) => "a class (normal, slave, pubsub), two sizes and seconds".to_string(),
            Field::NotifyOn(_) => "letters of KEg$lshzxetdnmA".to_string(),
            Field::EventsFrom(_) => names(&EVENTS_FROM.map(|(name, _)| name)),
            Field::ClientsLimit(_) => "a size, or a percentage of maxmemory".to_string(),
            Field::Percentiles(_) => "numbers from 0 to 100".to_string(),
        }
    }
}

/// `host:port`, the port not 0.
pub fn parse_address(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let host_is_one = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || ",=@".contains(c));
    (host_is_one && port != 0).then(|| text.to_string())
}

const UNITS: [(&str, u64); 7] = [
    ("gb", 1 << 30),
    ("mb", 1 << 20),
    ("kb", 1 << 10),
    ("g", 1_000_000_000),
    ("m", 1_000_000),
    ("k", 1_000),
    ("b", 1),
];

/// A number of bytes as Redis reads it: `1k` is 1000, `1kb` is 1024.
pub(super) fn parse_bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let unit = UNITS.iter().find_map(|(unit, bytes)| Some((lower.strip_suffix(unit)?, *bytes)));
    let (number, unit) = unit.unwrap_or((&lower, 1));
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// A number of bytes in its largest whole unit.
pub fn show_bytes(bytes: u64) -> String {
    let whole = |(_, unit): &&(&str, u64)| bytes >= *unit && bytes.is_multiple_of(*unit);
    match UNITS[..3].iter().find(whole) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("64mb", Some(64 << 20)),
            ("1K", Some(1000)),
            ("1Kb", Some(1024)),
            ("7", Some(7)),
            ("7b", Some(7)),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text}");
        }
        for text in ["", "mb", "-1", "1.5gb", "1tb", "99999999999gb"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
        assert_eq!([show_bytes(64 << 20), show_bytes(1500), show_bytes(3 << 30)], ["64mb", "1500", "3gb"]);
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        assert!(["a:1", "127.0.0.1:7001", "[::1]:7001"].iter().all(|text| parse_address(text).is_some()));
        assert!(
            ["a", ":1", "a:", "a:0", "a:65536", "a b:1", "a@b:1"].iter().all(|t| parse_address(t).is_none())
        );
    }
}
