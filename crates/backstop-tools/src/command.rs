//! Tools that an owner declares in the config: a command with places for the arguments. What it may do to the world is
//! what its declaration says, and where nothing is said, the worst; a sandbox holds it to as much of that as it can.

mod bare;
mod grant;
mod template;

pub use grant::{CommandGrant, CommandGrantError};
pub use template::{FillError, Template, TemplateError, Text, Values};

use crate::program::{no_outcome, told, workspace_of};
use crate::sandbox::{Access, Ended, Outcome, Sandbox};
use crate::shell::join;
use backstop_agent::tool::{Job, Probe};
use backstop_agent::{Plan, Rehearsal, Tool, ToolContext, ToolError, ToolOutput, Workspace};
use backstop_agent::{visible, visible_line};
use backstop_call::{BoxFuture, Secret, ToolSpec};
use backstop_label::{Class, Declaration, Effect};
use grant::Parts;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is told of a call that did what it should and printed nothing.
const NOTHING_SAID: &str = "Done; it printed nothing.";

/// A command as a tool.
#[derive(Clone)]
pub struct CommandTool(Arc<Inner>);

struct Inner {
    name: String,
    grant: CommandGrant,
    parts: Parts,
    declaration: Declaration,
    env: BTreeMap<String, String>,
    secrets: BTreeMap<String, Secret>,
    sandbox: Sandbox,
}

/// One of the commands of a grant, as it is to be run.
struct Step<'a> {
    template: &'a Template,
    stdin: Option<&'a Text>,
    access: Access,
}

/// Takes a call of a command back, by another one.
struct Undo {
    tool: CommandTool,
    declaration: Declaration,
}

impl CommandTool {
    /// A tool from a grant, by the name that a model calls it by. `env` is what the granted variables are taken from; `secrets` are the values of those that the
    /// grant refers to, by the names of the variables that they are given in.
    pub fn new(
        name: &str,
        grant: CommandGrant,
        sandbox: &Sandbox,
        env: &BTreeMap<String, String>,
        secrets: BTreeMap<String, Secret>,
    ) -> Result<Self, CommandGrantError> {
        let parts = grant.parse(name)?;
        if let Some(name) = grant.secrets.keys().find(|name| !secrets.contains_key(*name)) {
            return Err(CommandGrantError::Secret(name.clone()));
        }
        let inner = Inner {
            name: name.to_owned(),
            declaration: grant.declaration(),
            env: grant.programs.environment(env),
            secrets: secrets.into_iter().filter(|(name, _)| grant.secrets.contains_key(name)).collect(),
            sandbox: sandbox.clone(),
            grant,
            parts,
        };
        Ok(Self(Arc::new(inner)))
    }

    fn prepare(&self, args: &Value, context: &ToolContext) -> Result<Plan, ToolError> {
        let Inner { parts, grant, declaration, .. } = &*self.0;
        workspace_of(context)?;
        // The key is known only when it is run.
        let values = Values { args: arguments(args)?, key: "{key}", result: None };
        let argv = parts.run.fill(values).map_err(|error| refused(&error))?;
        let stdin = parts.stdin.as_ref().map(|stdin| stdin.fill(values)).transpose();
        let stdin = stdin.map_err(|error| refused(&error))?.flatten();
        let is_undoable = parts.undo.is_some();
        Ok(Plan {
            preview: self.preview(&argv, stdin.as_deref(), is_undoable),
            touches: (declaration.class != Class::Read).then(|| ".".to_owned()),
            undo: is_undoable.then(|| json!({"args": args})),
            body: json!({"program": grant.run}),
            ..Plan::default()
        })
    }

    fn preview(&self, argv: &[String], stdin: Option<&str>, is_undoable: bool) -> String {
        let Inner { grant, .. } = &*self.0;
        let mut about = vec![if grant.sandboxed { "in the sandbox" } else { "without a sandbox" }];
        if grant.sandboxed && grant.programs.network {
            about.push("with the network");
        }
        about.push(if is_undoable { "can be taken back" } else { "cannot be taken back" });
        let mut shown = vec![format!("$ {}", visible_line(&join(argv))), about.join(", ")];
        let secrets = grant.secrets.iter();
        shown.extend(
            secrets.map(|(name, reference)| format!("{name} is the secret {}", visible_line(reference))),
        );
        shown.extend(stdin.map(|stdin| format!("with this as its input:\n{}", visible(stdin))));
        shown.join("\n")
    }

    async fn execute(&self, job: &Job, context: &ToolContext) -> Result<ToolOutput, ToolError> {
        let values = Values { args: arguments(&job.args)?, key: &job.key, result: None };
        let parts = &self.0.parts;
        let step = Step { template: &parts.run, stdin: parts.stdin.as_ref(), access: self.access() };
        let outcome = self.start(step, values, context).await?;
        Ok(ToolOutput::text(self.said(&outcome)))
    }

    async fn start(
        &self,
        step: Step<'_>,
        values: Values<'_>,
        context: &ToolContext,
    ) -> Result<Outcome, ToolError> {
        let Inner { grant, sandbox, .. } = &*self.0;
        let workspace: &Workspace = workspace_of(context)?;
        let argv = step.template.fill(values).map_err(|error| refused(&error))?;
        let secrets = self.0.secrets.iter().map(|(name, secret)| (name.clone(), secret.expose().to_owned()));
        let env = self.0.env.clone().into_iter().chain(secrets).collect();
        let mut confined = grant.programs.confine(workspace, argv, env);
        confined.access = step.access;
        let stdin =
            step.stdin.map(|stdin| stdin.fill(values)).transpose().map_err(|error| refused(&error))?;
        confined.stdin = stdin.flatten().unwrap_or_default();
        let outcome =
            if grant.sandboxed { sandbox.run(confined).await } else { bare::run(sandbox, confined).await };
        outcome.map_err(|error| no_outcome(&error))
    }

    /// A command that only reads can only read.
    fn access(&self) -> Access {
        if self.0.declaration.class == Class::Read { Access::Read } else { Access::Write }
    }

    /// What it printed, when it did what it should; else how it ended, and all.
    fn said(&self, outcome: &Outcome) -> String {
        let said = match outcome.ended {
            Ended::Exited(0) if outcome.planted.is_empty() => outcome.stdout.text(),
            _ => told(outcome, &self.0.grant.programs.limits),
        };
        let said = self.without_secrets(said);
        if said.trim().is_empty() { NOTHING_SAID.to_owned() } else { said }
    }

    fn without_secrets(&self, mut text: String) -> String {
        for (name, secret) in &self.0.secrets {
            if !secret.expose().is_empty() {
                text = text.replace(secret.expose(), &format!("[the secret in {name}]"));
            }
        }
        text
    }

    /// Finds out by a command of the grant, which can change nothing in the workspace.
    async fn find_out(
        &self,
        template: Option<&Template>,
        values: Values<'_>,
        context: &ToolContext,
    ) -> Result<Probe, ToolError> {
        let Some(template) = template else {
            return Ok(Probe::Unsure("the tool has no way to find out".to_owned()));
        };
        let outcome =
            self.start(Step { template, stdin: None, access: Access::Read }, values, context).await?;
        Ok(match outcome.ended {
            Ended::Exited(0) => Probe::Happened(ToolOutput::text(self.said(&outcome))),
            Ended::Exited(1) => Probe::DidNot,
            _ => {
                let told = told(&outcome, &self.0.grant.programs.limits);
                Probe::Unsure(format!("its probe could not tell: {}", self.without_secrets(told)))
            }
        })
    }
}

impl Tool for CommandTool {
    fn spec(&self) -> ToolSpec {
        let Inner { name, grant, .. } = &*self.0;
        ToolSpec {
            name: name.clone(),
            description: grant.description.clone(),
            schema: grant.schema(),
            other: Map::new(),
        }
    }

    fn declaration(&self) -> &Declaration {
        &self.0.declaration
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

    fn probe<'a>(&'a self, job: &'a Job, context: &'a ToolContext) -> BoxFuture<'a, Probe> {
        Box::pin(async move {
            let args = match arguments(&job.args) {
                Ok(args) => args,
                Err(error) => return Probe::Unsure(error.to_string()),
            };
            let values = Values { args, key: &job.key, result: None };
            let found = self.find_out(self.0.parts.probe.as_ref(), values, context).await;
            found.unwrap_or_else(|error| Probe::Unsure(error.to_string()))
        })
    }

    fn undoing(&self) -> Option<Arc<dyn Tool>> {
        self.0.parts.undo.as_ref()?;
        let declaration =
            Declaration { class: Class::Write, args: BTreeMap::new(), ..self.0.declaration.clone() };
        Some(Arc::new(Undo { tool: self.clone(), declaration }))
    }

    fn rehearsal(&self) -> Rehearsal {
        let Inner { grant, declaration, .. } = &*self.0;
        let is_held = grant.sandboxed && !grant.programs.reaches_outside();
        if is_held && declaration.effect <= Effect::Write { Rehearsal::OnCopy } else { Rehearsal::Noted }
    }
}

impl Undo {
    fn prepare(
        &self,
        args: &Value,
        context: &ToolContext,
    ) -> Result<(Map<String, Value>, Vec<String>), ToolError> {
        let said = context.undone.as_deref().unwrap_or_default();
        if has_failed(said) {
            return Err(ToolError::Failed(format!(
                "Not taken back: the command did not end well then ({}), so nobody knows whether there is anything to take \
                 back. Look, and put it right by hand.",
                visible_line(said.lines().next().unwrap_or_default())
            )));
        }
        let args = arguments(args.get("args").unwrap_or(&Value::Null))?.clone();
        let Some(template) = &self.tool.0.parts.undo else {
            return Err(ToolError::Failed("The command cannot be taken back any more.".to_owned()));
        };
        let values = Values { args: &args, key: "{key}", result: Some(said) };
        let argv = template.fill(values).map_err(|error| refused(&error))?;
        Ok((args, argv))
    }

    /// Whether the call was taken back.
    async fn find_out(&self, job: &Job, context: &ToolContext) -> Result<Probe, ToolError> {
        let (args, _) = self.prepare(&job.args, context)?;
        let values = Values { args: &args, key: &job.key, result: context.undone.as_deref() };
        self.tool.find_out(self.tool.0.parts.undo_probe.as_ref(), values, context).await
    }

    async fn execute(&self, job: &Job, context: &ToolContext) -> Result<ToolOutput, ToolError> {
        let (args, _) = self.prepare(&job.args, context)?;
        let Some(template) = &self.tool.0.parts.undo else {
            return Err(ToolError::Failed("The command cannot be taken back any more.".to_owned()));
        };
        let values = Values { args: &args, key: &job.key, result: context.undone.as_deref() };
        let outcome =
            self.tool.start(Step { template, stdin: None, access: Access::Write }, values, context).await?;
        let said = self.tool.said(&outcome);
        match outcome.ended {
            Ended::Exited(0) => Ok(ToolOutput::text(said)),
            _ => Err(ToolError::Unknown(format!("whether it was taken back is not known: {said}"))),
        }
    }
}

impl Tool for Undo {
    fn spec(&self) -> ToolSpec {
        let name = &self.tool.0.name;
        ToolSpec {
            name: format!("undo_{name}"),
            description: format!("Takes a call of {name} back."),
            schema: json!({"type": "object", "properties": {"args": {"type": "object"}}, "required": ["args"]}),
            other: Map::new(),
        }
    }

    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn plan<'a>(
        &'a self,
        args: &'a Value,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<Plan, ToolError>> {
        Box::pin(async move {
            let (_, argv) = self.prepare(args, context)?;
            let preview = self.tool.preview(&argv, None, false);
            Ok(Plan { preview, touches: Some(".".to_owned()), ..Plan::default() })
        })
    }

    fn run<'a>(
        &'a self,
        job: &'a Job,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(self.execute(job, context))
    }

    fn probe<'a>(&'a self, job: &'a Job, context: &'a ToolContext) -> BoxFuture<'a, Probe> {
        Box::pin(async move {
            self.find_out(job, context).await.unwrap_or_else(|error| Probe::Unsure(error.to_string()))
        })
    }

    fn rehearsal(&self) -> Rehearsal {
        self.tool.rehearsal()
    }
}

/// Whether this is what is told of a command that did not end well. What a command prints itself may look like it, and
/// is then not taken back either.
fn has_failed(said: &str) -> bool {
    ["exit code ", "ended by signal ", "stopped, "].iter().any(|begins| said.starts_with(begins))
}

fn arguments(args: &Value) -> Result<&Map<String, Value>, ToolError> {
    args.as_object().ok_or_else(|| ToolError::Failed("The arguments are no object.".to_owned()))
}

fn refused(error: &FillError) -> ToolError {
    ToolError::Failed(format!("Not run: {error}. Give another value."))
}
