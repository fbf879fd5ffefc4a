//! `backstop init`: writes the commented config file.

use crate::args::Global;
use crate::complaint::Stop;
use crate::ui::{Look, Mark, tell};
use backstop_call::Code;
use backstop_server::config::DEFAULT_FILE;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

/// Write a commented backstop.toml
///
/// Every option stands in it with its default. A file that exists is never overwritten.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  backstop init\n  backstop init --config conf/backstop.toml")]
pub(crate) struct Args {}

pub(crate) fn main(_: &Args, global: &Global) -> Result<ExitCode, Stop> {
    let path = global.config.as_deref().unwrap_or(Path::new("backstop.toml"));
    let shown = path.display();
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(DEFAULT_FILE.as_bytes()));
    match written {
        Ok(()) => {
            let look = Look::of_stderr();
            tell(format_args!("{} wrote {shown}; `backstop check` checks it", look.mark(Mark::Good)));
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let stop = Stop::new(Code::Usage, format!("{shown} exists already, and is left as it is"));
            Err(stop.with_hint("move it away first, or name another file with --config"))
        }
        Err(error) => {
            let stop = Stop::new(Code::Usage, format!("{shown} cannot be written: {error}"));
            Err(stop.with_hint("name a file in a directory that you may write, with --config"))
        }
    }
}
