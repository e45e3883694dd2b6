//! redis-rs's cluster client under the contract of `tests/e2e/clients/README.md`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use redis::Commands;
use redis::cluster::{ClusterClient, ClusterConnection};
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};

const RESPONSE_LIMIT: Duration = Duration::from_secs(2);
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [addrs, verb, amount] = args.as_slice() else {
        bail!("takes ADDR,ADDR,… check COUNT | hammer SECONDS");
    };
    let urls: Vec<String> = addrs.split(',').map(|addr| format!("redis://{addr}")).collect();
    let cluster = ClusterClient::builder(urls)
        .connection_timeout(RESPONSE_LIMIT)
        .response_timeout(RESPONSE_LIMIT)
        .build()?;
    let mut client = cluster.get_connection()?;
    match verb.as_str() {
        "check" => {
            check(&mut client, amount.parse()?)?;
            println!("ok");
        }
        "hammer" => println!("{}", hammer(&cluster, client, amount.parse()?)?),
        other => bail!("unknown verb {other}"),
    }
    Ok(())
}

fn check(client: &mut ClusterConnection, count: usize) -> Result<()> {
    let keys: BTreeSet<String> = (0..count).map(|n| format!("check:{n}")).collect();
    for key in &keys {
        let () = client.set(key, key)?;
    }
    for key in &keys {
        let value: String = client.get(key)?;
        ensure!(&value == key, "{key} reads {value}");
    }
    let mut pipe = redis::cluster::cluster_pipe();
    keys.iter().take(50).for_each(|key| {
        pipe.get(key);
    });
    let piped: Vec<String> = pipe.query(client)?;
    ensure!(piped.iter().eq(keys.iter().take(50)), "the pipeline reads other values");
    // redis-rs sends these to every primary and combines the replies.
    let size: usize = redis::cmd("DBSIZE").query(client)?;
    ensure!(size == count, "DBSIZE is {size}");
    let listed: Vec<String> = redis::cmd("KEYS").arg("*").query(client)?;
    ensure!(listed.len() == count, "KEYS lists {}", listed.len());
    ensure!(listed.into_iter().collect::<BTreeSet<_>>() == keys, "KEYS lists other keys");
    ensure!(scan(client)? == keys, "SCAN lists other keys");
    let () = redis::cmd("FLUSHALL").query(client)?;
    let left: usize = redis::cmd("DBSIZE").query(client)?;
    ensure!(left == 0, "FLUSHALL leaves {left}");
    Ok(())
}

/// SCAN of every primary in turn; redis-rs leaves the walk over the cluster to its caller.
fn scan(client: &mut ClusterConnection) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for (host, port) in primaries(client)? {
        let mut cursor = 0_u64;
        loop {
            let node = SingleNodeRoutingInfo::ByAddress { host: host.clone(), port };
            let command = redis::cmd("SCAN").arg(cursor).arg("COUNT").arg(100).to_owned();
            let reply = client.route_command(&command, RoutingInfo::SingleNode(node))?;
            let (next, keys): (u64, Vec<String>) = redis::from_redis_value(reply)?;
            found.extend(keys);
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
    Ok(found)
}

/// The addresses of the nodes that lead any slot, each once.
fn primaries(client: &mut ClusterConnection) -> Result<BTreeSet<(String, u16)>> {
    let any = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
    let reply = client.route_command(redis::cmd("CLUSTER").arg("SLOTS"), any)?;
    let redis::Value::Array(rows) = reply else { bail!("CLUSTER SLOTS: {reply:?}") };
    rows.into_iter()
        .map(|row| {
            let redis::Value::Array(fields) = row else { bail!("CLUSTER SLOTS row: {row:?}") };
            let Some(redis::Value::Array(node)) = fields.into_iter().nth(2) else { bail!("no primary") };
            let mut parts = node.into_iter();
            let (Some(host), Some(port)) = (parts.next(), parts.next()) else { bail!("no address") };
            Ok((redis::from_redis_value(host)?, redis::from_redis_value(port)?))
        })
        .collect()
}

/// A blocking connection of redis-rs goes on trying a node that has died; it is for its owner to replace it.
fn renew(cluster: &ClusterClient, client: &mut ClusterConnection) {
    std::thread::sleep(PAUSE_AFTER_ERROR);
    if let Ok(fresh) = cluster.get_connection() {
        *client = fresh;
    }
}

fn read_patiently(cluster: &ClusterClient, client: &mut ClusterConnection, key: &str) -> Result<Option<u64>> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match client.get(key) {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => renew(cluster, client),
        }
    }
}

fn hammer(cluster: &ClusterClient, mut client: ClusterConnection, seconds: f64) -> Result<serde_json::Value> {
    let mut acknowledged = Vec::new();
    let (mut errors, mut longest) = (0_u64, Duration::ZERO);
    let began = Instant::now();
    let mut last = began;
    let mut record = 0_u64;
    while began.elapsed().as_secs_f64() < seconds {
        record += 1;
        match client.set::<_, _, ()>(format!("hammer:{record}"), record) {
            Ok(()) => {
                acknowledged.push(record);
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            Err(_) => {
                errors += 1;
                renew(cluster, &mut client);
            }
        }
    }
    let mut lost = 0_u64;
    for record in &acknowledged {
        let value = read_patiently(cluster, &mut client, &format!("hammer:{record}"))?;
        lost += u64::from(value != Some(*record));
    }
    Ok(serde_json::json!({
        "acknowledged": acknowledged.len(),
        "errors": errors,
        "lost": lost,
        "longest_pause_ms": u64::try_from(longest.as_millis())?,
    }))
}
