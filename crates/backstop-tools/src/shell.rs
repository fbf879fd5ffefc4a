//! `run_command` and `read_command`: run a program that the owner allows, confined to the workspace. There is no shell: a
//! command is words, so that what was allowed is what runs.

mod pattern;
mod words;

pub use pattern::{Pattern, PatternError};
pub use words::{LineError, join, split};

use crate::program::{ProgramGrant, ProgramGrantError, directory, no_outcome, told, workspace_of};
use crate::sandbox::{Access, Sandbox};
use backstop_agent::tool::{Job, read_args, spec_of};
use backstop_agent::{Plan, Rehearsal, Tool, ToolContext, ToolError, ToolOutput};
use backstop_agent::{visible, visible_line};
use backstop_call::{BoxFuture, ToolSpec};
use backstop_label::{ArgRole, Class, Confidentiality, Declaration, Effect, Integrity};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The most that a command reads from its standard input, in bytes.
const STDIN_MAX_BYTES: usize = 1024 * 1024;
/// So many of the allowed commands are named to a model.
const NAMED_MAX: usize = 60;

/// Which commands an agent may run, and with what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ShellGrant {
    /// Commands that may be run: `cargo test *`, where `*` at the end stands for any further arguments, elsewhere for one,
    /// and within a word for a part of it. Since 0.1.
    pub allow: Vec<String>,
    /// Commands that only read. They are run without a question, and can write nothing and reach nobody whatever they
    /// are. Since 0.1.
    pub read: Vec<String>,
    /// What the programs get beside the workspace. Since 0.1.
    pub programs: ProgramGrant,
}

/// A grant of commands that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShellGrantError {
    /// A command that cannot be read.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// What the programs get.
    #[error(transparent)]
    Programs(#[from] ProgramGrantError),
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// The command as one line: words, with quotes where one holds spaces. No pipes, redirections, variables or globs.
    command: Option<String>,
    /// The command as its words, instead of `command`: the program, then each argument.
    #[schemars(length(min = 1))]
    argv: Option<Vec<String>>,
    /// The directory it runs in, from the workspace's root. Left out: the root.
    cwd: Option<String>,
    /// What it reads from its standard input. Left out: nothing.
    stdin: Option<String>,
}

/// A tool that runs commands.
pub struct Shell {
    name: &'static str,
    patterns: Vec<Pattern>,
    programs: ProgramGrant,
    env: BTreeMap<String, String>,
    access: Access,
    declaration: Declaration,
    sandbox: Sandbox,
}

impl Shell {
    /// The tools that a grant makes: `run_command` for what is allowed, `read_command` for what only reads, each if there
    /// is any. `env` is what the variables of the grant are taken from.
    pub fn tools(
        grant: &ShellGrant,
        sandbox: &Sandbox,
        env: &BTreeMap<String, String>,
    ) -> Result<Vec<Self>, ShellGrantError> {
        grant.programs.check()?;
        let parse =
            |list: &[String]| list.iter().map(|text| Pattern::parse(text)).collect::<Result<Vec<_>, _>>();
        let reading =
            ProgramGrant { network: false, git: false, write: Vec::new(), ..grant.programs.clone() };
        let tools = [
            ("run_command", parse(&grant.allow)?, grant.programs.clone(), Access::Write),
            ("read_command", parse(&grant.read)?, reading, Access::Read),
        ];
        let allowed = tools.into_iter().filter(|(_, patterns, ..)| !patterns.is_empty());
        let made = allowed.map(|(name, patterns, programs, access)| Self {
            name,
            patterns,
            env: programs.environment(env),
            access,
            declaration: declaration(&programs, access),
            programs,
            sandbox: sandbox.clone(),
        });
        Ok(made.collect())
    }

    fn prepare(&self, args: &Value, context: &ToolContext) -> Result<Plan, ToolError> {
        let args: Args = read_args(args)?;
        let argv = match (args.command, args.argv) {
            (Some(command), None) => {
                split(&command).map_err(|error| ToolError::Failed(format!("Not run: {error}.")))?
            }
            (None, Some(argv)) => argv,
            _ => return Err(ToolError::Failed("Give either command or argv, and not both.".to_owned())),
        };
        if argv.iter().any(|word| word.contains('\0')) {
            return Err(ToolError::Failed("A command cannot hold a NUL character.".to_owned()));
        }
        if !self.patterns.iter().any(|pattern| pattern.fits(&argv)) {
            return Err(self.not_allowed(&argv));
        }
        let stdin_bytes = args.stdin.as_ref().map_or(0, String::len);
        if stdin_bytes > STDIN_MAX_BYTES {
            return Err(ToolError::Failed(format!(
                "stdin has {stdin_bytes} bytes, more than the {STDIN_MAX_BYTES} that it may. Write a file and name it."
            )));
        }
        let workspace = workspace_of(context)?;
        let cwd = args.cwd.as_deref().unwrap_or(".");
        directory(workspace, cwd)?;
        Ok(Plan {
            preview: self.preview(&argv, cwd, args.stdin.as_deref()),
            touches: (self.access == Access::Write).then(|| ".".to_owned()),
            body: json!({"argv": argv, "cwd": cwd}),
            ..Plan::default()
        })
    }

    fn preview(&self, argv: &[String], cwd: &str, stdin: Option<&str>) -> String {
        let mut reach = vec![match self.access {
            Access::None | Access::Read => "reads the workspace, writes nothing".to_owned(),
            Access::Write => "reads and writes the workspace".to_owned(),
        }];
        let granted = [(self.programs.git, "and its .git"), (self.programs.network, "reaches the network")];
        reach.extend(granted.iter().filter(|(is, _)| *is).map(|(_, what)| (*what).to_owned()));
        reach.extend(self.programs.write.iter().map(|path| format!("writes {}", path.display())));
        let limit = self.programs.limits.wall_secs;
        let mut shown = vec![format!(
            "$ {}\nin {}; {}; at most {limit} seconds",
            visible_line(&join(argv)),
            visible_line(cwd),
            visible_line(&reach.join(", ")),
        )];
        shown.extend(stdin.map(|stdin| format!("with this as its input:\n{}", visible(stdin))));
        shown.join("\n")
    }

    fn not_allowed(&self, argv: &[String]) -> ToolError {
        let mut named: Vec<_> =
            self.patterns.iter().take(NAMED_MAX).map(|pattern| format!("`{pattern}`")).collect();
        if self.patterns.len() > NAMED_MAX {
            named.push("and more".to_owned());
        }
        ToolError::Failed(format!(
            "Not run: `{}` is not among the commands that are allowed here: {}. Use one of these, or do it by another tool.",
            visible_line(&join(argv)),
            named.join(", ")
        ))
    }

    async fn execute(&self, job: &Job, context: &ToolContext) -> Result<ToolOutput, ToolError> {
        let args: Args = read_args(&job.args)?;
        let Planned { argv, cwd } = Planned::deserialize(&job.plan)
            .map_err(|error| ToolError::Failed(format!("Not run: the plan cannot be read: {error}.")))?;
        let workspace = workspace_of(context)?;
        let mut confined = self.programs.confine(workspace, argv, self.env.clone());
        confined.cwd = directory(workspace, &cwd)?;
        confined.stdin = args.stdin.unwrap_or_default();
        confined.access = self.access;
        let outcome = self.sandbox.run(confined).await.map_err(|error| no_outcome(&error))?;
        Ok(ToolOutput::text(told(&outcome, &self.programs.limits)))
    }
}

/// What is to be run, as it was planned and shown.
#[derive(Deserialize)]
struct Planned {
    argv: Vec<String>,
    cwd: String,
}

fn declaration(programs: &ProgramGrant, access: Access) -> Declaration {
    let (class, effect) = match access {
        Access::None | Access::Read => (Class::Read, Effect::Read),
        Access::Write if programs.reaches_outside() => (Class::Write, Effect::External),
        Access::Write => (Class::Write, Effect::Write),
    };
    // With a network, any word may say where something goes.
    let word = if programs.network { ArgRole::Sink } else { ArgRole::Object };
    let roles = [("command", word), ("argv", word), ("cwd", ArgRole::Object), ("stdin", ArgRole::Content)];
    Declaration {
        class,
        effect,
        args: roles.map(|(name, role)| (name.to_owned(), role)).into(),
        integrity: Integrity::Untrusted,
        confidentiality: Confidentiality::Public,
    }
}

impl Tool for Shell {
    fn spec(&self) -> ToolSpec {
        let named: Vec<_> = self.patterns.iter().take(NAMED_MAX).map(ToString::to_string).collect();
        let what = match self.access {
            Access::None | Access::Read => {
                "Run a program that only reads, in the workspace, where it can write nothing."
            }
            Access::Write => "Run a program in the workspace.",
        };
        let network = if self.programs.network { "" } else { " It reaches no network." };
        let description = format!("{what}{network} There is no shell. Allowed: {}", named.join("; "));
        spec_of::<Args>(self.name, &description)
    }

    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn plan<'a>(
        &'a self,
        args: &'a Value,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<Plan, ToolError>> {
        Box::pin(async move { self.prepare(args, context) })
    }

    fn run<'a>(
        &'a self,
        job: &'a Job,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(self.execute(job, context))
    }

    fn rehearsal(&self) -> Rehearsal {
        if self.programs.reaches_outside() { Rehearsal::Noted } else { Rehearsal::OnCopy }
    }
}
