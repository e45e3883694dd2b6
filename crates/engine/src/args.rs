//! A call's arguments and how handlers read them.

use bytes::Bytes;

use crate::error::CommandError;
use crate::value::number;

/// The words of one call; word 0 is the command's name (and word 1 the subcommand's, where there is one).
/// Arity has been checked before a handler sees them: indexing below the row's arity cannot fail.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a>(pub &'a [Bytes]);

impl<'a> Args<'a> {
    /// How many words, the name included.
    #[allow(clippy::len_without_is_empty)] // never empty: the name is a word
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Word `i`.
    pub fn bytes(&self, i: usize) -> &'a Bytes {
        &self.0[i]
    }

    /// The words from `i` on.
    pub fn from(&self, i: usize) -> &'a [Bytes] {
        &self.0[i.min(self.0.len())..]
    }

    /// Whether word `i` is there and is `option`, whatever its case.
    pub fn is(&self, i: usize, option: &str) -> bool {
        self.0.get(i).is_some_and(|word| word.eq_ignore_ascii_case(option.as_bytes()))
    }

    /// Word `i` as a 64-bit signed integer, written exactly as Redis would write it.
    pub fn int(&self, i: usize) -> Result<i64, CommandError> {
        self.0.get(i).and_then(|word| number::parse_int(word)).ok_or(CommandError::NotInteger)
    }

    /// Word `i` as a number of things; `None` if it is not an integer or negative.
    pub fn count(&self, i: usize) -> Option<usize> {
        self.int(i).ok().and_then(|n| usize::try_from(n).ok())
    }

    /// Word `i` as a floating point number that is not NaN.
    pub fn float(&self, i: usize) -> Result<f64, CommandError> {
        self.0.get(i).and_then(|word| number::parse_float(word)).ok_or(CommandError::NotFloat)
    }

    /// Word `i`, seconds with decimals, as how many milliseconds a blocking call waits; `None`: for ever.
    pub fn timeout_ms(&self, i: usize) -> Result<Option<u64>, CommandError> {
        let no_float = CommandError::Text("ERR timeout is not a float or out of range");
        let ms = libm::ceil(self.float(i).map_err(|_| no_float)? * 1000.0);
        if ms < 0.0 {
            return Err(CommandError::Text("ERR timeout is negative"));
        }
        if ms >= i64::MAX as f64 {
            return Err(CommandError::Text("ERR timeout is out of range"));
        }
        Ok(Some(ms as u64).filter(|&ms| ms > 0))
    }
}
