//! From the grants of a config to tools: what is wrong with a grant, which tools it gives, and the tools themselves, with
//! their secrets. Starts and connects nothing, and decides nothing about who may call what.

use crate::config::{Config, Problem, Problems, SecretRef, Surroundings, file, load_secret};
use crate::settings::reserved;
use backstop_agent::Tool;
use backstop_call::{Code, Secret};
use backstop_tools::command::{CommandGrant, CommandTool};
use backstop_tools::git;
use backstop_tools::http::{Network, http_tools};
use backstop_tools::mail::mail_tool;
use backstop_tools::mcp::{Launch, McpGrant, McpServer, PinFile, Unlisted, name_for_models};
use backstop_tools::program::ProgramGrant;
use backstop_tools::sandbox::Sandbox;
use backstop_tools::shell::Shell;
use backstop_tools::sqlite::sqlite_tools;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The file in the data directory with what was accepted of MCP servers.
const PINS: &str = "mcp.json";

/// How this program starts others on behalf of tools.
#[derive(Debug, Clone)]
pub struct Helpers {
    /// Confines programs.
    pub sandbox: Sandbox,
    /// Starts MCP servers.
    pub launch: Launch,
}

/// What config grants.
#[derive(Clone, Copy)]
pub(crate) struct Grants<'a> {
    pub(crate) tools: &'a file::Tools,
    pub(crate) commands: &'a BTreeMap<String, CommandGrant>,
    pub(crate) mcp: &'a BTreeMap<String, McpGrant>,
}

/// One grant with what makes tools of it.
pub(crate) enum Section<'a> {
    Shell(&'a backstop_tools::shell::ShellGrant),
    Git(&'a git::GitGrant),
    Http(&'a backstop_tools::http::HttpGrant),
    Email(&'a backstop_tools::mail::MailGrant),
    Sqlite(&'a backstop_tools::sqlite::SqliteGrant),
    Command(&'a str, &'a CommandGrant),
}

/// Where a grant's secrets and variables come from.
struct Source<'a> {
    secret: &'a dyn Fn(&str) -> Result<Secret, String>,
    var: &'a dyn Fn(&str) -> Option<String>,
    sandbox: &'a Sandbox,
}

impl<'a> From<&'a Config> for Grants<'a> {
    fn from(config: &'a Config) -> Self {
        Self { tools: &config.tools, commands: &config.commands, mcp: &config.mcp }
    }
}

impl<'a> Grants<'a> {
    /// Every grant that makes tools here; the tools of MCP servers are made there.
    pub(crate) fn sections(self) -> Vec<Section<'a>> {
        let file::Tools { shell, git, http, email, sqlite } = self.tools;
        let mut sections: Vec<_> = shell.iter().map(Section::Shell).collect();
        sections.extend(git.iter().map(Section::Git));
        sections.extend(http.iter().map(Section::Http));
        sections.extend(email.iter().map(Section::Email));
        sections.extend(sqlite.iter().map(Section::Sqlite));
        sections.extend(self.commands.iter().map(|(name, grant)| Section::Command(name, grant)));
        sections
    }

    /// Whether a server of the config may have a tool of this name. What it has is known when it is connected.
    pub(crate) fn may_have(self, name: &str) -> bool {
        self.server_of(name).is_some_and(|(server, grant)| {
            grant.unlisted == Unlisted::AsWorst || listed(server, grant).any(|listed| listed == name)
        })
    }

    /// The server whose tools' names begin so.
    pub(crate) fn server_of(self, name: &str) -> Option<(&'a str, &'a McpGrant)> {
        let (server, _) = name.split_once("__")?;
        self.mcp.get_key_value(server).map(|(server, grant)| (server.as_str(), grant))
    }

    /// The names of the tools of MCP servers that the config lists.
    pub(crate) fn listed(self) -> impl Iterator<Item = String> + 'a {
        self.mcp.iter().flat_map(|(server, grant)| listed(server, grant))
    }

    /// Every reference to a secret.
    fn references(self) -> Vec<&'a str> {
        let of_tools = self.sections().into_iter().flat_map(|section| section.references());
        let of_servers = self
            .mcp
            .values()
            .flat_map(|grant| grant.secret_env.values().chain(grant.secret_headers.values()));
        of_tools.chain(of_servers.map(String::as_str)).collect()
    }
}

fn listed(server: &str, grant: &McpGrant) -> impl Iterator<Item = String> {
    grant.tools.keys().map(move |tool| name_for_models(server, tool))
}

impl<'a> Section<'a> {
    /// Its key in the config.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Shell(_) => "tools.shell".to_owned(),
            Self::Git(_) => "tools.git".to_owned(),
            Self::Http(_) => "tools.http".to_owned(),
            Self::Email(_) => "tools.email".to_owned(),
            Self::Sqlite(_) => "tools.sqlite".to_owned(),
            Self::Command(name, _) => format!("commands.{name}"),
        }
    }

    /// How long a call may take by its own limit, and that limit's key.
    pub(crate) fn limit(&self) -> (String, Duration) {
        let of_programs = |programs: &ProgramGrant| ("programs.limits.wall-secs", programs.limits.wall_secs);
        let (key, seconds) = match self {
            Self::Shell(grant) => of_programs(&grant.programs),
            Self::Git(grant) => of_programs(&grant.programs),
            Self::Command(_, grant) => of_programs(&grant.programs),
            Self::Http(grant) => ("timeout-seconds", grant.timeout_seconds),
            Self::Email(grant) => ("timeout-seconds", grant.timeout_seconds),
            Self::Sqlite(grant) => ("timeout-seconds", grant.timeout_seconds),
        };
        (format!("{}.{key}", self.key()), Duration::from_secs(seconds))
    }

    fn references(&self) -> Vec<&'a str> {
        match self {
            Self::Shell(_) | Self::Sqlite(_) => Vec::new(),
            Self::Git(grant) => grant.push.iter().filter_map(|remote| remote.token.as_deref()).collect(),
            Self::Http(grant) => {
                grant.hosts.iter().flat_map(|host| host.headers.values()).map(String::as_str).collect()
            }
            Self::Email(grant) => grant.password.as_deref().into_iter().collect(),
            Self::Command(_, grant) => grant.secrets.values().map(String::as_str).collect(),
        }
    }

    /// Its tools, with something in the place of each secret: to know which they are, and whether they can be made.
    pub(crate) fn rehearsed(&self) -> Result<Vec<Arc<dyn Tool>>, String> {
        let source = Source {
            secret: &|_| Ok(Secret::new("stand-in")),
            var: &|_| None,
            sandbox: &Sandbox::new("", [""; 0]),
        };
        self.made(&source)
    }

    fn made(&self, source: &Source<'_>) -> Result<Vec<Arc<dyn Tool>>, String> {
        let Source { secret, sandbox, .. } = *source;
        match self {
            Self::Shell(grant) => {
                let made = Shell::tools(grant, sandbox, &variables(&grant.programs, source));
                made.map(|tools| tools.into_iter().map(|tool| Arc::new(tool) as Arc<dyn Tool>).collect())
                    .map_err(|error| error.to_string())
            }
            Self::Git(grant) => {
                let token = |remote: &git::PushGrant| {
                    let token = remote.token.as_deref()?;
                    Some(secret(token).map(|token| (remote.name.clone(), token)))
                };
                let tokens = grant.push.iter().filter_map(token).collect::<Result<_, _>>()?;
                git::tools(grant, sandbox, &tokens).map_err(|error| error.to_string())
            }
            Self::Http(grant) => {
                http_tools(grant, secret, &Network::system()).map_err(|error| error.to_string())
            }
            Self::Email(grant) => {
                mail_tool(grant, secret).map(|tool| vec![tool]).map_err(|error| error.to_string())
            }
            Self::Sqlite(grant) => sqlite_tools(grant).map_err(|error| error.to_string()),
            Self::Command(name, grant) => {
                let value = |(name, reference): (&String, &String)| Ok((name.clone(), secret(reference)?));
                let secrets = grant.secrets.iter().map(value).collect::<Result<_, String>>()?;
                let env = variables(&grant.programs, source);
                CommandTool::new(name, (*grant).clone(), sandbox, &env, secrets)
                    .map(|tool| vec![Arc::new(tool) as Arc<dyn Tool>])
                    .map_err(|error| error.to_string())
            }
        }
    }
}

fn variables(programs: &ProgramGrant, source: &Source<'_>) -> BTreeMap<String, String> {
    programs.env.iter().filter_map(|name| Some((name.clone(), (source.var)(name)?))).collect()
}

/// What is wrong with the grant of a server, if anything.
pub(crate) fn fault_of_server(name: &str, grant: &McpGrant) -> Option<String> {
    let stand_in = |_: &str| Some(Secret::new("stand-in"));
    let pins = Arc::new(PinFile::at(PINS));
    let launch = Launch::new(Sandbox::new("", [""; 0]));
    let checked = McpServer::new(name, grant.clone(), &stand_in, launch, pins);
    checked.err().map(|error| error.to_string())
}

/// Every secret that a tool of the config is given, by its reference.
pub(crate) fn references(config: &Config) -> Vec<SecretRef> {
    let texts = Grants::from(config).references();
    texts.into_iter().filter_map(|text| text.parse().ok()).collect()
}

/// Every tool that the config grants, as it is declared: to be looked at, and not to be called. Those of MCP servers are
/// not among them.
pub fn declared(config: &Config) -> Vec<Arc<dyn Tool>> {
    let sections = Grants::from(config).sections();
    // A grant of which none can be made was told when the config was read.
    sections.iter().filter_map(|section| section.rehearsed().ok()).flatten().collect()
}

/// The tools of the config that have one of these names, ready to be called.
///
/// # Errors
/// A secret of one of them that is not there; what the others need is not asked for.
pub fn make(
    config: &Config,
    world: &dyn Surroundings,
    helpers: &Helpers,
    names: &[String],
) -> Result<Vec<Arc<dyn Tool>>, Problems> {
    let is_wanted = |tool: &Arc<dyn Tool>| names.contains(&tool.spec().name);
    let (mut tools, mut problems) = (Vec::new(), Vec::new());
    for section in Grants::from(config).sections() {
        if !section.rehearsed().is_ok_and(|tools| tools.iter().any(is_wanted)) {
            continue;
        }
        let missing = RefCell::new(None);
        let secret = |reference: &str| {
            secret(config, world, reference).map_err(|problem| {
                let text = problem.message.clone();
                missing.borrow_mut().get_or_insert(problem);
                text
            })
        };
        let source = Source { secret: &secret, var: &|name| world.var(name), sandbox: &helpers.sandbox };
        match section.made(&source) {
            Ok(made) => tools.extend(made.into_iter().filter(is_wanted)),
            Err(why) => {
                let problem = missing.take().unwrap_or_else(|| Problem::new(Code::ConfigValue, why));
                let message = format!("`{}`: {}", section.key(), problem.message);
                problems.push(Problem { message, ..problem });
            }
        }
    }
    if problems.is_empty() { Ok(tools) } else { Err(Problems(problems)) }
}

/// The MCP servers of the config that have tools of these names, or all of them; none is connected yet. Those whose secrets
/// are not there come as problems.
pub fn servers(
    config: &Config,
    world: &dyn Surroundings,
    helpers: &Helpers,
    names: Option<&[String]>,
) -> (Vec<McpServer>, Vec<Problem>) {
    let grants = Grants::from(config);
    let is_wanted = |server: &str| {
        let of = |name: &String| grants.server_of(name).is_some_and(|(its, _)| its == server);
        names.is_none_or(|names| names.iter().any(of))
    };
    let pins = Arc::new(PinFile::at(config.data_dir.join(PINS)));
    let launch = helpers.launch.clone().reserving(&reserved(config));
    let (mut servers, mut problems) = (Vec::new(), Vec::new());
    for (name, grant) in grants.mcp.iter().filter(|(name, _)| is_wanted(name)) {
        let missing = RefCell::new(None);
        let resolve = |reference: &str| match secret(config, world, reference) {
            Ok(secret) => Some(secret),
            Err(problem) => {
                missing.borrow_mut().get_or_insert(problem);
                None
            }
        };
        let mut grant = grant.clone();
        // Beside the config, as all paths in it.
        let beside = config.file.as_deref().and_then(std::path::Path::parent);
        grant.directory = grant.directory.map(|directory| beside.unwrap_or("".as_ref()).join(directory));
        match McpServer::new(name, grant, &resolve, launch.clone(), Arc::clone(&pins) as _) {
            Ok(server) => servers.push(server),
            Err(error) => {
                let problem =
                    missing.take().unwrap_or_else(|| Problem::new(Code::ConfigValue, error.to_string()));
                let message = format!("`mcp.{name}`: {}", problem.message);
                problems.push(Problem { message, ..problem });
            }
        }
    }
    (servers, problems)
}

fn secret(config: &Config, world: &dyn Surroundings, reference: &str) -> Result<Secret, Problem> {
    let reference: SecretRef = reference
        .parse()
        .map_err(|error: crate::config::BadValue| Problem::new(Code::ConfigValue, error.0))?;
    load_secret(&reference, config.file.as_deref(), world)
}
