//! Runs a program without a sandbox, where its owner said so: with all the rights of this process, but for its
//! environment. The sandbox's helper starts it, so that it ends with this process too. What it starts is ended with it only
//! as far as it stays in its process group.

use crate::sandbox::{Captured, Confined, Ended, Outcome, Sandbox, SandboxError};
use std::time::Duration;

/// How much longer than its time a program is waited for: what it started may hold its outputs open and have left its group.
const GRACE: Duration = Duration::from_secs(1);

/// Runs a program to its end.
pub(super) async fn run(sandbox: &Sandbox, confined: Confined) -> Result<Outcome, SandboxError> {
    let limit = Duration::from_secs(confined.limits.wall_secs).saturating_add(GRACE);
    let late = Outcome {
        ended: Ended::OutOfTime,
        stdout: Captured::default(),
        stderr: Captured::default(),
        planted: Vec::new(),
    };
    tokio::time::timeout(limit, sandbox.run_bare(confined)).await.unwrap_or(Ok(late))
}
