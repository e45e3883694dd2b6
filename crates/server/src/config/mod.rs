//! Settings: what a node is told from outside, by flags, by a TOML file, and by CONFIG SET while it runs.
//!
//! One row per setting ([`rows::ROWS`]): flags, TOML keys, CONFIG GET and SET, defaults, checks and
//! `docs/config.md` derive from it. Whatever a person gets wrong is one line: the key, what it got, what it takes.
//! Replicas never see a setting: what of them changes what a command answers travels in the entries of the leader that has it.

pub mod check;
pub mod compat;
pub mod docs;
pub mod field;
pub mod kinds;
pub mod live;
pub mod members;
pub mod rows;

use std::fmt;
use std::path::PathBuf;

use quoris_engine::entry::Bounds;
use quoris_raft::node::{Limits, NodeConfig, ReadMode, Timing};
use quoris_raft::types::NodeId;

use crate::pubsub::notify::NotifyOn;

pub use kinds::{ClientsLimit, EventsFrom, Forward, OutputLimits, Percentiles};
pub use live::Settings;
pub use members::Member;
pub use rows::{ROWS, Row};

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Its name.
    pub key: String,
    /// What was given.
    pub got: String,
    /// What it takes.
    pub takes: String,
}

impl ConfigError {
    pub(crate) fn new(key: &str, got: impl fmt::Display, takes: impl fmt::Display) -> ConfigError {
        ConfigError { key: key.to_string(), got: got.to_string(), takes: takes.to_string() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let got = if self.got.is_empty() { "nothing".to_string() } else { format!("{:?}", self.got) };
        write!(f, "{}: got {got}, takes {}", self.key, self.takes)
    }
}

impl std::error::Error for ConfigError {}

/// All settings. What each means stands in its row.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Config {
    pub node_id: NodeId,
    pub cluster_id: String,
    pub listen: String,
    pub peer_listen: String,
    pub metrics_listen: String,
    pub data_dir: PathBuf,
    pub initial_cluster: Vec<Member>,
    pub groups: u64,
    pub read_mode: ReadMode,
    pub thrifty: bool,
    pub forward: Forward,
    pub threads: u64,
    pub log_level: String,
    pub requirepass: String,
    pub acl_pubsub_default: String,
    pub acllog_max_len: u64,
    pub maxclients: u64,
    pub timeout_s: u64,
    pub heartbeat_interval_ms: u64,
    pub election_timeout_ms: u64,
    pub leader_wait_ms: u64,
    pub write_timeout_ms: u64,
    pub log_segment_bytes: u64,
    pub log_max_bytes: u64,
    pub log_cache_bytes: u64,
    pub snapshot_entries: u64,
    pub entries_behind_snapshot: u64,
    pub move_piece_bytes: u64,
    pub proto_max_bulk_len: u64,
    pub client_query_buffer_limit: u64,
    pub output_limits: OutputLimits,
    pub notify_keyspace_events: NotifyOn,
    pub keyspace_events_from: EventsFrom,
    pub tracking_table_max_keys: u64,
    pub slowlog_log_slower_than_us: i64,
    pub slowlog_max_len: u64,
    pub latency_monitor_threshold_ms: u64,
    pub latency_tracking: bool,
    pub latency_percentiles: Percentiles,
    pub enable_debug_command: String,
    pub maxmemory: u64,
    pub maxmemory_clients: ClientsLimit,
    pub maxmemory_policy: String,
    pub maxmemory_samples: u64,
    pub min_replicas_to_write: u64,
    pub min_replicas_max_lag_s: u64,
    pub evict_consumer_groups: bool,
    pub script_instructions: u64,
    pub script_memory: u64,
    pub script_read_limit_ms: u64,
    pub busy_reply_threshold_ms: u64,
    pub bounds: Bounds,
}

impl Config {
    /// Nothing set at all.
    fn blank() -> Config {
        Config {
            node_id: 0,
            cluster_id: String::new(),
            listen: String::new(),
            peer_listen: String::new(),
            metrics_listen: String::new(),
            data_dir: PathBuf::new(),
            initial_cluster: Vec::new(),
            groups: 0,
            read_mode: ReadMode::ReadIndex,
            thrifty: true,
            forward: Forward::Never,
            threads: 0,
            log_level: String::new(),
            requirepass: String::new(),
            acl_pubsub_default: "resetchannels".to_string(),
            acllog_max_len: 128,
            maxclients: 0,
            timeout_s: 0,
            heartbeat_interval_ms: 0,
            election_timeout_ms: 0,
            leader_wait_ms: 0,
            write_timeout_ms: 0,
            log_segment_bytes: 0,
            log_max_bytes: 0,
            log_cache_bytes: 0,
            snapshot_entries: 0,
            entries_behind_snapshot: 0,
            move_piece_bytes: 0,
            proto_max_bulk_len: 0,
            client_query_buffer_limit: 0,
            output_limits: OutputLimits::NONE,
            notify_keyspace_events: NotifyOn::NOTHING,
            keyspace_events_from: EventsFrom::All,
            tracking_table_max_keys: 0,
            slowlog_log_slower_than_us: 0,
            slowlog_max_len: 0,
            latency_monitor_threshold_ms: 0,
            latency_tracking: false,
            latency_percentiles: Percentiles::default(),
            enable_debug_command: String::new(),
            maxmemory: 0,
            maxmemory_clients: ClientsLimit::Bytes(0),
            maxmemory_policy: String::new(),
            maxmemory_samples: 0,
            min_replicas_to_write: 0,
            min_replicas_max_lag_s: 0,
            evict_consumer_groups: false,
            script_instructions: 0,
            script_memory: 0,
            script_read_limit_ms: 0,
            busy_reply_threshold_ms: 0,
            bounds: Bounds::default(),
        }
    }

    /// Every setting at its default; not yet something that a node can start with.
    fn defaults() -> Config {
        let mut config = Config::blank();
        for row in ROWS.iter().filter(|row| !row.default.is_empty()) {
            row.set(&mut config, row.default).expect("a default that the setting takes");
        }
        config
    }

    /// The settings of a TOML file's `text` (`""`: no file), with `flags` (name and value) over them, checked.
    pub fn load<'a>(
        text: &str,
        flags: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Config, ConfigError> {
        let mut config = Config::defaults();
        for (key, value) in read_toml(text)? {
            row_of(&key, &value)?.set(&mut config, &value)?;
        }
        for (key, value) in flags {
            row_of(key, value)?.set(&mut config, value)?;
        }
        check::check(&mut config)?;
        Ok(config)
    }

    /// This node's own line of `initial-cluster`.
    pub fn member(&self) -> Option<&Member> {
        self.initial_cluster.iter().find(|member| member.id == self.node_id)
    }

    /// What the node below the server is told.
    pub fn node_config(&self) -> NodeConfig {
        NodeConfig {
            node_id: self.node_id,
            cluster_id: self.cluster_id.clone(),
            peer_listen: self.peer_listen.clone(),
            data_dir: self.data_dir.clone(),
            initial_cluster: self
                .initial_cluster
                .iter()
                .map(|member| member.info(&self.cluster_id))
                .collect(),
            groups: self.groups as u32,
            timing: Timing {
                heartbeat_interval_ms: self.heartbeat_interval_ms,
                election_timeout_ms: self.election_timeout_ms,
                leader_wait_ms: self.leader_wait_ms,
                write_timeout_ms: self.write_timeout_ms,
            },
            limits: Limits {
                log_segment_bytes: self.log_segment_bytes,
                log_bytes: self.log_max_bytes,
                log_cache_bytes: self.log_cache_bytes,
                snapshot_entries: self.snapshot_entries,
                entries_behind_snapshot: self.entries_behind_snapshot,
                move_piece_bytes: self.move_piece_bytes as usize,
            },
            read_mode: self.read_mode,
            thrifty: self.thrifty,
        }
    }
}

/// `text` as an address that may be asked; `key` is the flag it was given with.
pub fn address(key: &str, text: &str) -> Result<String, ConfigError> {
    field::parse_address(text).ok_or_else(|| ConfigError::new(key, text, field::ADDRESS))
}

/// The row that `key` names.
fn row_of(key: &str, value: &str) -> Result<&'static Row, ConfigError> {
    let takes = "nothing: there is no such setting (docs/config.md has all)";
    // TOML's own habit is snake case.
    rows::find(&key.replace('_', "-")).ok_or_else(|| ConfigError::new(key, value, takes))
}

/// The keys and values of a TOML file that has no tables.
fn read_toml(text: &str) -> Result<Vec<(String, String)>, ConfigError> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let before = &text[..error.span().map_or(0, |span| span.start.min(text.len()))];
        let (number, start) = (before.matches('\n').count() + 1, before.rfind('\n').map_or(0, |at| at + 1));
        let line = text[start..].lines().next().unwrap_or_default();
        let why = error.message().replace('\n', " ");
        ConfigError::new("config", line, format!("TOML, which line {number} is not: {why}"))
    })?;
    let scalar = |(key, value): (String, toml::Value)| match value {
        toml::Value::String(text) => Ok((key, text)),
        toml::Value::Integer(number) => Ok((key, number.to_string())),
        other => {
            let takes = row_of(&key, &other.to_string())?.takes();
            Err(ConfigError::new(&key, other, takes))
        }
    };
    table.into_iter().map(scalar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "1=127.0.0.1:7001@127.0.0.1:17001,2=127.0.0.1:7002@127.0.0.1:17002";

    fn load(flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let base = [("node-id", "1"), ("initial-cluster", CLUSTER)];
        Config::load("", base.into_iter().chain(flags.iter().copied()))
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file =
            format!("node-id = 2\ninitial-cluster = \"{CLUSTER}\"\nlog-max-bytes = \"2gb\"\ngroups = 5\n");
        let config = Config::load(&file, [("groups", "7")]).expect("valid");
        assert_eq!((config.node_id, config.groups, config.log_max_bytes), (2, 7, 2 << 30));
        assert_eq!(
            (config.listen.as_str(), config.peer_listen.as_str()),
            ("127.0.0.1:7002", "127.0.0.1:17002")
        );
        assert_eq!(config.heartbeat_interval_ms, Config::defaults().heartbeat_interval_ms);
    }

    #[test]
    fn mistakes_are_one_line_that_names_key_value_and_what_is_taken() {
        for (flags, line) in [
            (&[("groups", "0")][..], "groups: got \"0\", takes a whole number from 1 to 1024"),
            (&[("groups", "1025")], "groups: got \"1025\", takes a whole number from 1 to 1024"),
            (&[("groups", "many")], "groups: got \"many\", takes a whole number from 1 to 1024"),
            (&[("read-mode", "fast")], "read-mode: got \"fast\", takes one of read-index, lease, local"),
            (&[("listen", "7001")], "listen: got \"7001\", takes an address, host:port"),
            (&[("node-id", "3")], "node-id: got \"3\", takes one of the nodes of initial-cluster: 1, 2"),
            (
                &[("log-level", "loud")],
                "log-level: got \"loud\", takes one of error, warn, info, debug, trace",
            ),
            (
                &[("heartbeat-interval-ms", "100"), ("election-timeout-ms", "250")],
                "election-timeout-ms: got \"250\", takes at least three times heartbeat-interval-ms, 300",
            ),
            (
                &[("initial-cluster", "1=a:1@a:2,1=b:1@b:2")],
                "initial-cluster: got \"1\", takes each node once",
            ),
            (
                &[("initial-cluster", "1=a:1@a:2,2=a:2@b:2")],
                "initial-cluster: got \"a:2\", takes each address once",
            ),
            (
                &[("initial-cluster", "1=a:1")],
                "initial-cluster: got \"1=a:1\", takes id=client_host:port@peer_host:port, separated by commas",
            ),
            (
                &[("speed", "9")],
                "speed: got \"9\", takes nothing: there is no such setting (docs/config.md has all)",
            ),
        ] {
            assert_eq!(load(flags).expect_err(line).to_string(), line);
        }
    }

    #[test]
    fn a_file_that_is_not_settings_is_one_line() {
        for text in
            ["groups = ", "groups = true", "[groups]\nx = 1", "a b", "groups = 1\ngroups = 2", "groups = 1.5"]
        {
            let error = Config::load(text, []).expect_err(text).to_string();
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        assert_eq!(
            Config::load("groups = true", []).expect_err("a truth value").to_string(),
            "groups: got \"true\", takes a whole number from 1 to 1024"
        );
    }

    #[test]
    fn nothing_given_names_what_is_missing() {
        let error = Config::load("", []).expect_err("no node").to_string();
        assert!(error.starts_with("node-id: got nothing, takes "), "{error}");
        let error = Config::load("", [("node-id", "1")]).expect_err("no cluster").to_string();
        assert!(error.starts_with("initial-cluster: got nothing, takes "), "{error}");
    }
}
