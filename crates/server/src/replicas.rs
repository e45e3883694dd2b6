//! `min-replicas-to-write`: a leader refuses writes while it has heard from too few followers of late.
//!
//! A write that is acknowledged is on a majority's disks whatever this says. Who wants it on more nodes, and rather not done
//! than on fewer, sets it: a follower counts while this node's link to it stands and it has answered its leader within
//! `min-replicas-max-lag`. That is asked before anything is proposed, so a refusal is certain; what has been proposed when a
//! follower falls silent is still done. Scripts learn of it from the stamp, as they may turn out not to write.

use std::time::Duration;

use bytes::Bytes;
use quoris_engine::CommandError;
use quoris_raft::group::Group;

use crate::config::Config;
use crate::route::{Place, Route};
use crate::server::Server;

/// Whether `group` has as many followers as `config` asks for. Of a group that another node leads, that one decides.
pub fn are_enough(config: &Config, group: &Group) -> bool {
    let (least, lag_s) = (config.min_replicas_to_write, config.min_replicas_max_lag_s);
    // As in Redis, a lag of 0 turns it off, too.
    least == 0
        || lag_s == 0
        || group.followers_heard(Duration::from_secs(lag_s)).is_none_or(|heard| heard as u64 >= least)
}

/// Whether there are followers enough for a call that is run here. Whoever runs it elsewhere looks at what there is there.
pub async fn admit(
    server: &Server,
    route: Route,
    words: &[Bytes],
    config: &Config,
) -> Result<Route, CommandError> {
    if config.min_replicas_to_write > 0
        && let Route::Group(row, seat) = &route
        && seat.place == Place::Here
        && row.writes(words)
        && !row.runs_script()
    {
        check(server, &seat.group).await?;
    }
    Ok(route)
}

/// Whether `group` may be written to.
pub async fn check(server: &Server, group: &Group) -> Result<(), CommandError> {
    if server.settings.get().min_replicas_to_write == 0 {
        return Ok(());
    }
    // The next leader may be this node. Who waits in vain is refused by the group itself.
    let _ = group.await_leader().await;
    if are_enough(&server.settings.get(), group) { Ok(()) } else { Err(CommandError::FewReplicas) }
}
