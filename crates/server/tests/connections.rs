//! Connections over streams in memory: what clients do to sockets, and what a stopping server does to clients.

mod support;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use quoris::listener;
use quoris::server::Server;
use quoris_raft::env::{Listener, Stream};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// What a socket holds that nobody reads.
const SOCKET_BYTES: usize = 4096;

/// A server whose clients connect by [`World::connect`].
struct World {
    server: Arc<Server>,
    calls: mpsc::Sender<DuplexStream>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    _dir: TempDir,
}

struct InMemory(mpsc::Receiver<DuplexStream>);

#[async_trait]
impl Listener for InMemory {
    async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, String)> {
        let stream = self.0.recv().await.ok_or(io::ErrorKind::NotConnected)?;
        Ok((Box::new(stream), "127.0.0.1:50000".to_string()))
    }

    fn local_addr(&self) -> io::Result<String> {
        Ok("127.0.0.1:7001".to_string())
    }
}

impl World {
    async fn new(settings: &[(&str, &str)]) -> World {
        World::of(support::server(settings).await)
    }

    fn of((server, dir): (Arc<Server>, TempDir)) -> World {
        let (calls, called) = mpsc::channel(8);
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn({
            let server = server.clone();
            async move {
                let end = async {
                    // Either way the test is over.
                    let _ = stopped.await;
                    Ok(())
                };
                listener::serve(&server, Box::new(InMemory(called)), end).await.expect("an orderly end");
            }
        });
        World { server, calls, stop, serving, _dir: dir }
    }

    async fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(SOCKET_BYTES);
        self.calls.send(theirs).await.expect("a server that listens");
        ours
    }

    /// Ready when so many clients' calls are blocked.
    async fn until_blocked(&self, count: usize) {
        let blocked = || self.server.clients.all().iter().filter(|client| client.is_blocked()).count();
        let all_are = async {
            while blocked() != count || self.server.blocked.count() != count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), all_are).await.expect("in time");
    }

    async fn stop(self) {
        self.stop.send(()).expect("a server that runs");
        tokio::time::timeout(Duration::from_secs(3), self.serving)
            .await
            .expect("in time")
            .expect("without a panic");
    }
}

async fn rest_of(stream: &mut DuplexStream) -> String {
    let mut text = Vec::new();
    let read = stream.read_to_end(&mut text);
    tokio::time::timeout(Duration::from_secs(5), read).await.expect("an end in time").expect("bytes");
    String::from_utf8(text).expect("text")
}

async fn expect(stream: &mut DuplexStream, reply: &str) {
    let mut got = vec![0; reply.len()];
    let read = stream.read_exact(&mut got);
    tokio::time::timeout(Duration::from_secs(5), read).await.expect("a reply in time").expect("bytes");
    assert_eq!(String::from_utf8_lossy(&got), reply);
}

#[tokio::test]
async fn a_pipeline_is_answered_in_order_across_groups_and_barriers() {
    let world = World::new(&[]).await;
    let mut client = world.connect().await;
    // bar and foo are in different groups; hello and no-such are answered by the session.
    let calls = "set bar 1\r\nset foo 2\r\nget bar\r\nno-such\r\nget foo\r\nincr foo\r\nhello 4\r\nget foo\r\ndbsize\r\nquit\r\nping\r\n";
    client.write_all(calls.as_bytes()).await.expect("room");
    let replies = "+OK\r\n+OK\r\n$1\r\n1\r\n\
        -ERR unknown command 'no-such', with args beginning with: \r\n\
        $1\r\n2\r\n:3\r\n-NOPROTO unsupported protocol version\r\n$1\r\n3\r\n:2\r\n+OK\r\n";
    assert_eq!(rest_of(&mut client).await, replies);
}

/// Whom the cluster has shut out, a node that has forgotten everything must not let in.
#[tokio::test]
async fn a_node_that_does_not_know_the_users_shows_itself_alone() {
    // The other one never comes, so the cluster is never founded.
    let members = "1=127.0.0.1:7001@127.0.0.1:17001,2=127.0.0.1:7002@127.0.0.1:17002";
    let world = World::of(support::starting(&[("initial-cluster", members)]).await);
    let mut client = world.connect().await;
    let calls = "ping\r\nget a\r\ndbsize\r\nwatch a\r\npublish a b\r\nconfig get port\r\nquoris forwarded\r\nquit\r\n";
    client.write_all(calls.as_bytes()).await.expect("room");
    let refused = "-CLUSTERDOWN This node does not know the cluster's users yet\r\n".repeat(6);
    assert_eq!(rest_of(&mut client).await, format!("+PONG\r\n{refused}+OK\r\n"));
}

#[tokio::test]
async fn a_client_may_send_all_before_it_reads_anything() {
    const CALLS: usize = 100_000;
    let world = World::new(&[]).await;
    let mut client = world.connect().await;
    let all = "PING\r\n".repeat(CALLS);
    let sent = client.write_all(all.as_bytes());
    tokio::time::timeout(Duration::from_secs(10), sent).await.expect("nobody waits for ever").expect("room");
    client.shutdown().await.expect("the other direction stays open");
    assert_eq!(rest_of(&mut client).await, "+PONG\r\n".repeat(CALLS));
}

#[tokio::test]
async fn a_bad_frame_ends_its_own_connection_after_what_came_before() {
    let world = World::new(&[]).await;
    let (mut bad, mut good) = (world.connect().await, world.connect().await);
    bad.write_all(b"PING\r\n*1\r\n+x\r\nPING\r\n").await.expect("room");
    assert_eq!(rest_of(&mut bad).await, "+PONG\r\n-ERR Protocol error: expected '$', got '+'\r\n");
    good.write_all(b"PING\r\n").await.expect("room");
    expect(&mut good, "+PONG\r\n").await;
}

#[tokio::test]
async fn a_client_that_authenticates_in_a_pipeline_may_send_large_calls_in_it() {
    let world = World::new(&[("requirepass", "secret")]).await;
    let mut client = world.connect().await;
    let large = format!("*13\r\n$6\r\nEXISTS\r\n{}", "$1\r\na\r\n".repeat(12));
    client.write_all(format!("AUTH secret\r\n{large}QUIT\r\n").as_bytes()).await.expect("room");
    assert_eq!(rest_of(&mut client).await, "+OK\r\n:0\r\n+OK\r\n");
    let mut stranger = world.connect().await;
    stranger.write_all(large.as_bytes()).await.expect("room");
    assert_eq!(rest_of(&mut stranger).await, "-ERR Protocol error: unauthenticated multibulk length\r\n");
}

#[tokio::test]
async fn one_client_too_many_is_told_so() {
    let world = World::new(&[("maxclients", "1")]).await;
    let mut first = world.connect().await;
    first.write_all(b"PING\r\n").await.expect("room");
    expect(&mut first, "+PONG\r\n").await;
    assert_eq!(rest_of(&mut world.connect().await).await, "-ERR max number of clients reached\r\n");
    drop(first);
    while world.server.clients.count() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut second = world.connect().await;
    second.write_all(b"PING\r\n").await.expect("room");
    expect(&mut second, "+PONG\r\n").await;
}

#[tokio::test]
async fn a_killed_client_is_gone_and_the_killer_reads_its_answer() {
    let world = World::new(&[]).await;
    let (mut victim, mut killer) = (world.connect().await, world.connect().await);
    victim.write_all(b"CLIENT ID\r\n").await.expect("room");
    expect(&mut victim, ":1\r\n").await;
    killer.write_all(b"CLIENT KILL ID 1\r\nCLIENT KILL ID 2 SKIPME no\r\n").await.expect("room");
    assert_eq!(rest_of(&mut killer).await, ":1\r\n:1\r\n");
    assert_eq!(rest_of(&mut victim).await, "");
}

#[tokio::test]
async fn an_idle_client_is_disconnected_if_the_setting_says_so() {
    let world = World::new(&[("timeout", "1")]).await;
    assert_eq!(rest_of(&mut world.connect().await).await, "");
}

#[tokio::test]
async fn a_stopping_server_answers_what_has_begun_and_closes() {
    let world = World::new(&[]).await;
    let mut idle = world.connect().await;
    let mut busy = world.connect().await;
    busy.write_all(b"SET a 1\r\n").await.expect("room");
    expect(&mut busy, "+OK\r\n").await;
    world.stop().await;
    assert_eq!((rest_of(&mut idle).await, rest_of(&mut busy).await), (String::new(), String::new()));
}

#[tokio::test]
async fn an_idle_subscriber_hears_what_another_client_publishes() {
    let world = World::new(&[]).await;
    let (mut listener, mut speaker) = (world.connect().await, world.connect().await);
    listener.write_all(b"SUBSCRIBE a\r\n").await.expect("room");
    expect(&mut listener, "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n").await;
    speaker.write_all(b"PUBLISH a hi\r\n").await.expect("room");
    expect(&mut speaker, ":1\r\n").await;
    expect(&mut listener, "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n").await;
    drop(listener);
    while world.server.pubsub.clients() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_paused_write_waits_and_reads_go_on() {
    let world = World::new(&[]).await;
    let (mut admin, mut writer) = (world.connect().await, world.connect().await);
    admin.write_all(b"CLIENT PAUSE 100000 WRITE\r\n").await.expect("room");
    expect(&mut admin, "+OK\r\n").await;
    writer.write_all(b"GET a\r\nSET a 1\r\nGET a\r\n").await.expect("room");
    expect(&mut admin, "").await;
    admin.write_all(b"GET a\r\n").await.expect("room");
    expect(&mut admin, "$-1\r\n").await;
    admin.write_all(b"CLIENT UNPAUSE\r\n").await.expect("room");
    expect(&mut admin, "+OK\r\n").await;
    expect(&mut writer, "$-1\r\n+OK\r\n$1\r\n1\r\n").await;
}

#[tokio::test]
async fn a_pause_of_writes_holds_pfcount_and_no_script_that_writes_nothing() {
    let world = World::new(&[]).await;
    let (mut admin, mut held) = (world.connect().await, world.connect().await);
    admin.write_all(b"CLIENT PAUSE 100000 WRITE\r\n").await.expect("room");
    expect(&mut admin, "+OK\r\n").await;
    // Known by its name alone, which says nothing of what it does.
    let load = b"SCRIPT LOAD \"#!lua flags=no-writes\\nreturn 1\"\r\n";
    admin.write_all(load).await.expect("room");
    expect(&mut admin, "$40\r\n77f21361171213377cb083e2ffc2ae24ffdff8fb\r\n").await;
    admin.write_all(b"EVALSHA 77f21361171213377cb083e2ffc2ae24ffdff8fb 0\r\n").await.expect("room");
    expect(&mut admin, ":1\r\n").await;
    held.write_all(b"PFCOUNT a\r\n").await.expect("room");
    while !world.server.clients.all().iter().any(|client| client.is_blocked()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    admin.write_all(b"CLIENT UNPAUSE\r\n").await.expect("room");
    expect(&mut admin, "+OK\r\n").await;
    expect(&mut held, ":0\r\n").await;
}

#[tokio::test]
async fn a_monitor_is_shown_what_others_call_without_their_secrets() {
    let world = World::new(&[]).await;
    let (mut monitor, mut other) = (world.connect().await, world.connect().await);
    monitor.write_all(b"MONITOR\r\n").await.expect("room");
    expect(&mut monitor, "+OK\r\n").await;
    other.write_all(b"SET a \"b\\n\"\r\nAUTH me secret\r\nCONFIG GET port\r\nPING\r\n").await.expect("room");
    let mut shown = String::new();
    while !shown.contains("PING") {
        let mut bytes = [0; 1024];
        let read = tokio::time::timeout(Duration::from_secs(5), monitor.read(&mut bytes));
        let read = read.await.expect("in time").expect("bytes");
        shown.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    let calls: Vec<&str> =
        shown.lines().filter_map(|line| line.split_once("] ")).map(|(_, call)| call).collect();
    assert_eq!(calls, [r#""SET" "a" "b\n""#, r#""AUTH" "(redacted)" "(redacted)""#, r#""PING""#]);
}

#[tokio::test]
async fn invalidations_are_redirected_and_a_broken_way_is_told_of() {
    let world = World::new(&[]).await;
    let (mut listener, mut reader, mut writer) =
        (world.connect().await, world.connect().await, world.connect().await);
    listener.write_all(b"CLIENT ID\r\nSUBSCRIBE __redis__:invalidate\r\n").await.expect("room");
    expect(&mut listener, ":1\r\n*3\r\n$9\r\nsubscribe\r\n$20\r\n__redis__:invalidate\r\n:1\r\n").await;
    reader.write_all(b"HELLO 3\r\nCLIENT TRACKING ON REDIRECT 1\r\nGET a\r\n").await.expect("room");
    until(&mut reader, "+OK\r\n_\r\n").await;
    writer.write_all(b"SET a 1\r\n").await.expect("room");
    expect(&mut listener, "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$1\r\na\r\n").await;
    reader.write_all(b"GET a\r\n").await.expect("room");
    expect(&mut reader, "$1\r\n1\r\n").await;
    drop(listener);
    while world.server.clients.count() > 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    writer.write_all(b"SET a 2\r\n").await.expect("room");
    expect(&mut reader, ">2\r\n$21\r\ntracking-redir-broken\r\n:1\r\n").await;
}

#[tokio::test]
async fn who_makes_room_is_told_of_what_went_before_the_reply() {
    let world = World::new(&[]).await;
    let mut client = world.connect().await;
    let calls = b"CLIENT TRACKING ON\r\nCONFIG SET maxmemory-policy volatile-random\r\nSETEX a 1000 b\r\n";
    client.write_all(b"HELLO 3\r\n").await.expect("room");
    until(&mut client, "modules\r\n*0\r\n").await;
    client.write_all(calls).await.expect("room");
    expect(&mut client, "+OK\r\n+OK\r\n+OK\r\n").await;
    client.write_all(b"GET a\r\n").await.expect("room");
    expect(&mut client, "$1\r\nb\r\n").await;
    client.write_all(b"CONFIG SET maxmemory 1\r\nGETBIT b 0\r\n").await.expect("room");
    expect(&mut client, "+OK\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n:0\r\n").await;
}

#[tokio::test]
async fn who_reads_is_told_of_what_a_smaller_table_forgets() {
    let world = World::new(&[]).await;
    let mut reader = world.connect().await;
    reader.write_all(b"HELLO 3\r\nCLIENT TRACKING ON\r\nMGET {x}a {x}b\r\n").await.expect("room");
    until(&mut reader, "*2\r\n_\r\n_\r\n").await;
    reader.write_all(b"CONFIG SET tracking-table-max-keys 1\r\n").await.expect("room");
    expect(&mut reader, "+OK\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$4\r\n{x}a\r\n").await;
}

/// Reads up to `end`.
async fn until(client: &mut DuplexStream, end: &str) {
    let mut seen = String::new();
    while !seen.ends_with(end) {
        let byte = tokio::time::timeout(Duration::from_secs(5), client.read_u8());
        seen.push(char::from(byte.await.expect("in time").expect("a byte")));
    }
}

#[tokio::test]
async fn calls_behind_a_blocked_one_wait_for_it() {
    let world = World::new(&[]).await;
    let (mut blocked, mut other) = (world.connect().await, world.connect().await);
    blocked.write_all(b"PING\r\nBLPOP q 0\r\nSET after 1\r\n").await.expect("room");
    expect(&mut blocked, "+PONG\r\n").await;
    world.until_blocked(1).await;
    other.write_all(b"EXISTS after\r\nRPUSH q x y\r\n").await.expect("room");
    expect(&mut other, ":0\r\n:2\r\n").await;
    expect(&mut blocked, "*2\r\n$1\r\nq\r\n$1\r\nx\r\n+OK\r\n").await;
    world.until_blocked(0).await;
}

#[tokio::test]
async fn who_is_blocked_still_hears_of_what_it_tracks() {
    let world = World::new(&[]).await;
    let (mut blocked, mut other) = (world.connect().await, world.connect().await);
    blocked
        .write_all(b"HELLO 3\r\nCLIENT TRACKING ON\r\nMULTI\r\nGET a\r\nEXEC\r\nBLPOP q 0\r\n")
        .await
        .expect("room");
    until(&mut blocked, "+QUEUED\r\n*1\r\n_\r\n").await;
    world.until_blocked(1).await;
    other.write_all(b"SET a 1\r\n").await.expect("room");
    expect(&mut other, "+OK\r\n").await;
    expect(&mut blocked, ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n").await;
    other.write_all(b"RPUSH q x\r\n").await.expect("room");
    expect(&mut other, ":1\r\n").await;
    expect(&mut blocked, "*2\r\n$1\r\nq\r\n$1\r\nx\r\n").await;
}

#[tokio::test]
async fn who_leaves_or_is_killed_while_blocked_is_given_nothing() {
    let world = World::new(&[]).await;
    let (mut leaves, mut killed) = (world.connect().await, world.connect().await);
    let (mut half_closes, mut other) = (world.connect().await, world.connect().await);
    for client in [&mut leaves, &mut killed, &mut half_closes] {
        client.write_all(b"BLPOP q 0\r\n").await.expect("room");
    }
    world.until_blocked(3).await;
    drop(leaves);
    half_closes.shutdown().await.expect("one direction");
    other.write_all(b"CLIENT KILL ID 2\r\n").await.expect("room");
    expect(&mut other, ":1\r\n").await;
    world.until_blocked(0).await;
    assert_eq!((rest_of(&mut killed).await, rest_of(&mut half_closes).await), (String::new(), String::new()));
    other.write_all(b"RPUSH q x\r\nLPOP q\r\n").await.expect("room");
    expect(&mut other, ":1\r\n$1\r\nx\r\n").await;
    assert_eq!(world.server.blocked.count(), 0);
}

#[tokio::test]
async fn a_blocked_client_can_be_unblocked_either_way() {
    let world = World::new(&[]).await;
    let (mut blocked, mut other) = (world.connect().await, world.connect().await);
    for (how, answer) in [
        ("", "*-1\r\n"),
        (" TIMEOUT", "*-1\r\n"),
        (" ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"),
    ] {
        blocked.write_all(b"BLPOP q 0\r\n").await.expect("room");
        world.until_blocked(1).await;
        other.write_all(format!("CLIENT UNBLOCK 1{how}\r\n").as_bytes()).await.expect("room");
        expect(&mut other, ":1\r\n").await;
        expect(&mut blocked, answer).await;
    }
    other.write_all(b"CLIENT UNBLOCK 1\r\n").await.expect("room");
    expect(&mut other, ":0\r\n").await;
}

#[tokio::test]
async fn a_stopping_server_answers_who_is_blocked() {
    let world = World::new(&[]).await;
    let mut blocked = world.connect().await;
    blocked.write_all(b"BLPOP q 0\r\nPING\r\n").await.expect("room");
    world.until_blocked(1).await;
    world.stop().await;
    assert_eq!(rest_of(&mut blocked).await, "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n");
}

#[tokio::test]
async fn debug_is_refused_unless_the_setting_allows_it() {
    const CALLS: &[u8] = b"DEBUG OBJECT a\r\nDEBUG SLEEP 0\r\nQUIT\r\n";
    for (setting, refused) in [("no", true), ("local", false), ("yes", false)] {
        let world = World::new(&[("enable-debug-command", setting)]).await;
        let mut client = world.connect().await;
        client.write_all(CALLS).await.expect("room");
        let replies = rest_of(&mut client).await;
        assert_eq!(replies.matches("-ERR DEBUG command not allowed.").count(), if refused { 2 } else { 0 });
        assert_eq!(replies == "-ERR no such key\r\n+OK\r\n+OK\r\n", !refused, "{replies}");
    }
}

#[tokio::test]
async fn debug_sleep_delays_nobody_else() {
    let world = World::new(&[("enable-debug-command", "yes")]).await;
    let (mut sleeper, mut other) = (world.connect().await, world.connect().await);
    let began = tokio::time::Instant::now();
    sleeper.write_all(b"DEBUG SLEEP 0.6\r\n").await.expect("room");
    other.write_all(b"SET a 1\r\nGET a\r\n").await.expect("room");
    expect(&mut other, "+OK\r\n$1\r\n1\r\n").await;
    assert!(began.elapsed() < Duration::from_millis(600), "the other client waited");
    expect(&mut sleeper, "+OK\r\n").await;
    assert!(began.elapsed() >= Duration::from_millis(600), "nobody slept");
}

#[tokio::test]
async fn who_holds_more_than_clients_may_is_disconnected() {
    let world = World::new(&[("maxmemory-clients", "200kb")]).await;
    let (mut greedy, mut spared, mut small) =
        (world.connect().await, world.connect().await, world.connect().await);
    spared.write_all(b"CLIENT NO-EVICT ON\r\n").await.expect("a connection");
    expect(&mut spared, "+OK\r\n").await;
    // A call that never ends.
    let part = [&b"*1\r\n$400000\r\n"[..], &[b'x'; 300_000]].concat();
    spared.write_all(&part).await.expect("it may hold what it wants");
    assert!(greedy.write_all(&part).await.is_err() || rest_of(&mut greedy).await.is_empty());
    small.write_all(b"INFO stats\r\nCLIENT LIST\r\nQUIT\r\n").await.expect("a connection");
    let told = rest_of(&mut small).await;
    assert!(told.contains("evicted_clients:1\r\n"), "{told}");
    assert_eq!(told.matches("fd=-1").count(), 2, "{told}");
    assert!(told.contains(" flags=e ") && told.contains("qbuf=300"), "{told}");
    world.stop().await;
}
