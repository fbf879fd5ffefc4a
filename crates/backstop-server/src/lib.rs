//! The edge that people configure: [`config`] reads `backstop.toml`, [`settings`] makes the settings of an engine from it,
//! [`logs`] writes JSON log lines, [`numbers`] counts what happened, [`otlp`] tells a collector of it, [`keys`] makes the keys of
//! the gateway and says who may come in with one, [`jobs`] puts tasks into the queue when they are due, [`retention`] erases what is old. Nothing here
//! decides about what a call or a run does once it is in; it only turns files and the environment into what the crates
//! that do are given; [`tools`] makes the tools that the config grants.

pub mod alerts;
pub mod config;
mod dashboard;
pub mod gateway;
pub mod jobs;
pub mod keys;
pub mod logs;
pub mod numbers;
pub mod otlp;
mod post;
pub mod retention;
pub mod settings;
pub mod tasks;
pub mod tools;
