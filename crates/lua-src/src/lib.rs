//! Builds the Lua beside it, in the place of the crate of this name that mlua's build script asks: so it has the interface of
//! that one, as far as Lua 5.1 on Linux takes it. README.md says why.

use std::env;
use std::path::{Path, PathBuf};

pub use Version::Lua51;

/// The name of the library.
const LIBRARY: &str = "lua5.1";

/// Lua's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The only one that there is.
    Lua51,
}

/// How it is built: as cargo builds whoever asks.
#[derive(Debug, Default)]
pub struct Build;

impl Build {
    /// A build.
    pub fn new() -> Build {
        Build
    }

    /// Builds it, from a build script.
    pub fn build(&self, _: Version) -> Artifacts {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("lua-5.1.5");
        let dir = PathBuf::from(env::var_os("OUT_DIR").expect("a build script has one")).join("lib");
        let mut config = cc::Build::new();
        config.warnings(false).cargo_metadata(false).define("LUA_USE_LINUX", None).include(&source);
        config.flag_if_supported("-fno-common").force_frame_pointer(false);
        config.file(as_one(&source, &dir)).out_dir(&dir).compile(LIBRARY);
        Artifacts { dir }
    }
}

/// A file that includes all of Lua's, as Lua's own `etc/all.c` does: what its parts call of each other can be inlined then.
fn as_one(source: &Path, dir: &Path) -> PathBuf {
    let files = source.read_dir().expect("it is there").map(|entry| entry.expect("can be read").path());
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    let mut text = "#define luaall_c\n".to_string();
    for file in files {
        println!("cargo:rerun-if-changed={}", file.display());
        if file.extension().is_some_and(|extension| extension == "c") {
            text += &format!("#include \"{}\"\n", file.display());
        }
    }
    let one = dir.join("all.c");
    std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(&one, text))
        .expect("OUT_DIR can be written to");
    one
}

/// What has been built.
#[derive(Debug)]
pub struct Artifacts {
    dir: PathBuf,
}

impl Artifacts {
    /// Tells cargo where it is.
    pub fn print_cargo_metadata(&self) {
        println!("cargo:rustc-link-search=native={}", self.dir.display());
        println!("cargo:rustc-link-lib=static={LIBRARY}");
    }
}
