//! A server for tests: a real node, the only one of its cluster, on a real disk, without a network.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use quoris::cluster::View;
use quoris::config::Config;
use quoris::server::Server;
use quoris_raft::env::os::{OsClock, OsCpu, OsDisk, OsRng};
use quoris_raft::env::{Env, Listener, Net, Stream};
use tempfile::TempDir;

/// A server that has its slots, with `settings` of the test's own, and its files.
pub async fn server(settings: &[(&str, &str)]) -> (Arc<Server>, TempDir) {
    let (server, dir) = starting(settings).await;
    while !View::of(&server.node).is_ok() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (server, dir)
}

/// A server that has only just started.
pub async fn starting(settings: &[(&str, &str)]) -> (Arc<Server>, TempDir) {
    let dir = TempDir::new().expect("a directory");
    let data_dir = dir.path().join("data").display().to_string();
    let base = [
        ("node-id", "1"),
        ("initial-cluster", "1=127.0.0.1:7001@127.0.0.1:17001"),
        ("groups", "2"),
        ("data-dir", &data_dir),
    ];
    let config = Config::load("", base.into_iter().chain(settings.iter().copied())).expect("settings");
    let disk = Arc::new(OsDisk::new().expect("a disk"));
    let (clock, cpu, rng) = (Arc::new(OsClock), Arc::new(OsCpu), Arc::new(OsRng));
    let env = Env { clock, net: Arc::new(Nowhere), cpu, disk, rng };
    let server = Server::start(env, config, None).await.expect("a node");
    (server, dir)
}

/// A network in which nobody ever calls and nobody answers: a cluster of one needs none.
struct Nowhere;

#[async_trait]
impl Net for Nowhere {
    async fn listen(&self, _: &str) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(Nowhere))
    }

    async fn connect(&self, _: &str) -> io::Result<Box<dyn Stream>> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

#[async_trait]
impl Listener for Nowhere {
    async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, String)> {
        pending().await
    }

    fn local_addr(&self) -> io::Result<String> {
        Ok("127.0.0.1:0".to_string())
    }
}
