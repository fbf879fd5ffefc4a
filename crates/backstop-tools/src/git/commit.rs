//! `git_commit`, and its undo. Everything of a commit is known before it is made, its id as well: so a person sees what it
//! would hold, a second attempt makes the same one, and after a crash it is found or not.

use super::repository::{Call, Repository, failed};
use super::{GitGrant, declaration};
use crate::sandbox::{Ended, Sandbox};
use backstop_agent::tool::{Job, Probe, read_args, spec_of};
use backstop_agent::{PathError, Plan, Rehearsal, Tool, ToolContext, ToolError, ToolOutput};
use backstop_agent::{visible, visible_line};
use backstop_call::{BoxFuture, ToolSpec};
use backstop_label::{ArgRole, Class, Declaration, Effect};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::Write as _;
use std::sync::Arc;

/// The most of a diff that is shown, in characters.
const SHOWN_MAX_CHARS: usize = 20_000;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// The message: a short line, then, after an empty one, the reason.
    #[schemars(length(min = 1))]
    message: String,
    /// The files and directories whose changes go into it, from the workspace's root; `.` for all. What is staged already
    /// goes into it as well.
    #[schemars(length(min = 1))]
    paths: Vec<String>,
}

/// A commit that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Planned {
    /// The branch, as `refs/heads/…`.
    branch: String,
    /// Where it is now; `None` when it has no commit yet.
    before: Option<String>,
    tree: String,
    commit: String,
    /// Seconds since 1970 and the time zone, as git writes it.
    date: String,
}

pub(super) struct GitCommit(Arc<Maker>);

struct Maker {
    grant: GitGrant,
    sandbox: Sandbox,
    declaration: Declaration,
}

/// Moves the branch back from a commit, and leaves files and index as they are.
struct Undo {
    maker: Arc<Maker>,
    declaration: Declaration,
}

impl GitCommit {
    pub(super) fn new(grant: &GitGrant, sandbox: &Sandbox) -> Self {
        let roles = [("message", ArgRole::Content), ("paths", ArgRole::Object)];
        let declaration = declaration(Class::Write, Effect::Write, &roles);
        Self(Arc::new(Maker { grant: grant.clone(), sandbox: sandbox.clone(), declaration }))
    }
}

impl Maker {
    async fn open<'a>(&'a self, context: &'a ToolContext) -> Result<Repository<'a>, ToolError> {
        Repository::open(context, &self.sandbox, &self.grant.programs).await
    }

    async fn prepare(&self, args: &Value, context: &ToolContext) -> Result<Plan, ToolError> {
        let args: Args = read_args(args)?;
        let repository = self.open(context).await?;
        if let Some(what) = repository.under_way() {
            return Err(failed(&format!(
                "something else is under way in the repository ({what}); finish that first"
            )));
        }
        let head = repository.git(&["symbolic-ref", "--quiet", "HEAD"], Call::default()).await?;
        let branch = head.stdout.trim().to_owned();
        if head.ended != Ended::Exited(0) || !branch.starts_with("refs/heads/") {
            return Err(failed("no branch is checked out; check one out first"));
        }
        let before = tip(&repository, &branch).await?;
        // Objects that are only looked at are not put among the repository's own.
        let aside = aside(&repository)?;
        let tree = staged(&repository, &args.paths, &aside).await?;
        let parent = match &before {
            Some(before) => before.clone(),
            // Without an entry, it makes the empty tree.
            None => repository
                .ask(&["mktree"], Call { env: aside.clone(), ..Call::default() })
                .await?
                .trim()
                .to_owned(),
        };
        let show =
            |form: &'static str| ["diff-tree", "-r", form, "--no-color", "--no-ext-diff", "--no-textconv"];
        let call = Call { env: aside.clone(), ..Call::default() };
        let compare = |form| [&show(form)[..], &[&parent, &tree]].concat();
        let stat = repository.ask(&compare("--stat"), call.clone()).await?;
        if stat.trim().is_empty() {
            return Err(failed("there is nothing to commit in these paths; look at git_status"));
        }
        let diff = repository.ask(&compare("--patch"), call.clone()).await?;
        let call = Call { env: self.identity(&repository)?, ..Call::default() };
        let ident = repository.ask(&["var", "GIT_COMMITTER_IDENT"], call).await?;
        // The commit that was planned is this one only if it has its date.
        let rehearsed = context.rehearsed.as_ref().and_then(|body| Planned::deserialize(body).ok());
        let date = rehearsed.map(|planned| planned.date).or_else(|| date_of(&ident));
        let date = date.ok_or_else(|| failed("git does not tell the time"))?;
        let mut planned = Planned { branch, before, tree, commit: String::new(), date };
        planned.commit = self.make(&repository, &planned, &args.message, &aside).await?;
        Ok(Plan {
            preview: shown(&planned, &args.message, &stat, &diff),
            touches: Some(".git".to_owned()),
            undo: Some(serde_json::to_value(&planned).unwrap_or_default()),
            body: serde_json::to_value(&planned).unwrap_or_default(),
            ..Plan::default()
        })
    }

    /// Whose commit it is: the grant's, or else the repository's own.
    fn identity(&self, repository: &Repository<'_>) -> Result<Vec<(String, String)>, ToolError> {
        let given = |granted: &Option<String>, key| {
            granted.clone().or_else(|| repository.value(key).map(str::to_owned))
        };
        let name = given(&self.grant.author_name, "user.name");
        let email = given(&self.grant.author_email, "user.email");
        let (Some(name), Some(email)) = (name, email) else {
            return Err(failed(
                "nobody is named as the author; the owner can set author-name and author-email",
            ));
        };
        let variables = ["AUTHOR", "COMMITTER"].into_iter().flat_map(|who| {
            [(format!("GIT_{who}_NAME"), name.clone()), (format!("GIT_{who}_EMAIL"), email.clone())]
        });
        Ok(variables.collect())
    }

    /// Writes the commit's object, which no branch has yet.
    async fn make(
        &self,
        repository: &Repository<'_>,
        planned: &Planned,
        message: &str,
        aside: &[(String, String)],
    ) -> Result<String, ToolError> {
        let mut args = vec!["commit-tree", "-F", "-"];
        args.extend(planned.before.iter().flat_map(|before| ["-p", before.as_str()]));
        args.push(&planned.tree);
        let mut env = self.identity(repository)?;
        env.extend(
            ["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_DATE"), format!("@{}", planned.date))),
        );
        env.extend_from_slice(aside);
        let stdin = format!("{}\n", message.trim_end());
        let call = Call { env, stdin, writes: aside.is_empty(), ..Call::default() };
        Ok(repository.ask(&args, call).await?.trim().to_owned())
    }

    async fn execute(&self, job: &Job, context: &ToolContext) -> Result<ToolOutput, ToolError> {
        let args: Args = read_args(&job.args)?;
        let planned = read_planned(&job.plan)?;
        let repository = self.open(context).await?;
        if tip(&repository, &planned.branch).await? == Some(planned.commit.clone()) {
            return Ok(done(&planned));
        }
        let tree = staged(&repository, &args.paths, &aside(&repository)?).await?;
        if tip(&repository, &planned.branch).await? != planned.before || tree != planned.tree {
            return Err(failed("what was to be committed has changed since it was planned; plan it again"));
        }
        // From here on, something is written.
        let writes = || Call { writes: true, ..Call::default() };
        let unknown = |error: ToolError| ToolError::Unknown(format!("the commit was under way: {error}"));
        add(&repository, &args.paths, writes()).await.map_err(unknown)?;
        let tree = repository.ask(&["write-tree"], writes()).await.map_err(unknown)?;
        let commit = self.make(&repository, &planned, &args.message, &[]).await.map_err(unknown)?;
        if tree.trim() != planned.tree || commit != planned.commit {
            return Err(ToolError::Unknown(
                "the files are staged, but they changed meanwhile; nothing is committed".to_owned(),
            ));
        }
        let subject = format!("commit: {}", visible_line(args.message.lines().next().unwrap_or_default()));
        let env = self.identity(&repository)?;
        let before = planned.before.clone().unwrap_or_else(|| "0".repeat(commit.len()));
        let update = ["update-ref", "-m", &subject, &planned.branch, &commit, &before];
        repository.ask(&update, Call { env, ..writes() }).await.map_err(unknown)?;
        Ok(done(&planned))
    }

    async fn find_out(&self, job: &Job, context: &ToolContext) -> Result<Probe, ToolError> {
        let planned = read_planned(&job.plan)?;
        let repository = self.open(context).await?;
        let now = tip(&repository, &planned.branch).await?;
        if now.as_ref() == Some(&planned.commit) {
            return Ok(Probe::Happened(done(&planned)));
        }
        if now == planned.before {
            return Ok(Probe::DidNot);
        }
        let ancestor = ["merge-base", "--is-ancestor", &planned.commit, &planned.branch];
        match repository.git(&ancestor, Call::default()).await?.ended {
            Ended::Exited(0) => Ok(Probe::Happened(done(&planned))),
            _ => Ok(Probe::Unsure(format!("{} was moved by somebody else", planned.branch))),
        }
    }
}

/// Variables by which git works on a copy of the index, and keeps new objects beside the repository's own.
fn aside(repository: &Repository<'_>) -> Result<Vec<(String, String)>, ToolError> {
    let (index, objects) = (repository.scratch("index-aside"), repository.scratch("objects-aside"));
    let io = |error: &dyn std::fmt::Display| failed(&format!("the index cannot be copied: {error}"));
    match std::fs::create_dir(&objects) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(io(&error)),
        _ => {}
    }
    // Before the index is read: one that is replaced meanwhile must not make the copy look newer than it is.
    let changed = std::fs::metadata(repository.own().join("index")).and_then(|found| found.modified());
    match repository.index() {
        Ok(bytes) => {
            // git looks into a file of the same size and time only when the index is not newer than that: the copy must be as
            // old as what it is a copy of.
            let write = |changed| {
                let mut file = std::fs::File::create(&index)?;
                file.write_all(&bytes)?;
                file.set_modified(changed)
            };
            changed.and_then(write).map_err(|error| io(&error))?;
        }
        Err(PathError::NotFound) => {}
        Err(error) => return Err(io(&error)),
    }
    let path = |path: std::path::PathBuf| path.display().to_string();
    Ok(vec![
        ("GIT_INDEX_FILE".to_owned(), path(index)),
        ("GIT_OBJECT_DIRECTORY".to_owned(), path(objects)),
        ("GIT_ALTERNATE_OBJECT_DIRECTORIES".to_owned(), path(repository.own().join("objects"))),
    ])
}

/// The tree that the index and the files of these paths make, worked out aside.
async fn staged(
    repository: &Repository<'_>,
    paths: &[String],
    aside: &[(String, String)],
) -> Result<String, ToolError> {
    let call = || Call { env: aside.to_vec(), ..Call::default() };
    add(repository, paths, call()).await?;
    refuse_filters(repository, paths, call()).await?;
    Ok(repository.ask(&["write-tree"], call()).await?.trim().to_owned())
}

async fn add(repository: &Repository<'_>, paths: &[String], call: Call) -> Result<(), ToolError> {
    let args: Vec<_> = ["add", "--all", "--"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    repository.ask(&args, call).await.map(drop)
}

/// A file that a filter changes on its way in (as with Git LFS) would go in as it is: filters are programs of the
/// repository's, and not run here.
async fn refuse_filters(repository: &Repository<'_>, paths: &[String], call: Call) -> Result<(), ToolError> {
    let list = ["ls-files", "-z", "--cached", "--"].into_iter().chain(paths.iter().map(String::as_str));
    let files = repository.ask(&list.collect::<Vec<_>>(), call.clone()).await?;
    let check = ["check-attr", "-z", "--stdin", "filter"];
    let found = repository.ask(&check, Call { stdin: files, ..call }).await?;
    let fields: Vec<_> = found.split('\0').collect();
    let filtered = fields.chunks_exact(3).find(|entry| !matches!(entry[2], "unspecified" | "unset" | ""));
    match filtered {
        None => Ok(()),
        Some(entry) => Err(failed(&format!(
            "{} goes through the filter {}, and no program of a repository is run here; commit it with git itself",
            visible_line(entry[0]),
            visible_line(entry[2])
        ))),
    }
}

/// Where a branch is.
async fn tip(repository: &Repository<'_>, branch: &str) -> Result<Option<String>, ToolError> {
    let said = repository.git(&["rev-parse", "--verify", "--quiet", branch], Call::default()).await?;
    Ok((said.ended == Ended::Exited(0)).then(|| said.stdout.trim().to_owned()))
}

/// The last two words of what git calls an identity: the seconds, and the time zone.
fn date_of(ident: &str) -> Option<String> {
    let mut words = ident.split_whitespace().rev();
    let (zone, seconds) = (words.next()?, words.next()?);
    Some(format!("{seconds} {zone}"))
}

fn read_planned(plan: &Value) -> Result<Planned, ToolError> {
    Planned::deserialize(plan).map_err(|error| failed(&format!("the plan cannot be read: {error}")))
}

fn done(planned: &Planned) -> ToolOutput {
    let Planned { branch, commit, .. } = planned;
    ToolOutput::text(format!("Committed to {}: {commit}", branch.trim_start_matches("refs/heads/")))
}

fn shown(planned: &Planned, message: &str, stat: &str, diff: &str) -> String {
    let mut short: String = diff.chars().take(SHOWN_MAX_CHARS).collect();
    if short.len() < diff.len() {
        short.push_str("\n[… the rest is left out …]");
    }
    let branch = visible_line(planned.branch.trim_start_matches("refs/heads/"));
    format!("Commit to {branch}:\n{}\n\n{}\n{}", visible(message.trim_end()), visible(stat), visible(&short))
}

impl Tool for GitCommit {
    fn spec(&self) -> ToolSpec {
        spec_of::<Args>("git_commit", "Commit changes of files to the branch that is checked out.")
    }

    fn declaration(&self) -> &Declaration {
        &self.0.declaration
    }

    fn plan<'a>(
        &'a self,
        args: &'a Value,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<Plan, ToolError>> {
        Box::pin(self.0.prepare(args, context))
    }

    fn run<'a>(
        &'a self,
        job: &'a Job,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(self.0.execute(job, context))
    }

    fn probe<'a>(&'a self, job: &'a Job, context: &'a ToolContext) -> BoxFuture<'a, Probe> {
        Box::pin(async move {
            self.0.find_out(job, context).await.unwrap_or_else(|error| Probe::Unsure(error.to_string()))
        })
    }

    fn undoing(&self) -> Option<Arc<dyn Tool>> {
        let declaration = declaration(Class::Write, Effect::Write, &[]);
        Some(Arc::new(Undo { maker: Arc::clone(&self.0), declaration }))
    }

    fn rehearsal(&self) -> Rehearsal {
        Rehearsal::OnCopy
    }
}

impl Undo {
    async fn check(&self, args: &Value, context: &ToolContext) -> Result<Planned, ToolError> {
        let planned = read_planned(args)?;
        let repository = self.maker.open(context).await?;
        let now = tip(&repository, &planned.branch).await?;
        if now.as_ref() != Some(&planned.commit) {
            let now = now.unwrap_or_else(|| "gone".to_owned());
            return Err(failed(&format!(
                "{} is no longer at {}, but at {now}",
                planned.branch, planned.commit
            )));
        }
        let contains = ["for-each-ref", "--contains", &planned.commit, "--format=%(refname)", "refs/remotes"];
        let pushed = repository.ask(&contains, Call::default()).await?;
        match pushed.lines().next() {
            None => Ok(planned),
            Some(at) => Err(failed(&format!(
                "the commit was pushed ({}); revert it with a commit of its own",
                visible_line(at)
            ))),
        }
    }

    async fn execute(&self, job: &Job, context: &ToolContext) -> Result<ToolOutput, ToolError> {
        let planned = self.check(&job.args, context).await?;
        let repository = self.maker.open(context).await?;
        let Planned { branch, before, commit, .. } = &planned;
        let call = Call { env: self.maker.identity(&repository)?, writes: true, ..Call::default() };
        let moved = match before {
            Some(before) => {
                repository
                    .ask(&["update-ref", "-m", "undo: commit taken back", branch, before, commit], call)
                    .await
            }
            None => repository.ask(&["update-ref", "-d", branch, commit], call).await,
        };
        moved?;
        Ok(ToolOutput::text(format!(
            "Took back {commit}; its changes are staged, and the files are as they were."
        )))
    }

    async fn find_out(&self, job: &Job, context: &ToolContext) -> Result<Probe, ToolError> {
        let planned = read_planned(&job.args)?;
        let repository = self.maker.open(context).await?;
        let now = tip(&repository, &planned.branch).await?;
        Ok(if now == planned.before {
            Probe::Happened(ToolOutput::text(format!("Took back {}.", planned.commit)))
        } else if now == Some(planned.commit) {
            Probe::DidNot
        } else {
            Probe::Unsure(format!("{} was moved by somebody else", planned.branch))
        })
    }
}

impl Tool for Undo {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "undo_git_commit".to_owned(),
            description: "Takes a commit back.".to_owned(),
            schema: serde_json::json!({"type": "object"}),
            other: serde_json::Map::new(),
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
            let planned = self.check(args, context).await?;
            let to = planned.before.as_deref().unwrap_or("no commit");
            let branch = visible_line(&planned.branch);
            let preview = format!(
                "Move {branch} from {} back to {to}; files and index stay as they are.",
                planned.commit
            );
            Ok(Plan { preview, touches: Some(".git".to_owned()), ..Plan::default() })
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
        Rehearsal::OnCopy
    }
}
