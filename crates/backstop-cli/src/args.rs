//! The command line: what there is, and what `--help` says about it. Each command's own options are in its file.

use crate::commands::{Command, run};
use crate::ui::{out, tell};
use clap::Parser;
use clap::error::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;

/// Keep AI agents running in production
///
/// A task goes to a model that works on real files with tools until it is done: through rate limits, outages, malformed
/// answers and a killed process, without a cent over budget and without doing anything twice.
#[derive(Debug, Parser)]
#[command(name = "backstop", version, max_term_width = 110, after_long_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  backstop demo                                  See it work, without any key
  backstop run \"Summarise notes.md into out.md\"   Do a task in this directory
  backstop runs                                  List what was run
  backstop show 01k                              Tell the whole story of a run
  backstop explain BS2003                        Look up an error

Exit codes: 0 done, 1 the answer is no, 2 you must change something, 3 upstream failed.";

/// What every command takes.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Global {
    /// Use this config file [default: ./backstop.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Keep everything in this directory [default: .backstop beside the config file]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// Parses the command line, does what it says, and gives the exit code.
pub(crate) fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => run(cli).unwrap_or_else(|stop| stop.tell()),
        Err(error) => refuse(&error),
    }
}

/// Help and version are data; everything else is a wrong command line.
fn refuse(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return out(error.render())
            .map_or_else(|error| crate::complaint::Stop::from(error).tell(), |()| ExitCode::SUCCESS);
    }
    let text = error.render().to_string();
    let text = text.replacen("error:", &format!("error[{}]:", backstop_call::Code::Usage), 1);
    tell(text.trim_end());
    ExitCode::from(backstop_call::Code::Usage.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound_and_its_help_keeps_the_rules() {
        let command = Cli::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && !about.ends_with('.'), "{}: {about}", sub.get_name());
            if !sub.is_hide_set() {
                let long = sub.get_after_long_help().map(ToString::to_string).unwrap_or_default();
                assert!(long.starts_with("Examples:\n"), "{} shows no examples", sub.get_name());
            }
        }
    }
}
