//! What is changed in a script's text before it is compiled, because Lua calls nobody where it happens: `^`, which must be
//! libm's, and `..`, which must be counted.
//!
//! `^`: Lua's own is the platform's `pow`, whose last digit differs from one C library, or one processor, to the next. Lua calls
//! no metamethod for an operation on two numbers. But `^` binds to the right, so `a ^ b` can be written `a ^ MARK ^ b`, which
//! is `a ^ (MARK ^ b)`, and both operations have an operand that is no number: what `MARK` stands for in prelude.lua keeps
//! `b` and then takes `a` to libm.
//!
//! `..`: one instruction makes a string of any length, and the same one again and again, which takes no memory. It binds to the
//! right, too, so `MARK .. a .. b` is `MARK .. (a .. b)`: what `MARK` stands for sees what has been made, counts it and gives
//! it back. It is written in front of the first operand, so the text is read for where expressions begin.

use std::borrow::Cow;

/// The local variable that holds what the operators are handed.
const MARK: &str = "__mark";

/// Words that are no part of an operand of `..`: behind them an expression may begin.
const BETWEEN: [&[u8]; 17] = [
    b"and",
    b"break",
    b"do",
    b"else",
    b"elseif",
    b"end",
    b"for",
    b"function",
    b"if",
    b"in",
    b"local",
    b"or",
    b"repeat",
    b"return",
    b"then",
    b"until",
    b"while",
];

/// `text` as it is compiled. Lines stay where they are.
pub fn prepared(text: &[u8]) -> Cow<'_, [u8]> {
    let mut reader =
        Reader { text, at: 0, open: vec![Expression::default()], additions: Vec::new(), spreads: false };
    reader.read();
    let Reader { mut additions, spreads, .. } = reader;
    if additions.is_empty() && !spreads {
        return Cow::Borrowed(text);
    }
    // In the order of their places; a `..` is read behind where its addition stands.
    additions.sort_by_key(|(at, _)| *at);
    // By way of a string, because code may be given another environment.
    let call = if spreads { format!("{MARK}();") } else { String::new() };
    let mut changed = format!("local {MARK}=(\"\").{MARK};{call}").into_bytes();
    let mut from = 0;
    for (at, operator) in additions {
        changed.extend_from_slice(&text[from..at]);
        changed.extend_from_slice(format!(" {MARK}{operator} ").as_bytes());
        from = at;
    }
    changed.extend_from_slice(&text[from..]);
    Cow::Owned(changed)
}

/// An expression that has begun and may yet turn out to be made by `..`.
#[derive(Clone, Copy, Default)]
struct Expression {
    /// Where it begins.
    begin: usize,
    /// Whether anything of it has been read.
    has_operand: bool,
    /// Whether `MARK` stands in front of it already.
    marked: bool,
}

/// Reads tokens as Lua does, as far as it takes to know where expressions begin.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    /// One for each bracket that is open, and the outermost.
    open: Vec<Expression>,
    /// What is to be written where, with the operator behind `MARK`.
    additions: Vec<(usize, &'static str)>,
    /// Whether there is a `...`.
    spreads: bool,
}

impl Reader<'_> {
    fn read(&mut self) {
        while let Some(byte) = self.text.get(self.at) {
            match byte {
                b' ' | b'\t'..=b'\r' => self.at += 1,
                b'-' if self.rest().starts_with(b"--") => {
                    let long = long_bracket(self.text, self.at + 2);
                    self.at = long.unwrap_or_else(|| find(self.text, self.at, b"\n"));
                }
                _ => self.token(*byte),
            }
        }
    }

    fn rest(&self) -> &[u8] {
        &self.text[self.at..]
    }

    fn token(&mut self, byte: u8) {
        match byte {
            b'\'' | b'"' => self.operand(quoted(self.text, self.at, byte)),
            b'[' if long_bracket(self.text, self.at).is_some() => {
                self.operand(long_bracket(self.text, self.at).unwrap_or(self.text.len()));
            }
            b'(' | b'[' | b'{' => {
                self.operand(self.at + 1);
                self.open.push(Expression { begin: self.at, ..Expression::default() });
            }
            b')' | b']' | b'}' => {
                self.at += 1;
                if self.open.len() > 1 {
                    self.open.pop();
                }
            }
            b'^' => {
                self.operand(self.at + 1);
                self.additions.push((self.at, "^"));
            }
            b'.' if self.rest().starts_with(b"...") => {
                self.spreads = true;
                self.operand(self.at + 3);
            }
            b'.' if self.rest().starts_with(b"..") => self.concatenation(),
            b'=' | b'<' | b'>' | b'~' | b',' | b';' => {
                self.at += if self.text.get(self.at + 1) == Some(&b'=') { 2 } else { 1 };
                self.begin();
            }
            b'0'..=b'9' => self.operand(number(self.text, self.at)),
            b'.' if self.text.get(self.at + 1).is_some_and(u8::is_ascii_digit) => {
                self.operand(number(self.text, self.at));
            }
            byte if is_in_name(byte) => {
                let len = self.rest().iter().take_while(|byte| is_in_name(**byte)).count();
                let between = BETWEEN.contains(&&self.rest()[..len]);
                self.operand(self.at + len);
                if between {
                    self.begin();
                }
            }
            _ => self.operand(self.at + 1),
        }
    }

    fn innermost(&mut self) -> &mut Expression {
        if self.open.is_empty() {
            self.open.push(Expression::default());
        }
        self.open.last_mut().expect("one has been added")
    }

    fn operand(&mut self, end: usize) {
        self.at = end;
        self.innermost().has_operand = true;
    }

    fn begin(&mut self) {
        let begin = self.at;
        *self.innermost() = Expression { begin, ..Expression::default() };
    }

    fn concatenation(&mut self) {
        self.at += 2;
        let expression = self.innermost();
        // Without an operand in front it is a mistake that Lua will tell of.
        if expression.has_operand && !expression.marked {
            expression.marked = true;
            let begin = expression.begin;
            self.additions.push((begin, ".."));
        }
    }
}

fn is_in_name(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric() || byte >= 128
}

/// The end of the number that begins at `at`, as Lua reads it: `1e-5`, `0x1F`; and `1..2`, which is none.
fn number(text: &[u8], at: usize) -> usize {
    let digits = |from: usize| text[from..].iter().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
    let mut end = at + digits(at);
    if matches!(text.get(end), Some(b'e' | b'E')) {
        end += 1;
        if matches!(text.get(end), Some(b'+' | b'-')) {
            end += 1;
        }
    }
    end + text[end..].iter().take_while(|byte| is_in_name(**byte)).count()
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

    #[test]
    fn a_concatenation_is_marked_once_where_it_begins() {
        for (text, expected) in [
            ("return ...", "__mark();return ..."),
            ("return a..b", "return __mark..  a..b"),
            ("x = a .. b .. c", "x = __mark..  a .. b .. c"),
            ("f(a, b.c[i]..d(e..f), -g ..h)", "f(a, __mark..  b.c[i]..d( __mark.. e..f), __mark..  -g ..h)"),
            ("if a..b == c..d then", "if __mark..  a..b == __mark..  c..d then"),
            ("t = {a..b; [c..d] = e..1 ..2}", "t = { __mark.. a..b; [ __mark.. c..d] = __mark..  e..1 ..2}"),
            ("return not a..b", "return __mark..  not a..b"),
            ("x = 1e-5 ..y", "x = __mark..  1e-5 ..y"),
            ("x = f() y = a..b", "x = f() y = __mark..  a..b"),
        ] {
            assert_eq!(changed(text), expected);
        }
    }
}
