//! `backstop tools NAME`: all that is known of one tool.

#![expect(clippy::format_push_string, reason = "a few lines, once per command")]

use super::{Known, as_json, known, made, meets, word};
use crate::complaint::Stop;
use crate::home::Home;
use crate::toolset::{Lacking, tools};
use crate::ui::{Look, Tone, out};
use backstop_agent::{Tool, visible};
use backstop_call::{Code, ToolSpec};
use backstop_label::{ConstraintText, Pattern, RightsText};
use backstop_server::config::policy::policy;
use backstop_server::config::{Config, Problem, allowed};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::sync::Arc;

/// Shows a tool. One of an MCP server is asked for there.
pub(super) async fn show(home: &Home, name: &str, json: bool) -> Result<ExitCode, Stop> {
    let all = known(&home.config);
    let Some(tool) = find(home, name).await? else {
        let names = all.iter().map(|known| known.name.as_str());
        let problem = Problem::new(Code::UnknownTool, format!("there is no tool `{name}`"));
        return Err(problem.with_hint(allowed("tools", name, names)).into());
    };
    let listed = all.into_iter().find(|known| known.name == name);
    let one = listed.unwrap_or_else(|| Known {
        name: name.to_owned(),
        from: "an MCP server that need not list its tools".to_owned(),
        declaration: tool.declaration().clone(),
        reversible: tool.undoing().is_some(),
    });
    let spec = tool.spec();
    if json {
        out(format_args!("{:#}\n", whole(&home.config, &one, &spec)))?;
    } else {
        out(told(&home.config, &one, &spec, Look::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn find(home: &Home, name: &str) -> Result<Option<Arc<dyn Tool>>, Stop> {
    let here = made(&home.config).into_iter().map(|(tool, _)| tool).find(|tool| tool.spec().name == name);
    match here {
        Some(tool) => Ok(Some(tool)),
        None => Ok(tools(home, &[name.to_owned()], Lacking::Stops).await?.into_iter().next()),
    }
}

fn whole(config: &Config, one: &Known, spec: &ToolSpec) -> Value {
    let mut whole = as_json(one, &policy(&config.roles, &config.gates));
    let roles: Vec<_> = config
        .roles
        .iter()
        .map(|(role, rights)| {
            let rights: Vec<_> =
                constraints(rights, &one.name).into_iter().map(|(_, text)| json!(text)).collect();
            json!({"role": role, "has": !rights.is_empty(), "constraints": rights})
        })
        .collect();
    whole["description"] = json!(spec.description);
    whole["schema"] = spec.schema.clone();
    whole["declaration"] = json!(one.declaration);
    whole["roles"] = json!(roles);
    whole
}

fn told(config: &Config, one: &Known, spec: &ToolSpec, look: Look) -> String {
    let dim = |text: &str| look.paint(Tone::Dim, format!("{text:<12}"));
    let declaration = &one.declaration;
    let mut text = format!(
        "{} {}\n",
        look.paint(Tone::Strong, &one.name),
        look.paint(Tone::Dim, format!("({})", one.from))
    );
    for line in visible(&spec.description).lines() {
        text += &format!("  {line}\n");
    }
    text += &format!("  {} {}\n", dim("class"), word(declaration.class));
    text += &format!("  {} {}\n", dim("reaches"), word(declaration.effect));
    text +=
        &format!("  {} {}\n", dim("undo"), if one.reversible { "a call can be taken back" } else { "none" });
    let output =
        format!("{}, {}", plain(&json!(declaration.integrity)), plain(&json!(declaration.confidentiality)));
    text += &format!("  {} {output}\n", dim("output"));
    text += &format!("  {} {}\n", dim("a call"), meets(one, &policy(&config.roles, &config.gates)).told());
    for (argument, role) in &declaration.args {
        text += &format!("  {} {argument}: {}\n", dim("argument"), plain(&json!(role)));
    }
    for (role, rights) in &config.roles {
        let rights = constraints(rights, &one.name);
        if rights.is_empty() {
            text += &format!("  {} {role}: does not have it\n", dim("role"));
        }
        for (_, constraint) in rights {
            text += &format!("  {} {role}: {}\n", dim("role"), bounds(constraint));
        }
    }
    text += &format!("{}\n", visible(&format!("{:#}", spec.schema)));
    text
}

/// What a role's rights say of a tool, by the pattern that they say it of.
fn constraints<'a>(rights: &'a RightsText, name: &str) -> Vec<(&'a str, &'a ConstraintText)> {
    let fits = |pattern: &str| Pattern::parse(pattern).is_ok_and(|pattern| pattern.fits(name));
    let all = rights.0.iter().map(|(pattern, text)| (pattern.as_str(), text));
    all.filter(|(pattern, _)| fits(pattern)).collect()
}

fn bounds(constraint: &ConstraintText) -> String {
    let args =
        constraint.args.iter().map(|(name, patterns)| format!("{name} fits {}", patterns.join(" or ")));
    let when = constraint.when.iter().map(|when| format!("only when {when}"));
    let all: Vec<_> = args.chain(when).collect();
    if all.is_empty() { "any arguments".to_owned() } else { all.join("; ") }
}

/// A word as it is, anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
