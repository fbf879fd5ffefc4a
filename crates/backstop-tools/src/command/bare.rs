//! Runs a program without a sandbox, where its owner said so: with all the rights of this process, but for its
//! environment. What it starts is ended with it only as far as it stays in its process group.

use crate::sandbox::{Captured, Confined, Ended, Outcome, SandboxError, capture};
use rustix::process::{Pid, Signal, kill_process_group};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

/// A process group, which is ended when this is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // None of it may be left.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Runs a program to its end.
pub(super) async fn run(confined: Confined) -> Result<Outcome, SandboxError> {
    let (program, args) =
        confined.argv.split_first().ok_or_else(|| not_started("there is no program to run"))?;
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .envs(&confined.env)
        .current_dir(&confined.cwd)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| not_started(&format!("{program}: {error}")))?;
    let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let bytes_max = confined.limits.output_kib.saturating_mul(1024);
    let limit = Duration::from_secs(confined.limits.wall_secs);
    let mut output = (Captured::default(), Captured::default());
    let status =
        tokio::time::timeout(limit, finish(&mut child, &confined.stdin, bytes_max, &mut output)).await;
    drop(group);
    let ended = match status {
        Ok(Ok(status)) => ended(status),
        Ok(Err(error)) => return Err(SandboxError::Lost(error.to_string())),
        Err(_) => Ended::OutOfTime,
    };
    let (stdout, stderr) = output;
    Ok(Outcome { ended, stdout, stderr, planted: Vec::new() })
}

async fn finish(
    child: &mut Child,
    input: &str,
    bytes_max: usize,
    output: &mut (Captured, Captured),
) -> std::io::Result<ExitStatus> {
    let (stdin, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let told = async {
        if let Some(mut stdin) = stdin {
            // A program need not read what it is given.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let ((), stdout, stderr) = tokio::join!(told, capture(out, bytes_max), capture(err, bytes_max));
    *output = (stdout, stderr);
    child.wait().await
}

fn ended(status: ExitStatus) -> Ended {
    status.code().map_or_else(|| Ended::Signalled(status.signal().unwrap_or_default()), Ended::Exited)
}

fn not_started(why: &str) -> SandboxError {
    SandboxError::NotStarted(why.to_owned())
}
