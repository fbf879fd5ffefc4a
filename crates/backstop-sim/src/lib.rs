//! A simulated provider over real HTTP, with a model that works and faults on schedule.

mod draw;
mod fault;
pub mod tokens;
mod worker;

pub use fault::{Billing, ErrorAnswer, Fault, FaultError, Hint, Row};
pub use worker::answer;
