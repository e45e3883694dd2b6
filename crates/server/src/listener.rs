//! Accepts clients, and sees them off when the server ends.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use quoris_engine::CommandError;
use quoris_raft::env::{Listener, Stream};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::connection::Connection;
use crate::limits;
use crate::resp::encode::encode_error;
use crate::server::{ServeError, Server};

/// Serves clients until `end` is ready. Then nobody is accepted, and every connection ends with the calls that it has
/// begun: a write that may be in the log has its answer before its connection is closed.
pub async fn serve(
    server: &Arc<Server>,
    mut listener: Box<dyn Listener>,
    end: impl Future<Output = Result<(), ServeError>>,
) -> Result<(), ServeError> {
    let mut connections = JoinSet::new();
    tokio::pin!(end);
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut end => break ended,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, addr)) => {
                    connections.spawn(welcome(server.clone(), stream, addr));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a client");
                    tokio::time::sleep(Duration::from_millis(limits::ACCEPT_RETRY_MS)).await;
                }
            },
        }
    };
    drop(listener);
    server.clients.stop();
    let patience = server.settings.get().write_timeout_ms + limits::DRAIN_MS;
    let all_gone = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_millis(patience), all_gone).await.is_err() {
        tracing::warn!(connections = connections.len(), "closing connections whose clients do not read");
    }
    ended
}

/// One client from its first byte to its last.
async fn welcome(server: Arc<Server>, mut stream: Box<dyn Stream>, addr: String) {
    server.stats.connections.add(1);
    let config = server.settings.keep();
    let Some(place) = server.clients.enter(addr, config.listen.clone(), config.maxclients) else {
        server.stats.rejected_connections.add(1);
        let mut out = BytesMut::new();
        let error = CommandError::Text("ERR max number of clients reached");
        encode_error(error.to_string().as_bytes(), &mut out);
        // Whether the client learns why is up to it.
        let patience = Duration::from_millis(limits::DRAIN_MS);
        let _ = tokio::time::timeout(patience, stream.write_all(&out)).await;
        return;
    };
    Connection::new(server, place.client.clone(), stream).serve().await;
}
