//! The scenario of the benchmark that proves something, small enough for every day.

use serde_json::Value;
use std::process::Command;

/// 16 workers in four processes. `backstop-bench kills` alone does ten thousand tasks, by the same code; it says why, when one
/// was lost or done twice.
#[test]
fn tasks_are_done_once_each_however_often_workers_are_killed() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = Command::new(env!("CARGO_BIN_EXE_backstop-bench"))
        .args(["kills", "--tasks", "1500", "--processes", "4", "--slots", "4", "--kills", "100", "--dir"])
        .arg(dir.path())
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let line: Value = serde_json::from_slice(&output.stdout).expect("a line");
    let kills = line["kills"].as_u64().expect("a number");
    assert!(line["tasks"] == 1_500 && kills >= 40, "{line} {told}");
}
