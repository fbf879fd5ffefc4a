//! A simulated provider over real HTTP, with a model that works and faults on schedule.
//!
//! The model is a pure function ([`answer`]) that does small real jobs through the tools it is given. [`Sim`] serves it in
//! every dialect and keeps its own [`Bill`]; [`SimModel`] is the same in this process. What goes wrong is a [`Fault`], and
//! when, a [`Scenario`]. Everything is drawn from a seed.
//! [`MailServer`] takes the mail that is sent on the way.
//!
//! It stands in for the official APIs in tests, so it refuses what they refuse. It must not use anything of what it is
//! there to judge: no stack, no ledger, no provider leaf.

mod bill;
mod cache;
mod draw;
mod fault;
mod mail;
mod model;
mod scenario;
mod server;
mod spoil;
pub mod tokens;
mod worker;

pub use bill::{Bill, Charge, Seen};
pub use fault::{Billing, ErrorAnswer, Fault, FaultError, Hint, Row};
pub use mail::{Mail, MailServer};
pub use model::SimModel;
pub use scenario::{Asked, Rule, Scenario, ScenarioError, Schedule};
pub use server::{DEFAULT_PROVIDER, FAULT_HEADER, ModelSpec, Sim, SimConfig, StartError};
pub use worker::answer;
