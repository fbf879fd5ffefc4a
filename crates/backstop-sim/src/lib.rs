//! A simulated provider over real HTTP, with a model that works and faults on schedule.

mod bill;
mod draw;
mod fault;
mod scenario;
mod spoil;
pub mod tokens;
mod worker;

pub use bill::{Bill, Charge, Seen};
pub use fault::{Billing, ErrorAnswer, Fault, FaultError, Hint, Row};
pub use scenario::{Asked, Rule, Scenario, ScenarioError, Schedule};
pub use worker::answer;
