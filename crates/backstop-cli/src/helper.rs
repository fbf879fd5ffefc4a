//! This program as a helper of itself: `backstop sandbox` confines a program, `backstop tether` starts one that must not
//! outlive the process that wanted it. Both are called by this program alone, and are no commands: they come before the command line is
//! parsed, and before there is a thread.

use backstop_call::Code;
use backstop_server::tools::Helpers;
use backstop_tools::mcp::Launch;
use backstop_tools::sandbox::{self, Sandbox};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// This program, also where its file was moved or replaced since it was started.
const OURSELVES: &str = "/proc/self/exe";
const SANDBOX: &str = "sandbox";
const TETHER: &str = "tether";

/// Does what a helper does, when this process was started as one.
pub(crate) fn enter() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let first = args.next()?;
    if first != SANDBOX && first != TETHER {
        return None;
    }
    // How this program has its memory is nothing for others.
    crate::huge_pages(true);
    if first == SANDBOX {
        return Some(sandbox::enter());
    }
    Some(tether(args))
}

/// How the helpers are started.
pub(crate) fn helpers() -> Helpers {
    let prefix = [OURSELVES, TETHER, &std::process::id().to_string()].map(OsString::from);
    let sandbox = Sandbox::new(OURSELVES, [SANDBOX]);
    Helpers { launch: Launch::new(sandbox.clone()).through(prefix), sandbox }
}

/// Becomes a program that the kernel kills when the process that wanted it is gone, however that came.
fn tether(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let wanted_by = args.next().and_then(|pid| pid.to_str()?.parse::<i32>().ok());
    let refused = ExitCode::from(Code::Usage.exit_code());
    let (Some(wanted_by), Some(program)) = (wanted_by, args.next()) else { return refused };
    let tethered = set_parent_process_death_signal(Some(Signal::KILL));
    // A parent that went before the kernel was asked is not told of any more.
    let is_there = getppid().is_some_and(|parent| parent.as_raw_nonzero().get() == wanted_by);
    if tethered.is_err() || !is_there {
        return refused;
    }
    let error = Command::new(&program).args(args).exec();
    crate::ui::tell(format_args!("{}: {error}", program.display()));
    refused
}
