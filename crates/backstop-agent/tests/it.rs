//! The agent against a real journal, real files and real processes.

#[cfg(test)]
#[path = "it/approvals.rs"]
mod approvals;
#[cfg(test)]
#[path = "it/deadly.rs"]
mod deadly;
#[cfg(test)]
#[path = "it/delegation.rs"]
mod delegation;
#[cfg(test)]
#[path = "it/delegation_limits.rs"]
mod delegation_limits;
#[cfg(test)]
#[path = "it/delegation_undo.rs"]
mod delegation_undo;
#[cfg(test)]
#[path = "it/delegation_waits.rs"]
mod delegation_waits;
#[cfg(test)]
#[path = "it/dry.rs"]
mod dry;
#[cfg(test)]
#[path = "it/kill.rs"]
mod kill;
#[cfg(test)]
#[path = "it/kill_control.rs"]
mod kill_control;
#[cfg(test)]
#[path = "it/kit.rs"]
mod kit;
#[cfg(test)]
#[path = "it/limits.rs"]
mod limits;
#[cfg(test)]
#[path = "it/long_results.rs"]
mod long_results;
#[cfg(test)]
#[path = "it/run_doubts.rs"]
mod run_doubts;
#[cfg(test)]
#[path = "it/run_owners.rs"]
mod run_owners;
#[cfg(test)]
#[path = "it/runs.rs"]
mod runs;
#[cfg(test)]
#[path = "it/stacked.rs"]
mod stacked;
#[cfg(test)]
#[path = "it/streams.rs"]
mod streams;
#[cfg(test)]
#[path = "it/submitting.rs"]
mod submitting;
#[cfg(test)]
#[path = "it/undo.rs"]
mod undo;
