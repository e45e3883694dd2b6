//! Figures for Prometheus, in its text format (OpenMetrics 1.0), over HTTP: what INFO and `ctl status` tell, under names and labels
//! that queries can add up. Made anew for each request, from the counters that everybody else reads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use quoris_raft::env::{Listener, Stream};
use quoris_raft::types::GroupStatus;

use crate::limits;
use crate::memory;
use crate::process;
use crate::server::Server;
use crate::stats::CommandStats;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves `/metrics` to those who connect to `listener`, for as long as it is polled.
pub async fn serve(server: Arc<Server>, listener: Box<dyn Listener>) {
    let page = move || {
        let server = Arc::clone(&server);
        async move { ([(CONTENT_TYPE, OPEN_METRICS)], page(&server)).into_response() }
    };
    let served = axum::serve(Scrapers(listener), Router::new().route("/metrics", get(page))).await;
    if let Err(error) = served {
        tracing::error!(%error, "metrics are served no longer");
    }
}

/// Those who come for metrics.
struct Scrapers(Box<dyn Listener>);

impl axum::serve::Listener for Scrapers {
    type Io = Box<dyn Stream>;
    type Addr = String;

    async fn accept(&mut self) -> (Box<dyn Stream>, String) {
        loop {
            match self.0.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection for metrics");
                    tokio::time::sleep(Duration::from_millis(limits::ACCEPT_RETRY_MS)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<String> {
        self.0.local_addr()
    }
}

/// All figures, as text.
fn page(server: &Server) -> String {
    let mut page = Page(Registry::with_prefix("quoris"));
    node(server, &mut page);
    clients(server, &mut page);
    commands(server, &mut page);
    keys(server, &mut page);
    peers(server, &mut page);
    groups(server, &mut page);
    let mut text = String::new();
    encode(&mut text, &page.0).expect("a string takes all that is written");
    text
}

type Labels = Vec<(&'static str, String)>;

struct Page(Registry);

impl Page {
    /// A figure that may go up and down, once for each set of labels.
    fn gauges(&mut self, name: &str, help: &str, rows: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in rows {
            family.get_or_create(&labels).set(value);
        }
        self.0.register(name, help, family);
    }

    /// A figure that only grows until the process ends or CONFIG RESETSTAT; its name gets `_total`.
    fn counters(&mut self, name: &str, help: &str, rows: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Family::<Labels, Counter<f64, AtomicU64>>::default();
        for (labels, value) in rows {
            family.get_or_create(&labels).inc_by(value);
        }
        self.0.register(name, help, family);
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help, [(Labels::new(), value)]);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.counters(name, help, [(Labels::new(), value as f64)]);
    }
}

fn node(server: &Server, page: &mut Page) {
    let config = server.settings.get();
    let labels = vec![
        ("version", crate::VERSION.to_string()),
        ("node", config.node_id.to_string()),
        ("cluster", config.cluster_id.clone()),
    ];
    page.gauges("build_info", "1, with what it is of", [(labels, 1.0)]);
    page.gauge("uptime_seconds", "Since the node's start", server.started.elapsed().as_secs_f64());
    if let Some((resident, _)) = process::memory(&*server.env.disk) {
        page.gauge("resident_memory_bytes", "Memory of the process", resident as f64);
    }
    if let Some(cpu) = process::cpu(&*server.env.disk) {
        let modes = [("user", cpu.user_s), ("system", cpu.system_s)];
        let rows = modes.map(|(mode, seconds)| (vec![("mode", mode.to_string())], seconds));
        page.counters("cpu_seconds", "Processor time of the process", rows);
    }
    page.gauge("log_bytes", "The log's files", server.node.log_bytes_used() as f64);
    page.gauge("log_max_bytes", "What they may take", config.log_max_bytes as f64);
}

fn clients(server: &Server, page: &mut Page) {
    let (stats, all) = (&server.stats, server.clients.all());
    page.gauge("connected_clients", "Connections of clients", all.len() as f64);
    let blocked = all.iter().filter(|client| client.is_blocked()).count();
    page.gauge("blocked_clients", "Clients that wait in a call that blocks", blocked as f64);
    page.counter("connections", "Connections accepted", stats.connections.get());
    page.counter(
        "rejected_connections",
        "Connections refused for maxclients",
        stats.rejected_connections.get(),
    );
    page.counter("input_bytes", "Bytes from clients", stats.input_bytes.get());
    page.counter("output_bytes", "Bytes to clients", stats.output_bytes.get());
    page.counter("published_messages", "Messages that clients of this node published", stats.published.get());
    page.counter("lost_messages", "Published messages that a peer was not sent", server.pubsub.lost.get());
}

fn commands(server: &Server, page: &mut Page) {
    let by_command = |figure: fn(&CommandStats) -> f64| {
        server.stats.commands().map(move |stats| (vec![("command", stats.name.clone())], figure(stats)))
    };
    page.counters("commands", "Calls that ran", by_command(|stats| stats.calls.get() as f64));
    page.counters(
        "command_seconds",
        "Time from where a call runs was decided to its reply; calls that ran together share it",
        by_command(|stats| stats.usec.get() as f64 / 1e6),
    );
    page.counters(
        "failed_commands",
        "Calls that ran and failed",
        by_command(|stats| stats.failed.get() as f64),
    );
    page.counters(
        "rejected_commands",
        "Calls that were refused before they ran",
        by_command(|stats| stats.rejected.get() as f64),
    );
    let kinds = server.stats.error_kinds().into_iter();
    let rows = kinds.map(|(kind, count)| (vec![("kind", kind)], count as f64));
    page.counters("errors", "Replies that are errors, by their first word", rows);
    page.gauge("slowlog_entries", "Calls in SLOWLOG", server.slowlog.len() as f64);
}

fn keys(server: &Server, page: &mut Page) {
    page.gauge("memory_used_bytes", "What the keys of all groups take", memory::used(&server.node) as f64);
    let limit = server.settings.get().maxmemory;
    page.gauge("memory_max_bytes", "maxmemory; 0 for no limit", limit as f64);
    let (hits, misses) = server.lookups();
    page.counter("keyspace_hits", "Keys that calls found", hits);
    page.counter("keyspace_misses", "Keys that calls did not find", misses);
    page.counter("expired_keys", "Keys that expired where this node led", server.stats.expired_keys.get());
    page.counter("evicted_keys", "Keys evicted for maxmemory by this node", server.memory.evicted.get());
}

fn peers(server: &Server, page: &mut Page) {
    let (node, nodes) = (&server.node, server.node.nodes());
    let peers = nodes.iter().filter(|info| info.id != node.id());
    let rows = peers
        .map(|info| (vec![("peer", info.id.to_string())], f64::from(u8::from(node.is_reachable(info.id)))));
    page.gauges("peer_reachable", "1 if the connection to the node stands", rows);
}

/// A group's replica on this node.
struct Replica {
    status: GroupStatus,
    keys: usize,
    expiring: usize,
}

fn groups(server: &Server, page: &mut Page) {
    let replicas = server.node.groups().iter().map(|group| {
        let [keys, expiring] =
            group.with_machine(|machine| [machine.keyspace().len(), machine.keyspace().expiring()]);
        Replica { status: group.status(), keys, expiring }
    });
    let replicas: Vec<Replica> = replicas.collect();
    let mut by_group = |name: &str, help: &str, figure: &dyn Fn(&Replica) -> f64| {
        let rows =
            replicas.iter().map(|replica| (vec![("group", replica.status.id.to_string())], figure(replica)));
        page.gauges(name, help, rows);
    };
    let own = server.node.id();
    let flag = |is: bool| f64::from(u8::from(is));
    by_group("group_leader", "1 if this node leads", &|at| flag(at.status.leader == Some(own)));
    by_group("group_has_leader", "1 if this node knows a leader", &|at| flag(at.status.leader.is_some()));
    by_group("group_term", "The term", &|at| at.status.term as f64);
    by_group("group_last_index", "The last entry of this node's log", &|at| at.status.last_index as f64);
    by_group("group_committed_index", "The last entry that is known to be committed", &|at| {
        at.status.committed as f64
    });
    by_group("group_applied_index", "The last entry applied", &|at| at.status.applied as f64);
    by_group("group_snapshot_index", "The last entry in the newest snapshot", &|at| {
        at.status.snapshot_index as f64
    });
    by_group(
        "group_differs",
        "1 if the replica was found to differ, and serves no more until it is rebuilt",
        &|at| flag(at.status.difference.is_some()),
    );
    by_group("group_verified_index", "Up to where the replica was found to be what its leader's is", &|at| {
        at.status.verified.map_or(0, |check| check.index) as f64
    });
    by_group("group_keys", "Keys of the replica", &|at| at.keys as f64);
    by_group("group_expiring_keys", "Keys that have something to expire", &|at| at.expiring as f64);
}
