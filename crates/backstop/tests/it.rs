//! The whole engine against the simulated provider over real HTTP: what the parts promise alone must hold together.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on must stop"
)]

#[path = "it/examples.rs"]
mod examples;
#[path = "it/failures.rs"]
mod failures;
#[path = "it/support.rs"]
mod support;
