//! How the gateway is: alive, ready, and each part of it. The decision is pure; what it is made from is asked anew each time.

use super::Gateway;
use super::answer::{self, Reply};
use backstop_journal::projections::metrics::{JobSummary, QueueState};
use backstop_stack::layers::breaker::Phase;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::sync::atomic::Ordering;

/// With less than this the disk is nearly full, in bytes.
const DISK_LOW_BYTES: u64 = 512 << 20;
/// With less than this nothing can be relied on to be written, in bytes.
const DISK_FULL_BYTES: u64 = 16 << 20;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    Healthy,
    Degraded,
    Unhealthy,
}

impl Health {
    fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One part, and why it is so.
struct Check {
    name: String,
    health: Health,
    why: String,
}

impl Gateway {
    /// Whether it can answer calls: it is not on its way out.
    pub(super) fn ready(&self) -> Reply {
        if self.draining.load(Ordering::Relaxed) {
            return answer::json(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "draining"}));
        }
        answer::json(StatusCode::OK, &json!({"status": "ready"}))
    }

    /// How it is in one word: `healthy`, `degraded` or `unhealthy`.
    pub async fn word_of_health(&self) -> &'static str {
        overall(&self.checks().await).as_str()
    }

    async fn checks(&self) -> Vec<Check> {
        let mut checks = vec![self.store().await, disk(&self.data_dir)];
        checks.extend(self.providers());
        checks.extend(self.approvals.worries().map(|(name, worry)| Check {
            name,
            health: if worry.is_some() { Health::Degraded } else { Health::Healthy },
            why: worry.unwrap_or_else(|| "it takes what it is told".to_owned()),
        }));
        checks
    }

    /// Each part.
    pub(super) async fn health(&self) -> Reply {
        let checks = self.checks().await;
        let worst = overall(&checks);
        let status =
            if worst == Health::Unhealthy { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        let parts: Map<String, Value> = checks
            .into_iter()
            .map(|check| (check.name, json!({"status": check.health.as_str(), "why": check.why})))
            .collect();
        let calls = self.calls.load(Ordering::Relaxed);
        answer::json(status, &json!({"status": worst.as_str(), "calls_under_way": calls, "checks": parts}))
    }

    /// How long the queue is; `None` when the store cannot say.
    pub async fn queue_state(&self) -> Option<QueueState> {
        let backlog = self.backstop.queue().backlog(self.clock.now()).await.ok()?;
        Some(QueueState::of(&backlog))
    }

    /// What is told of the jobs; nothing when the store cannot say.
    async fn jobs_state(&self) -> Vec<JobSummary> {
        let kept = (self.backstop.journal().as_ref(), self.backstop.queue().as_ref());
        self.jobs.summaries(kept, self.clock.now()).await.unwrap_or_default()
    }

    /// The figures for a scraper.
    pub(super) async fn figures(&self) -> Reply {
        let (queue, jobs) = (self.queue_state().await, self.jobs_state().await);
        let text = match self.numbers.openmetrics(queue, jobs).await {
            Ok(text) => text,
            Err(error) => {
                let told = json!({"error": {"code": error.code(), "message": error.to_string()}});
                return answer::json(StatusCode::SERVICE_UNAVAILABLE, &told);
            }
        };
        let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind)]);
        answer::whole(StatusCode::OK, headers, text)
    }

    async fn store(&self) -> Check {
        let (health, why) = match self.backstop.journal().tail(0, 1).await {
            Ok(_) => (Health::Healthy, "it can be read".to_owned()),
            Err(error) => (Health::Unhealthy, error.to_string()),
        };
        Check { name: "store".to_owned(), health, why }
    }

    /// Every target's breaker, and whether its provider has the key that it wants.
    fn providers(&self) -> Vec<Check> {
        let engine = self.engine();
        let targets = engine.stack.breakers().map(|(provider, model, phase)| {
            let (health, why) = match phase {
                Phase::Closed => (Health::Healthy, "it answers"),
                Phase::HalfOpen { .. } => (Health::Degraded, "it failed, and is tried again"),
                Phase::Open { .. } => (Health::Degraded, "it failed, and is left alone for a while"),
            };
            Check { name: format!("target {provider}/{model}"), health, why: why.to_owned() }
        });
        let keyless = engine.keyless().iter().map(|provider| Check {
            name: format!("provider {provider}"),
            health: Health::Degraded,
            why: "its key is not there".to_owned(),
        });
        targets.chain(keyless).collect()
    }
}

fn disk(dir: &Path) -> Check {
    let free = rustix::fs::statvfs(dir).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    let (health, why) = match free {
        Ok(free) if free < DISK_FULL_BYTES => (Health::Unhealthy, format!("{} MiB are free", free >> 20)),
        Ok(free) if free < DISK_LOW_BYTES => (Health::Degraded, format!("{} MiB are free", free >> 20)),
        Ok(free) => (Health::Healthy, format!("{} MiB are free", free >> 20)),
        Err(error) => (Health::Degraded, format!("it cannot be asked: {error}")),
    };
    Check { name: "disk".to_owned(), health, why }
}

/// As bad as the worst part. But one target that is left alone leaves others; only when all are, nobody answers.
fn overall(checks: &[Check]) -> Health {
    let worst = checks.iter().map(|check| check.health).max().unwrap_or(Health::Healthy);
    let mut targets = checks.iter().filter(|check| check.name.starts_with("target ")).peekable();
    let none_answers = targets.peek().is_some() && targets.all(|check| check.health != Health::Healthy);
    if none_answers { Health::Unhealthy } else { worst }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_target_of_two_is_enough_to_answer() {
        use Health::{Degraded, Healthy, Unhealthy};
        let rows: [(&[(&str, Health)], Health); 6] = [
            (&[("store", Healthy), ("target a/m", Healthy)], Healthy),
            (&[("store", Healthy), ("target a/m", Degraded), ("target b/m", Healthy)], Degraded),
            (&[("store", Healthy), ("target a/m", Degraded), ("target b/m", Degraded)], Unhealthy),
            (&[("store", Unhealthy), ("target a/m", Healthy)], Unhealthy),
            (&[("store", Healthy)], Healthy),
            (&[("disk", Degraded), ("target a/m", Healthy)], Degraded),
        ];
        for (parts, want) in rows {
            let checks: Vec<_> = parts
                .iter()
                .map(|(name, health)| Check { name: (*name).to_owned(), health: *health, why: String::new() })
                .collect();
            assert_eq!(overall(&checks), want, "{parts:?}");
        }
    }
}
