//! The agent against a real journal, real files and real processes.

#[path = "it/kill.rs"]
mod kill;
#[path = "it/kit.rs"]
mod kit;
#[path = "it/runs.rs"]
mod runs;
