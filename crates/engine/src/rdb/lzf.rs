//! M. Lehmann's LZF: runs of literal bytes, and copies of what stands up to 8191 bytes before.

use super::Corrupt;

/// Unpacks to exactly `len` bytes. Takes memory as it goes, never more than that.
pub(super) fn unpack(mut packed: &[u8], len: usize) -> Result<Vec<u8>, Corrupt> {
    const LITERALS: u8 = 32;
    const LONG: usize = 7;
    let mut out = Vec::with_capacity(len.min(packed.len() * 4));
    while let Some(control) = take(&mut packed) {
        if control < LITERALS {
            let (literal, rest) = packed.split_at_checked(usize::from(control) + 1).ok_or(Corrupt)?;
            out.extend_from_slice(literal);
            packed = rest;
        } else {
            let mut copied = usize::from(control >> 5);
            if copied == LONG {
                copied += usize::from(take(&mut packed).ok_or(Corrupt)?);
            }
            let back = usize::from(control & 0x1f) << 8 | usize::from(take(&mut packed).ok_or(Corrupt)?);
            let from = out.len().checked_sub(back + 1).ok_or(Corrupt)?;
            // A copy may reach into itself: it repeats then.
            for at in from..from + copied + 2 {
                out.push(out[at]);
            }
        }
        if out.len() > len {
            return Err(Corrupt);
        }
    }
    if out.len() == len { Ok(out) } else { Err(Corrupt) }
}

fn take(from: &mut &[u8]) -> Option<u8> {
    let (first, rest) = from.split_first()?;
    *from = rest;
    Some(*first)
}
