//! Redis's settings that quoris knows and that change nothing here.
//!
//! Clients, scripts of operators and test suites set them without a second thought; they are accepted, checked as Redis
//! checks them, shown again by CONFIG GET until the node restarts, and without effect. What a setting asks for is either done
//! anyway, whatever it says (durability, background freeing), or a detail of Redis's own data structures. A name that would
//! promise something that quoris does not do is not in here.

/// What a setting without effect takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// `yes` or `no`.
    YesNo,
    /// A whole number, possibly negative.
    Number,
    /// A number of bytes, shown as bytes.
    Bytes,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Any text.
    Text,
}

/// A setting without effect.
pub struct Compat {
    /// Redis's name.
    pub name: &'static str,
    /// An older name of it, or none.
    pub alias: &'static str,
    /// Redis's default.
    pub default: &'static str,
    /// What it takes.
    pub takes: Takes,
}

const fn row(name: &'static str, default: &'static str, takes: Takes) -> Compat {
    Compat { name, alias: "", default, takes }
}

const fn old(name: &'static str, alias: &'static str, default: &'static str, takes: Takes) -> Compat {
    Compat { name, alias, default, takes }
}

/// All of them.
pub const ROWS: &[Compat] = &[
    row("active-expire-effort", "1", Takes::Number),
    row("activedefrag", "no", Takes::YesNo),
    row("activerehashing", "yes", Takes::YesNo),
    row("aof-load-truncated", "yes", Takes::YesNo),
    row("aof-rewrite-incremental-fsync", "yes", Takes::YesNo),
    row("aof-use-rdb-preamble", "yes", Takes::YesNo),
    row("appendfsync", "always", Takes::OneOf(&["always", "everysec", "no"])),
    row("appendonly", "yes", Takes::YesNo),
    row("auto-aof-rewrite-min-size", "67108864", Takes::Bytes),
    row("auto-aof-rewrite-percentage", "100", Takes::Number),
    row("close-on-oom", "yes", Takes::YesNo),
    row("cluster-node-timeout", "15000", Takes::Number),
    row("cluster-require-full-coverage", "yes", Takes::YesNo),
    row("dynamic-hz", "yes", Takes::YesNo),
    row("hll-sparse-max-bytes", "3000", Takes::Bytes),
    row("hz", "10", Takes::Number),
    row("jemalloc-bg-thread", "yes", Takes::YesNo),
    row("key-load-delay", "0", Takes::Number),
    row("lazyfree-lazy-eviction", "no", Takes::YesNo),
    row("lazyfree-lazy-expire", "no", Takes::YesNo),
    row("lazyfree-lazy-server-del", "no", Takes::YesNo),
    row("lazyfree-lazy-user-del", "no", Takes::YesNo),
    row("lazyfree-lazy-user-flush", "no", Takes::YesNo),
    row("list-compress-depth", "0", Takes::Number),
    old("list-max-listpack-size", "list-max-ziplist-size", "-2", Takes::Number),
    row("no-appendfsync-on-rewrite", "no", Takes::YesNo),
    row("rdb-save-incremental-fsync", "yes", Takes::YesNo),
    row("rdbcompression", "yes", Takes::YesNo),
    row("repl-backlog-size", "1048576", Takes::Bytes),
    row("repl-backlog-ttl", "3600", Takes::Number),
    row("repl-diskless-load", "disabled", Takes::OneOf(&["disabled", "on-empty-db", "swapdb"])),
    row("repl-diskless-sync", "yes", Takes::YesNo),
    row("repl-diskless-sync-delay", "5", Takes::Number),
    old("repl-ping-replica-period", "repl-ping-slave-period", "10", Takes::Number),
    row("repl-timeout", "60", Takes::Number),
    row("save", "", Takes::Text),
    row("stop-writes-on-bgsave-error", "yes", Takes::YesNo),
    row("tcp-keepalive", "300", Takes::Number),
];

/// Names that CONFIG GET answers only when they are given whole.
pub const HIDDEN: [&str; 1] = ["key-load-delay"];

/// The row named `name`, or once named so.
pub fn find(name: &str) -> Option<&'static Compat> {
    ROWS.iter().find(|row| row.name == name || (!row.alias.is_empty() && row.alias == name))
}

impl Takes {
    /// `text` as it is kept, or why it is not taken, in Redis's words.
    pub fn check(self, text: &str) -> Result<String, String> {
        let lower = text.to_ascii_lowercase();
        match self {
            Takes::Text => Ok(text.to_string()),
            Takes::YesNo if ["yes", "no"].contains(&lower.as_str()) => Ok(lower),
            Takes::YesNo => Err("argument must be 'yes' or 'no'".to_string()),
            Takes::Number => match text.parse::<i64>() {
                Ok(number) => Ok(number.to_string()),
                Err(_) => Err("argument couldn't be parsed into an integer".to_string()),
            },
            Takes::Bytes => match super::field::parse_bytes(text) {
                Some(bytes) => Ok(bytes.to_string()),
                None => Err("argument must be a memory value".to_string()),
            },
            Takes::OneOf(words) if words.contains(&lower.as_str()) => Ok(lower),
            Takes::OneOf(words) => {
                Err(format!("argument(s) must be one of the following: {}", words.join(", ")))
            }
        }
    }
}
