//! Runs the golden scripts under `src/testscripts/<chapter>/<command>`: what a session answers, byte by byte.
//!
//! Each script talks to a node of its own kind, the only one of its cluster, with two groups. A line that starts
//! with `>` is sent as an inline command; below `---` stand the bytes of the reply, CR LF as a line's end.
//! `reconnect` begins a new session. Of the replies named in `MASKED` only the shape is compared.
//!
//! `UPDATE_GOLDENFILES=1 cargo test -p quoris --test golden` writes the replies into the scripts: read the
//! difference before committing it.

mod support;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BytesMut;
use goldenscript::Context;
use libtest_mimic::{Arguments, Failed, Trial};
use quoris::clients::Place;
use quoris::resp::Decoder;
use quoris::resp::encode::encode_error;
use quoris::server::Server;
use quoris::session::Session;
use quoris_engine::command::{self, Run};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Commands whose replies hold figures that change: each run of digits (hexadecimal ones too, if long) is `N`.
const MASKED: [&str; 14] = [
    "acl log",
    "client id",
    "client info",
    "client list",
    "command",
    "command count",
    "hello",
    "info",
    "lastsave",
    "latency doctor",
    "latency histogram",
    "quoris status",
    "slowlog get",
    "time",
];

/// Longer replies are cut.
const SHOWN_BYTES: usize = 4000;

fn main() {
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = scripts()
        .into_iter()
        .map(|(name, path)| Trial::test(format!("scripts/{name}"), move || run_script(&path)))
        .collect();
    trials.push(Trial::test("every_session_row_has_a_script", every_session_row_has_a_script));
    libtest_mimic::run(&arguments, trials).exit();
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/testscripts")
}

/// Each script's `chapter/command` and its path, in order.
fn scripts() -> Vec<(String, PathBuf)> {
    let list = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
        paths.sort();
        paths
    };
    let name = |path: &PathBuf| {
        let relative = path.strip_prefix(root()).expect("below the root");
        (relative.to_string_lossy().into_owned(), path.clone())
    };
    list(&root()).iter().flat_map(|dir| list(dir)).map(|path| name(&path)).collect()
}

fn run_script(path: &Path) -> Result<(), Failed> {
    let mut world = World::new();
    let script = std::fs::read_to_string(path)?;
    let output = goldenscript::generate(&mut world, &script)?;
    if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
        std::fs::write(path, &output)?;
    }
    if output == script || std::env::var_os("UPDATE_GOLDENFILES").is_some() {
        return Ok(());
    }
    Err(format!("{} would become:\n{output}", path.display()).into())
}

fn every_session_row_has_a_script() -> Result<(), Failed> {
    let is_session = |row: &command::Command| matches!(row.run, Run::Session(_));
    let in_session =
        |row: &&'static command::Command| is_session(row) || row.subcommands.iter().any(is_session);
    let missing: Vec<String> = command::table()
        .filter(in_session)
        .map(|row| format!("{}/{}", row.chapter.name(), row.name))
        .filter(|name| !root().join(name).is_file())
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("no script for {}", missing.join(", ")).into()) }
}

/// A server without a network, and one session.
struct World {
    runtime: Runtime,
    server: Arc<Server>,
    place: Place,
    session: Session,
    /// The node's files.
    _dir: TempDir,
}

impl World {
    fn new() -> World {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (server, dir) = runtime.block_on(support::server(&[("enable-debug-command", "local")]));
        let (place, session) = runtime.block_on(async { connect(&server) });
        World { runtime, server, place, session, _dir: dir }
    }

    /// What the session answers to `line`.
    fn send(&mut self, line: &str) -> Vec<u8> {
        let mut inbox = BytesMut::from(format!("{line}\r\n").as_bytes());
        let (mut decoder, mut out) = (Decoder::default(), BytesMut::new());
        loop {
            match decoder.decode(&mut inbox, &self.session.decode_limits()) {
                Ok(Some(call)) => self.runtime.block_on(async {
                    self.session.push(call);
                    self.session.run(&mut out).await;
                    while self.session.is_blocked() {
                        self.session.unblocked().await;
                        self.session.resume(&mut out).await;
                    }
                }),
                Ok(None) => {
                    self.session.client.mail.take(self.session.protocol, &mut out);
                    return out.to_vec();
                }
                Err(error) => {
                    encode_error(&error.line().unwrap_or_default(), &mut out);
                    return out.to_vec();
                }
            }
        }
    }
}

fn connect(server: &Arc<Server>) -> (Place, Session) {
    let enter = server.clients.enter("127.0.0.1:50000".into(), "127.0.0.1:7001".into(), 10);
    let place = enter.expect("a place");
    let session = Session::new(server.clone(), place.client.clone());
    (place, session)
}

impl goldenscript::Runner for World {
    type Command = goldenscript::Command;

    fn run(&mut self, line: &goldenscript::Command, _: &Context) -> Result<String, Box<dyn Error>> {
        if line.name == "reconnect" {
            let server = &self.server;
            (self.place, self.session) = self.runtime.block_on(async { connect(server) });
            return Ok(String::new());
        }
        let reply = self.send(&line.name);
        let closed = if self.session.closing { "(closed)\n" } else { "" };
        let text = String::from_utf8_lossy(&reply).replace("\r\n", "\n");
        let lower = line.name.to_ascii_lowercase();
        let masked = MASKED.iter().any(|name| lower == *name || lower.starts_with(&format!("{name} ")));
        let text = if masked && !lower.starts_with("command ") || lower == "command count" {
            mask(&without_digests(&text))
        } else {
            text
        };
        let shown: String = text.chars().take(SHOWN_BYTES).collect();
        let cut = if shown.len() < text.len() { "…\n" } else { "" };
        Ok(format!("{shown}{cut}{closed}"))
    }
}

/// QUORIS STATUS without what depends on whether a second has passed.
fn without_digests(text: &str) -> String {
    let mut parts = text.split(",\"verified\":");
    let mut kept = parts.next().unwrap_or_default().to_string();
    for part in parts {
        kept += part.split_once("\"audit\":null").map_or(part, |(_, rest)| rest);
    }
    kept
}

/// Numbers as `N`.
fn mask(text: &str) -> String {
    let mut masked = String::new();
    let mut word = String::new();
    let flush = |word: &mut String, masked: &mut String| {
        let hex_name = word.len() == 40 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        // With a unit, as INFO writes sizes for people.
        let digits = word.strip_suffix(['B', 'K', 'M', 'G', 'T']).unwrap_or(word);
        let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        masked.push_str(if hex_name || number { "N" } else { word });
        word.clear();
    };
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            word.push(c);
        } else {
            flush(&mut word, &mut masked);
            masked.push(c);
        }
    }
    flush(&mut word, &mut masked);
    masked
}
