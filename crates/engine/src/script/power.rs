//! `^` by libm: Lua's own is the platform's `pow`, whose last digit differs from one C library, or one processor, to the
//! next.
//!
//! Lua calls no metamethod for an operation on two numbers. But `^` binds to the right, so `a ^ b` can be written
//! `a ^ POWER ^ b`, which is `a ^ (POWER ^ b)`, and both operations have an operand that is no number: what `POWER` stands
//! for in prelude.lua keeps `b` and then takes `a` to libm. So a script's text is changed in this way before it is compiled.

use std::borrow::Cow;

/// The local variable that holds what stands between the operands.
const POWER: &str = "__power";

/// `text` with every `^` outside of strings and comments made libm's. Lines stay where they are.
pub fn by_libm(text: &[u8]) -> Cow<'_, [u8]> {
    let powers = powers_in(text);
    if powers.is_empty() {
        return Cow::Borrowed(text);
    }
    // A local, because a function may be given another environment.
    let mut changed = format!("local {POWER}={POWER} ").into_bytes();
    let mut from = 0;
    for at in powers {
        changed.extend_from_slice(&text[from..at]);
        changed.extend_from_slice(format!("^{POWER}^").as_bytes());
        from = at + 1;
    }
    changed.extend_from_slice(&text[from..]);
    Cow::Owned(changed)
}

/// Where the operator stands.
fn powers_in(text: &[u8]) -> Vec<usize> {
    let mut powers = Vec::new();
    let mut i = 0;
    while i < text.len() {
        i = match text[i] {
            b'^' => {
                powers.push(i);
                i + 1
            }
            b'-' if text[i..].starts_with(b"--") => match long_bracket(text, i + 2) {
                Some(end) => end,
                None => find(text, i, b"\n"),
            },
            b'[' => long_bracket(text, i).unwrap_or(i + 1),
            quote @ (b'\'' | b'"') => quoted(text, i, quote),
            _ => i + 1,
        };
    }
    powers
}

/// The end of the long bracket (`[[…]]`, `[=[…]=]`) that begins at `at`, if one does.
fn long_bracket(text: &[u8], at: usize) -> Option<usize> {
    let rest = text.get(at..)?.strip_prefix(b"[")?;
    let level = rest.iter().take_while(|byte| **byte == b'=').count();
    if rest.get(level) != Some(&b'[') {
        return None;
    }
    let close = format!("]{}]", "=".repeat(level));
    Some(find(text, at + level + 2, close.as_bytes()))
}

/// The end of the string that begins at `at`. One that does not end in its line is a mistake that Lua will tell of.
fn quoted(text: &[u8], at: usize, quote: u8) -> usize {
    let mut i = at + 1;
    while i < text.len() {
        match text[i] {
            b'\\' => i += 2,
            byte if byte == quote || byte == b'\n' => return i + 1,
            _ => i += 1,
        }
    }
    text.len()
}

/// Behind the first `what` from `at` on, or the end.
fn find(text: &[u8], at: usize, what: &[u8]) -> usize {
    let found = text[at.min(text.len())..].windows(what.len()).position(|bytes| bytes == what);
    found.map_or(text.len(), |offset| at + offset + what.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(text: &str) -> String {
        String::from_utf8(by_libm(text.as_bytes()).into_owned()).expect("text")
    }

    #[test]
    fn only_the_operator_is_changed() {
        for same in [
            "return 1",
            "return ('x'):find('^a\\'^', 1)",
            "return \"^\\\\\"",
            "-- 2^2\nreturn 1",
            "--[[ 2^2\n2^2 ]] return 1",
            "return [==[ ]] 2^2 ]==]",
            "--[==[ ]] 2^2 ",
            "return 'not closed ^",
        ] {
            assert_eq!(changed(same), same);
        }
        let power = "local __power=__power ";
        assert_eq!(changed("return 2^3"), format!("{power}return 2^__power^3"));
        assert_eq!(changed("a[b[1]^2] = '^' ^ x"), format!("{power}a[b[1]^__power^2] = '^' ^__power^ x"));
        assert_eq!(changed("--[[^]] --^\n--[^\nx=1^1"), format!("{power}--[[^]] --^\n--[^\nx=1^__power^1"));
    }
}
