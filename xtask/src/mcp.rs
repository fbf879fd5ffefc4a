//! `mcp`: the reference servers of MCP are used as tools, over pipes and over HTTP. They are installed under `target/`, by
//! what is pinned beside the tools.

use crate::install::{NPM, Recipe, built_at, call, install};
use crate::repo::Repo;
use std::process::Command;

/// Where the pins of the servers lie.
const FOLDER: &str = "crates/backstop-tools/mcp";

const SERVERS: Recipe = Recipe {
    what: "the reference servers of MCP",
    pins: &["package.json", "package-lock.json"],
    lines: &[NPM],
};

/// Installs the servers and uses them.
pub(crate) fn use_servers(repo: &Repo) -> Result<(), String> {
    // Nothing to do where everything is there; a machine that has only Rust and a C compiler gets the rest.
    call(Command::new("bash").arg(".ci/tools").current_dir(repo.root()))?;
    let place = built_at()?.join("mcp");
    install(&SERVERS, &repo.root().join(FOLDER), &place)?;
    let run = ["run", "--quiet", "--package", "backstop-tools", "--example", "mcp_reference", "--"];
    call(Command::new("cargo").args(run).arg(place).current_dir(repo.root()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_is_pinned() {
        let folder = Repo::here().root().join(FOLDER);
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
        let lock = read("package-lock.json");
        assert!(lock.contains("\"integrity\""), "each package is held by its hash");
        assert!(!lock.contains("\"resolved\""), "no addresses: npm knows where packages come from");
        for name in ["server-everything", "server-filesystem"] {
            let manifest = read("package.json");
            let (_, version) = manifest.split_once(&format!("\"@modelcontextprotocol/{name}\": \"")).unwrap();
            assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{name}{version}");
        }
    }
}
