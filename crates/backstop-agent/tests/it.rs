//! The agent against a real journal, real files and real processes.

#[cfg(test)]
#[path = "it/kill.rs"]
mod kill;
#[cfg(test)]
#[path = "it/kit.rs"]
mod kit;
#[cfg(test)]
#[path = "it/runs.rs"]
mod runs;
