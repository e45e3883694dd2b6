//! The `quoris` program: the only place that builds the real outside world.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::future::Future;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use quoris::config::members::{parse_member, show};
use quoris::config::{Config, ConfigError, Member, ROWS, address};
use quoris::ctl::{Target, parse_slots};
use quoris::server::Server;
use quoris::status::Status;
use quoris_raft::env::Env;
use quoris_raft::env::os::{OsClock, OsCpu, OsDisk, OsNet, OsRng};
use quoris_verify::Plan;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Every call allocates its words, and every key its value: the system's allocator takes a tenth of the time of a write.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A person asked for something that cannot be: nothing was started.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let matches = match program().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return explain(&error),
    };
    match matches.subcommand() {
        Some(("serve", flags)) => serve(flags),
        Some(("rejoin", flags)) => rejoin(flags),
        Some(("ctl", flags)) => run_ctl(flags),
        Some(("verify", flags)) => verify(flags),
        _ => unreachable!("a subcommand is required"),
    }
}

/// The command line. The flags of `serve` are the settings.
fn program() -> Command {
    let setting = |row: &'static quoris::config::Row| {
        let default =
            if row.default.is_empty() { String::new() } else { format!(" [default: {}]", row.default) };
        let takes = row.takes();
        Arg::new(row.name)
            .long(row.name)
            .value_name("VALUE")
            .allow_hyphen_values(true)
            .help(format!("{}{default}", row.doc.replace('`', "")))
            .long_help(format!("{}\nTakes {takes}.{default}", row.doc.replace('`', "")))
    };
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help("A TOML file of settings; flags win over it");
    let addr = Arg::new("addr")
        .long("addr")
        .value_name("HOST:PORT")
        .default_value("127.0.0.1:7001")
        .help("The client address of a node");
    let password = Arg::new("password")
        .long("password")
        .value_name("TEXT")
        .default_value("")
        .hide_default_value(true)
        .help("The user's password; without a user, what the node was given as requirepass");
    let user = Arg::new("user")
        .long("user")
        .value_name("NAME")
        .default_value("")
        .hide_default_value(true)
        .help("Whom to log in as; without it, the user default");
    let whole = Arg::new("whole")
        .long("whole")
        .action(ArgAction::SetTrue)
        .help("Compare whole states too, each group's at one index: reads all of them, and holds up nobody");
    let group = Arg::new("group")
        .long("group")
        .value_name("NUMBER")
        .required(true)
        .value_parser(clap::value_parser!(u32))
        .help("The group");
    let slots = Arg::new("slots")
        .long("slots")
        .value_name("SLOTS")
        .required(true)
        .value_parser(parse_slots)
        .help("Which: numbers and ranges, as in 0-99,7000");
    let to = Arg::new("to")
        .long("to")
        .value_name("GROUP")
        .required(true)
        .value_parser(clap::value_parser!(u32))
        .help("The group that is to serve them");
    let member = Arg::new("node")
        .value_name("ID=HOST:PORT@HOST:PORT")
        .required(true)
        .value_parser(|text: &str| parse_member(text).ok_or("takes id=client_host:port@peer_host:port"))
        .help("Its number, the address clients are sent to, and the address the other nodes reach it at");
    let node = Arg::new("node")
        .value_name("ID")
        .required(true)
        .value_parser(clap::value_parser!(u64))
        .help("Its number");
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("As JSON");
    Command::new("quoris")
        .version(quoris::VERSION)
        .about("A Redis-compatible database whose acknowledged writes are never lost")
        .subcommand_required(true)
        .subcommand(
            Command::new("serve").about("Runs a node").arg(file.clone()).args(ROWS.iter().map(setting)),
        )
        .subcommand(
            Command::new("rejoin")
                .about("Sets aside what a stopped node has, if it is damaged: it joins its cluster again as a new node would")
                .arg(file)
                .args(ROWS.iter().map(setting)),
        )
        .subcommand(
            Command::new("ctl")
                .about("Asks a running node")
                .args([addr, user, password])
                .subcommand_required(true)
                .subcommand(
                    Command::new("status").about("Nodes, groups, leaders, logs and slots").arg(json.clone()),
                )
                .subcommand(
                    Command::new("verify")
                        .about("Whether replicas are the same; exit code 1 if one differs or does not answer")
                        .arg(whole)
                        .arg(json),
                )
                .subcommand(
                    Command::new("add-node")
                        .about("Makes a node a member, and says how to start it; gives a member other addresses")
                        .arg(member),
                )
                .subcommand(
                    Command::new("remove-node")
                        .about("Takes a node out, running or not, for good, and waits until no group counts on it")
                        .arg(node),
                )
                .subcommand(
                    Command::new("move")
                        .about("Has another group serve slots, while clients go on; can be broken off and begun again")
                        .args([slots, to]),
                )
                .subcommand(
                    Command::new("rebuild")
                        .about("Replaces the node's replica of a group, which differs, by its leader's")
                        .arg(group),
                ),
        )
        .subcommand(Plan::command())
}

/// Help is as long as it takes; a mistake is one line.
fn explain(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        error.exit();
    }
    /// Where the mistake has been said and advice begins.
    const ENDS: [&str; 2] = ["Usage", "For more information"];
    let text = error.to_string();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !ENDS.iter().any(|end| line.starts_with(end)))
        .collect();
    let line = lines.join(" ").replace("error: ", "").trim().to_string();
    complain(if line.is_empty() { "a subcommand is needed: see quoris --help" } else { &line });
    ExitCode::from(USAGE)
}

fn complain(line: &str) {
    eprintln!("quoris: {line}");
}

/// The settings that are asked for, and the file that some came from; they are also those of this process's own log.
fn settings(flags: &ArgMatches) -> Result<(Config, Option<PathBuf>), ExitCode> {
    let file = flags.get_one::<String>("config").map(PathBuf::from);
    let config = load(flags, file.as_ref()).map_err(|error| {
        complain(&error.to_string());
        ExitCode::from(USAGE)
    })?;
    // What openraft warns of is the daily life of a cluster: peers that come and go.
    let level = EnvFilter::new(format!("warn,openraft=error,quoris={0},quoris_raft={0}", config.log_level));
    tracing_subscriber::fmt().with_env_filter(level).with_writer(std::io::stderr).with_ansi(false).init();
    Ok((config, file))
}

fn rejoin(flags: &ArgMatches) -> ExitCode {
    let config = match settings(flags) {
        Ok((config, _)) => config,
        Err(code) => return code,
    };
    block_on(1, async {
        let place = quoris_raft::rejoin::rejoin(os_env()?, &config.node_config()).await?;
        print(&format!(
            "What this node had is in {} now. Start it: it takes part again once every other node has answered it, and \
             votes once it has caught up. Until then do the same to no other node. Then the directory can be removed.\n",
            place.display()
        ))
    })
}

fn serve(flags: &ArgMatches) -> ExitCode {
    let (config, file) = match settings(flags) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    block_on(config.threads, async {
        let shutdown = shutdown()?;
        std::thread::spawn(end_late);
        Ok(Server::run(os_env()?, config, file, shutdown).await?)
    })
}

/// The settings of the file, under those of the flags.
fn load(flags: &ArgMatches, file: Option<&PathBuf>) -> Result<Config, ConfigError> {
    let text = match file {
        None => String::new(),
        Some(path) => std::fs::read_to_string(path).map_err(|error| ConfigError {
            key: "config".to_string(),
            got: path.display().to_string(),
            takes: format!("a file of settings that can be read ({error})"),
        })?,
    };
    let given =
        |row: &'static quoris::config::Row| Some((row.name, flags.get_one::<String>(row.name)?.as_str()));
    Config::load(&text, ROWS.iter().filter_map(given))
}

fn run_ctl(flags: &ArgMatches) -> ExitCode {
    let text = |name| flags.get_one::<String>(name).map_or("", String::as_str);
    let addr = match address("addr", text("addr")) {
        Ok(addr) => addr,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::from(USAGE);
        }
    };
    let target = Target { net: &OsNet, user: text("user"), password: text("password") };
    block_on(1, ask(target, &addr, flags))
}

/// Asks the node at `addr`, and prints what it says.
async fn ask(target: Target<'_>, addr: &str, flags: &ArgMatches) -> anyhow::Result<()> {
    match flags.subcommand() {
        Some(("verify", flags)) => {
            let verified = target.verify(addr, flags.get_flag("whole")).await?;
            print(&if flags.get_flag("json") { verified.to_json() + "\n" } else { verified.to_table() })?;
            anyhow::ensure!(verified.sound, "not every replica is shown to be what the others are");
            Ok(())
        }
        Some(("rebuild", flags)) => {
            let group = *flags.get_one::<u32>("group").expect("it is required");
            print(&(target.rebuild(addr, group).await? + "\n"))
        }
        Some(("add-node", flags)) => {
            let member = flags.get_one::<Member>("node").expect("it is required");
            let cluster = target.add_node(addr, member).await?;
            print(&how_to_start(member, &cluster))
        }
        Some(("remove-node", flags)) => {
            let id = *flags.get_one::<u64>("node").expect("it is required");
            let watched = std::io::stderr().is_terminal();
            let tell = |counting| {
                if watched {
                    eprint!("\r{counting} groups still count on node {id}  ");
                }
            };
            let removed = target.remove_node(addr, id, tell).await;
            if watched {
                eprintln!();
            }
            removed?;
            print(&format!(
                "Node {id} is out of the cluster. If it runs, it stops by itself; its data directory can be deleted, and its \
                 number is not given again.\n"
            ))
        }
        Some(("move", flags)) => {
            let slots = flags.get_one::<BTreeSet<u16>>("slots").expect("it is required");
            let to = *flags.get_one::<u32>("to").expect("it is required");
            // For who watches; who does not is told in the end.
            let watched = std::io::stderr().is_terminal();
            let tell = |done, all| {
                if watched {
                    eprint!("\r{done} of {all} slots are served by group {to}");
                }
            };
            let moved = target.move_slots(addr, slots, to, tell).await;
            if watched {
                eprintln!();
            }
            moved?;
            print(&format!("{} slots are served by group {to}\n", slots.len()))
        }
        Some(("status", flags)) => {
            let status = target.status(addr).await?;
            print(&if flags.get_flag("json") { status.to_json() + "\n" } else { status.to_table() })
        }
        _ => unreachable!("a subcommand is required"),
    }
}

/// What whoever has just made `member` one does next.
fn how_to_start(member: &Member, cluster: &Status) -> String {
    let members: Vec<Member> = cluster.nodes.iter().map(Member::from).collect();
    format!(
        "Node {0} is a member at {1}, and for other nodes at {2}.\n\
         If it does not run yet, start it with an empty data-dir of its own:\n\n  \
         quoris serve --node-id {0} --data-dir DIR --cluster-id {3} --groups {4} \\\n    --initial-cluster {5}\n\n\
         It votes in a group once it has caught up there: quoris ctl status\n",
        member.id,
        member.client_addr,
        member.peer_addr,
        cluster.cluster_id,
        cluster.groups.len(),
        show(&members)
    )
}

/// Writes an answer where it was asked for. Who has read enough of it (`| head`) is content.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| anyhow::anyhow!("cannot write the answer: {error}")),
    }
}

/// A client of any cluster, which shares nothing with the server.
fn verify(flags: &ArgMatches) -> ExitCode {
    let plan = Plan::from_arg_matches(flags).expect("the flags are this command's");
    match runtime(1) {
        Ok(runtime) => ExitCode::from(runtime.block_on(quoris_verify::run(plan)) as u8),
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The real outside world.
fn os_env() -> std::io::Result<Env> {
    Ok(Env {
        clock: Arc::new(OsClock),
        net: Arc::new(OsNet),
        cpu: Arc::new(OsCpu),
        disk: Arc::new(OsDisk::new()?),
        rng: Arc::new(OsRng),
    })
}

/// Ready when the process is asked to end.
fn shutdown() -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// How long a node may take to stop in good order once it is asked to end.
const STOP_TIME: Duration = Duration::from_secs(10);

/// Ends a process that has not stopped in time: a script with a large budget may keep the runtime's threads from it. Nothing is
/// lost, as nothing would be if the power failed.
fn end_late() {
    let wait = async {
        shutdown()?.await;
        tokio::time::sleep(STOP_TIME).await;
        std::io::Result::Ok(())
    };
    match runtime(1).and_then(|runtime| runtime.block_on(wait)) {
        Ok(()) => {
            complain("it has not stopped in time, and is ended");
            std::process::exit(1);
        }
        Err(error) => complain(&format!("nobody will end it if it does not stop in time: {error}")),
    }
}

/// A runtime of so many threads; 0: one per processor.
fn runtime(threads: u64) -> std::io::Result<Runtime> {
    let mut builder = match threads {
        // Wakes nobody and steals from nobody: what a node that has one processor to itself needs.
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads as usize);
    }
    builder.enable_all().build()
}

/// Runs `task` to its end. What goes wrong then is one line, and exit code 1.
fn block_on(threads: u64, task: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let runtime = match runtime(threads) {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Our own errors say their cause themselves.
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}
