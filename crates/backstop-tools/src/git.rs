//! The git tools: what is changed, what was done, a commit, a push. By the system's git, in the sandbox, with a config of
//! ours: what a repository says of hooks, filters, drivers, monitors, helpers and addresses is not read, so that it can
//! make nothing run.

mod commit;
mod push;
mod reads;
mod repository;

use crate::program::{ProgramGrant, ProgramGrantError};
use crate::sandbox::Sandbox;
use crate::schemas::SecretReference;
use backstop_agent::Tool;
use backstop_call::Secret;
use backstop_label::{ArgRole, Class, Confidentiality, Declaration, Effect, Integrity};
use commit::GitCommit;
use push::GitPush;
use reads::{GitRead, Question};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// What an agent may do with the repository at the root of its workspace. Status, diff and log are always part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct GitGrant {
    /// Whether it may commit. Since 0.1.
    pub commit: bool,
    /// The author of its commits. Left out: the repository's own `user.name`. Since 0.1.
    pub author_name: Option<String>,
    /// The author's address. Left out: the repository's own `user.email`. Since 0.1.
    pub author_email: Option<String>,
    /// Where it may push to. Since 0.1.
    pub push: Vec<PushGrant>,
    /// What git gets beside the workspace. The network it gets for a push, whatever stands here. Since 0.1.
    pub programs: ProgramGrant,
}

/// A remote that may be pushed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PushGrant {
    /// The name that a model calls it by. Since 0.1.
    pub name: String,
    /// Its address: `https://…`, or the absolute path of a repository on this machine. Since 0.1.
    pub url: String,
    /// The branches that may be pushed; `*` at the end stands for any rest. Since 0.1.
    pub branches: Vec<String>,
    /// A reference to the token that is sent to it (`env:NAME`, `file:PATH`). Since 0.1.
    #[serde(default)]
    #[schemars(with = "Option<SecretReference>")]
    pub token: Option<String>,
    /// The file with the certificates of the authorities that its server is trusted by, in PEM; the system's when left out. Since 0.1.
    #[serde(default)]
    pub authority: Option<PathBuf>,
}

/// A grant for git that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitGrantError {
    /// No name for a remote.
    #[error("`{0}` is no name for a remote: letters, digits, `_` and `-`")]
    Name(String),
    /// No address that can be pushed to.
    #[error("the address of `{0}` is neither https:// without a user in it, nor an absolute path")]
    Address(String),
    /// A token that was not resolved.
    #[error("the token for `{0}` was not found")]
    Secret(String),
    /// An authority that cannot be one.
    #[error("the authority of `{0}` is no absolute path, or its address is not https://")]
    Authority(String),
    /// What git gets.
    #[error(transparent)]
    Programs(#[from] ProgramGrantError),
}

/// The tools that a grant makes. `tokens` are the values of the tokens it refers to, by the names of the remotes.
pub fn tools(
    grant: &GitGrant,
    sandbox: &Sandbox,
    tokens: &BTreeMap<String, Secret>,
) -> Result<Vec<Arc<dyn Tool>>, GitGrantError> {
    grant.programs.check()?;
    let questions = [Question::Status, Question::Diff, Question::Log];
    let mut tools: Vec<Arc<dyn Tool>> = Vec::new();
    tools.extend(questions.map(|question| Arc::new(GitRead::new(question, grant, sandbox)) as Arc<dyn Tool>));
    if grant.commit {
        tools.push(Arc::new(GitCommit::new(grant, sandbox)));
    }
    if !grant.push.is_empty() {
        tools.push(Arc::new(GitPush::new(grant, sandbox, tokens)?));
    }
    Ok(tools)
}

/// What others have committed may say anything.
fn declaration(class: Class, effect: Effect, roles: &[(&str, ArgRole)]) -> Declaration {
    Declaration {
        class,
        effect,
        args: roles.iter().map(|(name, role)| ((*name).to_owned(), *role)).collect(),
        integrity: Integrity::Untrusted,
        confidentiality: Confidentiality::Public,
    }
}
