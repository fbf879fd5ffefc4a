//! The edge that people configure: [`config`] reads `backstop.toml`, [`logs`] writes JSON log lines. Nothing here decides
//! about a call or a run; it only turns files and the environment into the settings of the crates that do.

pub mod config;
pub mod logs;
