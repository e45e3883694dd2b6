//! Redis's patterns, for names of settings and commands.

/// Whether all of `text` matches `pattern`, whatever the case: `*`, `?`, `[a-z]`, `[^a]` and `\` before a byte
/// that stands for itself.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when a later part fails: after the last `*`, one byte further in the text.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, t + 1));
            continue;
        }
        let step = match (p < pattern.len(), text.get(t)) {
            (false, None) => return true,
            (true, Some(byte)) => one(&pattern[p..], *byte),
            _ => None,
        };
        match (step, retry) {
            (Some(length), _) => (p, t) = (p + length, t + 1),
            (None, Some((after, next))) if next <= text.len() => {
                (p, t) = (after, next);
                retry = Some((after, next + 1));
            }
            _ => return false,
        }
    }
}

/// The length of the pattern's first item, if `byte` matches it.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    let same = |item: u8| item.eq_ignore_ascii_case(&byte);
    match pattern {
        [b'?', ..] => Some(1),
        [b'\\', item, ..] => same(*item).then_some(2),
        [b'[', set @ ..] => {
            let (length, holds) = in_set(set, byte);
            holds.then_some(1 + length)
        }
        [item, ..] => same(*item).then_some(1),
        [] => None,
    }
}

/// The length of a set after its `[`, and whether `byte` is in it. Like Redis's, it may lack its `]`.
fn in_set(set: &[u8], byte: u8) -> (usize, bool) {
    let byte = byte.to_ascii_lowercase();
    let negated = set.first() == Some(&b'^');
    let (mut at, mut found) = (usize::from(negated), false);
    loop {
        match &set[at..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', item, ..] => {
                found |= item.to_ascii_lowercase() == byte;
                at += 2;
            }
            [first, b'-', last, ..] => {
                let (first, last) = (first.to_ascii_lowercase(), last.to_ascii_lowercase());
                found |= (first.min(last)..=first.max(last)).contains(&byte);
                at += 3;
            }
            [item, ..] => {
                found |= item.to_ascii_lowercase() == byte;
                at += 1;
            }
        }
    }
    (at, found != negated)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text) in [
            ("*", ""), ("max*", "maxclients"), ("*a*b", "xaybzb"), ("h?llo", "hello"), ("h[ae]llo", "HALLO"),
            ("h[^e]llo", "hallo"), ("h[a-b]llo", "hbllo"), ("a\\*b", "a*b"), ("[abc", "a"), ("GET", "get"),
        ] {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for (pattern, text) in
            [("", "a"), ("a", ""), ("h?llo", "hllo"), ("h[^e]llo", "hello"), ("a\\*b", "axb"), ("*a", "ab")]
        {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }
}
