//! The link from this node to one peer: one long-lived stream of packets, shared by all groups, reconnected for
//! ever. It knows frames and their replies; what they mean is `network`'s and `service`'s business.
//!
//! Invariants: a request gets exactly one answer, a reply or [`LinkDown`]; requests are sent in the order given.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use hyper_util::rt::TokioIo;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use crate::env::{Env, Stream};
use crate::limits;
use crate::members::Members;
use crate::types::{GroupId, NodeId};
use crate::wire::proto::peer_client::PeerClient;
use crate::wire::proto::{self, Frame, Packet, frame};

/// The link is not up, or went down before the reply came: the request may or may not have been seen.
#[derive(Debug, thiserror::Error)]
#[error("no link to node {0}")]
pub struct LinkDown(pub NodeId);

/// The code of a refusal that tells a node that it was removed from the cluster; with it comes who the members are.
pub const REMOVED: tonic::Code = tonic::Code::FailedPrecondition;

/// What a link last noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Not connected.
    Down,
    /// Connected, and the peer has said hello.
    Up,
    /// It was up, it closed, and now the peer's port refuses connections: its process has died.
    Refused,
}

/// A link to one peer. Cheap to clone.
#[derive(Clone)]
pub struct Link {
    inner: Arc<Inner>,
}

struct Inner {
    peer: NodeId,
    addr: String,
    next_request: AtomicU64,
    /// Requests under way. When the link goes down, they fail in the order in which they were made, in every run alike.
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<frame::Body>>>,
    outbound: Mutex<Option<Outbound>>,
    channel: Mutex<Option<Channel>>,
    state: watch::Sender<LinkState>,
    closing: AtomicBool,
    /// See [`Link::is_unwanted`].
    unwanted: AtomicBool,
    notices: Notices,
}

/// The ways onto the stream. Each packet is taken from the other one than the last, if there is one.
#[derive(Clone)]
struct Outbound {
    frames: mpsc::Sender<Frame>,
    /// For what goes in pieces. There is room for one, so that those who have much to send take turns.
    pieces: mpsc::Sender<Frame>,
}

impl Link {
    /// A link to `peer`, which is at `addr`, kept up by a task of its own until [`Link::close`]. What either knows of the members,
    /// it tells the other whenever they connect.
    pub fn start(env: Env, members: Members, peer: NodeId, addr: String) -> Link {
        let inner = Arc::new(Inner {
            peer,
            addr,
            next_request: AtomicU64::new(1),
            waiting: Mutex::new(BTreeMap::new()),
            outbound: Mutex::new(None),
            channel: Mutex::new(None),
            state: watch::Sender::new(LinkState::Down),
            closing: AtomicBool::new(false),
            unwanted: AtomicBool::new(false),
            notices: Notices::default(),
        });
        let link = Link { inner };
        tokio::spawn(keep_up(link.clone(), env, members));
        link
    }

    /// The peer's number.
    pub fn peer(&self) -> NodeId {
        self.inner.peer
    }

    /// Where it is.
    pub fn addr(&self) -> &str {
        &self.inner.addr
    }

    /// Whether the link stands.
    pub fn is_up(&self) -> bool {
        *self.inner.state.borrow() == LinkState::Up
    }

    /// Whether the peer has refused this node last, because it was removed from the cluster and no group there counts on it.
    pub fn is_unwanted(&self) -> bool {
        self.inner.unwanted.load(Ordering::Relaxed)
    }

    /// Tells of changes.
    pub fn watch(&self) -> watch::Receiver<LinkState> {
        self.inner.state.subscribe()
    }

    /// The connection, for calls beside the stream.
    pub fn channel(&self) -> Option<Channel> {
        lock(&self.inner.channel).clone()
    }

    /// Ends the link for good.
    pub fn close(&self) {
        self.inner.closing.store(true, Ordering::Relaxed);
        self.went_down(LinkState::Down);
    }

    /// Sends a request of `group` and waits for its reply. The caller sets the time limit.
    pub async fn request(&self, group: GroupId, body: frame::Body) -> Result<frame::Body, LinkDown> {
        self.send(group, body).await?.reply().await
    }

    /// Puts a request of `group` on its way, behind those sent before; waits only while too many are.
    pub async fn send(&self, group: GroupId, body: frame::Body) -> Result<Sent, LinkDown> {
        let (sent, outbound) = self.begin()?;
        let frame = Frame { group, request: sent.request, body: Some(body) };
        outbound.frames.send(frame).await.map_err(|_| self.down())?;
        Ok(sent)
    }

    /// The same for a request that comes behind pieces of what belongs to it: ready when all of that has been taken by the
    /// stream, so that no later request comes before it.
    pub async fn send_in_pieces(
        &self,
        group: GroupId,
        pieces: impl Iterator<Item = proto::Piece>,
        body: frame::Body,
    ) -> Result<Sent, LinkDown> {
        let (sent, outbound) = self.begin()?;
        for body in pieces.map(frame::Body::Piece).chain([body]) {
            let frame = Frame { group, request: sent.request, body: Some(body) };
            outbound.pieces.send(frame).await.map_err(|_| self.down())?;
        }
        outbound.pieces.reserve().await.map_err(|_| self.down())?;
        Ok(sent)
    }

    fn begin(&self) -> Result<(Sent, Outbound), LinkDown> {
        let outbound = lock(&self.inner.outbound).clone().ok_or_else(|| self.down())?;
        let request = self.inner.next_request.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        lock(&self.inner.waiting).insert(request, tell);
        Ok((Sent { link: self.clone(), request, told }, outbound))
    }

    fn down(&self) -> LinkDown {
        LinkDown(self.inner.peer)
    }

    /// Sends a notice, if the link is up and the peer takes what it is sent. False: it is lost, and no trace is left.
    pub fn tell(&self, notice: Bytes) -> bool {
        self.is_up() && self.inner.notices.push(notice)
    }

    fn answer(&self, frame: Frame) {
        let waiting = lock(&self.inner.waiting).remove(&frame.request);
        if let (Some(waiting), Some(body)) = (waiting, frame.body) {
            // The one who asked may have given up.
            let _ = waiting.send(body);
        }
    }

    fn came_up(&self, outbound: Outbound, channel: Channel) {
        *lock(&self.inner.outbound) = Some(outbound);
        *lock(&self.inner.channel) = Some(channel);
        self.inner.state.send_replace(LinkState::Up);
    }

    fn went_down(&self, state: LinkState) {
        *lock(&self.inner.outbound) = None;
        *lock(&self.inner.channel) = None;
        // Dropping the senders tells those who wait.
        lock(&self.inner.waiting).clear();
        self.inner.notices.clear();
        self.inner.state.send_if_modified(|current| std::mem::replace(current, state) != state);
    }
}

/// A request under way. Dropped, its reply is not waited for.
pub struct Sent {
    link: Link,
    request: u64,
    told: oneshot::Receiver<frame::Body>,
}

impl Sent {
    /// Its reply. The caller sets the time limit.
    pub async fn reply(mut self) -> Result<frame::Body, LinkDown> {
        (&mut self.told).await.map_err(|_| LinkDown(self.link.peer()))
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        lock(&self.link.inner.waiting).remove(&self.request);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no code panics while it holds a link's lock")
}

async fn keep_up(link: Link, env: Env, members: Members) {
    let (mut pause, longest) = limits::RECONNECT;
    let (mut was_up, mut refused) = (false, String::new());
    while !link.inner.closing.load(Ordering::Relaxed) {
        match connect(&env, link.addr()).await {
            Ok(channel) => match run(&link, channel, &members).await {
                Ended::AfterHello => {
                    tracing::info!(peer = link.peer(), "link closed");
                    was_up = true;
                    pause = limits::RECONNECT.0;
                    link.went_down(LinkState::Down);
                    continue;
                }
                Ended::Refused(reason) => {
                    // Once, not twice a second: a node may wait for long until it is made a member.
                    if reason != refused {
                        let addr = link.addr();
                        tracing::warn!(peer = link.peer(), addr, reason, "the peer does not take this node");
                        refused = reason;
                    }
                    link.went_down(LinkState::Down);
                }
            },
            Err(error) => {
                let died = was_up && error.kind() == std::io::ErrorKind::ConnectionRefused;
                was_up &= !died;
                link.went_down(if died { LinkState::Refused } else { LinkState::Down });
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// How a stream ended.
enum Ended {
    AfterHello,
    Refused(String),
}

async fn connect(env: &Env, addr: &str) -> std::io::Result<Channel> {
    let timed_out = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    let stream = tokio::time::timeout(limits::CONNECT_TIMEOUT, env.net.connect(addr)).await;
    let stream = stream.map_err(|_| timed_out())??;
    // One connection, handed over once: when it breaks, the link connects again itself.
    let mut once = Some(stream);
    let connector = tower::service_fn(move |_: http::Uri| {
        let stream = once.take().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected));
        async move { stream.map(|stream: Box<dyn Stream>| TokioIo::new(stream)) }
    });
    let (interval, silence) = limits::KEEPALIVE;
    Endpoint::from_static("http://peer")
        .http2_keep_alive_interval(interval)
        .keep_alive_timeout(silence)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        .connect_with_connector(connector)
        .await
        .map_err(std::io::Error::other)
}

/// Opens the stream and serves it until it ends.
async fn run(link: &Link, channel: Channel, members: &Members) -> Ended {
    let ((frames, waiting), (pieces, next_piece)) = (mpsc::channel(limits::WAITING_FRAMES), mpsc::channel(1));
    let outbound = Outbound { frames, pieces };
    let first = Packet { hello: Some(members.hello(link.peer())), frames: Vec::new() };
    let waiting = ReceiverStream::new(waiting).ready_chunks(limits::FRAMES_PER_PACKET);
    let pieces = ReceiverStream::new(next_piece).map(|piece| vec![piece]);
    let rest = futures::stream::select(waiting, pieces).map(|frames| Packet { hello: None, frames });
    let packets = futures::stream::once(async { first }).chain(rest);
    let mut client = PeerClient::new(channel.clone())
        .max_decoding_message_size(limits::PACKET_BYTES)
        .max_encoding_message_size(limits::PACKET_BYTES);
    let opened = tokio::time::timeout(limits::CONNECT_TIMEOUT, client.link(packets)).await;
    let mut inbound = match opened {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => {
            if status.code() == REMOVED {
                members.hear(&Bytes::copy_from_slice(status.details()));
                link.inner.unwanted.store(true, Ordering::Relaxed);
            }
            return Ended::Refused(status.message().to_string());
        }
        Err(_) => return Ended::Refused("it does not answer".into()),
    };
    tracing::info!(peer = link.peer(), "link up");
    link.inner.unwanted.store(false, Ordering::Relaxed);
    // Weak: when the link is closed, its stream ends.
    let notices = outbound.frames.downgrade();
    link.came_up(outbound, channel);
    // An error here is the end of the link, whatever its kind; those who wait are told by `went_down`.
    let answers = async {
        while let Ok(Some(packet)) = inbound.message().await {
            packet.hello.iter().for_each(|hello| members.hear(&hello.topology));
            packet.frames.into_iter().for_each(|frame| link.answer(frame));
        }
    };
    tokio::select! {
        biased;
        () = answers => {}
        () = link.inner.notices.send(&notices) => {}
    }
    Ended::AfterHello
}

/// Notices on their way to the peer. They have a queue of their own, so that neither they nor requests crowd the other out.
#[derive(Default)]
struct Notices {
    queue: Mutex<NoticeQueue>,
    arrived: Notify,
}

#[derive(Default)]
struct NoticeQueue {
    notices: VecDeque<Bytes>,
    bytes: usize,
}

impl Notices {
    fn push(&self, notice: Bytes) -> bool {
        let mut queue = lock(&self.queue);
        if queue.bytes + notice.len() > limits::WAITING_NOTICE_BYTES {
            return false;
        }
        queue.bytes += notice.len();
        queue.notices.push_back(notice);
        drop(queue);
        self.arrived.notify_one();
        true
    }

    fn clear(&self) {
        *lock(&self.queue) = NoticeQueue::default();
    }

    /// The next frame's notices; none if none wait.
    fn take(&self) -> Vec<Bytes> {
        let mut queue = lock(&self.queue);
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while bytes < limits::NOTICE_BYTES_PER_FRAME
            && let Some(notice) = queue.notices.pop_front()
        {
            bytes += notice.len();
            taken.push(notice);
        }
        queue.bytes -= bytes;
        taken
    }

    /// Sends what arrives until the stream ends.
    async fn send(&self, outbound: &mpsc::WeakSender<Frame>) {
        loop {
            let notices = self.take();
            if notices.is_empty() {
                self.arrived.notified().await;
                continue;
            }
            let body = Some(frame::Body::Notices(proto::Notices { notices }));
            let frame = Frame { group: 0, request: 0, body };
            match outbound.upgrade() {
                Some(outbound) if outbound.send(frame).await.is_ok() => {}
                _ => return,
            }
        }
    }
}
