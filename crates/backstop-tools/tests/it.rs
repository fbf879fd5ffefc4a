//! The tools against real processes, real servers and real files.

#[cfg(test)]
#[path = "it/command.rs"]
mod command;
#[cfg(test)]
#[path = "it/git.rs"]
mod git;
#[cfg(test)]
#[path = "it/kit.rs"]
mod kit;
#[cfg(test)]
#[path = "it/sandbox.rs"]
mod sandbox;
#[cfg(test)]
#[path = "it/shell.rs"]
mod shell;
