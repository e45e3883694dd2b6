//! Settings of a running node: read by every connection, changed by CONFIG SET.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arc_swap::{ArcSwap, Guard};
use quoris_engine::CommandError;
use quoris_raft::env::Disk;

use super::{Config, ConfigError, ROWS, Row, compat, rows};

type Show = fn(&Config) -> String;

/// What Redis's clients ask for by CONFIG GET and quoris has no choice about, or has under another name.
const IN_REDIS: &[(&str, Show)] = &[
    ("bind", |config| host_of(&config.listen)),
    ("cluster-allow-reads-when-down", |_| "no".to_string()),
    ("cluster-enabled", |_| "yes".to_string()),
    ("daemonize", |_| "no".to_string()),
    ("databases", |_| "1".to_string()),
    ("dir", |config| config.data_dir.display().to_string()),
    ("loglevel", |config| config.log_level.clone()),
    ("masterauth", |_| String::new()),
    ("port", |config| port_of(&config.listen)),
    ("replicaof", |_| String::new()),
    ("slaveof", |_| String::new()),
];

/// The settings, and the file they came from.
pub struct Settings {
    config: ArcSwap<Config>,
    /// Held by who changes them.
    changes: Mutex<()>,
    /// Those without effect that have been set.
    compat: RwLock<BTreeMap<&'static str, String>>,
    file: Option<PathBuf>,
}

impl Settings {
    /// Settings of a node that starts with `config`, read from `file` if there was one.
    pub fn new(config: Config, file: Option<PathBuf>) -> Settings {
        let config = ArcSwap::from_pointee(config);
        Settings { config, changes: Mutex::default(), compat: RwLock::default(), file }
    }

    /// All of them, as they are now: for a look, since a thread has few guards that cost next to nothing.
    pub fn get(&self) -> Guard<Arc<Config>> {
        self.config.load()
    }

    /// The same, to be kept while something is waited for.
    pub fn keep(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// CONFIG SET: all of `changes` (name, value) or none.
    pub fn set(&self, changes: &[(String, String)]) -> Result<(), CommandError> {
        let _changing = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut compat_place = self.compat.write().unwrap_or_else(PoisonError::into_inner);
        let (mut config, mut compat) = (Config::clone(&self.get()), compat_place.clone());
        let mut seen = BTreeSet::new();
        let failed = |name: &str, why: &str| {
            let head = format!("ERR CONFIG SET failed (possibly related to argument '{name}') - ");
            CommandError::Message(head + why)
        };
        if let Some((name, _)) = changes.iter().find(|(name, _)| !seen.insert(name.to_ascii_lowercase())) {
            return Err(failed(name, "duplicate parameter"));
        }
        for (name, value) in changes {
            let failed = |why: String| failed(name, &why);
            let lower = name.to_ascii_lowercase();
            if let Some(row) = compat::find(&lower) {
                compat.insert(row.name, row.takes.check(value).map_err(failed)?);
                continue;
            }
            let shown =
                rows::find(&lower).map(|row| row.show(&config)).or_else(|| shown_for_redis(&lower, &config));
            match (rows::find(&lower), shown) {
                (Some(row), _) if row.live => {
                    row.set(&mut config, value).map_err(|error| failed(why_not(row, &error)))?;
                }
                (_, None) => {
                    let text = format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'");
                    return Err(CommandError::Message(text));
                }
                // Setting it to what it is changes nothing.
                (_, Some(shown)) if shown == *value => {}
                _ => return Err(failed("can't set immutable config".to_string())),
            }
        }
        *compat_place = compat;
        self.config.store(Arc::new(config));
        Ok(())
    }

    /// CONFIG GET: names and values of those that `wanted` picks, in the order of their names.
    pub fn list(&self, wanted: impl Fn(&str) -> bool) -> Vec<(&'static str, String)> {
        let config = self.get();
        let ours = ROWS.iter().flat_map(|row| {
            let names = [row.name, row.alias].into_iter().filter(|name| !name.is_empty());
            names.map(|name| (name, row.show(&config)))
        });
        let set = self.compat.read().unwrap_or_else(PoisonError::into_inner).clone();
        let without_effect = compat::ROWS.iter().flat_map(|row| {
            let value = set.get(row.name).cloned().unwrap_or_else(|| row.default.to_string());
            [row.name, row.alias]
                .into_iter()
                .filter(|name| !name.is_empty())
                .map(move |name| (name, value.clone()))
        });
        let all: BTreeMap<_, _> = IN_REDIS
            .iter()
            .map(|(name, show)| (*name, show(&config)))
            .chain(without_effect)
            .chain(ours)
            .collect();
        all.into_iter().filter(|(name, _)| wanted(name)).collect()
    }

    /// CONFIG REWRITE: what CONFIG SET can change goes into the file, the rest of which stays as it is.
    pub fn rewrite(&self, disk: &dyn Disk) -> Result<(), CommandError> {
        let Some(file) = &self.file else {
            return Err(CommandError::Text("ERR The server is running without a config file"));
        };
        let failed =
            |error: std::io::Error| CommandError::Message(format!("ERR Rewriting config file: {error}"));
        let old = disk.open(file).map_err(failed)?;
        let mut text = vec![0; old.len().map_err(failed)? as usize];
        let read = old.read_at(&mut text, 0).map_err(failed)?;
        let text = rewritten(&String::from_utf8_lossy(&text[..read]), &self.get());
        let aside = file.with_extension("toml.new");
        let new = disk.create(&aside).map_err(failed)?;
        new.write_at(text.as_bytes(), 0).map_err(failed)?;
        new.sync().map_err(failed)?;
        disk.rename(&aside, file).map_err(failed)?;
        let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty());
        disk.sync_dir(dir.unwrap_or(std::path::Path::new("."))).map_err(failed)
    }
}

/// What Redis says where it has words for it.
fn why_not(row: &Row, error: &ConfigError) -> String {
    let percent = error.got.strip_suffix('%').map(str::parse::<u64>);
    match error.got.parse::<i64>() {
        _ if row.is_percentage() && matches!(percent, Some(Ok(_))) => {
            "percentage argument must be less or equal to 100".to_string()
        }
        _ if row.is_percentage() => "argument must be a memory or percent value".to_string(),
        _ if row.name == "notify-keyspace-events" => {
            "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".to_string()
        }
        Err(_) if row.is_number() => "argument couldn't be parsed into an integer".to_string(),
        _ => format!("argument must be {}", error.takes),
    }
}

/// `text` with each live setting's line replaced, or added where it has none and is not at its default.
fn rewritten(text: &str, config: &Config) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    let defaults = Config::defaults();
    for row in ROWS.iter().filter(|row| row.live) {
        let value = toml::Value::String(row.show(config));
        let line = format!("{} = {value}", row.name);
        let is_row = |line: &&mut String| line.split_once('=').is_some_and(|(key, _)| key.trim() == row.name);
        match lines.iter_mut().find(is_row) {
            Some(place) => *place = line,
            None if row.show(config) != row.show(&defaults) => lines.push(line),
            None => {}
        }
    }
    lines.join("\n") + "\n"
}

/// What CONFIG GET shows of a name that only Redis has.
fn shown_for_redis(name: &str, config: &Config) -> Option<String> {
    IN_REDIS.iter().find(|(known, _)| *known == name).map(|(_, show)| show(config))
}

fn host_of(addr: &str) -> String {
    addr.rsplit_once(':').map_or(addr, |(host, _)| host).to_string()
}

fn port_of(addr: &str) -> String {
    addr.rsplit_once(':').map_or("0", |(_, port)| port).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let flags = [("node-id", "1"), ("initial-cluster", "1=127.0.0.1:7001@127.0.0.1:17001")];
        Settings::new(Config::load("", flags).expect("valid"), None)
    }

    fn set(settings: &Settings, changes: &[(&str, &str)]) -> Result<(), String> {
        let changes: Vec<_> = changes.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        settings.set(&changes).map_err(|error| error.to_string())
    }

    #[test]
    fn all_changes_are_made_or_none() {
        let settings = settings();
        assert_eq!(set(&settings, &[("MaxClients", "7"), ("timeout", "9")]), Ok(()));
        let failed = set(&settings, &[("maxclients", "8"), ("timeout", "x")]).expect_err("not a number");
        assert_eq!(
            failed,
            "ERR CONFIG SET failed (possibly related to argument 'timeout') - argument couldn't be parsed into an integer"
        );
        assert_eq!((settings.get().maxclients, settings.get().timeout_s), (7, 9));
    }

    #[test]
    fn a_share_of_memory_is_no_more_than_all() {
        let settings = settings();
        let failed = |why| {
            Err(format!("ERR CONFIG SET failed (possibly related to argument 'maxmemory-clients') - {why}"))
        };
        let too_much = failed("percentage argument must be less or equal to 100");
        assert_eq!(set(&settings, &[("maxmemory", "9"), ("maxmemory-clients", "200%")]), too_much);
        assert_eq!(settings.get().maxmemory, 0);
        let neither = failed("argument must be a memory or percent value");
        assert_eq!(set(&settings, &[("maxmemory-clients", "much")]), neither);
        assert_eq!(set(&settings, &[("maxmemory-clients", "7%")]), Ok(()));
    }

    #[test]
    fn what_cannot_be_set_is_refused_in_the_words_of_redis() {
        let settings = settings();
        let immutable = |name| {
            format!(
                "ERR CONFIG SET failed (possibly related to argument '{name}') - can't set immutable config"
            )
        };
        assert_eq!(set(&settings, &[("databases", "3")]), Err(immutable("databases")));
        assert_eq!(set(&settings, &[("groups", "4")]), Err(immutable("groups")));
        assert_eq!(set(&settings, &[("groups", "3")]), Ok(()));
        let unknown = "ERR Unknown option or number of arguments for CONFIG SET - 'foo'";
        assert_eq!(set(&settings, &[("foo", "bar")]), Err(unknown.to_string()));
    }

    #[test]
    fn every_setting_takes_what_it_shows() {
        let config = settings().get();
        for row in ROWS {
            let mut again = Config::clone(&config);
            assert_eq!(row.set(&mut again, &row.show(&config)), Ok(()), "{}", row.name);
            assert_eq!(again, **config, "{}", row.name);
        }
    }

    #[test]
    fn rewriting_keeps_the_rest_of_the_file() {
        let mut config = Config::clone(&settings().get());
        config.maxclients = 5;
        config.timeout_s = 3;
        let text = rewritten("# mine\nmaxclients = 9 # nine\ngroups = 3\n", &config);
        assert_eq!(text, "# mine\nmaxclients = \"5\"\ngroups = 3\ntimeout = \"3\"\n");
    }
}
