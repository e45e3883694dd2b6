//! Replies to bytes, in either protocol.

use bytes::{BufMut, BytesMut};
use quoris_engine::Reply;
use quoris_engine::value::number::{format_decimal, format_double};

/// The version of RESP that a connection speaks; HELLO changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What a connection starts with.
    #[default]
    Resp2,
    /// Maps, sets, doubles, nulls and pushes of their own.
    Resp3,
}

impl Protocol {
    /// 2 or 3.
    pub fn number(self) -> i64 {
        match self {
            Protocol::Resp2 => 2,
            Protocol::Resp3 => 3,
        }
    }
}

/// Appends `reply`.
pub fn encode(reply: &Reply, protocol: Protocol, out: &mut BytesMut) {
    let resp3 = protocol == Protocol::Resp3;
    match reply {
        Reply::Simple(text) => put_line(out, b'+', text.as_bytes()),
        Reply::Status(text) => put_line(out, b'+', text),
        Reply::Int(value) => put_number(out, b':', *value),
        Reply::Bulk(bytes) => put_bulk(out, bytes),
        Reply::Null | Reply::NullArray if resp3 => out.put_slice(b"_\r\n"),
        Reply::Null => out.put_slice(b"$-1\r\n"),
        Reply::NullArray => out.put_slice(b"*-1\r\n"),
        Reply::Array(items) => put_items(out, b'*', items, protocol),
        Reply::Set(items) => put_items(out, if resp3 { b'~' } else { b'*' }, items, protocol),
        Reply::Push(items) => put_items(out, if resp3 { b'>' } else { b'*' }, items, protocol),
        Reply::Attributed(attributes, reply) => {
            if resp3 {
                put_number(out, b'|', attributes.len() as i64);
                put_pairs(out, attributes, protocol);
            }
            encode(reply, protocol, out);
        }
        Reply::Map(pairs) | Reply::Named(pairs) if resp3 => {
            put_number(out, b'%', pairs.len() as i64);
            put_pairs(out, pairs, protocol);
        }
        Reply::Map(pairs) => put_flat(out, pairs, protocol),
        Reply::Pairs(pairs) if resp3 => put_nested(out, pairs, protocol),
        Reply::Named(pairs) => put_nested(out, pairs, protocol),
        Reply::Pairs(pairs) => put_flat(out, pairs, protocol),
        Reply::Double(value) if resp3 => put_line(out, b',', format_double(*value).as_bytes()),
        Reply::Double(value) => put_bulk(out, format_double(*value).as_bytes()),
        Reply::BigNumber(digits) if resp3 => put_line(out, b'(', digits),
        Reply::BigNumber(digits) => put_bulk(out, digits),
        Reply::Decimal(value) if resp3 => put_line(out, b',', format_decimal(*value).as_bytes()),
        Reply::Decimal(value) => put_bulk(out, format_decimal(*value).as_bytes()),
        Reply::Bool(value) if resp3 => out.put_slice(if *value { b"#t\r\n" } else { b"#f\r\n" }),
        Reply::Bool(value) => put_number(out, b':', i64::from(*value)),
        Reply::Verbatim(format, text) if resp3 => {
            debug_assert_eq!(format.len(), 3);
            put_number(out, b'=', text.len() as i64 + 4);
            out.put_slice(format.as_bytes());
            out.put_u8(b':');
            out.put_slice(text);
            out.put_slice(b"\r\n");
        }
        Reply::Verbatim(_, text) => put_bulk(out, text),
        Reply::Block(_) | Reply::Blocked { .. } => unreachable!("a call that blocks has no reply yet"),
        Reply::Error(error) => encode_error(error.to_string().as_bytes(), out),
    }
}

/// Appends an error; `line` starts with its code. Line breaks become spaces: they would break the framing.
pub fn encode_error(line: &[u8], out: &mut BytesMut) {
    out.put_u8(b'-');
    out.extend(line.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    out.put_slice(b"\r\n");
}

/// Appends a call, as a client sends it.
pub fn encode_call(words: &[impl AsRef<[u8]>], out: &mut BytesMut) {
    put_number(out, b'*', words.len() as i64);
    words.iter().for_each(|word| put_bulk(out, word.as_ref()));
}

/// How many bytes [`encode_call`] makes of a call.
pub fn encoded_len(words: &[impl AsRef<[u8]>]) -> usize {
    let header = |number: usize| 3 + number.checked_ilog10().map_or(1, |digits| digits as usize + 1);
    let word = |word: &[u8]| header(word.len()) + word.len() + 2;
    header(words.len()) + words.iter().map(|w| word(w.as_ref())).sum::<usize>()
}

fn put_line(out: &mut BytesMut, kind: u8, text: &[u8]) {
    out.put_u8(kind);
    out.put_slice(text);
    out.put_slice(b"\r\n");
}

/// Written from its end, which costs a third of what formatting does: every reply has a number.
fn put_number(out: &mut BytesMut, kind: u8, number: i64) {
    const LONGEST: usize = b":-9223372036854775808\r\n".len();
    let mut line = [0; LONGEST];
    let mut at = LONGEST;
    let mut put = |byte| {
        at -= 1;
        line[at] = byte;
    };
    put(b'\n');
    put(b'\r');
    let mut rest = number.unsigned_abs();
    loop {
        put(b'0' + (rest % 10) as u8);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        put(b'-');
    }
    put(kind);
    out.put_slice(&line[at..]);
}

fn put_bulk(out: &mut BytesMut, bytes: &[u8]) {
    put_number(out, b'$', bytes.len() as i64);
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

fn put_items(out: &mut BytesMut, kind: u8, items: &[Reply], protocol: Protocol) {
    put_number(out, kind, items.len() as i64);
    items.iter().for_each(|item| encode(item, protocol, out));
}

fn put_flat(out: &mut BytesMut, pairs: &[(Reply, Reply)], protocol: Protocol) {
    put_number(out, b'*', pairs.len() as i64 * 2);
    put_pairs(out, pairs, protocol);
}

fn put_nested(out: &mut BytesMut, pairs: &[(Reply, Reply)], protocol: Protocol) {
    put_number(out, b'*', pairs.len() as i64);
    for (first, second) in pairs {
        put_number(out, b'*', 2);
        encode(first, protocol, out);
        encode(second, protocol, out);
    }
}

fn put_pairs(out: &mut BytesMut, pairs: &[(Reply, Reply)], protocol: Protocol) {
    for (first, second) in pairs {
        encode(first, protocol, out);
        encode(second, protocol, out);
    }
}

#[cfg(test)]
mod tests {
    use quoris_engine::CommandError;

    use super::*;

    fn both(reply: Reply) -> (String, String) {
        let encoded = |protocol| {
            let mut out = BytesMut::new();
            encode(&reply, protocol, &mut out);
            String::from_utf8_lossy(&out).replace("\r\n", "|")
        };
        (encoded(Protocol::Resp2), encoded(Protocol::Resp3))
    }

    #[test]
    fn each_kind_is_encoded_as_redis_does() {
        let one = || (Reply::bulk("a"), Reply::Int(1));
        for (reply, resp2, resp3) in [
            (Reply::OK, "+OK|", "+OK|"),
            (Reply::Int(-7), ":-7|", ":-7|"),
            (Reply::Int(0), ":0|", ":0|"),
            (Reply::Int(i64::MIN), ":-9223372036854775808|", ":-9223372036854775808|"),
            (Reply::Int(1_234_567_890), ":1234567890|", ":1234567890|"),
            (Reply::bulk(""), "$0||", "$0||"),
            (Reply::Null, "$-1|", "_|"),
            (Reply::NullArray, "*-1|", "_|"),
            (Reply::Array(vec![Reply::Null, Reply::OK]), "*2|$-1|+OK|", "*2|_|+OK|"),
            (Reply::Map(vec![one()]), "*2|$1|a|:1|", "%1|$1|a|:1|"),
            (Reply::Pairs(vec![one()]), "*2|$1|a|:1|", "*1|*2|$1|a|:1|"),
            (Reply::Named(vec![one()]), "*1|*2|$1|a|:1|", "%1|$1|a|:1|"),
            (Reply::Set(vec![Reply::Int(1)]), "*1|:1|", "~1|:1|"),
            (Reply::Push(vec![Reply::Int(1)]), "*1|:1|", ">1|:1|"),
            (Reply::Attributed(vec![one()], Box::new(Reply::OK)), "+OK|", "|1|$1|a|:1|+OK|"),
            (Reply::Double(3.0), "$1|3|", ",3|"),
            (Reply::Decimal(0.5), "$3|0.5|", ",0.5|"),
            (Reply::Double(0.1), "$19|0.10000000000000001|", ",0.10000000000000001|"),
            (Reply::Double(f64::NEG_INFINITY), "$4|-inf|", ",-inf|"),
            (Reply::Bool(true), ":1|", "#t|"),
            (Reply::Verbatim("txt", "hi".into()), "$2|hi|", "=6|txt:hi|"),
            (Reply::Error(CommandError::Syntax), "-ERR syntax error|", "-ERR syntax error|"),
            (Reply::Error(CommandError::Text("ERR a\r\nb")), "-ERR a  b|", "-ERR a  b|"),
        ] {
            assert_eq!(both(reply), (resp2.to_string(), resp3.to_string()));
        }
    }

    #[test]
    fn nesting_may_be_deep() {
        const DEPTH: usize = 1000;
        let nested = (0..DEPTH).fold(Reply::Int(1), |inner, _| Reply::Array(vec![inner]));
        assert_eq!(both(nested).0, format!("{}:1|", "*1|".repeat(DEPTH)));
    }
}
