//! What the tools that run programs have in common: what an owner grants the programs, and how a model is told what came
//! of one. Starts nothing itself.

use crate::sandbox::{Access, Captured, Confined, Ended, Limits, Outcome, SandboxError};
use backstop_agent::visible_line;
use backstop_agent::{ToolContext, ToolError, Workspace};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where programs are looked for, when nothing else is granted. A workspace is never among it.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What programs get beside the workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ProgramGrant {
    /// Whether they reach the network, all of it. Since 0.1.
    pub network: bool,
    /// Whether they may write to `.git`: git runs what lies there as the person who works there. Since 0.1.
    pub git: bool,
    /// Names of Backstop's own environment variables that they get as well; each may be read by what a model runs. Since 0.1.
    pub env: Vec<String>,
    /// More files and directories that they may read and run, by absolute paths. Since 0.1.
    pub read: Vec<PathBuf>,
    /// More that they may write to: it is changed also where the run works on a copy. Since 0.1.
    pub write: Vec<PathBuf>,
    /// What each of them may use up. Since 0.1.
    pub limits: Limits,
}

/// A grant for programs that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramGrantError {
    /// A path that is not absolute.
    #[error("`{}` is not an absolute path", .0.display())]
    Relative(PathBuf),
    /// A path that would open everything.
    #[error("`{}` is the whole file system; name what is needed of it", .0.display())]
    Everything(PathBuf),
    /// No name that a variable can have.
    #[error("`{0}` is no name of an environment variable")]
    Variable(String),
    /// A limit under which nothing could be started.
    #[error("the limit `{name}` is {given}, and less than {least} starts no program")]
    TooLow {
        /// Which one.
        name: &'static str,
        /// What it is.
        given: u64,
        /// What it may be.
        least: u64,
    },
}

impl ProgramGrant {
    /// Finds what is wrong with it.
    pub fn check(&self) -> Result<(), ProgramGrantError> {
        for path in self.read.iter().chain(&self.write) {
            if !path.is_absolute() {
                return Err(ProgramGrantError::Relative(path.clone()));
            }
            if path.components().count() == 1 {
                return Err(ProgramGrantError::Everything(path.clone()));
            }
        }
        let is_name = |name: &&String| !name.is_empty() && !name.contains(['=', '\0']);
        if let Some(name) = self.env.iter().find(|name| !is_name(name)) {
            return Err(ProgramGrantError::Variable(name.clone()));
        }
        let limits = &self.limits;
        let all = [
            ("wall-secs", limits.wall_secs, 1),
            ("cpu-secs", limits.cpu_secs, 1),
            ("memory-mib", limits.memory_mib, 16),
            ("processes", limits.processes, 1),
            ("file-mib", limits.file_mib, 1),
            ("open-files", limits.open_files, 32),
            ("output-kib", limits.output_kib as u64, 1),
        ];
        match all.into_iter().find(|(_, given, least)| given < least) {
            Some((name, given, least)) => Err(ProgramGrantError::TooLow { name, given, least }),
            None => Ok(()),
        }
    }

    /// The environment of a program, of what the caller has.
    pub(crate) fn environment(&self, all: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let own = [("PATH", PATH), ("LANG", "C.UTF-8")];
        let granted = self.env.iter().filter_map(|name| Some((name.clone(), all.get(name)?.clone())));
        own.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().chain(granted).collect()
    }

    /// Whether a program reaches what a copy of the workspace does not hold.
    pub(crate) fn reaches_outside(&self) -> bool {
        self.network || !self.write.is_empty()
    }

    /// A program confined by this grant, at the root of the workspace and without input.
    pub(crate) fn confine(
        &self,
        workspace: &Workspace,
        argv: Vec<String>,
        env: BTreeMap<String, String>,
    ) -> Confined {
        Confined {
            argv,
            cwd: workspace.path().to_owned(),
            env,
            stdin: String::new(),
            workspace: workspace.path().to_owned(),
            access: Access::Write,
            git: self.git,
            reserved: workspace.reserved().to_vec(),
            read: self.read.clone(),
            write: self.write.clone(),
            network: self.network,
            limits: self.limits.clone(),
        }
    }
}

/// The workspace of a call.
pub(crate) fn workspace_of(context: &ToolContext) -> Result<&Workspace, ToolError> {
    let none = || ToolError::Failed("This run has no workspace, and programs run only in one.".to_owned());
    context.workspace.as_deref().ok_or_else(none)
}

/// The directory in the workspace that a text names.
pub(crate) fn directory(workspace: &Workspace, text: &str) -> Result<PathBuf, ToolError> {
    let wrong = |reason: String| {
        ToolError::Failed(format!(
            "{} {reason}. Give a directory of the workspace, from its root.",
            visible_line(text)
        ))
    };
    let relative = workspace.relative(text).map_err(|error| wrong(error.to_string()))?;
    workspace.entries(&relative).map_err(|error| wrong(error.to_string()))?;
    std::fs::canonicalize(workspace.path().join(relative)).map_err(|error| wrong(error.to_string()))
}

/// What a model is told when a program has no outcome.
pub(crate) fn no_outcome(error: &SandboxError) -> ToolError {
    match error {
        SandboxError::Lacks(_) => ToolError::Failed(format!(
            "Not run: {error}. No command can be run here until that is changed; go on without, or call finish and say so."
        )),
        SandboxError::NotStarted(_) => {
            ToolError::Failed(format!("Not run: {error}. Check the program's name and that it is installed."))
        }
        SandboxError::Lost(_) => ToolError::Unknown(format!("How the command ended is not known: {error}")),
    }
}

/// What a model is told of a program that was run. A code that is not zero is a result like any other.
pub(crate) fn told(outcome: &Outcome, limits: &Limits) -> String {
    let ended = match outcome.ended {
        Ended::Exited(code) => format!("exit code {code}"),
        Ended::Signalled(signal) => signalled(signal, limits),
        Ended::OutOfTime => stopped(&format!("it ran for the {} seconds that it may", limits.wall_secs)),
        Ended::TooManyProcesses => {
            stopped(&format!("it had more than the {} processes and threads that it may", limits.processes))
        }
        Ended::OutOfCpu => stopped(&out_of_cpu(limits)),
        Ended::TooMuchMemory => {
            stopped(&format!("it held more than the {} MiB of memory that it may", limits.memory_mib))
        }
    };
    let mut told = vec![ended, section("stdout", &outcome.stdout), section("stderr", &outcome.stderr)];
    told.extend(outcome.planted.iter().map(|path| {
        let path = visible_line(&path.display().to_string());
        format!("warning: it made {path}, which is reserved; nothing may be put there")
    }));
    told.join("\n")
}

fn section(name: &str, output: &Captured) -> String {
    let output = output.text();
    if output.is_empty() {
        return format!("{name}: nothing");
    }
    format!("{name}:\n{}", output.trim_end_matches('\n'))
}

fn stopped(why: &str) -> String {
    format!("stopped, with all that it had started: {why}. What it had changed by then is changed")
}

fn out_of_cpu(limits: &Limits) -> String {
    format!("it used the {} seconds of processor time that it may", limits.cpu_secs)
}

fn signalled(signal: i32, limits: &Limits) -> String {
    let why = match signal {
        libc::SIGXCPU => format!(": {}", out_of_cpu(limits)),
        libc::SIGXFSZ => format!(": it wrote a file larger than the {} MiB that it may", limits.file_mib),
        libc::SIGSYS => ": it made a system call of a kind that the sandbox ends programs for".to_owned(),
        _ => String::new(),
    };
    format!("ended by signal {signal}{why}")
}
