//! `backstop keys revoke`: ends a key for ever.

use super::Desk;
use crate::complaint::Stop;
use crate::home::{Home, person};
use crate::ui::{Look, Mark, out, tell};
use backstop_call::{Clock, KeyName};
use backstop_server::keys::{KeyError, revoke};
use backstop_stack::SystemClock;
use std::process::ExitCode;

/// End a key for ever
///
/// A gateway that runs knows it within a second. Calls that are under way end as they would; nothing new comes in.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  backstop keys revoke ci\n  backstop keys revoke ci --json")]
pub(crate) struct Args {
    /// The key
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn main(args: Args, home: &Home) -> Result<ExitCode, Stop> {
    let (name, now) = (KeyName::from(args.name), SystemClock::new().now());
    let Some(desk) = Desk::open_existing(home)? else {
        return Err(KeyError::NotFound { name, names: Vec::new() }.into());
    };
    let revoked = revoke(&desk.store, &name, &person(), now).await;
    desk.close();
    let record = revoked?;
    if args.json {
        out(format_args!("{}\n", serde_json::to_string_pretty(&record).map_err(std::io::Error::from)?))?;
    }
    let mark = Look::of_stderr().mark(Mark::Good);
    match record.revoked {
        Some(before) if before.at < now => {
            tell(format_args!("{mark} key {name} was revoked by {} at {} already", before.by, before.at));
        }
        _ => tell(format_args!("{mark} key {name} is revoked; a gateway that runs knows it within a second")),
    }
    Ok(ExitCode::SUCCESS)
}
