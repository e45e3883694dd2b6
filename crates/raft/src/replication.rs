//! A leader's appends to one follower, as a pipeline: each is sent as soon as openraft has it, and their replies come
//! back in the same order.
//!
//! Without it the next entry would wait for the follower's fsync of the one before. What a follower's log must look
//! like before it takes an append, the append itself says; so nothing depends on the reply before it.

use std::time::Duration;

use futures::{Stream, StreamExt, future, stream};
use openraft::errors::RPCError;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio::time::Instant;

use crate::consensus::{LogId, TypeConfig};
use crate::limits;
use crate::network::PeerNetwork;
use crate::peer::Sent;
use crate::pieces;
use crate::thrifty::Thrifty;
use crate::types::NodeId;

/// What a follower says to one append.
pub type Said = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// Sends what `input` yields over `network` when it is the follower's turn, and yields the follower's replies, each within `ttl`
/// of its append; ends with the first that is none, or says no.
pub fn pipeline<'s>(
    network: &'s PeerNetwork,
    input: impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    ttl: Duration,
) -> impl Stream<Item = Said> + Send + 's {
    // What went before has no more answers to give.
    network.thrifty().begins(network.target());
    let said = in_turn(network.thrifty().clone(), network.target(), input)
        .then(|append| OnItsWay::send(network, append))
        .map(move |append| append.said(ttl))
        .buffered(limits::APPENDS_IN_FLIGHT);
    until_refused(said)
}

/// An append that has been handed to the link.
struct OnItsWay<'s> {
    network: &'s PeerNetwork,
    sent: Result<Sent, RPCError<TypeConfig>>,
    /// The entry before those it has.
    before: Option<LogId>,
    /// The last one that the follower has when it has taken it.
    last: Option<LogId>,
}

impl<'s> OnItsWay<'s> {
    async fn send(network: &'s PeerNetwork, append: AppendEntriesRequest<TypeConfig>) -> OnItsWay<'s> {
        let before = append.prev_log_id;
        if !append.entries.is_empty() {
            network.thrifty().sent(network.target());
        }
        let last = append.entries.last().map(|entry| entry.log_id).or(before);
        let sent = match network.check_goes_on(&append) {
            Ok(()) => network.send_append(&append).await,
            Err(purged) => Err(purged),
        };
        OnItsWay { network, sent, before, last }
    }

    async fn said(self, ttl: Duration) -> Said {
        let (thrifty, target) = (self.network.thrifty(), self.network.target());
        let reply = async { self.network.append_reply(self.sent?, ttl).await }.await;
        let said = reply.map(|reply| reply.into_stream_result(self.before, self.last));
        match (&said, self.last) {
            (Ok(Ok(_)), Some(last)) if self.last > self.before => thrifty.answered(target, last.index),
            (Ok(Ok(_)), _) => {}
            (Ok(Err(_)) | Err(_), _) => thrifty.failed(target),
        }
        said
    }
}

/// `input`, asked for more when it is `target`'s turn: what openraft has by then is one append. No further news of commits than
/// it needs.
fn in_turn(
    thrifty: Thrifty,
    target: NodeId,
    input: impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin,
) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send {
    let input = Box::pin(without_stale_news(input));
    // How long entries are, smoothed: long ones cost by their bytes, so that it is no use to send them together.
    let usual = limits::THRIFTY_BYTES;
    stream::unfold((input, None, usual), move |(mut input, sent, usual)| {
        let thrifty = thrifty.clone();
        async move {
            if let Some(sent) = sent {
                thrifty.turn_of(target, sent).await;
            }
            let append = input.next().await?;
            if append.entries.is_empty() {
                return Some((append, (input, None, usual)));
            }
            let usual = (usual * 7 + pieces::len(&append) / append.entries.len()) / 8;
            let sent = (usual < limits::THRIFTY_BYTES).then(Instant::now);
            Some((append, (input, sent, usual)))
        }
    })
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
        // From the first on: openraft may have nothing but news for as long as nobody answers them.
        let until = Instant::now() + limits::COMMIT_NEWS_DELAY;
        while append.entries.is_empty() && Instant::now() < until {
            match tokio::time::timeout_at(until, input.next()).await {
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

#[cfg(test)]
mod tests {
    use openraft::entry::RaftEntry;
    use openraft::{EntryPayload, errors::NetworkError};

    use super::*;
    use crate::consensus::{Entry, Vote};

    /// An append after `index` of so many entries, by a leader that has committed up to `index`.
    fn append(index: u64, entries: u64) -> AppendEntriesRequest<TypeConfig> {
        let id = |index| LogId::new_term_index(1, index);
        let entry = |i| Entry::new(id(index + i), EntryPayload::Blank);
        AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(id(index)),
            leader_commit: Some(id(index)),
            entries: (1..=entries).map(entry).collect(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn news_travel_with_entries_that_come_soon_and_alone_otherwise() {
        let (tell, input) = tokio::sync::mpsc::unbounded_channel();
        let input = tokio_stream::wrappers::UnboundedReceiverStream::new(input);
        let mut output = Box::pin(without_stale_news(input));
        let send = |append| tell.send(append).expect("the stream is there");
        send(append(1, 0));
        send(append(2, 0));
        send(append(2, 3));
        let began = Instant::now();
        assert_eq!(output.next().await.map(|append| append.entries.len()), Some(3), "two were needless");
        assert!(began.elapsed().is_zero());
        send(append(5, 0));
        assert_eq!(output.next().await.and_then(|append| append.leader_commit).map(|id| id.index), Some(5));
        assert!(began.elapsed() >= limits::COMMIT_NEWS_DELAY);
        send(append(6, 0));
        drop(tell);
        let before = Instant::now();
        assert!(output.next().await.is_some(), "the last news are not lost");
        assert!(before.elapsed().is_zero() && output.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn news_without_end_are_told_all_the_same() {
        let more = stream::unfold((), |()| async {
            tokio::time::sleep(limits::COMMIT_NEWS_DELAY / 3).await;
            Some((append(1, 0), ()))
        });
        let began = Instant::now();
        let mut output = Box::pin(without_stale_news(Box::pin(more)));
        let told = output.next();
        assert!(
            tokio::time::timeout(10 * limits::COMMIT_NEWS_DELAY, told).await.is_ok_and(|told| told.is_some())
        );
        assert!(began.elapsed() <= 2 * limits::COMMIT_NEWS_DELAY);
    }

    #[tokio::test]
    async fn nothing_follows_a_failure() {
        let failed = || Err(NetworkError::from_string("gone").into());
        let said: Vec<Said> = vec![Ok(Ok(None)), failed(), Ok(Ok(None))];
        let heard: Vec<Said> = until_refused(stream::iter(said)).collect().await;
        assert_eq!(heard.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false]);
    }
}
