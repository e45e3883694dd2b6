//! SHUTDOWN: a client has the node stop in good order, as a signal would.
//!
//! The node gives away what it leads while it still serves, and then ends its connections; every acknowledged write is on a
//! majority's disks whatever happens, so there is nothing to save. Until it ends connections, another client may take the
//! order back (SHUTDOWN ABORT). Who asked is told nothing but why the node goes on.

use std::sync::Arc;

use bytes::Bytes;
use quoris_engine::args::Args;
use quoris_engine::{CommandError, Reply};
use tokio::sync::watch;

use crate::blocking::Endings;
use crate::resp::Answer;
use crate::server::Server;

const GOES_ON: CommandError = CommandError::Text("ERR Errors trying to SHUTDOWN. Check logs.");
const NONE_ASKED: CommandError = CommandError::Text("ERR No shutdown in progress.");
const TOO_LATE: CommandError = CommandError::Text("ERR the node is stopping, which cannot be taken back");

/// How the node is to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its groups are snapshotted first.
    save: bool,
    /// What it leads is not given away: the other nodes elect when it is gone.
    now: bool,
    /// It stops although snapshots fail.
    force: bool,
}

/// What SHUTDOWN asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// To stop.
    Stop(Wanted),
    /// To go on.
    Abort,
}

impl Order {
    /// `SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]`.
    pub fn parse(words: &[Bytes]) -> Result<Order, CommandError> {
        let args = Args(words);
        let (mut wanted, mut nosave, mut abort) = (Wanted::default(), false, false);
        for i in 1..args.len() {
            match () {
                () if args.is(i, "nosave") => nosave = true,
                () if args.is(i, "save") => wanted.save = true,
                () if args.is(i, "now") => wanted.now = true,
                () if args.is(i, "force") => wanted.force = true,
                () if args.is(i, "abort") => abort = true,
                () => return Err(CommandError::Syntax),
            }
        }
        match abort {
            true if nosave || wanted != Wanted::default() => Err(CommandError::Syntax),
            true => Ok(Order::Abort),
            false if nosave && wanted.save => Err(CommandError::Syntax),
            false => Ok(Order::Stop(wanted)),
        }
    }
}

/// Whether the node has been asked to stop.
#[derive(Default)]
pub struct Shutdown {
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Default)]
struct State {
    stage: Stage,
    /// How often it has been asked for.
    attempt: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Serving,
    Asked(Wanted),
    /// There is no way back.
    Stopping,
}

impl Shutdown {
    /// Asks for it; ready when the node goes on after all. Who asks while it is under way already waits for the same.
    async fn ask(&self, wanted: Wanted) {
        let mut watching = self.state.subscribe();
        self.state.send_modify(|state| {
            if state.stage == Stage::Serving {
                *state = State { stage: Stage::Asked(wanted), attempt: state.attempt + 1 };
            }
        });
        let mine = self.state.borrow().attempt;
        let is_over = |state: &State| state.stage == Stage::Serving || state.attempt != mine;
        // The sender lives as long as this.
        let _ = watching.wait_for(is_over).await;
    }

    /// SHUTDOWN ABORT.
    pub fn abort(&self) -> Result<Reply, CommandError> {
        match self.go_on() {
            Stage::Serving => Err(NONE_ASKED),
            Stage::Stopping => Err(TOO_LATE),
            Stage::Asked(_) => {
                tracing::info!("SHUTDOWN was aborted");
                Ok(Reply::OK)
            }
        }
    }

    /// The node stops, whoever wants it to go on.
    pub fn begin(&self) {
        self.state.send_modify(|state| state.stage = Stage::Stopping);
    }

    /// What was asked for is not done, if that can still be; the stage in which that was found.
    fn go_on(&self) -> Stage {
        let mut found = Stage::Serving;
        self.state.send_if_modified(|state| {
            found = state.stage;
            let asked = matches!(found, Stage::Asked(_));
            if asked {
                state.stage = Stage::Serving;
            }
            asked
        });
        found
    }

    /// Ready when it has been asked for.
    async fn asked(&self) -> Wanted {
        let mut watching = self.state.subscribe();
        loop {
            if let Stage::Asked(wanted) = watching.borrow_and_update().stage {
                return wanted;
            }
            // The sender lives as long as this.
            let _ = watching.changed().await;
        }
    }

    /// Ready when it is no longer asked for.
    async fn taken_back(&self) {
        let is_over = |state: &State| !matches!(state.stage, Stage::Asked(_));
        // The sender lives as long as this.
        let _ = self.state.subscribe().wait_for(is_over).await;
    }
}

/// SHUTDOWN of one client, which hears nothing more unless the node goes on.
pub async fn run(server: Arc<Server>, wanted: Wanted, mut endings: Endings) -> Answer {
    tokio::select! {
        biased;
        () = server.shutdown.ask(wanted) => Answer::error(GOES_ON),
        _ = endings.ended() => Answer::Raw(Bytes::new()),
    }
}

/// Ready when a client has asked for it and all is done that comes before connections are ended.
pub async fn prepared(server: &Arc<Server>) {
    loop {
        let wanted = server.shutdown.asked().await;
        tracing::info!(?wanted, "stopping, as a client has asked");
        tokio::select! {
            biased;
            () = server.shutdown.taken_back() => {}
            ready = prepare(server, wanted) => {
                if ready {
                    return server.shutdown.begin();
                }
                server.shutdown.go_on();
            }
        }
    }
}

/// Whether the node may stop.
async fn prepare(server: &Arc<Server>, wanted: Wanted) -> bool {
    if wanted.save {
        for group in server.node.groups() {
            if !group.save().await && !wanted.force {
                tracing::error!(group = group.id(), "not stopping: the group could not be snapshotted");
                return false;
            }
        }
    }
    if !wanted.now {
        // Clients are still served, and so learn where the leaders have gone.
        server.node.hand_over().await;
    }
    true
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn parse(line: &str) -> Result<Order, CommandError> {
        let words: Vec<Bytes> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        Order::parse(&words)
    }

    #[test]
    fn orders_are_understood_as_in_redis() {
        let stop = |save, now, force| Ok(Order::Stop(Wanted { save, now, force }));
        assert_eq!(parse("shutdown"), stop(false, false, false));
        assert_eq!(parse("shutdown NoSave now"), stop(false, true, false));
        assert_eq!(parse("shutdown save force"), stop(true, false, true));
        assert_eq!(parse("shutdown abort"), Ok(Order::Abort));
        for wrong in ["shutdown save nosave", "shutdown abort now", "shutdown abort nosave", "shutdown later"]
        {
            assert_eq!(parse(wrong), Err(CommandError::Syntax), "{wrong}");
        }
    }

    #[test]
    fn it_can_be_taken_back_until_it_begins() {
        let shutdown = Shutdown::default();
        assert_eq!(shutdown.abort(), Err(NONE_ASKED));
        let wanted = Wanted { now: true, ..Wanted::default() };
        let (mut first, mut second) = (Box::pin(shutdown.ask(wanted)), Box::pin(shutdown.ask(wanted)));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        assert_eq!(shutdown.asked().now_or_never(), Some(wanted));
        assert_eq!(shutdown.abort(), Ok(Reply::OK));
        let mut again = Box::pin(shutdown.ask(wanted));
        assert!(again.as_mut().now_or_never().is_none());
        assert!(
            first.now_or_never().is_some() && second.now_or_never().is_some(),
            "each is told of its own end"
        );
        shutdown.begin();
        assert_eq!(shutdown.abort(), Err(TOO_LATE));
        assert!(again.now_or_never().is_none());
    }
}
