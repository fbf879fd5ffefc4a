//! What was counted, as metrics for a collector: the same numbers that `/metrics` has, by the names of the conventions. They are
//! sums since the journal began, so a restart is no reset.

use super::span::{Attribute, attributes, resource, scope};
use backstop_call::Timestamp;
use backstop_journal::projections::numbers::{Cell, Family, Spread, Sums, bounds, folded};
use serde_json::{Value, json};
use std::time::Duration;

/// A metric: its name, its unit, what it is folded from, and what of that it tells.
type Metric = (&'static str, &'static str, &'static From, What);

/// A family, the operation that the conventions know it by, and those of its labels that are told.
struct From(Family, &'static str, &'static [&'static str]);

#[derive(Clone, Copy)]
enum What {
    Took,
    FirstToken,
    Sum(fn(&Sums) -> u64),
}

const CALLS: From = From(Family::Calls, "chat", &["provider", "model", "outcome"]);
const ANSWERED: From = From(Family::Calls, "chat", &["provider", "model"]);
const TOOLS: From = From(Family::Tools, "execute_tool", &["tool", "outcome"]);
const RUNS: From = From(Family::Runs, "invoke_agent", &["agent", "status"]);

/// Names as of November 2026 (Development); `gen_ai.client.operation.duration` is what version 1.41 called the first.
const METRICS: [Metric; 11] = [
    ("gen_ai.client.inference.duration", "s", &CALLS, What::Took),
    ("gen_ai.client.operation.duration", "s", &CALLS, What::Took),
    ("gen_ai.client.inference.time_to_first_chunk", "s", &ANSWERED, What::FirstToken),
    ("gen_ai.client.inference.usage.input_tokens", "{token}", &ANSWERED, What::Sum(all_input)),
    (
        "gen_ai.client.inference.usage.output_tokens",
        "{token}",
        &ANSWERED,
        What::Sum(|sums| sums.tokens.output),
    ),
    (
        "gen_ai.client.inference.usage.cache_read.input_tokens",
        "{token}",
        &ANSWERED,
        What::Sum(|sums| sums.tokens.cache_read),
    ),
    (
        "gen_ai.client.inference.usage.cache_write.input_tokens",
        "{token}",
        &ANSWERED,
        What::Sum(|sums| sums.tokens.cache_write),
    ),
    (
        "gen_ai.client.inference.usage.reasoning.output_tokens",
        "{token}",
        &ANSWERED,
        What::Sum(|sums| sums.tokens.reasoning),
    ),
    ("gen_ai.execute_tool.duration", "s", &TOOLS, What::Took),
    ("gen_ai.invoke_agent.duration", "s", &RUNS, What::Took),
    ("backstop.cost.usd_nano", "{nano-dollar}", &ANSWERED, What::Sum(cost)),
];

/// A request to a collector with everything that was counted from one moment to another.
pub(super) fn request(service: &str, whole: &[Cell], (since, now): (Timestamp, Timestamp)) -> Value {
    let metrics: Vec<_> = METRICS.iter().filter_map(|metric| written(metric, whole, (since, now))).collect();
    json!({
        "resourceMetrics": [{
            "resource": resource(service),
            "scopeMetrics": [{ "scope": scope(), "metrics": metrics }],
        }],
    })
}

/// A metric with a point for each of its series; `None` of nothing.
fn written(
    (name, unit, from, what): &Metric,
    whole: &[Cell],
    (since, now): (Timestamp, Timestamp),
) -> Option<Value> {
    let From(family, operation, labels) = from;
    let mut points = Vec::new();
    for (values, sums) in folded(whole, *family, labels) {
        let Some(mut point) = point(*what, &sums) else { continue };
        let named = labels.iter().zip(&values).filter_map(|(label, value)| attribute(label, value));
        let named: Vec<_> = [("gen_ai.operation.name", Attribute::Text((*operation).to_owned()))]
            .into_iter()
            .chain(named)
            .collect();
        point["attributes"] = attributes(&named);
        point["startTimeUnixNano"] = since.nanos().to_string().into();
        point["timeUnixNano"] = now.nanos().to_string().into();
        points.push(point);
    }
    // 2: since the beginning, and not since the last time.
    let data = match what {
        What::Took | What::FirstToken => {
            json!({ "histogram": { "aggregationTemporality": 2, "dataPoints": points } })
        }
        What::Sum(_) => {
            json!({ "sum": { "aggregationTemporality": 2, "isMonotonic": true, "dataPoints": points } })
        }
    };
    let mut metric = json!({ "name": name, "unit": unit });
    metric.as_object_mut()?.extend(data.as_object()?.clone());
    (!points.is_empty()).then_some(metric)
}

fn point(what: What, sums: &Sums) -> Option<Value> {
    match what {
        What::Took => histogram(&sums.took),
        What::FirstToken => histogram(&sums.first_token),
        What::Sum(sum) => Some(json!({ "asInt": sum(sums).to_string() })),
    }
}

/// Counts in buckets, each with what is above the bound before it and not above its own; the last one has no bound.
fn histogram(spread: &Spread) -> Option<Value> {
    let within: Vec<u64> = bounds().map(|bound| spread.within(bound)).chain([spread.count()]).collect();
    let before = std::iter::once(&0).chain(&within);
    let counts: Vec<_> =
        within.iter().zip(before).map(|(within, before)| (within - before).to_string()).collect();
    (!spread.is_empty()).then(|| {
        json!({
            "count": spread.count().to_string(),
            "sum": spread.sum().as_secs_f64(),
            "bucketCounts": counts,
            "explicitBounds": bounds().map(|bound| Duration::as_secs_f64(&bound)).collect::<Vec<_>>(),
        })
    })
}

/// What a label is called by the conventions. That nothing went wrong is told by its absence.
fn attribute(label: &str, value: &str) -> Option<(&'static str, Attribute)> {
    let name = match (label, value) {
        (_, "") | ("outcome", "ok") | ("status", "done") => return None,
        ("provider", _) => "gen_ai.provider.name",
        ("model", _) => "gen_ai.request.model",
        ("tool", _) => "gen_ai.tool.name",
        ("agent", _) => "gen_ai.agent.name",
        _ => "error.type",
    };
    Some((name, Attribute::Text(value.to_owned())))
}

/// All input, from a cache or not, as the conventions count it.
fn all_input(sums: &Sums) -> u64 {
    sums.tokens.input + sums.tokens.cache_read + sums.tokens.cache_write
}

/// Spending is never negative.
fn cost(sums: &Sums) -> u64 {
    u64::try_from(sums.cost.nanos()).unwrap_or(0)
}
