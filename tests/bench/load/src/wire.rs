//! As much of RESP2 as a load generator needs: encoding commands, and counting replies without keeping them.

use anyhow::{Context as _, Result, bail};

/// Appends a command to `out`.
pub fn encode(out: &mut Vec<u8>, words: &[&[u8]]) {
    header(out, b'*', words.len());
    for word in words {
        header(out, b'$', word.len());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// A command's bytes.
pub fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out, words);
    out
}

/// By hand: what formats numbers in general costs as much as the rest of a command.
fn header(out: &mut Vec<u8>, kind: u8, mut number: usize) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.push(kind);
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// The bytes of the first whole reply in `data`, or None if it is not whole yet. An error reply is an error.
pub fn reply_len(data: &[u8]) -> Result<Option<usize>> {
    let Some(line) = data.iter().position(|&byte| byte == b'\r') else { return Ok(None) };
    let text = &data[1..line];
    let mut len = line + 2;
    match data[0] {
        b'+' | b':' => {}
        b'$' | b'*' if text.starts_with(b"-") => {}
        b'$' => len += number(text)? + 2,
        b'*' => {
            for _ in 0..number(text)? {
                let Some(item) = data.get(len..).map_or(Ok(None), reply_len)? else { return Ok(None) };
                len += item;
            }
        }
        b'-' => bail!("the server answers: {}", String::from_utf8_lossy(text)),
        other => bail!("unexpected reply type {:?}", char::from(other)),
    };
    Ok((data.len() >= len).then_some(len))
}

fn number(text: &[u8]) -> Result<usize> {
    std::str::from_utf8(text)?.parse().context("a length that is no number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_words_with_lengths() {
        assert_eq!(command(&[b"GET", b"0123456789"]), b"*2\r\n$3\r\nGET\r\n$10\r\n0123456789\r\n");
        assert_eq!(command(&[b""]), b"*1\r\n$0\r\n\r\n");
    }

    #[test]
    fn a_reply_counts_once_it_is_whole() {
        assert_eq!(reply_len(b"+OK\r\n+OK\r\n").unwrap(), Some(5));
        assert_eq!(reply_len(b"$3\r\nabc\r").unwrap(), None);
        assert_eq!(reply_len(b"$3\r\nabc\r\n").unwrap(), Some(9));
        assert_eq!(reply_len(b"$-1\r\n").unwrap(), Some(5));
        assert!(reply_len(b"-MOVED 1 127.0.0.1:7001\r\n").is_err());
    }

    #[test]
    fn an_array_is_whole_with_its_last_item() {
        let reply = b"*3\r\n+OK\r\n$3\r\nabc\r\n*1\r\n:12\r\n";
        for cut in 1..reply.len() {
            assert_eq!(reply_len(&reply[..cut]).unwrap(), None, "cut at {cut}");
        }
        assert_eq!(reply_len(reply).unwrap(), Some(reply.len()));
        assert_eq!(reply_len(b"*-1\r\n").unwrap(), Some(5));
        assert!(reply_len(b"*2\r\n+OK\r\n-ERR no\r\n").is_err());
    }
}
