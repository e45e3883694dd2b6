//! Inline commands: a line of words, quoted as Redis's `sdssplitargs` understands them.

use bytes::Bytes;

/// The words of `line`, or `None` if its quotes are unbalanced.
///
/// `"…"` knows `\n \r \t \b \a \xHH` and `\` before any other byte; `'…'` knows only `\'`. A closing quote must be
/// followed by white space or the end of the line.
pub fn split(line: &[u8]) -> Option<Vec<Bytes>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        while let [first, tail @ ..] = rest
            && is_space(*first)
        {
            rest = tail;
        }
        if rest.is_empty() {
            return Some(words);
        }
        let (word, tail) = word(rest)?;
        words.push(word);
        rest = tail;
    }
}

/// C's `isspace`.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// The first word of `text`, which does not start with white space, and what follows it.
fn word(text: &[u8]) -> Option<(Bytes, &[u8])> {
    let mut word = Vec::new();
    let mut rest = text;
    loop {
        match rest {
            [] => break,
            [first, ..] if is_space(*first) => break,
            [quote @ (b'"' | b'\''), tail @ ..] => {
                rest = if *quote == b'"' {
                    double_quoted(tail, &mut word)?
                } else {
                    single_quoted(tail, &mut word)?
                };
                if rest.first().is_some_and(|&next| !is_space(next)) {
                    return None;
                }
            }
            [first, tail @ ..] => {
                word.push(*first);
                rest = tail;
            }
        }
    }
    Some((word.into(), rest))
}

/// Appends what stands before the closing `"`; what follows it.
fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] => return None,
            [b'"', tail @ ..] => return Some(tail),
            [b'\\', b'x', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.push(hex(*high) << 4 | hex(*low));
                tail
            }
            [b'\\', escaped, tail @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                tail
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                tail
            }
        }
    }
}

/// Appends what stands before the closing `'`; what follows it.
fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] => return None,
            [b'\'', tail @ ..] => return Some(tail),
            [b'\\', b'\'', tail @ ..] => {
                word.push(b'\'');
                tail
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                tail
            }
        }
    }
}

/// The value of a hexadecimal digit.
fn hex(digit: u8) -> u8 {
    (digit as char).to_digit(16).map_or(0, |value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_redis_does() {
        for (line, words) in [
            (&b"set key value"[..], &[&b"set"[..], b"key", b"value"][..]),
            (b"  get\tkey \r", &[b"get", b"key"]),
            (b"", &[]),
            (b" \t ", &[]),
            (br#"set k "a b\x00\x7f\n\"q\q""#, &[b"set", b"k", b"a b\0\x7f\n\"qq"]),
            (br#"'it\'s' '\n' "" "#, &[b"it's", b"\\n", b""]),
            (br#"a"b c""#, &[b"ab c"]),
            (br#""\xzz""#, &[b"xzz"]),
        ] {
            let split = split(line).expect("balanced");
            assert_eq!(split, words, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        for line in [&br#"get "a"#[..], br"get 'a", br#"get "a"b"#, br"'a'b", br#""\"#, br#""a\""#] {
            assert_eq!(split(line), None, "{}", String::from_utf8_lossy(line));
        }
    }
}
