//! INFO: figures under the names that exporters read. A figure that quoris does not have is left out, not made up.

use std::fmt::{Display, Write};

use quoris_engine::Reply;
use quoris_engine::args::Args;

use crate::cluster::View;
use crate::session::Session;

type Section = (&'static str, fn(&Session, &mut Text));

const SECTIONS: [Section; 9] = [
    ("server", server),
    ("clients", clients),
    ("memory", memory),
    ("persistence", persistence),
    ("stats", stats),
    ("replication", replication),
    ("cluster", cluster),
    ("keyspace", keyspace),
    ("commandstats", commandstats),
];

/// What INFO alone leaves out.
const ON_REQUEST: [&str; 1] = ["commandstats"];

struct Text(String);

impl Text {
    fn field(&mut self, name: impl Display, value: impl Display) {
        write!(self.0, "{name}:{value}\r\n").expect("a string takes all that is written");
    }
}

pub(super) fn info(session: &Session, args: Args) -> Reply {
    let asked: Vec<Vec<u8>> = args.from(1).iter().map(|word| word.to_ascii_lowercase()).collect();
    let said = |word: &str| asked.iter().any(|asked| asked == word.as_bytes());
    let (everything, default) = (said("all") || said("everything"), asked.is_empty() || said("default"));
    let mut text = Text(String::new());
    for (name, write) in SECTIONS {
        if said(name) || everything || (default && !ON_REQUEST.contains(&name)) {
            let (first, rest) = name.split_at(1);
            let gap = if text.0.is_empty() { "" } else { "\r\n" };
            text.0.push_str(&format!("{gap}# {}{rest}\r\n", first.to_ascii_uppercase()));
            write(session, &mut text);
        }
    }
    View::text(text.0)
}

fn server(session: &Session, text: &mut Text) {
    let server = &session.server;
    let config = server.settings.get();
    let up_s = server.started.elapsed().as_secs();
    text.field("redis_version", crate::REDIS_VERSION);
    text.field("quoris_version", crate::VERSION);
    text.field("redis_mode", "cluster");
    text.field("arch_bits", usize::BITS);
    text.field("run_id", &server.run_id);
    text.field("tcp_port", config.listen.rsplit(':').next().unwrap_or_default());
    text.field("server_time_usec", server.env.clock.now_ms() * 1000);
    text.field("uptime_in_seconds", up_s);
    text.field("uptime_in_days", up_s / 86_400);
    text.field("quoris_node_id", config.node_id);
    text.field("quoris_cluster_id", &config.cluster_id);
}

fn clients(session: &Session, text: &mut Text) {
    let clients = session.server.clients.all();
    text.field("connected_clients", clients.len());
    text.field("maxclients", session.server.settings.get().maxclients);
    text.field("blocked_clients", clients.iter().filter(|client| client.is_blocked()).count());
}

fn memory(_: &Session, text: &mut Text) {
    text.field("maxmemory", 0);
    text.field("maxmemory_policy", "noeviction");
}

fn persistence(session: &Session, text: &mut Text) {
    // A node serves only when all of its log has been read; every write is in the log before it is acknowledged.
    text.field("loading", 0);
    text.field("aof_enabled", 1);
    text.field("aof_last_write_status", "ok");
    text.field("quoris_log_bytes", session.server.node.log_bytes_used());
}

fn stats(session: &Session, text: &mut Text) {
    let stats = &session.server.stats;
    text.field("total_connections_received", stats.connections.get());
    text.field("total_commands_processed", stats.calls.get());
    text.field("total_net_input_bytes", stats.input_bytes.get());
    text.field("total_net_output_bytes", stats.output_bytes.get());
    text.field("rejected_connections", stats.rejected_connections.get());
    text.field("evicted_keys", 0);
    text.field("total_error_replies", stats.errors.get());
}

fn replication(session: &Session, text: &mut Text) {
    let node = &session.server.node;
    let topology = node.topology();
    let peers = || topology.nodes.iter().filter(|info| info.id != node.id());
    text.field("role", "master");
    text.field("connected_slaves", 0);
    text.field("quoris_peers", peers().count());
    text.field("quoris_peers_reachable", peers().filter(|info| node.is_reachable(info.id)).count());
    text.field("quoris_groups", node.groups().len());
    let differ = node.groups().iter().filter(|group| group.difference().is_some()).count();
    text.field("quoris_groups_that_differ", differ);
    text.field("quoris_groups_led", node.groups().iter().filter(|group| group.is_leader()).count());
}

fn cluster(_: &Session, text: &mut Text) {
    text.field("cluster_enabled", 1);
}

/// The keys of the groups that this node leads: a sum over all nodes counts each key once.
fn keyspace(session: &Session, text: &mut Text) {
    let (mut keys, mut expires) = (0, 0);
    for group in session.server.node.groups().iter().filter(|group| group.is_leader()) {
        group.with_machine(|machine| {
            keys += machine.keyspace().len();
            expires += machine.keyspace().expiring();
        });
    }
    if keys > 0 {
        text.field("db0", format!("keys={keys},expires={expires},avg_ttl=0"));
    }
}

fn commandstats(session: &Session, text: &mut Text) {
    for stats in session.server.stats.commands() {
        let (calls, usec) = (stats.calls.get(), stats.usec.get());
        let value = format!(
            "calls={calls},usec={usec},usec_per_call={:.2},rejected_calls={},failed_calls={}",
            if calls == 0 { 0.0 } else { usec as f64 / calls as f64 },
            stats.rejected.get(),
            stats.failed.get(),
        );
        text.field(format_args!("cmdstat_{}", stats.name), value);
    }
}
