//! `backstop explain`: the page of an error code, or the order of the stack. Compiled in: it works without network.

use crate::complaint::Stop;
use crate::ui::{Look, Tone, out};
use backstop_call::{Code, Seed};
use backstop_stack::{Config, Parts, SystemClock, stack};
use backstop_store::{MemoryLedger, MemoryStore};
use std::process::ExitCode;
use std::sync::Arc;

/// Explain an error code, or the order of the stack
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  backstop explain BS2003\n  backstop explain stack\n  backstop explain"
)]
pub(crate) struct Args {
    /// A code like BS2003, or `stack`; all codes when left out
    what: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn main(args: &Args) -> Result<ExitCode, Stop> {
    let look = Look::of_stdout();
    match args.what.as_deref() {
        None if args.json => out(format_args!(
            "{:#}\n",
            serde_json::Value::from(Code::ALL.iter().map(|code| describe(*code)).collect::<Vec<_>>(),)
        ))?,
        None => {
            for code in Code::ALL {
                out(format_args!("{}  {}\n", look.paint(Tone::Strong, code), crate::pages::title(*code)))?;
            }
        }
        Some("stack") => explain_stack(args.json, look)?,
        Some(text) => {
            let code: Code = text.parse().map_err(|_| {
                Stop::new(Code::Usage, format!("`{text}` is no code of Backstop's"))
                    .with_hint("`backstop explain` lists them all; `backstop explain stack` prints the stack")
            })?;
            if args.json {
                out(format_args!("{:#}\n", describe(code)))?;
            } else {
                out(format_args!("{}\n", crate::pages::page(code).trim_end()))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(code: Code) -> serde_json::Value {
    serde_json::json!({
        "code": code,
        "title": crate::pages::title(code),
        "hint": code.hint(),
        "exit-code": code.exit_code(),
        "page": crate::pages::page(code),
    })
}

/// The layers, as the code that builds them tells them: nothing here knows their order.
fn explain_stack(json: bool, look: Look) -> Result<(), Stop> {
    let parts = Parts {
        clock: Arc::new(SystemClock::new()),
        seed: Arc::new(Seed::new(0)),
        journal: Arc::new(MemoryStore::new()),
        ledger: Arc::new(MemoryLedger::default()),
        budgets: Vec::new(),
        secrets: Vec::new(),
        chains: Vec::new(),
        config: Config::default(),
    };
    let stack = stack(parts);
    if json {
        let layers = serde_json::to_string_pretty(stack.order()).map_err(std::io::Error::from)?;
        out(format_args!("{layers}\n"))?;
        return Ok(());
    }
    out("A model call passes these layers, from the top:\n\n")?;
    for layer in stack.order() {
        out(format_args!(
            "  {}  {}\n",
            look.paint(Tone::Strong, format_args!("{:<10}", layer.name)),
            layer.what
        ))?;
    }
    Ok(())
}
