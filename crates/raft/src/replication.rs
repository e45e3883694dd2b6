//! A leader's appends to one follower, as a pipeline: each is sent as soon as openraft has it, and their replies come
//! back in the same order.
//!
//! Without it the next entry would wait for the follower's fsync of the one before. What a follower's log must look
//! like before it takes an append, the append itself says; so nothing depends on the reply before it.

use std::time::Duration;

use futures::future::{self, Either};
use futures::{Stream, StreamExt, stream};
use openraft::errors::RPCError;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};

use crate::consensus::TypeConfig;
use crate::limits;
use crate::network::PeerNetwork;

/// What a follower says to one append.
pub type Said = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// Sends what `input` yields over `network`, and yields the follower's replies, each within `ttl` of its append; ends
/// with the first that is none, or says no.
pub fn pipeline<'s>(
    network: &'s PeerNetwork,
    input: impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    ttl: Duration,
) -> impl Stream<Item = Said> + Send + 's {
    let said = without_stale_news(input)
        .then(move |append| async move {
            let before = append.prev_log_id;
            let last = append.entries.last().map(|entry| entry.log_id).or(before);
            match network.send_append(&append).await {
                Ok(sent) => Either::Left(async move {
                    let reply = network.append_reply(sent, ttl).await?;
                    Ok(reply.into_stream_result(before, last))
                }),
                Err(error) => Either::Right(future::ready(Err(error))),
            }
        })
        .buffered(limits::APPENDS_IN_FLIGHT);
    until_refused(said)
}

/// `input`, but for appends without entries that the next one comes soon enough to make needless: all that they carry is
/// how far the leader has committed, and the next one says that, too. A follower that is told a moment later applies a
/// moment later; nobody waits for that.
fn without_stale_news(
    input: impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin,
) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send {
    // Asked once more after its end, if that comes while an append is held back.
    stream::unfold(input.fuse(), |mut input| async move {
        let mut append = input.next().await?;
        while append.entries.is_empty() {
            match tokio::time::timeout(limits::COMMIT_NEWS_DELAY, input.next()).await {
                Ok(Some(newer)) => append = newer,
                Ok(None) | Err(_) => break,
            }
        }
        Some((append, input))
    })
}

/// `said` up to and including the first that is not a success.
fn until_refused(said: impl Stream<Item = Said> + Send) -> impl Stream<Item = Said> + Send {
    said.scan(false, |over, said| {
        let before = std::mem::replace(over, !matches!(said, Ok(Ok(_))));
        future::ready((!before).then_some(said))
    })
}
