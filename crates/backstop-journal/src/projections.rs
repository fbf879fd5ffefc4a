//! What is derived from events. Nothing here has a source of its own: feed the same events, get the same picture.

pub mod alerts;
pub mod audit;
pub mod grants;
pub mod history;
pub mod jobs;
pub mod keys;
pub mod log;
pub mod metrics;
pub mod numbers;
pub mod queue;
pub mod spend;
pub mod timeline;
