//! What settings must be to each other.

use std::collections::BTreeSet;

use super::{Config, ConfigError, rows};

/// Fills in what follows from other settings, then checks all of them together.
pub(super) fn check(config: &mut Config) -> Result<(), ConfigError> {
    for (name, missing) in
        [("node-id", config.node_id == 0), ("initial-cluster", config.initial_cluster.is_empty())]
    {
        if missing {
            return Err(ConfigError::new(
                name,
                "",
                rows::find(name).map_or_else(String::new, rows::Row::takes),
            ));
        }
    }
    check_members(config)?;
    fill_in_addresses(config)?;
    if config.cluster_id.is_empty() {
        return Err(ConfigError::new("cluster-id", "", "a name, the same on all nodes"));
    }
    let least = config.heartbeat_interval_ms * 3;
    if config.election_timeout_ms < least {
        let takes = format!("at least three times heartbeat-interval-ms, {least}");
        return Err(ConfigError::new("election-timeout-ms", config.election_timeout_ms, takes));
    }
    let least = config.log_segment_bytes * 4;
    if config.log_max_bytes < least {
        let takes = format!("at least four times log-segment-bytes, {least}");
        return Err(ConfigError::new("log-max-bytes", config.log_max_bytes, takes));
    }
    Ok(())
}

/// Each node and each address once.
fn check_members(config: &Config) -> Result<(), ConfigError> {
    let (mut ids, mut addrs) = (BTreeSet::new(), BTreeSet::new());
    for member in &config.initial_cluster {
        if !ids.insert(member.id) {
            return Err(ConfigError::new("initial-cluster", member.id, "each node once"));
        }
        for addr in [&member.client_addr, &member.peer_addr] {
            if !addrs.insert(addr) {
                return Err(ConfigError::new("initial-cluster", addr, "each address once"));
            }
        }
    }
    Ok(())
}

fn fill_in_addresses(config: &mut Config) -> Result<(), ConfigError> {
    let Some(member) = config.member().cloned() else {
        let ids: Vec<String> = config.initial_cluster.iter().map(|member| member.id.to_string()).collect();
        let takes = format!("one of the nodes of initial-cluster: {}", ids.join(", "));
        return Err(ConfigError::new("node-id", config.node_id, takes));
    };
    if config.listen.is_empty() {
        config.listen = member.client_addr;
    }
    if config.peer_listen.is_empty() {
        config.peer_listen = member.peer_addr;
    }
    if config.listen == config.peer_listen {
        return Err(ConfigError::new("peer-listen", &config.peer_listen, "another address than listen"));
    }
    if [&config.listen, &config.peer_listen].contains(&&config.metrics_listen) {
        let takes = "another address than listen and peer-listen";
        return Err(ConfigError::new("metrics-listen", &config.metrics_listen, takes));
    }
    Ok(())
}
