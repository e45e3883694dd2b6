//! RESP, the protocol of Redis's clients
//! (<https://redis.io/docs/latest/develop/reference/protocol-spec/>): bytes to calls, replies to bytes.
//!
//! Nothing here knows what a command is. Words of a call are slices of the connection's read buffer, never copies.

pub mod decode;
pub mod encode;
pub mod inline;
pub mod reply;

pub use decode::{DecodeLimits, Decoder, ProtocolError};
pub use encode::{Protocol, encode, encode_call, encoded_len};
pub use reply::Answer;
