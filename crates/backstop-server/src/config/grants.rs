//! What is wrong with the tools that a config grants, and which names of tools lead somewhere. Each grant is read by the tools that
//! it makes, so that nothing is known of it twice; no secret is loaded, and no server is asked.

use super::problem::{Problem, allowed};
use super::resolve::Resolver;
use super::secret::looks_like_a_key;
use super::value::Span;
use crate::tools::{Grants, fault_of_server};
use backstop_agent::tools::FINISH;
use backstop_call::Code;
use backstop_tools::mcp::McpGrant;
use std::time::Duration;

const GRANT_HINT: &str = "docs/tools.md has a config of each kind that works";

impl<'a> Resolver<'a> {
    fn grants(&self) -> Grants<'a> {
        Grants { tools: &self.typed.tools, commands: &self.typed.commands, mcp: &self.typed.mcp }
    }

    /// Looks through what is granted, and remembers which tools that gives.
    pub(super) fn tools(&mut self) {
        for section in self.grants().sections() {
            let key = section.key();
            match section.rehearsed() {
                Ok(tools) => tools.iter().for_each(|tool| self.granted_tool(&key, tool.spec().name)),
                Err(why) => self.problem(&key, Problem::new(Code::ConfigValue, why).with_hint(GRANT_HINT)),
            }
            let (key, limit) = section.limit();
            self.enough_time(&key, limit);
        }
        for (name, grant) in &self.typed.mcp {
            self.server(name, grant);
        }
    }

    fn server(&mut self, name: &str, grant: &McpGrant) {
        let key = format!("mcp.{name}");
        if let Some(why) = fault_of_server(name, grant) {
            self.problem(&key, Problem::new(Code::ConfigValue, why).with_hint(GRANT_HINT));
        }
        for (kind, values) in [("env", &grant.env), ("headers", &grant.headers)] {
            for (name, _) in values.iter().filter(|(name, value)| looks_like_a_key(name, value)) {
                let message = "a secret is named by where it is; its value must not stand in the config";
                let hint = format!("put it into `secret-{kind}`, as \"env:NAME\" or \"file:PATH\"");
                let problem = Problem::new(Code::ConfigValue, message).with_hint(hint);
                self.problem(&format!("{key}.{kind}.{name}"), problem);
            }
        }
        self.enough_time(&format!("{key}.limits.total-ms"), Duration::from_millis(grant.limits.total_ms));
    }

    fn granted_tool(&mut self, key: &str, name: String) {
        if self.ground.tools.contains(&name) || self.granted.contains(&name) || name == FINISH {
            let problem = Problem::new(Code::ConfigValue, format!("there is a tool `{name}` already"));
            self.problem(key, problem.with_hint("give the command another name"));
        }
        self.granted.push(name);
    }

    /// A tool that reaches its own limit says what it did; one that is cut off from outside cannot.
    fn enough_time(&mut self, key: &str, limit: Duration) {
        let longest = self.typed.timeouts.tool;
        if limit >= longest.0 {
            let limit = Span(limit);
            let message = format!("a call may take {limit}, and `timeouts.tool` ends it after {longest}");
            let hint = "make this shorter, or `timeouts.tool` longer";
            self.problem(key, Problem::new(Code::ConfigValue, message).with_hint(hint));
        }
    }

    /// What the tools of an MCP server are is known when it is connected; the names of those that the config lists can be
    /// looked up.
    pub(super) fn known_tool(&mut self, key: &str, name: &str) {
        let grants = self.grants();
        if self.ground.tools.iter().chain(&self.granted).any(|known| known == name) || grants.may_have(name) {
            return;
        }
        let known: Vec<_> =
            self.ground.tools.iter().chain(&self.granted).cloned().chain(grants.listed()).collect();
        let hint = match grants.server_of(name) {
            Some((server, _)) => format!("list it in `mcp.{server}.tools`, with its class and effect"),
            None => allowed("tools", name, known.iter().map(String::as_str)),
        };
        let message = format!("there is no tool `{name}`");
        self.problem(key, Problem::new(Code::UnknownTool, message).with_hint(hint));
    }
}
