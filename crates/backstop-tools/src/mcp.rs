//! MCP servers as tools. A server is a program of somebody else's: what it says of itself is read, bounded, cleaned, compared
//! with what was accepted before, and believed in nothing. Class, effect and roles come from the operator's grant.
//!
//! From below: a line or an event (`stdio`, `http`) becomes an answer (`protocol`, which alone knows `rmcp`), by way of a
//! `session`; `server` keeps one alive and compares its definitions (`definition`, `schema`, `pins`); `tool` is what a run
//! calls. Nothing here asks a person or decides whether a call may be made.

mod answer;
mod confine;
mod definition;
mod flood;
mod grant;
mod http;
mod outage;
mod pins;
mod protocol;
mod schema;
mod server;
mod session;
mod stdio;
mod text;
mod tool;

pub use confine::{McpProgramLimits, McpPrograms};
pub use definition::{Definition, name_for_models};
pub use grant::{FirstUse, McpGrant, McpGrantError, McpLimits, McpToolGrant, Unlisted};
pub use pins::{PinFile, Pins, PinsError};
pub use server::{McpReport, McpServer, Quarantined, connect_all};
pub use stdio::Launch;
