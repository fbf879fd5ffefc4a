//! `backstop keys rotate`: a new secret for a key, while the old one is good for a while.

use super::{Desk, show_secret};
use crate::complaint::Stop;
use crate::home::{Home, person};
use crate::ui::{Look, Mark, tell};
use backstop_call::{Clock, KeyName};
use backstop_server::config::Span;
use backstop_server::keys::{KeyError, rotate};
use backstop_stack::SystemClock;
use std::process::ExitCode;

/// Give a key a new secret, and show it once
///
/// The secret before stays good for the overlap, so that clients can change over one by one. `--overlap 0s` is for a secret
/// that was seen by somebody: no old one is good any more.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  KEY=$(backstop keys rotate ci)\n  backstop keys rotate ci --overlap 2h\n  backstop keys rotate ci --overlap 0s"
)]
pub(crate) struct Args {
    /// The key
    name: String,
    /// How long the old secret stays good
    #[arg(long, value_name = "SPAN", default_value = "24h")]
    overlap: Span,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn main(args: Args, home: &Home) -> Result<ExitCode, Stop> {
    let (name, now) = (KeyName::from(args.name), SystemClock::new().now());
    let Some(desk) = Desk::open_existing(home)? else {
        return Err(KeyError::NotFound { name, names: Vec::new() }.into());
    };
    let made = rotate(&desk.store, &name, args.overlap.0, &person(), now).await;
    desk.close();
    let made = made?;
    show_secret(&made, args.json)?;
    let mark = Look::of_stderr().mark(Mark::Good);
    tell(format_args!("{mark} key {name} has a new secret, {}...", made.record.prefix));
    for old in made.record.replaced.iter().filter(|old| old.until > now) {
        tell(format_args!("  {}... stays good until {}", old.prefix, old.until));
    }
    Ok(ExitCode::SUCCESS)
}
