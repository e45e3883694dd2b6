//! INFO: figures under the names that exporters read. A figure that quoris does not have is left out, not made up; of what it
//! never does (fork, feed replicas of Redis's, defragment) it says so with the figures of a Redis that does not do it either.

use std::fmt::{Display, Write};
use std::time::Duration;

use quoris_engine::Reply;
use quoris_engine::args::Args;

use crate::clients::ClientState;
use crate::cluster::View;
use crate::config::Percentiles;
use crate::memory;
use crate::process;
use crate::pubsub::Kind;
use crate::session::Session;

type Section = (&'static str, fn(&Session, &mut Text));

const SECTIONS: [Section; 13] = [
    ("server", server),
    ("clients", clients),
    ("memory", memory),
    ("persistence", persistence),
    ("stats", stats),
    ("replication", replication),
    ("cpu", cpu),
    ("modules", |_, _| {}),
    ("errorstats", errorstats),
    ("cluster", cluster),
    ("keyspace", keyspace),
    ("commandstats", commandstats),
    ("latencystats", latencystats),
];

/// What INFO alone leaves out.
const ON_REQUEST: [&str; 2] = ["commandstats", "latencystats"];

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
            let gap = if text.0.is_empty() { "" } else { "\r\n" };
            text.0.push_str(&format!("{gap}# {}\r\n", title(name)));
            write(session, &mut text);
        }
    }
    View::text(text.0)
}

fn title(section: &str) -> String {
    match section {
        "cpu" => "CPU".to_string(),
        name => name[..1].to_ascii_uppercase() + &name[1..],
    }
}

fn server(session: &Session, text: &mut Text) {
    let server = &session.server;
    let config = server.settings.get();
    let up_s = server.started.elapsed().as_secs();
    text.field("redis_version", crate::REDIS_VERSION);
    // As in releases of Redis, which are not built from a working tree either.
    text.field("redis_git_sha1", "00000000");
    text.field("redis_git_dirty", 0);
    text.field("quoris_version", crate::VERSION);
    text.field("redis_mode", "cluster");
    text.field("os", std::env::consts::OS);
    text.field("arch_bits", usize::BITS);
    text.field("process_id", std::process::id());
    text.field("run_id", &server.run_id);
    text.field("tcp_port", config.listen.rsplit(':').next().unwrap_or_default());
    text.field("server_time_usec", server.env.clock.now_ms() * 1000);
    text.field("uptime_in_seconds", up_s);
    text.field("uptime_in_days", up_s / 86_400);
    // How often Redis looks after itself, and so its exactness of times; quoris sleeps until there is something to do.
    text.field("hz", 10);
    text.field("configured_hz", 10);
    text.field("lru_clock", (server.env.clock.now_ms() / 1000) & 0xff_ffff);
    text.field("process_supervised", "no");
    text.field("io_threads_active", 0);
    text.field("quoris_node_id", config.node_id);
    text.field("quoris_cluster_id", &config.cluster_id);
}

fn clients(session: &Session, text: &mut Text) {
    let server = &session.server;
    let all = server.clients.all();
    text.field("connected_clients", all.len());
    text.field("cluster_connections", server.node.nodes().len().saturating_sub(1));
    text.field("maxclients", server.settings.get().maxclients);
    let most = |figure: fn(&ClientState) -> usize| all.iter().map(|client| figure(&client.state())).max();
    text.field("client_recent_max_input_buffer", most(|state| state.memory.inbox).unwrap_or(0));
    text.field("client_recent_max_output_buffer", most(|state| state.memory.output).unwrap_or(0));
    text.field("blocked_clients", all.iter().filter(|client| client.is_blocked()).count());
    text.field("tracking_clients", server.tracking.figures().clients);
    text.field("pubsub_clients", server.pubsub.clients());
}

fn memory(session: &Session, text: &mut Text) {
    let (rss, peak) = process::memory(&*session.server.env.disk).unwrap_or_default();
    let (server, config) = (&session.server, session.server.settings.get());
    let used = memory::used(&server.node);
    text.field("used_memory", used);
    text.field("used_memory_human", human(used));
    text.field("used_memory_rss", rss);
    text.field("used_memory_rss_human", human(rss));
    text.field("used_memory_peak", peak);
    text.field("used_memory_peak_human", human(peak));
    text.field("used_memory_peak_perc", percentage(rss, peak));
    // Keys' content is all that is counted.
    text.field("used_memory_overhead", 0);
    text.field("used_memory_startup", 0);
    text.field("used_memory_dataset", used);
    text.field("used_memory_dataset_perc", percentage(used, used));
    let system = process::system_memory(&*server.env.disk).unwrap_or_default();
    text.field("total_system_memory", system);
    text.field("total_system_memory_human", human(system));
    text.field("maxmemory", config.maxmemory);
    text.field("maxmemory_human", human(config.maxmemory));
    text.field("maxmemory_policy", &config.maxmemory_policy);
    // The same in every group.
    let [cached, functions, libraries] = server.node.groups()[0].with_machine(|machine| {
        let scripts = machine.scripts();
        let functions = scripts.libraries().map(|library| library.functions.len()).sum();
        [scripts.count(), functions, scripts.libraries().count()]
    });
    text.field("number_of_cached_scripts", cached);
    text.field("number_of_functions", functions);
    text.field("number_of_libraries", libraries);
    text.field("mem_fragmentation_ratio", format_args!("{:.2}", rss as f64 / used as f64));
    text.field("mem_fragmentation_bytes", rss as i64 - used as i64);
    text.field("mem_allocator", "mimalloc");
    text.field("active_defrag_running", 0);
    text.field("mem_not_counted_for_evict", 0);
    text.field("mem_replication_backlog", 0);
    text.field("mem_total_replication_buffers", 0);
    text.field("mem_clients_slaves", 0);
    text.field("mem_aof_buffer", 0);
    text.field("lazyfree_pending_objects", server.lazyfree.pending());
    text.field("lazyfreed_objects", server.lazyfree.freed.get());
    text.field("mem_clients_normal", mem_clients(session));
}

/// What all clients hold.
fn mem_clients(session: &Session) -> usize {
    session.server.clients.all().iter().map(|client| client.held_bytes()).sum()
}

fn percentage(part: u64, whole: u64) -> String {
    format!("{:.2}%", if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 })
}

/// Bytes as Redis writes them for people.
fn human(bytes: u64) -> String {
    const UNITS: [(u32, char); 4] = [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')];
    match UNITS.iter().find(|(bits, _)| bytes >> bits > 0) {
        Some((bits, unit)) => format!("{:.2}{unit}", bytes as f64 / (1u64 << bits) as f64),
        None => format!("{bytes}B"),
    }
}

fn persistence(session: &Session, text: &mut Text) {
    // A node serves only when all of its log has been read; every write is in the log before it is acknowledged.
    text.field("loading", 0);
    text.field("async_loading", 0);
    text.field("current_cow_size", 0);
    let server = &session.server;
    let saving = u8::from(server.saves.is_running());
    text.field("rdb_bgsave_in_progress", saving);
    text.field("rdb_changes_since_last_save", server.saves.changes_since(&server.node));
    text.field("rdb_last_save_time", server.last_save_s());
    text.field("rdb_last_bgsave_status", "ok");
    text.field("rdb_last_cow_size", 0);
    text.field("aof_enabled", 1);
    text.field("aof_rewrite_in_progress", saving);
    text.field("aof_rewrite_scheduled", 0);
    // A save that fails, or a write of the log, ends the node.
    text.field("aof_last_bgrewrite_status", "ok");
    text.field("aof_last_write_status", "ok");
    text.field("aof_last_cow_size", 0);
    text.field("module_fork_in_progress", 0);
    text.field("module_fork_last_cow_size", 0);
    text.field("aof_current_size", server.node.log_bytes_used());
    text.field("quoris_log_bytes", server.node.log_bytes_used());
}

fn stats(session: &Session, text: &mut Text) {
    let (stats, tracking) = (&session.server.stats, session.server.tracking.figures());
    let pubsub = &session.server.pubsub;
    text.field("total_connections_received", stats.connections.get());
    text.field("total_commands_processed", stats.calls.get());
    let [calls, input, output] = session.server.rates.per_second();
    text.field("instantaneous_ops_per_sec", calls.round());
    text.field("total_net_input_bytes", stats.input_bytes.get());
    text.field("total_net_output_bytes", stats.output_bytes.get());
    text.field("total_net_repl_input_bytes", 0);
    text.field("total_net_repl_output_bytes", 0);
    text.field("instantaneous_input_kbps", format_args!("{:.2}", input / 1024.0));
    text.field("instantaneous_output_kbps", format_args!("{:.2}", output / 1024.0));
    text.field("rejected_connections", stats.rejected_connections.get());
    for name in ["sync_full", "sync_partial_ok", "sync_partial_err"] {
        text.field(name, 0);
    }
    text.field("expired_keys", stats.expired_keys.get());
    text.field("evicted_keys", session.server.memory.evicted.get());
    text.field("evicted_clients", session.server.clients.memory.evictions.get());
    let (hits, misses) = session.server.lookups();
    text.field("keyspace_hits", hits);
    text.field("keyspace_misses", misses);
    text.field("pubsub_channels", pubsub.count(Kind::Channel));
    text.field("pubsub_patterns", pubsub.count(Kind::Pattern));
    text.field("pubsubshard_channels", pubsub.count(Kind::Shard));
    text.field("quoris_messages_published", stats.published.get());
    text.field("quoris_messages_lost_to_peers", pubsub.lost.get());
    text.field("latest_fork_usec", 0);
    text.field("total_forks", 0);
    text.field("migrate_cached_sockets", session.server.targets.len());
    text.field("slave_expires_tracked_keys", 0);
    for name in ["hits", "misses", "key_hits", "key_misses"] {
        text.field(format_args!("active_defrag_{name}"), 0);
    }
    text.field("slowlog_entries", session.server.slowlog.len());
    text.field("tracking_total_keys", tracking.keys);
    text.field("tracking_total_items", tracking.items);
    text.field("tracking_total_prefixes", tracking.prefixes);
    text.field("total_error_replies", stats.errors.get());
}

fn cpu(session: &Session, text: &mut Text) {
    let cpu = process::cpu(&*session.server.env.disk).unwrap_or_default();
    for (name, seconds) in [
        ("used_cpu_sys", cpu.system_s),
        ("used_cpu_user", cpu.user_s),
        ("used_cpu_sys_children", cpu.children_system_s),
        ("used_cpu_user_children", cpu.children_user_s),
    ] {
        text.field(name, format_args!("{seconds:.6}"));
    }
}

fn errorstats(session: &Session, text: &mut Text) {
    for (kind, count) in session.server.stats.error_kinds() {
        text.field(format_args!("errorstat_{kind}"), format_args!("count={count}"));
    }
}

fn replication(session: &Session, text: &mut Text) {
    let node = &session.server.node;
    let nodes = node.nodes();
    let peers = || nodes.iter().filter(|info| info.id != node.id());
    text.field("role", "master");
    text.field("connected_slaves", 0);
    // Entries, not bytes: like Redis's offset it only tells how far this node is.
    let applied = node.groups().iter().map(|group| group.status().applied).sum::<u64>();
    text.field("master_failover_state", "no-failover");
    text.field("master_replid", &session.server.run_id);
    text.field("master_replid2", "0".repeat(40));
    text.field("master_repl_offset", applied);
    text.field("second_repl_offset", -1);
    for name in ["active", "size", "first_byte_offset", "histlen"] {
        text.field(format_args!("repl_backlog_{name}"), 0);
    }
    let config = session.server.settings.get();
    let lag = Duration::from_secs(config.min_replicas_max_lag_s);
    let heard = node.groups().iter().filter_map(|group| group.followers_heard(lag)).min();
    if let (Some(heard), true) = (heard, config.min_replicas_to_write > 0 && !lag.is_zero()) {
        // Of the group that this node leads with the fewest.
        text.field("min_slaves_good_slaves", heard);
    }
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

/// Percentiles of the commands' times, in microseconds.
fn latencystats(session: &Session, text: &mut Text) {
    let settings = session.server.settings.get();
    for stats in session.server.stats.commands().filter(|stats| stats.times.total() > 0) {
        let shown = settings.latency_percentiles.0.iter().map(|percentile| {
            let usec = stats.times.percentile_usec(*percentile);
            format!("p{}={usec}.000", Percentiles::name(*percentile))
        });
        text.field(
            format_args!("latency_percentiles_usec_{}", stats.name),
            shown.collect::<Vec<_>>().join(","),
        );
    }
}
