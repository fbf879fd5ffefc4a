//! `backstop sim`: a simulated provider over real HTTP, for trying things out and for tests in any language.

use crate::complaint::Stop;
use crate::engine::start_sim;
use crate::signals::asked_to_end;
use crate::ui::{Look, Mark, out, tell};
use backstop_call::Code;
use backstop_sim::{Scenario, SimConfig};
use backstop_stack::SystemClock;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

/// Serve a simulated provider that fails on schedule
///
/// It speaks Anthropic Messages and OpenAI Chat Completions, has a model that uses the tools it is given, and keeps a bill
/// of its own. What it does is decided by the seed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  backstop sim
  backstop sim --listen 127.0.0.1:8089 --scenario storm --seed 7
  ANTHROPIC_BASE_URL=http://127.0.0.1:8089 ANTHROPIC_API_KEY=any backstop run \"Summarise notes.md into out.md\"")]
pub(crate) struct Args {
    /// Listen here; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8089")]
    listen: SocketAddr,
    /// Fail by this schedule: calm, storm, outage, flaky, hostile, or a file
    #[arg(long, value_name = "NAME|FILE", default_value = "calm")]
    scenario: String,
    /// Draw everything from this number
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print the bill at the end as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn main(args: Args) -> Result<ExitCode, Stop> {
    let scenario = Scenario::open(&args.scenario).map_err(|error| {
        let why = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
        Stop::new(Code::Usage, format!("{error}{why}"))
            .with_hint(format!("take one of {}", Scenario::NAMES.join(", ")))
    })?;
    let mut config = SimConfig::new(Arc::new(SystemClock::new()));
    config.listen = args.listen;
    config.seed = args.seed;
    config.scenario = scenario;
    let sim = start_sim(config).await?;
    let look = Look::of_stderr();
    tell(format_args!(
        "{} the simulated provider listens on http://{}; Ctrl-C ends it",
        look.mark(Mark::Good),
        sim.addr()
    ));
    tell(format_args!(
        "  ANTHROPIC_BASE_URL=http://{0} or OPENAI_BASE_URL=http://{0}/v1, any key",
        sim.addr()
    ));
    asked_to_end().await;
    let bill = sim.shutdown().await;
    if args.json {
        out(format_args!("{}\n", serde_json::to_string_pretty(&bill).map_err(std::io::Error::from)?))?;
    } else {
        tell(format_args!(
            "billed {} for {} requests, {} in + {} out tokens",
            bill.total, bill.requests, bill.input_tokens, bill.output_tokens
        ));
    }
    Ok(ExitCode::SUCCESS)
}
