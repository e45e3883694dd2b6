//! `docs/config.md`, written from the rows.

use std::fmt::Write;

use super::{ROWS, compat};

const HEAD: &str = "\
# Settings

<!-- Generated from crates/server/src/config/rows.rs: UPDATE_DOCS=1 cargo test -p quoris config_page -->

Each setting is a flag of `quoris serve` (`--node-id 1`), a key of its TOML file (`node_id = 1`; `--config FILE`) and
a name for CONFIG GET. A flag wins over the file. Those marked *live* can be changed with CONFIG SET while the node
runs; CONFIG REWRITE keeps the change in the file. Sizes are bytes or have a unit: `1k` is 1000, `1kb` is 1024; so on
with `m`, `mb`, `g`, `gb`.

| setting | default | takes | meaning |
|---|---|---|---|
";

/// The page.
pub fn page() -> String {
    let mut page = HEAD.to_string();
    for row in ROWS {
        let default = if row.default.is_empty() { "" } else { &format!("`{}`", row.default) };
        let alias = if row.alias.is_empty() { String::new() } else { format!(" (`{}`)", row.alias) };
        let live = if row.live { " *Live.*" } else { "" };
        writeln!(page, "| `{}`{alias} | {default} | {} | {}{live} |", row.name, row.takes(), row.doc)
            .expect("a string takes all that is written");
    }
    page.push_str(COMPAT_HEAD);
    for row in compat::ROWS {
        let alias = if row.alias.is_empty() { String::new() } else { format!(" (`{}`)", row.alias) };
        writeln!(page, "| `{}`{alias} | `{}` |", row.name, row.default)
            .expect("a string takes all that is written");
    }
    page
}

const COMPAT_HEAD: &str = "
## Accepted for compatibility, without effect

CONFIG SET takes these names of Redis's and CONFIG GET shows what was set until the node restarts. None of them changes
anything: writes are always fsynced on a majority, memory is freed in the background, and lists have one form.

| name | shown until it is set |
|---|---|
";

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn config_page_is_up_to_date() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, super::page()).expect("docs can be written");
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == super::page(), "run: UPDATE_DOCS=1 cargo test -p quoris config_page");
    }
}
