//! `backstop tools`: which tools there are, what each declares, and what becomes of a call of it.

mod mcp;
mod one;

use crate::args::Global;
use crate::complaint::Stop;
use crate::home::Home;
use crate::ui::{Align, Look, Table, Tone, out};
use backstop_agent::Toolbox;
use backstop_agent::tools::{Delegate, SubmitTask, add_file_tools};
use backstop_agent::{DELEGATE, SUBMIT, Tool};
use backstop_label::{Class, Decision, Declaration, Effect, Facts, Gate, Labels, Policy};
use backstop_server::config::Config;
use backstop_server::config::policy::policy;
use backstop_server::tools::declared;
use backstop_tools::mcp::name_for_models;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::sync::Arc;

/// List the tools that agents may be given, and look after those of MCP servers
///
/// What a call would meet is told for trusted text and the role `default`: a gate with a condition is named, since what it
/// does depends on the call. No server is connected for the list; the tools of MCP servers in it are those that the config lists.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_long_help = "Examples:
  backstop tools
  backstop tools write_file
  backstop tools files__read_text_file --json
  backstop tools mcp
  backstop tools accept files read_text_file"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Only this tool, with all that is known of it
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Connect the MCP servers, and tell what each offers and what is held back
    Mcp {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what changed in the definition of an MCP tool, and accept it
    Accept {
        /// The server, by its name in the config
        server: String,
        /// The tool, by the server's own name
        tool: String,
        /// Do not ask whether what is shown is right
        #[arg(long)]
        yes: bool,
    },
}

/// A tool, as far as the config says.
struct Known {
    name: String,
    from: String,
    declaration: Declaration,
    reversible: bool,
}

/// What a call meets, as far as it does not depend on the call.
struct Meets {
    decision: Decision,
    /// Gates with a condition that may decide instead.
    or: Vec<String>,
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let home = Home::find(global)?;
    match (args.what, args.name) {
        (Some(What::Mcp { json }), _) => mcp::report(&home, json).await,
        (Some(What::Accept { server, tool, yes }), _) => mcp::accept(&home, &server, &tool, yes).await,
        (None, Some(name)) => one::show(&home, &name, args.json).await,
        (None, None) => list(&home.config, args.json),
    }
}

fn list(config: &Config, json: bool) -> Result<ExitCode, Stop> {
    let policy = policy(&config.roles, &config.gates);
    let known = known(config);
    if json {
        let all: Vec<_> = known.iter().map(|one| as_json(one, &policy)).collect();
        out(format_args!("{:#}\n", Value::from(all)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let columns =
        ["tool", "class", "reaches", "can be undone", "a call", "from"].map(|head| (head, Align::Left));
    let mut table = Table::new(&columns).spare(&["can be undone"]);
    for one in &known {
        let meets = meets(one, &policy);
        table.row(vec![
            (Tone::Strong, one.name.clone()),
            (Tone::Plain, word(one.declaration.class)),
            (Tone::Plain, word(one.declaration.effect)),
            (Tone::Dim, if one.reversible { "yes" } else { "no" }.to_owned()),
            meets.cell(),
            (Tone::Dim, one.from.clone()),
        ]);
    }
    out(table.render(Look::of_stdout()))?;
    Ok(ExitCode::SUCCESS)
}

/// Every tool that is made here, ready to be looked at.
fn made(config: &Config) -> Vec<(Arc<dyn Tool>, &'static str)> {
    let mut files = Toolbox::new();
    add_file_tools(&mut files)
        .expect("the built-in tools have names of their own and schemas that are tested");
    let names: Vec<_> = files.names().map(str::to_owned).collect();
    let files = names.iter().filter_map(|name| files.tool(name)).map(|tool| (tool, "built in"));
    let agents = config.agents.iter().map(|(name, agent)| {
        (name.as_str(), agent.description.as_deref().unwrap_or_else(|| agent.role.as_str()))
    });
    let given: [Arc<dyn Tool>; 2] =
        [Arc::new(Delegate::to(agents.clone())), Arc::new(SubmitTask::to(agents))];
    let given = given.into_iter().filter(|_| !config.agents.is_empty()).map(|tool| (tool, "agents"));
    files.chain(given).chain(declared(config).into_iter().map(|tool| (tool, "config"))).collect()
}

fn known(config: &Config) -> Vec<Known> {
    let here = made(config).into_iter().map(|(tool, from)| Known {
        name: tool.spec().name,
        from: from.to_owned(),
        declaration: tool.declaration().clone(),
        // What a part did is taken back with the call that gave it out, and a task that has not begun with the one that put it in.
        reversible: tool.undoing().is_some() || matches!(&*tool.spec().name, DELEGATE | SUBMIT),
    });
    let there = config.mcp.iter().flat_map(|(server, grant)| {
        grant.tools.iter().map(move |(tool, grant)| Known {
            name: name_for_models(server, tool),
            from: format!("MCP server {server}"),
            declaration: grant.declaration(),
            reversible: false,
        })
    });
    here.chain(there).collect()
}

fn meets(known: &Known, policy: &Policy) -> Meets {
    let (args, labels) = (json!({}), Labels::default());
    let facts = Facts {
        tool: &known.name,
        args: &args,
        class: known.declaration.class,
        effect: known.declaration.effect,
        reversible: known.reversible,
        labels: &labels,
        role: "default",
        agent: "default",
        cost_nanos: 0,
        call_cost_nanos: None,
    };
    let (open, conditional): (Vec<_>, Vec<_>) =
        policy.gates.iter().cloned().partition(|gate| gate.when.is_none());
    let about = |gate: &Gate| Gate { when: None, ..gate.clone() }.fits(&facts);
    let or = conditional.iter().filter(|gate| about(gate)).map(|gate| gate.name.clone()).collect();
    Meets { decision: Policy { gates: open, ..Policy::default() }.decide(&facts, &[]), or }
}

impl Meets {
    fn verb(&self) -> &'static str {
        match self.decision {
            Decision::Run => "runs",
            Decision::Ask { .. } => "asks",
            Decision::Deny { .. } => "is refused",
        }
    }

    fn why(&self) -> Option<&str> {
        match &self.decision {
            Decision::Run => None,
            Decision::Ask { why, .. } | Decision::Deny { why } => Some(why),
        }
    }

    /// In words, with the gates that may decide otherwise.
    fn told(&self) -> String {
        let why = self.why().map_or_else(String::new, |why| format!(": {why}"));
        let or = match self.or.as_slice() {
            [] => String::new(),
            gates => format!("; a condition decides first in: {}", gates.join(", ")),
        };
        format!("{}{why}{or}", self.verb())
    }

    fn cell(&self) -> (Tone, String) {
        let tone = match self.decision {
            Decision::Run => Tone::Plain,
            Decision::Ask { .. } => Tone::Warn,
            Decision::Deny { .. } => Tone::Bad,
        };
        let or = if self.or.is_empty() { "" } else { ", or by a condition" };
        (tone, format!("{}{or}", self.verb()))
    }
}

fn as_json(one: &Known, policy: &Policy) -> Value {
    let meets = meets(one, policy);
    json!({
        "tool": one.name,
        "from": one.from,
        "class": one.declaration.class,
        "effect": one.declaration.effect,
        "reversible": one.reversible,
        "call": meets.verb(),
        "why": meets.why(),
        "conditions": meets.or,
    })
}

/// The word that a config has for a class or an effect.
fn word(value: impl Into<Word>) -> String {
    let Word(value) = value.into();
    value.as_str().unwrap_or_default().to_owned()
}

struct Word(Value);

impl From<Class> for Word {
    fn from(class: Class) -> Self {
        Self(json!(class))
    }
}

impl From<Effect> for Word {
    fn from(effect: Effect) -> Self {
        Self(json!(effect))
    }
}
