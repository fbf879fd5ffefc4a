//! What an operator grants an MCP server, and what they say of its tools: plain values, checked here. Nothing that a server
//! says can change them.

use super::confine::McpPrograms;
use crate::program::ProgramGrantError;
use crate::schemas::{self, SecretReference};
use backstop_call::Secret;
use backstop_label::{ArgRole, Class, Confidentiality, Declaration, Effect, Integrity};
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Uri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The longest name of a server: it begins the name of each of its tools.
const NAME_MAX_BYTES: usize = 24;
/// The variables that a program needs to find itself and its files; none of them holds a secret.
const INHERITED: [&str; 6] = ["HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "TZ"];
/// Headers that the protocol or the connection sets.
const OWN_HEADERS: [&str; 10] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "host",
    "last-event-id",
    "mcp-protocol-version",
    "mcp-session-id",
    "te",
    "transfer-encoding",
];

/// An MCP server: a program that is started for it (`command`), or an address (`url`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct McpGrant {
    /// The program and its arguments, each for itself: no shell reads them. Since 0.1.
    pub command: Vec<String>,
    /// The directory the program is started in, which it may read. Left out: none in the sandbox, else the one Backstop was
    /// started in. Since 0.1.
    pub directory: Option<PathBuf>,
    /// Whether it runs in the sandbox; without one it has all the rights of Backstop itself, but not its environment. Since 0.1.
    pub sandboxed: bool,
    /// What it gets in the sandbox beside its directory. Since 0.1.
    pub programs: McpPrograms,
    /// The variables of Backstop's own environment that the program gets; it gets no others. In the sandbox, `HOME` and `TMPDIR`
    /// name a directory of its own. Since 0.1.
    pub inherit_env: Vec<String>,
    /// More variables for the program, with their values. Since 0.1.
    pub env: BTreeMap<String, String>,
    /// Variables whose values are secrets: where each is, as "env:NAME" or "file:PATH". Since 0.1.
    #[schemars(with = "BTreeMap<String, SecretReference>")]
    pub secret_env: BTreeMap<String, String>,
    /// The address of a server that speaks streamable HTTP. Since 0.1.
    pub url: Option<String>,
    /// Headers of every request to it, with their values. Since 0.1.
    pub headers: BTreeMap<String, String>,
    /// Headers whose values are secrets: where each is, as "env:NAME" or "file:PATH". Since 0.1.
    #[schemars(with = "BTreeMap<String, SecretReference>")]
    pub secret_headers: BTreeMap<String, String>,
    /// Whether the address may be one of this machine or of a private network; only there may it be without TLS. A link's own
    /// addresses and clouds' metadata services are never reached. Since 0.1.
    pub private_addresses: bool,
    /// What is true of its tools, by the server's own names for them. Since 0.1.
    pub tools: BTreeMap<String, McpToolGrant>,
    /// What becomes of a tool that is not listed. Since 0.1.
    pub unlisted: Unlisted,
    /// What becomes of the tools of a server that is seen for the first time. Since 0.1.
    pub first_use: FirstUse,
    /// How long it may take and how much it may send. Since 0.1.
    pub limits: McpLimits,
}

impl Default for McpGrant {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            directory: None,
            sandboxed: true,
            programs: McpPrograms::default(),
            inherit_env: INHERITED.map(str::to_owned).to_vec(),
            env: BTreeMap::new(),
            secret_env: BTreeMap::new(),
            url: None,
            headers: BTreeMap::new(),
            secret_headers: BTreeMap::new(),
            private_addresses: false,
            tools: BTreeMap::new(),
            unlisted: Unlisted::NotOffered,
            first_use: FirstUse::Accept,
            limits: McpLimits::default(),
        }
    }
}

/// What becomes of a tool that the operator did not list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unlisted {
    /// No model is told of it. Since 0.1.
    NotOffered,
    /// It is offered, and counts as the worst: a write that reaches outside and cannot be taken back. Since 0.1.
    AsWorst,
}

/// What becomes of the tools of a server of which nothing was accepted before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FirstUse {
    /// Their definitions are accepted as they are; only what changes or comes later waits for a person. Since 0.1.
    Accept,
    /// Each waits until a person has read and accepted it. Since 0.1.
    Quarantine,
}

/// What is true of a tool. What is left out counts as the worst.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct McpToolGrant {
    /// What may be done after a crash: `read` it again, call it again under the same key (`idempotent`), or ask a person
    /// (`write`, `irreversible`). Since 0.1.
    #[schemars(schema_with = "schemas::class")]
    pub class: Class,
    /// How far a call reaches: `read`, `write`, `external` or `destructive`. Since 0.1.
    #[schemars(schema_with = "schemas::effect")]
    pub effect: Effect,
    /// What each argument decides; one that is not listed counts as a `sink`. Since 0.1.
    #[schemars(schema_with = "schemas::roles")]
    pub args: BTreeMap<String, ArgRole>,
    /// Whether its output can be relied on: `trusted` or `untrusted`. Since 0.1.
    #[schemars(schema_with = "schemas::integrity")]
    pub integrity: Integrity,
    /// Who may see its output: `public`, or `{ private = "financial" }`. Since 0.1.
    #[schemars(schema_with = "schemas::confidentiality")]
    pub confidentiality: Confidentiality,
}

impl Default for McpToolGrant {
    fn default() -> Self {
        let Declaration { class, effect, args, integrity, confidentiality } = Declaration::undeclared();
        Self { class, effect, args, integrity, confidentiality }
    }
}

impl McpToolGrant {
    /// What the tool counts as.
    pub fn declaration(&self) -> Declaration {
        let Self { class, effect, args, integrity, confidentiality } = self.clone();
        Declaration { class, effect, args, integrity, confidentiality }
    }
}

/// How long a server may take, and how much it may send. Beyond it the request fails; a server that sends too much at once
/// is ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct McpLimits {
    /// From its start until all its tools are known, in milliseconds. Since 0.1.
    #[schemars(range(min = 1))]
    pub startup_ms: u64,
    /// A call without an answer or a sign of progress, in milliseconds. Since 0.1.
    #[schemars(range(min = 1))]
    pub idle_ms: u64,
    /// A call as a whole, in milliseconds. Since 0.1.
    #[schemars(range(min = 1))]
    pub total_ms: u64,
    /// After so long its tools are compared again before the next call, also when it says nothing of a change, in
    /// milliseconds. Since 0.1.
    pub recheck_ms: u64,
    /// One message of it: a line, an event or a body, in bytes. Since 0.1.
    #[schemars(range(min = 1_024))]
    pub message_bytes: usize,
    /// Messages at once; a fiftieth of it each second besides. Since 0.1.
    #[schemars(range(min = 50))]
    pub messages: u32,
    /// Tools. Since 0.1.
    #[schemars(range(min = 1))]
    pub tools: usize,
    /// The description of a tool, in bytes. Since 0.1.
    pub description_bytes: usize,
    /// Each schema of a tool, in bytes. Since 0.1.
    pub schema_bytes: usize,
    /// The text of an answer that a model is told at once, in bytes; what is more is kept with the run, and it can read on in that.
    /// Since 0.1.
    pub result_bytes: usize,
}

impl Default for McpLimits {
    fn default() -> Self {
        Self {
            startup_ms: 20_000,
            idle_ms: 30_000,
            total_ms: 55_000,
            recheck_ms: 300_000,
            message_bytes: 4 * 1024 * 1024,
            messages: 5_000,
            tools: 128,
            description_bytes: 8 * 1024,
            schema_bytes: 64 * 1024,
            result_bytes: 128 * 1024,
        }
    }
}

impl McpLimits {
    pub(super) fn startup(&self) -> Duration {
        Duration::from_millis(self.startup_ms)
    }

    pub(super) fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }

    pub(super) fn total(&self) -> Duration {
        Duration::from_millis(self.total_ms)
    }

    pub(super) fn recheck(&self) -> Duration {
        Duration::from_millis(self.recheck_ms)
    }
}

/// What is wrong with a grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum McpGrantError {
    /// The name cannot begin the names of tools.
    #[error("`{0}` is no name of an MCP server: at most 24 of a-z, 0-9 and -, the first a letter")]
    Name(String),
    /// Neither a program nor an address, or both.
    #[error("MCP server {0} needs either a command or a url")]
    NeitherOrBoth(String),
    /// A key that has no meaning for a server of this kind.
    #[error("`{key}` means nothing for MCP server {server}, which is reached by `{way}`")]
    Idle {
        /// The server.
        server: String,
        /// The key.
        key: &'static str,
        /// `command` or `url`.
        way: &'static str,
    },
    /// The address is none of a server.
    #[error("the url of MCP server {server} {reason}")]
    Url {
        /// The server.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A name of a variable or header that cannot be one, or that is not the operator's to set.
    #[error("`{name}` cannot be set for MCP server {server}")]
    Setting {
        /// The server.
        server: String,
        /// The variable or header.
        name: String,
    },
    /// What its program gets.
    #[error("MCP server {server}: {source}")]
    Programs {
        /// The server.
        server: String,
        /// What is wrong with it.
        source: ProgramGrantError,
    },
    /// A secret that is not there.
    #[error("the secret `{reference}` of MCP server {server} is not there")]
    Secret {
        /// The server.
        server: String,
        /// Where it should be.
        reference: String,
    },
}

/// How a server is reached, checked and with its secrets.
#[derive(Debug, Clone)]
pub(super) enum Way {
    Program(Program),
    Address(Address),
}

/// A program to start.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) command: Vec<String>,
    pub(super) directory: Option<PathBuf>,
    pub(super) inherit: Vec<String>,
    pub(super) env: BTreeMap<String, Secret>,
    /// What it gets in the sandbox; `None` where it runs without one.
    pub(super) sandboxed: Option<McpPrograms>,
}

/// An address to ask.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub(super) uri: Uri,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) private: bool,
}

/// Checks a grant and fetches its secrets. Gives the secrets' values too, so that they can be taken out of texts.
pub(super) fn check(
    server: &str,
    grant: &McpGrant,
    resolve: &dyn Fn(&str) -> Option<Secret>,
) -> Result<(Way, Vec<Secret>), McpGrantError> {
    let is_name = server.len() <= NAME_MAX_BYTES
        && server.starts_with(|c: char| c.is_ascii_lowercase())
        && server.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !is_name {
        return Err(McpGrantError::Name(server.to_owned()));
    }
    let mut secrets = Vec::new();
    let mut fetch = |references: &BTreeMap<String, String>| {
        let mut values = BTreeMap::new();
        for (name, reference) in references {
            let missing =
                || McpGrantError::Secret { server: server.to_owned(), reference: reference.clone() };
            let secret = resolve(reference).ok_or_else(missing)?;
            secrets.push(secret.clone());
            values.insert(name.clone(), secret);
        }
        Ok(values)
    };
    let way = match (&grant.command[..], &grant.url) {
        ([_, ..], None) => Way::Program(program(server, grant, fetch(&grant.secret_env)?)?),
        ([], Some(url)) => Way::Address(address(server, grant, url, &fetch(&grant.secret_headers)?)?),
        _ => return Err(McpGrantError::NeitherOrBoth(server.to_owned())),
    };
    Ok((way, secrets))
}

fn idle(server: &str, way: &'static str, keys: &[(&'static str, bool)]) -> Result<(), McpGrantError> {
    match keys.iter().find(|(_, is_set)| *is_set) {
        Some((key, _)) => Err(McpGrantError::Idle { server: server.to_owned(), key, way }),
        None => Ok(()),
    }
}

fn program(
    server: &str,
    grant: &McpGrant,
    secrets: BTreeMap<String, Secret>,
) -> Result<Program, McpGrantError> {
    let keys = [
        ("headers", !grant.headers.is_empty()),
        ("secret-headers", !grant.secret_headers.is_empty()),
        ("private-addresses", grant.private_addresses),
    ];
    idle(server, "command", &keys)?;
    let mut env: BTreeMap<_, _> =
        grant.env.iter().map(|(name, value)| (name.clone(), Secret::new(value.as_str()))).collect();
    env.extend(secrets);
    let is_bad = |name: &&String| name.is_empty() || name.contains(['=', '\0']);
    let has_nul = env.values().any(|value| value.expose().contains('\0'));
    if let Some(name) = env.keys().chain(&grant.inherit_env).find(is_bad) {
        return Err(McpGrantError::Setting { server: server.to_owned(), name: name.clone() });
    }
    if has_nul || grant.command.iter().any(|part| part.contains('\0')) || grant.command[0].is_empty() {
        return Err(McpGrantError::Setting { server: server.to_owned(), name: "command".to_owned() });
    }
    let wrong = |source| McpGrantError::Programs { server: server.to_owned(), source };
    grant.programs.check().map_err(wrong)?;
    let (command, directory, inherit) =
        (grant.command.clone(), grant.directory.clone(), grant.inherit_env.clone());
    let sandboxed = grant.sandboxed.then(|| grant.programs.clone());
    Ok(Program { command, directory, inherit, env, sandboxed })
}

fn address(
    server: &str,
    grant: &McpGrant,
    url: &str,
    secrets: &BTreeMap<String, Secret>,
) -> Result<Address, McpGrantError> {
    let keys = [
        ("directory", grant.directory.is_some()),
        ("env", !grant.env.is_empty()),
        ("secret-env", !grant.secret_env.is_empty()),
        ("sandboxed", !grant.sandboxed),
        ("programs", grant.programs != McpPrograms::default()),
    ];
    idle(server, "url", &keys)?;
    let wrong = |reason: &str| McpGrantError::Url { server: server.to_owned(), reason: reason.to_owned() };
    let uri: Uri = url.parse().map_err(|_| wrong("is no address"))?;
    let host = uri.host().ok_or_else(|| wrong("has no host"))?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(wrong("holds a name or password; put it into secret-headers"));
    }
    match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => {}
        Some(scheme) if *scheme == Scheme::HTTP && grant.private_addresses => {}
        Some(scheme) if *scheme == Scheme::HTTP => {
            return Err(wrong("has no TLS; that is for private-addresses = true only"));
        }
        _ => return Err(wrong("begins with neither https: nor http:")),
    }
    if let Some(ip) = literal(host)
        && let Err(reason) =
            super::http::allowed(ip, grant.private_addresses, uri.scheme() == Some(&Scheme::HTTPS))
    {
        return Err(wrong(&reason));
    }
    let open = grant.headers.iter().map(|(name, value)| (name, Secret::new(value.as_str()), false));
    let secret = secrets.iter().map(|(name, value)| (name, value.clone(), true));
    let mut headers = Vec::new();
    for (name, value, is_secret) in open.chain(secret) {
        let bad = || McpGrantError::Setting { server: server.to_owned(), name: name.clone() };
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| bad())?;
        value.set_sensitive(is_secret);
        if OWN_HEADERS.contains(&header.as_str()) {
            return Err(bad());
        }
        headers.push((header, value));
    }
    Ok(Address { uri, headers, private: grant.private_addresses })
}

/// The address that a host is, when it is no name.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn grant(value: serde_json::Value) -> McpGrant {
        serde_json::from_value(value).unwrap()
    }

    fn checked(name: &str, value: serde_json::Value) -> String {
        let resolve = |reference: &str| (reference == "env:KEY").then(|| Secret::new("s3cret"));
        match check(name, &grant(value), &resolve) {
            Ok((_, secrets)) => format!("ok with {} secrets", secrets.len()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn grants_are_checked() {
        let rows = [
            ("files", json!({"command": ["x", "/"]}), "ok with 0 secrets"),
            ("files", json!({"command": ["x"], "secret-env": {"A": "env:KEY"}}), "ok with 1 secrets"),
            (
                "web",
                json!({"url": "https://example.org/mcp", "secret-headers": {"authorization": "env:KEY"}}),
                "ok with 1 secrets",
            ),
            (
                "web",
                json!({"url": "http://localhost:3000/mcp", "private-addresses": true}),
                "ok with 0 secrets",
            ),
            (
                "a__b",
                json!({"command": ["x"]}),
                "`a__b` is no name of an MCP server: at most 24 of a-z, 0-9 and -, the first a letter",
            ),
            (
                "",
                json!({"command": ["x"]}),
                "`` is no name of an MCP server: at most 24 of a-z, 0-9 and -, the first a letter",
            ),
            ("x", json!({}), "MCP server x needs either a command or a url"),
            (
                "x",
                json!({"command": ["x"], "url": "https://example.org"}),
                "MCP server x needs either a command or a url",
            ),
            (
                "x",
                json!({"command": ["x"], "secret-env": {"A": "env:GONE"}}),
                "the secret `env:GONE` of MCP server x is not there",
            ),
            (
                "x",
                json!({"command": ["x"], "headers": {"a": "b"}}),
                "`headers` means nothing for MCP server x, which is reached by `command`",
            ),
            (
                "x",
                json!({"url": "https://example.org", "env": {"a": "b"}}),
                "`env` means nothing for MCP server x, which is reached by `url`",
            ),
            ("x", json!({"command": ["x"], "env": {"A=B": "b"}}), "`A=B` cannot be set for MCP server x"),
            ("x", json!({"command": ["x\0"]}), "`command` cannot be set for MCP server x"),
            (
                "x",
                json!({"command": ["x"], "programs": {"network": true, "write": ["/srv"], "limits": {"processes": 9}}}),
                "ok with 0 secrets",
            ),
            (
                "x",
                json!({"command": ["x"], "programs": {"read": ["docs"]}}),
                "MCP server x: `docs` is not an absolute path",
            ),
            (
                "x",
                json!({"command": ["x"], "programs": {"write": ["/"]}}),
                "MCP server x: `/` is the whole file system; name what is needed of it",
            ),
            (
                "x",
                json!({"url": "https://example.org", "programs": {"network": true}}),
                "`programs` means nothing for MCP server x, which is reached by `url`",
            ),
            (
                "x",
                json!({"url": "https://example.org", "sandboxed": false}),
                "`sandboxed` means nothing for MCP server x, which is reached by `url`",
            ),
            (
                "x",
                json!({"url": "http://example.org"}),
                "the url of MCP server x has no TLS; that is for private-addresses = true only",
            ),
            (
                "x",
                json!({"url": "ftp://example.org"}),
                "the url of MCP server x begins with neither https: nor http:",
            ),
            (
                "x",
                json!({"url": "https://me:pw@example.org"}),
                "the url of MCP server x holds a name or password; put it into secret-headers",
            ),
            (
                "x",
                json!({"url": "https://10.0.0.1/mcp"}),
                "the url of MCP server x is a private address, which private-addresses does not allow",
            ),
            (
                "x",
                json!({"url": "https://[::1]/mcp"}),
                "the url of MCP server x is a private address, which private-addresses does not allow",
            ),
            (
                "x",
                json!({"url": "http://169.254.169.254/mcp", "private-addresses": true}),
                "the url of MCP server x is a cloud's metadata service, which is never granted",
            ),
            (
                "x",
                json!({"url": "http://9.9.9.9/mcp", "private-addresses": true}),
                "the url of MCP server x is a public address, which is not reached without TLS",
            ),
            (
                "x",
                json!({"url": "https://example.org", "headers": {"Host": "b"}}),
                "`Host` cannot be set for MCP server x",
            ),
            (
                "x",
                json!({"url": "https://example.org", "headers": {"a": "b\nc"}}),
                "`a` cannot be set for MCP server x",
            ),
        ];
        for (name, value, want) in rows {
            assert_eq!(checked(name, value.clone()), want, "{value}");
        }
    }

    #[test]
    fn what_is_not_declared_counts_as_the_worst() {
        let tool: McpToolGrant = serde_json::from_value(json!({})).unwrap();
        assert_eq!(tool.declaration(), Declaration::undeclared());
        assert_eq!(McpGrant::default().unlisted, Unlisted::NotOffered);
        assert!(serde_json::from_value::<McpToolGrant>(json!({"clas": "read"})).is_err());
    }

    #[test]
    fn the_schema_allows_what_can_be_read_and_nothing_else() {
        let schema = schemars::schema_for!(McpToolGrant).to_value();
        let rows = [
            ("class", vec!["read", "idempotent", "write", "irreversible"]),
            ("effect", vec!["read", "write", "external", "destructive"]),
            ("integrity", vec!["trusted", "untrusted"]),
        ];
        for (key, words) in rows {
            assert_eq!(schema["properties"][key]["enum"], json!(words), "{key}");
            for word in words {
                assert!(serde_json::from_value::<McpToolGrant>(json!({key: word})).is_ok(), "{key} {word}");
            }
        }
        for role in schema["properties"]["args"]["additionalProperties"]["enum"].as_array().unwrap() {
            assert!(serde_json::from_value::<McpToolGrant>(json!({"args": {"a": role}})).is_ok(), "{role}");
        }
        for word in [json!("public"), json!({"private": "financial"})] {
            let value = json!({"confidentiality": word});
            assert!(serde_json::from_value::<McpToolGrant>(value.clone()).is_ok(), "{value}");
            assert!(jsonschema::is_valid(&schema, &value), "{value}");
        }
    }
}
