//! `backstop stats`: how it goes, in numbers. They are those of the dashboard and of `/metrics`.

use crate::args::Global;
use crate::complaint::Stop;
use crate::home::Home;
use crate::ui::{Align, Look, Table, Tone, moment, out, shortened, span, tokens};
use backstop_agent::visible_line;
use backstop_call::{Clock, Money};
use backstop_journal::projections::numbers::{By, Figures, Percentiles, Row, Spread, Window};
use backstop_server::config::{Dollars, Span};
use backstop_stack::SystemClock;
use clap::ValueEnum;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

/// Show what was done, how well, how fast, and for how much
///
/// The numbers are counted from the journal, by minute, hour and day: a span is widened to whole minutes, one that begins
/// more than three days ago to whole hours, and one that begins more than ninety days ago to whole days (`[numbers]` in the
/// config). Durations are at most 3.2 % off.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  backstop stats\n  backstop stats --since 7d --by day\n  backstop stats --by model --json"
)]
pub(crate) struct Args {
    /// The last span, like 90m, 24h or 30d
    #[arg(long, value_name = "SPAN", default_value = "24h")]
    since: Span,
    /// A row for each of these
    #[arg(long, value_name = "WHAT", value_enum)]
    by: Option<Apart>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Apart {
    Model,
    Provider,
    Role,
    Agent,
    Key,
    Tool,
    Day,
}

impl From<Apart> for By {
    fn from(apart: Apart) -> Self {
        match apart {
            Apart::Model => Self::Model,
            Apart::Provider => Self::Provider,
            Apart::Role => Self::Role,
            Apart::Agent => Self::Agent,
            Apart::Key => Self::Key,
            Apart::Tool => Self::Tool,
            Apart::Day => Self::Day,
        }
    }
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let numbers = Home::find(global)?.numbers().await?;
    let now = SystemClock::new().now();
    let by = args.by.map_or(By::All, By::from);
    let window = numbers.window(now - args.since.0, now, by).await?;
    let shown = match (args.json, by) {
        (true, _) => format!("{:#}\n", json_of(&window)),
        (false, By::All) => whole(&window),
        (false, By::Tool) => tools(&window).render(Look::of_stdout()),
        (false, _) => rows(&window).render(Look::of_stdout()),
    };
    out(shown)?;
    Ok(ExitCode::SUCCESS)
}

/// Nothing set apart: a list of what there is to say.
fn whole(window: &Window) -> String {
    let look = Look::of_stdout();
    let figures = window.rows.first().map(|row| row.figures.clone()).unwrap_or_default();
    let mut lines = vec![
        ("from", format!("{} to {} UTC", moment(window.since), moment(window.until))),
        ("runs", runs(&figures)),
        ("calls", calls(&figures)),
        ("attempts", attempts(&figures)),
        ("tokens", used(&figures)),
        ("cost", figures.cost.to_string()),
        ("run time", times(&figures.run_took)),
        ("call time", times(&figures.call_took)),
        ("first token", times(&figures.first_token)),
        ("tools", done_by_tools(&figures)),
        ("approvals", asked(&figures)),
    ];
    if figures.budget_warnings + figures.new_addresses > 0 {
        let (warnings, addresses) = (figures.budget_warnings, figures.new_addresses);
        lines.push(("notes", format!("{warnings} budget warnings, {addresses} new addresses of keys")));
    }
    let line =
        |(name, text): (&str, String)| format!("{} {text}\n", look.paint(Tone::Dim, format!("{name:<11}")));
    lines.into_iter().map(line).collect()
}

fn runs(figures: &Figures) -> String {
    let ended = named(figures.runs_ended.iter());
    let share = figures
        .success_permille()
        .map_or(String::new(), |share| format!(", {} of them done", percent(share)));
    format!("{} created; ended: {ended}{share}", figures.runs_created)
}

fn calls(figures: &Figures) -> String {
    match figures.failed_calls() {
        0 => format!("{} answered, none failed", figures.calls_ok),
        failed => {
            format!("{} answered, {failed} failed: {}", figures.calls_ok, named(figures.calls_failed.iter()))
        }
    }
}

fn attempts(figures: &Figures) -> String {
    let failed = named(figures.attempts_failed.iter());
    format!("{} answered; failed: {failed}; {} retries", figures.attempts_ok, figures.retries)
}

fn used(figures: &Figures) -> String {
    let used = &figures.tokens;
    format!(
        "{} in + {} out, {} read from and {} written to the cache",
        tokens(used.input),
        tokens(used.output),
        tokens(used.cache_read),
        tokens(used.cache_write)
    )
}

fn done_by_tools(figures: &Figures) -> String {
    let (ok, failed, doubt) = (figures.tools_ok, figures.tools_failed, figures.tools_in_doubt);
    format!("{ok} ok, {failed} failed, {doubt} in doubt; {}", times(&figures.tool_took))
}

fn asked(figures: &Figures) -> String {
    format!("{} asked; answered: {}", figures.approvals_asked, named(figures.approvals_decided.iter()))
}

/// `3 done, 1 failed`.
fn named<'a>(counts: impl Iterator<Item = (&'a String, &'a u64)>) -> String {
    let parts: Vec<_> = counts.map(|(name, count)| format!("{count} {name}")).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

fn times(spread: &Spread) -> String {
    let Percentiles { p50: Some(p50), p95: Some(p95), p99: Some(p99) } = spread.into() else {
        return "-".to_owned();
    };
    format!("half within {}, 95 % within {}, 99 % within {}", span(p50), span(p95), span(p99))
}

fn percent(permille: u64) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

fn rows(window: &Window) -> Table {
    let mut table = Table::new(&[
        (head(window.by), Align::Left),
        ("runs", Align::Right),
        ("done", Align::Right),
        ("calls", Align::Right),
        ("failed", Align::Right),
        ("retries", Align::Right),
        ("in", Align::Right),
        ("out", Align::Right),
        ("cost", Align::Right),
        ("p50", Align::Right),
        ("p95", Align::Right),
        ("first p95", Align::Right),
    ])
    .spare(&["retries", "first p95", "in", "out", "p50"]);
    for Row { name, figures } in &window.rows {
        let (took, first) = (Percentiles::from(&figures.call_took), Percentiles::from(&figures.first_token));
        let plain = |text: String| (Tone::Plain, text);
        table.row(vec![
            (Tone::Strong, called(name)),
            plain(figures.runs_created.to_string()),
            plain(figures.ended("done").to_string()),
            plain(figures.calls().to_string()),
            (
                if figures.failed_calls() > 0 { Tone::Bad } else { Tone::Plain },
                figures.failed_calls().to_string(),
            ),
            plain(figures.retries.to_string()),
            plain(tokens(figures.tokens.input + figures.tokens.cache_read + figures.tokens.cache_write)),
            plain(tokens(figures.tokens.output)),
            plain(figures.cost.to_string()),
            plain(time(took.p50)),
            plain(time(took.p95)),
            plain(time(first.p95)),
        ]);
    }
    table
}

fn tools(window: &Window) -> Table {
    let columns = [
        ("tool", Align::Left),
        ("ok", Align::Right),
        ("failed", Align::Right),
        ("in doubt", Align::Right),
        ("asked", Align::Right),
        ("p50", Align::Right),
        ("p95", Align::Right),
    ];
    let mut table = Table::new(&columns);
    for Row { name, figures } in &window.rows {
        let took = Percentiles::from(&figures.tool_took);
        let plain = |text: String| (Tone::Plain, text);
        table.row(vec![
            (Tone::Strong, called(name)),
            plain(figures.tools_ok.to_string()),
            (
                if figures.tools_failed > 0 { Tone::Bad } else { Tone::Plain },
                figures.tools_failed.to_string(),
            ),
            plain(figures.tools_in_doubt.to_string()),
            plain(figures.approvals_asked.to_string()),
            plain(time(took.p50)),
            plain(time(took.p95)),
        ]);
    }
    table
}

fn head(by: By) -> &'static str {
    match by {
        By::All => "",
        By::Model => "model",
        By::Provider => "provider",
        By::Role => "role",
        By::Agent => "agent",
        By::Key => "key",
        By::Tool => "tool",
        By::Day => "day (utc)",
    }
}

/// A name that a model may have written.
fn called(name: &str) -> String {
    if name.is_empty() { "-".to_owned() } else { shortened(&visible_line(name), 40) }
}

fn time(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), span)
}

fn json_of(window: &Window) -> Value {
    let rows: Vec<_> = window
        .rows
        .iter()
        .map(|row| {
            let mut figures = json_of_figures(&row.figures);
            if window.by != By::All {
                figures["name"] = Value::from(row.name.as_str());
            }
            figures
        })
        .collect();
    json!({
        "since": window.since.rfc3339(),
        "until": window.until.rfc3339(),
        "by": window.by,
        "rows": rows,
    })
}

fn json_of_figures(figures: &Figures) -> Value {
    let times = |spread: &Spread| {
        let ms =
            |time: Option<Duration>| time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let Percentiles { p50, p95, p99 } = spread.into();
        json!({"count": spread.count(), "p50_ms": ms(p50), "p95_ms": ms(p95), "p99_ms": ms(p99)})
    };
    let dollars = |amount: Money| Dollars(amount).to_string().trim_start_matches('$').to_owned();
    let cost = figures.cost;
    json!({
        "runs": {"created": figures.runs_created, "ended": figures.runs_ended, "success_permille": figures.success_permille(),
            "took": times(&figures.run_took)},
        "calls": {"ok": figures.calls_ok, "failed": figures.calls_failed, "retries": figures.retries,
            "took": times(&figures.call_took), "first_token": times(&figures.first_token)},
        "attempts": {"ok": figures.attempts_ok, "failed": figures.attempts_failed},
        "tokens": figures.tokens,
        "cost_usd": dollars(cost),
        "cost_nanos": cost.nanos(),
        "tools": {"ok": figures.tools_ok, "failed": figures.tools_failed, "in_doubt": figures.tools_in_doubt,
            "took": times(&figures.tool_took)},
        "approvals": {"asked": figures.approvals_asked, "decided": figures.approvals_decided},
        "budget_warnings": figures.budget_warnings,
        "new_addresses": figures.new_addresses,
    })
}
