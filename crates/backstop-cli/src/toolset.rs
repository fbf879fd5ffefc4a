//! Gives an engine the tools that runs may call: those of the config that they name, and of the MCP servers only those that
//! they need. What cannot be had is told, and stops only whom it is needed by.

use crate::complaint::Stop;
use crate::helper::helpers;
use crate::home::Home;
use crate::ui::tell;
use backstop_agent::{DELEGATE, RunState, SUBMIT, visible_line};
use backstop_call::{Code, RunId};
use backstop_journal::{Journal, StreamId};
use backstop_server::config::{Problem, ThisProcess};
use backstop_server::tools::{make, servers};
use backstop_tools::mcp::{McpReport, McpServer, connect_all};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What is done without a tool that cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lacking {
    /// Nothing: it is needed.
    Stops,
    /// The rest.
    IsTold,
}

type Tools = Vec<Arc<dyn backstop_agent::Tool>>;

/// The tools of these names, ready to be called. Who may give parts to others also needs those that the others may call;
/// without one of those it goes on.
pub(crate) async fn tools(home: &Home, names: &[String], lacking: Lacking) -> Result<Tools, Stop> {
    let mut all = names.to_vec();
    if names.iter().any(|name| name == DELEGATE || name == SUBMIT) {
        all.extend(of_agents(home).into_iter().filter(|name| !names.contains(name)));
    }
    let mut tools = match make(&home.config, &ThisProcess, &helpers(), names) {
        Err(problems) if lacking == Lacking::Stops => return Err(problems.into()),
        Ok(tools) if all.len() == names.len() => tools,
        _ => make_each(home, &all),
    };
    let (servers, problems) = servers(&home.config, &ThisProcess, &helpers(), Some(&all));
    let reports = connected(home, &servers).await?;
    let mut reasons: Vec<_> = problems.iter().map(|problem| problem.message.clone()).collect();
    reasons.extend(reports.iter().flat_map(|report| reasons_of(report, &all)));
    for reason in &reasons {
        tell(format_args!("warning: {reason}"));
    }
    let offered = reports.into_iter().flat_map(|report| report.tools);
    tools.extend(offered.filter(|tool| all.contains(&tool.spec().name)));
    let is_there = |name: &&String| tools.iter().any(|tool| tool.spec().name == **name);
    let of_servers = |name: &&String| {
        name.split_once("__").is_some_and(|(server, _)| home.config.mcp.contains_key(server))
    };
    match names.iter().filter(of_servers).find(|name| !is_there(name)) {
        Some(name) if lacking == Lacking::Stops => {
            if let Some(problem) = problems.into_iter().next() {
                return Err(problem.into());
            }
            let problem = Problem::new(Code::UnknownTool, format!("the tool `{name}` cannot be had"));
            Err(problem.with_hint("see the warnings above, and `backstop tools mcp`").into())
        }
        Some(_) | None => Ok(tools),
    }
}

/// The names of the tools that the agents of the config may call.
pub(crate) fn of_agents(home: &Home) -> Vec<String> {
    let names = home.config.agents.values().flat_map(|agent| agent.tools.iter().flatten());
    let names: BTreeSet<_> = names.cloned().collect();
    names.into_iter().collect()
}

/// Those of these tools that can be made; why the others cannot be is told, once.
fn make_each(home: &Home, names: &[String]) -> Tools {
    let make = |names: &[String]| make(&home.config, &ThisProcess, &helpers(), names);
    match make(names) {
        Ok(tools) => tools,
        Err(problems) => {
            problems.0.iter().for_each(|problem| tell(format_args!("warning: {}", problem.message)));
            names.iter().filter_map(|name| make(std::slice::from_ref(name)).ok()).flatten().collect()
        }
    }
}

/// The tools that a run may call.
pub(crate) async fn tools_of(home: &Home, run: &RunId, lacking: Lacking) -> Result<Tools, Stop> {
    // The journal is let go of before the engine opens it for itself.
    let names = {
        let journal: Arc<dyn Journal> = home.journal()?;
        let events = journal.read(&StreamId::Run(run.clone()), 0).await?;
        RunState::fold(&events).created.map(|created| created.tools).unwrap_or_default()
    };
    tools(home, &names, lacking).await
}

/// Connects servers, all at the same time.
pub(crate) async fn connected(home: &Home, servers: &[McpServer]) -> Result<Vec<McpReport>, Stop> {
    if servers.is_empty() {
        return Ok(Vec::new());
    }
    // What is accepted of them is kept there.
    std::fs::create_dir_all(&home.config.data_dir).map_err(|error| {
        let dir = home.config.data_dir.display();
        Stop::new(Code::Internal, format!("{dir} cannot be made: {error}"))
            .with_hint("see who may write there")
    })?;
    Ok(connect_all(servers).await)
}

/// Why a server does not give what is wanted of it. Its own words are shown with everything in them visible.
fn reasons_of(report: &McpReport, names: &[String]) -> Vec<String> {
    let server = &report.server;
    let is_wanted = |tool: &str| names.contains(&backstop_tools::mcp::name_for_models(server, tool));
    let mut reasons = Vec::new();
    if let Some(why) = &report.failure {
        reasons.push(format!("MCP server {server}: {}", visible_line(why)));
    }
    for waits in report.quarantined.iter().filter(|waits| is_wanted(&waits.definition.name)) {
        let (tool, what) = (visible_line(&waits.definition.name), changed(waits.accepted.is_some()));
        reasons.push(format!(
            "MCP server {server}: the tool {tool} {what} and is not offered; see `backstop tools accept {server} {tool}`"
        ));
    }
    for (tool, why) in report.left_out.iter().filter(|(tool, _)| is_wanted(tool)) {
        reasons.push(format!(
            "MCP server {server}: the tool {} is not offered: {}",
            visible_line(tool),
            visible_line(why)
        ));
    }
    for tool in report.missing.iter().filter(|tool| is_wanted(tool)) {
        reasons.push(format!("MCP server {server} has no tool {tool}"));
    }
    reasons
}

/// What is to be said of a tool in quarantine.
pub(crate) fn changed(was_accepted: bool) -> &'static str {
    if was_accepted { "is not defined as it was when it was accepted" } else { "is new" }
}
