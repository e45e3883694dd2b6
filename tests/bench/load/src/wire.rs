//! As much of RESP2 as a load generator needs: encoding commands, and counting replies without keeping them.

use anyhow::{Result, bail};

/// Appends a command to `out`.
pub fn encode(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// The bytes of the first whole reply in `data`, or None if it is not whole yet. An error reply is an error.
///
/// Only the replies of SET and GET occur: simple strings, bulk strings and null.
pub fn reply_len(data: &[u8]) -> Result<Option<usize>> {
    let Some(line) = data.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&data[1..line])?;
    let len = match data[0] {
        b'+' | b':' => line + 2,
        b'$' if text.starts_with('-') => line + 2,
        b'$' => line + 2 + text.parse::<usize>()? + 2,
        b'-' => bail!("the server answers: {text}"),
        other => bail!("unexpected reply type {:?}", char::from(other)),
    };
    Ok((data.len() >= len).then_some(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_counts_once_it_is_whole() {
        assert_eq!(reply_len(b"+OK\r\n+OK\r\n").unwrap(), Some(5));
        assert_eq!(reply_len(b"$3\r\nabc\r").unwrap(), None);
        assert_eq!(reply_len(b"$3\r\nabc\r\n").unwrap(), Some(9));
        assert_eq!(reply_len(b"$-1\r\n").unwrap(), Some(5));
        assert!(reply_len(b"-MOVED 1 127.0.0.1:7001\r\n").is_err());
    }
}
