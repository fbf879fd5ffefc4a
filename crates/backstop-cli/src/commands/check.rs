//! `backstop check`: whether the config is right, and whether each provider can be reached with its key.

use crate::args::Global;
use crate::complaint::Stop;
use crate::engine::found;
use crate::home::Home;
use crate::ui::{Align, Look, Table, Tone, count, out, shortened, span, tell};
use backstop_call::{Clock, Code, ProviderName};
use backstop_provider::{Endpoint, HttpClient, probe};
use backstop_server::config::{Problem, ThisProcess};
use backstop_server::settings::{Plan, secrets};
use backstop_stack::{Redactor, SystemClock};
use serde_json::json;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Check the config, and probe each provider
///
/// A probe asks for the list of models: it costs no tokens. Without a config file, what was found is probed.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  backstop check\n  backstop check --offline\n  backstop check --json | jq '.providers[] | select(.ok | not)'"
)]
pub(crate) struct Args {
    /// Probe nothing: check the file only
    #[arg(long)]
    offline: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What came of one provider.
struct Probed {
    name: ProviderName,
    took: Duration,
    models: Option<usize>,
    problem: Option<Problem>,
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let home = Home::find(global)?;
    let probed = if args.offline { Vec::new() } else { probe_all(&home).await? };
    let file = home.config.file.as_ref().map(|path| path.display().to_string());
    if args.json {
        let providers: Vec<_> = probed.iter().map(as_json).collect();
        out(format_args!("{:#}\n", json!({"config": file, "providers": providers})))?;
    } else {
        let config = &home.config;
        let mut counts = vec![
            count(config.providers.len(), "provider"),
            count(config.models.len(), "model"),
            count(config.chains.len(), "chain"),
            count(config.agents.len(), "agent"),
        ];
        if !config.jobs.is_empty() {
            counts.push(count(config.jobs.len(), "job"));
        }
        let what = counts.join(", ");
        tell(match &file {
            Some(file) => format!("{file} is right: {what}"),
            None => "there is no backstop.toml; looked for what is there".to_owned(),
        });
        if !probed.is_empty() {
            out(table(&probed).render(Look::of_stdout()))?;
        }
    }
    if probed.is_empty() && !args.offline {
        // The config is right, and no run could be answered: that is worth an exit code.
        return Err(Stop::new(Code::NoProvider, "no provider was found"));
    }
    let first = probed.iter().find_map(|probed| probed.problem.as_ref());
    if let Some(problem) = first.filter(|_| !args.json) {
        tell(format_args!("hint: {}", problem.hint));
    }
    Ok(first.map_or(ExitCode::SUCCESS, |problem| ExitCode::from(problem.code.exit_code())))
}

/// Probes every provider at the same time.
async fn probe_all(home: &Home) -> Result<Vec<Probed>, Stop> {
    let clock = SystemClock::new();
    let client = HttpClient::new();
    let plan = Plan { config: &home.config, world: &ThisProcess, now: clock.now() };
    // A provider may quote the key that it refuses.
    let known = secrets(&home.config, &ThisProcess);
    let redactor = Arc::new(Redactor::new(&known, backstop_stack::layers::redact::Config::default()));
    let mut endpoints: Vec<(ProviderName, Result<Endpoint, Problem>)> =
        home.config.providers.keys().map(|name| (name.clone(), plan.endpoint(name))).collect();
    if endpoints.is_empty() {
        endpoints = found(&clock)
            .await?
            .into_iter()
            .map(|one| (one.endpoint.name.clone(), Ok(one.endpoint)))
            .collect();
    }
    let mut probes = tokio::task::JoinSet::new();
    for (n, (name, endpoint)) in endpoints.into_iter().enumerate() {
        let (client, redactor) = (client.clone(), Arc::clone(&redactor));
        probes.spawn(async move {
            let endpoint = match endpoint {
                Ok(endpoint) => endpoint,
                Err(problem) => {
                    return (n, Probed { name, took: Duration::ZERO, models: None, problem: Some(problem) });
                }
            };
            match probe(&client, &endpoint, &SystemClock::new()).await {
                Ok(report) => {
                    let models = report.models.map(|models| models.len());
                    (n, Probed { name, took: report.took, models, problem: None })
                }
                Err(failure) => {
                    let problem = Problem::new(failure.code(), redactor.text(&failure.detail.message));
                    (n, Probed { name, took: Duration::ZERO, models: None, problem: Some(problem) })
                }
            }
        });
    }
    let mut probed = probes.join_all().await;
    probed.sort_by_key(|(n, _)| *n);
    Ok(probed.into_iter().map(|(_, probed)| probed).collect())
}

fn table(probed: &[Probed]) -> Table {
    let mut table = Table::new(&[
        ("provider", Align::Left),
        ("answer", Align::Left),
        ("time", Align::Right),
        ("models", Align::Right),
        ("why", Align::Left),
    ]);
    for one in probed {
        let (tone, answer) = match &one.problem {
            None => (Tone::Good, "ok".to_owned()),
            Some(problem) => (Tone::Bad, problem.code.to_string()),
        };
        let took = if one.problem.is_none() { span(one.took) } else { String::new() };
        let why = one.problem.as_ref().map_or_else(String::new, |problem| shortened(&problem.message, 80));
        table.row(vec![
            (Tone::Plain, one.name.to_string()),
            (tone, answer),
            (Tone::Plain, took),
            (Tone::Plain, one.models.map_or_else(String::new, |models| models.to_string())),
            (Tone::Dim, why),
        ]);
    }
    table
}

fn as_json(one: &Probed) -> serde_json::Value {
    json!({
        "provider": one.name,
        "ok": one.problem.is_none(),
        "took_ms": u64::try_from(one.took.as_millis()).unwrap_or(u64::MAX),
        "models": one.models,
        "code": one.problem.as_ref().map(|problem| problem.code),
        "message": one.problem.as_ref().map(|problem| &problem.message),
    })
}
