//! The examples run, each to its own assertions, and each is short enough to be read at once.

use std::path::{Path, PathBuf};
use std::process::Command;

const LINES_MAX: usize = 60;

/// `target/debug/examples`, beside the directory of this test binary. Cargo builds the examples before it runs tests.
fn built() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    test.ancestors().nth(2).expect("target/debug/deps/test").join("examples")
}

#[test]
fn every_example_runs_and_is_short() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut ran = 0;
    for entry in std::fs::read_dir(sources).unwrap() {
        let path = entry.unwrap().path();
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", path.display());
        let program = built().join(path.file_stem().unwrap());
        let output = Command::new(&program).output().expect("the example is built");
        assert!(
            output.status.success(),
            "{}: {}",
            program.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        ran += 1;
    }
    assert_eq!(ran, 6, "an example was added or removed: say so here");
}
