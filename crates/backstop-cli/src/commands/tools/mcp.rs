//! `backstop tools mcp` and `accept`: what MCP servers offer, what is held back, and a person's yes to a definition.

#![expect(clippy::format_push_string, reason = "a few lines, once per server")]

use crate::complaint::Stop;
use crate::helper::helpers;
use crate::home::Home;
use crate::prompt;
use crate::toolset::{changed, connected};
use crate::ui::{Look, Mark, Tone, out, tell};
use backstop_agent::{visible, visible_line};
use backstop_call::Code;
use backstop_server::config::{Problem, ThisProcess, allowed};
use backstop_server::tools::servers;
use backstop_tools::mcp::{McpReport, McpServer, Quarantined};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Connects every server, and tells what it gives. The answer is no when one cannot be used, or has tools that wait.
pub(super) async fn report(home: &Home, json: bool) -> Result<ExitCode, Stop> {
    let (servers, problems) = servers(&home.config, &ThisProcess, &helpers(), None);
    let reports = connected(home, &servers).await?;
    if json {
        let all: Vec<_> = reports.iter().map(as_json).collect();
        out(format_args!("{:#}\n", Value::from(all)))?;
    } else if home.config.mcp.is_empty() {
        tell("the config names no MCP server");
    } else {
        let look = Look::of_stdout();
        reports.iter().try_for_each(|report| out(told(report, look)))?;
    }
    if !problems.is_empty() {
        return Err(Stop::Problems(problems));
    }
    let is_whole = |report: &McpReport| report.failure.is_none() && report.quarantined.is_empty();
    Ok(if reports.iter().all(is_whole) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Shows what is another than it was, and accepts it after a yes.
pub(super) async fn accept(home: &Home, server: &str, tool: &str, yes: bool) -> Result<ExitCode, Stop> {
    let (server, report) = connect(home, server).await?;
    let name = server.name();
    if let Some(why) = &report.failure {
        let message = format!("MCP server {name}: {}", visible_line(why));
        return Err(
            Stop::new(Code::UnknownTool, message).with_hint("see that the server works, then ask again")
        );
    }
    let Some(waits) = report.quarantined.iter().find(|waits| waits.definition.name == tool) else {
        let names = report.quarantined.iter().map(|waits| waits.definition.name.as_str());
        let problem = Problem::new(
            Code::UnknownTool,
            format!("no tool `{tool}` of MCP server {name} waits to be accepted"),
        );
        return Err(problem.with_hint(allowed("tools that wait", tool, names)).into());
    };
    let look = Look::of_stdout();
    out(format_args!("{name} {} {}\n", visible_line(tool), changed(waits.accepted.is_some())))?;
    out(format_args!("{}\n", difference(waits, look)))?;
    if !yes && !prompt::yes("accept exactly this?") {
        tell("nothing was accepted");
        return Ok(ExitCode::from(Code::Cancelled.exit_code()));
    }
    server.accept(waits).await.map_err(|error| Stop::new(Code::Internal, error.to_string()))?;
    tell(format_args!("{} it is offered from the next run on", Look::of_stderr().mark(Mark::Good)));
    Ok(ExitCode::SUCCESS)
}

async fn connect(home: &Home, name: &str) -> Result<(McpServer, McpReport), Stop> {
    let configured = &home.config.mcp;
    if !configured.contains_key(name) {
        let problem = Problem::new(Code::UnknownTool, format!("there is no MCP server `{name}`"));
        return Err(problem
            .with_hint(allowed("servers", name, configured.keys().map(String::as_str)))
            .into());
    }
    // Any name of a tool of it asks for it, and for no other.
    let wanted = [format!("{name}__")];
    let (servers, problems) = servers(&home.config, &ThisProcess, &helpers(), Some(&wanted));
    let reports = connected(home, &servers).await?;
    servers.into_iter().zip(reports).next().ok_or(Stop::Problems(problems))
}

fn told(report: &McpReport, look: Look) -> String {
    let mut text = format!("{}\n", look.paint(Tone::Strong, &report.server));
    let mut line = |mark: Mark, name: &str, what: &str| {
        text += &format!("  {} {} {what}\n", look.mark(mark), visible_line(name));
    };
    if let Some(why) = &report.failure {
        line(Mark::Bad, "cannot be used:", &visible_line(why));
    }
    for tool in &report.tools {
        line(Mark::Good, &tool.spec().name, "");
    }
    for waits in &report.quarantined {
        let (tool, server) = (&waits.definition.name, &report.server);
        let what = format!(
            "{}: `backstop tools accept {server} {}`",
            changed(waits.accepted.is_some()),
            visible_line(tool)
        );
        line(Mark::Wait, tool, &what);
    }
    for (tool, why) in &report.left_out {
        line(Mark::Bad, tool, &format!("is left out: {}", visible_line(why)));
    }
    for tool in &report.unlisted {
        line(Mark::Step, tool, "is not listed in the config");
    }
    for tool in &report.missing {
        line(Mark::Bad, tool, "is listed in the config, and the server does not have it");
    }
    text
}

/// The lines that are another than they were. What nobody sees is written out in it already.
fn difference(waits: &Quarantined, look: Look) -> String {
    let tone = |line: &str| match line.chars().next() {
        Some('+') => Tone::Good,
        Some('-') => Tone::Bad,
        _ => Tone::Plain,
    };
    let difference = waits.difference();
    difference.lines().map(|line| look.paint(tone(line), visible(line))).collect::<Vec<_>>().join("\n")
}

fn as_json(report: &McpReport) -> Value {
    let waits = |one: &Quarantined| json!({"tool": one.definition.name, "was_accepted": one.accepted.is_some(), "difference": one.difference()});
    let left_out: Vec<_> =
        report.left_out.iter().map(|(tool, why)| json!({"tool": tool, "why": why})).collect();
    json!({
        "server": report.server,
        "failure": report.failure,
        "tools": report.tools.iter().map(|tool| tool.spec().name).collect::<Vec<_>>(),
        "quarantined": report.quarantined.iter().map(waits).collect::<Vec<_>>(),
        "left_out": left_out,
        "unlisted": report.unlisted,
        "missing": report.missing,
    })
}
