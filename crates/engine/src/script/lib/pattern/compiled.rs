//! A Lua pattern, taken apart.
//!
//! What is wrong with a pattern is an item of its own: Lua complains of it only when it gets there.

/// A set of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set([u64; 4]);

impl Set {
    /// Whether `byte` is in it.
    pub fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 != 0
    }

    fn add(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    fn add_all(&mut self, other: Set) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine |= theirs);
    }

    fn inverted(self) -> Set {
        Set(self.0.map(|word| !word))
    }

    fn of(is_in: impl Fn(u8) -> bool) -> Set {
        let mut set = Set::default();
        (0..=u8::MAX).filter(|byte| is_in(*byte)).for_each(|byte| set.add(byte));
        set
    }

    /// What stands behind a `%`: a class, its complement if it is upper case, or the byte itself.
    fn class(letter: u8) -> Set {
        let class: fn(u8) -> bool = match letter.to_ascii_lowercase() {
            b'a' => |c| c.is_ascii_alphabetic(),
            b'c' => |c| c.is_ascii_control(),
            b'd' => |c| c.is_ascii_digit(),
            b'l' => |c| c.is_ascii_lowercase(),
            b'p' => |c| c.is_ascii_punctuation(),
            b's' => |c| matches!(c, b' ' | b'\t'..=b'\r'),
            b'u' => |c| c.is_ascii_uppercase(),
            b'w' => |c| c.is_ascii_alphanumeric(),
            b'x' => |c| c.is_ascii_hexdigit(),
            b'z' => |c| c == 0,
            _ => return Set::of(|c| c == letter),
        };
        let set = Set::of(class);
        if letter.is_ascii_uppercase() { set.inverted() } else { set }
    }
}

/// What matches one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Single {
    /// Any byte.
    Any,
    /// This byte.
    Byte(u8),
    /// One of these.
    Of(Set),
}

impl Single {
    /// Whether it matches `byte`.
    pub fn has(&self, byte: u8) -> bool {
        match self {
            Single::Any => true,
            Single::Byte(own) => *own == byte,
            Single::Of(set) => set.has(byte),
        }
    }
}

/// How often a byte is matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Once.
    Once,
    /// `?`
    Maybe,
    /// `*`
    Most,
    /// `+`
    MostOfOne,
    /// `-`
    Least,
}

/// A part of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A byte, so many times.
    Bytes(Single, Repeat),
    /// `(`
    Open,
    /// `()`
    Position,
    /// `)`
    Close,
    /// `%bxy`
    Balanced(u8, u8),
    /// `%f[set]`
    Frontier(Set),
    /// `%1`; the digit.
    Captured(u8),
    /// `$`
    End,
    /// What is wrong.
    Wrong(&'static str),
}

/// A pattern's items.
pub fn items(pattern: &[u8]) -> Vec<Item> {
    // As it is a text of C's, it ends with the first zero.
    let pattern = pattern.split(|byte| *byte == 0).next().unwrap_or_default();
    let mut items = Vec::with_capacity(pattern.len().min(64));
    let mut rest = pattern;
    while !rest.is_empty() {
        let (item, after) = item(rest).unwrap_or_else(|wrong| (Item::Wrong(wrong), &[]));
        items.push(item);
        rest = after;
    }
    items
}

/// The first item, and what follows.
fn item(pattern: &[u8]) -> Result<(Item, &[u8]), &'static str> {
    match pattern {
        [b'(', b')', rest @ ..] => Ok((Item::Position, rest)),
        [b'(', rest @ ..] => Ok((Item::Open, rest)),
        [b')', rest @ ..] => Ok((Item::Close, rest)),
        [b'$'] => Ok((Item::End, &[])),
        [b'%', b'b', open, close, rest @ ..] => Ok((Item::Balanced(*open, *close), rest)),
        [b'%', b'b', ..] => Err("unbalanced pattern"),
        [b'%', b'f', b'[', ..] => set(&pattern[2..]).map(|(set, rest)| (Item::Frontier(set), rest)),
        [b'%', b'f', ..] => Err("missing '[' after '%f' in pattern"),
        [b'%', digit @ b'0'..=b'9', rest @ ..] => Ok((Item::Captured(*digit), rest)),
        _ => {
            let (single, rest) = single(pattern)?;
            let (repeat, rest) = match rest {
                [b'?', rest @ ..] => (Repeat::Maybe, rest),
                [b'*', rest @ ..] => (Repeat::Most, rest),
                [b'+', rest @ ..] => (Repeat::MostOfOne, rest),
                [b'-', rest @ ..] => (Repeat::Least, rest),
                rest => (Repeat::Once, rest),
            };
            Ok((Item::Bytes(single, repeat), rest))
        }
    }
}

fn single(pattern: &[u8]) -> Result<(Single, &[u8]), &'static str> {
    match pattern {
        [b'.', rest @ ..] => Ok((Single::Any, rest)),
        [b'%'] => Err("malformed pattern (ends with '%')"),
        [b'%', letter, rest @ ..] if letter.is_ascii_alphabetic() => {
            Ok((Single::Of(Set::class(*letter)), rest))
        }
        [b'%', byte, rest @ ..] => Ok((Single::Byte(*byte), rest)),
        [b'[', ..] => set(pattern).map(|(set, rest)| (Single::Of(set), rest)),
        [byte, rest @ ..] => Ok((Single::Byte(*byte), rest)),
        [] => Err("malformed pattern"),
    }
}

/// A set in brackets. A bracket that closes it is a byte of it if it comes first.
fn set(pattern: &[u8]) -> Result<(Set, &[u8]), &'static str> {
    const MISSING: &str = "malformed pattern (missing ']')";
    let inverted = pattern.get(1) == Some(&b'^');
    let inside = &pattern[1 + usize::from(inverted)..];
    let mut len = 0;
    while len == 0 || inside.get(len) != Some(&b']') {
        len += match &inside.get(len..).unwrap_or_default() {
            [] => return Err(MISSING),
            [b'%', _, ..] => 2,
            _ => 1,
        };
    }
    let (mut members, rest) = (&inside[..len], &inside[len + 1..]);
    let mut set = Set::default();
    while !members.is_empty() {
        members = match members {
            [b'%', letter, rest @ ..] => {
                set.add_all(Set::class(*letter));
                rest
            }
            [low, b'-', high, rest @ ..] => {
                (*low..=*high).for_each(|byte| set.add(byte));
                rest
            }
            [byte, rest @ ..] => {
                set.add(*byte);
                rest
            }
            [] => members,
        };
    }
    Ok((if inverted { set.inverted() } else { set }, rest))
}
