//! `git_status`, `git_diff` and `git_log`: what a repository says. They change nothing, its index neither.

use super::repository::{Call, Repository, failed};
use super::{GitGrant, declaration};
use crate::sandbox::Sandbox;
use backstop_agent::tool::{Job, read_args, spec_of};
use backstop_agent::{Rehearsal, Tool, ToolContext, ToolError, ToolOutput};
use backstop_call::{BoxFuture, ToolSpec};
use backstop_label::{ArgRole, Class, Declaration, Effect};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// The most commits that are told at once.
const COMMITS_MAX: u32 = 200;

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Status,
    Diff,
    Log,
}

pub(super) struct GitRead {
    pub(super) question: Question,
    grant: GitGrant,
    sandbox: Sandbox,
    declaration: Declaration,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StatusArgs {}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DiffArgs {
    /// Show what is staged, instead of what is not.
    #[serde(default)]
    staged: bool,
    /// The commit or branch to compare with, or two as `a..b`. Left out: the index, or with `staged` the last commit.
    revision: Option<String>,
    /// Only these files and directories, from the workspace's root.
    #[serde(default)]
    paths: Vec<String>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LogArgs {
    /// How many commits. Left out: 20.
    #[schemars(range(min = 1, max = 200))]
    count: Option<u32>,
    /// The commit or branch to begin with, or a range `a..b`. Left out: the present one.
    revision: Option<String>,
    /// Only commits that change these files and directories, from the workspace's root.
    #[serde(default)]
    paths: Vec<String>,
}

impl GitRead {
    pub(super) fn new(question: Question, grant: &GitGrant, sandbox: &Sandbox) -> Self {
        let roles = [
            ("staged", ArgRole::Flag),
            ("revision", ArgRole::Object),
            ("paths", ArgRole::Object),
            ("count", ArgRole::Amount),
        ];
        Self {
            question,
            grant: grant.clone(),
            sandbox: sandbox.clone(),
            declaration: declaration(Class::Read, Effect::Read, &roles),
        }
    }

    async fn answer(&self, args: &Value, context: &ToolContext) -> Result<ToolOutput, ToolError> {
        let words = words(self.question, args)?;
        let repository = Repository::open(context, &self.sandbox, &self.grant.programs).await?;
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let said = repository.ask(&words, Call::default()).await?;
        let nothing = match self.question {
            Question::Status => "Nothing is changed.",
            Question::Diff => "There is no difference.",
            Question::Log => "There is no such commit.",
        };
        Ok(ToolOutput::text(if said.trim().is_empty() { nothing.to_owned() } else { said }))
    }
}

/// The words of a question.
fn words(question: Question, args: &Value) -> Result<Vec<String>, ToolError> {
    let (mut words, revision, paths) = match question {
        Question::Status => {
            let StatusArgs {} = read_args(args)?;
            let words =
                ["status", "--porcelain=v1", "--branch", "--untracked-files=all", "--ignore-submodules=all"];
            (words.map(str::to_owned).to_vec(), None, Vec::new())
        }
        Question::Diff => {
            let args: DiffArgs = read_args(args)?;
            let words = ["diff", "--no-color", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all"];
            let mut words = words.map(str::to_owned).to_vec();
            words.extend(args.staged.then(|| "--cached".to_owned()));
            (words, args.revision, args.paths)
        }
        Question::Log => {
            let args: LogArgs = read_args(args)?;
            let count = args.count.unwrap_or(20).min(COMMITS_MAX);
            let words = [
                "log",
                "--no-color",
                "--no-show-signature",
                "--no-ext-diff",
                "--no-textconv",
                "--date=iso-strict",
            ];
            let mut words = words.map(str::to_owned).to_vec();
            words.push(format!("--max-count={count}"));
            words.push("--format=%h %ad %an%n    %s%w(0,4,4)%+b".to_owned());
            (words, args.revision, args.paths)
        }
    };
    if let Some(revision) = revision {
        if revision.starts_with('-') || revision.is_empty() {
            return Err(failed("a revision does not begin with `-`; give a commit, a branch or a range"));
        }
        words.push("--end-of-options".to_owned());
        words.push(revision);
    }
    words.push("--".to_owned());
    words.extend(paths);
    Ok(words)
}

impl Tool for GitRead {
    fn spec(&self) -> ToolSpec {
        match self.question {
            Question::Status => {
                spec_of::<StatusArgs>("git_status", "Tell the branch, and which files are changed.")
            }
            Question::Diff => spec_of::<DiffArgs>("git_diff", "Show what is changed, as a diff."),
            Question::Log => spec_of::<LogArgs>("git_log", "Tell the last commits, the newest first."),
        }
    }

    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn run<'a>(
        &'a self,
        job: &'a Job,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(self.answer(&job.args, context))
    }

    fn rehearsal(&self) -> Rehearsal {
        Rehearsal::OnCopy
    }
}
