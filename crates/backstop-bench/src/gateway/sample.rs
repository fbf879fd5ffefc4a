//! One load on one target, with what it cost: the figures of one cell of a table.

use super::Bench;
use super::scenario::{Scenario, Shape};
use super::target::{Target, Who};
use crate::Stop;
use crate::clock::now_ns;
use crate::figures::{Percentiles, float, per};
use crate::load::{Load, Outcome, ask, post, send};
use crate::machine::{core_busy_s, cpu_s, own_cpu_s};
use crate::mock::{BILLS, Bills};
use crate::prompt;
use memchr::memmem;
use serde::Serialize;
use std::net::SocketAddr;
use std::time::Duration;

/// Characters of an answer that a failure shows.
const BODY_SHOWN: usize = 500;

/// What one scenario gave on one target in one round.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sample {
    pub(crate) scenario: Scenario,
    pub(crate) who: Who,
    pub(crate) round: u32,
    pub(crate) ok: u64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    /// Requests that the mock served, those before counting began included.
    pub(crate) served: u64,
    pub(crate) per_s: Option<f64>,
    pub(crate) latency: Option<Percentiles>,
    pub(crate) first_token: Option<Percentiles>,
    pub(crate) chunk_delay: Option<Percentiles>,
    /// CPU of the target's processes per request that the mock served.
    pub(crate) cpu_us_per_request: Option<f64>,
    pub(crate) cpu_us_per_chunk: Option<f64>,
    /// Share of its core that the target used, and share of theirs that mock and load used.
    pub(crate) target_core: f64,
    pub(crate) load_core: f64,
    /// Share of each core that something else used meanwhile, the host included.
    pub(crate) foreign_target_core: f64,
    pub(crate) foreign_load_core: f64,
}

/// What processes and cores have used up to a point in time, in seconds.
struct Meter {
    at: f64,
    target: f64,
    load: f64,
    target_core: f64,
    load_core: f64,
    served: u64,
}

impl Meter {
    async fn read(bench: &Bench<'_>, target: &Target) -> Result<Self, Stop> {
        let served = bills(bench.mock_at()).await?.requests();
        Ok(Self {
            at: float(now_ns()) / 1e9,
            target: target.process.as_ref().map_or(0.0, |process| cpu_s(process.id())),
            load: own_cpu_s() + cpu_s(bench.mock.id()),
            target_core: core_busy_s(bench.cores.target),
            load_core: core_busy_s(bench.cores.load),
            served,
        })
    }
}

/// Runs one load, between two readings of the meter.
pub(super) async fn measure(
    bench: &Bench<'_>,
    target: &Target,
    (scenario, shape): (Scenario, Shape),
    round: u32,
) -> Result<Sample, Stop> {
    bench.behave(shape.behaviour).await?;
    let before = Meter::read(bench, target).await?;
    let outcome = load(bench, target, shape).run().await;
    let outcome = outcome.map_err(|error| Stop::failed(format!("{}: {error}", target.who.name())))?;
    let after = Meter::read(bench, target).await?;
    Ok(sample((scenario, shape), (target.who, round), outcome, (&before, &after)))
}

/// Asks once, whole and streamed, so that what is not set up right is told before anything is measured.
pub(super) async fn check(bench: &Bench<'_>, target: &Target) -> Result<(), Stop> {
    for scenario in [Scenario::Max, Scenario::Ttft] {
        let Some(shape) = scenario.shape(Duration::ZERO, 1) else { continue };
        bench.behave(shape.behaviour).await?;
        let name = target.who.name();
        let answered = send(target.at, &load(bench, target, shape).request).await;
        let (status, body) = answered.map_err(|error| Stop::failed(format!("{name}: {error}")))?;
        if status != 200 || memmem::find(&body, b"\"usage\"").is_none() {
            let body: String = String::from_utf8_lossy(&body).chars().take(BODY_SHOWN).collect();
            return Err(Stop::failed(format!("{name} answers with status {status}: {body}")));
        }
    }
    Ok(())
}

pub(super) fn load(bench: &Bench<'_>, target: &Target, shape: Shape) -> Load {
    let Shape { bytes, answer, pace, until, .. } = shape;
    let dialect = bench.options.dialect;
    let body = prompt::request(dialect, &bench.options.model, answer, bytes);
    let path = bench.options.path(target.who);
    Load { at: target.at, request: post(target.at, path, &target.headers, &body), answer, pace, until }
}

fn sample(
    (scenario, shape): (Scenario, Shape),
    (who, round): (Who, u32),
    outcome: Outcome,
    (before, after): (&Meter, &Meter),
) -> Sample {
    let seconds = after.at - before.at;
    let share = |used: f64| per(used, seconds).unwrap_or_default();
    let (target, load) = (after.target - before.target, after.load - before.load);
    let served = after.served - before.served;
    let is_direct = who == Who::Direct;
    let cpu_us = |count: u64| if is_direct { None } else { per(target * 1e6, float(count)) };
    Sample {
        scenario,
        who,
        round,
        ok: outcome.ok,
        errors: outcome.errors,
        per_s: outcome.per_second(),
        first_error: outcome.first_error,
        served,
        latency: outcome.latency,
        first_token: outcome.first_token,
        chunk_delay: outcome.chunk_delay,
        cpu_us_per_request: cpu_us(served),
        cpu_us_per_chunk: cpu_us(served * shape.behaviour.chunks),
        target_core: share(target),
        load_core: share(load),
        foreign_target_core: share(after.target_core - before.target_core - target).max(0.0),
        foreign_load_core: share(after.load_core - before.load_core - load).max(0.0),
    }
}

/// What the mock has billed so far.
pub(super) async fn bills(mock: SocketAddr) -> Result<Bills, Stop> {
    let (_, body) = ask(mock, BILLS).await.map_err(|error| Stop::failed(format!("the mock: {error}")))?;
    serde_json::from_slice(&body).map_err(|error| Stop::failed(format!("the mock's bills: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_shared_out_to_who_used_it() {
        let zero = Meter { at: 0.0, target: 0.0, load: 0.0, target_core: 0.0, load_core: 0.0, served: 10 };
        let after =
            Meter { at: 4.0, target: 2.0, load: 3.0, target_core: 2.2, load_core: 3.0, served: 1_010 };
        let outcome = Outcome {
            ok: 900,
            errors: 0,
            first_error: None,
            seconds: 3.0,
            latency: None,
            first_token: None,
            chunk_delay: None,
            chunks: 0,
        };
        let shape = Scenario::StreamLoad.shape(Duration::from_secs(3), 0).unwrap();
        let found = sample((Scenario::StreamLoad, shape), (Who::Floor, 1), outcome.clone(), (&zero, &after));
        assert_eq!((found.served, found.per_s), (1_000, Some(300.0)));
        assert_eq!((found.cpu_us_per_request, found.cpu_us_per_chunk), (Some(2_000.0), Some(20.0)));
        assert_eq!((found.target_core, found.load_core, found.foreign_load_core), (0.5, 0.75, 0.0));
        assert!((found.foreign_target_core - 0.05).abs() < 1e-9);
        let direct = sample((Scenario::StreamLoad, shape), (Who::Direct, 1), outcome, (&zero, &after));
        assert_eq!(direct.cpu_us_per_request, None, "the mock's core is not the target's");
    }
}
