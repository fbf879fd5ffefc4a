//! Which crate may depend on which, and that the pure ones reach no runtime.

use super::{Problem, Source};
use std::collections::{BTreeMap, BTreeSet};
use toml::{Table, Value};

/// The crates a crate may depend on. One that is not listed here may depend on none of ours.
const ALLOWED: &[(&str, &[&str])] = &[
    ("backstop-label", &[]),
    ("backstop-call", &["label"]),
    ("backstop-wire", &["call", "label"]),
    ("backstop-allowance", &["call", "label"]),
    ("backstop-journal", &["call", "label"]),
    ("backstop-stack", &["call", "label", "allowance", "journal"]),
    ("backstop-agent", &["call", "label", "allowance", "journal"]),
    ("backstop-tools", &["call", "label", "agent"]),
    ("backstop-provider", &["call", "label", "wire"]),
    ("backstop-sim", &["call", "label", "wire"]),
    ("backstop-store", &["call", "label", "allowance", "journal"]),
    ("backstop", BELOW),
    // The assembly of an engine lives in the facade; config must build one.
    ("backstop-server", BELOW_AND_FACADE),
    ("backstop-cli", EVERYTHING),
    // It measures from outside, and reads the ledger as it lies on the disk.
    ("backstop-bench", &["", "call", "allowance", "store"]),
];
const BELOW: &[&str] =
    &["label", "call", "wire", "allowance", "journal", "stack", "agent", "tools", "provider", "sim", "store"];
const BELOW_AND_FACADE: &[&str] = &[
    "label",
    "call",
    "wire",
    "allowance",
    "journal",
    "stack",
    "agent",
    "tools",
    "provider",
    "sim",
    "store",
    "",
];
const EVERYTHING: &[&str] = &[
    "label",
    "call",
    "wire",
    "allowance",
    "journal",
    "stack",
    "agent",
    "tools",
    "provider",
    "sim",
    "store",
    "",
    "server",
];

const PURE: &[&str] =
    &["backstop-label", "backstop-call", "backstop-wire", "backstop-allowance", "backstop-journal"];
/// What makes a crate impure, wherever below it this stands.
const IMPURE: &[&str] =
    &["tokio", "mio", "hyper", "hyper-util", "axum", "rusqlite", "libsqlite3-sys", "reqwest"];

/// The crates of ours that a manifest names.
#[derive(Default)]
struct Edges {
    normal: BTreeSet<String>,
    dev: BTreeSet<String>,
}

pub(super) fn check_manifests(sources: &[Source]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut graph: BTreeMap<String, (&Source, Edges)> = BTreeMap::new();
    for source in sources.iter().filter(|source| source.path.ends_with("/Cargo.toml")) {
        match source.text.parse::<Table>() {
            Ok(manifest) => {
                let name = manifest.get("package").and_then(|package| package.get("name"));
                let name = name.and_then(Value::as_str).unwrap_or_default().to_owned();
                graph.insert(name, (source, edges(&manifest)));
            }
            Err(error) => problems.push(Problem::new(&source.path, 1, "manifest", error.to_string())),
        }
    }
    for (name, (source, edges)) in &graph {
        let allowed = ALLOWED.iter().find(|(owner, _)| owner == name).map_or(&[][..], |(_, allowed)| allowed);
        for dependency in &edges.normal {
            if !allowed.contains(&short(dependency)) {
                let line = line_of_dependency(&source.text, dependency);
                let what =
                    format!("{name} must not depend on {dependency}; see ARCHITECTURE.md for the edges");
                problems.push(Problem::new(&source.path, line, "edge", what).about(dependency));
            }
        }
    }
    problems.extend(cycle(&graph));
    problems
}

/// `backstop-call` is `call`, `backstop` is nothing.
fn short(name: &str) -> &str {
    name.trim_start_matches("backstop").trim_start_matches('-')
}

fn edges(manifest: &Table) -> Edges {
    let mut edges = Edges::default();
    let mut tables = vec![manifest];
    if let Some(targets) = manifest.get("target").and_then(Value::as_table) {
        tables.extend(targets.values().filter_map(Value::as_table));
    }
    let ours = |table: &Table, section: &str| {
        let keys = table.get(section).and_then(Value::as_table).into_iter().flat_map(Table::keys);
        keys.filter(|name| is_ours(name)).cloned().collect::<Vec<_>>()
    };
    for table in tables {
        edges.normal.extend(ours(table, "dependencies"));
        edges.normal.extend(ours(table, "build-dependencies"));
        edges.dev.extend(ours(table, "dev-dependencies"));
    }
    edges
}

fn is_ours(name: &str) -> bool {
    name == "backstop" || name.starts_with("backstop-")
}

fn line_of_dependency(text: &str, name: &str) -> usize {
    let begins = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['.', ' ', '=']));
    (1..).zip(text.lines()).find(|(_, line)| begins(line)).map_or(1, |(number, _)| number)
}

/// A way from a crate back to itself over all edges, those of tests too. Cargo lets tests make one; then a crate is
/// built twice and its types are not its types.
fn cycle(graph: &BTreeMap<String, (&Source, Edges)>) -> Option<Problem> {
    let next = |name: &str| {
        graph.get(name).into_iter().flat_map(|(_, edges)| edges.normal.iter().chain(&edges.dev)).cloned()
    };
    for (name, (source, _)) in graph {
        let mut ways: Vec<Vec<String>> = next(name).map(|first| vec![name.clone(), first]).collect();
        let mut seen = BTreeSet::new();
        while let Some(way) = ways.pop() {
            let last = way.last().expect("a way has two ends");
            if last == name {
                let what =
                    format!("a circle: {}; move the test to the crate that is higher up", way.join(" → "));
                return Some(Problem::new(&source.path, 1, "cycle", what));
            }
            if seen.insert(last.clone()) {
                ways.extend(next(last).map(|step| way.iter().cloned().chain([step]).collect()));
            }
        }
    }
    None
}

/// Looks for a runtime below the pure crates. `tree` gives the text of `cargo tree -p PACKAGE -e normal --prefix none`.
pub(super) fn check_pure(tree: impl Fn(&str) -> Result<String, String>) -> Result<Vec<Problem>, String> {
    let mut problems = Vec::new();
    for package in PURE {
        let tree = tree(package)?;
        let reached: BTreeSet<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        if !reached.contains(package) {
            return Err(format!("cargo tree does not know {package}"));
        }
        for dependency in IMPURE.iter().filter(|dependency| reached.contains(*dependency)) {
            let what = format!(
                "{package} is pure and reaches {dependency}; see `cargo tree -p {package} -i {dependency}`"
            );
            let problem = Problem::new(&format!("crates/{package}/Cargo.toml"), 1, "pure", what);
            problems.push(problem.about(dependency));
        }
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, rest: &str) -> Source {
        let text = format!("[package]\nname = \"{name}\"\n{rest}");
        Source { path: format!("crates/{name}/Cargo.toml"), text }
    }

    fn shown(sources: &[Source]) -> Vec<String> {
        check_manifests(sources).iter().map(|problem| format!("{} {}", problem.rule, problem.line)).collect()
    }

    #[test]
    fn forbidden_edges_are_found() {
        let good =
            manifest("backstop-stack", "[dependencies]\nbackstop-call.workspace = true\ntokio = \"1\"\n");
        assert_eq!(shown(&[good]), [""; 0]);
        let upward =
            manifest("backstop-call", "[dependencies]\nserde = \"1\"\nbackstop-wire.workspace = true\n");
        assert_eq!(shown(&[upward]), ["edge 5"]);
        let platform =
            manifest("backstop-label", "[target.'cfg(unix)'.dependencies]\nbackstop-call = \"1\"\n");
        assert_eq!(shown(&[platform]), ["edge 4"]);
        let stranger = manifest("backstop-new", "[build-dependencies]\nbackstop = { path = \"..\" }\n");
        assert_eq!(shown(&[stranger]), ["edge 4"]);
        let server = manifest("backstop-server", "[dependencies]\nbackstop.workspace = true\n");
        assert_eq!(shown(&[server]), [""; 0]);
    }

    #[test]
    fn tests_may_use_anything_but_make_no_circle() {
        let sim = manifest("backstop-sim", "[dev-dependencies]\nbackstop-stack.workspace = true\n");
        assert_eq!(shown(&[sim]), [""; 0]);
        let circle = [
            manifest("backstop-sim", "[dev-dependencies]\nbackstop-provider.workspace = true\n"),
            manifest("backstop-provider", "[dev-dependencies]\nbackstop-sim.workspace = true\n"),
        ];
        assert_eq!(shown(&circle), ["cycle 1"]);
    }

    #[test]
    fn a_runtime_below_a_pure_crate_is_found() {
        let tree = |package: &str| {
            let below = if package == "backstop-wire" {
                "tokio v1.54.0\ntokio-util v0.7.0\n"
            } else {
                "tokio-util v1\n"
            };
            Ok(format!("{package} v0.1.0 (path)\nserde v1.0.0\n{below}"))
        };
        let problems = check_pure(tree).unwrap();
        let found: Vec<_> = problems.iter().map(|p| (p.file.as_str(), p.subject.as_str())).collect();
        assert_eq!(found, [("crates/backstop-wire/Cargo.toml", "tokio")]);
        assert!(check_pure(|_| Ok(String::new())).is_err(), "an empty answer proves nothing");
    }
}
