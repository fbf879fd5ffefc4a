//! The tools against real processes, real servers and real files.

#[cfg(test)]
#[path = "it/command.rs"]
mod command;
#[cfg(test)]
#[path = "it/deadly.rs"]
mod deadly;
#[cfg(test)]
#[path = "it/dry.rs"]
mod dry;
#[cfg(test)]
#[path = "it/git.rs"]
mod git;
#[cfg(test)]
#[path = "it/git_https.rs"]
mod git_https;
#[cfg(test)]
#[path = "it/ground.rs"]
mod ground;
#[cfg(test)]
#[path = "it/http.rs"]
mod http;
#[cfg(test)]
#[path = "it/kill.rs"]
mod kill;
#[cfg(test)]
#[path = "it/kit.rs"]
mod kit;
#[cfg(test)]
#[path = "it/mail.rs"]
mod mail;
#[cfg(test)]
#[path = "it/mcp.rs"]
mod mcp;
#[cfg(test)]
#[path = "it/mcp_call.rs"]
mod mcp_call;
#[cfg(test)]
#[path = "it/mcp_http.rs"]
mod mcp_http;
#[cfg(test)]
#[path = "it/mcp_sandbox.rs"]
mod mcp_sandbox;
#[cfg(test)]
#[path = "it/mcp_server.rs"]
mod mcp_server;
#[cfg(test)]
#[path = "it/sandbox.rs"]
mod sandbox;
#[cfg(test)]
#[path = "it/sandbox_ends.rs"]
mod sandbox_ends;
#[cfg(test)]
#[path = "../../backstop-agent/tests/it/deadly.rs"]
mod shared;
#[cfg(test)]
#[path = "it/shell.rs"]
mod shell;
#[cfg(test)]
#[path = "it/sqlite.rs"]
mod sqlite;
#[cfg(test)]
#[path = "it/sqlite_change.rs"]
mod sqlite_change;
#[cfg(test)]
#[path = "it/sqlite_crash.rs"]
mod sqlite_crash;
#[cfg(test)]
#[path = "it/sqlite_query.rs"]
mod sqlite_query;
#[cfg(test)]
#[path = "it/web.rs"]
mod web;
#[cfg(test)]
#[path = "it/world.rs"]
mod world;
