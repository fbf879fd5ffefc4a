//! `backstop keys list`: every key, how it stands and what it may do.

use crate::complaint::Stop;
use crate::home::Home;
use crate::ui::{Align, Look, Mark, Table, Tone, moment, out, tell};
use backstop_call::{Clock, Timestamp};
use backstop_journal::projections::keys::{KeyRecord, Standing};
use backstop_server::keys::{KeyWarning, KeyWatch, warnings};
use backstop_stack::SystemClock;
use serde::Serialize;
use std::process::ExitCode;

/// List keys, how they stand and what they may do
///
/// Keys whose secret is old, or that end soon, are warned of; `keys.warn-age` and `keys.warn-expiry` in the config say when.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  backstop keys list\n  backstop keys list --json | jq -r '.[] | select(.standing == \"active\") | .key'"
)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A key in the JSON.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    record: &'a KeyRecord,
    standing: Standing,
    warnings: Vec<String>,
}

pub(super) async fn main(args: &Args, home: &Home) -> Result<ExitCode, Stop> {
    let now = SystemClock::new().now();
    let watch = KeyWatch::open(home.journal()?.as_ref()).await?;
    let warnings = warnings(watch.keys(), now, &home.config.keys);
    if args.json {
        let rows: Vec<_> = watch.keys().iter().map(|record| row(record, now, &warnings)).collect();
        out(format_args!("{}\n", serde_json::to_string_pretty(&rows).map_err(std::io::Error::from)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    if watch.ring().is_empty() {
        tell("there are no keys; `backstop keys create NAME` makes one");
        return Ok(ExitCode::SUCCESS);
    }
    out(table(watch.keys().iter(), now).render(Look::of_stdout()))?;
    let mark = Look::of_stderr().mark(Mark::Warn);
    for warning in warnings {
        tell(format_args!("{mark} {warning}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn row<'a>(record: &'a KeyRecord, now: Timestamp, warnings: &[KeyWarning]) -> Row<'a> {
    let own = warnings.iter().filter(|warning| warning.key == record.key);
    let warnings = own.map(|warning| warning.worry.to_string()).collect();
    Row { record, standing: record.standing(now), warnings }
}

fn table<'a>(records: impl Iterator<Item = &'a KeyRecord>, now: Timestamp) -> Table {
    let mut table = Table::new(&[
        ("key", Align::Left),
        ("secret", Align::Left),
        ("made (utc)", Align::Left),
        ("stands", Align::Left),
        ("places", Align::Right),
        ("may", Align::Left),
    ])
    .spare(&["places", "made (utc)"]);
    for record in records {
        let standing = record.standing(now);
        let tone = match standing {
            Standing::Active => Tone::Good,
            Standing::Expired | Standing::Revoked => Tone::Dim,
        };
        table.row(vec![
            (Tone::Strong, record.key.to_string()),
            (Tone::Dim, format!("{}...", record.prefix)),
            (Tone::Dim, moment(record.secret_since).chars().take(16).collect()),
            (tone, standing.as_str().to_owned()),
            (Tone::Plain, record.addresses.len().to_string()),
            (Tone::Plain, record.scope.to_string()),
        ]);
    }
    table
}
