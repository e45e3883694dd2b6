//! Keyspace notifications: what an entry did to keys, as messages on `__keyspace@0__:<key>` and `__keyevent@0__:<event>`.
//!
//! Every node tells its own subscribers of what it applies, which is every group's entries: whoever listens at any one node
//! hears of all keys, once. In Redis Cluster a node tells of the keys it serves alone, and clients made for that listen at
//! every node: for them `keyspace-events-from = led` has each event told at its group's leader only.

use std::fmt;

use bytes::Bytes;
use quoris_engine::events::EventClass;

/// The setting `notify-keyspace-events`: which events, and on which channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotifyOn {
    /// Which classes.
    pub classes: EventClass,
    /// `K`: on the key's channel.
    pub keyspace: bool,
    /// `E`: on the event's channel.
    pub keyevent: bool,
    /// `m`, `d`: classes of which quoris has no events, kept so that the setting shows what it was given.
    missed: bool,
    modules: bool,
}

const LETTERS: [(EventClass, char); 10] = [
    (EventClass::GENERIC, 'g'),
    (EventClass::STRING, '$'),
    (EventClass::LIST, 'l'),
    (EventClass::SET, 's'),
    (EventClass::HASH, 'h'),
    (EventClass::ZSET, 'z'),
    (EventClass::EXPIRED, 'x'),
    (EventClass::EVICTED, 'e'),
    (EventClass::STREAM, 't'),
    (EventClass::NEW, 'n'),
];

impl NotifyOn {
    /// No events.
    pub const NOTHING: NotifyOn = NotifyOn {
        classes: EventClass::empty(),
        keyspace: false,
        keyevent: false,
        missed: false,
        modules: false,
    };

    /// Letters as Redis reads them; `None` if one has no meaning.
    pub fn parse(text: &str) -> Option<NotifyOn> {
        let mut on = NotifyOn::NOTHING;
        for letter in text.chars() {
            match letter {
                'A' => {
                    // All but those of absent keys.
                    on.classes |= EventClass::all().difference(EventClass::NEW);
                    on.modules = true;
                }
                'K' => on.keyspace = true,
                'E' => on.keyevent = true,
                'm' => on.missed = true,
                'd' => on.modules = true,
                _ => on.classes |= LETTERS.iter().find(|(_, known)| *known == letter)?.0,
            }
        }
        Some(on)
    }

    /// Whether anything is to be told at all.
    pub fn is_on(&self) -> bool {
        (self.keyspace || self.keyevent) && !self.classes.is_empty()
    }

    /// The channels and messages of `event` that happened to `key`.
    pub fn messages(
        &self,
        class: EventClass,
        event: &'static str,
        key: &Bytes,
    ) -> impl Iterator<Item = (Bytes, Bytes)> + use<> {
        let wanted = self.classes.contains(class);
        let channel = |prefix: &str, name: &[u8]| Bytes::from([prefix.as_bytes(), name].concat());
        let event_word = Bytes::from_static(event.as_bytes());
        let of_key = (wanted && self.keyspace).then(|| (channel("__keyspace@0__:", key), event_word));
        let of_event =
            (wanted && self.keyevent).then(|| (channel("__keyevent@0__:", event.as_bytes()), key.clone()));
        of_key.into_iter().chain(of_event)
    }
}

impl fmt::Display for NotifyOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = EventClass::all().difference(EventClass::NEW);
        let every = self.modules && self.classes.contains(all);
        let named = |class: EventClass| self.classes.contains(class) && !every;
        let mut text = String::from(if every { "A" } else { "" });
        for (class, letter) in LETTERS {
            if class == EventClass::NEW {
                text.extend((self.modules && !every).then_some('d'));
            }
            // Redis shows `n` only where it shows no `A`.
            text.extend(named(class).then_some(letter));
        }
        for (letter, on) in [('K', self.keyspace), ('E', self.keyevent), ('m', self.missed)] {
            text.extend(on.then_some(letter));
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_read_and_shown_as_redis_does() {
        for (given, shown) in [
            ("", ""),
            ("gKE", "gKE"),
            ("$lshzxeKE", "$lshzxeKE"),
            ("KA", "AK"),
            ("EA", "AE"),
            ("g$lshzxetdK", "AK"),
            ("Kn", "nK"),
            ("Emd", "dEm"),
        ] {
            let on = NotifyOn::parse(given).unwrap_or_else(|| panic!("{given}"));
            assert_eq!(on.to_string(), shown, "{given}");
        }
        assert_eq!(NotifyOn::parse("Kq"), None);
    }

    #[test]
    fn an_event_is_told_where_the_letters_say() {
        let told = |letters: &str, class| {
            let on = NotifyOn::parse(letters).unwrap_or(NotifyOn::NOTHING);
            let messages = on.messages(class, "set", &Bytes::from_static(b"k"));
            messages.map(|(c, m)| format!("{} {}", c.escape_ascii(), m.escape_ascii())).collect::<Vec<_>>()
        };
        assert_eq!(told("KEA", EventClass::STRING), ["__keyspace@0__:k set", "__keyevent@0__:set k"]);
        assert_eq!(told("K$", EventClass::STRING), ["__keyspace@0__:k set"]);
        assert!(told("KEg", EventClass::STRING).is_empty() && told("KEA", EventClass::NEW).is_empty());
    }
}
