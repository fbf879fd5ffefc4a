//! The tools against real processes, real servers and real files.

#[cfg(test)]
#[path = "it/kit.rs"]
mod kit;
#[cfg(test)]
#[path = "it/mcp.rs"]
mod mcp;
#[cfg(test)]
#[path = "it/mcp_http.rs"]
mod mcp_http;
#[cfg(test)]
#[path = "it/mcp_server.rs"]
mod mcp_server;
