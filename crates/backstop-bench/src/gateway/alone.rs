//! What is measured on the gateway alone, after the rounds: memory, the time to start, and the money.

use super::process::Process;
use super::report::{Bound, verdict};
use super::sample::{bills, load};
use super::scenario::Scenario;
use super::target::Target;
use super::{Bench, backstop};
use crate::Stop;
use crate::clock::now_ns;
use crate::figures::{float, is_flat, median};
use crate::load::Until;
use crate::machine::memory_mb;
use backstop_call::{Money, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;

const MEMORY_IDLE_MAX_MB: f64 = 30.0;
const MEMORY_LOADED_MAX_MB: f64 = 60.0;
const READY_MAX_MS: f64 = 50.0;
/// After a start, until what is done once is done.
const IDLE: Duration = Duration::from_secs(3);
/// Readings of the memory over all requests.
const READINGS: u64 = 20;

/// Runs what was asked for, adds the verdicts, and gives the figures.
pub(super) async fn run(
    bench: &Bench<'_>,
    gateway: &mut Target,
    from: Timestamp,
    verdicts: &mut Vec<String>,
) -> Result<Vec<Value>, Stop> {
    let options = bench.options;
    let mut figures = Vec::new();
    if options.has(Scenario::Memory) {
        let peak = resident_mb(gateway.process.as_ref(), "VmHWM");
        let right_after = resident_mb(gateway.process.as_ref(), "VmRSS");
        go_on(bench, gateway).await?;
        let after_rounds = resident_mb(gateway.process.as_ref(), "VmRSS");
        gateway.stop().await?;
        gateway.start(bench.cores).await?;
        sleep(IDLE).await;
        let readings = memory(bench, gateway).await?;
        let idle = readings.first().copied();
        let last = readings.last().copied();
        let shown: Vec<String> = readings.iter().map(|reading| format!("{reading:.1}")).collect();
        println!(
            "memory  MB resident after the rounds {right_after:.1}, some requests later {after_rounds:.1}, at most {peak:.1}"
        );
        println!(
            "        started anew, then every {} of {} requests: {}\n",
            options.requests / READINGS,
            options.requests,
            shown.join(" ")
        );
        verdicts.push(verdict("memory: idle", idle, Bound::AtMost(MEMORY_IDLE_MAX_MB), " MB"));
        let loaded = last.map(|last| last.max(after_rounds));
        verdicts.push(verdict("memory: after load", loaded, Bound::AtMost(MEMORY_LOADED_MAX_MB), " MB"));
        let word = if is_flat(&readings) == Some(true) { "PASS" } else { "MISS" };
        verdicts.push(format!("{word}  memory: flat over {} requests", options.requests));
        figures.push(json!({ "scenario": Scenario::Memory, "readings_mb": readings,
            "right_after_mb": right_after, "after_rounds_mb": after_rounds, "peak_mb": peak, "requests": options.requests }));
    }
    if options.has(Scenario::Start) {
        let times = starts(bench, gateway).await?;
        let middle = median(times.iter().copied());
        let slowest = times.iter().copied().fold(0.0, f64::max);
        println!(
            "start   ms until ready: p50 {:.1}, slowest {slowest:.1}, of {}\n",
            middle.unwrap_or_default(),
            times.len()
        );
        verdicts.push(verdict("start: ready, p50", middle, Bound::AtMost(READY_MAX_MS), " ms"));
        figures.push(json!({ "scenario": Scenario::Start, "ready_ms": times }));
    }
    if options.has(Scenario::Money) && options.target.is_none() {
        figures.push(money(bench, gateway, from, verdicts).await?);
    }
    Ok(figures)
}

fn resident_mb(process: Option<&Process>, line: &str) -> f64 {
    process.map_or(0.0, |process| memory_mb(process.id(), line))
}

/// Some ordinary requests, and a moment of rest: what was freed by thousands of streams at once goes back to the system as
/// its threads come to it.
async fn go_on(bench: &Bench<'_>, gateway: &Target) -> Result<(), Stop> {
    part(bench, gateway, bench.options.requests / READINGS).await?;
    sleep(IDLE).await;
    Ok(())
}

/// Megabytes resident before, and after each part of the requests.
async fn memory(bench: &Bench<'_>, gateway: &Target) -> Result<Vec<f64>, Stop> {
    let mut readings = vec![resident_mb(gateway.process.as_ref(), "VmRSS")];
    for _ in 0..READINGS {
        part(bench, gateway, bench.options.requests / READINGS).await?;
        readings.push(resident_mb(gateway.process.as_ref(), "VmRSS"));
    }
    Ok(readings)
}

/// So many requests as `max` makes them.
async fn part(bench: &Bench<'_>, gateway: &Target, requests: u64) -> Result<(), Stop> {
    let shape = Scenario::Max.shape(Duration::ZERO, 0);
    let mut shape = shape.ok_or_else(|| Stop::failed("`max` is a load"))?;
    shape.until = Until::Count(requests);
    bench.behave(shape.behaviour).await?;
    let outcome = load(bench, gateway, shape).run().await;
    let outcome = outcome.map_err(|error| Stop::failed(format!("memory: {error}")))?;
    if outcome.errors > 0 {
        let why = format!("memory: {} errors: {:?}", outcome.errors, outcome.first_error);
        return Err(Stop::failed(why));
    }
    Ok(())
}

/// Milliseconds from the start of the process to its first 200, asked for every millisecond. It starts on the journal
/// that the load before has left.
async fn starts(bench: &Bench<'_>, gateway: &mut Target) -> Result<Vec<f64>, Stop> {
    let mut times = Vec::new();
    for _ in 0..bench.options.starts {
        gateway.stop().await?;
        let began = now_ns();
        gateway.start(bench.cores).await?;
        times.push(float(now_ns() - began) / 1e6);
    }
    Ok(times)
}

/// The mock's bill against what the ledger has on the disk once the gateway has ended.
async fn money(
    bench: &Bench<'_>,
    gateway: &mut Target,
    from: Timestamp,
    verdicts: &mut Vec<String>,
) -> Result<Value, Stop> {
    gateway.stop().await?;
    let key = backstop::billed_to(bench.options.dialect);
    let bill = bills(bench.mock_at()).await?.of(&key);
    let billed = Money::from_nanos(i64::try_from(bill.total()).unwrap_or(i64::MAX));
    let ledger = backstop::read_ledger(&gateway.dir, from).await?;
    println!(
        "money   {} calls billed {}; ledger settled {}, suspended {}, reserved {}\n",
        bill.requests,
        billed.decimal(),
        ledger.settled.decimal(),
        ledger.suspense.decimal(),
        ledger.reserved.decimal()
    );
    verdicts.push(money_verdict(billed, &ledger));
    Ok(json!({ "scenario": Scenario::Money, "requests": bill.requests, "billed": billed.decimal(),
        "settled": ledger.settled.decimal(), "suspense": ledger.suspense.decimal() }))
}

/// Every call of a load has ended, so that nothing may be suspended or held, and every nano-dollar must be there.
fn money_verdict(billed: Money, ledger: &backstop::Spent) -> String {
    let is_exact = ledger.settled == billed
        && billed > Money::ZERO
        && ledger.suspense == Money::ZERO
        && ledger.reserved == Money::ZERO;
    let word = if is_exact { "PASS" } else { "MISS" };
    format!("{word}  money: settled {} of {} billed", ledger.settled.decimal(), billed.decimal())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact_or_missed() {
        let judged = |billed: i64, [settled, suspense, reserved]: [i64; 3]| {
            let [settled, suspense, reserved] = [settled, suspense, reserved].map(Money::from_nanos);
            money_verdict(Money::from_nanos(billed), &backstop::Spent { settled, suspense, reserved })
        };
        assert_eq!(judged(1_500, [1_500, 0, 0]), "PASS  money: settled 0.0000015 of 0.0000015 billed");
        for (billed, spent) in
            [(1_500, [1_499, 0, 0]), (1_500, [1_500, 1, 0]), (1_500, [1_500, 0, 1]), (0, [0; 3])]
        {
            assert!(judged(billed, spent).starts_with("MISS"), "{billed} {spent:?}");
        }
    }
}
