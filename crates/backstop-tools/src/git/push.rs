//! `git_push`: sends a branch to where the owner allows it, and nothing is ever forced. The address and the credential are
//! the grant's; what the repository's config says of remotes is not read.

use super::repository::{Call, Repository, failed};
use super::{GitGrant, GitGrantError, PushGrant, declaration};
use crate::sandbox::{Ended, Sandbox};
use backstop_agent::tool::{Job, read_args, spec_of};
use backstop_agent::visible_line;
use backstop_agent::{Plan, Tool, ToolContext, ToolError, ToolOutput};
use backstop_call::{BoxFuture, Secret, ToolSpec};
use backstop_label::{ArgRole, Class, Declaration, Effect};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The most commits that are shown.
const SHOWN_MAX: &str = "--max-count=50";
/// How git says over https that it could not even ask what there is; it sends nothing before it knows that.
const NOT_BEGUN: [&str; 4] = [
    "fatal: Authentication failed for '",
    "fatal: could not read Username for '",
    "fatal: repository '",
    "fatal: unable to access '",
];

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// The name of the remote.
    remote: String,
    /// The branch, which is called the same there.
    branch: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Planned {
    commit: String,
}

pub(super) struct GitPush {
    grant: GitGrant,
    secrets: BTreeMap<String, Secret>,
    sandbox: Sandbox,
    declaration: Declaration,
}

impl GitPush {
    pub(super) fn new(
        grant: &GitGrant,
        sandbox: &Sandbox,
        secrets: &BTreeMap<String, Secret>,
    ) -> Result<Self, GitGrantError> {
        for remote in &grant.push {
            check(remote)?;
            if remote.token.as_ref().is_some_and(|_| !secrets.contains_key(&remote.name)) {
                return Err(GitGrantError::Secret(remote.name.clone()));
            }
        }
        Ok(Self {
            grant: grant.clone(),
            secrets: secrets.clone(),
            sandbox: sandbox.clone(),
            declaration: declaration(
                Class::Irreversible,
                Effect::External,
                &[("remote", ArgRole::Sink), ("branch", ArgRole::Object)],
            ),
        })
    }

    fn remote(&self, args: &Args) -> Result<&PushGrant, ToolError> {
        let remote = self.grant.push.iter().find(|remote| remote.name == args.remote);
        let remote = remote.ok_or_else(|| {
            let names =
                self.grant.push.iter().map(|remote| remote.name.as_str()).collect::<Vec<_>>().join(", ");
            failed(&format!("nothing may be pushed to {}; there is {names}", visible_line(&args.remote)))
        })?;
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(begins) => args.branch.starts_with(begins),
            None => *pattern == args.branch,
        };
        if !remote.branches.iter().any(fits) {
            return Err(failed(&format!(
                "the branch {} may not be pushed to {}; allowed: {}",
                visible_line(&args.branch),
                remote.name,
                remote.branches.join(", ")
            )));
        }
        Ok(remote)
    }

    async fn prepare(&self, args: &Value, context: &ToolContext) -> Result<Plan, ToolError> {
        let args: Args = read_args(args)?;
        let remote = self.remote(&args)?;
        let repository = Repository::open(context, &self.sandbox, &self.grant.programs).await?;
        let name = format!("refs/heads/{}", args.branch);
        repository.ask(&["check-ref-format", &name], Call::default()).await?;
        let commit = repository
            .ask(&["rev-parse", "--verify", &format!("{name}^{{commit}}")], Call::default())
            .await?;
        let commit = commit.trim().to_owned();
        let known = format!("--remotes={}", remote.name);
        let log =
            ["log", "--oneline", "--no-color", "--no-show-signature", SHOWN_MAX, &commit, "--not", &known];
        let commits = repository.ask(&log, Call::default()).await?;
        Ok(Plan {
            preview: format!(
                "Push {} ({commit}) to {}, {}:\n{}",
                visible_line(&args.branch),
                remote.name,
                visible_line(&remote.url),
                backstop_agent::visible(&commits)
            ),
            touches: Some(".git".to_owned()),
            body: serde_json::to_value(Planned { commit }).unwrap_or_default(),
            ..Plan::default()
        })
    }

    async fn execute(&self, job: &Job, context: &ToolContext) -> Result<ToolOutput, ToolError> {
        let args: Args = read_args(&job.args)?;
        let remote = self.remote(&args)?;
        let Planned { commit } = Planned::deserialize(&job.plan)
            .map_err(|error| failed(&format!("the plan cannot be read: {error}")))?;
        let repository = Repository::open(context, &self.sandbox, &self.grant.programs).await?;
        let refspec = format!("{commit}:refs/heads/{}", args.branch);
        let said = repository
            .git(
                &[
                    "push",
                    "--porcelain",
                    "--no-follow-tags",
                    "--recurse-submodules=no",
                    &remote.url,
                    &refspec,
                ],
                self.call(remote),
            )
            .await?;
        let told = self.without_secrets(&said.told);
        if said.ended != Ended::Exited(0) {
            // The other side refused the one reference that was sent.
            let is_refused = said.stdout.lines().any(|line| line.starts_with("!\t"));
            // What the other side says begins with `remote:`.
            let is_begun =
                !said.told.lines().any(|line| NOT_BEGUN.iter().any(|words| line.starts_with(words)));
            let reason = format!("git push did not work: {told}");
            let is_undone = is_refused || !is_begun;
            return Err(if is_undone { failed(&reason) } else { ToolError::Unknown(reason) });
        }
        // So that an undo of the commit sees that it is out.
        let tracking = format!("refs/remotes/{}/{}", remote.name, args.branch);
        let noted = Call { writes: true, ..Call::default() };
        repository.ask(&["update-ref", &tracking, &commit], noted).await.map_err(|error| {
            ToolError::Unknown(format!("it is pushed, but that could not be noted: {error}"))
        })?;
        Ok(ToolOutput::text(format!("Pushed {commit} to {}, branch {}.", remote.name, args.branch)))
    }

    /// By which ways, and with which credential. A local repository is written to, as a remote one would be by its server.
    fn call(&self, remote: &PushGrant) -> Call {
        let is_local = remote.url.starts_with('/');
        let scheme = if is_local { "file" } else { "https" };
        let mut env = vec![("GIT_ALLOW_PROTOCOL".to_owned(), scheme.to_owned())];
        // A credential goes to the address that it is for, and to no other that this one names.
        let mut config = vec![("http.followRedirects".to_owned(), "false".to_owned())];
        if let Some(authority) = &remote.authority {
            config.push((format!("http.{}.sslCAInfo", remote.url), authority.display().to_string()));
        }
        if let Some(token) = self.secrets.get(&remote.name) {
            config.push((
                format!("http.{}.extraHeader", remote.url),
                format!("Authorization: Basic {}", basic(token)),
            ));
        }
        env.push(("GIT_CONFIG_COUNT".to_owned(), config.len().to_string()));
        for (number, (key, value)) in config.into_iter().enumerate() {
            env.extend([
                (format!("GIT_CONFIG_KEY_{number}"), key),
                (format!("GIT_CONFIG_VALUE_{number}"), value),
            ]);
        }
        let write = if is_local { vec![PathBuf::from(&remote.url)] } else { Vec::new() };
        let read = remote.authority.iter().cloned().collect();
        Call { env, network: !is_local, read, write, ..Call::default() }
    }

    fn without_secrets(&self, text: &str) -> String {
        self.secrets.values().fold(text.to_owned(), |text, secret| {
            let value = secret.expose();
            if value.is_empty() {
                return text;
            }
            text.replace(value, "[the token]").replace(&basic(secret), "[the token]")
        })
    }
}

/// As HTTP has a name and a password; the name is one that servers of git take any token with.
fn basic(token: &Secret) -> String {
    STANDARD.encode(format!("x-access-token:{}", token.expose()))
}

/// An address that is a way to run something, or holds a password, is none.
fn check(remote: &PushGrant) -> Result<(), GitGrantError> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if remote.name.is_empty() || !remote.name.bytes().all(is_name) {
        return Err(GitGrantError::Name(remote.name.clone()));
    }
    let is_known = remote.url.starts_with('/') || remote.url.starts_with("https://");
    if !is_known || remote.url.contains(['@', '\n', '\0']) {
        return Err(GitGrantError::Address(remote.name.clone()));
    }
    let is_file = |path: &PathBuf| path.is_absolute() && remote.url.starts_with("https://");
    if !remote.authority.as_ref().is_none_or(is_file) {
        return Err(GitGrantError::Authority(remote.name.clone()));
    }
    Ok(())
}

impl Tool for GitPush {
    fn spec(&self) -> ToolSpec {
        spec_of::<Args>(
            "git_push",
            "Push a branch to a remote. It is never forced: what is there already stays.",
        )
    }

    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn plan<'a>(
        &'a self,
        args: &'a Value,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<Plan, ToolError>> {
        Box::pin(self.prepare(args, context))
    }

    fn run<'a>(
        &'a self,
        job: &'a Job,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(self.execute(job, context))
    }
}
