//! What a server that is a program gets of this machine, and the sandbox that holds it to that. Starts nothing.

use super::grant::Program;
use crate::program::{ProgramGrant, ProgramGrantError};
use crate::sandbox::{Access, Confined, Limits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;

/// Variables that name directories which a server in the sandbox has of its own.
const OWN: [&str; 2] = ["HOME", "TMPDIR"];

/// What a server's program gets beside its directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct McpPrograms {
    /// Whether it reaches the network, all of it. Since 0.1.
    pub network: bool,
    /// Files and directories that it may read and run, by absolute paths. Since 0.1.
    pub read: Vec<PathBuf>,
    /// Those that it may write to as well. Since 0.1.
    pub write: Vec<PathBuf>,
    /// What it may use up, with all that it starts, until it is started anew. Since 0.1.
    pub limits: McpProgramLimits,
}

/// What a server's program may use up. Beyond it, it is ended, and the next call starts it anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct McpProgramLimits {
    /// Seconds of processor time for all of its processes together, for as long as it is up. Since 0.1.
    #[schemars(range(min = 1))]
    pub cpu_secs: u64,
    /// MiB of memory, for each process at every moment and for all together as they are counted. Since 0.1.
    #[schemars(range(min = 16))]
    pub memory_mib: u64,
    /// Processes and threads at the same time, as they are counted. Since 0.1.
    #[schemars(range(min = 1))]
    pub processes: u64,
    /// MiB of the largest file that it may write. Since 0.1.
    #[schemars(range(min = 1))]
    pub file_mib: u64,
    /// Files that each process may have open. Since 0.1.
    #[schemars(range(min = 32))]
    pub open_files: u64,
}

impl Default for McpProgramLimits {
    fn default() -> Self {
        let Limits { memory_mib, processes, file_mib, open_files, .. } = Limits::default();
        Self { cpu_secs: 3_600, memory_mib, processes, file_mib, open_files }
    }
}

impl McpPrograms {
    /// Finds what is wrong with it.
    pub(super) fn check(&self) -> Result<(), ProgramGrantError> {
        let Self { network, read, write, .. } = self.clone();
        ProgramGrant { network, read, write, limits: self.limits(), ..ProgramGrant::default() }.check()
    }

    pub(super) fn limits(&self) -> Limits {
        let McpProgramLimits { cpu_secs, memory_mib, processes, file_mib, open_files } = self.limits;
        // It has no time to be done in; by this one the hard limit of a process lies above the one that it is told of.
        let wall_secs = cpu_secs;
        Limits { wall_secs, cpu_secs, memory_mib, processes, file_mib, open_files, ..Limits::default() }
    }
}

/// A server's program as it is confined. Its directory it may read; without one it stands where it can see nothing.
///
/// # Errors
/// Its directory is not there.
pub(super) fn confined(
    program: &Program,
    programs: &McpPrograms,
    reserved: &[PathBuf],
) -> io::Result<Confined> {
    let (workspace, access) = match &program.directory {
        Some(directory) => (std::fs::canonicalize(directory)?, Access::Read),
        None => (PathBuf::from("/"), Access::None),
    };
    let inherited = program.inherit.iter().filter(|name| !OWN.contains(&name.as_str()));
    let inherited = inherited.filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)));
    let own = program.env.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
    Ok(Confined {
        argv: program.command.clone(),
        cwd: workspace.clone(),
        env: inherited.chain(own).collect(),
        stdin: String::new(),
        workspace,
        access,
        git: false,
        // What is not there cannot be covered.
        reserved: reserved.iter().filter_map(|path| std::fs::canonicalize(path).ok()).collect(),
        read: programs.read.clone(),
        write: programs.write.clone(),
        network: programs.network,
        limits: programs.limits(),
    })
}
