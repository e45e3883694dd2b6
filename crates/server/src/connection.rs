//! One client's bytes: read, decoded, run, and the replies written, until either side has had enough.
//!
//! Reading goes on while replies wait to be read: a client that sends a whole pipeline before it reads anything
//! is served, up to a bound of unread replies; beyond it the client's own sending stalls. Calls that have begun
//! always run to their reply, whether or not the client is still there.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use futures::FutureExt;
use quoris_raft::env::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::clients::Client;
use crate::limits;
use crate::reply_room::ReplyRoom;
use crate::resp::encode::encode_error;
use crate::resp::{Decoder, ProtocolError};
use crate::server::Server;
use crate::session::Session;

/// A client's connection.
pub struct Connection {
    server: Arc<Server>,
    session: Session,
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    decoder: Decoder,
    inbox: BytesMut,
    out: BytesMut,
    room: ReplyRoom,
    /// What ended the understanding of the client's bytes.
    broken: Option<ProtocolError>,
}

/// What a connection that has nothing to run waits for.
enum Event {
    /// The blocked call has its answer.
    Unblocked,
    Read(io::Result<usize>),
    Wrote(io::Result<usize>),
    /// There is mail, or the client is killed, or the server is stopping.
    News,
    Idle,
    Rested,
}

impl Connection {
    /// A connection that has just been accepted.
    pub fn new(server: Arc<Server>, client: Arc<Client>, stream: Box<dyn Stream>) -> Connection {
        let (reader, writer) = tokio::io::split(stream);
        let session = Session::new(server.clone(), client);
        let (inbox, out) = (BytesMut::new(), BytesMut::new());
        let (decoder, room) = (Decoder::default(), ReplyRoom::new());
        Connection { server, session, reader, writer, decoder, inbox, out, room, broken: None }
    }

    /// Serves the client until it leaves, is killed, breaks the protocol, or the server is stopping.
    pub async fn serve(mut self) {
        while !self.session.client.is_killed() {
            if self.server.clients.is_stopping() && !self.session.closing {
                self.session.stop();
            }
            self.take_mail();
            let may_run = !self.session.closing && !self.session.is_blocked();
            if may_run && self.has_bytes() && self.out.len() < limits::OUTPUT_BYTES && self.decode() {
                self.session.run(&mut self.out).await;
                self.write_now();
                continue;
            }
            if self.session.closing && self.out.is_empty() && !self.session.is_blocked() {
                break;
            }
            match self.wait().await {
                Event::Unblocked => self.session.resume(&mut self.out).await,
                // What it has asked for last would be taken from others and given to nobody.
                Event::Read(Ok(0)) if self.session.is_blocked() => break,
                // The client has sent its last call; it may still read.
                Event::Read(Ok(0)) => self.session.closing = true,
                Event::Read(Ok(read)) => {
                    self.server.stats.input_bytes.add(read as u64);
                    give_way(read).await;
                }
                Event::Wrote(Ok(wrote)) if wrote > 0 => {
                    self.server.stats.output_bytes.add(wrote as u64);
                    give_way(wrote).await;
                }
                Event::News | Event::Rested => {}
                Event::Read(Err(_)) | Event::Wrote(_) | Event::Idle => break,
            }
        }
        self.session.leave().await;
        let server = Arc::clone(&self.server);
        let _turn = server.clients.turn_to_close().await;
        // To a client that has gone, an orderly end cannot be said.
        let _ = self.writer.shutdown().await;
    }

    /// Whether there is anything of the client's that has not been looked at.
    fn has_bytes(&self) -> bool {
        !self.inbox.is_empty() || self.broken.is_some()
    }

    /// Gives the session the calls of the next turn: all that are complete, up to the limits of a turn. Whether there are any.
    fn decode(&mut self) -> bool {
        let limits = self.session.decode_limits();
        // A call may authenticate, and so change what the next one may be.
        let most = if limits.authenticated { limits::CALLS_PER_TURN } else { 1 };
        let before = self.inbox.len();
        let mut calls = 0;
        while self.broken.is_none() && calls < most && before - self.inbox.len() < limits::BYTES_PER_TURN {
            match self.decoder.decode(&mut self.inbox, &limits) {
                Ok(Some(call)) => {
                    self.session.push(call);
                    calls += 1;
                }
                Ok(None) => break,
                // What came before it is answered first.
                Err(error) => {
                    self.broken = Some(error);
                    break;
                }
            }
        }
        if calls == 0
            && let Some(error) = self.broken.take()
        {
            self.refuse(&error);
        }
        calls > 0
    }

    /// Says what is wrong with the client's bytes; none of them are looked at any more.
    fn refuse(&mut self, error: &ProtocolError) {
        let (client, addr) = (self.session.client.id, &self.session.client.addr);
        tracing::debug!(client, addr, ?error, "protocol error");
        if let Some(line) = error.line() {
            encode_error(&line, &mut self.out);
        }
        self.server.stats.errors.add(1);
        self.session.closing = true;
    }

    /// Puts what the client is sent behind its replies.
    fn take_mail(&mut self) {
        self.session.client.mail.take(self.session.protocol, &mut self.out);
    }

    /// Writes what the client's socket takes at once.
    fn write_now(&mut self) {
        self.room.note(&self.out);
        // What cannot be written now is written, and a broken connection noticed, when there is nothing to run.
        let mut piece = (&mut self.out).take(limits::TRANSFER_BYTES);
        if let Some(Ok(wrote)) = self.writer.write_buf(&mut piece).now_or_never() {
            self.server.stats.output_bytes.add(wrote as u64);
        }
    }

    /// One thing at a time to wait for beside the socket: registering with each costs more than a small call.
    async fn wait(&mut self) -> Event {
        self.make_room();
        let client = self.session.client.clone();
        let timeout_s = self.server.settings.get().timeout_s;
        let blocked = self.session.is_blocked();
        // Who waits for an answer is not idle, nor who listens, however quiet its channels.
        let may_idle = timeout_s > 0 && !blocked && !self.session.is_subscribed() && !client.state().monitor;
        // The clock is read only if it counts.
        let idle = async { tokio::time::sleep(Duration::from_secs(timeout_s)).await };
        let shrinks_at = self.room.shrinks_at(&self.server.peak_life);
        let rested = async {
            match shrinks_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let has_room = self.out.len() < limits::OUTPUT_BYTES
            && (!blocked || self.inbox.len() < limits::BLOCKED_INBOX_BYTES);
        let may_read = !self.session.closing && has_room;
        let may_write = !self.out.is_empty();
        let mut inbox = (&mut self.inbox).limit(limits::TRANSFER_BYTES);
        let mut out = (&mut self.out).take(limits::TRANSFER_BYTES);
        tokio::select! {
            biased;
            () = self.session.unblocked(), if blocked => Event::Unblocked,
            wrote = self.writer.write_buf(&mut out), if may_write => Event::Wrote(wrote),
            read = self.reader.read_buf(&mut inbox), if may_read => Event::Read(read),
            () = client.mail.arrived() => Event::News,
            () = idle, if may_idle => Event::Idle,
            () = rested, if !may_write => Event::Rested,
        }
    }

    /// Room for the next read: never more than a multiple of what has arrived, whatever a header claims.
    fn make_room(&mut self) {
        let missing = self.decoder.missing_bytes(&self.inbox);
        let (long, times) = limits::LONG_WORD;
        let most = match self.inbox.len() {
            arrived if arrived >= long => arrived * times,
            arrived => arrived.clamp(limits::READ_BYTES, limits::MAX_READ_BYTES),
        };
        reserve(&mut self.inbox, missing.clamp(limits::READ_BYTES, most));
        self.room.note(&self.out);
        self.room.fit(&mut self.out, &self.server.peak_life);
        self.session.client.mail.set_unsent(self.out.len());
        self.session.note_held(|held| {
            (held.inbox, held.inbox_room) = (self.inbox.len(), self.inbox.capacity());
            (held.reply_room, held.reply_peak) = self.room.figures();
            held.output = self.out.len();
            held.output_room = self.out.capacity().max(held.reply_room);
        });
    }
}

/// Lets others have their turn if so many bytes are all that may be read or written at once.
async fn give_way(transferred: usize) {
    if transferred >= limits::TRANSFER_BYTES {
        tokio::task::yield_now().await;
    }
}

/// Makes room for `bytes` more. For many, in memory of its own: what the bytes of an earlier call took would be enlarged, and
/// copied with all that it held.
fn reserve(inbox: &mut BytesMut, bytes: usize) {
    if bytes <= limits::MAX_READ_BYTES || inbox.capacity() - inbox.len() >= bytes {
        return inbox.reserve(bytes);
    }
    let mut roomier = BytesMut::with_capacity(inbox.len() + bytes);
    roomier.extend_from_slice(inbox);
    *inbox = roomier;
}
