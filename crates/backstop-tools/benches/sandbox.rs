//! What a program costs in the sandbox, beside the same program started as it is: by far the most of it is the two
//! processes more that the sandbox needs, and the mounts. Told as a ratio to the bare start of the same round.
//! Run with `cargo bench -p backstop-tools --bench sandbox`.
#![expect(clippy::print_stdout, reason = "a benchmark tells what it measured")]

use backstop_tools::sandbox::{Access, Confined, Ended, Limits, Sandbox};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

const ROUNDS: usize = 200;
const PROGRAM: &str = "/bin/true";

fn confined(workspace: &Path) -> Confined {
    Confined {
        argv: vec![PROGRAM.to_owned()],
        cwd: workspace.to_owned(),
        env: BTreeMap::new(),
        stdin: String::new(),
        workspace: workspace.to_owned(),
        access: Access::Write,
        git: false,
        reserved: Vec::new(),
        read: Vec::new(),
        write: Vec::new(),
        network: false,
        limits: Limits::default(),
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_backstop-sandbox"), Vec::<String>::new());
    let dir = tempfile::tempdir().expect("a directory for a while");
    let (mut bare, mut inside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let output = tokio::process::Command::new(PROGRAM).output().await.expect("the program starts");
        assert!(output.status.success());
        bare.push(started.elapsed());
        let started = Instant::now();
        let outcome = sandbox.run(confined(dir.path())).await.expect("the sandbox runs it");
        assert_eq!(outcome.ended, Ended::Exited(0));
        inside.push(started.elapsed());
    }
    let (bare, inside) = (median(bare), median(inside));
    println!("bare     {bare:?}");
    println!("sandbox  {inside:?}, {:.1} times the bare start", inside.as_secs_f64() / bare.as_secs_f64());
}
