//! The edge that people configure: [`config`] reads `backstop.toml`, [`settings`] makes the settings of an engine from it,
//! [`logs`] writes JSON log lines. Nothing here decides about a call or a run; it only turns files and the environment into
//! what the crates that do are given.

pub mod config;
pub mod logs;
pub mod settings;
