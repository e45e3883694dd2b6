//! The patterns of KEYS, SCAN MATCH and their like: Redis's globs, byte by byte.
//!
//! `?` is one byte, `*` any number of them, `[abc]`, `[a-z]`, `[^x]` one byte of (or not of) a class, `\` takes
//! the next byte literally. What Redis makes of unfinished patterns is kept: a class without `]` ends with the
//! pattern, and an empty text matches the empty pattern alone, not even `*`.

/// Whether `text` matches `pattern`. Costs at most the product of their lengths: only the last `*` met is ever
/// tried again further on, because no earlier one could do better.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut rest, mut at) = (pattern, 0);
    let mut star: Option<(&[u8], usize)> = None;
    while at < text.len() {
        if let [b'*', after @ ..] = rest {
            if after.is_empty() {
                return true;
            }
            rest = after;
            star = Some((after, at));
        } else if let Some(after) = one(rest, text[at]) {
            rest = after;
            at += 1;
        } else if let Some((after, from)) = star {
            rest = after;
            at = from + 1;
            star = Some((after, at));
        } else {
            return false;
        }
    }
    rest.iter().all(|&b| b == b'*')
}

/// What is left of `pattern` after it has taken `byte`; `None` if it does not.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', b'^', rest @ ..] => class(rest, byte, true),
        [b'[', rest @ ..] => class(rest, byte, false),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == byte).then_some(rest),
    }
}

fn class(mut pattern: &[u8], byte: u8, negated: bool) -> Option<&[u8]> {
    let mut found = false;
    let rest = loop {
        pattern = match pattern {
            [] => break pattern,
            [b'\\', literal, rest @ ..] => {
                found |= *literal == byte;
                rest
            }
            [b']', rest @ ..] => break rest,
            [start, b'-', end, rest @ ..] => {
                found |= in_range(*start, *end, byte);
                rest
            }
            [literal, rest @ ..] => {
                found |= *literal == byte;
                rest
            }
        };
    };
    (found != negated).then_some(rest)
}

/// Redis compares C's `char`, which is signed where it usually runs.
fn in_range(start: u8, end: u8, byte: u8) -> bool {
    let (start, end, byte) = (start as i8, end as i8, byte as i8);
    (start.min(end)..=start.max(end)).contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        let cases: &[(&str, &str, bool)] = &[
            ("*", "anything", true),
            ("*", "", false),
            ("", "", true),
            ("", "x", false),
            ("a*", "a", true),
            ("a**", "a", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxcxxb", false),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("[a-]]", "_", true),
            ("[\\]]", "]", true),
            ("[]a", "a", false),
            ("[^]a", "xa", true),
            ("[", "[", false),
            ("[^", "x", true),
            ("[a", "a", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("a\\", "a\\", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), *expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn many_stars_stay_cheap() {
        let pattern = "a*".repeat(1000) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(10_000).as_bytes()));
    }
}
