//! How what runs in the sandbox ends: all of it, with its program, its time, its runner, whoever kills whom.

use crate::sandbox::{Yard, long, running, said, sandbox};
use backstop_tools::sandbox::{Confined, Ended};
use rustix::process::{PidfdFlags, pidfd_open};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

const RUNNER: &str = "BACKSTOP_TEST_RUNNER";
const SOON: Duration = Duration::from_secs(20);

/// A process of ours, ended when the test is over.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        Self(Command::new("sleep").arg(long()).spawn().unwrap())
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn no_process_outside_is_signalled() {
    let mut bystander = Bystander::new();
    for yard in Yard::all() {
        let script = format!("tell_(kill 'TERM', {})", bystander.0.id());
        assert_eq!(yard.perl(&script).await, "refused: No such process");
        // All that it may signal is signalled, and the one that keeps watch is not among it.
        assert_eq!(
            yard.perl("$SIG{TERM} = 'IGNORE'; kill 'KILL', 1; kill 'TERM', -1; tell_(1)").await,
            "did it"
        );
        assert!(bystander.0.try_wait().unwrap().is_none());
    }
}

#[tokio::test]
async fn a_fork_bomb_is_ended() {
    let bombs = ["while (1) { fork }", "while (1) { if (!fork) { setpgrp; fork; fork } }"];
    for (yard, bomb) in Yard::all().iter().flat_map(|yard| bombs.map(|bomb| (yard, bomb))) {
        let name = long();
        let script = format!("{bomb} # {name}");
        let mut confined = yard.confined(&["perl", "-e", &script]);
        confined.limits.processes = 64;
        let outcome = yard.run(confined).await;
        assert_eq!(said(&outcome), (Ended::TooManyProcesses, String::new(), String::new()));
        assert_eq!(running(&name), []);
    }
}

#[tokio::test]
async fn no_process_survives_the_program_or_its_time() {
    for yard in Yard::all() {
        let name = long();
        let script =
            format!("(setsid setsid sleep {name} >/dev/null 2>&1 &) ; setsid sleep {name} & echo started");
        let outcome = yard.run(yard.confined(&["sh", "-c", &script])).await;
        assert_eq!(said(&outcome), (Ended::Exited(0), "started\n".to_owned(), String::new()));
        assert_eq!(running(&name), []);

        let script = format!("setsid sleep {name} & echo started; sleep {name}");
        let mut confined = yard.confined(&["sh", "-c", &script]);
        confined.limits.wall_secs = 1;
        let outcome = yard.run(confined).await;
        assert_eq!(said(&outcome), (Ended::OutOfTime, "started\n".to_owned(), String::new()));
        assert_eq!(running(&name), []);
        assert!(yard.is_swept());
    }
}

/// Waits until something is so.
async fn until(is_so: impl Fn() -> bool) {
    let waited = tokio::time::timeout(SOON, async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap();
}

#[tokio::test]
async fn a_call_that_is_dropped_ends_its_processes() {
    for yard in Yard::all() {
        let name = long();
        let script = format!("setsid sleep {name} & sleep {name}");
        let run = yard.sandbox.run(yard.confined(&["sh", "-c", &script]));
        let under_way = tokio::time::timeout(SOON, async {
            tokio::select! {
                _ = run => panic!("it ends only when it is dropped"),
                () = until(|| running(&format!("sleep {name}")).len() >= 2) => {}
            }
        });
        under_way.await.unwrap();
        until(|| running(&name).is_empty() && yard.is_swept()).await;
    }
}

/// Not a test but the runner that the next one kills: it runs a program where that one says.
#[tokio::test]
async fn runner() {
    let Some(order) = std::env::var_os(RUNNER) else { return };
    let (workspace, name) = order.to_str().unwrap().split_once('|').unwrap();
    let yard = Yard::mine();
    let script = format!("setsid sleep {name} & sleep {name}");
    let confined = Confined {
        cwd: workspace.into(),
        workspace: workspace.into(),
        ..yard.confined(&["sh", "-c", &script])
    };
    let sandbox = sandbox().scratch(Path::new(workspace).with_file_name("scratch"));
    panic!("{:?}", sandbox.run(confined).await);
}

#[tokio::test]
async fn a_runner_that_is_killed_takes_its_processes_with_it() {
    let yard = Yard::mine();
    let name = long();
    let mut runner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sandbox_ends::runner"])
        .env(RUNNER, format!("{}|{name}", yard.path("work").display()))
        .spawn()
        .unwrap();
    until(|| running(&format!("sleep {name}")).len() >= 2).await;
    let sleeping: Vec<_> =
        running(&name).into_iter().map(|pid| pidfd_open(pid, PidfdFlags::empty()).unwrap()).collect();
    assert!(!yard.is_swept());
    runner.kill().unwrap();
    runner.wait().unwrap();
    until(|| running(&name).is_empty() && yard.is_swept()).await;
    drop(sleeping);
}
