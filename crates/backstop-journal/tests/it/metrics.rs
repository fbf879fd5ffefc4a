//! The metrics of the example run, and that they are text a scraper takes.

use crate::example::{Recorder, START, every_kind, example_run};
use backstop_call::Timestamp;
use backstop_journal::BudgetUse;
use backstop_journal::StreamId;
use backstop_journal::event::ToolPlanned;
use backstop_journal::projections::metrics::{JobSummary, Present, QueueState, openmetrics};
use backstop_journal::projections::numbers::{Batch, Fold, Grain, SERIES_MAX, Table};
use expect_test::expect_file;
use std::collections::BTreeSet;
use std::path::Path;

fn text(stored: &[(backstop_journal::Event, String)]) -> String {
    let (mut fold, mut batch, mut table) = (Fold::default(), Batch::default(), Table::default());
    for (event, _) in stored {
        fold.apply(event, &mut batch);
    }
    table.add(&batch);
    let whole: Vec<_> = table.range(Grain::Whole, Timestamp::EPOCH, Timestamp::FAR).collect();
    openmetrics(&whole, &present())
}

fn present() -> Present {
    let budget = |account: &str, spent, limit| BudgetUse {
        account: account.into(),
        spent: backstop_call::Money::from_nanos(spent),
        limit: backstop_call::Money::from_nanos(limit),
    };
    let queue = QueueState {
        tasks: [("waiting".to_owned(), 3)].into(),
        oldest: Some(std::time::Duration::from_millis(1_500)),
    };
    Present {
        budgets: vec![
            budget("total@20779", 1_250_000_000, 5_000_000_000),
            budget("key/ci", 1, 2_000_000_000),
        ],
        queue: Some(queue),
        jobs: vec![JobSummary { job: "letter".into(), next: Some(START), done: None, failures: 2 }],
    }
}

fn sample<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find(|line| line.rsplit_once(' ').is_some_and(|(left, _)| left == name));
    line.unwrap_or_else(|| panic!("no sample {name} in\n{text}")).rsplit_once(' ').unwrap().1
}

#[test]
fn the_example_run_as_metrics() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/example.metrics");
    expect_file![file].assert_eq(&text(&example_run()));
}

/// The figures that matter, counted by hand over the example.
#[test]
fn each_attempt_and_token_is_counted_once() {
    let text = text(&example_run());
    let rows = [
        // `call.attempt-failed` and `call.finished` both tell of it.
        (
            r#"backstop_attempts_total{provider="anthropic",model="claude-sonnet-4-5",outcome="overloaded"}"#,
            "1",
        ),
        (r#"backstop_attempts_total{provider="openai",model="gpt-5",outcome="ok"}"#, "3"),
        (r#"backstop_calls_total{model="main",role="clerk",outcome="ok"}"#, "3"),
        (r#"backstop_tokens_total{model="main",role="clerk",kind="input"}"#, "4000"),
        (r#"backstop_tokens_total{model="main",role="clerk",kind="cache-read"}"#, "600"),
        (r#"backstop_cost_usd_total{model="main",role="clerk"}"#, "0.006200002"),
        (r#"backstop_tool_calls_total{tool="write_file",outcome="ok"}"#, "1"),
        (r#"backstop_tool_calls_total{tool="send_mail",outcome="in-doubt"}"#, "1"),
        (r#"backstop_runs_finished_total{agent="librarian",role="clerk",status="done"}"#, "1"),
        (r#"backstop_runs{status="running"}"#, "0"),
        (r#"backstop_run_duration_seconds_sum{agent="librarian",status="done"}"#, "52.504"),
        (r#"backstop_call_duration_seconds_bucket{model="main",outcome="ok",le="2.56"}"#, "3"),
        (r#"backstop_call_duration_seconds_bucket{model="main",outcome="ok",le="1.28"}"#, "0"),
        (r#"backstop_runs_created_total{agent="librarian",role="clerk"}"#, "1"),
        (r#"backstop_retries_total{model="main",role="clerk"}"#, "1"),
        (r#"backstop_agent_cost_usd_total{agent="librarian"}"#, "0.006200002"),
        (r#"backstop_budget_spent_usd{account="total",per="day"}"#, "1.25"),
        (r#"backstop_budget_limit_usd{account="key/ci",per="ever"}"#, "2.0"),
        (r#"backstop_queue_tasks{state="waiting"}"#, "3"),
        ("backstop_queue_age_seconds", "1.5"),
        ("backstop_approvals_waiting", "0"),
    ];
    for (name, value) in rows {
        assert_eq!(sample(&text, name), value, "{name}");
    }
}

/// What the example run does not have: one event of every kind.
#[test]
fn failures_breakers_and_money_are_counted() {
    let mut journal = Recorder::default();
    for body in every_kind() {
        journal.at(0, &StreamId::Run("r".into()), body);
    }
    let text = text(&journal.finish());
    let rows = [
        (r#"backstop_calls_total{model="main",role="clerk",outcome="throttled"}"#, "1"),
        (r#"backstop_breaker_opened_total{provider="anthropic",model="claude-sonnet-4-5"}"#, "1"),
        (r#"backstop_key_addresses_total{key="ci"}"#, "1"),
        (r#"backstop_breaker_state{provider="anthropic",model="claude-sonnet-4-5"}"#, "2"),
        // Without the account's day, which would make a series a day.
        (r#"backstop_budget_warnings_total{account="total",percent="80"}"#, "1"),
        ("backstop_suspended_usd_total", "0.009"),
        ("backstop_overrun_usd_total", "0.000000007"),
        (r#"backstop_tool_calls_total{tool="write_file",outcome="error"}"#, "1"),
        (r#"backstop_runs{status="stopped"}"#, "1"),
        (r#"backstop_events_total{kind="lease.closed"}"#, "1"),
    ];
    for (name, value) in rows {
        assert_eq!(sample(&text, name), value, "{name}");
    }
}

/// A call outside runs is not heard of before its first failed attempt, or its end.
#[test]
fn a_call_outside_runs_is_counted_once_with_each_attempt() {
    let mut journal = Recorder::default();
    for kind in ["call.attempt-failed", "call.finished"] {
        let body = every_kind().into_iter().find(|body| body.kind() == kind).unwrap();
        journal.at(0, &StreamId::Calls, body);
    }
    let text = text(&journal.finish());
    let rows = [
        (r#"backstop_calls_total{model="main",role="clerk",outcome="ok"}"#, "1"),
        (
            r#"backstop_attempts_total{provider="anthropic",model="claude-sonnet-4-5",outcome="overloaded"}"#,
            "1",
        ),
        (r#"backstop_attempts_total{provider="openai",model="gpt-5",outcome="ok"}"#, "1"),
    ];
    for (name, value) in rows {
        assert_eq!(sample(&text, name), value, "{name}");
    }
}

#[test]
fn a_parked_run_is_counted_as_parked_until_it_goes_on() {
    let stored = example_run();
    let parked = stored.iter().position(|(event, _)| event.body.kind() == "run.parked").unwrap();
    assert_eq!(sample(&text(&stored[..=parked]), r#"backstop_runs{status="parked"}"#), "1");
    assert_eq!(sample(&text(&stored[..parked]), r#"backstop_runs{status="running"}"#), "1");
}

/// The rules of OpenMetrics that a scraper refuses a page for: each family described once and before its samples, a
/// unit that ends the name, no sample twice, buckets that never fall, `# EOF` at the end and nowhere else.
#[test]
fn the_text_keeps_the_rules() {
    let mut journal = Recorder::default();
    for body in every_kind() {
        journal.at(0, &StreamId::Run("r".into()), body);
    }
    let text = text(&journal.finish());
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1);
    let (mut families, mut samples, mut family) = (BTreeSet::new(), BTreeSet::new(), "");
    for line in text.lines() {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["#", "TYPE", name, _] => {
                assert!(families.insert(name), "{name} is described twice");
                family = name;
            }
            ["#", "UNIT", name, unit] => {
                assert!(name == family && name.ends_with(&format!("_{unit}")), "{line}");
            }
            ["#", "HELP", name, ..] => assert_eq!(name, family, "{line}"),
            ["#", "EOF"] => {}
            _ => {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(name.starts_with(family), "{line} stands under {family}");
                assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
                assert!(samples.insert(name), "{name} stands twice");
            }
        }
    }
    assert!(families.len() > 14 && samples.len() > 60, "{} {}", families.len(), samples.len());
}

#[test]
fn a_model_that_invents_tools_makes_no_endless_series() {
    let mut journal = Recorder::default();
    let stream = StreamId::Run("r".into());
    let (mut created, mut planned, mut finished) = (None, None, None);
    for body in every_kind() {
        match body {
            backstop_journal::EventBody::RunCreated(event) => created = Some(event),
            backstop_journal::EventBody::ToolPlanned(event) => planned = Some(event),
            backstop_journal::EventBody::ToolFinished(event) => finished = Some(event),
            _ => {}
        }
    }
    journal.at(0, &stream, created.unwrap());
    for i in 0..SERIES_MAX + 10 {
        let tool = format!("invented \"{i}\"\n");
        journal.at(1, &stream, ToolPlanned { tool, ..planned.clone().unwrap() });
        journal.at(2, &stream, finished.clone().unwrap());
    }
    let text = text(&journal.finish());
    assert_eq!(sample(&text, r#"backstop_tool_calls_total{tool="overflow",outcome="error"}"#), "10");
    assert!(text.contains(r#"tool="invented \"7\"\n""#));
}

/// What is shipped for Prometheus and Grafana asks for nothing that there is not: each metric it names is one of ours, and
/// so is each label that it sets a metric apart by.
#[test]
fn what_is_contributed_names_metrics_and_labels_that_there_are() {
    let mut journal = Recorder::default();
    for body in every_kind() {
        journal.at(0, &StreamId::Run("r".into()), body);
    }
    let page = text(&journal.finish());
    let samples: BTreeSet<&str> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(['{', ' ']).next().unwrap())
        .collect();
    let labels: BTreeSet<&str> = page
        .split(['{', ','])
        .filter_map(|part| part.split_once("=\""))
        .map(|(label, _)| label)
        .filter(|label| label.bytes().all(|byte| byte.is_ascii_lowercase()))
        .collect();
    for file in [
        include_str!("../../../../contrib/prometheus/backstop-alerts.yml"),
        include_str!("../../../../contrib/grafana/backstop.json"),
    ] {
        let words = file.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
        let named: BTreeSet<&str> = words.filter(|word| word.starts_with("backstop_")).collect();
        assert!(named.len() >= 9, "{named:?}");
        let unknown: Vec<_> = named.difference(&samples).collect();
        assert_eq!(unknown, Vec::<&&str>::new(), "metrics that there are not");
        let by = file.split("by (").skip(1).flat_map(|rest| rest.split(')').next().unwrap().split(", "));
        let shown = file.split("$labels.").skip(1).map(|rest| rest.split(' ').next().unwrap());
        let unknown: Vec<_> = by.chain(shown).filter(|label| !labels.contains(label)).collect();
        assert_eq!(unknown, Vec::<&str>::new(), "labels that there are not");
    }
}
