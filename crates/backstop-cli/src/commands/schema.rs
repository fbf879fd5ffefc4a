//! `backstop schema`: the JSON Schema of the config file, for editors.

use crate::complaint::Stop;
use crate::ui::out;
use std::process::ExitCode;

/// Print the JSON Schema of backstop.toml
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn main(_: &Args) -> Result<ExitCode, Stop> {
    out(format_args!("{:#}\n", backstop_server::config::schema()))?;
    Ok(ExitCode::SUCCESS)
}
