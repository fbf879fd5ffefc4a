//! The whole engine against the simulated provider over real HTTP: what the parts promise alone must hold together.

#[path = "it/examples.rs"]
mod examples;
#[path = "it/failures.rs"]
mod failures;
#[path = "it/money.rs"]
mod money;
#[path = "it/runs.rs"]
mod runs;
#[path = "it/support.rs"]
mod support;
#[path = "it/workers.rs"]
mod workers;
