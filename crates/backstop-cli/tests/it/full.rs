//! A disk without room: the run stops with a clear error before an effect it could not record, and goes on with room.
//!
//! The limit on the size of a file stands in for the disk: it can be set everywhere without rights, and the database meets
//! it in the same place.

use super::kit::{Done, Place};
use backstop_journal::projections::timeline::{Timeline, ToolOutcome};
use serde_json::Value;
use std::process::Stdio;

const TASK: &str = "Write steps 1 to 20 into steps/";

/// Runs the binary where no file may grow beyond so many KiB.
fn limited(place: &Place, kib: u64, args: &[&str]) -> Done {
    let inner = place.command(args);
    // Blocks of 512 bytes. The signal would end the process; ignored, the write fails, as on a full disk.
    let script = "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"";
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", script, &(kib * 2).to_string()]).arg(inner.get_program()).args(inner.get_args());
    shell.current_dir(place.path()).env_clear().stdin(Stdio::null());
    shell.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    place.done(&shell.output().unwrap())
}

fn is_told(done: &Done, what: &str) {
    assert_eq!(done.code, 2, "{what}: {}", done.shown());
    let lines: Vec<_> = done.err.lines().collect();
    assert!(
        lines.iter().any(|line| line.starts_with("error[BS4001]: ") && line.contains("the disk is full")),
        "{what}: {}",
        done.shown()
    );
    let hint = "hint: make room, then `backstop resume`; everything that was acknowledged is kept";
    assert!(lines.contains(&hint), "{what}: {}", done.shown());
}

#[test]
fn a_disk_that_fills_up_in_the_middle() {
    let run = ["run", "--model", "sim", "--quiet", TASK];
    let whole = Place::new();
    assert_eq!(whole.run(&run).code, 0);
    let log = whole.files(".backstop").iter().map(|(_, bytes)| bytes.len() as u64).max().unwrap();
    let (mut refused, mut resumed) = (0, 0);
    // From no room at all to half of it, most of them where a run is under way: which changes share a commit, and so how large the
    // log gets, is a matter of time.
    for part in [0, 6, 9, 11, 13, 14, 15, 16, 17, 18] {
        let kib = 4 + log * part / 36 / 1024;
        let what = format!("{kib} KiB");
        let place = Place::new();
        let done = limited(&place, kib, &run);
        is_told(&done, &what);
        let runs = if place.path().join(".backstop/backstop.db").exists() {
            place.run(&["runs", "--json"]).out
        } else {
            "[]".into()
        };
        let runs: Value = serde_json::from_str(&runs).unwrap();
        if let Some(left) = runs.as_array().unwrap().first() {
            let id = left["run"].as_str().unwrap();
            let events = place.events();
            for write in Timeline::fold(&events).unwrap().tools().filter(|tool| tool.tool == "write_file") {
                if let (ToolOutcome::Finished { is_error: false, .. }, Some(args)) =
                    (&write.outcome, write.args.value())
                {
                    assert_eq!(
                        place.read(args["path"].as_str().unwrap()),
                        args["content"].as_str().unwrap(),
                        "{what}"
                    );
                }
            }
            let done = place.run(&["resume", id, "--quiet"]);
            assert_eq!(done.code, 0, "{what}: {}", done.shown());
            resumed += 1;
        } else {
            assert!(place.files("steps").is_empty(), "{what}: something was done that nobody recorded");
            assert_eq!(place.run(&run).code, 0, "{what}: nothing is in the way of a run with room");
            refused += 1;
        }
        assert_eq!(place.files("steps"), whole.files("steps"), "{what}");
    }
    assert!(
        refused >= 1 && resumed >= 4,
        "{refused} runs were never begun and {resumed} stopped in the middle"
    );
}
