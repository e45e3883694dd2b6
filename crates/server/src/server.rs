//! A running server: the node below, and what all of its connections share.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use quoris_engine::Call;
use quoris_raft::env::{Env, Listener};
use quoris_raft::group::Group;
use quoris_raft::node::{Node, StartError};
use quoris_raft::types::META_GROUP;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::acl_log::AclLog;
use crate::blocking::Blocked;
use crate::clients::Clients;
use crate::config::{Config, Settings};
use crate::forward::Relays;
use crate::latency::Latency;
use crate::lazyfree::LazyFree;
use crate::limits;
use crate::listener;
use crate::memory::{self, Memory};
use crate::metrics;
use crate::migrate::{self, Targets};
use crate::monitor::Monitors;
use crate::pause::Pause;
use crate::pubsub::PubSub;
use crate::rates::{self, Rates};
use crate::reply_room::PeakLife;
use crate::save::Saves;
use crate::scripts::{self, Scripts};
use crate::shutdown::{self, Shutdown};
use crate::slowlog::SlowLog;
use crate::stats::Stats;
use crate::tracking::Tracking;
use crate::users::UserBook;
use crate::watcher::Watcher;

/// What all connections share.
pub struct Server {
    /// The outside world.
    pub env: Env,
    /// The node.
    pub node: Arc<Node>,
    /// Clients whose calls have blocked.
    pub blocked: Arc<Blocked>,
    /// Connections to other nodes for the calls of plain clients.
    pub relays: Relays,
    /// Connections to targets of MIGRATE.
    pub targets: Targets,
    /// What it was told, and told since.
    pub settings: Arc<Settings>,
    /// Who is connected.
    pub clients: Arc<Clients>,
    /// Who listens to which channel.
    pub pubsub: Arc<PubSub>,
    /// Who has cached which key.
    pub tracking: Arc<Tracking>,
    /// Who watches what others call.
    pub monitors: Arc<Monitors>,
    /// CLIENT PAUSE.
    pub pause: Arc<Pause>,
    /// Scripts at work.
    pub scripts: Scripts,
    /// Who may do what.
    pub users: Arc<UserBook>,
    /// Calls that were not allowed.
    pub acl_log: Arc<AclLog>,
    /// Calls that took long.
    pub slowlog: SlowLog,
    /// Spikes.
    pub latency: Arc<Latency>,
    /// How long a connection keeps room for replies that it has not needed since.
    pub peak_life: PeakLife,
    /// What is freed aside.
    pub lazyfree: Arc<LazyFree>,
    /// Whether the groups note events for somebody here.
    pub(crate) observing: Mutex<bool>,
    /// What the keys may take.
    pub memory: Arc<Memory>,
    /// Snapshots by command.
    pub saves: Saves,
    /// SHUTDOWN.
    pub shutdown: Shutdown,
    /// Figures.
    pub stats: Arc<Stats>,
    /// How fast some of them grow.
    pub rates: Rates,
    /// When it started.
    pub started: Instant,
    /// 40 hex digits, new with each start.
    pub run_id: String,
}

/// Why a server ended, or never began. One line for the person who started it.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Clients cannot be listened for.
    #[error("cannot listen for clients on {addr}: {source}")]
    Listen {
        /// The address.
        addr: String,
        /// What the system said.
        source: io::Error,
    },
    /// Metrics cannot be served.
    #[error("cannot listen for metrics on {addr}: {source}")]
    Metrics {
        /// The address.
        addr: String,
        /// What the system said.
        source: io::Error,
    },
    /// The node below cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The node can no longer keep its promise.
    #[error("the node has stopped: {0}")]
    Failed(String),
}

impl Server {
    /// Starts the node, and all of the server but its listener.
    pub async fn start(env: Env, config: Config, file: Option<PathBuf>) -> Result<Arc<Server>, ServeError> {
        let node_config = config.node_config();
        let (settings, clients) = (Arc::new(Settings::new(config, file)), Arc::<Clients>::default());
        let (blocked, started_node) = (Arc::<Blocked>::default(), Arc::<OnceLock<Weak<Node>>>::default());
        let pubsub = Arc::new(PubSub::new(Arc::clone(&settings)));
        let tracking = Arc::new(Tracking::new(Arc::clone(&settings), Arc::clone(&clients)));
        let memory = Arc::<Memory>::default();
        let (stats, monitors) = (Arc::new(Stats::new()), Arc::<Monitors>::default());
        let (pause, latency, lazyfree) = (Arc::default(), Arc::default(), Arc::default());
        let users = UserBook::new(Arc::clone(&settings), Arc::clone(&clients), Arc::clone(&pubsub));
        let users = Arc::new(users);
        let acl_log = Arc::new(AclLog::new(Arc::clone(&settings), Arc::clone(&env.clock)));
        let watcher = Watcher {
            users: Arc::clone(&users),
            acl_log: Arc::clone(&acl_log),
            clock: Arc::clone(&env.clock),
            cpu: Arc::clone(&env.cpu),
            lazyfree: Arc::clone(&lazyfree),
            latency: Arc::clone(&latency),
            pause: Arc::clone(&pause),
            stats: Arc::clone(&stats),
            monitors: Arc::clone(&monitors),
            blocked: Arc::clone(&blocked),
            memory: Arc::clone(&memory),
            pubsub: Arc::clone(&pubsub),
            tracking: Arc::clone(&tracking),
            settings: Arc::clone(&settings),
            node: Arc::clone(&started_node),
        };
        let node = Node::start(env.clone(), node_config, Arc::new(watcher)).await?;
        started_node.get_or_init(|| Arc::downgrade(&node));
        let run_id = (0..3).map(|_| format!("{:016x}", env.rng.next_u64())).collect::<String>();
        let scripts = Scripts::new(&*env.cpu);
        let server = Arc::new(Server {
            env,
            node,
            blocked,
            relays: Relays::default(),
            targets: Targets::default(),
            settings,
            clients,
            pubsub,
            tracking,
            monitors,
            pause,
            scripts,
            users,
            acl_log,
            slowlog: SlowLog::default(),
            latency,
            lazyfree,
            peak_life: PeakLife::default(),
            observing: Mutex::new(false),
            memory,
            saves: Saves::default(),
            shutdown: Shutdown::default(),
            stats,
            rates: Rates::default(),
            started: Instant::now(),
            run_id: run_id[..40].to_string(),
        });
        server.meta_group().with_machine(|machine| server.users.renew(Some(machine)));
        server.limit_clients();
        server.observe();
        server.watch_leadership();
        server.watch_slots();
        tokio::spawn(memory::keep_room(Arc::downgrade(&server)));
        tokio::spawn(rates::sample(Arc::downgrade(&server)));
        Ok(server)
    }

    /// When the node's groups were last snapshotted by command, or the node started, in seconds since the Unix epoch.
    pub fn last_save_s(&self) -> u64 {
        let now_s = self.env.clock.now_ms() / 1000;
        self.saves.last_s(now_s.saturating_sub(self.started.elapsed().as_secs()))
    }

    /// Keys that calls have found, and not found, at the leader that answered them: a sum over all nodes counts each once.
    pub fn lookups(&self) -> (u64, u64) {
        let figures = self.node.groups().iter().map(|group| group.with_machine(|m| m.lookups().figures()));
        figures.fold((0, 0), |(hits, misses), (hit, missed)| (hits + hit, misses + missed))
    }

    /// The group whose state the users are.
    pub fn meta_group(&self) -> &Arc<Group> {
        let group = self.node.groups().iter().find(|group| group.id() == META_GROUP);
        group.expect("every node has a replica of every group")
    }

    /// Has clients hold no more together than the settings allow.
    pub fn limit_clients(&self) {
        let config = self.settings.get();
        self.clients.limit_to(config.maxmemory_clients.bytes(config.maxmemory));
    }

    /// How long another node may take to answer a call that neither blocks nor is a script.
    pub fn patience(&self) -> Duration {
        let config = self.settings.get();
        Duration::from_millis(config.write_timeout_ms + config.leader_wait_ms + limits::FORWARD_SLACK_MS)
    }

    /// How long another node may take to answer `calls`, which do not block.
    pub fn patience_for(&self, calls: &[Call]) -> Duration {
        let config = self.settings.get();
        let is_long = calls.iter().any(|call| scripts::is_script(&call.args));
        let long_ms = if is_long { limits::SCRIPT_PLACE_MS + config.script_read_limit_ms } else { 0 };
        let elsewhere = calls.iter().map(|call| migrate::patience(&call.args)).max().unwrap_or_default();
        (self.patience() + Duration::from_millis(long_ms)).saturating_add(elsewhere)
    }

    /// Serves until `shutdown` is ready or a client asks for it, then goes down in good order; or until the node fails. `file` is where
    /// `config` was read from.
    pub async fn run(
        env: Env,
        config: Config,
        file: Option<PathBuf>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let addr = config.listen.clone();
        // Before the node starts: whoever cannot serve should not vote for a moment either.
        let listener = env.net.listen(&addr).await.map_err(|source| ServeError::Listen { addr, source })?;
        let addr = config.metrics_listen.clone();
        let scrapers = match addr.is_empty() {
            true => None,
            false => {
                Some(env.net.listen(&addr).await.map_err(|source| ServeError::Metrics { addr, source })?)
            }
        };
        let server = Server::start(env, config, file).await?;
        // It ends with this call.
        let mut beside = JoinSet::new();
        if let Some(scrapers) = scrapers {
            beside.spawn(metrics::serve(Arc::clone(&server), scrapers));
        }
        server.serve(listener, shutdown).await
    }

    /// Serves those who connect to `listener`; the second half of [`Server::run`].
    pub async fn serve(
        self: Arc<Server>,
        listener: Box<dyn Listener>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let node = Arc::clone(&self.node);
        tracing::info!(node = node.id(), listen = listener.local_addr().unwrap_or_default(), "serving");
        let end = async {
            tokio::select! {
                biased;
                reason = node.failed() => Err(ServeError::Failed(reason)),
                () = shutdown => {
                    tracing::info!("stopping");
                    self.shutdown.begin();
                    // Clients are still served, and so learn where the leaders have gone.
                    node.hand_over().await;
                    self.scripts.stop();
                    Ok(())
                }
                () = shutdown::prepared(&self) => {
                    self.scripts.stop();
                    Ok(())
                }
            }
        };
        let ended = listener::serve(&self, listener, end).await;
        self.scripts.stop();
        match &ended {
            Ok(()) => node.shutdown().await,
            Err(error) => tracing::error!(%error),
        }
        ended
    }
}
