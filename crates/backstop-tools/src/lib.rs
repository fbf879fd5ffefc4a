//! The tools that reach beyond the files of a run. Each is an implementation of [`backstop_agent::Tool`] over what its
//! owner granted it, and each grant is a value that is checked before the tool is made; reading a config is not done here.
//!
//! A tool decides nothing about whether it may run: the policy of the run does, by what the tool declares and plans.

pub mod command;
pub mod git;
pub mod http;
pub mod mail;
pub mod mcp;
pub mod program;
pub mod sandbox;
mod schemas;
pub mod shell;
pub mod sqlite;
