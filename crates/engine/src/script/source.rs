//! What is changed in a script's text before it is compiled, because Lua calls nobody where it happens: `^`, which must be
//! libm's.
//!
//! Lua's own is the platform's `pow`, whose last digit differs from one C library, or one processor, to the next. Lua calls
//! no metamethod for an operation on two numbers. But `^` binds to the right, so `a ^ b` can be written `a ^ MARK ^ b`, which
//! is `a ^ (MARK ^ b)`, and both operations have an operand that is no number: what `MARK` stands for in prelude.lua keeps
//! `b` and then takes `a` to libm.

use std::borrow::Cow;

/// The local variable that holds what the operators are handed.
const MARK: &str = "__mark";

/// `text` as it is compiled. Lines stay where they are.
pub fn prepared(text: &[u8]) -> Cow<'_, [u8]> {
    let powers = powers(text);
    if powers.is_empty() {
        return Cow::Borrowed(text);
    }
    // By way of a string, because code may be given another environment.
    let mut changed = format!("local {MARK}=(\"\").{MARK};").into_bytes();
    let mut from = 0;
    for at in powers {
        changed.extend_from_slice(&text[from..at]);
        changed.extend_from_slice(format!(" {MARK}^ ").as_bytes());
        from = at;
    }
    changed.extend_from_slice(&text[from..]);
    Cow::Owned(changed)
}

/// Behind each `^` that is an operator: not in a string or a comment.
fn powers(text: &[u8]) -> Vec<usize> {
    let (mut powers, mut at) = (Vec::new(), 0);
    while let Some(byte) = text.get(at) {
        at = match byte {
            b'-' if text[at..].starts_with(b"--") => {
                long_bracket(text, at + 2).unwrap_or_else(|| find(text, at, b"\n"))
            }
            b'\'' | b'"' => quoted(text, at, *byte),
            b'[' => long_bracket(text, at).unwrap_or(at + 1),
            _ => at + 1,
        };
        if *byte == b'^' {
            powers.push(at);
        }
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
        let changed = String::from_utf8(prepared(text.as_bytes()).into_owned()).expect("text");
        changed.strip_prefix("local __mark=(\"\").__mark;").map_or_else(|| changed.clone(), str::to_string)
    }

    #[test]
    fn only_the_operators_are_changed() {
        for same in [
            "return 1",
            "return ('x'):find('^a\\'^..', 1)",
            "return \"^..\\\"",
            "-- 2^2 a..b\nreturn 1",
            "--[[ 2^2\n2^2 ]] return 1",
            "return [==[ ]] 2^2 a..b ]==]",
            "--[==[ ]] 2^2 ",
            "return 'not closed ^..",
            "return .5",
        ] {
            assert_eq!(changed(same), same);
        }
        assert_eq!(changed("return 2^3"), "return 2^ __mark^ 3");
        assert_eq!(changed("a[b[1]^2] = '^' ^ x"), "a[b[1]^ __mark^ 2] = '^' ^ __mark^  x");
        assert_eq!(changed("--[[^]] --^\n--[^\nx=1^1"), "--[[^]] --^\n--[^\nx=1^ __mark^ 1");
    }
}
