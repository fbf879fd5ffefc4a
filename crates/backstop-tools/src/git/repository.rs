//! A repository as it is shown to git: its own objects, references and index, and a config of ours. What a repository's
//! config can make git run (filters, hooks, monitors, drivers for differences, transports, aliases) is never read by the
//! git that works on it, so none of it need be known. Git itself runs in the sandbox.

use crate::program::{ProgramGrant, no_outcome, told, workspace_of};
use crate::sandbox::{Access, Ended, Sandbox};
use backstop_agent::{PathError, ToolContext, ToolError, Workspace};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What of a repository is shown to git as it is. `HEAD` is a copy: git takes no link for it, and it is not written here.
const SHOWN: &[&str] = &["index", "info", "logs", "objects", "packed-refs", "refs", "shallow"];
/// Keys of a repository's config that are taken over: how files and messages are to be read, and whose they are.
const TAKEN: &[&str] = &[
    "core.autocrlf",
    "core.eol",
    "core.filemode",
    "core.ignorecase",
    "core.logallrefupdates",
    "core.precomposeunicode",
    "core.safecrlf",
    "core.symlinks",
    "i18n.commitencoding",
    "user.email",
    "user.name",
];
/// The longest name of a branch that is checked out, and more.
const HEAD_MAX_BYTES: u64 = 4_096;
/// The largest index that is copied.
const INDEX_MAX_BYTES: u64 = 256 * 1024 * 1024;
/// What is there while something else is under way.
const UNDER_WAY: &[&str] =
    &["MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply", "sequencer"];

/// A repository that git can be called for. What stands in for it is removed when this is dropped.
pub(super) struct Repository<'a> {
    workspace: &'a Workspace,
    sandbox: &'a Sandbox,
    programs: &'a ProgramGrant,
    dir: tempfile::TempDir,
    config: BTreeMap<String, String>,
}

/// How git is called.
#[derive(Debug, Clone, Default)]
pub(super) struct Call {
    /// Variables beside those of every call.
    pub(super) env: Vec<(String, String)>,
    /// What it reads.
    pub(super) stdin: String,
    /// Whether it may write to the repository. The files of the workspace it never may.
    pub(super) writes: bool,
    /// What else it may read.
    pub(super) read: Vec<PathBuf>,
    /// What else it may write to.
    pub(super) write: Vec<PathBuf>,
    /// Whether it reaches the network.
    pub(super) network: bool,
}

/// How git ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// Its code.
    pub(super) ended: Ended,
    /// What it printed.
    pub(super) stdout: String,
    /// All, for a model.
    pub(super) told: String,
}

impl<'a> Repository<'a> {
    /// Opens the repository whose root the workspace is.
    pub(super) async fn open(
        context: &'a ToolContext,
        sandbox: &'a Sandbox,
        programs: &'a ProgramGrant,
    ) -> Result<Self, ToolError> {
        let workspace = workspace_of(context)?;
        let own = workspace.path().join(".git");
        if !own.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            return Err(failed("there is no git repository at the workspace's root (a directory .git)"));
        }
        let io = |error: std::io::Error| failed(&format!("no temporary directory can be made: {error}"));
        let dir = tempfile::Builder::new().prefix("backstop-git-").tempdir().map_err(io)?;
        // Before the first commit there are no logs, and git makes no directory through a link.
        let is_shown = |name: &&&str| **name != "logs" || own.join("logs").is_dir();
        for name in SHOWN.iter().filter(is_shown) {
            std::os::unix::fs::symlink(own.join(name), dir.path().join(name)).map_err(io)?;
        }
        let head = workspace.read(Path::new(".git/HEAD"), HEAD_MAX_BYTES);
        let head = head.map_err(|error| failed(&format!("the repository's HEAD {error}")))?;
        std::fs::write(dir.path().join("HEAD"), head.bytes).map_err(io)?;
        let mut repository = Self { workspace, sandbox, programs, dir, config: BTreeMap::new() };
        repository.take_config(&own.join("config")).await?;
        Ok(repository)
    }

    /// Reads the config as a file, which runs nothing, and writes one of ours.
    async fn take_config(&mut self, file: &Path) -> Result<(), ToolError> {
        let file = file.display().to_string();
        let args = ["config", "--file", &file, "--no-includes", "--null", "--list"];
        let said = self
            .git(&args, Call { env: vec![("GIT_DIR".into(), "/dev/null".into())], ..Call::default() })
            .await?;
        if said.ended != Ended::Exited(0) {
            return Err(failed(&format!("the repository's config cannot be read: {}", said.told)));
        }
        let entries = said.stdout.split('\0').filter_map(|entry| entry.split_once('\n'));
        self.config = entries.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let text = config(&self.config)?;
        let written = std::fs::File::create(self.dir.path().join("config"))
            .and_then(|mut config| config.write_all(text.as_bytes()));
        written.map_err(|error| failed(&format!("no config can be written: {error}")))
    }

    /// A value of the repository's own config.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.config.get(key).map(String::as_str)
    }

    /// A path that git may write to, and nobody else reads.
    pub(super) fn scratch(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The repository's own directory.
    pub(super) fn own(&self) -> PathBuf {
        self.workspace.path().join(".git")
    }

    /// The index, as it lies there.
    pub(super) fn index(&self) -> Result<Vec<u8>, PathError> {
        self.workspace.read(Path::new(".git/index"), INDEX_MAX_BYTES).map(|file| file.bytes)
    }

    /// What is under way in the repository, if anything is.
    pub(super) fn under_way(&self) -> Option<&'static str> {
        UNDER_WAY.iter().find(|name| self.own().join(name).symlink_metadata().is_ok()).copied()
    }

    /// Calls git.
    pub(super) async fn git(&self, args: &[&str], call: Call) -> Result<Said, ToolError> {
        let mut argv = vec!["git".to_owned(), "--no-pager".to_owned()];
        argv.extend(args.iter().map(ToString::to_string));
        let mut env = self.programs.environment(&BTreeMap::new());
        let fixed = [
            ("GIT_DIR", self.dir.path().to_string_lossy()),
            ("GIT_WORK_TREE", self.workspace.path().to_string_lossy()),
            ("GIT_CONFIG_NOSYSTEM", "1".into()),
            ("GIT_CONFIG_GLOBAL", "/dev/null".into()),
            ("GIT_ATTR_NOSYSTEM", "1".into()),
            ("GIT_TERMINAL_PROMPT", "0".into()),
            ("GIT_OPTIONAL_LOCKS", "0".into()),
            ("GIT_LITERAL_PATHSPECS", "1".into()),
            ("GIT_EDITOR", "false".into()),
            ("GIT_NO_LAZY_FETCH", "1".into()),
            ("GIT_NO_REPLACE_OBJECTS", "1".into()),
        ];
        env.extend(fixed.map(|(name, value)| (name.to_owned(), value.into_owned())));
        env.extend(call.env);
        let mut confined = self.programs.confine(self.workspace, argv, env);
        confined.stdin = call.stdin;
        confined.access = Access::Read;
        confined.git = call.writes;
        confined.network = call.network;
        confined.read.extend(call.read);
        confined.write = call.write;
        confined.write.push(self.dir.path().to_owned());
        if call.writes {
            confined.write.push(self.own());
        }
        let outcome = self.sandbox.run(confined).await.map_err(|error| no_outcome(&error))?;
        let told = told(&outcome, &self.programs.limits);
        Ok(Said { ended: outcome.ended, stdout: outcome.stdout.text(), told })
    }

    /// Calls git, and takes what it printed; a failure changed nothing.
    pub(super) async fn ask(&self, args: &[&str], call: Call) -> Result<String, ToolError> {
        let writes = call.writes;
        let said = self.git(args, call).await?;
        match said.ended {
            Ended::Exited(0) => Ok(said.stdout),
            Ended::Exited(_) => Err(failed(&format!("git {} did not work: {}", args[0], said.told))),
            _ if writes => Err(ToolError::Unknown(format!("git {} was cut short: {}", args[0], said.told))),
            _ => Err(failed(&format!("git {} did not work: {}", args[0], said.told))),
        }
    }
}

/// A config of ours, with what of a repository's own is harmless.
fn config(own: &BTreeMap<String, String>) -> Result<String, ToolError> {
    let refuse = |what: &str| {
        Err(failed(&format!("the repository {what}, which this tool does not know; use git itself")))
    };
    let mut text = String::new();
    for (key, value) in own {
        match key.as_str() {
            "core.worktree" => return refuse("has its files elsewhere (core.worktree)"),
            "core.sparsecheckout" if value != "false" => {
                return refuse("is checked out in part (core.sparseCheckout)");
            }
            "extensions.objectformat" | "core.repositoryformatversion" => {}
            key if key.starts_with("extensions.") => return refuse(&format!("has the extension {key}")),
            key if TAKEN.contains(&key) => {}
            _ => continue,
        }
        let Some((section, name)) = key.split_once('.') else { continue };
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        text.push_str(&["[", section, "]\n\t", name, " = \"", &value, "\"\n"].concat());
    }
    text.push_str(
        "[core]\n\tbare = false\n\thooksPath = /dev/null\n\tfsmonitor = false\n\tuntrackedCache = false\n",
    );
    text.push_str("[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n[commit]\n\tgpgSign = false\n");
    Ok(text)
}

pub(super) fn failed(reason: &str) -> ToolError {
    ToolError::Failed(format!("Not done: {reason}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_harmless_is_taken_over() {
        let own = |list: &[(&str, &str)]| {
            list.iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        let text = config(&own(&[
            ("core.fsmonitor", "/tmp/evil"),
            ("core.filemode", "false"),
            ("filter.x.clean", "evil"),
            ("alias.status", "!evil"),
            ("include.path", "evil"),
            ("user.name", "A \"B\"\\\n[core]\n\tfsmonitor = evil"),
        ]))
        .unwrap();
        expect_test::expect![[r#"
            [core]
            	filemode = "false"
            [user]
            	name = "A \"B\"\\\n[core]\n	fsmonitor = evil"
            [core]
            	bare = false
            	hooksPath = /dev/null
            	fsmonitor = false
            	untrackedCache = false
            [gc]
            	auto = 0
            [maintenance]
            	auto = false
            [commit]
            	gpgSign = false
        "#]]
        .assert_eq(&text);
        for key in
            ["core.worktree", "core.sparsecheckout", "extensions.partialclone", "extensions.refstorage"]
        {
            assert!(config(&own(&[(key, "x")])).is_err(), "{key}");
        }
    }
}
