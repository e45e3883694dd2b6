//! A reply is of the kind that its call has: connections, relays and shared entries do not mix replies up.
//!
//! A read's reply says more, and is judged by [`super::reads_are_linearizable`]: no value is ever written to two keys.

use super::Verdict;
use crate::client::Reply;

/// What a call is answered with when it has been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// `OK`.
    Status,
    /// A length.
    Number,
    /// The replies of a transaction.
    Many,
}

/// `call` was answered with `reply`; errors answer any call.
pub fn answers(call: &str, expected: Expected, reply: &Reply) -> Verdict {
    let fits = match (expected, reply) {
        (_, Reply::Error(_)) => true,
        (Expected::Status, Reply::Value(text)) => text == b"OK",
        (Expected::Number, Reply::Value(text)) => !text.is_empty() && text.iter().all(u8::is_ascii_digit),
        (Expected::Many, reply) => matches!(reply, Reply::Many(_)),
        _ => false,
    };
    if fits { Ok(()) } else { Err(format!("{call} was answered with {reply:?}, not with a {expected:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_to_another_call_is_found() {
        let value = |text: &str| Reply::Value(text.into());
        assert!(answers("SET", Expected::Status, &value("OK")).is_ok());
        assert!(answers("SET", Expected::Status, &value("12")).is_err());
        assert!(answers("APPEND", Expected::Number, &value("12")).is_ok());
        assert!(answers("APPEND", Expected::Number, &value("OK")).is_err());
        assert!(answers("EXEC", Expected::Many, &Reply::Many(Vec::new())).is_ok());
        assert!(answers("EXEC", Expected::Many, &Reply::Null).is_err());
        assert!(answers("EXEC", Expected::Many, &Reply::Error("EXECABORT".into())).is_ok());
    }
}
