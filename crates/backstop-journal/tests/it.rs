//! The journal's format and what is derived from it, over one example that all these tests share.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends at what it did not expect")]

#[path = "it/audit.rs"]
mod audit;
#[path = "it/chain.rs"]
mod chain;
#[path = "it/example.rs"]
mod example;
#[path = "it/golden.rs"]
mod golden;
#[path = "it/log.rs"]
mod log;
#[path = "it/metrics.rs"]
mod metrics;
#[path = "it/numbers.rs"]
mod numbers;
#[path = "it/recorded.rs"]
mod recorded;
#[path = "it/timeline.rs"]
mod timeline;
