//! `backstop grants`: what was allowed beforehand, and the end of it.

use crate::args::Global;
use crate::complaint::Stop;
use crate::engine::open_idle;
use crate::home::{Home, person};
use crate::outcome::refused;
use crate::ui::{Align, Look, Mark, Table, Tone, count, moment, out, tell};
use backstop_call::{Clock, Code};
use backstop_journal::StreamId;
use backstop_journal::event::{GrantCreated, GrantScope};
use backstop_journal::projections::grants::{Grant, Grants};
use backstop_stack::SystemClock;
use serde_json::json;
use std::process::ExitCode;

/// List what was allowed beforehand, and end it
///
/// `backstop approvals approve ID --rest N` allows the rest of a kind of call for a while.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  backstop grants\n  backstop grants --all --json\n  backstop grants revoke 01k4"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Also those that are used up, over or ended
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// End a grant: from now on such calls ask again
    Revoke {
        /// The grant, or the beginning of its id
        id: String,
    },
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let home = Home::find(global)?;
    let grants = Grants::fold(&home.journal()?.read(&StreamId::Grants, 0).await?);
    match args.what {
        None => list(&grants, args.all, args.json),
        Some(What::Revoke { id }) => revoke(&home, &grants, &id).await,
    }
}

fn list(grants: &Grants, all: bool, json: bool) -> Result<ExitCode, Stop> {
    let now = SystemClock::new().now();
    let shown: Vec<_> = grants.0.values().filter(|grant| all || grant.is_good(now)).collect();
    if json {
        out(format_args!("{:#}\n", json!(shown)))?;
        return Ok(ExitCode::SUCCESS);
    }
    if shown.is_empty() {
        tell("nothing is allowed beforehand");
        return Ok(ExitCode::SUCCESS);
    }
    let columns =
        ["grant", "tool", "for", "left", "until (utc)", "by", "state"].map(|head| (head, Align::Left));
    let mut table = Table::new(&columns).spare(&["by"]);
    for grant in shown {
        let good = grant.is_good(now);
        table.row(vec![
            (Tone::Strong, grant.created.grant.to_string()),
            (Tone::Plain, grant.created.tool.clone()),
            (Tone::Plain, scope(&grant.created.scope)),
            (Tone::Plain, format!("{} of {}", grant.left(), grant.created.uses)),
            (Tone::Dim, moment(grant.created.until).chars().take(16).collect()),
            (Tone::Dim, grant.created.by.clone()),
            (if good { Tone::Good } else { Tone::Dim }, state(grant, good)),
        ]);
    }
    out(table.render(Look::of_stdout()))?;
    Ok(ExitCode::SUCCESS)
}

fn state(grant: &Grant, good: bool) -> String {
    match &grant.revoked {
        Some(by) => format!("ended by {by}"),
        None if good => "good".to_owned(),
        None if grant.left() == 0 => "used up".to_owned(),
        None => "over".to_owned(),
    }
}

fn scope(scope: &GrantScope) -> String {
    match scope {
        GrantScope::Run(run) => format!("run {run}"),
        GrantScope::Agent(agent) => format!("agent {agent}"),
    }
}

/// What a grant allows, in words.
pub(crate) fn allowed(granted: &GrantCreated) -> String {
    let args = granted.constraint.args.iter().map(|(arg, patterns)| match patterns.as_slice() {
        [] => format!("no `{arg}`"),
        some => format!("`{arg}` {}", some.join(" or ")),
    });
    let parts: Vec<_> = args.chain(granted.constraint.when.clone()).collect();
    let like = if parts.is_empty() { String::new() } else { format!(" with {}", parts.join(", ")) };
    format!(
        "{} of {}{like} allowed for {} until {}",
        count(usize::try_from(granted.uses).unwrap_or(usize::MAX), "more call"),
        granted.tool,
        scope(&granted.scope),
        moment(granted.until)
    )
}

async fn revoke(home: &Home, grants: &Grants, prefix: &str) -> Result<ExitCode, Stop> {
    let prefix = prefix.trim().to_lowercase();
    let fits: Vec<_> = grants.0.keys().filter(|grant| grant.as_str().starts_with(&prefix)).collect();
    let [grant] = fits[..] else {
        let found = count(fits.len(), "grant");
        return Err(Stop::new(Code::Usage, format!("{found} have an id that begins with `{prefix}`")));
    };
    let by = person();
    let opened = open_idle(home, Vec::new()).await?;
    let revoked = opened.backstop.revoke(grant, (&by, "terminal")).await;
    opened.close().await;
    revoked.map_err(|error| refused(None, &error))?;
    tell(format_args!("{} grant {grant} is ended", Look::of_stderr().mark(Mark::Good)));
    Ok(ExitCode::SUCCESS)
}
